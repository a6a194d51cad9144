//! The texts that callers present.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lepton_types::resources::BlobDigest;
use lepton_types::{Id, TokenId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{KeyPurpose, MasterKey};

/// A token in clear: `lpt_<id>_<secret>`. Shown once, when it is made.
pub struct SecretToken(Zeroizing<String>);

/// What sort of workload a token was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// A worker of a job's attempt.
    Attempt,
    /// A replica of an endpoint.
    Replica,
}

/// What a caller presented, parsed but not yet believed.
pub enum Credential {
    /// Of a person or a program.
    Token {
        /// Which token it claims to be.
        id: TokenId,
        /// The digest of the secret that came along.
        secret_digest: BlobDigest,
    },
    /// Of something Lepton started.
    Workload {
        /// Which sort.
        kind: WorkloadKind,
        /// Which workload it claims to be.
        id: Id,
        /// The secret that came along.
        secret: Zeroizing<[u8; 32]>,
    },
}

/// A text that is no credential. Does not repeat it: it may be half a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is not of a form that Lepton gives out")]
pub struct ParseCredentialError;

impl SecretToken {
    /// A fresh token for `id`, and what is to be kept of it.
    #[must_use]
    pub fn generate(id: TokenId) -> (Self, BlobDigest) {
        let mut secret = Zeroizing::new([0_u8; 32]);
        getrandom::fill(secret.as_mut_slice())
            .expect("invariant: the operating system has randomness");
        let text = format!("lpt_{id}_{}", URL_SAFE_NO_PAD.encode(secret.as_slice()));
        (Self(Zeroizing::new(text)), digest(secret.as_slice()))
    }

    /// The token of a workload, the same each time it is asked for.
    #[must_use]
    pub fn for_workload(key: &MasterKey, kind: WorkloadKind, id: Id) -> Self {
        let secret = Zeroizing::new(key.derive(kind.purpose(), id));
        let text = format!(
            "{}_{id}_{}",
            kind.prefix(),
            URL_SAFE_NO_PAD.encode(secret.as_slice())
        );
        Self(Zeroizing::new(text))
    }

    /// The text, to be handed to its holder.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken(..)")
    }
}

impl WorkloadKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Attempt => "lpa",
            Self::Replica => "lpr",
        }
    }

    const fn purpose(self) -> KeyPurpose {
        match self {
            Self::Attempt => KeyPurpose::AttemptToken,
            Self::Replica => KeyPurpose::ReplicaToken,
        }
    }
}

impl Credential {
    /// Whether a workload's secret is the one that `key` gives; in constant time.
    #[must_use]
    pub fn is_genuine_workload(&self, key: &MasterKey) -> bool {
        match self {
            Self::Token { .. } => false,
            Self::Workload { kind, id, secret } => key
                .derive(kind.purpose(), *id)
                .ct_eq(secret.as_slice())
                .into(),
        }
    }
}

impl FromStr for Credential {
    type Err = ParseCredentialError;

    fn from_str(text: &str) -> Result<Self, ParseCredentialError> {
        let mut parts = text.splitn(3, '_');
        let (prefix, id, secret) = (parts.next(), parts.next(), parts.next());
        let id: Id = id
            .and_then(|id| id.parse().ok())
            .ok_or(ParseCredentialError)?;
        let mut bytes = Zeroizing::new([0_u8; 32]);
        // A decoded length other than 32 would be a different secret, not a shorter one.
        let decoded = URL_SAFE_NO_PAD
            .decode_slice(secret.unwrap_or_default(), bytes.as_mut_slice())
            .map_err(|_| ParseCredentialError)?;
        if decoded != 32 {
            return Err(ParseCredentialError);
        }
        match prefix {
            Some("lpt") => Ok(Self::Token {
                id: id.into(),
                secret_digest: digest(bytes.as_slice()),
            }),
            Some("lpa") => Ok(Self::Workload {
                kind: WorkloadKind::Attempt,
                id,
                secret: bytes,
            }),
            Some("lpr") => Ok(Self::Workload {
                kind: WorkloadKind::Replica,
                id,
                secret: bytes,
            }),
            _ => Err(ParseCredentialError),
        }
    }
}

fn digest(secret: &[u8]) -> BlobDigest {
    BlobDigest::from_bytes(Sha256::digest(secret).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_types::Timestamp;

    fn id() -> Id {
        Id::from_parts(Timestamp::from_millis(7), [7; 10])
    }

    #[test]
    fn a_token_parses_to_the_digest_that_is_kept() {
        let (token, kept) = SecretToken::generate(id().into());
        let Ok(Credential::Token {
            id: parsed,
            secret_digest,
        }) = token.reveal().parse()
        else {
            panic!("a fresh token parses");
        };
        assert_eq!((parsed, secret_digest), (id().into(), kept));
        assert!(!format!("{token:?}").contains("lpt_"));
    }

    #[test]
    fn only_the_right_secret_makes_a_workload_genuine() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::open_or_create(&folder.path().join("key")).unwrap();
        let other = MasterKey::open_or_create(&folder.path().join("other")).unwrap();
        let token = SecretToken::for_workload(&key, WorkloadKind::Attempt, id());
        let credential: Credential = token.reveal().parse().unwrap();
        assert!(credential.is_genuine_workload(&key));
        assert!(!credential.is_genuine_workload(&other));
        let renamed: Credential = token.reveal().replace("lpa_", "lpr_").parse().unwrap();
        assert!(!renamed.is_genuine_workload(&key));
    }

    #[test]
    fn nonsense_is_refused() {
        let short = format!("lpt_{}_AAAA", id());
        for text in [
            "",
            "lpt_",
            "Bearer x",
            "lpt_x_y",
            &short,
            &format!("lpx_{}_{}", id(), "A".repeat(43)),
        ] {
            assert!(text.parse::<Credential>().is_err(), "{text}");
        }
    }
}

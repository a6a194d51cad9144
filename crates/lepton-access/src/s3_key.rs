//! Access keys of S3: whose they are is in their public half.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lepton_types::{Id, TokenId};
use zeroize::Zeroizing;

use crate::{KeyPurpose, MasterKey, WorkloadKind};

/// The public half of a key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3KeyId {
    /// A pair of its own; its secret is kept, sealed.
    Pair(Id),
    /// The holder of a token; the secret is derived.
    Token(TokenId),
    /// Something Lepton started; the secret is derived.
    Workload(WorkloadKind, Id),
}

/// A text that is no access key of Lepton.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not an access key of Lepton")]
pub struct ParseS3KeyIdError;

/// The secret half of a key pair, as clients are given it.
#[derive(Clone)]
pub struct S3Secret(Zeroizing<String>);

impl fmt::Debug for S3Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Secret(..)")
    }
}

impl fmt::Display for S3KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair(id) => write!(f, "LPTK{id}"),
            Self::Token(id) => write!(f, "LPTT{id}"),
            Self::Workload(WorkloadKind::Attempt, id) => write!(f, "LPTA{id}"),
            Self::Workload(WorkloadKind::Replica, id) => write!(f, "LPTR{id}"),
        }
    }
}

impl FromStr for S3KeyId {
    type Err = ParseS3KeyIdError;

    fn from_str(text: &str) -> Result<Self, ParseS3KeyIdError> {
        let (prefix, id) = text.split_at_checked(4).ok_or(ParseS3KeyIdError)?;
        let id: Id = id.parse().map_err(|_| ParseS3KeyIdError)?;
        match prefix {
            "LPTK" => Ok(Self::Pair(id)),
            "LPTT" => Ok(Self::Token(id.into())),
            "LPTA" => Ok(Self::Workload(WorkloadKind::Attempt, id)),
            "LPTR" => Ok(Self::Workload(WorkloadKind::Replica, id)),
            _ => Err(ParseS3KeyIdError),
        }
    }
}

impl S3Secret {
    /// Fresh random bytes for a pair of its own, which are to be kept sealed.
    #[must_use]
    pub fn generate() -> Zeroizing<[u8; 32]> {
        let mut secret = Zeroizing::new([0_u8; 32]);
        getrandom::fill(secret.as_mut_slice())
            .expect("invariant: the operating system has randomness");
        secret
    }

    /// The secret of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The secret that the master key gives for an id, the same each time; none for pairs of their own.
    #[must_use]
    pub fn derive(key: &MasterKey, id: S3KeyId) -> Option<Self> {
        let (purpose, id) = match id {
            S3KeyId::Pair(_) => return None,
            S3KeyId::Token(id) => (KeyPurpose::TokenS3Secret, id.id()),
            S3KeyId::Workload(WorkloadKind::Attempt, id) => (KeyPurpose::AttemptS3Secret, id),
            S3KeyId::Workload(WorkloadKind::Replica, id) => (KeyPurpose::ReplicaS3Secret, id),
        };
        Some(Self::from_bytes(&Zeroizing::new(key.derive(purpose, id))))
    }

    /// The text, to be handed to its holder.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_types::Timestamp;

    #[test]
    fn ids_round_trip_and_secrets_differ_by_what_they_are_for() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::open_or_create(&folder.path().join("key")).unwrap();
        let id = Id::from_parts(Timestamp::from_millis(7), [7; 10]);
        let all = [
            S3KeyId::Token(id.into()),
            S3KeyId::Workload(WorkloadKind::Attempt, id),
            S3KeyId::Workload(WorkloadKind::Replica, id),
        ];
        let mut secrets = std::collections::BTreeSet::new();
        for id in all {
            assert_eq!(id.to_string().parse(), Ok(id));
            secrets.insert(S3Secret::derive(&key, id).unwrap().reveal().to_owned());
        }
        assert_eq!(secrets.len(), 3);
        assert!(S3Secret::derive(&key, S3KeyId::Pair(id)).is_none());
        for text in ["", "LPT", "AKIAIOSFODNN7EXAMPLE", "LPTKxyz", "ÄÖ"] {
            assert!(text.parse::<S3KeyId>().is_err(), "{text}");
        }
    }
}

//! What passes between a gateway and one replica only: a secret, and a word.
//!
//! A replica answers nobody but its gateway, which has checked who is asking; other
//! processes of the machine can reach the port but do not know the token.

use std::fmt;

/// The request header that carries the token.
pub const REPLICA_TOKEN_HEADER: &str = "x-lepton-replica-token";

/// The response header by which a replica tells its gateway that it is not ready (and
/// not merely busy): the request is to be asked elsewhere, or again once it is.
pub const REPLICA_NOT_READY_HEADER: &str = "x-lepton-replica-not-ready";

/// A replica's token; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplicaToken(String);

impl ReplicaToken {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret, for the header.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `given` is the token, in a time that tells only the length.
    #[must_use]
    pub fn admits(&self, given: &[u8]) -> bool {
        let secret = self.0.as_bytes();
        let difference = secret.iter().zip(given).fold(0_u8, |difference, (a, b)| {
            std::hint::black_box(difference | (a ^ b))
        });
        // An empty secret admits nobody.
        !secret.is_empty() && secret.len() == given.len() && difference == 0
    }
}

impl fmt::Debug for ReplicaToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplicaToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_is_admitted() {
        let token = ReplicaToken::new("secret".to_owned());
        assert!(token.admits(b"secret"));
        for other in [&b""[..], b"secre", b"secrets", b"Secret", b"secreu"] {
            assert!(!token.admits(other));
        }
        assert!(!ReplicaToken::new(String::new()).admits(b""));
        assert_eq!(format!("{token:?}"), "ReplicaToken(…)");
    }
}

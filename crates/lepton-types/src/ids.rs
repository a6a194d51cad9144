//! Identifiers: 128 bits, printed as 32 lower-case hex digits, ordered by the
//! time of their making (UUID version 7, RFC 9562 §5.7).

use std::fmt;
use std::str::FromStr;

use crate::{Clock, SystemClock, Timestamp};

/// An identifier of any kind; the typed ids below wrap it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u128);

/// A text that is not 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: 32 hex digits are expected")]
pub struct ParseIdError {
    /// The first 64 characters of what was given.
    pub text: String,
}

impl Id {
    /// Builds a version 7 UUID from a time and 10 bytes of randomness.
    #[must_use]
    pub fn from_parts(at: Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(at.as_millis()).unwrap_or(0);
        Self(
            uuid::Builder::from_unix_timestamp_millis(millis, &random)
                .into_uuid()
                .as_u128(),
        )
    }

    /// The 16 bytes, most significant first; they sort as ids do.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From what [`Id::to_bytes`] gave.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The milliseconds since 1970 that the id carries.
    #[must_use]
    pub fn created_at(self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.0 >> 80).unwrap_or(0))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let valid = text.len() == 32
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        valid
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| ParseIdError {
                text: text.chars().take(64).collect(),
            })
    }
}

/// Where new ids come from: the system in production, a seed in simulation.
pub trait IdSource: Send + Sync {
    /// A fresh id; never the same twice.
    fn next_id(&self) -> Id;
}

/// Ids from the wall clock and the operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    fn next_id(&self) -> Id {
        let mut random = [0_u8; 10];
        getrandom::fill(&mut random).expect("invariant: the operating system has randomness");
        Id::from_parts(SystemClock.now(), random)
    }
}

macro_rules! serde_as_text {
    ($name:ident, $expected:literal) => {
        crate::ids::written_as_text!($name, $expected);

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

/// The half of `serde_as_text` that writes.
macro_rules! written_as_text {
    ($name:ident, $expected:literal) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some($expected))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use written_as_text;

macro_rules! typed_ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Id);

        impl $name {
            /// The untyped id.
            #[must_use]
            pub fn id(self) -> Id {
                self.0
            }
        }

        impl From<Id> for $name {
            fn from(id: Id) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.parse().map(Self)
            }
        }

        serde_as_text!($name, "32 hex digits");
    )+};
}

serde_as_text!(Id, "32 hex digits");

typed_ids! {
    /// A project, the tenant.
    ProjectId,
    /// A pool of machines.
    PoolId,
    /// A dataset, across its versions.
    DatasetId,
    /// An experiment.
    ExperimentId,
    /// A job.
    JobId,
    /// One try at a job, or one start of one of its workers.
    AttemptId,
    /// The record of an execution; MLflow's run id.
    RunId,
    /// A registered model, across its versions.
    ModelId,
    /// An endpoint.
    EndpointId,
    /// One replica of an endpoint.
    ReplicaId,
    /// An access token.
    TokenId,
    /// Sealed bytes of a project, never changed under one id.
    ContentId,
    /// A data key of a project, under which contents are sealed.
    DataKeyId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_their_time_and_sort_by_it() {
        let early = Id::from_parts(Timestamp::from_millis(1_000), [255; 10]);
        let late = Id::from_parts(Timestamp::from_millis(1_001), [0; 10]);
        assert!(early < late);
        assert_eq!(early.created_at(), Timestamp::from_millis(1_000));
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(early.to_string().len(), 32);
    }

    #[test]
    fn anything_but_32_lower_hex_digits_is_refused() {
        for text in [
            "",
            "abc",
            "0123456789ABCDEF0123456789ABCDEF",
            "+123456789abcdef0123456789abcdef",
        ] {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }
}

//! Errors on the wire: a code for scripts, a message for people, and a page of
//! explanation for each code.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every response that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// A word for scripts; `lepton explain CODE` tells more.
    #[schema(value_type = String)]
    pub code: ErrorCode,
    /// A sentence for people.
    pub message: String,
    /// Facts for programs, where there are any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// A word that is no error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not an error code: `lepton explain` lists them")]
pub struct UnknownErrorCode {
    /// What was given.
    pub word: String,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $status:literal, $explanation:literal;)+) => {
        /// Every code that Lepton answers with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant),+
        }

        impl ErrorCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status),+ }
            }

            /// What it means, and what to do.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation),+ }
            }
        }
    };
}

error_codes! {
    /// The request cannot be understood.
    InvalidRequest = "invalid-request", 400,
        "The request does not have the form that the operation takes. The message names the field, \
         what was found and what is expected. The forms are in the OpenAPI document at \
         /api/v1/openapi.json.";
    /// A name is not valid.
    InvalidName = "invalid-name", 400,
        "Names of projects, datasets, jobs and endpoints are DNS labels: 1 to 63 of a-z, 0-9 and -, \
         not beginning or ending with -. Models and experiments take up to 500 characters without \
         `/`, `:` and control characters.";
    /// Data cannot be used.
    InvalidData = "invalid-data", 400,
        "The rows or files cannot be used as they are: the message says where and why. For tables, \
         the first line names the columns, every line has as many fields, and the text is UTF-8.";
    /// No credential came along.
    Unauthenticated = "unauthenticated", 401,
        "Every call needs a token, as `Authorization: Bearer TOKEN`. On the machine that runs `lepton \
         up` the CLI finds the owner's by itself; elsewhere set LEPTON_URL and LEPTON_TOKEN. \
         `lepton token create NAME` makes one. The token may also have expired or been revoked.";
    /// The credential is not good for this.
    PermissionDenied = "permission-denied", 403,
        "The token is genuine, but does not allow this. A token is good for one project and one role: \
         viewer reads and predicts, editor changes, admin makes tokens, owner does everything \
         everywhere. `lepton whoami` tells what yours is.";
    /// The project has all that it may have.
    QuotaExceeded = "quota-exceeded", 403,
        "The project stores as much as its quota allows. `lepton objects usage` tells what it has and \
         may have; delete objects, datasets, runs or model versions (space comes back after the next \
         sweep), or ask an owner to raise it with `lepton objects quota`.";
    /// There is no such thing.
    NotFound = "not-found", 404,
        "Nothing of that kind and name is in the project. `lepton get KIND` lists what is there; \
         --project looks in another one.";
    /// The method does not exist here.
    MethodNotAllowed = "method-not-allowed", 405,
        "The path exists, but not with this HTTP method: see /api/v1/openapi.json.";
    /// Something of that name exists.
    AlreadyExists = "already-exists", 409,
        "A name is used once in a project and kind. Choose another, or change what is there with \
         `lepton apply`.";
    /// Somebody else was faster.
    Conflict = "conflict", 409,
        "What you changed was changed by somebody else in between, or its state does not allow the \
         change. Read it again and decide anew; nothing was written.";
    /// The key of the bytes was destroyed.
    Shredded = "shredded", 410,
        "The key that sealed these bytes was destroyed with `lepton objects keys shred`, so nobody can \
         read them any more, Lepton included. Delete what is left of them, or store them again.";
    /// More than is taken at once.
    TooLarge = "too-large", 413,
        "What can be sent at once is bounded, so that one caller cannot use up the server. The message \
         names the bound; `lepton config show` lists those that can be raised.";
    /// Too many at once.
    Overloaded = "overloaded", 429,
        "More requests wait than the server takes on. Try again after the time in `Retry-After`.";
    /// The server failed.
    Internal = "internal", 500,
        "The server failed in a way that is its own fault. Its log has the cause. \
         Nothing that was acknowledged is lost.";
    /// Nothing can answer now.
    Unavailable = "unavailable", 503,
        "Nothing can answer right now: the endpoint has no ready replica, or the server is stopping. \
         `lepton describe endpoint NAME` says what it waits for. Try again after `Retry-After`.";
    /// It took too long.
    Timeout = "timeout", 504,
        "The answer did not come within the time allowed. For an endpoint: its replicas are busy or \
         stuck, see `lepton logs`.";
    /// The disk is full.
    DiskFull = "disk-full", 507,
        "No room is left on the server's disk. Nothing was written. Free some room, or delete datasets, \
         runs or model versions; space comes back after the next sweep.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ErrorCode {
    type Err = UnknownErrorCode;

    fn from_str(word: &str) -> Result<Self, UnknownErrorCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == word)
            .ok_or_else(|| UnknownErrorCode {
                word: word.chars().take(64).collect(),
            })
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

impl ErrorBody {
    /// A code and a sentence.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let error = ErrorDetail {
            code,
            message: message.into(),
            details: BTreeMap::new(),
        };
        Self { error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_parse() {
        for code in ErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!((400..600).contains(&code.http_status()));
        }
        assert!("no-such".parse::<ErrorCode>().is_err());
    }
}

//! What a call can fail with. One struct per fact; the message is for people,
//! the variant for programs.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use lepton_api::ErrorCode;
use serde::Deserialize;

use crate::blobs::FileMismatch;
use crate::discovery::DiscoverError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server understood, and said no.
    #[error(transparent)]
    Api(Box<ApiError>),
    /// Nothing listens there.
    #[error(transparent)]
    Unreachable(Unreachable),
    /// The connection broke on the way.
    #[error("the connection to `{url}` broke off: {cause}")]
    Interrupted {
        /// The server's URL.
        url: String,
        /// What the operating system says.
        cause: String,
    },
    /// No answer came in time.
    #[error("`{url}` did not answer in time ({stage})")]
    TimedOut {
        /// The server's URL.
        url: String,
        /// What was being waited for.
        stage: String,
    },
    /// No safe connection could be made.
    #[error("no safe connection to `{url}`: {cause}; LEPTON_CA_FILE names an authority to trust")]
    Tls {
        /// The server's URL.
        url: String,
        /// What was wrong.
        cause: String,
    },
    /// Something answered that is no Lepton, or another version of it.
    #[error(transparent)]
    UnexpectedAnswer(Box<UnexpectedAnswer>),
    /// It is not known whom to call, or as whom.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// The request cannot be written down.
    #[error("`{url}` is not a URL that can be called: {cause}")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A file here could not be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// What arrived is not what was sent.
    #[error(transparent)]
    Mismatch(#[from] FileMismatch),
}

/// The server understood, and said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The code, where this version of the client knows it.
    pub code: Option<ErrorCode>,
    /// The code as it was sent.
    pub code_word: String,
    /// The server's sentence.
    pub message: String,
    /// Facts for programs.
    pub details: BTreeMap<String, String>,
    /// When to come back, in seconds, if the server said so.
    pub retry_after_s: Option<u64>,
}

/// Nothing listens there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no Lepton answers at `{url}` ({cause}): start one with `lepton up`, or point LEPTON_URL at another"
)]
pub struct Unreachable {
    /// The server's URL.
    pub url: String,
    /// What the operating system says.
    pub cause: String,
}

/// Something answered that is no Lepton, or another version of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{url}` answered {status} in a form this client does not know ({cause}): is it a Lepton of this version?"
)]
pub struct UnexpectedAnswer {
    /// The URL that was called.
    pub url: String,
    /// The HTTP status.
    pub status: u16,
    /// What did not fit, with the first characters of the answer.
    pub cause: String,
}

impl ClientError {
    /// The server's code, if it was the server that said no.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Api(error) => error.code,
            _ => None,
        }
    }

    /// The HTTP status of the answer, where there was one that the server gave.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api(error) => Some(error.status),
            _ => None,
        }
    }

    /// Whether the server says that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(ErrorCode::NotFound)
    }

    /// Whether the same call may succeed later, as nothing but the way was at fault.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Interrupted { .. } | Self::TimedOut { .. } => true,
            Self::Api(error) => matches!(error.status, 429 | 502 | 503),
            _ => false,
        }
    }
}

/// Lepton's own form, or MLflow's.
#[derive(Deserialize)]
#[serde(untagged)]
enum LooseBody {
    Own { error: LooseDetail },
    Mlflow { error_code: String, message: String },
}

/// The error body with its code unparsed, so that a newer server's codes get through.
#[derive(Deserialize)]
struct LooseDetail {
    code: String,
    message: String,
    #[serde(default)]
    details: BTreeMap<String, String>,
}

impl ApiError {
    /// Reads the body of an answer that is not a success; `None` if it is not Lepton's form.
    pub(crate) fn parse(status: u16, body: &[u8], retry_after_s: Option<u64>) -> Option<Self> {
        let detail = match serde_json::from_slice::<LooseBody>(body).ok()? {
            LooseBody::Own { error } => error,
            LooseBody::Mlflow {
                error_code,
                message,
            } => LooseDetail {
                code: error_code,
                message,
                details: BTreeMap::new(),
            },
        };
        Some(Self {
            status,
            code: detail.code.parse().ok(),
            code_word: detail.code,
            message: detail.message,
            details: detail.details,
            retry_after_s,
        })
    }
}

/// Names what the transport failed with.
pub(crate) fn name_failure(url: &str, error: ureq::Error) -> ClientError {
    let url = url.to_owned();
    match error {
        ureq::Error::Io(source) => name_io_failure(url, &source),
        ureq::Error::HostNotFound => ClientError::Unreachable(Unreachable {
            url,
            cause: "no machine of that name".to_owned(),
        }),
        ureq::Error::ConnectionFailed => ClientError::Unreachable(Unreachable {
            url,
            cause: "no connection".to_owned(),
        }),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            ClientError::Unreachable(Unreachable {
                url,
                cause: "no connection in time".to_owned(),
            })
        }
        ureq::Error::Timeout(stage) => ClientError::TimedOut {
            url,
            stage: stage.to_string(),
        },
        ureq::Error::Tls(cause) => ClientError::Tls {
            url,
            cause: cause.to_owned(),
        },
        ureq::Error::Rustls(cause) => ClientError::Tls {
            url,
            cause: cause.to_string(),
        },
        ureq::Error::BadUri(cause) => ClientError::BadUrl { url, cause },
        ureq::Error::Http(cause) => ClientError::BadUrl {
            url,
            cause: cause.to_string(),
        },
        other => ClientError::Interrupted {
            url,
            cause: other.to_string(),
        },
    }
}

fn name_io_failure(url: String, source: &io::Error) -> ClientError {
    // The kind says it in words; the whole also has the system's number for it.
    let whole = source.to_string();
    let cause = match source.raw_os_error() {
        Some(_) => source.kind().to_string(),
        None => whole,
    };
    match source.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => ClientError::Unreachable(Unreachable { url, cause }),
        io::ErrorKind::InvalidData if cause.contains("certificate") => {
            ClientError::Tls { url, cause }
        }
        _ => ClientError::Interrupted { url, cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_newer_server_keeps_its_word() {
        let body = br#"{"error":{"code":"of-tomorrow","message":"no more"}}"#;
        let error = ApiError::parse(403, body, None).unwrap();
        assert_eq!(error.code, None);
        assert_eq!(error.code_word, "of-tomorrow");
        assert_eq!(error.to_string(), "no more");
    }

    #[test]
    fn a_refused_connection_says_how_to_start_a_server() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = name_failure("http://127.0.0.1:1", ureq::Error::Io(refused));
        let message = error.to_string();
        assert!(message.contains("`lepton up`"), "{message}");
        assert!(error.is_transient());
    }
}

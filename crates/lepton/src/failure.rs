//! What a command can fail with, and the exit status that scripts see.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use lepton_api::ErrorCode;
use lepton_client::ClientError;
use lepton_types::resources::UnknownKind;

use crate::names::Unknown;

/// The exit statuses; documented in `docs/cli.md`, never renumbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// What was asked for ended badly, or something not named below.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// No valid token, or it does not allow this.
    Denied = 4,
    /// It exists already, or was changed by somebody else.
    Conflict = 5,
    /// No server answers.
    Unreachable = 6,
    /// It took longer than was allowed.
    TimedOut = 7,
    /// The data, a name or a request cannot be used.
    Invalid = 8,
    /// The server cannot do it now.
    Server = 9,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A job ended otherwise than well; said already.
    #[error("job `{job}` {ended}")]
    JobEnded { job: String, ended: String },
    /// What was waited for did not come.
    #[error("still waiting for {what} after {after}: {why}")]
    StillWaiting {
        what: String,
        after: lepton_types::DurationMs,
        why: String,
    },
    /// An endpoint cannot get ready.
    #[error("endpoint `{endpoint}` does not get ready: {why}")]
    DoesNotGetReady { endpoint: String, why: String },
    /// Nothing has that name.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// A word is no kind.
    #[error(transparent)]
    Kind(#[from] UnknownKind),
    /// Options do not go together, or one is missing.
    #[error("{message}")]
    Usage { message: String },
    /// The input cannot be used.
    #[error("{message}")]
    Invalid { message: String },
    /// A file here could not be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{program}`: {source}")]
    Program { program: String, source: io::Error },
    /// The result could not be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
    /// A part of the binary failed and said why.
    #[error("{message}")]
    Part { message: String },
    /// Another server than Lepton's does not answer.
    #[error("{message}")]
    Unreachable { message: String },
}

/// What went wrong, with its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some messages hold that of their cause.
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}

impl Failure {
    /// A part of the binary failed and said why.
    pub(crate) fn part(error: &dyn std::error::Error) -> Self {
        Self::Part {
            message: with_causes(error),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
        }
    }

    /// Whether whoever reads the result has seen enough: `lepton get jobs | head`.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Client(error) => status_of_call(error),
            Self::Unknown(_) => Status::NotFound,
            Self::Kind(_) | Self::Usage { .. } => Status::Usage,
            Self::StillWaiting { .. } => Status::TimedOut,
            Self::Invalid { .. } => Status::Invalid,
            // A name of a file that is none.
            Self::File { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::IsADirectory
                        | io::ErrorKind::NotADirectory
                ) =>
            {
                Status::Invalid
            }
            Self::Unreachable { .. } => Status::Unreachable,
            Self::JobEnded { .. }
            | Self::DoesNotGetReady { .. }
            | Self::File { .. }
            | Self::Program { .. }
            | Self::Output(_)
            | Self::Part { .. } => Status::Failed,
        }
    }

    /// The server's word for it, which `lepton explain` knows more about.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Client(error) => error.code(),
            Self::Unknown(_) => Some(ErrorCode::NotFound),
            _ => None,
        }
    }
}

fn status_of_call(error: &ClientError) -> Status {
    match error {
        ClientError::Api(api) => status_of_answer(api.status),
        ClientError::Unreachable(_)
        | ClientError::Interrupted { .. }
        | ClientError::Tls { .. }
        | ClientError::UnexpectedAnswer(_) => Status::Unreachable,
        ClientError::TimedOut { .. } => Status::TimedOut,
        ClientError::Discover(error) => match error {
            lepton_client::DiscoverError::NothingKnown => Status::Unreachable,
            lepton_client::DiscoverError::NoToken { .. }
            | lepton_client::DiscoverError::BadToken
            | lepton_client::DiscoverError::TooOpen(_) => Status::Denied,
            _ => Status::Usage,
        },
        ClientError::BadUrl { .. } => Status::Usage,
        ClientError::File { .. } | ClientError::Mismatch(_) => Status::Failed,
    }
}

const fn status_of_answer(status: u16) -> Status {
    match status {
        401 | 403 => Status::Denied,
        404 | 410 => Status::NotFound,
        409 | 412 => Status::Conflict,
        400 | 413 | 415 | 422 => Status::Invalid,
        408 | 504 => Status::TimedOut,
        429 | 500..=599 => Status::Server,
        _ => Status::Failed,
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_server_has_an_exit_status_of_its_own_sort() {
        let table: Vec<_> = ErrorCode::ALL
            .iter()
            .map(|code| format!("{code} {}", status_of_answer(code.http_status()) as u8))
            .collect();
        insta::assert_snapshot!(table.join("\n"), @r"
        invalid-request 8
        invalid-name 8
        invalid-data 8
        unauthenticated 4
        permission-denied 4
        quota-exceeded 4
        not-found 3
        method-not-allowed 1
        already-exists 5
        conflict 5
        shredded 3
        too-large 8
        overloaded 9
        internal 9
        unavailable 9
        timeout 7
        disk-full 9
        ");
    }
}

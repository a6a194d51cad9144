//! What can go wrong with the store.

use std::path::PathBuf;
use std::sync::Arc;

use lepton_types::Id;
use lepton_types::resources::Kind;

/// The store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room is left on the disk.
    #[error("the disk that holds the metadata is full")]
    DiskFull,
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
    /// A record does not read back.
    #[error("a stored {kind} cannot be read back")]
    Corrupt {
        /// Its kind.
        kind: Kind,
        /// Why.
        source: serde_json::Error,
    },
    /// Points of a metric do not read back.
    #[error("stored points of a metric cannot be read back")]
    CorruptSeries,
    /// The group of transactions that this one was in was not committed.
    #[error("the metadata store could not write to its disk")]
    NotCommitted(#[source] Arc<rusqlite::Error>),
    /// Anything else the database says.
    #[error("the metadata store failed")]
    Database(#[source] rusqlite::Error),
}

impl From<crate::series::Corrupt> for StoreError {
    fn from(_: crate::series::Corrupt) -> Self {
        Self::CorruptSeries
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            _ => Self::Database(error),
        }
    }
}

/// A transaction met a state that it did not expect, and changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Something of that name is there already.
    #[error("{kind} `{name}` already exists")]
    AlreadyExists {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// Somebody else changed or deleted it first.
    #[error("{kind} `{name}` was changed by somebody else: read it again")]
    Changed {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// What was to be changed, or pointed at, is not there.
    #[error("{kind} `{id}` not found")]
    Missing {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
    },
    /// It is in the bin, and takes nothing more.
    #[error("{kind} `{id}` is deleted: restore it first")]
    InBin {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Id,
    },
    /// The project is not there, or not any more.
    #[error("project `{project}` not found")]
    ProjectMissing {
        /// Its name.
        project: String,
    },
    /// The project holds something, and cannot be deleted.
    #[error("project `{project}` is in use: something was made in it meanwhile")]
    ProjectInUse {
        /// Its name.
        project: String,
    },
    /// The alias points at another version, and the caller may not move it.
    #[error("alias `{alias}` points at version {version} already: a person moves it")]
    AliasTaken {
        /// The alias.
        alias: String,
        /// Where it points.
        version: u32,
    },
    /// The file of this path is another one, and the caller may not replace it.
    #[error("there is another file at this path already: a person replaces it")]
    FileTaken,
    /// A file lies where the path of another one needs a folder, or the other way round.
    #[error("`{path}` is in the way: a path is a file or a folder")]
    FileInTheWay {
        /// What there is, cut to 128 characters.
        path: String,
    },
    /// There is no room for one file more.
    #[error("a run takes {most} artifacts: put many into an archive")]
    TooManyFiles {
        /// How many there may be.
        most: usize,
    },
    /// There is no such logged model in the project.
    #[error("logged model `{model}` not found")]
    LoggedModelMissing {
        /// Its id.
        model: Id,
    },
    /// Something has the id that a logged model was to have.
    #[error("the id of logged model `{model}` is taken")]
    LoggedModelExists {
        /// The id.
        model: Id,
    },
    /// There is no such trace in the project.
    #[error("trace `{trace}` not found")]
    TraceMissing {
        /// Its id.
        trace: String,
    },
    /// The trace was made by somebody else, and the caller may change only its own.
    #[error("trace `{trace}` was made by somebody else")]
    TraceOfOther {
        /// Its id.
        trace: String,
    },
    /// A trace has no such tag.
    #[error("trace `{trace}` has no tag `{key}`")]
    TraceTagMissing {
        /// Its id.
        trace: String,
        /// The tag, cut to 64 characters.
        key: String,
    },
    /// Nobody said that of the trace.
    #[error("trace `{trace}` has no assessment `{id}`")]
    AssessmentMissing {
        /// The trace.
        trace: String,
        /// The assessment, cut to 64 characters.
        id: String,
    },
    /// A feedback stays a feedback, and an expectation an expectation.
    #[error("an assessment stays of its kind: a feedback, or an expectation")]
    AssessmentOfOtherKind,
    /// A trace is longer than it may be.
    #[error(
        "trace `{trace}` is too long: its tags, its metadata and what is said of it take {most} bytes"
    )]
    TraceTooLong {
        /// Its id.
        trace: String,
        /// Bytes that it may have.
        most: usize,
    },
    /// What is said of a trace is longer than it may be.
    #[error("what is said of one trace is too long together")]
    TooManyAssessments,
    /// There is no such run in the project.
    #[error("run `{run}` not found")]
    RunMissing {
        /// Its id.
        run: Id,
    },
    /// The run is in the bin, and takes nothing more.
    #[error("run `{run}` is deleted: restore it first")]
    RunDeleted {
        /// Its id.
        run: Id,
    },
    /// A run has no such tag.
    #[error("run `{run}` has no tag `{key}`")]
    TagMissing {
        /// Its id.
        run: Id,
        /// The tag, cut to 64 characters.
        key: String,
    },
    /// A parameter of a run has another value; parameters are written once.
    #[error("parameter `{key}` is already set to `{stored}`; parameters cannot be changed")]
    ParamChanged {
        /// The parameter.
        key: String,
        /// Its value, cut to 64 characters.
        stored: String,
    },
}

/// A transaction was not done.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It met a state that it did not expect.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It was written by a newer Lepton.
    #[error(
        "`{file}` has schema {found}, and this Lepton knows up to {known}: use the newer Lepton, \
         or restore the backup that it made"
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// The schema of the file.
        found: u32,
        /// The newest schema that is known here.
        known: u32,
    },
    /// The file cannot be used.
    #[error("cannot open the metadata in `{file}`")]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file cannot be made, or kept from others.
    #[error("cannot keep the metadata in `{file}` to its owner alone")]
    NotPrivate {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The writer's thread cannot be started.
    #[error("cannot start the store's writer")]
    Thread(#[source] std::io::Error),
}

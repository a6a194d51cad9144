//! What can go wrong with the index.

use std::sync::Arc;

use lepton_types::Timestamp;

/// The index could not be read or written, or refused.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It met a state that it did not expect, and changed nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No room is left on the disk.
    #[error("the disk that holds the object index is full")]
    DiskFull,
    /// The writer has stopped.
    #[error("the object index is closed")]
    Closed,
    /// The group of transactions that this one was in was not committed.
    #[error("the object index could not write to its disk")]
    NotCommitted(#[source] Arc<rusqlite::Error>),
    /// A row does not read back.
    #[error("a row of the object index cannot be read back: {what}")]
    Corrupt {
        /// Which.
        what: &'static str,
    },
    /// Anything else the database says.
    #[error("the object index failed")]
    Database(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for IndexError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            _ => Self::Database(error),
        }
    }
}

/// Why a transaction changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bucket is gone.
    #[error("there is no such bucket")]
    NoSuchBucket,
    /// A bucket of that name is there.
    #[error("a bucket of this name is there already")]
    BucketExists,
    /// It still holds something.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// No such object, or none that is visible.
    #[error("there is no such object")]
    NoSuchObject,
    /// No such version.
    #[error("there is no such version")]
    NoSuchVersion,
    /// No such upload.
    #[error("there is no such upload")]
    NoSuchUpload,
    /// A part is not there, or has another digest.
    #[error("part {number} is not there or has another digest")]
    InvalidPart {
        /// Which.
        number: u16,
    },
    /// The object is not in the state that the caller asked for.
    #[error("the object is not as the condition demands")]
    Precondition,
    /// Something holds the version.
    #[error("the version is locked")]
    Locked {
        /// Until when, if by a retention.
        until: Option<Timestamp>,
    },
    /// More than the project may store.
    #[error("the project's quota does not allow it")]
    QuotaExceeded,
    /// A piece that is cited is not there any more.
    #[error("a cited piece is not there")]
    NoSuchPiece,
    /// An access key of that name is there.
    #[error("an access key of this name is there already")]
    KeyExists,
    /// No such access key.
    #[error("there is no such access key")]
    NoSuchKey,
    /// Object lock needs versions.
    #[error("the bucket keeps no versions")]
    BucketKeepsNoVersions,
    /// Versioning of a bucket with object lock cannot be suspended, nor the lock taken away.
    #[error("the bucket has object lock")]
    BucketHasLock,
}

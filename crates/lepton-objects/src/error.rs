//! What can go wrong with bytes.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use lepton_types::ContentId;

use crate::keys::{CustomerKeyError, KeyError, WrapError};

/// The place that keeps the bytes failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackendError {
    /// The local disk failed.
    #[error("the disk that holds the objects failed")]
    Disk(#[source] Arc<io::Error>),
    /// The remote service failed.
    #[error("the service that holds the objects failed")]
    Remote(#[source] Arc<dyn Error + Send + Sync>),
}

/// A content could not be kept or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ContentError {
    /// There is no such content in the project.
    #[error("no content `{content}` is in this project")]
    NotFound {
        /// What was asked for.
        content: ContentId,
    },
    /// Its bytes are not those that were sealed.
    #[error("content `{content}` is damaged")]
    Damaged {
        /// Which.
        content: ContentId,
    },
    /// It is longer than was allowed.
    #[error("the content is longer than {limit_bytes} bytes")]
    TooLarge {
        /// The bound.
        limit_bytes: u64,
    },
    /// The range asked for is not within the content.
    #[error("the range ends past the content's {size_bytes} bytes")]
    OutOfRange {
        /// How long the content is.
        size_bytes: u64,
    },
    /// No room is left.
    #[error("the disk that holds the objects is full")]
    StorageFull,
    /// The customer's key does not fit.
    #[error(transparent)]
    CustomerKey(#[from] CustomerKeyError),
    /// The project's keys cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Anything else that the backend says.
    #[error(transparent)]
    Backend(BackendError),
}

impl ContentError {
    /// Whether another copy of the same sealed bytes may be whole: these are missing, are not what was written, or
    /// the disk does not give them back.
    #[must_use]
    pub fn is_rot(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::NotFound { .. }
                // A header that names another key than it did.
                | Self::Key(KeyError::NotFound { .. })
                | Self::Backend(BackendError::Disk(_))
        )
    }

    /// Whether it may go well later without anybody changing anything here: a service elsewhere
    /// does not answer.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Backend(BackendError::Remote(_)) => true,
            Self::Key(KeyError::Wrap { source, .. }) => {
                matches!(source, WrapError::Service { .. })
            }
            _ => false,
        }
    }
}

/// The object layer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("`{root}` is in use by another process")]
    InUse {
        /// The folder.
        root: PathBuf,
    },
    /// The configuration of a remote backend makes no sense.
    #[error("the object backend cannot be configured")]
    Configuration(#[source] Box<dyn Error + Send + Sync>),
    /// A remote place does not answer as it must.
    #[error(
        "the objects at `{place}` cannot be reached: check that the service answers, that the \
         bucket is there, and that the credentials may read, write, list and delete"
    )]
    Unreachable {
        /// Where.
        place: String,
        /// What it said.
        source: BackendError,
    },
    /// Another Lepton keeps its objects there.
    #[error(
        "`{place}` holds the objects of another Lepton ({owner}): what one does not know, it would \
         delete, so choose an empty place or another prefix; if this is a restored data directory, \
         restore the `objects.db` that belongs to that place"
    )]
    Claimed {
        /// Where.
        place: String,
        /// The id of the index that has it.
        owner: String,
    },
    /// The backend failed.
    #[error(transparent)]
    Backend(BackendError),
}

//! Answers of the writer, which wait until the group that they belong to is on disk.

use tokio::sync::oneshot;

use crate::{CommitError, StoreError};

/// An answer that waits for the group to be on disk.
pub(super) enum Reply {
    Commit(
        oneshot::Sender<Result<u64, CommitError>>,
        Result<u64, CommitError>,
    ),
    Upkeep(
        oneshot::Sender<Result<bool, StoreError>>,
        Result<bool, StoreError>,
    ),
}

impl Reply {
    pub(super) fn send(self) {
        match self {
            Self::Commit(reply, result) => {
                let _caller_left = reply.send(result);
            }
            Self::Upkeep(reply, result) => {
                let _caller_left = reply.send(result);
            }
        }
    }

    /// The group failed: what went well did not happen; a conflict is true whatever became of the
    /// others.
    pub(super) fn send_failed(self, failure: StoreError) {
        match self {
            Self::Commit(reply, result) => {
                let _caller_left = reply.send(result.and_then(|_| Err(failure.into())));
            }
            Self::Upkeep(reply, result) => {
                let _caller_left = reply.send(result.and_then(|_| Err(failure)));
            }
        }
    }
}

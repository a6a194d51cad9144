//! Which contents of this process are on their way into the index.
//!
//! Owns: that a sweep leaves them alone. A content is pending from before its file gets a name
//! until its writer has recorded it, or has given it up.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use lepton_types::ContentId;

/// The contents on their way.
#[derive(Debug, Clone, Default)]
pub(crate) struct PendingContents(Arc<Mutex<BTreeSet<ContentId>>>);

/// Keeps one content pending until it is dropped.
#[derive(Debug)]
pub(crate) struct Pending {
    contents: PendingContents,
    id: ContentId,
}

impl PendingContents {
    pub(crate) fn register(&self, id: ContentId) -> Pending {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.insert(id);
        Pending {
            contents: self.clone(),
            id,
        }
    }

    pub(crate) fn contains(&self, id: ContentId) -> bool {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.contains(&id)
    }
}

/// Does `work` to its end, even if whoever waits for it goes away: a client that leaves while a
/// content is on its way into the index must not take along what keeps a sweep from it.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        // The runtime ends, and this with it.
        Err(_) => std::future::pending().await,
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut pending = self
            .contents
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        pending.remove(&self.id);
    }
}

//! Reads that go on at the replica, where the bytes here are rotten, missing, or out of reach.
//!
//! Owns: which errors the replica helps against, and that what rotted is put right behind such a read. Must not
//! know: who reads.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use lepton_types::{ContentId, Name};

use crate::backend::Source;
use crate::contents::{Content, Contents};
use crate::error::ContentError;
use crate::keys::ContentKey;
use crate::reader::ContentReader;
use crate::seal::HEADER_BYTES;

/// Contents that are put right at once. What is found beyond that waits for its next read, or a scrub.
const MENDED_AT_ONCE: usize = 4;

/// What the replica was needed for since the start.
#[derive(Default)]
pub(crate) struct Rescues {
    reads: AtomicU64,
    mending: Mutex<BTreeSet<ContentId>>,
}

impl Rescues {
    /// Whether nobody mends it yet, and there is room.
    fn begin(&self, content: ContentId) -> bool {
        let mut mending = self.mending.lock().unwrap_or_else(PoisonError::into_inner);
        mending.len() < MENDED_AT_ONCE && mending.insert(content)
    }

    fn end(&self, content: ContentId) {
        let mut mending = self.mending.lock().unwrap_or_else(PoisonError::into_inner);
        mending.remove(&content);
    }
}

/// A way for a read to go on.
pub(crate) struct Rescue {
    contents: Contents,
    project: Name,
    content: Content,
}

impl Rescue {
    /// The replica's copy of what was begun to be read, if that helps.
    pub(crate) async fn source(&self, error: &ContentError, begun: &Source) -> Option<Source> {
        if !error.is_rot() && !error.is_passing() {
            return None;
        }
        let replica = self.contents.replica()?;
        let opened = replica.open(&self.project, self.content.id, HEADER_BYTES);
        let source = opened.await.ok()?;
        // Else it would not open under the key that is at hand.
        let is_same = source.head.get(..HEADER_BYTES) == begun.head.get(..HEADER_BYTES)
            && source.sealed_bytes == begun.sealed_bytes;
        is_same.then_some(source)
    }

    /// What failed was read from the replica.
    pub(crate) fn succeeded(self, error: ContentError) {
        self.contents
            .rescued_by_replica(self.project, self.content, error);
    }
}

impl Contents {
    /// Reads `range` of a content (all of it: `0..content.size_bytes`). The first bytes have been
    /// verified when this returns; the others before they are given out. What is rotten, missing or out of reach is
    /// read from the replica, if there is one, and put right behind the read.
    ///
    /// # Errors
    /// If it is not there or damaged, the range is not within it, or the key does not fit.
    pub async fn read(
        &self,
        project: &Name,
        content: &Content,
        key: &ContentKey,
        range: Range<u64>,
    ) -> Result<ContentReader, ContentError> {
        let Some(replica) = self.replica().filter(|_| content.inline.is_none()) else {
            return self
                .read_from(self.backend(), project, content, key, range)
                .await;
        };
        let rescue = Rescue {
            contents: self.clone(),
            project: project.clone(),
            content: content.clone(),
        };
        let here = (self.backend(), Some(rescue));
        let error = match self
            .read_with(here, project, content, key, range.clone())
            .await
        {
            Err(error) if error.is_rot() || error.is_passing() => error,
            read => return read,
        };
        match self.read_from(replica, project, content, key, range).await {
            Ok(reader) => {
                self.rescued_by_replica(project.clone(), content.clone(), error);
                Ok(reader)
            }
            // It does not have it either: the first error says more.
            Err(_) => Err(error),
        }
    }

    /// How many reads the replica helped since the start.
    #[must_use]
    pub fn rescued_reads(&self) -> u64 {
        self.rescues().reads.load(Ordering::Relaxed)
    }

    /// Notes it, and puts the replica's copy in the place of what rotted.
    fn rescued_by_replica(&self, project: Name, content: Content, error: ContentError) {
        self.rescues().reads.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%project, content = %content.id, %error, "a content was read from the replica");
        if !error.is_rot() || !self.rescues().begin(content.id) {
            return;
        }
        let contents = self.clone();
        tokio::spawn(async move {
            match contents.repair(&project, &content, &error).await {
                Ok(is_repaired) => {
                    tracing::info!(%project, content = %content.id, is_repaired, "the replica's copy was put in its place");
                }
                Err(error) => {
                    tracing::error!(%project, content = %content.id, %error, "a content could not be put right");
                }
            }
            contents.rescues().end(content.id);
        });
    }
}

//! Writing: bytes stream in, and are digested, sealed and written in parallel over bounded
//! buffers.

use bytes::Bytes;
use lepton_types::DataKeyId;

use crate::contents::Content;
use crate::digests::{DigestSet, Digests};
use crate::error::ContentError;
use crate::keys::ContentKey;

/// How a content is to be written.
#[derive(Debug, Clone)]
pub struct NewContent {
    /// Whose key seals it.
    pub key: ContentKey,
    /// What to compute of the plain bytes.
    pub digests: DigestSet,
    /// The most bytes it may have.
    pub size_bytes_max: u64,
}

impl Default for NewContent {
    /// Under the project's key, without digests, of any length.
    fn default() -> Self {
        Self {
            key: ContentKey::Project,
            digests: DigestSet::NONE,
            size_bytes_max: u64::MAX,
        }
    }
}

/// A content under way. Dropping it leaves nothing.
#[derive(Debug)]
pub struct ContentWriter {}

#[allow(clippy::unused_async, clippy::needless_pass_by_value)]
impl ContentWriter {
    /// Adds bytes; waits while too much is under way.
    ///
    /// # Errors
    /// If the content becomes too long or cannot be written; the writer is then of no more use.
    pub async fn write(&mut self, _bytes: Bytes) -> Result<(), ContentError> {
        unimplemented!()
    }

    /// Ends the content. When this returns it is on disk, or is given back as sealed inline bytes.
    ///
    /// # Errors
    /// If it cannot be written; nothing is left then.
    pub async fn finish(self) -> Result<StagedContent, ContentError> {
        unimplemented!()
    }
}

/// A content that is whole but which the index does not name yet. No sweep takes it.
///
/// Record [`StagedContent::content`] in the index, then call [`StagedContent::adopt`]. If the record
/// was refused, call [`StagedContent::discard`]. Dropped, as when a request is cut off in between,
/// it is left to the next sweep, which asks the index.
#[derive(Debug)]
#[must_use]
pub struct StagedContent {
    content: Content,
    digests: Digests,
    data_key: Option<DataKeyId>,
}

#[allow(clippy::unused_async)]
impl StagedContent {
    /// What the index has to record.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The digests asked for.
    #[must_use]
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The data key that sealed it; none under a customer's key.
    #[must_use]
    pub fn data_key(&self) -> Option<DataKeyId> {
        self.data_key
    }

    /// The index names it now.
    pub fn adopt(self) -> Content {
        unimplemented!()
    }

    /// Nobody will ever name it: deletes it.
    pub async fn discard(self) {
        unimplemented!()
    }
}

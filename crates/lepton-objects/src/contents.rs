//! Contents: immutable sealed bytes by random id.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures_util::Stream;
use lepton_types::{ContentId, DataKeyId, Name};

use crate::config::ContentsConfig;
use crate::error::{ContentError, OpenError};
use crate::index::ContentIndex;
use crate::keys::ContentKey;
use crate::reader::ContentReader;
use crate::scrub::{ScrubReport, SweepReport};
use crate::writer::{ContentWriter, NewContent, StagedContent};

/// A content as the index records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its id.
    pub id: ContentId,
    /// The length of the plain bytes.
    pub size_bytes: u64,
    /// The sealed bytes themselves when they are small: the index keeps them in the transaction
    /// that makes them visible. None: they are in the backend.
    pub inline: Option<Bytes>,
}

/// All contents of one Lepton. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Contents {}

#[allow(clippy::unused_async, clippy::needless_pass_by_value)]
impl Contents {
    /// Opens or makes the store, and clears what was never finished.
    ///
    /// # Errors
    /// If the backend cannot be used or another process has it open.
    pub async fn open(_config: ContentsConfig) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// Begins a content of `project`. Dropping the writer leaves nothing.
    ///
    /// # Errors
    /// If the project's keys cannot be used.
    pub async fn begin(
        &self,
        _project: &Name,
        _new: NewContent,
    ) -> Result<ContentWriter, ContentError> {
        unimplemented!()
    }

    /// Keeps all that `body` gives.
    ///
    /// # Errors
    /// If the bytes cannot be kept, or the first error of `body`.
    pub async fn put<S, E>(
        &self,
        _project: &Name,
        _new: NewContent,
        _body: S,
    ) -> Result<StagedContent, E>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: From<ContentError> + Send,
    {
        unimplemented!()
    }

    /// Reads `range` of a content (all of it: `0..content.size_bytes`). The first bytes have been
    /// verified when this returns; the others before they are given out.
    ///
    /// # Errors
    /// If it is not there or damaged, the range is not within it, or the key does not fit.
    pub async fn read(
        &self,
        _project: &Name,
        _content: &Content,
        _key: &ContentKey,
        _range: Range<u64>,
    ) -> Result<ContentReader, ContentError> {
        unimplemented!()
    }

    /// Reads a whole content of at most `limit_bytes` into memory.
    ///
    /// # Errors
    /// As [`Contents::read`], or if it is longer.
    pub async fn read_all(
        &self,
        _project: &Name,
        _content: &Content,
        _key: &ContentKey,
        _limit_bytes: u64,
    ) -> Result<Bytes, ContentError> {
        unimplemented!()
    }

    /// Writes the plain bytes of a content to file `to`, which must not exist, verified, for a
    /// workload to read. Nothing is left behind on failure. Not synced.
    ///
    /// # Errors
    /// As [`Contents::read`], or if the file cannot be written.
    pub async fn copy_to(
        &self,
        _project: &Name,
        _content: &Content,
        _key: &ContentKey,
        _to: &Path,
    ) -> Result<(), ContentError> {
        unimplemented!()
    }

    /// Whether `key` fits a content, without reading its bytes (S3's HEAD).
    ///
    /// # Errors
    /// If it does not fit, or the content is not there.
    pub async fn check_key(
        &self,
        _project: &Name,
        _content: &Content,
        _key: &ContentKey,
    ) -> Result<(), ContentError> {
        unimplemented!()
    }

    /// Reads a content to its end and verifies it. One under a customer's key, which is not
    /// known, is only checked for presence and length.
    ///
    /// # Errors
    /// If it is not there or damaged.
    pub async fn verify(&self, _project: &Name, _content: &Content) -> Result<(), ContentError> {
        unimplemented!()
    }

    /// Deletes contents that the index names no more. Deleting what is gone is no error;
    /// readers that have begun may end.
    ///
    /// # Errors
    /// If the backend fails; some may be gone then.
    pub async fn delete(&self, _project: &Name, _ids: &[ContentId]) -> Result<(), ContentError> {
        unimplemented!()
    }

    /// Deletes contents of the backend that `index` does not name and that no writer of this
    /// process still holds.
    ///
    /// # Errors
    /// If the backend or the index fails.
    pub async fn sweep<I: ContentIndex>(
        &self,
        _project: &Name,
        _index: &I,
    ) -> Result<SweepReport, ContentError> {
        unimplemented!()
    }

    /// Verifies every content that `index` names, and repairs from the replica what is damaged.
    ///
    /// # Errors
    /// If the index fails, or the backend does as a whole.
    pub async fn scrub<I: ContentIndex>(
        &self,
        _project: &Name,
        _index: &I,
    ) -> Result<ScrubReport, ContentError> {
        unimplemented!()
    }

    /// The projects that have contents or keys here, those included that are gone by now.
    ///
    /// # Errors
    /// If the backend fails.
    pub async fn projects(&self) -> Result<Vec<Name>, ContentError> {
        unimplemented!()
    }

    /// The data keys of a project, oldest first; new contents are sealed under the last.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn keys(&self, _project: &Name) -> Result<Vec<DataKeyId>, ContentError> {
        unimplemented!()
    }

    /// Makes a new data key for what is written from now on. Rewrites no content.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub async fn rotate(&self, _project: &Name) -> Result<DataKeyId, ContentError> {
        unimplemented!()
    }

    /// Wraps the data keys of all projects under the current master key, after it changed.
    /// Rewrites no content. Returns how many projects' keys were wrapped anew.
    ///
    /// # Errors
    /// If any cannot be opened or kept.
    pub async fn rewrap(&self) -> Result<usize, ContentError> {
        unimplemented!()
    }

    /// Destroys one data key: what it sealed can never be read again. The project's current key
    /// is replaced first.
    ///
    /// # Errors
    /// If there is no such key, or the backend fails.
    pub async fn shred_key(&self, _project: &Name, _key: DataKeyId) -> Result<(), ContentError> {
        unimplemented!()
    }

    /// Destroys all data keys of a project.
    ///
    /// # Errors
    /// If the backend fails.
    pub async fn shred_project(&self, _project: &Name) -> Result<(), ContentError> {
        unimplemented!()
    }
}

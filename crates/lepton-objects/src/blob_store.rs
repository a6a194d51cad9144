//! Blobs over contents: bytes by SHA-256, cut where their content says, each piece kept once a
//! project, so that what changes little costs little.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures_util::Stream;
use lepton_types::resources::BlobDigest;
use lepton_types::{Name, Timestamp};

use crate::contents::Contents;
use crate::error::ContentError;
use crate::index::BlobIndex;

/// A blob could not be kept or read; `E` is the index's error.
#[derive(Debug, thiserror::Error)]
pub enum BlobStoreError<E: std::error::Error + 'static> {
    /// There is no such blob in the project.
    #[error("no object `{digest}` is in this project")]
    NotFound {
        /// What was asked for.
        digest: BlobDigest,
    },
    /// The bytes could not be kept or read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The index failed.
    #[error("the object index failed")]
    Index(#[source] E),
}

/// A blob that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobSummary {
    /// The SHA-256 of its bytes.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// The blobs of one Lepton. Cheap to clone when the index is.
#[derive(Debug, Clone)]
pub struct BlobStore<I> {
    _contents: Contents,
    _index: I,
}

/// A blob under way. Dropping it leaves nothing that a sweep does not find.
#[derive(Debug)]
pub struct BlobStoreWriter<I> {
    _index: I,
}

#[allow(
    clippy::unused_async,
    clippy::needless_pass_by_value,
    clippy::missing_errors_doc
)]
impl<I: BlobIndex + Clone + 'static> BlobStore<I> {
    /// Over `contents` and the rows in `index`.
    #[must_use]
    pub fn new(_contents: Contents, _index: I) -> Self {
        unimplemented!()
    }

    /// Begins a blob of at most `limit_bytes`.
    pub async fn begin(
        &self,
        _project: &Name,
        _limit_bytes: u64,
    ) -> Result<BlobStoreWriter<I>, BlobStoreError<I::Error>> {
        unimplemented!()
    }

    /// Keeps `bytes`.
    pub async fn put(
        &self,
        _project: &Name,
        _bytes: Bytes,
        _now: Timestamp,
    ) -> Result<BlobSummary, BlobStoreError<I::Error>> {
        unimplemented!()
    }

    /// How long blobs are, of those that are there. They count as used at `now`: no sweep takes
    /// them before its age has passed, so a record that cites them may be written meanwhile.
    pub async fn touch(
        &self,
        _project: &Name,
        _digests: &[BlobDigest],
        _now: Timestamp,
    ) -> Result<std::collections::BTreeMap<BlobDigest, u64>, BlobStoreError<I::Error>> {
        unimplemented!()
    }

    /// Reads a range of a blob (none: all of it), verified; and tells how long the whole is.
    pub async fn read(
        &self,
        _project: &Name,
        _digest: BlobDigest,
        _range: Option<Range<u64>>,
    ) -> Result<
        (
            u64,
            impl Stream<Item = Result<Bytes, ContentError>> + Send + use<I>,
        ),
        BlobStoreError<I::Error>,
    > {
        Ok((0, futures_util::stream::empty()))
    }

    /// Reads a whole blob of at most `limit_bytes` into memory.
    pub async fn read_all(
        &self,
        _project: &Name,
        _digest: BlobDigest,
        _limit_bytes: u64,
    ) -> Result<Bytes, BlobStoreError<I::Error>> {
        unimplemented!()
    }

    /// Writes a blob's plain bytes to file `to`, which must not exist, verified.
    pub async fn copy_to(
        &self,
        _project: &Name,
        _digest: BlobDigest,
        _to: &Path,
    ) -> Result<(), BlobStoreError<I::Error>> {
        unimplemented!()
    }

    /// Forgets blobs that were last used before `before` and are not in `keep`, then pieces that
    /// no blob needs. Read `keep` after `before` was fixed. Returns how many blobs went.
    pub async fn sweep(
        &self,
        _project: &Name,
        _keep: &BTreeSet<BlobDigest>,
        _before: Timestamp,
    ) -> Result<u64, BlobStoreError<I::Error>> {
        unimplemented!()
    }
}

#[allow(
    clippy::unused_async,
    clippy::needless_pass_by_value,
    clippy::missing_errors_doc
)]
impl<I: BlobIndex + Clone + 'static> BlobStoreWriter<I> {
    /// Adds bytes; waits while too much is under way.
    pub async fn write(&mut self, _bytes: Bytes) -> Result<(), BlobStoreError<I::Error>> {
        unimplemented!()
    }

    /// Ends the blob; it is kept and named when this returns.
    pub async fn finish(self, _now: Timestamp) -> Result<BlobSummary, BlobStoreError<I::Error>> {
        unimplemented!()
    }
}

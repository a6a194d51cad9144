//! The bytes that records cite, as handlers and the reconciler use them.
//!
//! Owns: in which words it is said that bytes cannot be kept or had. Must not know: how bytes are
//! sealed, where they lie.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use lepton_objects::{
    BackendError, BlobStore, BlobStoreError, BlobStoreWriter, ContentError, IndexedContents,
    KeyError,
};
use lepton_store::index::{IndexError, Refusal};
use lepton_types::resources::BlobDigest;
use lepton_types::{Clock, DurationMs, Name};

pub(crate) use lepton_objects::BlobSummary;

/// Written at once; pieces of a request's body are smaller.
const WRITE_BYTES: usize = 1 << 20;

/// The bytes of one Lepton. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Blobs {
    store: BlobStore<IndexedContents>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Blobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blobs")
    }
}

/// An upload under way. Dropping it leaves nothing.
pub(crate) struct Upload {
    project: Name,
    writer: BlobStoreWriter<IndexedContents>,
    pending: Vec<u8>,
    clock: Arc<dyn Clock>,
}

/// Bytes could not be kept or had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// There is no such blob in the project.
    #[error("no object `{digest}` is in this project")]
    NotFound {
        /// What was asked for.
        digest: BlobDigest,
    },
    /// It is longer than it may be.
    #[error("the upload is longer than {limit_bytes} bytes")]
    TooLarge {
        /// The bound.
        limit_bytes: u64,
    },
    /// No room is left on the disk.
    #[error("the disk that holds the objects is full")]
    DiskFull,
    /// The bytes are not those that were written, or their key is gone.
    #[error("the object cannot be read back")]
    Damaged(#[source] ContentError),
    /// The project has all that it may have.
    #[error(
        "the quota of project `{project}` does not allow it: `lepton objects usage` tells what it has"
    )]
    QuotaExceeded {
        /// Which project.
        project: Name,
    },
    /// The key that sealed the bytes was destroyed.
    #[error("the key that sealed these bytes was destroyed: nobody can read them any more")]
    Shredded,
    /// A service elsewhere does not answer.
    #[error("the service that holds the objects or their keys cannot be reached")]
    Unreachable(#[source] ContentError),
    /// Anything else that goes wrong below.
    #[error("the object store failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<ContentError> for BlobError {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::TooLarge { limit_bytes } => Self::TooLarge { limit_bytes },
            ContentError::StorageFull => Self::DiskFull,
            ContentError::Key(KeyError::Shredded { .. }) => Self::Shredded,
            error if error.is_passing() => Self::Unreachable(error),
            ContentError::Damaged { .. }
            | ContentError::NotFound { .. }
            | ContentError::Key(_)
            | ContentError::CustomerKey(_)
            | ContentError::OutOfRange { .. } => Self::Damaged(error),
            ContentError::Backend(BackendError::Disk(_) | BackendError::Remote(_)) => {
                Self::Failed(error.into())
            }
        }
    }
}

impl From<BlobStoreError<IndexError>> for BlobError {
    fn from(error: BlobStoreError<IndexError>) -> Self {
        match error {
            BlobStoreError::NotFound { digest } => Self::NotFound { digest },
            BlobStoreError::Content(error) => error.into(),
            BlobStoreError::Index(IndexError::DiskFull) => Self::DiskFull,
            BlobStoreError::Index(error) => Self::Failed(error.into()),
        }
    }
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Failed(error.into()),
        }
    }
}

impl Blobs {
    pub(crate) fn new(store: BlobStore<IndexedContents>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Begins an upload of at most `limit_bytes`.
    pub(crate) async fn begin(
        &self,
        project: &Name,
        limit_bytes: u64,
    ) -> Result<Upload, BlobError> {
        Ok(Upload {
            project: project.clone(),
            writer: self.store.begin(project, limit_bytes).await?,
            pending: Vec::new(),
            clock: Arc::clone(&self.clock),
        })
    }

    /// How long blobs are, of those that are there. No sweep takes them before a record that is
    /// about to cite them can be there.
    pub(crate) async fn sizes(
        &self,
        project: &Name,
        digests: &[BlobDigest],
    ) -> Result<BTreeMap<BlobDigest, u64>, BlobError> {
        let now = self.clock.now();
        Ok(self.store.touch(project, digests, now).await?)
    }

    /// The length of a blob, and its bytes as they are read and verified.
    pub(crate) async fn read(
        &self,
        project: &Name,
        digest: BlobDigest,
    ) -> Result<
        (
            u64,
            impl Stream<Item = Result<Bytes, BlobError>> + Send + use<>,
        ),
        BlobError,
    > {
        let reader = self.store.read(project, digest, None).await?;
        let length = reader.size_bytes();
        Ok((length, reader.into_stream().map_err(BlobError::from)))
    }

    /// A part of a blob; less than `range` if it ends before.
    pub(crate) async fn read_range(
        &self,
        project: &Name,
        digest: BlobDigest,
        range: Range<u64>,
    ) -> Result<Vec<u8>, BlobError> {
        let reader = match self.store.read(project, digest, Some(range.clone())).await {
            Err(BlobStoreError::Content(ContentError::OutOfRange { size_bytes })) => {
                let range = range.start.min(size_bytes)..range.end.min(size_bytes);
                self.store.read(project, digest, Some(range)).await?
            }
            read => read?,
        };
        let mut bytes = Vec::new();
        let mut stream = std::pin::pin!(reader.into_stream());
        while let Some(piece) = stream.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// A whole blob of at most `limit_bytes`.
    pub(crate) async fn read_all(
        &self,
        project: &Name,
        digest: BlobDigest,
        limit_bytes: u64,
    ) -> Result<Bytes, BlobError> {
        Ok(self.store.read_all(project, digest, limit_bytes).await?)
    }

    /// Writes a blob's plain bytes to file `to`, which must not exist.
    pub(crate) async fn copy_to(
        &self,
        project: &Name,
        digest: BlobDigest,
        to: &Path,
    ) -> Result<(), BlobError> {
        Ok(self.store.copy_to(project, digest, to).await?)
    }

    /// Deletes what is not in `keep` and was not used for `age`; returns how many went.
    pub(crate) async fn sweep(
        &self,
        project: &Name,
        keep: BTreeSet<BlobDigest>,
        age: DurationMs,
    ) -> Result<u64, BlobError> {
        let before = self.clock.now() - age;
        Ok(self.store.sweep(project, &keep, before).await?)
    }
}

impl Upload {
    /// Adds bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= WRITE_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), BlobError> {
        let pending = std::mem::take(&mut self.pending);
        Ok(self.writer.write(Bytes::from(pending)).await?)
    }

    /// Ends the upload; it is on disk and has its name when this returns.
    pub(crate) async fn finish(mut self) -> Result<BlobSummary, BlobError> {
        self.flush().await?;
        let project = self.project;
        let finished = self.writer.finish(self.clock.now()).await;
        finished.map_err(|error| match error {
            BlobStoreError::Index(IndexError::Refused(Refusal::QuotaExceeded)) => {
                BlobError::QuotaExceeded { project }
            }
            error => error.into(),
        })
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Arc;

    use lepton_objects::{BlobStore, Contents, ContentsConfig, IndexedContents, MasterWrapper};
    use lepton_store::index::ObjectIndex;
    use lepton_types::SystemClock;

    /// Blobs in a folder, under a key that everybody knows.
    pub(crate) async fn blobs(folder: &std::path::Path) -> super::Blobs {
        let index = ObjectIndex::open(&folder.join("objects.db")).unwrap();
        let wrapper = Arc::new(MasterWrapper::new([7; 32]));
        let config = ContentsConfig::local(folder.join("contents"), wrapper);
        let contents = Contents::open(config).await.unwrap();
        let store = BlobStore::new(contents, IndexedContents::new(index));
        super::Blobs::new(store, Arc::new(SystemClock))
    }
}

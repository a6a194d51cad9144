//! The bytes that records cite, as handlers and the reconciler use them.
//!
//! Owns: keeping disk work off the async threads. Must not know: how bytes are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use lepton_objects::{BlobError, BlobRef, BlobWriter};
use lepton_types::resources::BlobDigest;
use lepton_types::{DurationMs, Name, Timestamp};
use tokio_util::io::ReaderStream;

/// Read from disk at once.
const READ_BYTES: usize = 256 << 10;

/// Written at once; large enough that handing it to another thread costs little.
const WRITE_BYTES: usize = 1 << 20;

/// The bytes of one Lepton. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Blobs(lepton_objects::Blobs);

/// An upload under way. Dropping it leaves nothing.
pub(crate) struct Upload {
    /// Away only while it is written to.
    writer: Option<BlobWriter>,
    pending: Vec<u8>,
}

impl Blobs {
    pub(crate) fn open(folder: &Path) -> Result<Self, BlobError> {
        Ok(Self(lepton_objects::Blobs::open(folder)?))
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&lepton_objects::Blobs) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let blobs = self.0.clone();
        off_thread(move || work(&blobs)).await
    }

    /// Begins an upload of at most `limit_bytes`.
    pub(crate) async fn begin(
        &self,
        project: &Name,
        limit_bytes: u64,
    ) -> Result<Upload, BlobError> {
        let owner = project.clone();
        let writer = self
            .with(move |blobs| blobs.begin(&owner, limit_bytes))
            .await?;
        Ok(Upload {
            writer: Some(writer),
            pending: Vec::new(),
        })
    }

    /// How long blobs are, of those that are there.
    pub(crate) async fn sizes(
        &self,
        project: &Name,
        digests: &[BlobDigest],
    ) -> Result<BTreeMap<BlobDigest, u64>, BlobError> {
        let (owner, digests) = (project.clone(), digests.to_vec());
        self.with(move |blobs| {
            let mut sizes = BTreeMap::new();
            for digest in digests {
                if let Some(size) = blobs.size_of(&owner, digest)? {
                    sizes.insert(digest, size);
                }
            }
            Ok(sizes)
        })
        .await
    }

    /// The length of a blob, and its bytes as they are read.
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
        let owner = project.clone();
        let (file, length) = self
            .with(move |blobs| {
                let file = blobs.open_blob(&owner, digest)?;
                let length = file.metadata()?.len();
                Ok((file, length))
            })
            .await?;
        let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), READ_BYTES);
        Ok((length, stream.map_err(BlobError::from)))
    }

    /// A part of a blob; less than `range` if it ends before.
    pub(crate) async fn read_range(
        &self,
        project: &Name,
        digest: BlobDigest,
        range: Range<u64>,
    ) -> Result<Vec<u8>, BlobError> {
        use std::os::unix::fs::FileExt;
        let owner = project.clone();
        self.with(move |blobs| {
            let file: File = blobs.open_blob(&owner, digest)?;
            let end = range.end.min(file.metadata()?.len());
            let length = usize::try_from(end.saturating_sub(range.start)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, range.start)?;
            Ok(bytes)
        })
        .await
    }

    /// A whole blob of at most `limit_bytes`.
    pub(crate) async fn read_all(
        &self,
        project: &Name,
        digest: BlobDigest,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, BlobError> {
        let owner = project.clone();
        self.with(move |blobs| blobs.read(&owner, digest, limit_bytes))
            .await
    }

    /// Writes a blob to file `to`, which must not exist.
    pub(crate) async fn copy_to(
        &self,
        project: &Name,
        digest: BlobDigest,
        to: &Path,
    ) -> Result<(), BlobError> {
        let (owner, to) = (project.clone(), to.to_owned());
        self.with(move |blobs| {
            let mut file = File::create_new(&to)?;
            io::copy(&mut blobs.open_blob(&owner, digest)?, &mut file)?;
            Ok(())
        })
        .await
    }

    /// The projects that bytes were kept for, those included that are gone by now.
    pub(crate) async fn projects(&self) -> Result<Vec<Name>, BlobError> {
        self.with(lepton_objects::Blobs::projects).await
    }

    /// Deletes what is not in `keep` and was last written before `now - age`; returns how many went.
    pub(crate) async fn sweep(
        &self,
        project: &Name,
        keep: BTreeSet<BlobDigest>,
        now: Timestamp,
        age: DurationMs,
    ) -> Result<u64, BlobError> {
        let owner = project.clone();
        self.with(move |blobs| blobs.sweep(&owner, &keep, now, age))
            .await
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
        let (writer, mut pending) = (self.writer.take(), std::mem::take(&mut self.pending));
        let Some(mut writer) = writer else {
            return Err(BlobError::Disk(io::Error::other(
                "the upload failed before",
            )));
        };
        (self.writer, self.pending) = off_thread(move || {
            writer.write(&pending)?;
            pending.clear();
            Ok((Some(writer), pending))
        })
        .await?;
        Ok(())
    }

    /// Ends the upload; it is on disk and has its name when this returns.
    pub(crate) async fn finish(mut self) -> Result<BlobRef, BlobError> {
        self.flush().await?;
        let writer = self
            .writer
            .take()
            .expect("invariant: a flush that succeeds gives it back");
        off_thread(move || writer.finish()).await
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panicked) => Err(BlobError::Disk(io::Error::other(panicked))),
    }
}

//! Blobs over contents: bytes by SHA-256, cut where their content says, each piece kept once a
//! project, so that what changes little costs little.
//!
//! Owns: that a blob which was acknowledged is whole, and that what an upload found is still
//! there when its blob is recorded. Must not know: who cites a blob.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt;
use lepton_types::resources::BlobDigest;
use lepton_types::{Name, Timestamp};

use crate::backend::block;
use crate::blob_reader::{BlobReader, StoredBlob};
use crate::blob_writer::BlobStoreWriter;
use crate::blobs::Blobs;
use crate::contents::{Contents, NewFile};
use crate::error::ContentError;
use crate::index::BlobIndex;
use crate::pins::PinnedPieces;

/// Read at a time from a plain file.
const IMPORT_BYTES: u64 = 1 << 20;
/// Rows of the index changed in one transaction.
const PAGE: usize = 500;

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

/// The blobs of one Lepton. Cheap to clone when the index is. There must be one `BlobStore`, and
/// clones of it, over an index: uploads and sweeps know of each other through it.
#[derive(Debug, Clone)]
pub struct BlobStore<I> {
    pub(crate) contents: Contents,
    pub(crate) index: I,
    pub(crate) pins: PinnedPieces,
}

impl<I: BlobIndex + Clone + 'static> BlobStore<I> {
    /// Over `contents` and the rows in `index`.
    #[must_use]
    pub fn new(contents: Contents, index: I) -> Self {
        Self {
            contents,
            index,
            pins: PinnedPieces::default(),
        }
    }

    /// The contents that hold the pieces.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Begins a blob of at most `limit_bytes`.
    ///
    /// # Errors
    /// If the project's keys cannot be used.
    pub async fn begin(
        &self,
        project: &Name,
        limit_bytes: u64,
    ) -> Result<BlobStoreWriter<I>, BlobStoreError<I::Error>> {
        let namer = self.contents.piece_namer(project).await?;
        Ok(BlobStoreWriter::new(
            self.clone(),
            project.clone(),
            namer,
            limit_bytes,
        ))
    }

    /// Keeps `bytes`; used at `now`, as [`BlobStoreWriter::finish`] says.
    ///
    /// # Errors
    /// If they cannot be kept.
    pub async fn put(
        &self,
        project: &Name,
        bytes: Bytes,
        now: Timestamp,
    ) -> Result<BlobSummary, BlobStoreError<I::Error>> {
        let mut writer = self.begin(project, u64::MAX).await?;
        writer.write(bytes).await?;
        writer.finish(now).await
    }

    /// How long blobs are, of those that are there. They count as used at `now`: no sweep takes
    /// them before its age has passed, so a record that cites them may be written meanwhile.
    ///
    /// # Errors
    /// If the index fails.
    pub async fn touch(
        &self,
        project: &Name,
        digests: &[BlobDigest],
        now: Timestamp,
    ) -> Result<BTreeMap<BlobDigest, u64>, BlobStoreError<I::Error>> {
        let touched = self.index.touch_blobs(project, digests, now).await;
        touched.map_err(BlobStoreError::Index)
    }

    /// Finds a blob, to be read once or many times.
    ///
    /// # Errors
    /// If it is not there, or the index fails.
    pub async fn find(
        &self,
        project: &Name,
        digest: BlobDigest,
    ) -> Result<StoredBlob, BlobStoreError<I::Error>> {
        let found = self.index.blob(project, digest).await;
        let found = found.map_err(BlobStoreError::Index)?;
        let blob = found.ok_or(BlobStoreError::NotFound { digest })?;
        Ok(StoredBlob::new(
            self.contents.clone(),
            project.clone(),
            blob,
        ))
    }

    /// Reads `range` of a blob (none: all of it), verified. The first bytes have been read when
    /// this returns.
    ///
    /// # Errors
    /// If it is not there, cannot be read, or the range is not within it.
    pub async fn read(
        &self,
        project: &Name,
        digest: BlobDigest,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, BlobStoreError<I::Error>> {
        let blob = self.find(project, digest).await?;
        let range = range.unwrap_or(0..blob.size_bytes());
        Ok(blob.read(range).await?)
    }

    /// Reads a whole blob of at most `limit_bytes` into memory.
    ///
    /// # Errors
    /// If it is not there, is longer, or cannot be read.
    pub async fn read_all(
        &self,
        project: &Name,
        digest: BlobDigest,
        limit_bytes: u64,
    ) -> Result<Bytes, BlobStoreError<I::Error>> {
        let blob = self.find(project, digest).await?;
        if blob.size_bytes() > limit_bytes {
            return Err(ContentError::TooLarge { limit_bytes }.into());
        }
        let reader = blob.read(0..blob.size_bytes()).await?;
        Ok(reader.collect().await?)
    }

    /// Writes a blob's plain bytes to file `to`, which must not exist, verified, for a workload
    /// to read. Nothing is left behind on failure. Not synced.
    ///
    /// # Errors
    /// If the blob is not there or cannot be read, or the file cannot be written.
    pub async fn copy_to(
        &self,
        project: &Name,
        digest: BlobDigest,
        to: &Path,
    ) -> Result<(), BlobStoreError<I::Error>> {
        let reader = self.read(project, digest, None).await?;
        let mut file = NewFile::create(to).await?;
        let mut pieces = std::pin::pin!(reader.into_stream());
        while let Some(bytes) = pieces.next().await {
            file = file.append(bytes?).await?;
        }
        file.keep();
        Ok(())
    }

    /// Forgets blobs that were last used before `before` and are not in `keep`, then pieces that
    /// no blob needs and no upload relies on. Read `keep` after `before` was fixed, and let
    /// `before` be longer ago than it takes to write a record after [`BlobStore::touch`].
    ///
    /// Returns how many blobs went.
    ///
    /// # Errors
    /// If the index fails.
    pub async fn sweep(
        &self,
        project: &Name,
        keep: &BTreeSet<BlobDigest>,
        before: Timestamp,
    ) -> Result<u64, BlobStoreError<I::Error>> {
        let mut gone = 0;
        loop {
            let removed = self.index.remove_blobs(project, keep, before, PAGE).await;
            let removed = removed.map_err(BlobStoreError::Index)?;
            gone += removed as u64;
            if removed < PAGE {
                break;
            }
        }
        self.sweep_pieces(project).await?;
        Ok(gone)
    }

    /// Moves the blobs of the older store in here, whose files were plain: each is kept here,
    /// compared with its digest, and only then removed there. Cut off anywhere, it goes on where
    /// it was when it is called again. They count as used at `now`. What is damaged stays there.
    ///
    /// Returns how many were moved.
    ///
    /// # Errors
    /// If either store fails.
    pub async fn import(
        &self,
        plain: &Blobs,
        now: Timestamp,
    ) -> Result<u64, BlobStoreError<I::Error>> {
        let mut moved = 0;
        for (project, digest) in plain.all().map_err(ContentError::from)? {
            let path = plain.path(&project, digest);
            let file = std::fs::File::open(&path).map_err(ContentError::from)?;
            let mut file = Some(file);
            let mut writer = self.begin(&project, u64::MAX).await?;
            while let Some(reading) = file.take() {
                let (bytes, rest) = block(move || read_part(reading))
                    .await
                    .map_err(ContentError::from)?;
                file = rest;
                writer.write(bytes).await?;
            }
            if writer.digest().await? != digest {
                tracing::error!(%project, %digest, "an object is damaged on disk and was not moved");
                continue;
            }
            writer.finish(now).await?;
            let removed = block(move || std::fs::remove_file(path)).await;
            removed.map_err(ContentError::from)?;
            moved += 1;
        }
        Ok(moved)
    }

    async fn sweep_pieces(&self, project: &Name) -> Result<(), BlobStoreError<I::Error>> {
        let mut after = None;
        loop {
            let page = self.index.unneeded_pieces(project, after, PAGE).await;
            let mut page = page.map_err(BlobStoreError::Index)?;
            let Some(last) = page.last().copied() else {
                return Ok(());
            };
            after = Some(last);
            let _removing = self.pins.removable(project, &mut page).await;
            let removed = self.index.remove_pieces(project, &page).await;
            removed.map_err(BlobStoreError::Index)?;
        }
    }
}

/// The next bytes of a file, and the file if there may be more.
fn read_part(mut file: std::fs::File) -> std::io::Result<(Bytes, Option<std::fs::File>)> {
    let mut bytes = Vec::new();
    let read = Read::by_ref(&mut file)
        .take(IMPORT_BYTES)
        .read_to_end(&mut bytes)?;
    Ok((bytes.into(), (read > 0).then_some(file)))
}

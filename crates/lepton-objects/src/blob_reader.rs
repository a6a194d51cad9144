//! Reading blobs: any range, in order, from the pieces it touches.
//!
//! Owns: which part of which piece a range is. Must not know: how pieces are found or kept.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use lepton_types::Name;

use crate::contents::{Content, Contents};
use crate::error::ContentError;
use crate::index::BlobRecord;
use crate::keys::ContentKey;
use crate::reader::ContentReader;

/// A blob that was found. Cheap to clone; it can be read until a sweep removes it.
#[derive(Debug, Clone)]
pub struct StoredBlob {
    contents: Contents,
    project: Name,
    pieces: Arc<Pieces>,
}

#[derive(Debug)]
struct Pieces {
    contents: Vec<Content>,
    /// Where each piece begins.
    starts: Vec<u64>,
    size_bytes: u64,
}

impl StoredBlob {
    pub(crate) fn new(contents: Contents, project: Name, blob: BlobRecord) -> Self {
        let mut starts = Vec::with_capacity(blob.pieces.len());
        let mut start = 0;
        for piece in &blob.pieces {
            starts.push(start);
            start += piece.size_bytes;
        }
        Self {
            contents,
            project,
            pieces: Arc::new(Pieces {
                contents: blob.pieces,
                starts,
                size_bytes: blob.size_bytes,
            }),
        }
    }

    /// How long the blob is.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.pieces.size_bytes
    }

    /// Reads `range`, verified. The first bytes have been read when this returns.
    ///
    /// # Errors
    /// If the range is not within the blob, or it cannot be read.
    pub async fn read(&self, range: Range<u64>) -> Result<BlobReader, ContentError> {
        let size_bytes = self.size_bytes();
        if range.start > range.end || range.end > size_bytes {
            return Err(ContentError::OutOfRange { size_bytes });
        }
        let starts = &self.pieces.starts;
        // The last piece that begins at or before the range; an empty piece begins where the
        // whole blob does.
        let first = starts.partition_point(|start| *start <= range.start);
        let mut reader = BlobReader {
            next: first.saturating_sub(1),
            blob: self.clone(),
            range,
            reading: None,
        };
        reader.open_next().await?;
        Ok(reader)
    }
}

/// The bytes of a range of a blob.
#[derive(Debug)]
pub struct BlobReader {
    blob: StoredBlob,
    range: Range<u64>,
    reading: Option<ContentReader>,
    next: usize,
}

impl BlobReader {
    /// How long the whole blob is.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.blob.size_bytes()
    }

    /// The bytes in order, each verified before it is given out. Ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, ContentError>> + Send + use<> {
        stream::try_unfold(self, |mut reader| async move {
            Ok(reader.next().await?.map(|bytes| (bytes, reader)))
        })
    }

    /// The whole range in memory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn collect(mut self) -> Result<Bytes, ContentError> {
        let length = usize::try_from(self.range.end - self.range.start);
        let mut bytes = Vec::with_capacity(length.unwrap_or_default());
        while let Some(piece) = self.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        while let Some(reading) = &mut self.reading {
            match reading.next().await {
                Some(bytes) => return bytes.map(Some),
                None => self.open_next().await?,
            }
        }
        Ok(None)
    }

    /// Opens the next piece that the range touches; the first in any case, so that something is
    /// verified.
    async fn open_next(&mut self) -> Result<(), ContentError> {
        let is_first = self.reading.take().is_none();
        let pieces = &self.blob.pieces;
        let place = pieces
            .contents
            .get(self.next)
            .zip(pieces.starts.get(self.next));
        let Some((piece, start)) = place.filter(|(_, start)| is_first || **start < self.range.end)
        else {
            return Ok(());
        };
        let end = start + piece.size_bytes;
        let part =
            self.range.start.clamp(*start, end) - start..self.range.end.clamp(*start, end) - start;
        let key = ContentKey::Project;
        let contents = &self.blob.contents;
        let reading = contents.read(&self.blob.project, piece, &key, part).await?;
        self.reading = Some(reading);
        self.next += 1;
        Ok(())
    }
}

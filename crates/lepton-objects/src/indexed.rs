//! The object index as the bytes ask it: which contents are named, and the rows of blobs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lepton_store::index::{self, IndexError, NewBlobPiece, NewBlobRow, ObjectIndex, StoredPiece};
use lepton_types::resources::BlobDigest;
use lepton_types::{ContentId, Name, Timestamp};

use crate::{BlobIndex, BlobRecord, Content, ContentIndex, NewBlob, NewPiece, PieceKey};

/// The object index, asked about contents and blobs. Cheap to clone.
#[derive(Clone)]
pub struct IndexedContents {
    index: ObjectIndex,
}

impl IndexedContents {
    /// Asks this index.
    #[must_use]
    pub fn new(index: ObjectIndex) -> Self {
        Self { index }
    }
}

fn content_of(piece: StoredPiece) -> Content {
    Content {
        id: piece.content,
        size_bytes: piece.size_bytes,
        inline: piece.inline.map(Bytes::from),
    }
}

fn row_of(content: &Content) -> index::Piece {
    index::Piece {
        content: content.id,
        size_bytes: content.size_bytes,
        inline: content.inline.as_ref().map(|bytes| bytes.to_vec()),
    }
}

impl ContentIndex for IndexedContents {
    type Error = IndexError;

    async fn named(
        &self,
        project: &Name,
        ids: &[ContentId],
    ) -> Result<BTreeSet<ContentId>, IndexError> {
        self.index.named(project, ids.to_vec()).await
    }

    async fn contents_after(
        &self,
        project: &Name,
        after: Option<ContentId>,
        limit: usize,
    ) -> Result<Vec<Content>, IndexError> {
        let found = self.index.contents_after(project, after, limit).await?;
        Ok(found.into_iter().map(content_of).collect())
    }
}

impl BlobIndex for IndexedContents {
    type Error = IndexError;

    async fn blob(
        &self,
        project: &Name,
        digest: BlobDigest,
    ) -> Result<Option<BlobRecord>, IndexError> {
        let found = self.index.blob(project, digest).await?;
        Ok(found.map(|row| BlobRecord {
            size_bytes: row.size_bytes,
            pieces: row.pieces.into_iter().map(content_of).collect(),
        }))
    }

    async fn pieces(
        &self,
        project: &Name,
        keys: &[PieceKey],
    ) -> Result<BTreeMap<PieceKey, ContentId>, IndexError> {
        let keys = keys.iter().map(|key| key.0).collect();
        let found = self.index.blob_pieces(project, keys).await?;
        Ok(found
            .into_iter()
            .map(|(key, content)| (PieceKey(key), content))
            .collect())
    }

    async fn record_blob(
        &self,
        project: &Name,
        blob: NewBlob,
        now: Timestamp,
    ) -> Result<Vec<ContentId>, IndexError> {
        let pieces = blob.pieces.iter().map(|piece| match piece {
            NewPiece::Known { key, content } => NewBlobPiece::Known {
                key: key.0,
                content: *content,
            },
            NewPiece::Written(piece) => NewBlobPiece::Written {
                key: piece.key.0,
                piece: row_of(&piece.content),
            },
        });
        let row = NewBlobRow {
            digest: blob.digest,
            size_bytes: blob.size_bytes,
            pieces: pieces.collect(),
        };
        self.index.record_blob(project, row, now).await
    }

    async fn touch_blobs(
        &self,
        project: &Name,
        digests: &[BlobDigest],
        now: Timestamp,
    ) -> Result<BTreeMap<BlobDigest, u64>, IndexError> {
        self.index.touch_blobs(project, digests.to_vec(), now).await
    }

    async fn remove_blobs(
        &self,
        project: &Name,
        keep: &BTreeSet<BlobDigest>,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, IndexError> {
        self.index
            .remove_blobs(project, keep.clone(), before, limit)
            .await
    }

    async fn unneeded_pieces(
        &self,
        project: &Name,
        after: Option<PieceKey>,
        limit: usize,
    ) -> Result<Vec<PieceKey>, IndexError> {
        let after = after.map(|after| after.0);
        let found = self.index.unneeded_pieces(project, after, limit).await?;
        Ok(found.into_iter().map(PieceKey).collect())
    }

    async fn remove_pieces(&self, project: &Name, keys: &[PieceKey]) -> Result<usize, IndexError> {
        let keys = keys.iter().map(|key| key.0).collect();
        self.index.remove_pieces(project, keys).await
    }
}

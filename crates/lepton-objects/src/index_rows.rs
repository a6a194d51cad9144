//! The object index of the store, as contents and blobs ask for it.
//!
//! Owns: saying the same in both vocabularies. Must not know: SQL, or why anything is asked.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lepton_store::index::{
    self, IndexError, NewBlobPiece, NewBlobRow, ObjectIndex, StoredPiece,
};
use lepton_types::resources::BlobDigest;
use lepton_types::{ContentId, Name, Timestamp};

use crate::{BlobIndex, BlobRecord, Content, ContentIndex, NewBlob, NewPiece, PieceKey};

fn content_of(stored: StoredPiece) -> Content {
    Content {
        id: stored.content,
        size_bytes: stored.size_bytes,
        inline: stored.inline.map(Bytes::from),
    }
}

impl ContentIndex for ObjectIndex {
    type Error = IndexError;

    async fn named(
        &self,
        project: &Name,
        ids: &[ContentId],
    ) -> Result<BTreeSet<ContentId>, IndexError> {
        Self::named(self, project, ids.to_vec()).await
    }

    async fn contents_after(
        &self,
        project: &Name,
        after: Option<ContentId>,
        limit: usize,
    ) -> Result<Vec<Content>, IndexError> {
        let found = Self::contents_after(self, project, after, limit).await?;
        Ok(found.into_iter().map(content_of).collect())
    }
}

impl BlobIndex for ObjectIndex {
    type Error = IndexError;

    async fn blob(
        &self,
        project: &Name,
        digest: BlobDigest,
    ) -> Result<Option<BlobRecord>, IndexError> {
        let found = Self::blob(self, project, digest).await?;
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
        let found = self.blob_pieces(project, keys).await?;
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
        let piece = |piece: NewPiece| match piece {
            NewPiece::Known { key, content } => NewBlobPiece::Known {
                key: key.0,
                content,
            },
            NewPiece::Written(piece) => NewBlobPiece::Written {
                key: piece.key.0,
                piece: index::Piece {
                    content: piece.content.id,
                    size_bytes: piece.content.size_bytes,
                    inline: piece.content.inline.map(Vec::from),
                },
            },
        };
        let row = NewBlobRow {
            digest: blob.digest,
            size_bytes: blob.size_bytes,
            pieces: blob.pieces.into_iter().map(piece).collect(),
        };
        Self::record_blob(self, project, row, now).await
    }

    async fn touch_blobs(
        &self,
        project: &Name,
        digests: &[BlobDigest],
        now: Timestamp,
    ) -> Result<BTreeMap<BlobDigest, u64>, IndexError> {
        Self::touch_blobs(self, project, digests.to_vec(), now).await
    }

    async fn remove_blobs(
        &self,
        project: &Name,
        keep: &BTreeSet<BlobDigest>,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, IndexError> {
        Self::remove_blobs(self, project, keep.clone(), before, limit).await
    }

    async fn unneeded_pieces(
        &self,
        project: &Name,
        after: Option<PieceKey>,
        limit: usize,
    ) -> Result<Vec<PieceKey>, IndexError> {
        let after = after.map(|key| key.0);
        let found = Self::unneeded_pieces(self, project, after, limit).await?;
        Ok(found.into_iter().map(PieceKey).collect())
    }

    async fn remove_pieces(&self, project: &Name, keys: &[PieceKey]) -> Result<usize, IndexError> {
        let keys = keys.iter().map(|key| key.0).collect();
        Self::remove_pieces(self, project, keys).await
    }
}

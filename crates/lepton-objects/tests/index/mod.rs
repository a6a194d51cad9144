//! An index in memory, for tests of what is built on one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lepton_objects::{BlobIndex, BlobRecord, Content, ContentIndex, NewBlob, NewPiece, PieceKey};
use lepton_types::resources::BlobDigest;
use lepton_types::{ContentId, Name, Timestamp};

/// The rows. Clones are the same index.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryIndex(Arc<Mutex<Rows>>);

#[derive(Debug, Default)]
struct Rows {
    contents: BTreeMap<(Name, ContentId), Content>,
    pieces: BTreeMap<(Name, PieceKey), Content>,
    blobs: BTreeMap<(Name, BlobDigest), Blob>,
}

#[derive(Debug)]
struct Blob {
    size_bytes: u64,
    pieces: Vec<PieceKey>,
    used_at: Timestamp,
}

/// A blob needs a piece that is not there.
#[derive(Debug, thiserror::Error)]
#[error("a piece is not there")]
pub(crate) struct PieceNotFound;

#[allow(dead_code, reason = "each test uses a part")]
impl MemoryIndex {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self, project: &Name, content: Content) {
        let key = (project.clone(), content.id);
        self.rows().contents.insert(key, content);
    }

    pub(crate) fn forget(&self, project: &Name, content: ContentId) {
        self.rows().contents.remove(&(project.clone(), content));
    }

    pub(crate) fn pieces_total(&self) -> usize {
        self.rows().pieces.len()
    }
}

impl Rows {
    fn is_needed(&self, project: &Name, key: PieceKey) -> bool {
        let mut blobs = self.blobs.iter();
        blobs.any(|((of, _), blob)| of == project && blob.pieces.contains(&key))
    }

    fn all(&self, project: &Name) -> BTreeMap<ContentId, Content> {
        let contents = self.contents.iter().filter(|((of, _), _)| of == project);
        let pieces = self.pieces.iter().filter(|((of, _), _)| of == project);
        let contents = contents.map(|(_, content)| content);
        let all = contents.chain(pieces.map(|(_, content)| content));
        all.map(|content| (content.id, content.clone())).collect()
    }
}

impl ContentIndex for MemoryIndex {
    type Error = PieceNotFound;

    async fn named(
        &self,
        project: &Name,
        ids: &[ContentId],
    ) -> Result<BTreeSet<ContentId>, PieceNotFound> {
        let all = self.rows().all(project);
        Ok(ids
            .iter()
            .copied()
            .filter(|id| all.contains_key(id))
            .collect())
    }

    async fn contents_after(
        &self,
        project: &Name,
        after: Option<ContentId>,
        limit: usize,
    ) -> Result<Vec<Content>, PieceNotFound> {
        let all = self.rows().all(project).into_values();
        let later = all.filter(|content| after.is_none_or(|after| content.id > after));
        Ok(later.take(limit).collect())
    }
}

impl BlobIndex for MemoryIndex {
    type Error = PieceNotFound;

    async fn blob(
        &self,
        project: &Name,
        digest: BlobDigest,
    ) -> Result<Option<BlobRecord>, PieceNotFound> {
        let rows = self.rows();
        let Some(blob) = rows.blobs.get(&(project.clone(), digest)) else {
            return Ok(None);
        };
        let pieces = blob.pieces.iter();
        let pieces = pieces.map(|key| rows.pieces.get(&(project.clone(), *key)).cloned());
        Ok(Some(BlobRecord {
            size_bytes: blob.size_bytes,
            pieces: pieces.collect::<Option<_>>().ok_or(PieceNotFound)?,
        }))
    }

    async fn pieces(
        &self,
        project: &Name,
        keys: &[PieceKey],
    ) -> Result<BTreeMap<PieceKey, ContentId>, PieceNotFound> {
        let rows = self.rows();
        let found = keys.iter().filter_map(|key| {
            let piece = rows.pieces.get(&(project.clone(), *key))?;
            Some((*key, piece.id))
        });
        Ok(found.collect())
    }

    async fn record_blob(
        &self,
        project: &Name,
        blob: NewBlob,
        now: Timestamp,
    ) -> Result<Vec<ContentId>, PieceNotFound> {
        let mut rows = self.rows();
        for piece in &blob.pieces {
            if let NewPiece::Known { key, content } = piece {
                let found = rows.pieces.get(&(project.clone(), *key));
                found.filter(|it| it.id == *content).ok_or(PieceNotFound)?;
            }
        }
        let (mut keys, mut unused) = (Vec::new(), Vec::new());
        for piece in blob.pieces {
            match piece {
                NewPiece::Known { key, .. } => keys.push(key),
                NewPiece::Written(piece) => {
                    keys.push(piece.key);
                    let id = piece.content.id;
                    let row = rows.pieces.entry((project.clone(), piece.key));
                    if row.or_insert(piece.content).id != id {
                        unused.push(id);
                    }
                }
            }
        }
        let row = Blob {
            size_bytes: blob.size_bytes,
            pieces: keys,
            used_at: now,
        };
        rows.blobs.insert((project.clone(), blob.digest), row);
        Ok(unused)
    }

    async fn touch_blobs(
        &self,
        project: &Name,
        digests: &[BlobDigest],
        now: Timestamp,
    ) -> Result<BTreeMap<BlobDigest, u64>, PieceNotFound> {
        let mut rows = self.rows();
        let found = digests.iter().filter_map(|digest| {
            let blob = rows.blobs.get_mut(&(project.clone(), *digest))?;
            blob.used_at = now;
            Some((*digest, blob.size_bytes))
        });
        Ok(found.collect())
    }

    async fn remove_blobs(
        &self,
        project: &Name,
        keep: &BTreeSet<BlobDigest>,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, PieceNotFound> {
        let mut rows = self.rows();
        let old = rows.blobs.iter().filter(|((of, digest), blob)| {
            of == project && blob.used_at < before && !keep.contains(digest)
        });
        let old: Vec<_> = old.take(limit).map(|(key, _)| key.clone()).collect();
        for key in &old {
            rows.blobs.remove(key);
        }
        Ok(old.len())
    }

    async fn unneeded_pieces(
        &self,
        project: &Name,
        after: Option<PieceKey>,
        limit: usize,
    ) -> Result<Vec<PieceKey>, PieceNotFound> {
        let rows = self.rows();
        let keys = rows.pieces.keys().filter(|(of, key)| {
            of == project
                && after.is_none_or(|after| *key > after)
                && !rows.is_needed(project, *key)
        });
        Ok(keys.take(limit).map(|(_, key)| *key).collect())
    }

    async fn remove_pieces(
        &self,
        project: &Name,
        keys: &[PieceKey],
    ) -> Result<usize, PieceNotFound> {
        let mut rows = self.rows();
        let mut removed = 0;
        for key in keys {
            if !rows.is_needed(project, *key) {
                let row = rows.pieces.remove(&(project.clone(), *key));
                removed += usize::from(row.is_some());
            }
        }
        Ok(removed)
    }
}

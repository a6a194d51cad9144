//! Blobs: bytes by their SHA-256, over pieces that a project keeps once.

use std::collections::{BTreeMap, BTreeSet};

use lepton_types::resources::BlobDigest;
use lepton_types::{ContentId, Name, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::bodies::{content_of, discard_content, record_content};
use super::metering::STANDARD;
use super::usage::{charge, signed};
use super::{IndexError, ObjectIndex, Piece, Refusal, StoredPiece};

/// The keyed digest of a piece.
type Key = [u8; 32];

/// A blob to be recorded.
#[derive(Debug, Clone)]
pub struct NewBlobRow {
    /// The SHA-256 of its bytes.
    pub digest: BlobDigest,
    /// Its length.
    pub size_bytes: u64,
    /// Its pieces in order; the same may occur twice.
    pub pieces: Vec<NewBlobPiece>,
}

/// A piece of a blob to be recorded.
#[derive(Debug, Clone)]
pub enum NewBlobPiece {
    /// One that is there.
    Known {
        /// Its key.
        key: Key,
        /// Its content.
        content: ContentId,
    },
    /// One that was just written.
    Written {
        /// Its key.
        key: Key,
        /// Its content.
        piece: Piece,
    },
}

/// A blob that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRow {
    /// Its length.
    pub size_bytes: u64,
    /// Its pieces in order.
    pub pieces: Vec<StoredPiece>,
}

/// A piece's key, as pages of pieces give it.
pub type BlobPiece = Key;

fn content_under(
    connection: &Connection,
    project: &str,
    key: &Key,
) -> Result<Option<ContentId>, IndexError> {
    Ok(connection
        .prepare_cached("SELECT content FROM pieces WHERE project = ?1 AND key = ?2")?
        .query_row(params![project, key], |row| row.get(0))
        .optional()?
        .map(content_of))
}

fn note_use(
    connection: &Connection,
    project: &str,
    digest: BlobDigest,
    now: Timestamp,
) -> Result<Option<u64>, IndexError> {
    Ok(connection
        .prepare_cached(
            "UPDATE blobs SET used_at = MAX(used_at, ?1) WHERE project = ?2 AND digest = ?3
             RETURNING size",
        )?
        .query_row(
            params![now.as_millis(), project, digest.to_bytes()],
            |row| row.get(0),
        )
        .optional()?)
}

fn record(
    connection: &Connection,
    project: &str,
    blob: &NewBlobRow,
    now: Timestamp,
) -> Result<Vec<ContentId>, IndexError> {
    let digest = blob.digest.to_bytes();
    connection
        .prepare_cached(
            "INSERT INTO blobs (project, digest, size, used_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (project, digest) DO UPDATE SET used_at = MAX(used_at, excluded.used_at)",
        )?
        .execute(params![project, digest, blob.size_bytes, now.as_millis()])?;
    release_pieces(connection, project, digest)?;
    let mut unused = Vec::new();
    for (ordinal, piece) in blob.pieces.iter().enumerate() {
        let key = match piece {
            NewBlobPiece::Known { key, content } => {
                if content_under(connection, project, key)? != Some(*content) {
                    return Err(Refusal::NoSuchPiece.into());
                }
                key
            }
            NewBlobPiece::Written { key, piece } => {
                match content_under(connection, project, key)? {
                    Some(there) if there == piece.content => {}
                    Some(_) => unused.push(piece.content),
                    None => {
                        record_content(connection, project, piece)?;
                        let counted = signed(piece.size_bytes);
                        charge(connection, project, STANDARD, counted, 0)?;
                        connection
                            .prepare_cached(
                                "INSERT INTO pieces (project, key, content, needed) VALUES (?1, ?2, ?3, 0)",
                            )?
                            .execute(params![project, key, piece.content.id().to_bytes()])?;
                    }
                }
                key
            }
        };
        connection
            .prepare_cached(
                "INSERT INTO blob_pieces (project, digest, ordinal, piece) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![project, digest, ordinal, key])?;
        connection
            .prepare_cached(
                "UPDATE pieces SET needed = needed + 1 WHERE project = ?1 AND key = ?2",
            )?
            .execute(params![project, key])?;
    }
    Ok(unused)
}

/// Lets a blob need none of its pieces any more.
fn release_pieces(
    connection: &Connection,
    project: &str,
    digest: [u8; 32],
) -> Result<(), IndexError> {
    let pieces: Vec<Key> = connection
        .prepare_cached(
            "DELETE FROM blob_pieces WHERE project = ?1 AND digest = ?2 RETURNING piece",
        )?
        .query_map(params![project, digest], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for key in pieces {
        connection
            .prepare_cached(
                "UPDATE pieces SET needed = needed - 1 WHERE project = ?1 AND key = ?2",
            )?
            .execute(params![project, key])?;
    }
    Ok(())
}

/// Blobs that may go, at most `limit`.
fn unused(
    connection: &Connection,
    project: &str,
    keep: &BTreeSet<BlobDigest>,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<[u8; 32]>, IndexError> {
    let mut found = Vec::new();
    let mut old = connection.prepare_cached(
        "SELECT digest FROM blobs WHERE project = ?1 AND used_at < ?2 AND held = 0
         ORDER BY digest",
    )?;
    let mut rows = old.query(params![project, before.as_millis()])?;
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let digest: [u8; 32] = row.get(0)?;
        if !keep.contains(&BlobDigest::from_bytes(digest)) {
            found.push(digest);
        }
    }
    Ok(found)
}

/// Removes those that were not used since.
fn remove(
    connection: &Connection,
    project: &str,
    digests: &[[u8; 32]],
    before: Timestamp,
) -> Result<usize, IndexError> {
    let mut gone = 0;
    for digest in digests {
        let removed = connection
            .prepare_cached(
                "DELETE FROM blobs
                 WHERE project = ?1 AND digest = ?2 AND used_at < ?3 AND held = 0",
            )?
            .execute(params![project, digest, before.as_millis()])?;
        if removed > 0 {
            release_pieces(connection, project, *digest)?;
            gone += 1;
        }
    }
    Ok(gone)
}

/// The pieces of a blob, in order.
pub(super) fn pieces(
    connection: &Connection,
    project: &str,
    digest: [u8; 32],
) -> Result<Vec<StoredPiece>, IndexError> {
    Ok(connection
        .prepare_cached(
            "SELECT contents.id, contents.size, contents.bytes FROM blob_pieces
             JOIN pieces ON pieces.project = ?1 AND pieces.key = blob_pieces.piece
             JOIN contents ON contents.project = ?1 AND contents.id = pieces.content
             WHERE blob_pieces.project = ?1 AND digest = ?2 ORDER BY ordinal",
        )?
        .query_map(params![project, digest], |row| {
            Ok(StoredPiece {
                content: content_of(row.get(0)?),
                size_bytes: row.get(1)?,
                inline: row.get(2)?,
            })
        })?
        .collect::<Result<_, _>>()?)
}

impl ObjectIndex {
    /// A blob of a project.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn blob(
        &self,
        project: &Name,
        digest: BlobDigest,
    ) -> Result<Option<BlobRow>, IndexError> {
        let project = project.to_string();
        self.read(move |connection| {
            let digest = digest.to_bytes();
            let size_bytes: Option<u64> = connection
                .prepare_cached("SELECT size FROM blobs WHERE project = ?1 AND digest = ?2")?
                .query_row(params![project, digest], |row| row.get(0))
                .optional()?;
            let Some(size_bytes) = size_bytes else {
                return Ok(None);
            };
            let pieces = pieces(connection, &project, digest)?;
            Ok(Some(BlobRow { size_bytes, pieces }))
        })
        .await
    }

    /// Which of `keys` a project has, with their contents.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn blob_pieces(
        &self,
        project: &Name,
        keys: Vec<BlobPiece>,
    ) -> Result<BTreeMap<BlobPiece, ContentId>, IndexError> {
        let project = project.to_string();
        self.read(move |connection| {
            let mut found = BTreeMap::new();
            for key in keys {
                if let Some(content) = content_under(connection, &project, &key)? {
                    found.insert(key, content);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Records a blob; returns the written contents that are not recorded, as others serve.
    ///
    /// # Errors
    /// If a known piece is not there under the content named.
    pub async fn record_blob(
        &self,
        project: &Name,
        blob: NewBlobRow,
        now: Timestamp,
    ) -> Result<Vec<ContentId>, IndexError> {
        let project = project.to_string();
        self.write(move |connection| record(connection, &project, &blob, now))
            .await
    }

    /// Notes that blobs are used, and tells the lengths of those that are there.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn touch_blobs(
        &self,
        project: &Name,
        digests: Vec<BlobDigest>,
        now: Timestamp,
    ) -> Result<BTreeMap<BlobDigest, u64>, IndexError> {
        let project = project.to_string();
        self.write(move |connection| {
            let mut found = BTreeMap::new();
            for digest in digests {
                if let Some(size) = note_use(connection, &project, digest, now)? {
                    found.insert(digest, size);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Removes at most `limit` blobs last used before `before` that are not in `keep`.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn remove_blobs(
        &self,
        project: &Name,
        keep: BTreeSet<BlobDigest>,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, IndexError> {
        let project = project.to_string();
        let of = project.clone();
        // The search takes long where much is kept, and must not keep writers waiting.
        let found = self
            .read(move |connection| unused(connection, &of, &keep, before, limit))
            .await?;
        self.write(move |connection| remove(connection, &project, &found, before))
            .await
    }

    /// Pieces that no blob needs, with keys after `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn unneeded_pieces(
        &self,
        project: &Name,
        after: Option<BlobPiece>,
        limit: usize,
    ) -> Result<Vec<BlobPiece>, IndexError> {
        let project = project.to_string();
        let after = after.map_or(Vec::new(), |after| after.to_vec());
        self.read(move |connection| {
            let found = connection
                .prepare_cached(
                    "SELECT key FROM pieces WHERE project = ?1 AND needed = 0 AND key > ?2
                     ORDER BY key LIMIT ?3",
                )?
                .query_map(params![project, after, limit], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(found)
        })
        .await
    }

    /// Removes those of `keys` that no blob needs; their contents become garbage.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn remove_pieces(
        &self,
        project: &Name,
        keys: Vec<BlobPiece>,
    ) -> Result<usize, IndexError> {
        let project = project.to_string();
        self.write(move |connection| {
            let mut gone = 0;
            for key in keys {
                let content: Option<[u8; 16]> = connection
                    .prepare_cached(
                        "DELETE FROM pieces WHERE project = ?1 AND key = ?2 AND needed = 0
                         RETURNING content",
                    )?
                    .query_row(params![project, key], |row| row.get(0))
                    .optional()?;
                if let Some(content) = content {
                    let size = discard_content(connection, &project, content_of(content))?;
                    charge(connection, &project, STANDARD, -signed(size), 0)?;
                    gone += 1;
                }
            }
            Ok(gone)
        })
        .await
    }
}

//! Bodies: which sealed contents a version's or part's bytes are, who shares them, and what of
//! them is garbage.

use std::collections::BTreeSet;

use lepton_types::resources::BlobDigest;
use lepton_types::{ContentId, Id, Name};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{IndexError, ObjectIndex, Refusal, StoredPiece, blobs};

/// A body's number; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId(pub(super) i64);

/// A piece that was just written, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The content.
    pub content: ContentId,
    /// Its length.
    pub size_bytes: u64,
    /// Its sealed bytes, if the index is to keep them.
    pub inline: Option<Vec<u8>>,
}

/// Contents that nothing names any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// Whose.
    pub project: Name,
    /// Which.
    pub contents: Vec<ContentId>,
}

/// What one piece takes in a body's row: the content's id and its length, big endian.
const PIECE_BYTES: usize = 24;

/// Records a body of new contents, held once.
pub(super) fn record(
    connection: &Connection,
    project: &str,
    pieces: &[Piece],
) -> Result<BodyId, IndexError> {
    for piece in pieces {
        record_content(connection, project, piece)?;
    }
    let list = pieces.iter().map(|piece| (piece.content, piece.size_bytes));
    insert(connection, project, &encode(list))
}

pub(super) fn record_content(
    connection: &Connection,
    project: &str,
    piece: &Piece,
) -> Result<(), IndexError> {
    connection
        .prepare_cached("INSERT INTO contents (project, id, size, bytes) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            project,
            piece.content.id().to_bytes(),
            piece.size_bytes,
            piece.inline,
        ])?;
    Ok(())
}

fn insert(connection: &Connection, project: &str, pieces: &[u8]) -> Result<BodyId, IndexError> {
    connection
        .prepare_cached("INSERT INTO bodies (project, shared, pieces) VALUES (?1, 1, ?2)")?
        .execute(params![project, pieces])?;
    Ok(BodyId(connection.last_insert_rowid()))
}

/// Records a body of a blob's bytes, held once; the blob stays while it is there.
pub(super) fn of_blob(
    connection: &Connection,
    project: &str,
    digest: BlobDigest,
) -> Result<BodyId, IndexError> {
    let digest = digest.to_bytes();
    let held = connection
        .prepare_cached("UPDATE blobs SET held = held + 1 WHERE project = ?1 AND digest = ?2")?
        .execute(params![project, digest])?;
    if held == 0 {
        return Err(Refusal::NoSuchPiece.into());
    }
    // Which pieces they are is asked when they are read: a blob that is kept again may change them.
    connection
        .prepare_cached(
            "INSERT INTO bodies (project, shared, pieces, blob) VALUES (?1, 1, x'', ?2)",
        )?
        .execute(params![project, digest])?;
    Ok(BodyId(connection.last_insert_rowid()))
}

/// Lets one more version hold a body.
pub(super) fn share(connection: &Connection, body: BodyId) -> Result<(), IndexError> {
    let shared = connection
        .prepare_cached("UPDATE bodies SET shared = shared + 1 WHERE id = ?1")?
        .execute([body.0])?;
    match shared {
        1 => Ok(()),
        _ => Err(Refusal::NoSuchObject.into()),
    }
}

/// Lets go of a body; the last to do so makes its contents garbage.
pub(super) fn release(connection: &Connection, body: BodyId) -> Result<(), IndexError> {
    let left: Option<i64> = connection
        .prepare_cached("UPDATE bodies SET shared = shared - 1 WHERE id = ?1 RETURNING shared")?
        .query_row([body.0], |row| row.get(0))
        .optional()?;
    if left != Some(0) {
        return Ok(());
    }
    let (project, pieces, blob): (String, Vec<u8>, Option<[u8; 32]>) = connection
        .prepare_cached("DELETE FROM bodies WHERE id = ?1 RETURNING project, pieces, blob")?
        .query_row([body.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if let Some(digest) = blob {
        connection
            .prepare_cached("UPDATE blobs SET held = held - 1 WHERE project = ?1 AND digest = ?2")?
            .execute(params![project, digest])?;
        return Ok(());
    }
    for (content, _) in decode(&pieces)? {
        discard_content(connection, &project, content)?;
    }
    Ok(())
}

/// Forgets a content that nothing names any more; what the backend keeps of it becomes garbage.
/// Tells its length.
pub(super) fn discard_content(
    connection: &Connection,
    project: &str,
    content: ContentId,
) -> Result<u64, IndexError> {
    let id = content.id().to_bytes();
    let gone: Option<(bool, u64)> = connection
        .prepare_cached(
            "DELETE FROM contents WHERE project = ?1 AND id = ?2 RETURNING bytes IS NOT NULL, size",
        )?
        .query_row(params![project, id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((false, _)) = gone {
        connection
            .prepare_cached(
                "INSERT INTO garbage (project, id) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )?
            .execute(params![project, id])?;
    }
    Ok(gone.map_or(0, |(_, size)| size))
}

/// What a version of this body counts: nothing if the bytes are a blob's, which count as such.
pub(super) fn counted_bytes(
    connection: &Connection,
    body: BodyId,
    size_bytes: u64,
) -> Result<u64, IndexError> {
    let is_blob: bool = connection
        .prepare_cached("SELECT blob IS NOT NULL FROM bodies WHERE id = ?1")?
        .query_row([body.0], |row| row.get(0))?;
    Ok(if is_blob { 0 } else { size_bytes })
}

/// Makes one body of several, in their order; each of them is taken up, and must be held once.
pub(super) fn join(
    connection: &Connection,
    project: &str,
    bodies: &[BodyId],
) -> Result<BodyId, IndexError> {
    let mut pieces = Vec::new();
    for body in bodies {
        let part: Vec<u8> = connection
            .prepare_cached("DELETE FROM bodies WHERE id = ?1 RETURNING pieces")?
            .query_row([body.0], |row| row.get(0))?;
        pieces.extend_from_slice(&part);
    }
    insert(connection, project, &pieces)
}

/// The pieces of a body, in order.
pub(super) fn stored(
    connection: &Connection,
    body: BodyId,
) -> Result<Vec<StoredPiece>, IndexError> {
    let (project, pieces, blob): (String, Vec<u8>, Option<[u8; 32]>) = connection
        .prepare_cached("SELECT project, pieces, blob FROM bodies WHERE id = ?1")?
        .query_row([body.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if let Some(digest) = blob {
        return blobs::pieces(connection, &project, digest);
    }
    let mut inline =
        connection.prepare_cached("SELECT bytes FROM contents WHERE project = ?1 AND id = ?2")?;
    let pieces = decode(&pieces)?.map(|(content, size_bytes)| {
        Ok(StoredPiece {
            content,
            size_bytes,
            inline: inline
                .query_row(params![project, content.id().to_bytes()], |row| row.get(0))?,
        })
    });
    pieces.collect()
}

fn encode(pieces: impl Iterator<Item = (ContentId, u64)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (content, size) in pieces {
        bytes.extend_from_slice(&content.id().to_bytes());
        bytes.extend_from_slice(&size.to_be_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Result<impl Iterator<Item = (ContentId, u64)> + '_, IndexError> {
    if !bytes.len().is_multiple_of(PIECE_BYTES) {
        return Err(IndexError::Corrupt { what: "a body" });
    }
    Ok(bytes.chunks_exact(PIECE_BYTES).map(|piece| {
        let id = piece[..16].try_into().expect("invariant: 16 of 24 bytes");
        let size = piece[16..].try_into().expect("invariant: 8 of 24 bytes");
        (
            ContentId::from(Id::from_bytes(id)),
            u64::from_be_bytes(size),
        )
    }))
}

impl ObjectIndex {
    /// The pieces of a body, in order.
    ///
    /// # Errors
    /// If it is gone, or the index cannot be read.
    pub async fn pieces(&self, body: BodyId) -> Result<Vec<StoredPiece>, IndexError> {
        self.read(move |connection| stored(connection, body)).await
    }

    /// Some of the garbage of one project that comes after a content of another call, at most `limit`
    /// contents; none if there is none.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn garbage(
        &self,
        after: Option<(Name, ContentId)>,
        limit: usize,
    ) -> Result<Option<Garbage>, IndexError> {
        let (project, after) = match after {
            Some((project, content)) => (project.to_string(), content.id().to_bytes().to_vec()),
            None => (String::new(), Vec::new()),
        };
        self.read(move |connection| {
            let first: Option<(String, [u8; 16])> = connection
                .prepare_cached(
                    "SELECT project, id FROM garbage WHERE (project, id) > (?1, ?2)
                     ORDER BY project, id LIMIT 1",
                )?
                .query_row(params![project, after], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            let Some((project, first)) = first else {
                return Ok(None);
            };
            let contents = connection
                .prepare_cached(
                    "SELECT id FROM garbage WHERE project = ?1 AND id >= ?2 ORDER BY id LIMIT ?3",
                )?
                .query_map(params![project, first, limit], |row| row.get(0))?
                .map(|id| id.map(content_of))
                .collect::<Result<_, _>>()?;
            let project = project.parse().map_err(|_| IndexError::Corrupt {
                what: "a project of garbage",
            })?;
            Ok(Some(Garbage { project, contents }))
        })
        .await
    }

    /// Forgets garbage that the backend has deleted.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn forget(&self, garbage: Garbage) -> Result<(), IndexError> {
        self.write(move |connection| {
            let mut delete =
                connection.prepare_cached("DELETE FROM garbage WHERE project = ?1 AND id = ?2")?;
            for content in &garbage.contents {
                delete.execute(params![garbage.project.as_str(), content.id().to_bytes()])?;
            }
            Ok(())
        })
        .await
    }

    /// Those of `contents` that something of the project names, or that are garbage still to be
    /// deleted.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn named(
        &self,
        project: &Name,
        contents: Vec<ContentId>,
    ) -> Result<BTreeSet<ContentId>, IndexError> {
        let project = project.to_string();
        self.read(move |connection| {
            let mut find = connection.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM contents WHERE project = ?1 AND id = ?2)
                     OR EXISTS (SELECT 1 FROM garbage WHERE project = ?1 AND id = ?2)",
            )?;
            let mut named = BTreeSet::new();
            for content in contents {
                if find.query_row(params![project, content.id().to_bytes()], |row| row.get(0))? {
                    named.insert(content);
                }
            }
            Ok(named)
        })
        .await
    }

    /// What people call the bytes of a content: `s3://BUCKET/KEY`, or the digest of a blob that no
    /// object has; at most `limit`. Looks at every object of the project.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn known_as(
        &self,
        project: &Name,
        content: ContentId,
        limit: usize,
    ) -> Result<Vec<String>, IndexError> {
        let project = project.to_string();
        let id = content.id().to_bytes();
        self.read(move |connection| {
            let objects = connection
                .prepare_cached(
                    "SELECT 's3://' || buckets.name || '/' || CAST(versions.key AS TEXT)
                     FROM bodies JOIN versions ON versions.body = bodies.id
                     JOIN buckets ON buckets.id = versions.bucket
                     WHERE bodies.project = ?1 AND (instr(bodies.pieces, ?2) > 0 OR bodies.blob IN (
                         SELECT digest FROM pieces JOIN blob_pieces
                         ON blob_pieces.project = ?1 AND blob_pieces.piece = pieces.key
                         WHERE pieces.project = ?1 AND pieces.content = ?2))
                     LIMIT ?3",
                )?
                .query_map(params![project, id, limit], |row| row.get(0))?
                .collect::<Result<Vec<String>, _>>()?;
            if !objects.is_empty() {
                return Ok(objects);
            }
            let blobs = connection
                .prepare_cached(
                    "SELECT DISTINCT 'sha-256 ' || lower(hex(digest)) FROM pieces JOIN blob_pieces
                     ON blob_pieces.project = ?1 AND blob_pieces.piece = pieces.key
                     WHERE pieces.project = ?1 AND pieces.content = ?2 LIMIT ?3",
                )?
                .query_map(params![project, id, limit], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(blobs)
        })
        .await
    }

    /// Contents of a project with ids greater than `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn contents_after(
        &self,
        project: &Name,
        after: Option<ContentId>,
        limit: usize,
    ) -> Result<Vec<StoredPiece>, IndexError> {
        let project = project.to_string();
        let after = after.map_or(Vec::new(), |after| after.id().to_bytes().to_vec());
        self.read(move |connection| {
            let found = connection
                .prepare_cached(
                    "SELECT id, size, bytes FROM contents WHERE project = ?1 AND id > ?2
                     ORDER BY id LIMIT ?3",
                )?
                .query_map(params![project, after, limit], |row| {
                    Ok(StoredPiece {
                        content: content_of(row.get(0)?),
                        size_bytes: row.get(1)?,
                        inline: row.get(2)?,
                    })
                })?
                .collect::<Result<_, _>>()?;
            Ok(found)
        })
        .await
    }
}

pub(super) fn content_of(id: [u8; 16]) -> ContentId {
    ContentId::from(Id::from_bytes(id))
}

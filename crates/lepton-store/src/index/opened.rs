//! A version that is to be read, with all that a read needs of the index, at one moment.

use rusqlite::params;

use super::objects::{Which, find};
use super::{BucketId, IndexError, ObjectIndex, ObjectVersion, StoredPiece, bodies};

/// A version with all that a read of it needs, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedVersion {
    /// The version.
    pub version: ObjectVersion,
    /// Where its bytes are.
    pub pieces: Vec<StoredPiece>,
    /// What was kept of its parts as [`NewVersion::parts`](super::NewVersion::parts).
    pub parts: String,
}

impl ObjectIndex {
    /// A version of an object and the pieces of its bytes, as they are at one moment.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn open_version(
        &self,
        bucket: BucketId,
        key: &str,
        which: Which,
    ) -> Result<Option<OpenedVersion>, IndexError> {
        let key = key.to_owned();
        self.read(move |connection| {
            let Some(found) = find(connection, bucket, &key, which)? else {
                return Ok(None);
            };
            let pieces = match found.body {
                Some(body) => bodies::stored(connection, body)?,
                None => Vec::new(),
            };
            let parts = connection
                .prepare_cached(
                    "SELECT parts FROM versions WHERE bucket = ?1 AND key = ?2 AND sequence = ?3",
                )?
                .query_row(params![bucket.0, key.as_bytes(), found.sequence], |row| {
                    row.get(0)
                })?;
            Ok(Some(OpenedVersion {
                version: found,
                pieces,
                parts,
            }))
        })
        .await
    }
}

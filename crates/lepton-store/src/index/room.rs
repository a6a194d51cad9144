//! Whether bytes that are still to come will fit.
//!
//! Owns: the same sums that the transaction makes which will record them, made before. That one decides; this
//! only spares a client the way of bytes that would be refused.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::objects::find;
use super::{
    BucketId, IndexError, ObjectIndex, Refusal, UploadId, VersionId, Versioning, Which, bodies,
    buckets::bucket,
};

/// What bytes are to come for.
#[derive(Debug, Clone)]
pub enum Newcomer {
    /// An object of this key.
    Object(String),
    /// A part of an upload.
    Part {
        /// The upload.
        upload: UploadId,
        /// Its number.
        number: u16,
    },
}

/// What goes when a newcomer is recorded: bytes and objects.
fn replaced(
    connection: &Connection,
    (id, versioning): (BucketId, Versioning),
    newcomer: &Newcomer,
) -> Result<(u64, u64), IndexError> {
    match newcomer {
        Newcomer::Object(_) if versioning == Versioning::Enabled => Ok((0, 0)),
        Newcomer::Object(key) => {
            let null = find(connection, id, key, Which::Version(VersionId::Null))?;
            match null.and_then(|null| Some((null.body?, null.size_bytes))) {
                Some((body, size)) => Ok((bodies::counted_bytes(connection, body, size)?, 1)),
                None => Ok((0, 0)),
            }
        }
        Newcomer::Part { upload, number } => {
            let size = connection
                .prepare_cached("SELECT size FROM parts WHERE upload = ?1 AND number = ?2")?
                .query_row(params![upload.to_bytes(), number], |row| row.get(0))
                .optional()?;
            Ok((size.unwrap_or_default(), 0))
        }
    }
}

impl ObjectIndex {
    /// Refuses what would not fit into the quota of the bucket's project as things stand.
    ///
    /// # Errors
    /// If it does not, the bucket is gone, or the index cannot be read.
    pub async fn check_room(
        &self,
        id: BucketId,
        newcomer: Newcomer,
        size_bytes: u64,
    ) -> Result<(), IndexError> {
        self.read(move |connection| {
            let bucket = bucket(connection, id)?;
            let quota = connection
                .prepare_cached(
                    "SELECT bytes, objects, bytes_max, objects_max FROM usage
                     WHERE project = ?1 AND (bytes_max NOT NULL OR objects_max NOT NULL)",
                )?
                .query_row([bucket.project.as_str()], |row| {
                    let most = [row.get(2)?, row.get(3)?]
                        .map(|most: Option<u64>| most.unwrap_or(u64::MAX));
                    Ok([row.get(0)?, row.get(1)?, most[0], most[1]])
                })
                .optional()?;
            let Some([bytes, objects, bytes_max, objects_max]) = quota else {
                return Ok(());
            };
            let (less, fewer) = replaced(connection, (id, bucket.versioning), &newcomer)?;
            let more = u64::from(matches!(newcomer, Newcomer::Object(_)));
            let bytes = bytes.saturating_add(size_bytes).saturating_sub(less);
            let objects = objects.saturating_add(more).saturating_sub(fewer);
            match bytes <= bytes_max && objects <= objects_max {
                true => Ok(()),
                false => Err(Refusal::QuotaExceeded.into()),
            }
        })
        .await
    }
}

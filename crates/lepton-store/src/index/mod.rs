//! The object index: which objects exist, and which sealed bytes each is made of.
//!
//! Owns: buckets, versions of objects, uploads under way, who holds which contents, what is garbage,
//! usage and quotas, what is metered, access keys. Must not know: HTTP, S3's XML, who is allowed, how bytes are sealed.
//!
//! Every call that changes something is one transaction, on disk when it returns. The transaction
//! that makes an object visible is the one that makes what it replaced garbage, so the listing, the
//! usage and the bytes cannot disagree. Garbage is deleted from the backend first and forgotten after.
//!
//! It is a database of its own: its writes are many and small and must not wait for metadata's.

mod access_keys;
mod blobs;
mod bodies;
mod buckets;
mod conditions;
mod error;
mod known;
mod listing;
mod locks;
mod metering;
mod notes;
mod objects;
mod opened;
mod records;
mod room;
mod schema;
mod uploads;
mod usage;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OpenFlags};

use crate::OpenError;
use crate::sqlite::{BUSY_TIMEOUT, configure, keep_private, schema::bring_up_to_date};

pub use access_keys::AccessKey;
pub use blobs::{BlobPiece, BlobRow, NewBlobPiece, NewBlobRow};
pub use bodies::{BodyId, Garbage, Piece};
pub use buckets::{Bucket, BucketId, NewBucket, Versioning};
pub use conditions::Condition;
pub use error::{IndexError, Refusal};
pub use listing::{
    ListQuery, Listed, ListedUpload, ListedVersion, Start, UploadsQuery, UploadsStart,
    VersionsQuery, VersionsStart,
};
pub use locks::{Retention, RetentionMode};
pub use metering::{Metered, Stored};
pub use objects::{Deletion, NewBody, NewVersion, ToDelete, VersionChange, Which};
pub use opened::OpenedVersion;
pub use records::{ObjectVersion, StoredPiece, VersionId};
pub use room::Newcomer;
pub use uploads::{NewUpload, Part, Upload, UploadId};
pub use usage::{Quota, Traffic, Usage};

/// Idle read connections that are kept.
const READERS_KEPT: usize = 8;

/// Pages of the index that stay in memory, in KiB: the inner pages of some millions of keys.
const CACHE_KIB: i32 = 65_536;

/// The index of one Lepton. Cheap to clone.
#[derive(Clone)]
pub struct ObjectIndex {
    writer: writer::Writer,
    readers: Arc<Readers>,
    known: Arc<known::Known>,
}

struct Readers {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl ObjectIndex {
    /// Opens or makes the index in `file`, and brings its schema up to date.
    ///
    /// # Errors
    /// If the file cannot be used, or was written by a newer Lepton.
    pub fn open(file: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Unusable {
            file: file.to_owned(),
            source,
        };
        keep_private(file).map_err(|source| OpenError::NotPrivate {
            file: file.to_owned(),
            source,
        })?;
        let mut connection = Connection::open(file).map_err(unusable)?;
        configure(&connection).map_err(unusable)?;
        connection
            .pragma_update(None, "cache_size", -CACHE_KIB)
            .map_err(unusable)?;
        bring_up_to_date(&mut connection, file, &schema::MIGRATIONS)?;
        Ok(Self {
            writer: writer::Writer::start(connection)?,
            readers: Arc::new(Readers {
                file: file.to_owned(),
                idle: Mutex::default(),
            }),
            known: Arc::default(),
        })
    }

    /// Waits for the writes under way and stops writing.
    pub async fn close(&self) {
        self.writer.close().await;
    }

    async fn write<T, F>(&self, work: F) -> Result<T, IndexError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, IndexError> + Send + 'static,
    {
        self.writer.write(work).await
    }

    /// Runs `work` on a read connection, off the async threads, on one state of the database.
    async fn read<T, F>(&self, work: F) -> Result<T, IndexError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, IndexError> + Send + 'static,
    {
        let readers = Arc::clone(&self.readers);
        tokio::task::spawn_blocking(move || {
            let mut connection = readers.take()?;
            let result = connection
                .transaction()
                .map_err(IndexError::from)
                .and_then(|whole| work(&whole));
            readers.give_back(connection);
            result
        })
        .await
        .map_err(|_| IndexError::Closed)?
    }
}

impl Readers {
    fn take(&self) -> Result<Connection, IndexError> {
        if let Some(connection) = self.idle.lock().ok().and_then(|mut idle| idle.pop()) {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < READERS_KEPT
        {
            idle.push(connection);
        }
    }
}

#[cfg(test)]
mod tests;

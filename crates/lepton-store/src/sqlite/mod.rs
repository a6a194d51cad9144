//! The embedded backend: SQLite in WAL mode, one writer thread that commits many
//! transactions at once, and a few read connections.

mod lineage;
mod reader;
mod schema;
mod search;
mod tracking;
mod writer;

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex};

use lepton_types::resources::{Resource, Spec};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::watch;

use crate::{CommitError, OpenError, StoreError, Transaction};

pub(crate) use reader::{Pairs, Reader};

/// Idle read connections that are kept. Reads are short; more only cost memory.
const READERS_KEPT: usize = 4;

#[derive(Clone)]
pub(crate) struct Sqlite {
    writer: writer::Writer,
    readers: Arc<Readers>,
}

struct Readers {
    file: std::path::PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Sqlite {
    pub(crate) fn open(file: &Path) -> Result<Self, OpenError> {
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
        schema::migrate(&mut connection, file)?;
        let readers = Readers {
            file: file.to_owned(),
            idle: Mutex::default(),
        };
        let version = writer::newest_version(&connection).map_err(unusable)?;
        Ok(Self {
            writer: writer::Writer::start(connection, version)?,
            readers: Arc::new(readers),
        })
    }

    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<u64, CommitError> {
        self.writer.commit(transaction).await
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.writer.subscribe()
    }

    pub(crate) async fn close(&self) {
        self.writer.close().await;
    }

    /// Runs `work` on a read connection, off the async threads.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let readers = Arc::clone(&self.readers);
        tokio::task::spawn_blocking(move || {
            let connection = readers.take()?;
            let result = work(&Reader::new(&connection));
            readers.give_back(connection);
            result
        })
        .await
        .map_err(|_| StoreError::Closed)?
    }
}

impl Readers {
    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        if let Some(connection) = idle {
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

/// Only a checkpoint can be in a reader's way, and it is short.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Gives the store's file, made if it is new, to its owner alone: it holds what jobs have in
/// their environment, of every project. SQLite makes the files beside it with the same mode.
fn keep_private(file: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let opened = options.append(true).create(true).mode(0o600).open(file)?;
    opened.set_permissions(Permissions::from_mode(0o600))?;
    for beside in ["-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(beside);
        match std::fs::set_permissions(&name, Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // An acknowledged write survives power loss, not only a crash of the process.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // 8 MiB of cache: the working set of a small store, without eating the idle budget.
    connection.pragma_update(None, "cache_size", -8_192)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// A resource from its stored text; the version in the row is the true one.
pub(crate) fn decode<S: Spec>(
    json: &str,
    version: u64,
) -> Result<Resource<S, S::Status>, StoreError> {
    let mut resource: Resource<S, S::Status> =
        serde_json::from_str(json).map_err(|source| StoreError::Corrupt {
            kind: S::KIND,
            source,
        })?;
    resource.metadata.resource_version = version;
    Ok(resource)
}

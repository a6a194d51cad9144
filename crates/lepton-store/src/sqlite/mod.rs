//! The embedded backend: SQLite in WAL mode, one writer thread that commits many
//! transactions at once, and a few read connections.

mod alteration;
mod batches;
mod caller;
mod compactor;
mod deletion;
mod files;
mod lineage;
mod old_points;
mod pairs;
mod purge;
mod reader;
mod reply;
mod requirements;
mod run_pages;
pub(crate) mod schema;
mod search;
mod series_reader;
mod series_writer;
mod traces;
mod tracking;
mod writer;
mod writes;

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use lepton_types::Id;
use lepton_types::resources::{Resource, Spec};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Semaphore, watch};

use crate::{CommitError, OpenError, StoreError, Transaction};

pub(crate) use reader::{Pairs, Reader};

/// Idle read connections that are kept. Reads are short; more only cost memory.
const READERS_KEPT: usize = 4;

#[derive(Clone)]
pub(crate) struct Sqlite {
    writer: writer::Writer,
    inbox: compactor::Inbox,
    compactor: Arc<Mutex<Option<JoinHandle<()>>>>,
    readers: Arc<Readers>,
}

struct Readers {
    file: std::path::PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Turns to read on the thread of the caller. Each keeps one of the runtime's threads, of which there
    /// are not so many; other reads wait for one of those in line.
    turns: Semaphore,
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
            turns: Semaphore::new(READERS_KEPT),
        };
        let readers = Arc::new(readers);
        let version = writer::newest_version(&connection).map_err(unusable)?;
        let (inbox, compactor) = compactor::Inbox::open(&connection).map_err(unusable)?;
        let writer = writer::Writer::start(connection, version, inbox.clone())?;
        let compactor = compactor.start(Arc::clone(&readers), writer.downgrade())?;
        Ok(Self {
            writer,
            inbox,
            compactor: Arc::new(Mutex::new(Some(compactor))),
            readers,
        })
    }

    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<u64, CommitError> {
        if transaction.has_metrics() {
            self.inbox.room().await;
        }
        self.writer.commit(transaction).await
    }

    pub(crate) async fn merge_series(&self, run: Id) -> Result<(), StoreError> {
        self.inbox.merge(run).await
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.writer.subscribe()
    }

    pub(crate) async fn close(&self) {
        self.writer.close().await;
        // Without a writer it gives up at its next step; what it was at is gone on with at the next start.
        self.inbox.stop();
        let thread = self.compactor.lock().ok().and_then(|mut slot| slot.take());
        if let Some(thread) = thread {
            let _joined = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Runs `work` on a read connection, where it keeps no other task waiting.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        if caller::may_wait()
            && let Ok(_turn) = self.readers.turns.try_acquire()
        {
            return tokio::task::block_in_place(|| self.readers.lend(work));
        }
        let readers = Arc::clone(&self.readers);
        tokio::task::spawn_blocking(move || readers.lend(work))
            .await
            .map_err(|_| StoreError::Closed)?
    }
}

impl Readers {
    fn lend<T>(
        &self,
        work: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = self.take()?;
        let result = work(&Reader::new(&connection));
        self.give_back(connection);
        result
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // 8 MiB, as the writer has: a search that goes through ten thousand runs reads each page once.
        connection.pragma_update(None, "cache_size", -8_192)?;
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
pub(crate) const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Gives the store's file, made if it is new, to its owner alone: it holds what jobs have in
/// their environment, of every project. SQLite makes the files beside it with the same mode.
pub(crate) fn keep_private(file: &Path) -> std::io::Result<()> {
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

pub(crate) fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
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

//! The index's writer: one thread that does what waits under one transaction and one sync.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::IndexError;
use crate::OpenError;

/// Writes that may wait; callers beyond wait for a place.
const QUEUE_MAX: usize = 1_024;

/// Writes under one sync: enough to hide it, few enough to answer soon.
const GROUP_MAX: usize = 256;

#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Request>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

enum Request {
    Write(Box<dyn Write>),
    Close,
}

/// A write whose answer is held back until the group it is in is on disk.
trait Write: Send {
    /// Does it; false if it refused and is to be undone.
    fn carry_out(&mut self, connection: &Connection) -> bool;
    /// Undoes it in the answer, as its savepoint could not be kept.
    fn fail(&mut self, error: IndexError);
    /// Answers.
    fn answer(self: Box<Self>, lost: Option<&Arc<rusqlite::Error>>);
}

struct Waiting<T, F> {
    work: Option<F>,
    result: Option<Result<T, IndexError>>,
    reply: oneshot::Sender<Result<T, IndexError>>,
}

impl<T, F> Write for Waiting<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, IndexError> + Send,
{
    fn carry_out(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        let result = work(connection);
        let done = result.is_ok();
        self.result = Some(result);
        done
    }

    fn fail(&mut self, error: IndexError) {
        self.result = Some(Err(error));
    }

    fn answer(self: Box<Self>, lost: Option<&Arc<rusqlite::Error>>) {
        let result = match (self.result, lost) {
            // A refusal is true whatever became of the others.
            (Some(Err(refused)), _) => Err(refused),
            (_, Some(cause)) => Err(failure(cause)),
            (Some(done), None) => done,
            (None, None) => Err(IndexError::Closed),
        };
        let _caller_left = self.reply.send(result);
    }
}

fn failure(cause: &Arc<rusqlite::Error>) -> IndexError {
    match cause.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => IndexError::DiskFull,
        _ => IndexError::NotCommitted(Arc::clone(cause)),
    }
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self, OpenError> {
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("object-index".to_owned())
            .spawn(move || work(connection, requests))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            queue,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, IndexError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, IndexError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting {
            work: Some(work),
            result: None,
            reply,
        };
        self.queue
            .send(Request::Write(Box::new(waiting)))
            .await
            .map_err(|_| IndexError::Closed)?;
        answer.await.map_err(|_| IndexError::Closed)?
    }

    pub(super) async fn close(&self) {
        if self.queue.send(Request::Close).await.is_err() {
            return;
        }
        let thread = self.thread.lock().ok().and_then(|mut slot| slot.take());
        if let Some(thread) = thread {
            let _joined = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

fn work(mut connection: Connection, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.blocking_recv() {
        let mut closing = false;
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Write(write) => group.push(write),
                Request::Close => closing = true,
            }
            next = match group.len() < GROUP_MAX {
                true => requests.try_recv().ok(),
                false => None,
            };
        }
        commit(&mut connection, group);
        if closing {
            break;
        }
    }
    if let Err(error) = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
        tracing::warn!(%error, "the last checkpoint of the object index failed");
    }
}

fn commit(connection: &mut Connection, mut group: Vec<Box<dyn Write>>) {
    let lost = carry_out(connection, &mut group).err().map(Arc::new);
    if let Some(error) = &lost {
        tracing::error!(%error, "a group of writes to the object index could not be committed");
    }
    for write in group {
        write.answer(lost.as_ref());
    }
}

fn carry_out(
    connection: &mut Connection,
    group: &mut [Box<dyn Write>],
) -> Result<(), rusqlite::Error> {
    if group.is_empty() {
        return Ok(());
    }
    let mut whole = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for write in group {
        let part = whole.savepoint()?;
        if write.carry_out(&part) {
            if let Err(error) = part.commit() {
                write.fail(error.into());
            }
        } else {
            drop(part);
        }
        // A full or failing disk may end the whole transaction, with all that was done in it.
        if whole.is_autocommit() {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK),
                None,
            ));
        }
    }
    whole.commit()
}

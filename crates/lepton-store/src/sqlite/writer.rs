//! The writer: transactions are committed one group at a time.
//!
//! Where nobody else writes, a transaction is committed on the thread that brings it, which saves two
//! handovers between threads: on a busy machine each is a wait for the processor that is longer than the
//! write. All others go through a bounded queue to a thread that commits all that wait with one sync of
//! the disk.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use lepton_types::Id;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::caller;
use super::compactor::Inbox;
use super::reply::Reply;
use super::series_writer::{self, Upkeep};
use super::writes::apply;
use crate::{CommitError, OpenError, StoreError, Transaction};

/// Transactions that may wait; callers beyond wait for a place.
const QUEUE_MAX: usize = 1_024;

/// Transactions under one sync: enough to hide it, few enough to answer soon.
const GROUP_MAX: usize = 256;

/// Events that are kept, the newest; about 50 MB of them.
const EVENTS_KEPT: i64 = 200_000;

/// Deletions that watchers may lag behind by.
const TOMBSTONES_KEPT: i64 = 1_000_000;

/// How many groups pass between two trims of what is bounded.
const TRIM_EVERY: u64 = 1_000;

#[derive(Clone)]
pub(super) struct Writer {
    queue: tokio::sync::mpsc::Sender<Request>,
    desk: Arc<Desk>,
    version: watch::Receiver<u64>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What it takes to write, for one at a time.
struct Desk {
    /// None once the store is closed.
    pen: Mutex<Option<Pen>>,
    /// Transactions that are on their way through the queue. While there are any, the others go that way
    /// as well: together they cost one sync.
    queued: AtomicUsize,
}

/// The connection that writes, and whom it tells.
struct Pen {
    connection: Connection,
    announce: watch::Sender<u64>,
    inbox: Inbox,
    groups: u64,
}

/// A writer that ends although this is held.
pub(super) struct WeakWriter(tokio::sync::mpsc::WeakSender<Request>);

enum Request {
    Commit(Transaction, oneshot::Sender<Result<u64, CommitError>>),
    Upkeep(Upkeep, oneshot::Sender<Result<bool, StoreError>>),
    Close,
}

impl Writer {
    /// Starts the thread; `version` is the newest that `connection` holds.
    pub(super) fn start(
        connection: Connection,
        version: u64,
        inbox: Inbox,
    ) -> Result<Self, OpenError> {
        let (queue, requests) = tokio::sync::mpsc::channel(QUEUE_MAX);
        let (announce, version) = watch::channel(version);
        let pen = Pen {
            connection,
            announce,
            inbox,
            groups: 0,
        };
        let desk = Arc::new(Desk {
            pen: Mutex::new(Some(pen)),
            queued: AtomicUsize::new(0),
        });
        let of_thread = Arc::clone(&desk);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || of_thread.work(requests))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            queue,
            desk,
            version,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    pub(super) async fn commit(&self, transaction: Transaction) -> Result<u64, CommitError> {
        if transaction.is_empty() {
            return Ok(*self.version.borrow());
        }
        let (reply, answer) = oneshot::channel();
        let request = Request::Commit(transaction, reply);
        if let Some(request) = self.desk.commit_here(request) {
            // Counted once it has its place: a caller who leaves before is not in the queue.
            let place = self.queue.reserve().await;
            let place = place.map_err(|_| StoreError::Closed)?;
            self.desk.queued.fetch_add(1, Ordering::Relaxed);
            place.send(request);
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn downgrade(&self) -> WeakWriter {
        WeakWriter(self.queue.downgrade())
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.clone()
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

impl WeakWriter {
    /// Does a step of upkeep, and waits until it is on disk; whether there is more of the same.
    /// For threads that are not async.
    pub(super) fn keep_up(&self, step: Upkeep) -> Result<bool, StoreError> {
        let queue = self.0.upgrade().ok_or(StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        queue
            .blocking_send(Request::Upkeep(step, reply))
            .map_err(|_| StoreError::Closed)?;
        drop(queue);
        answer.blocking_recv().map_err(|_| StoreError::Closed)?
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.upgrade().is_none_or(|queue| queue.is_closed())
    }
}

impl Desk {
    /// Commits on this thread if that may wait and nobody else writes; else gives the request back.
    fn commit_here(&self, request: Request) -> Option<Request> {
        if !caller::may_wait() || self.queued.load(Ordering::Relaxed) > 0 {
            return Some(request);
        }
        let Ok(mut held) = self.pen.try_lock() else {
            return Some(request);
        };
        let Some(pen) = held.as_mut() else {
            return Some(request);
        };
        tokio::task::block_in_place(|| pen.commit(vec![request]));
        None
    }

    /// Commits what comes through the queue, until the store is closed.
    fn work(&self, mut requests: tokio::sync::mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let Ok(mut held) = self.pen.lock() else {
                return;
            };
            let Some(pen) = held.as_mut() else {
                return;
            };
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(next) = requests.try_recv()
            {
                group.push(next);
            }
            let commits = group.iter().filter(|request| request.is_commit()).count();
            let closing = group
                .iter()
                .any(|request| matches!(request, Request::Close));
            pen.commit(group);
            drop(held);
            self.queued.fetch_sub(commits, Ordering::Relaxed);
            if closing {
                break;
            }
        }
        let Some(pen) = self.pen.lock().ok().and_then(|mut held| held.take()) else {
            return;
        };
        if let Err(error) = pen
            .connection
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        {
            tracing::warn!(%error, "the last checkpoint of the store failed");
        }
    }
}

impl Request {
    const fn is_commit(&self) -> bool {
        matches!(self, Self::Commit(..))
    }
}

impl Pen {
    fn commit(&mut self, group: Vec<Request>) {
        commit_group(&mut self.connection, group, &self.announce, &self.inbox);
        self.groups += 1;
        if self.groups.is_multiple_of(TRIM_EVERY)
            && let Err(error) = trim(&self.connection)
        {
            tracing::warn!(%error, "old events could not be trimmed");
        }
    }
}

fn commit_group(
    connection: &mut Connection,
    group: Vec<Request>,
    announce: &watch::Sender<u64>,
    inbox: &Inbox,
) {
    let mut done = Vec::with_capacity(group.len());
    let mut group = group.into_iter();
    let mut state = GroupState {
        version: *announce.borrow(),
        appended: Vec::new(),
    };
    match apply_group(connection, &mut group, &mut state, &mut done) {
        Ok(()) => {
            // Readers see the commit before watchers hear of it, and both before the caller.
            let version = state.version;
            announce.send_if_modified(|seen| std::mem::replace(seen, version) != version);
            inbox.tell(&state.appended);
            done.into_iter().for_each(Reply::send);
        }
        Err(error) => {
            tracing::error!(%error, "a group of transactions could not be committed");
            let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
            let cause = Arc::new(error);
            let failure = || match full {
                true => StoreError::DiskFull,
                false => StoreError::NotCommitted(Arc::clone(&cause)),
            };
            for reply in done {
                reply.send_failed(failure());
            }
            for request in group {
                match request {
                    Request::Commit(_, reply) => {
                        let _caller_left = reply.send(Err(failure().into()));
                    }
                    Request::Upkeep(_, reply) => {
                        let _caller_left = reply.send(Err(failure()));
                    }
                    Request::Close => {}
                }
            }
        }
    }
}

/// What a group's transactions hand on from one to the next.
struct GroupState {
    /// The store's counter.
    version: u64,
    /// Runs that got points, and how many.
    appended: Vec<(Id, u64)>,
}

/// Takes requests from `group` until one fails in a way that ends the whole transaction; whoever is
/// left in it was not tried.
fn apply_group(
    connection: &mut Connection,
    group: &mut std::vec::IntoIter<Request>,
    state: &mut GroupState,
    done: &mut Vec<Reply>,
) -> Result<(), rusqlite::Error> {
    let mut whole =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for request in group {
        done.push(match request {
            Request::Close => continue,
            Request::Commit(transaction, reply) => {
                Reply::Commit(reply, apply_one(&mut whole, &transaction, state))
            }
            Request::Upkeep(step, reply) => {
                let result = keep_up_one(&mut whole, &step);
                Reply::Upkeep(reply, result.map_err(StoreError::from))
            }
        });
        // A full or failing disk may end the whole transaction, with all that was done in it:
        // what followed would be committed one by one, past the counter.
        if whole.is_autocommit() {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK),
                None,
            ));
        }
    }
    whole.commit()
}

/// One transaction of a group: all of it, or nothing.
fn apply_one(
    whole: &mut rusqlite::Transaction<'_>,
    transaction: &Transaction,
    state: &mut GroupState,
) -> Result<u64, CommitError> {
    let mut next = state.version;
    let mut appended = Vec::new();
    let part = whole.savepoint()?;
    apply(&part, transaction, &mut next, &mut appended)?;
    part.commit()?;
    state.version = next;
    state.appended.append(&mut appended);
    Ok(next)
}

fn keep_up_one(
    whole: &mut rusqlite::Transaction<'_>,
    step: &Upkeep,
) -> Result<bool, rusqlite::Error> {
    let part = whole.savepoint()?;
    let more = series_writer::keep_up(&part, step)?;
    part.commit()?;
    Ok(more)
}

fn trim(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute(
        "DELETE FROM events WHERE sequence <= (SELECT MAX(sequence) FROM events) - ?1",
        [EVENTS_KEPT],
    )?;
    connection.execute(
        "DELETE FROM tombstones WHERE version <= (SELECT MAX(version) FROM tombstones) - ?1",
        [TOMBSTONES_KEPT],
    )?;
    Ok(())
}

/// The counter as the store has it; a number below it would make every later write collide.
pub(super) fn newest_version(connection: &Connection) -> Result<u64, rusqlite::Error> {
    connection.query_row(
        "SELECT MAX(COALESCE((SELECT MAX(version) FROM resources), 0),
                    COALESCE((SELECT MAX(version) FROM tombstones), 0))",
        [],
        |row| row.get(0),
    )
}

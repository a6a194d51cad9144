//! The compactor: one thread that merges fresh batches into blocks, and deletes what dropped series
//! left. It reads on a connection of its own and writes through the writer, in steps after each
//! of which the store is whole: killed anywhere, the next start goes on.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lepton_types::Id;
use rusqlite::{Connection, params};
use tokio::sync::{oneshot, watch};

use super::Readers;
use super::series_reader::{block_points, last_extents};
use super::series_writer::{Replacement, Upkeep};
use super::writer::WeakWriter;
use crate::series::{
    Backlog, Block, Extent, Point, Rewrite, Waiting, decode_batch, is_settled, merge, plan, split,
};
use crate::{OpenError, StoreError};

/// How long a run must get nothing before its rest is merged, once or twice over.
const SPELL: Duration = Duration::from_secs(10);

/// Points of a run that one round merges, which bounds its memory: some 20 MB.
const ROUND_POINTS_MAX: u64 = 262_144;

/// Points of blocks in one step to the writer: others' commits wait for one at most.
const STEP_POINTS_MAX: u64 = 262_144;

/// Dropped series that one round reclaims.
const RECLAIMED_MAX: usize = 256;

/// Orders that may wait for the thread; a nudge that finds no place is not needed.
const ORDERS_MAX: usize = 16;

/// What the writer tells the compactor, and callers that wait for room.
#[derive(Clone)]
pub(super) struct Inbox {
    backlog: Arc<Mutex<Backlog>>,
    orders: SyncSender<Order>,
    room: watch::Sender<bool>,
}

enum Order {
    /// Something is due.
    Nudge,
    /// This run, now.
    Merge(Id, oneshot::Sender<Result<(), StoreError>>),
    /// The store is closed.
    Stop,
}

/// What the thread holds of the inbox: not the sender, whose last drop is what ends it.
pub(super) struct Unstarted {
    backlog: Arc<Mutex<Backlog>>,
    room: watch::Sender<bool>,
    orders: Receiver<Order>,
}

struct Compactor {
    inbox: Unstarted,
    readers: Arc<Readers>,
    writer: WeakWriter,
}

impl Inbox {
    /// An inbox that knows which runs have batches, and the thread that will empty it.
    pub(super) fn open(connection: &Connection) -> Result<(Self, Unstarted), rusqlite::Error> {
        let mut backlog = Backlog::default();
        let mut statement = connection
            .prepare("SELECT run, COUNT(*), SUM(points) FROM metric_batches GROUP BY run")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            backlog.add(Id::from_bytes(row.get(0)?), row.get(1)?, row.get(2)?);
        }
        let backlog = Arc::new(Mutex::new(backlog));
        let (orders, received) = sync_channel(ORDERS_MAX);
        let (room, _) = watch::channel(true);
        let unstarted = Unstarted {
            backlog: Arc::clone(&backlog),
            room: room.clone(),
            orders: received,
        };
        let inbox = Self {
            backlog,
            orders,
            room,
        };
        Ok((inbox, unstarted))
    }

    /// Runs got points that are on disk.
    pub(super) fn tell(&self, appended: &[(Id, u64)]) {
        let mut backlog = lock(&self.backlog);
        let mut is_due = false;
        for (run, points) in appended {
            is_due |= backlog.add(*run, 1, *points);
        }
        let has_room = !backlog.is_full();
        drop(backlog);
        if is_due {
            // Where nobody merges any more, nobody waits for it.
            let is_gone = matches!(
                self.orders.try_send(Order::Nudge),
                Err(TrySendError::Disconnected(_))
            );
            set_room(&self.room, has_room || is_gone);
        }
    }

    /// Returns when there is room for more points.
    pub(super) async fn room(&self) {
        let mut room = self.room.subscribe();
        let _compactor_gone = room.wait_for(|room| *room).await;
    }

    /// Ends the thread. It hears of it at once or, where orders wait, of the closed writer.
    pub(super) fn stop(&self) {
        let _orders_wait = self.orders.try_send(Order::Stop);
    }

    /// Merges a run now.
    pub(super) async fn merge(&self, run: Id) -> Result<(), StoreError> {
        let orders = self.orders.clone();
        let (reply, answer) = oneshot::channel();
        let sent =
            tokio::task::spawn_blocking(move || orders.send(Order::Merge(run, reply)).is_ok());
        if !sent.await.unwrap_or(false) {
            return Err(StoreError::Closed);
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Unstarted {
    pub(super) fn start(
        self,
        readers: Arc<Readers>,
        writer: WeakWriter,
    ) -> Result<JoinHandle<()>, OpenError> {
        let compactor = Compactor {
            inbox: self,
            readers,
            writer,
        };
        std::thread::Builder::new()
            .name("store-compactor".to_owned())
            .spawn(move || compactor.work())
            .map_err(OpenError::Thread)
    }
}

impl Compactor {
    fn work(self) {
        let mut spell_ends = Instant::now();
        loop {
            let wait = spell_ends.saturating_duration_since(Instant::now());
            match self.inbox.orders.recv_timeout(wait) {
                Ok(Order::Nudge) => {}
                Ok(Order::Merge(run, reply)) => {
                    let result = self.merge_run(run).and_then(|()| self.reclaim());
                    let _caller_left = reply.send(result);
                }
                Err(RecvTimeoutError::Timeout) => {
                    spell_ends = Instant::now() + SPELL;
                    lock(&self.inbox.backlog).next_spell();
                    if let Err(error) = self.reclaim() {
                        tracing::warn!(%error, "series of deleted runs could not be reclaimed");
                    }
                }
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.writer.is_closed() {
                return;
            }
            self.merge_all_due();
        }
    }

    fn merge_all_due(&self) {
        loop {
            let taken = match self.merge_some_due() {
                Ok(true) => continue,
                Ok(false) | Err((_, StoreError::Closed)) => return,
                Err((taken, error)) => {
                    tracing::warn!(%error, "the points of runs could not be merged");
                    taken
                }
            };
            let mut backlog = lock(&self.inbox.backlog);
            for (run, waiting) in taken {
                backlog.put_back(run, waiting);
            }
            drop(backlog);
            // A disk that fails is told to those who write; they do not wait for it to recover.
            set_room(&self.inbox.room, true);
            return;
        }
    }

    /// Merges runs that are due, as many as one step holds, so that a thousand small ones cost a few
    /// syncs of the disk; whether there were any.
    fn merge_some_due(&self) -> Result<bool, (Vec<(Id, Waiting)>, StoreError)> {
        let mut taken = Vec::new();
        let mut step = Step::default();
        let merged = (|| {
            let connection = self.readers.take()?;
            while step.points < STEP_POINTS_MAX {
                let Some((run, waiting)) = lock(&self.inbox.backlog).take() else {
                    break;
                };
                taken.push((run, waiting));
                // What is left of a run is read only after what was merged of it is written.
                while self.merge_round(&connection, run, &mut step)? {
                    self.write(&mut step)?;
                }
            }
            self.readers.give_back(connection);
            self.write(&mut step)
        })();
        if let Err(error) = merged {
            return Err((taken, error));
        }
        let has_room = !lock(&self.inbox.backlog).is_full();
        set_room(&self.inbox.room, has_room);
        Ok(!taken.is_empty())
    }

    /// Merges all that waits of a run, round after round.
    fn merge_run(&self, run: Id) -> Result<(), StoreError> {
        let connection = self.readers.take()?;
        let mut step = Step::default();
        while self.merge_round(&connection, run, &mut step)? {
            self.write(&mut step)?;
        }
        self.readers.give_back(connection);
        self.write(&mut step)
    }

    /// Merges the oldest batches of a run; whether there are more. What of it is not written yet is
    /// left in `step`.
    fn merge_round(
        &self,
        connection: &Connection,
        run: Id,
        step: &mut Step,
    ) -> Result<bool, StoreError> {
        let (by_series, last, more) = read_batches(connection, run)?;
        let Some(last) = last else {
            return Ok(false);
        };
        for (series, points) in by_series {
            if is_alive(connection, series)? {
                self.merge_series(connection, series, &points, step)?;
            }
        }
        step.dropped.push((run, last));
        Ok(more)
    }

    /// Writes a step, and empties it.
    fn write(&self, step: &mut Step) -> Result<(), StoreError> {
        let step = std::mem::take(step);
        if step.replacements.is_empty() && step.dropped.is_empty() {
            return Ok(());
        }
        self.writer.keep_up(Upkeep::Merge {
            replacements: step.replacements,
            dropped: step.dropped,
        })?;
        Ok(())
    }

    /// Merges points into the blocks of a series; what of it is not written yet is left in `step`.
    fn merge_series(
        &self,
        connection: &Connection,
        series: i64,
        points: &[Point],
        step: &mut Step,
    ) -> Result<(), StoreError> {
        let Some(first) = points.first() else {
            return Ok(());
        };
        let extents = last_extents(connection, series, |extent| is_settled(extent, *first))?;
        for rewrite in plan(&extents, points) {
            step.add(connection, (series, &extents), &rewrite, points)?;
            if step.points >= STEP_POINTS_MAX {
                self.write(step)?;
            }
        }
        Ok(())
    }

    /// Deletes the points of series whose runs are gone.
    fn reclaim(&self) -> Result<(), StoreError> {
        loop {
            let connection = self.readers.take()?;
            let dropped = dropped_series(&connection);
            self.readers.give_back(connection);
            let dropped = dropped?;
            let mut runs: Vec<Id> = dropped.iter().map(|(_, run)| *run).collect();
            runs.dedup();
            for run in runs {
                // Its batches have to go before it is forgotten whose they were.
                self.merge_run(run)?;
            }
            for (series, _) in &dropped {
                while self.writer.keep_up(Upkeep::Reclaim { series: *series })? {}
            }
            if dropped.len() < RECLAIMED_MAX {
                return Ok(());
            }
        }
    }
}

/// Rewrites that are written together, and the batches that all of theirs is in blocks with them.
#[derive(Default)]
struct Step {
    replacements: Vec<Replacement>,
    /// Of which runs, up to which batch.
    dropped: Vec<(Id, i64)>,
    points: u64,
}

impl Step {
    fn add(
        &mut self,
        connection: &Connection,
        (series, extents): (i64, &[Extent]),
        rewrite: &Rewrite,
        points: &[Point],
    ) -> Result<(), StoreError> {
        let replaced = &extents[rewrite.replaced.clone()];
        let mut stored = Vec::new();
        for extent in replaced {
            stored.extend(block_points(connection, extent)?);
        }
        let merged = merge(&stored, &points[rewrite.points.clone()]);
        self.points += merged.len() as u64;
        // All of it was there: a batch that was sent again, or a merge that was cut off before
        // its batches were dropped.
        if merged.len() == stored.len() && replaced.len() == 1 {
            return Ok(());
        }
        self.replacements.push(Replacement {
            series,
            removed: replaced.iter().map(|extent| extent.id).collect(),
            added: split(&merged, rewrite.at_end)
                .filter_map(Block::encode)
                .collect(),
        });
        Ok(())
    }
}

type BySeries = BTreeMap<i64, Vec<Point>>;

/// The oldest batches of a run: sorted, distinct points by series, the last batch, whether there are more.
fn read_batches(
    connection: &Connection,
    run: Id,
) -> Result<(BySeries, Option<i64>, bool), StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT batch, points, body FROM metric_batches WHERE run = ?1 ORDER BY batch",
    )?;
    let mut rows = statement.query([run.to_bytes()])?;
    let (mut by_series, mut last, mut count, mut more) = (BySeries::new(), None, 0, false);
    while let Some(row) = rows.next()? {
        let points: u64 = row.get(1)?;
        if count > 0 && count + points > ROUND_POINTS_MAX {
            more = true;
            break;
        }
        count += points;
        last = Some(row.get(0)?);
        let body = row
            .get_ref(2)?
            .as_blob()
            .map_err(|_| StoreError::CorruptSeries)?;
        for (series, points) in decode_batch(body)? {
            by_series.entry(series).or_default().extend(points);
        }
    }
    for points in by_series.values_mut() {
        points.sort_unstable();
        points.dedup();
    }
    Ok((by_series, last, more))
}

fn is_alive(connection: &Connection, series: i64) -> Result<bool, rusqlite::Error> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM metric_series WHERE series = ?1 AND dropped = 0)",
        )?
        .query_row([series], |row| row.get(0))
}

fn dropped_series(connection: &Connection) -> Result<Vec<(i64, Id)>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(
        "SELECT series, run FROM metric_series WHERE dropped = 1 ORDER BY series LIMIT ?1",
    )?;
    let rows = statement.query_map(params![RECLAIMED_MAX], |row| {
        Ok((row.get(0)?, Id::from_bytes(row.get(1)?)))
    })?;
    rows.collect()
}

fn set_room(room: &watch::Sender<bool>, has_room: bool) {
    room.send_if_modified(|room| std::mem::replace(room, has_room) != has_room);
}

/// A thread that panicked while it held the list left whole entries behind.
fn lock(backlog: &Mutex<Backlog>) -> MutexGuard<'_, Backlog> {
    backlog.lock().unwrap_or_else(PoisonError::into_inner)
}

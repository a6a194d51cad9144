//! The MD5 of many streams at once.
//!
//! Owns: which streams are hashed together, and on how many threads. One MD5 is a chain of which no step
//! can begin before the last has ended, so a core that works on a single stream is idle most of the time; eight or
//! sixteen streams in the lanes of its vectors take it hardly longer than one. So whoever is free takes all
//! batches that wait, one of each stream: a lone upload has a thread of its own, and many share few. Must not
//! know: what is hashed, and why.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, Bytes};
use md5::Digest as _;
use md5_many::{Md5Many, Md5State};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Batches of a stream that wait or are being hashed: with two that wait, a stream goes on while its next
/// batch is still coming.
const BATCHES_MAX: usize = 3;
/// Batches that may wait beside those, of all streams together. As one MD5 is slower than the disk, a lone upload is
/// so far ahead of it that its last sync is over when its MD5 is known.
const SPARE_BATCHES: usize = 16;
/// Streams that are hashed together at most, and the fewer that are as fast a stream.
const LANES_MAX: usize = 16;
const LANES_FEW: usize = 8;
/// The block of MD5 (RFC 1321).
const BLOCK_BYTES: usize = 64;

/// Hashes streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Md5Streams(Arc<Pool>);

struct Pool {
    ready: Mutex<Ready>,
    spare: Arc<Semaphore>,
    workers_max: usize,
    lanes_max: usize,
    engine: Md5Many,
}

/// Streams of which a batch waits, each once, and how many threads see to them.
#[derive(Default)]
struct Ready {
    streams: VecDeque<Arc<Stream>>,
    workers: usize,
    /// Streams that are being hashed.
    in_hand: usize,
}

struct Stream {
    inside: Mutex<Inside>,
    room: Arc<Semaphore>,
}

/// A batch, and the place that it takes; the last of a stream has none.
#[derive(Default)]
struct Waiting {
    bytes: Bytes,
    place: Option<OwnedSemaphorePermit>,
}

struct Inside {
    state: Md5State,
    waiting: VecDeque<Waiting>,
    /// Whether it is among the ready ones, or being hashed.
    is_busy: bool,
    /// Who is told once nothing waits any more.
    ended: Option<oneshot::Sender<[u8; 16]>>,
}

/// One stream of bytes. Dropped before its end, it is forgotten.
pub(crate) struct Md5Stream {
    pool: Md5Streams,
    stream: Arc<Stream>,
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Md5Streams {
    /// One thread a core at most.
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism();
        let engine = Md5Many::new();
        let lanes_max = if lanes_agree(engine) { LANES_MAX } else { 1 };
        if lanes_max == 1 {
            tracing::warn!("the vectors of this processor compute wrong MD5s and are not used");
        }
        Self(Arc::new(Pool {
            ready: Mutex::default(),
            spare: Arc::new(Semaphore::new(SPARE_BATCHES)),
            workers_max: cores.map_or(1, std::num::NonZero::get),
            lanes_max,
            engine,
        }))
    }

    pub(crate) fn begin(&self) -> Md5Stream {
        Md5Stream {
            pool: self.clone(),
            stream: Arc::new(Stream {
                inside: Mutex::new(Inside {
                    state: Md5State::new(),
                    waiting: VecDeque::new(),
                    is_busy: false,
                    ended: None,
                }),
                room: Arc::new(Semaphore::new(BATCHES_MAX)),
            }),
        }
    }

    fn enqueue(&self, stream: Arc<Stream>) {
        let mut ready = locked(&self.0.ready);
        ready.streams.push_back(stream);
        if self.0.is_worth(&ready, ready.workers + 1) {
            self.0.call_worker(&mut ready);
        }
    }
}

impl Md5Stream {
    /// Adds a batch; waits while too many wait already.
    pub(crate) async fn update(&self, batch: Bytes) {
        let own = Arc::clone(&self.stream.room).acquire_owned();
        let spare = Arc::clone(&self.pool.0.spare).acquire_owned();
        let place = tokio::select! {
            biased;
            place = own => place,
            place = spare => place,
        };
        // They are never closed.
        self.push(batch, place.ok(), None);
    }

    /// Adds the last batch.
    pub(crate) async fn finish(self, batch: Bytes) -> [u8; 16] {
        let (told, digest) = oneshot::channel();
        self.push(batch, None, Some(told));
        // Only a runtime that ends leaves a stream unfinished.
        match digest.await {
            Ok(digest) => digest,
            Err(_) => std::future::pending().await,
        }
    }

    fn push(
        &self,
        bytes: Bytes,
        place: Option<OwnedSemaphorePermit>,
        ended: Option<oneshot::Sender<[u8; 16]>>,
    ) {
        let mut inside = locked(&self.stream.inside);
        inside.waiting.push_back(Waiting { bytes, place });
        inside.ended = ended;
        if !std::mem::replace(&mut inside.is_busy, true) {
            drop(inside);
            self.pool.enqueue(Arc::clone(&self.stream));
        }
    }
}

impl Pool {
    /// Whether each stream that is busy can have a thread of its own, which is fastest for each.
    fn are_few(&self, ready: &Ready) -> bool {
        ready.streams.len() + ready.in_hand <= self.workers_max
    }

    /// Whether so many threads should see to the streams. Where these are more than the threads there may be, one takes
    /// what gathers while it works, since many at a time cost hardly more than one; another helps if all lanes of it are full.
    fn is_worth(&self, ready: &Ready, workers: usize) -> bool {
        let is_full = ready.streams.len() >= self.lanes_max;
        !ready.streams.is_empty()
            && workers <= self.workers_max
            && (workers == 1 || is_full || self.are_few(ready))
    }

    fn call_worker(self: &Arc<Self>, ready: &mut Ready) {
        ready.workers += 1;
        let pool = Arc::clone(self);
        tokio::task::spawn_blocking(move || pool.work());
    }

    /// Hashes as long as it is worth a thread.
    fn work(self: &Arc<Self>) {
        while let Some(streams) = self.take() {
            let begun = streams.iter().map(|stream| stream.lane());
            let (mut lanes, places): (Vec<_>, Vec<_>) = begun.unzip();
            hash_together(self.engine, &mut lanes);
            drop(places);
            let count = streams.len();
            let more = streams.into_iter().zip(lanes);
            let more: Vec<_> = more
                .filter_map(|(stream, lane)| stream.put_back(lane.state).then_some(stream))
                .collect();
            let mut ready = locked(&self.ready);
            ready.in_hand -= count;
            ready.streams.extend(more);
        }
    }

    /// The streams to be hashed next; none if this thread should end.
    fn take(self: &Arc<Self>) -> Option<Vec<Arc<Stream>>> {
        let mut ready = locked(&self.ready);
        if !self.is_worth(&ready, ready.workers) {
            ready.workers -= 1;
            return None;
        }
        let count = match self.are_few(&ready) {
            true => 1,
            false => ready.streams.len().min(self.lanes_max),
        };
        let streams: Vec<_> = ready.streams.drain(..count).collect();
        ready.in_hand += count;
        if self.is_worth(&ready, ready.workers + 1) {
            self.call_worker(&mut ready);
        }
        Some(streams)
    }
}

impl Stream {
    /// What is hashed next, and the place that it has until then.
    fn lane(&self) -> (Lane, Option<OwnedSemaphorePermit>) {
        let mut inside = locked(&self.inside);
        let Waiting { bytes, place } = inside.waiting.pop_front().unwrap_or_default();
        let state = inside.state;
        (Lane { state, bytes }, place)
    }

    /// Takes back what was hashed; whether more waits.
    fn put_back(&self, state: Md5State) -> bool {
        let mut inside = locked(&self.inside);
        inside.state = state;
        inside.is_busy = !inside.waiting.is_empty();
        if !inside.is_busy
            && let Some(told) = inside.ended.take()
        {
            // Who does not wait any more needs no answer.
            let _ = told.send(inside.state.finalize());
        }
        inside.is_busy
    }
}

/// A stream's state and what comes next of it.
struct Lane {
    state: Md5State,
    bytes: Bytes,
}

/// Adds to each lane its bytes, to as many lanes at a time as there are.
fn hash_together(engine: Md5Many, lanes: &mut [Lane]) {
    loop {
        let mut long: Vec<&mut Lane> = lanes
            .iter_mut()
            .filter(|lane| lane.bytes.len() >= BLOCK_BYTES)
            .collect();
        if long.len() < 2 {
            break;
        }
        let shortest = long.iter().map(|lane| lane.bytes.len()).min();
        let step = shortest.unwrap_or_default() / BLOCK_BYTES * BLOCK_BYTES;
        // The engine is fast for these numbers of lanes only; those too many do the first one's work again.
        let width = match long.len() {
            ..=LANES_FEW => LANES_FEW,
            _ => LANES_MAX,
        };
        let lane = |number: usize| &long[if number < long.len() { number } else { 0 }];
        let mut states: Vec<Md5State> = (0..width).map(|number| lane(number).state).collect();
        let inputs: Vec<&[u8]> = (0..width)
            .map(|number| &lane(number).bytes[..step])
            .collect();
        engine.update_many(&mut states, &inputs);
        for (lane, state) in long.iter_mut().zip(states) {
            lane.state = state;
            lane.bytes.advance(step);
        }
    }
    for lane in lanes {
        lane.state.update(&lane.bytes);
    }
}

/// Whether lanes compute what one stream alone does by another library: kernels are chosen by the
/// processor, and not every processor has been tried.
fn lanes_agree(engine: Md5Many) -> bool {
    [LANES_FEW, LANES_MAX].into_iter().all(|count| {
        let messages: Vec<Bytes> = (0..count)
            .map(|number| Bytes::from(vec![0xa5; 3 * BLOCK_BYTES + number]))
            .collect();
        let mut lanes: Vec<Lane> = messages
            .iter()
            .map(|message| Lane {
                state: Md5State::new(),
                bytes: message.clone(),
            })
            .collect();
        hash_together(engine, &mut lanes);
        let alone = messages
            .iter()
            .map(|message| <[u8; 16]>::from(md5::Md5::digest(message)));
        lanes.iter().map(|lane| lane.state.finalize()).eq(alone)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(bytes: &[u8]) -> [u8; 16] {
        md5::Md5::digest(bytes).into()
    }

    proptest! {
        #[test]
        fn lanes_of_any_lengths_come_out_as_each_alone(
            streams in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4), 1..20),
        ) {
            let engine = Md5Many::new();
            let mut states = vec![Md5State::new(); streams.len()];
            for round in 0..4 {
                let mut lanes: Vec<Lane> = streams.iter().zip(&states).map(|(stream, state)| Lane {
                    state: *state,
                    bytes: stream.get(round).cloned().unwrap_or_default().into(),
                }).collect();
                hash_together(engine, &mut lanes);
                states = lanes.iter().map(|lane| lane.state).collect();
            }
            for (state, stream) in states.iter().zip(&streams) {
                prop_assert_eq!(state.finalize(), reference(&stream.concat()));
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_streams_at_once_get_their_own_digests() {
        let pool = Md5Streams::new();
        let hashing = (0..40_u8).map(|number| {
            let stream = pool.begin();
            tokio::spawn(async move {
                let batch = Bytes::from(vec![number; 1 << 12]);
                for _ in 0..usize::from(number) {
                    stream.update(batch.clone()).await;
                }
                (number, stream.finish(batch.slice(..77)).await)
            })
        });
        for hashed in hashing.collect::<Vec<_>>() {
            let (number, digest) = hashed.await.unwrap();
            let length = (usize::from(number) << 12) + 77;
            assert_eq!(digest, reference(&vec![number; length]));
        }
        assert_eq!(locked(&pool.0.ready).streams.len(), 0);
    }

    #[test]
    fn the_lanes_of_this_processor_are_used() {
        assert!(lanes_agree(Md5Many::new()));
    }

    #[tokio::test]
    async fn a_stream_without_bytes_has_the_digest_of_nothing() {
        let digest = Md5Streams::new().begin().finish(Bytes::new()).await;
        assert_eq!(digest, reference(b""));
    }
}

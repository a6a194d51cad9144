//! One replica as the gateway sees it: how busy, how healthy, whether still routed.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lepton_types::ReplicaId;
use tokio::time::Instant;

use super::Replica;
use super::endpoint::EndpointState;

/// Lost connections or late answers in a row after which a replica is left out. One is
/// an accident; a refused connection needs no second.
const FAILURES_MAX: u32 = 2;

/// How long a replica is left out before it is probed, doubled while it stays dead.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One replica.
#[derive(Debug)]
pub(super) struct ReplicaState {
    pub(super) replica: Replica,
    endpoint: Arc<EndpointState>,
    in_flight: AtomicUsize,
    /// Inferences that it answered and nobody was told of.
    answered: AtomicU64,
    routed: AtomicBool,
    health: Mutex<ReplicaHealth>,
    up: AtomicBool,
}

#[derive(Debug)]
struct ReplicaHealth {
    failures: u32,
    pause: Duration,
    /// When to probe next; `None` while it is up, or while a probe is under way.
    probe_at: Option<Instant>,
}

/// How a request to a replica failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failing {
    /// Nothing listens there, or nothing that is ready.
    Unreachable,
    /// The connection broke, or the answer came too late.
    Unanswered,
}

/// A request counted in, until dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<ReplicaState>);

impl ReplicaState {
    pub(super) fn new(replica: Replica, endpoint: Arc<EndpointState>) -> Self {
        Self {
            replica,
            endpoint,
            in_flight: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            routed: AtomicBool::new(true),
            health: Mutex::new(ReplicaHealth {
                failures: 0,
                pause: FIRST_PAUSE,
                probe_at: None,
            }),
            up: AtomicBool::new(true),
        }
    }

    pub(super) const fn id(&self) -> ReplicaId {
        self.replica.id
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn set_routed(&self, routed: bool) {
        self.routed.store(routed, Ordering::SeqCst);
    }

    pub(super) fn is_drained(&self) -> bool {
        !self.routed.load(Ordering::SeqCst) && self.in_flight() == 0
    }

    /// Whether it is routed no more, answers nothing, and all its answers were told.
    pub(super) fn is_done(&self) -> bool {
        self.is_drained() && self.answered.load(Ordering::SeqCst) == 0
    }

    /// An inference was answered by it; to be called while that request still counts as in flight.
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn take_answered(&self) -> u64 {
        self.answered.swap(0, Ordering::SeqCst)
    }

    /// Counts a request in, unless the replica is routed no more. Counting comes before
    /// looking, and [`ReplicaState::is_drained`] looks before it reads the count: one of
    /// the two always sees the other, so nothing is sent to a drained replica.
    pub(super) fn begin(self: &Arc<Self>) -> Option<InFlight> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let guard = InFlight(Arc::clone(self));
        self.routed.load(Ordering::SeqCst).then_some(guard)
    }

    /// As [`ReplicaState::begin`], unless it has `most` requests already.
    pub(super) fn begin_within(self: &Arc<Self>, most: usize) -> Option<InFlight> {
        let counted = self
            .in_flight
            .try_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                (count < most).then_some(count + 1)
            });
        counted.ok()?;
        let guard = InFlight(Arc::clone(self));
        self.routed.load(Ordering::SeqCst).then_some(guard)
    }

    /// It answered.
    pub(super) fn succeeded(&self) {
        let mut health = self.health();
        health.failures = 0;
        health.pause = FIRST_PAUSE;
        health.probe_at = None;
        self.up.store(true, Ordering::Relaxed);
    }

    /// It did not.
    pub(super) fn failed(&self, failing: Failing, now: Instant) {
        let mut health = self.health();
        health.failures = health.failures.saturating_add(1);
        if failing == Failing::Unreachable || health.failures >= FAILURES_MAX {
            self.up.store(false, Ordering::Relaxed);
            health.probe_at.get_or_insert(now + FIRST_PAUSE);
        }
    }

    /// Claims the probe that is due, for one caller only.
    pub(super) fn claim_probe(&self, now: Instant) -> bool {
        let mut health = self.health();
        let due = !self.is_up() && health.probe_at.is_some_and(|at| at <= now);
        if due {
            health.probe_at = None;
        }
        due
    }

    /// The probe found it still dead.
    pub(super) fn probe_failed(&self, now: Instant) {
        let mut health = self.health();
        health.pause = (health.pause * 2).min(LONGEST_PAUSE);
        health.probe_at = Some(now + health.pause);
    }

    /// When it is probed next, if it is left out.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.health().probe_at
    }

    fn health(&self) -> std::sync::MutexGuard<'_, ReplicaHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.endpoint.freed();
    }
}

//! One endpoint: its replicas of the moment, and the counters that outlive them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::load::Meter;
use super::replica::{InFlight, ReplicaState};
use super::{EndpointKey, Limit, Route};
use crate::metrics::{LatencyHistogram, LatencySnapshot};

/// One endpoint in one table.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) route: Route,
    pub(super) replicas: Vec<Arc<ReplicaState>>,
    pub(super) state: Arc<EndpointState>,
}

/// What of an endpoint outlives a table.
#[derive(Debug, Default)]
pub(super) struct EndpointState {
    pub(super) counters: Counters,
    waiting: AtomicUsize,
    in_flight: AtomicUsize,
    changes: Notify,
    picks: AtomicU64,
    meter: Mutex<Meter>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    ok: AtomicU64,
    client_errors: AtomicU64,
    server_errors: AtomicU64,
    unavailable: AtomicU64,
    canceled: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) request_bytes: AtomicU64,
    pub(super) response_bytes: AtomicU64,
    latency: LatencyHistogram,
}

/// What an endpoint did since it was first routed.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointUsage {
    /// Which endpoint.
    pub key: EndpointKey,
    /// Requests answered with a success.
    pub ok: u64,
    /// Requests that were wrong (4xx).
    pub client_errors: u64,
    /// Requests that a model or a replica failed (5xx, but 503).
    pub server_errors: u64,
    /// Requests refused for lack of room or of a ready replica (503).
    pub unavailable: u64,
    /// Requests whose caller left before the answer.
    pub canceled: u64,
    /// Times a request was sent again.
    pub retries: u64,
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Bytes of answers' bodies.
    pub response_bytes: u64,
    /// From the request's head to the answer's.
    pub latency: LatencySnapshot,
    /// Requests that wait for a replica now.
    pub waiting: usize,
    /// Requests under way now, those that wait included.
    pub in_flight: usize,
}

impl EndpointUsage {
    /// All requests that came to an end.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.ok + self.client_errors + self.server_errors + self.unavailable + self.canceled
    }
}

/// A request under way; it counts as canceled unless it ends.
pub(super) struct UnderWay {
    state: Arc<EndpointState>,
    started: Instant,
    /// When a replica first had it.
    served: Option<Instant>,
    /// How the endpoint's load is counted, if it is.
    limit: Option<Limit>,
    ended: bool,
}

/// A place among those that wait.
pub(super) struct Waiting<'a>(&'a EndpointState);

impl EndpointState {
    pub(super) fn begin(self: &Arc<Self>, limit: Option<Limit>) -> UnderWay {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        if limit.is_some() {
            self.meter().begin(started);
        }
        UnderWay {
            state: Arc::clone(self),
            started,
            served: None,
            limit,
            ended: false,
        }
    }

    pub(super) fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A replica has room for one more: one of those that wait looks. Both counts are read and
    /// written in one order (`SeqCst`): who begins to wait after this looked sees the room itself.
    pub(super) fn freed(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changes.notify_one();
        }
    }

    /// A place to wait, if fewer than `queue_max` are taken.
    pub(super) fn wait(&self, queue_max: usize) -> Option<Waiting<'_>> {
        self.waiting
            .try_update(Ordering::SeqCst, Ordering::SeqCst, |waiting| {
                (waiting < queue_max).then_some(waiting + 1)
            })
            .ok()
            .map(|_| Waiting(self))
    }

    /// Wakes those that wait: a replica came, went, or was probed.
    pub(super) fn changed(&self) {
        self.changes.notify_waiters();
    }

    /// Completes at the next change after the call.
    pub(super) fn next_change(&self) -> tokio::sync::futures::Notified<'_> {
        self.changes.notified()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    pub(super) fn usage(&self, key: EndpointKey) -> EndpointUsage {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        EndpointUsage {
            key,
            ok: read(&counters.ok),
            client_errors: read(&counters.client_errors),
            server_errors: read(&counters.server_errors),
            unavailable: read(&counters.unavailable),
            canceled: read(&counters.canceled),
            retries: read(&counters.retries),
            request_bytes: read(&counters.request_bytes),
            response_bytes: read(&counters.response_bytes),
            latency: counters.latency.snapshot(),
            waiting: self.waiting.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
        }
    }
}

impl UnderWay {
    pub(super) fn state(&self) -> Arc<EndpointState> {
        Arc::clone(&self.state)
    }

    /// A replica has it now.
    pub(super) fn served(&mut self) {
        self.served.get_or_insert_with(Instant::now);
    }

    pub(super) fn end(mut self, status: StatusCode) {
        self.ended = true;
        let counters = &self.state.counters;
        let counter = match status {
            StatusCode::SERVICE_UNAVAILABLE => &counters.unavailable,
            status if status.is_client_error() => &counters.client_errors,
            status if status.is_server_error() => &counters.server_errors,
            _ => &counters.ok,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        counters.latency.record(self.started.elapsed());
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.state.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(limit) = self.limit {
            let now = Instant::now();
            let waited = self.served.unwrap_or(now) - self.started;
            let service = self.served.map(|served| now - served);
            let mut meter = self.state.meter();
            meter.end(now, waited > limit.late_after, service);
        }
        if !self.ended {
            self.state.counters.canceled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Endpoint {
    pub(super) fn new(
        route: Route,
        replicas: Vec<Arc<ReplicaState>>,
        state: Arc<EndpointState>,
    ) -> Self {
        Self {
            route,
            replicas,
            state,
        }
    }

    /// The less busy of two replicas drawn among those that are up (the power of two
    /// choices: Mitzenmacher 2001), those not in `failed` first.
    pub(super) fn pick(
        &self,
        failed: &[Arc<ReplicaState>],
    ) -> Option<(Arc<ReplicaState>, InFlight)> {
        let has_failed =
            |replica: &Arc<ReplicaState>| failed.iter().any(|other| Arc::ptr_eq(other, replica));
        let up = || self.replicas.iter().filter(|replica| replica.is_up());
        let mut candidates: Vec<_> = up().filter(|replica| !has_failed(replica)).collect();
        if candidates.is_empty() {
            candidates = up().collect();
        }
        while !candidates.is_empty() {
            let count = candidates.len();
            let draw = self.draw();
            let drawn = |bits: u64, among: usize| usize::try_from(bits).unwrap_or(0) % among;
            let first = drawn(draw >> 33, count);
            // Another one than the first, if there is another.
            let step = 1 + drawn(draw & 0x7fff_ffff, (count - 1).max(1));
            let second = (first + step) % count;
            let busier = |at: usize| candidates[at].in_flight();
            let at = if busier(second) < busier(first) {
                second
            } else {
                first
            };
            let replica = candidates.swap_remove(at);
            let most = self.route.limit.map(|limit| limit.concurrency as usize);
            let begun = most.map_or_else(|| replica.begin(), |most| replica.begin_within(most));
            if let Some(in_flight) = begun {
                return Some((Arc::clone(replica), in_flight));
            }
        }
        None
    }

    /// When the first of the replicas left out is probed.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.replicas
            .iter()
            .filter_map(|replica| replica.next_probe())
            .min()
    }

    /// Why no replica takes a request, for people.
    pub(super) fn shortage(&self) -> String {
        match self.replicas.len() {
            0 => "it has no replica that is ready".to_owned(),
            _ if self.replicas.iter().any(|replica| replica.is_up()) => {
                "its replicas have as many requests as they are given".to_owned()
            }
            1 => "its replica does not answer".to_owned(),
            count => format!("none of its {count} replicas answers"),
        }
    }

    /// Draws without shared locks or ambient randomness: a counter, mixed (`SplitMix64`).
    fn draw(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let mut z = self.state.picks.fetch_add(step, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Waits until a change, the next probe, or `deadline`, whichever is first.
pub(super) async fn until_change(
    changed: std::pin::Pin<&mut tokio::sync::futures::Notified<'_>>,
    next_probe: Option<Instant>,
    deadline: Instant,
) {
    let wake = next_probe.map_or(deadline, |at| at.min(deadline));
    let _ = tokio::time::timeout_at(wake, changed).await;
}

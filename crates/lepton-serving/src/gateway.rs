//! The gateway: from an endpoint's name to an answer by one of its replicas.
//!
//! Owns: the numbered snapshot of routes that is pushed to it, the choice of a replica,
//! retrying, waiting while none is ready, draining, and the counters of all that. Must
//! not know: the metadata store, who may call what, ONNX Runtime.
//!
//! A request is never dropped because a replica is replaced or dies: its body is kept
//! until an answer is whole, and inference changes nothing, so it may be asked again.
//! The order of a change is the caller's: publish a table with the new replica, publish
//! one without the old, stop the old once [`Gateway::drained`].

mod attempt;
mod endpoint;
mod failure;
mod forward;
mod headers;
mod load;
mod probe;
mod replica;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use lepton_types::{Name, ReplicaId};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::body::{BODY_BYTES_MAX, BodyBudget};
use crate::token::ReplicaToken;

use attempt::ReplicaClient;
pub use endpoint::EndpointUsage;
use endpoint::{Endpoint, EndpointState};
pub use failure::ForwardError;
pub use load::EndpointLoad;
pub use probe::{Health, probe};
use replica::ReplicaState;

/// Body bytes, of requests and of answers being held, that all endpoints share: a few
/// of the largest, or thousands of usual ones.
const BODY_BUDGET_BYTES: usize = 4 * BODY_BYTES_MAX;

/// An endpoint, by the names people use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// The project.
    pub project: Name,
    /// The endpoint in it.
    pub endpoint: Name,
}

/// All routes at one moment.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// Grows with every change; an older table never replaces a newer one.
    pub number: u64,
    /// The routes.
    pub routes: BTreeMap<EndpointKey, Route>,
}

/// How one endpoint is answered.
#[derive(Debug, Clone)]
pub struct Route {
    /// The model that its replicas serve.
    pub model: String,
    /// The model's version.
    pub version: String,
    /// The replicas that are ready, as far as the publisher knows.
    pub replicas: Vec<Replica>,
    /// The most requests that wait while no replica is ready.
    pub queue_max: usize,
    /// How long a request waits for a replica.
    pub wait_max: Duration,
    /// How long one replica may take to answer.
    pub answer_max: Duration,
    /// What each replica is given at most; as much as comes, where absent.
    pub limit: Option<Limit>,
}

/// What one replica is given at most. An endpoint with a limit has its load counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Requests at once; more of them wait.
    pub concurrency: u32,
    /// A request that waits longer counts as late.
    pub late_after: Duration,
}

/// One process that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its id.
    pub id: ReplicaId,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it wants to be shown.
    pub token: ReplicaToken,
}

/// How an endpoint stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    /// The model that its replicas serve.
    pub model: String,
    /// The model's version.
    pub version: String,
    /// Replicas that are routed.
    pub replicas: usize,
    /// Those of them that were not found unreachable; none means that requests wait.
    pub replicas_up: usize,
}

impl Route {
    /// The usual route: 1,000 waiting requests, 30 s to wait, 60 s to answer.
    #[must_use]
    pub fn new(model: String, version: String, replicas: Vec<Replica>) -> Self {
        Self {
            model,
            version,
            replicas,
            queue_max: 1_000,
            wait_max: Duration::from_secs(30),
            answer_max: Duration::from_secs(60),
            limit: None,
        }
    }
}

/// The gateway; clones share everything.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    snapshot: ArcSwap<Snapshot>,
    registry: Mutex<Registry>,
    client: ReplicaClient,
    budget: BodyBudget,
    probes: TaskTracker,
    /// Rings when a request waits at an endpoint without a replica.
    starved: Notify,
    body_bytes_max: usize,
}

/// What requests read: never locked, replaced whole.
#[derive(Debug, Default)]
struct Snapshot {
    number: u64,
    endpoints: BTreeMap<EndpointKey, Arc<Endpoint>>,
}

/// What outlives a table: replicas with requests in flight, and counters.
#[derive(Debug, Default)]
struct Registry {
    replicas: BTreeMap<ReplicaId, Vec<Arc<ReplicaState>>>,
    endpoints: BTreeMap<EndpointKey, Arc<EndpointState>>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self::new(BODY_BYTES_MAX)
    }
}

impl Gateway {
    /// A gateway without routes, which takes bodies of at most `body_bytes_max`.
    #[must_use]
    pub fn new(body_bytes_max: usize) -> Self {
        Self(Arc::new(Shared {
            snapshot: ArcSwap::default(),
            registry: Mutex::default(),
            client: ReplicaClient::new(),
            budget: BodyBudget::new(BODY_BUDGET_BYTES.max(body_bytes_max)),
            probes: TaskTracker::new(),
            starved: Notify::new(),
            body_bytes_max,
        }))
    }

    /// Replaces all routes. Replicas that stay keep their connections and their health;
    /// those that go get no new requests. Answers whether the table was newer.
    pub fn publish(&self, table: RouteTable) -> bool {
        let mut registry = self.registry();
        let current = self.0.snapshot.load();
        if table.number <= current.number && current.number > 0 {
            return false;
        }
        let mut endpoints = BTreeMap::new();
        let mut kept = Registry::default();
        for (key, route) in table.routes {
            let state = registry.endpoints.remove(&key).unwrap_or_default();
            kept.endpoints.insert(key.clone(), Arc::clone(&state));
            let replicas: Vec<Arc<ReplicaState>> = route
                .replicas
                .iter()
                .map(|replica| registry.take(replica, &state))
                .collect();
            for replica in &replicas {
                replica.set_routed(true);
                let states = kept.replicas.entry(replica.id()).or_default();
                states.push(Arc::clone(replica));
            }
            endpoints.insert(key, Arc::new(Endpoint::new(route, replicas, state)));
        }
        // What is left is routed no more; it is kept while something is in flight or untold.
        for (id, states) in std::mem::take(&mut registry.replicas) {
            for state in states {
                state.set_routed(false);
                if !state.is_done() {
                    kept.replicas.entry(id).or_default().push(state);
                }
            }
        }
        // Counters of endpoints that are gone stay until they are read.
        kept.endpoints.append(&mut registry.endpoints);
        *registry = kept;
        self.0.snapshot.store(Arc::new(Snapshot {
            number: table.number,
            endpoints,
        }));
        for state in registry.endpoints.values() {
            state.changed();
        }
        true
    }

    /// The number of the table in use.
    #[must_use]
    pub fn table_number(&self) -> u64 {
        self.0.snapshot.load().number
    }

    /// How an endpoint stands, at once; a forwarded request would wait for a replica.
    #[must_use]
    pub fn status(&self, key: &EndpointKey) -> Option<EndpointStatus> {
        let snapshot = self.0.snapshot.load();
        let endpoint = snapshot.endpoints.get(key)?;
        let up = endpoint.replicas.iter().filter(|replica| replica.is_up());
        Some(EndpointStatus {
            model: endpoint.route.model.clone(),
            version: endpoint.route.version.clone(),
            replicas: endpoint.replicas.len(),
            replicas_up: up.count(),
        })
    }

    /// Requests that a replica is answering now.
    #[must_use]
    pub fn in_flight(&self, replica: ReplicaId) -> usize {
        self.registry().replicas.get(&replica).map_or(0, |states| {
            states.iter().map(|state| state.in_flight()).sum()
        })
    }

    /// Whether a replica is routed no more and answers nothing: it may be stopped.
    #[must_use]
    pub fn drained(&self, replica: ReplicaId) -> bool {
        self.registry()
            .replicas
            .get(&replica)
            .is_none_or(|states| states.iter().all(|state| state.is_drained()))
    }

    /// Whether a replica was found unreachable and is being probed.
    #[must_use]
    pub fn ejected(&self, replica: ReplicaId) -> bool {
        self.registry()
            .replicas
            .get(&replica)
            .is_some_and(|states| states.iter().any(|state| !state.is_up()))
    }

    /// What every endpoint counted since it was first routed. Counters of an endpoint
    /// that is routed no more, and has nothing in flight, are told this last time.
    #[must_use]
    pub fn usage(&self) -> Vec<EndpointUsage> {
        let mut registry = self.registry();
        let snapshot = self.0.snapshot.load();
        let usage: Vec<EndpointUsage> = registry
            .endpoints
            .iter()
            .map(|(key, state)| state.usage(key.clone()))
            .collect();
        registry
            .endpoints
            .retain(|key, state| snapshot.endpoints.contains_key(key) || !state.is_idle());
        usage
    }

    /// What an endpoint with a limit was asked since this was last read.
    #[must_use]
    pub fn take_load(&self, key: &EndpointKey) -> Option<EndpointLoad> {
        let state = Arc::clone(self.registry().endpoints.get(key)?);
        Some(state.meter().take(Instant::now()))
    }

    /// Requests that wait or are answered now, at an endpoint with a limit.
    #[must_use]
    pub fn load_now(&self, key: &EndpointKey) -> u64 {
        let state = self.registry().endpoints.get(key).map(Arc::clone);
        state.map_or(0, |state| state.meter().in_flight())
    }

    /// Completes when a request has begun to wait at an endpoint without a replica.
    pub async fn starved(&self) {
        self.0.starved.notified().await;
    }

    /// How many inferences each replica answered with a success since this was last asked; those
    /// that answered none are left out. Each is told exactly once.
    #[must_use]
    pub fn take_answered(&self) -> BTreeMap<ReplicaId, u64> {
        let mut registry = self.registry();
        let mut answered = BTreeMap::new();
        for (id, states) in &registry.replicas {
            let count = states.iter().map(|state| state.take_answered()).sum();
            if count > 0 {
                answered.insert(*id, count);
            }
        }
        registry.replicas.retain(|_, states| {
            states.retain(|state| !state.is_done());
            !states.is_empty()
        });
        answered
    }

    /// Waits for what the gateway itself started. Requests are their callers' own.
    pub async fn close(&self) {
        self.0.probes.close();
        self.0.probes.wait().await;
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.0
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// The state of that very replica, or a new one.
    fn take(&mut self, replica: &Replica, endpoint: &Arc<EndpointState>) -> Arc<ReplicaState> {
        let known = self.replicas.get_mut(&replica.id).and_then(|states| {
            let at = states.iter().position(|state| state.replica == *replica)?;
            Some(states.swap_remove(at))
        });
        known.unwrap_or_else(|| Arc::new(ReplicaState::new(replica.clone(), Arc::clone(endpoint))))
    }
}

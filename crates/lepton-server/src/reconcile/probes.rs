//! Probes: whether replicas answer, asked again and again beside the reconciler.

use futures_util::StreamExt as _;
use lepton_executors::{Observation, WorkloadId};
use lepton_planner::workloads::Health;
use lepton_serving::gateway::{self, probe};
use lepton_types::Id;
use lepton_types::resources::ReplicaPhase;

use crate::app::App;

/// How soon a starting replica is noticed to be ready.
const PROBE_STARTING: std::time::Duration = std::time::Duration::from_millis(50);

/// How often a ready one is asked; three misses make it dead.
const PROBE_READY: std::time::Duration = std::time::Duration::from_secs(2);

/// Probes under way at once.
const PROBES_AT_ONCE: usize = 32;

/// Probes until the server stops.
pub(crate) async fn probe_replicas(app: App) {
    let mut ready_due = tokio::time::Instant::now();
    loop {
        let now = tokio::time::Instant::now();
        let all = now >= ready_due;
        if all {
            ready_due = now + PROBE_READY;
        }
        let targets: Vec<(Id, ReplicaPhase, Option<std::net::SocketAddr>)> =
            app.cache.read(|live| {
                let open = live
                    .replicas
                    .iter()
                    .filter(|(_, replica)| !replica.status.phase.is_final());
                open.map(|(id, replica)| (*id, replica.status.phase, replica.status.address))
                    .collect()
            });
        forget_others(&app, &targets);
        let starting = targets
            .iter()
            .any(|(_, phase, _)| *phase == ReplicaPhase::Starting);
        let due = targets
            .into_iter()
            .filter(|(_, phase, _)| all || *phase == ReplicaPhase::Starting);
        let changed = futures_util::stream::iter(due)
            .map(|(id, phase, address)| ask(&app, id, phase, address))
            .buffer_unordered(PROBES_AT_ONCE)
            .any(|changed| async move { changed })
            .await;
        if changed {
            app.nudge.notify_one();
        }
        let pause = if starting {
            PROBE_STARTING
        } else {
            ready_due - tokio::time::Instant::now()
        };
        let mut versions = app.store.subscribe();
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            // A new replica must not wait for the next round.
            _moved = versions.changed(), if !starting => tokio::time::sleep(PROBE_STARTING).await,
        }
    }
}

fn forget_others(app: &App, targets: &[(Id, ReplicaPhase, Option<std::net::SocketAddr>)]) {
    let mut health = app.health.lock().expect("invariant: no holder panics");
    health.retain(|id, _| targets.iter().any(|(target, ..)| target == id));
    for (id, ..) in targets {
        health.entry(*id).or_default();
    }
}

/// Returns whether the planner should know.
async fn ask(
    app: &App,
    id: Id,
    phase: ReplicaPhase,
    address: Option<std::net::SocketAddr>,
) -> bool {
    let address = match address {
        Some(address) => Some(address),
        None if phase == ReplicaPhase::Starting => address_of(app, id).await,
        None => None,
    };
    let Some(address) = address else { return false };
    let answers = probe(address).await == gateway::Health::Ready;
    let mut health = app.health.lock().expect("invariant: no holder panics");
    let Some(known) = health.get_mut(&id) else {
        return false;
    };
    let before = *known;
    known.take_in(answers);
    let Health { answers: was, .. } = before;
    was != answers || (phase == ReplicaPhase::Ready && !answers)
}

/// Where a replica listens that the record does not know yet.
async fn address_of(app: &App, id: Id) -> Option<std::net::SocketAddr> {
    let key = WorkloadId {
        attempt: id,
        rank: 0,
    };
    let observed = app
        .with_executor(|executor| executor.observe())
        .await
        .ok()?
        .ok()?;
    match observed.get(&key)? {
        Observation::Running { addresses, .. } => addresses.values().next().copied(),
        Observation::Starting | Observation::Exited { .. } | Observation::Lost { .. } => None,
    }
}

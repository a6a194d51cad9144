//! Gathering: the facts of a pass, from the store's working set, the executor and the probes.

use std::collections::BTreeMap;

use lepton_executors::{
    CpuEnforcement, Enforcement, ExitOutcome, MemoryEnforcement, Observation, StopReason,
};
use lepton_planner::cluster::{Node, NodeName};
use lepton_planner::workloads::{Load, Policy, View, WorkerFact, WorkerKey};
use lepton_types::Id;
use lepton_types::resources::{ExitReason, ModelSelector};

use super::PassError;
use crate::app::App;
use crate::cache::Live;
use crate::loads::key_of;

pub(super) async fn gather(
    app: &App,
    unstartable: &BTreeMap<WorkerKey, String>,
) -> Result<View, PassError> {
    let observed = app.with_executor(|executor| executor.observe()).await??;
    let mut workers: BTreeMap<WorkerKey, WorkerFact> = observed
        .into_iter()
        .map(|(id, observation)| {
            (
                WorkerKey {
                    id: id.attempt,
                    rank: id.rank,
                },
                fact(observation),
            )
        })
        .collect();
    for (key, message) in unstartable {
        workers.entry(*key).or_insert_with(|| WorkerFact::Exited {
            reason: ExitReason::CouldNotStart {
                message: message.clone(),
            },
            started_at: None,
            finished_at: app.now(),
            memory_bytes_max: None,
        });
    }
    let health = app
        .health
        .lock()
        .expect("invariant: no holder panics")
        .clone();
    Ok(app.cache.read(|live| View {
        nodes: nodes(live),
        jobs: live.jobs.clone(),
        attempts: live.attempts.clone(),
        endpoints: live.endpoints.clone(),
        replicas: live.replicas.clone(),
        versions: versions(live),
        loads: loads(app, live),
        reservations: live.reservations.clone(),
        workers,
        health,
        policy: Policy::default(),
    }))
}

/// Takes in the requests that each replica works on.
pub(super) fn count_requests(app: &App, view: &mut View) {
    for (id, health) in &mut view.health {
        health.in_flight = app.gateway.in_flight((*id).into()) as u64;
    }
}

/// What the endpoints that follow their load were asked, with the requests they have now.
fn loads(app: &App, live: &Live) -> BTreeMap<Id, Load> {
    let followed = live
        .endpoints
        .iter()
        .filter(|(_, endpoint)| endpoint.spec.scaling.is_some());
    let seen = followed.filter_map(|(id, endpoint)| {
        let in_flight = app.gateway.load_now(&key_of(endpoint)?);
        Some((*id, app.loads.of(*id, in_flight)?))
    });
    seen.collect()
}

fn nodes(live: &Live) -> BTreeMap<NodeName, Node> {
    let nodes = live.pools.values().flat_map(|pool| &pool.status.nodes);
    nodes
        .filter_map(|node| Some((node.name.parse().ok()?, Node::from(node.capacity))))
        .collect()
}

/// The model version that each endpoint's spec means now.
fn versions(live: &Live) -> BTreeMap<Id, u32> {
    if live.endpoints.is_empty() {
        return BTreeMap::new();
    }
    let models: BTreeMap<_, _> = live
        .models
        .values()
        .map(|model| {
            (
                (&model.metadata.project, model.metadata.name.as_str()),
                model,
            )
        })
        .collect();
    let meant = live.endpoints.iter().filter_map(|(id, endpoint)| {
        let wanted = &endpoint.spec.model;
        let model = models.get(&(&endpoint.metadata.project, wanted.model.as_str()))?;
        let newest = model.status.latest_version;
        let version = match &wanted.selector {
            ModelSelector::Latest => newest,
            ModelSelector::Version(version) => *version,
            ModelSelector::Alias(alias) => *model.spec.aliases.get(alias)?,
        };
        (1..=newest).contains(&version).then_some((*id, version))
    });
    meant.collect()
}

fn fact(observation: Observation) -> WorkerFact {
    match observation {
        Observation::Starting => WorkerFact::Starting,
        Observation::Running {
            since,
            addresses,
            enforcement,
            ..
        } => WorkerFact::Running {
            since,
            address: addresses.into_values().next(),
            enforcement: in_words(enforcement),
        },
        Observation::Exited {
            outcome,
            started_at,
            finished_at,
            usage,
        } => WorkerFact::Exited {
            reason: reason(outcome),
            started_at,
            finished_at,
            memory_bytes_max: Some(usage.memory_peak.as_bytes()).filter(|bytes| *bytes > 0),
        },
        Observation::Lost { reason } => WorkerFact::Lost {
            message: reason.to_string(),
        },
    }
}

fn reason(outcome: ExitOutcome) -> ExitReason {
    match outcome {
        ExitOutcome::Code(code) => ExitReason::Exited { code },
        ExitOutcome::Signal(signal) => ExitReason::Signalled { signal },
        ExitOutcome::OutOfMemory { limit } => ExitReason::OutOfMemory {
            limit_bytes: limit.as_bytes(),
        },
        ExitOutcome::TimedOut { after } => ExitReason::TimedOut { after },
        // The planner knows the first cause; what is said here is what the worker met.
        ExitOutcome::Stopped(StopReason::GangFailed) => ExitReason::GangFailed { rank: 0 },
        ExitOutcome::Stopped(stop) => ExitReason::Cancelled {
            by: stop.to_string(),
        },
        ExitOutcome::CouldNotStart(message) => ExitReason::CouldNotStart { message },
    }
}

fn in_words(enforcement: Enforcement) -> String {
    let cpu = match enforcement.cpu {
        CpuEnforcement::Unlimited => "processors unlimited",
        CpuEnforcement::CgroupV2 => "processors by control group v2",
        CpuEnforcement::CgroupV1 => "processors by control group v1",
        CpuEnforcement::Pinned => "processors by pinning",
    };
    let memory = match enforcement.memory {
        MemoryEnforcement::Unlimited => "memory unlimited",
        MemoryEnforcement::CgroupV2 => "memory by control group v2",
        MemoryEnforcement::CgroupV1 => "memory by control group v1",
        MemoryEnforcement::Sampled => "memory by sampling",
    };
    format!("{cpu}, {memory}")
}

//! An independent reading of the rules: refuses a plan that breaks one, whoever made it.

use std::collections::{BTreeMap, BTreeSet};

use lepton_types::resources::{
    AttemptPhase, Kind, ReplicaPhase, Reservation, ReservationPhase, ReservationSpec,
};
use lepton_types::{Id, Resources, Timestamp};

use super::scaling::view_of;
use super::{
    Change, Effect, EndpointChange, Plan, ReservationChange, View, WorkerKey, placement_view,
};
use crate::cluster::NodeName;
use crate::{PlanRng, autoscaling, cluster};

/// A rule that a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A worker would be started that is known already, or that no record asks for.
    #[error("worker {} of `{}` would be started again", key.rank, key.id)]
    LaunchedTwice {
        /// Which.
        key: WorkerKey,
    },
    /// A worker would be dropped that has not ended.
    #[error("worker {} of `{}` would be dropped while it runs", key.rank, key.id)]
    DroppedAlive {
        /// Which.
        key: WorkerKey,
    },
    /// A job would get an attempt beside one that is not over.
    #[error("job `{job}` would get a second attempt beside one that is not over")]
    TwoAttempts {
        /// Which.
        job: Id,
    },
    /// A job that is over would be changed.
    #[error("job `{job}` is over and would be changed")]
    ChangedAfterEnd {
        /// Which.
        job: Id,
    },
    /// An attempt would start with another number of workers than was asked for.
    #[error("job `{job}` asks for {workers} workers and would get {nodes}")]
    SplitGang {
        /// Which.
        job: Id,
        /// Asked for.
        workers: u32,
        /// Given.
        nodes: usize,
    },
    /// Something would be deleted while a part of it runs.
    #[error("`{id}` would be deleted while a part of it runs")]
    DeletedAlive {
        /// Which.
        id: Id,
    },
    /// An endpoint would lose replicas that answer and that it needs.
    #[error("endpoint `{endpoint}` would drain down to {left} replicas that answer, of {wanted}")]
    DrainedBelow {
        /// Which.
        endpoint: Id,
        /// Ready ones that would be left.
        left: usize,
        /// Asked for.
        wanted: u32,
    },
    /// Who runs where breaks a rule.
    #[error(transparent)]
    Placement(#[from] cluster::Finding),
    /// A reservation would be promised other room than it asks for, or more than there is.
    #[error("reservation `{reservation}`: {why}")]
    Promise {
        /// Which.
        reservation: Id,
        /// The rule.
        why: &'static str,
    },
    /// The number of replicas breaks a rule.
    #[error("endpoint `{endpoint}`: {finding}")]
    Scaling {
        /// Which.
        endpoint: Id,
        /// The rule.
        #[source]
        finding: autoscaling::Finding,
    },
}

/// Every rule that `plan`, made with `rng`, breaks, given `view` at `now`.
#[must_use]
pub fn check(view: &View, plan: &Plan, now: Timestamp, rng: &PlanRng) -> Vec<Finding> {
    let room = placement_view(view, now, rng);
    let placement = cluster::check(&room, &plan.placement, now).into_iter();
    let mut findings: Vec<Finding> = placement.map(Finding::Placement).collect();
    for effect in &plan.effects {
        check_effect(view, effect, &mut findings);
    }
    check_scaling(view, plan, now, &mut findings);
    let busy: BTreeSet<Id> = view
        .attempts
        .values()
        .filter_map(|attempt| Some(attempt.metadata.owner?.id))
        .collect();
    for change in &plan.changes {
        match change {
            Change::Job(change) => {
                let Some(job) = view.jobs.get(&change.job) else {
                    continue;
                };
                if let Some(start) = &change.start {
                    if busy.contains(&change.job) {
                        findings.push(Finding::TwoAttempts { job: change.job });
                    }
                    if start.nodes.len() != job.spec.workers as usize {
                        let (workers, nodes) = (job.spec.workers, start.nodes.len());
                        findings.push(Finding::SplitGang {
                            job: change.job,
                            workers,
                            nodes,
                        });
                    }
                }
                if job.status.phase.is_final()
                    && (change.status.is_some() || change.start.is_some())
                {
                    findings.push(Finding::ChangedAfterEnd { job: change.job });
                }
                if change.delete && busy.contains(&change.job) {
                    findings.push(Finding::DeletedAlive { id: change.job });
                }
            }
            Change::Endpoint(change) => {
                check_drains(view, plan, change, &mut findings);
                let alive = view.replicas.values().any(|replica| {
                    replica
                        .metadata
                        .owner
                        .is_some_and(|owner| owner.id == change.endpoint)
                        && is_running(view, replica.metadata.id)
                });
                if change.delete && alive {
                    findings.push(Finding::DeletedAlive {
                        id: change.endpoint,
                    });
                }
            }
            Change::Reservation(change) => check_promise(view, plan, change, &mut findings),
        }
    }
    findings
}

fn check_scaling(view: &View, plan: &Plan, now: Timestamp, findings: &mut Vec<Finding>) {
    for (endpoint, decided) in &plan.scaling {
        let seen = view.endpoints.get(endpoint);
        let Some(seen) = seen.and_then(|endpoint| view_of(view, endpoint)) else {
            continue;
        };
        let broken = autoscaling::check(&seen, decided, now).into_iter();
        findings.extend(broken.map(|finding| Finding::Scaling {
            endpoint: *endpoint,
            finding,
        }));
    }
}

fn check_promise(
    view: &View,
    plan: &Plan,
    change: &ReservationChange,
    findings: &mut Vec<Finding>,
) {
    let Some(asked) = view.reservations.get(&change.reservation) else {
        return;
    };
    let Some(nodes) = booked(asked, Some(change)) else {
        return;
    };
    let mut refuse = |why| {
        findings.push(Finding::Promise {
            reservation: change.reservation,
            why,
        });
    };
    if asked.status.phase != ReservationPhase::Pending {
        refuse("it was decided before");
    }
    if nodes.len() != asked.spec.workers as usize {
        refuse("it is for another number of workers");
    }
    let changes: BTreeMap<Id, &ReservationChange> = plan
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::Reservation(change) => Some((change.reservation, change)),
            Change::Job(_) | Change::Endpoint(_) => None,
        })
        .collect();
    let mut sums: BTreeMap<&str, Resources> = BTreeMap::new();
    let overlaps =
        |spec: &ReservationSpec| spec.from < asked.spec.until && asked.spec.from < spec.until;
    for (id, other) in &view.reservations {
        if let Some(nodes) = booked(other, changes.get(id).copied())
            && overlaps(&other.spec)
        {
            for node in nodes {
                let sum = sums.entry(node).or_insert(Resources::ZERO);
                *sum = sum.plus(&other.spec.resources);
            }
        }
    }
    for node in nodes {
        let machine = node
            .parse()
            .ok()
            .and_then(|name| view.nodes.get::<NodeName>(&name));
        let promised = sums.get(node.as_str()).copied().unwrap_or_default();
        if machine.is_none_or(|machine| !machine.capacity.covers(&promised)) {
            return refuse("more would be promised of a machine than it has");
        }
    }
}

/// The machines that are promised to a reservation after this plan.
fn booked<'a>(
    reservation: &'a Reservation,
    change: Option<&'a ReservationChange>,
) -> Option<&'a [String]> {
    if change.is_some_and(|change| change.delete) {
        return None;
    }
    let changed = change.and_then(|change| change.status.as_ref());
    let status = changed.unwrap_or(&reservation.status);
    (status.phase == ReservationPhase::Booked).then_some(&status.nodes[..])
}

fn check_drains(view: &View, plan: &Plan, change: &EndpointChange, findings: &mut Vec<Finding>) {
    let Some(endpoint) = view.endpoints.get(&change.endpoint) else {
        return;
    };
    if change.drain.is_empty() || endpoint.is_deleting() {
        return;
    }
    let fixed = endpoint.spec.replicas;
    let wanted = match plan.scaling.get(&change.endpoint) {
        Some(scaled) => scaled.replicas,
        None => fixed,
    };
    let ready = view.replicas.iter().filter(|(id, replica)| {
        let owned = replica.metadata.owner.map(|owner| owner.id) == Some(change.endpoint);
        let status = change.replicas.get(id).unwrap_or(&replica.status);
        owned && status.phase == ReplicaPhase::Ready && !change.drain.contains(id)
    });
    let left = ready.count();
    if left < wanted as usize {
        findings.push(Finding::DrainedBelow {
            endpoint: change.endpoint,
            left,
            wanted,
        });
    }
}

fn check_effect(view: &View, effect: &Effect, findings: &mut Vec<Finding>) {
    match effect {
        Effect::Launch(key, kind) => {
            let asked_for = match kind {
                Kind::Attempt => view
                    .attempts
                    .get(&key.id)
                    .is_some_and(|attempt| attempt.status.phase == AttemptPhase::Starting),
                _ => view
                    .replicas
                    .get(&key.id)
                    .is_some_and(|replica| replica.status.phase == ReplicaPhase::Starting),
            };
            if view.workers.contains_key(key) || !asked_for {
                findings.push(Finding::LaunchedTwice { key: *key });
            }
        }
        Effect::Forget(key) => {
            if is_running_worker(view, *key) {
                findings.push(Finding::DroppedAlive { key: *key });
            }
        }
        Effect::Stop(..) => {}
    }
}

fn is_running(view: &View, id: Id) -> bool {
    is_running_worker(view, WorkerKey { id, rank: 0 })
}

fn is_running_worker(view: &View, key: WorkerKey) -> bool {
    use super::WorkerFact::{Exited, Lost, Running, Starting};
    match view.workers.get(&key) {
        Some(Starting | Running { .. }) => true,
        Some(Exited { .. } | Lost { .. }) | None => false,
    }
}

//! An independent reading of the rules: refuses a plan that breaks one, whoever made it.

use std::collections::BTreeSet;

use lepton_types::Id;
use lepton_types::resources::{AttemptPhase, Kind, ReplicaPhase};

use super::{Change, Effect, Plan, View, WorkerKey};

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
}

/// Every rule that `plan` breaks, given `view`.
#[must_use]
pub fn check(view: &View, plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    for effect in &plan.effects {
        check_effect(view, effect, &mut findings);
    }
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
        }
    }
    findings
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

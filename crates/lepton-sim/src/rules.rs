//! The rules: what must hold after every step, whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use lepton_executors::{ExitOutcome, Observation, WorkloadId};
use lepton_server::simulation::Lab;
use lepton_store::{Query, StoreError};
use lepton_types::resources::{
    Attempt, AttemptPhase, AttemptSpec, Endpoint, EndpointSpec, Job, JobPhase, JobSpec, Node,
    Replica, ReplicaSpec, Resource, Spec,
};
use lepton_types::{Id, Resources};

use crate::faults::FaultyExecutor;
use crate::ledger::{JobPromise, Ledger};

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub(crate) String);

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self(format!("the store could not be read: {error}"))
    }
}

macro_rules! hold {
    ($holds:expr, $($rule:tt)+) => {
        if !$holds {
            return Err(Broken(format!($($rule)+)));
        }
    };
}
pub(crate) use hold;

/// All that is recorded.
pub(crate) struct Records {
    pub(crate) jobs: BTreeMap<Id, Job>,
    pub(crate) attempts: BTreeMap<Id, Attempt>,
    pub(crate) endpoints: BTreeMap<Id, Endpoint>,
    pub(crate) replicas: BTreeMap<Id, Replica>,
}

impl Records {
    async fn read(lab: &Lab) -> Result<Self, StoreError> {
        Ok(Self {
            jobs: all::<JobSpec>(lab).await?,
            attempts: all::<AttemptSpec>(lab).await?,
            endpoints: all::<EndpointSpec>(lab).await?,
            replicas: all::<ReplicaSpec>(lab).await?,
        })
    }

    fn attempts_of(&self, job: Id) -> Vec<&Attempt> {
        let owned = self.attempts.values().filter(|a| owns(job, a));
        let mut attempts: Vec<&Attempt> = owned.collect();
        attempts.sort_by_key(|attempt| attempt.spec.number);
        attempts
    }

    fn node_of(&self, worker: WorkloadId) -> Option<&str> {
        if let Some(attempt) = self.attempts.get(&worker.attempt) {
            let open = !attempt.status.phase.is_final();
            let node = attempt.spec.nodes.get(worker.rank as usize)?;
            return open.then_some(node);
        }
        let replica = self.replicas.get(&worker.attempt)?;
        let open = !replica.status.phase.is_final();
        open.then_some(&replica.spec.node)
    }
}

/// The records as of the last change of the store: most steps change nothing.
#[derive(Default)]
pub(crate) struct LastRead(Option<(u64, Records)>);

impl LastRead {
    pub(crate) async fn read(&mut self, lab: &Lab) -> Result<&Records, StoreError> {
        let version = *lab.store().subscribe().borrow();
        let known = match self.0.take() {
            Some(known) if known.0 == version => known,
            _ => (version, Records::read(lab).await?),
        };
        Ok(&self.0.insert(known).1)
    }
}

async fn all<S: Spec>(lab: &Lab) -> Result<BTreeMap<Id, Resource<S, S::Status>>, StoreError> {
    let found = lab.store().list_all::<S>(Query::default()).await?;
    Ok(found.into_iter().map(|r| (r.metadata.id, r)).collect())
}

fn owns<S, T>(owner: Id, owned: &Resource<S, T>) -> bool {
    owned.metadata.owner.is_some_and(|found| found.id == owner)
}

/// Every rule about jobs and workers.
pub(crate) fn check(
    records: &Records,
    ledger: &mut Ledger,
    executor: &FaultyExecutor,
    nodes: &[Node],
) -> Result<(), Broken> {
    let starts = executor.fake.starts();
    for (worker, count) in &starts {
        hold!(*count == 1, "worker {worker} was started {count} times");
    }
    check_room(records, executor, nodes)?;
    let ends = executor.ends();
    for (id, promise) in &mut ledger.jobs {
        match records.jobs.get(id) {
            Some(job) => {
                let attempts = records.attempts_of(*id);
                check_job(job, &attempts, promise)?;
                for attempt in attempts {
                    check_gang(attempt, promise.workers, &starts, &ends)?;
                }
            }
            None => hold!(promise.deleted, "job {id} was accepted and is lost"),
        }
    }
    for (name, promise) in &ledger.endpoints {
        let found = records.endpoints.get(&promise.id);
        let kept = found.is_some_and(|found| {
            found.spec.replicas == promise.wanted && (!promise.deleted || found.is_deleting())
        });
        let gone = promise.deleted && found.is_none();
        hold!(kept || gone, "endpoint {name} was accepted and is lost");
    }
    remember_broken(records, ledger, executor);
    Ok(())
}

/// No machine has more on it than it can hold, and nothing runs that no open record asks for.
fn check_room(records: &Records, executor: &FaultyExecutor, nodes: &[Node]) -> Result<(), Broken> {
    let asked_for = executor.asked_for();
    let mut used: BTreeMap<&str, Resources> = BTreeMap::new();
    for (worker, seen) in executor.truth() {
        if seen.is_final() {
            continue;
        }
        let Some(node) = records.node_of(worker) else {
            return Err(Broken(format!(
                "worker {worker} runs and no open record accounts for it"
            )));
        };
        let sum = used.entry(node).or_default();
        let asked = asked_for.get(&worker).copied().unwrap_or_default();
        sum.cpu = lepton_types::CpuMillis::from_millis(sum.cpu.as_millis() + asked.cpu.as_millis());
        let memory = sum.memory.as_bytes() + asked.memory.as_bytes();
        sum.memory = lepton_types::MemoryBytes::from_bytes(memory);
    }
    for (name, sum) in used {
        let node = nodes.iter().find(|node| node.name == name);
        let fits = node
            .is_some_and(|node| sum.cpu <= node.capacity.cpu && sum.memory <= node.capacity.memory);
        hold!(fits, "node {name} is over its capacity: {sum:?}");
    }
    Ok(())
}

/// A job ends as its last attempt says, after at most as many as were allowed, and stays so.
fn check_job(job: &Job, attempts: &[&Attempt], promise: &mut JobPromise) -> Result<(), Broken> {
    let (id, phase) = (job.metadata.id, job.status.phase);
    let numbers: Vec<u32> = attempts.iter().map(|a| a.spec.number).collect();
    let expected: Vec<u32> = (1..=job.status.attempts).collect();
    hold!(
        numbers == expected,
        "job {id} says {expected:?} and has the attempts {numbers:?}"
    );
    hold!(
        job.status.attempts <= 1 + promise.retries,
        "job {id} was tried {} times, and may be {} times",
        job.status.attempts,
        1 + promise.retries
    );
    let cancel_kept = !promise.cancelled || job.spec.cancel_requested_at.is_some();
    hold!(cancel_kept, "the cancellation of job {id} is lost");
    let (last, before) = match attempts.split_last() {
        Some((last, before)) => (Some(last.status.phase), before),
        None => (None, attempts),
    };
    for attempt in before {
        let ended = attempt.status.phase;
        let tried_again = matches!(ended, AttemptPhase::Failed | AttemptPhase::Lost);
        hold!(
            tried_again,
            "job {id} was tried again after an attempt that has {ended}"
        );
    }
    use AttemptPhase as A;
    let agrees = match phase {
        JobPhase::Queued => last.is_none_or(|last| matches!(last, A::Failed | A::Lost)),
        JobPhase::Running => last.is_some_and(|last| !last.is_final()),
        JobPhase::Succeeded => last == Some(A::Succeeded),
        JobPhase::Failed => matches!(last, Some(A::Failed | A::Lost)),
        JobPhase::Cancelled => {
            promise.cancelled
                && last.is_none_or(|last| matches!(last, A::Cancelled | A::Failed | A::Lost))
        }
    };
    hold!(
        agrees,
        "job {id} has {phase}, and its last attempt {last:?}"
    );
    if let Some(end) = promise.end {
        hold!(end == phase, "job {id} had ended as {end} and is {phase}");
    }
    promise.end = phase.is_final().then_some(phase);
    Ok(())
}

/// A gang starts whole, and what is recorded of it is what its workers did.
fn check_gang(
    attempt: &Attempt,
    workers: u32,
    starts: &BTreeMap<WorkloadId, u32>,
    ends: &BTreeMap<WorkloadId, Observation>,
) -> Result<(), Broken> {
    let (id, phase) = (attempt.metadata.id, attempt.status.phase);
    let gang = (0..workers).map(|rank| WorkloadId { attempt: id, rank });
    let gang: Vec<WorkloadId> = gang.collect();
    hold!(
        attempt.spec.nodes.len() == gang.len(),
        "attempt {id} has {} places for {workers} workers",
        attempt.spec.nodes.len()
    );
    let started = gang.iter().filter(|worker| starts.contains_key(worker));
    let started = started.count();
    let whole = matches!(phase, AttemptPhase::Running | AttemptPhase::Succeeded);
    hold!(
        !whole || started == gang.len(),
        "attempt {id} has {phase} and only {started} of {workers} workers started"
    );
    let well = |worker: &WorkloadId| {
        let end = ends.get(worker);
        matches!(
            end,
            Some(Observation::Exited {
                outcome: ExitOutcome::Code(0),
                ..
            })
        )
    };
    let all_well = gang.iter().all(well);
    match phase {
        AttemptPhase::Succeeded => {
            hold!(
                all_well,
                "attempt {id} succeeded, and a worker of it did not"
            );
        }
        AttemptPhase::Failed | AttemptPhase::Lost | AttemptPhase::Cancelled => {
            hold!(
                !all_well,
                "attempt {id} has {phase}, and all its workers did well"
            );
        }
        AttemptPhase::Starting | AttemptPhase::Running | AttemptPhase::Stopping => {}
    }
    Ok(())
}

fn remember_broken(records: &Records, ledger: &mut Ledger, executor: &FaultyExecutor) {
    let truth = executor.truth();
    for (id, replica) in &records.replicas {
        let worker = WorkloadId {
            attempt: *id,
            rank: 0,
        };
        // What the server stopped without a reason on record did not break by itself.
        let by_itself = match truth.get(&worker) {
            Some(Observation::Exited { outcome, .. }) => {
                !matches!(outcome, ExitOutcome::Stopped(_))
            }
            Some(Observation::Lost { .. }) => true,
            Some(Observation::Starting | Observation::Running { .. }) | None => false,
        };
        if replica.status.reason.is_some() || by_itself {
            ledger.broken_replicas.insert(*id);
        }
    }
}

/// An endpoint that had ready replicas keeps them, down to what is wanted, unless they fell out by
/// themselves. To be checked after every pass that was finished.
pub(crate) fn check_routes(
    records: &Records,
    ledger: &mut Ledger,
    lab: &Lab,
) -> Result<(), Broken> {
    for (name, promise) in &mut ledger.endpoints {
        let owned = records.replicas.iter().filter(|(_, r)| owns(promise.id, r));
        let routed = owned
            .filter(|(id, _)| lab.is_routed(**id))
            .map(|(id, _)| *id);
        let routed: BTreeSet<Id> = routed.collect();
        let had = promise.routed.difference(&ledger.broken_replicas).count();
        let least = had.min(promise.kept_min as usize);
        hold!(
            promise.deleted || routed.len() >= least,
            "endpoint {name} had {had} sound replicas of {} wanted, and has {}",
            promise.kept_min,
            routed.len()
        );
        promise.routed = routed;
        promise.kept_min = promise.kept;
    }
    Ok(())
}

//! What to do next about every job, every endpoint and every reservation of a pool: the decision
//! that the reconciler carries out.
//!
//! Owns: the lifecycles of jobs, attempts, endpoints, replicas and reservations; when something is tried
//! again, stopped, drained, replaced. Must not know: how workers are started and watched.
//!
//! # Goals
//!
//! - An attempt is recorded before its workers are launched, and a worker is launched only while
//!   the record says that it has not started: whatever crashes in between, it starts once.
//! - A gang starts together or not at all; when one worker fails, the others are stopped.
//! - An endpoint never has fewer ready replicas than it had, down to what is wanted, while it is
//!   redeployed: new ones are ready before old ones drain.
//! - The plan depends on the view alone: it is level-triggered, and a pass that was carried out
//!   in half is completed by the next.

mod check;
mod endpoints;
mod jobs;
mod reservations;
mod scaling;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use lepton_types::resources::{
    AttemptStatus, EndpointStatus, EventSeverity, JobStatus, Kind, ReplicaStatus,
    ReservationStatus, RunPhase, Waiting,
};
use lepton_types::{Id, Timestamp};
use serde::{Deserialize, Serialize};

pub use check::{Finding, check};
pub use scaling::scaling_record;
pub use view::{Health, Load, Policy, View, WorkerFact, WorkerKey};

use crate::PlanRng;
use crate::autoscaling::AutoscalePlan;
use crate::cluster::{self, ClusterView, GangId, NodeName, Seat};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// What is to be recorded, one transaction each.
    pub changes: Vec<Change>,
    /// What is to be done to workers after that.
    pub effects: Vec<Effect>,
    /// What was decided about room on the machines.
    pub placement: cluster::Plan,
    /// How many replicas each endpoint that follows its load should have.
    #[serde(default)]
    pub scaling: BTreeMap<Id, AutoscalePlan>,
}

/// What is to be recorded about one job, endpoint or reservation, in one transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// About a job.
    Job(JobChange),
    /// About an endpoint.
    Endpoint(EndpointChange),
    /// About a reservation.
    Reservation(ReservationChange),
}

/// What is to be recorded about a reservation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReservationChange {
    /// The reservation.
    pub reservation: Id,
    /// Its new status.
    pub status: Option<ReservationStatus>,
    /// It has been over for long.
    pub delete: bool,
    /// What people should read.
    pub events: Vec<Happening>,
}

/// What is to be recorded about a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobChange {
    /// The job.
    pub job: Id,
    /// Its new status.
    pub status: Option<JobStatus>,
    /// Where its run stands now.
    pub run: Option<RunPhase>,
    /// An attempt's new status.
    pub attempt: Option<(Id, AttemptStatus)>,
    /// A new attempt, with the node of each worker.
    pub start: Option<NewAttempt>,
    /// Nothing of it runs any more, and its deletion was asked for.
    pub delete: bool,
    /// What people should read.
    pub events: Vec<Happening>,
}

/// A new attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewAttempt {
    /// Counts from 1.
    pub number: u32,
    /// The node of each worker, by rank.
    pub nodes: Vec<NodeName>,
}

/// What is to be recorded about an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointChange {
    /// The endpoint.
    pub endpoint: Id,
    /// Its new status.
    pub status: Option<EndpointStatus>,
    /// New statuses of its replicas.
    pub replicas: BTreeMap<Id, ReplicaStatus>,
    /// Replicas that get no new requests from now on.
    pub drain: Vec<Id>,
    /// Replicas to be recorded, each of this version on this node.
    pub start: Vec<NewReplica>,
    /// Replicas whose records go.
    pub forget: Vec<Id>,
    /// Nothing of it runs any more, and its deletion was asked for.
    pub delete: bool,
    /// What people should read.
    pub events: Vec<Happening>,
}

impl JobChange {
    /// Nothing about `job`.
    #[must_use]
    pub const fn none(job: Id) -> Self {
        Self {
            job,
            status: None,
            run: None,
            attempt: None,
            start: None,
            delete: false,
            events: Vec::new(),
        }
    }
}

impl EndpointChange {
    /// Nothing about `endpoint`.
    #[must_use]
    pub const fn none(endpoint: Id) -> Self {
        Self {
            endpoint,
            status: None,
            replicas: BTreeMap::new(),
            drain: Vec::new(),
            start: Vec::new(),
            forget: Vec::new(),
            delete: false,
            events: Vec::new(),
        }
    }
}

/// A new replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewReplica {
    /// The model version that it serves.
    pub version: u32,
    /// Where.
    pub node: NodeName,
}

/// Something people should read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// Whether somebody should look.
    pub severity: EventSeverity,
    /// A word for scripts.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What is to be done to a worker. Repeating it changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Start it, if it was not started before.
    Launch(WorkerKey, Kind),
    /// End it.
    Stop(WorkerKey, StopCause),
    /// Drop what is left of it.
    Forget(WorkerKey),
}

/// Why a worker is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopCause {
    /// Somebody asked.
    Cancelled,
    /// Another worker of its gang failed.
    GangFailed,
    /// It is not needed any more.
    Unneeded,
    /// It does not answer.
    Unhealthy,
}

/// Why things wait.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// By the id of the job or endpoint.
    pub waiting: BTreeMap<Id, Waiting>,
    /// The next moment at which time alone changes something.
    pub wake_at: Option<Timestamp>,
}

impl Report {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    fn wait(&mut self, id: Id, reason: &str, message: impl Into<String>) {
        let waiting = Waiting {
            reason: reason.to_owned(),
            message: message.into(),
        };
        self.waiting.insert(id, waiting);
    }
}

/// Decides what to do next about everything in `view`.
#[must_use]
pub fn plan(view: &View, now: Timestamp, rng: &PlanRng) -> (Plan, Report) {
    let mut plan = Plan::default();
    let mut report = Report::default();
    let Question {
        cluster,
        jobs,
        scaling,
        endpoints,
        reservations,
    } = Question::of(view, now, rng, &mut report);
    let (placement, waiting) = cluster::plan(&cluster, now, rng);

    plan.effects.extend(jobs.effects);
    plan.effects.extend(endpoints.effects);
    let mut changes = jobs.changes;
    jobs::place(view, now, &placement.starts, &mut changes);
    plan.changes.extend(changes.into_values().map(Change::Job));
    let mut changes = endpoints.changes;
    endpoints::place(view, &endpoints.asks, &placement.starts, &mut changes);
    plan.changes
        .extend(changes.into_values().map(Change::Endpoint));
    plan.changes
        .extend(reservations.into_iter().map(Change::Reservation));
    plan.effects.extend(leftovers(view));

    for (gang, reason) in &waiting.waiting {
        let subject = endpoints.asks.get(gang).copied().unwrap_or(gang.id());
        report.wait(subject, word_of(&reason.reason), reason.to_string());
    }
    plan.placement = placement;
    plan.scaling = scaling;
    (plan, report)
}

/// The question of room inside the decision about `view`, with its answer, as a record that
/// `lepton plan explain` takes again.
#[must_use]
pub fn placement_record(view: &View, now: Timestamp, rng: &PlanRng) -> cluster::Record {
    cluster::Record::take(placement_view(view, now, rng), now, rng).0
}

/// What the question of room is, for the decision about `view`.
fn placement_view(view: &View, now: Timestamp, rng: &PlanRng) -> ClusterView {
    Question::of(view, now, rng, &mut Report::default()).cluster
}

/// What is decided before room is given out, and the question of room that this leaves.
struct Question {
    cluster: ClusterView,
    jobs: jobs::Decided,
    scaling: BTreeMap<Id, AutoscalePlan>,
    endpoints: endpoints::Decided,
    reservations: Vec<ReservationChange>,
}

impl Question {
    fn of(view: &View, now: Timestamp, rng: &PlanRng, report: &mut Report) -> Self {
        let mut cluster = ClusterView {
            nodes: view.nodes.clone(),
            ..ClusterView::default()
        };
        let jobs = jobs::advance(view, now, rng, &mut cluster, report);
        let scaling = scaling::decide(view, now, rng);
        let endpoints = endpoints::advance(view, now, &scaling, &mut cluster, report);
        // Last: what is promised is what the others surely leave.
        let reservations = reservations::advance(view, now, &mut cluster, report);
        Self {
            cluster,
            jobs,
            scaling,
            endpoints,
            reservations,
        }
    }
}

/// Workers that nothing on record accounts for any more: ended, then dropped.
fn leftovers(view: &View) -> Vec<Effect> {
    let known = |key: &WorkerKey| {
        view.attempts.contains_key(&key.id) || view.replicas.contains_key(&key.id)
    };
    let unknown = view.workers.iter().filter(|(key, _)| !known(key));
    unknown
        .map(|(key, fact)| match fact {
            WorkerFact::Exited { .. } | WorkerFact::Lost { .. } => Effect::Forget(*key),
            WorkerFact::Starting | WorkerFact::Running { .. } => {
                Effect::Stop(*key, StopCause::Unneeded)
            }
        })
        .collect()
}

fn word_of(reason: &cluster::Reason) -> &'static str {
    match reason {
        cluster::Reason::Invalid { .. } => "invalid",
        cluster::Reason::NoSuchNode { .. } => "no-such-node",
        cluster::Reason::NeverFits { .. } => "too-large",
        cluster::Reason::Quota { .. } => "quota",
        cluster::Reason::Capacity { .. } => "no-room",
        cluster::Reason::Reserved { .. } => "reserved",
        cluster::Reason::Promised { .. } => "promised",
        cluster::Reason::Stopping { .. } => "making-room",
    }
}

/// The nodes of the seats, by rank.
fn nodes_of(seats: &[Seat]) -> Vec<NodeName> {
    seats.iter().map(|seat| seat.node.clone()).collect()
}

type Starts = BTreeMap<GangId, Vec<Seat>>;

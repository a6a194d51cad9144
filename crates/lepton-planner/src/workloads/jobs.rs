//! Jobs and their attempts.

use std::collections::BTreeMap;
use std::sync::Arc;

use lepton_types::resources::{
    Attempt, AttemptPhase, AttemptStatus, EventSeverity, ExitReason, Job, JobPhase, JobStatus,
    Kind, RunPhase, WorkerPhase, WorkerStatus,
};
use lepton_types::{Id, Timestamp};
use rand::Rng as _;

use super::view::{View, WorkerFact, WorkerKey};
use super::{Effect, Happening, JobChange, NewAttempt, Report, Starts, StopCause, nodes_of};
use crate::PlanRng;
use crate::cluster::{
    Ask, ClusterView, GangId, Occupied, PendingGang, RunningGang, Seat, Selector,
};

/// What is decided about jobs before room is given out.
#[derive(Default)]
pub(super) struct Decided {
    pub(super) changes: BTreeMap<Id, JobChange>,
    pub(super) effects: Vec<Effect>,
}

/// Moves every job on as far as its workers allow, and puts into `cluster` what holds machines
/// and what waits for them.
pub(super) fn advance(
    view: &View,
    now: Timestamp,
    rng: &PlanRng,
    cluster: &mut ClusterView,
    report: &mut Report,
) -> Decided {
    let mut decided = Decided::default();
    let open: BTreeMap<Id, &Arc<Attempt>> = view
        .attempts
        .values()
        .filter_map(|attempt| Some((attempt.metadata.owner?.id, attempt)))
        .collect();
    for (id, job) in &view.jobs {
        let mut change = JobChange::none(*id);
        match open.get(id) {
            Some(attempt) => {
                let mut advance = Advance {
                    view,
                    now,
                    rng,
                    job,
                    attempt,
                    change: &mut change,
                };
                let (holds, effects) = advance.run(report);
                decided.effects.extend(effects);
                if holds {
                    hold(cluster, job, attempt);
                }
            }
            None => wait_or_end(view, now, job, cluster, report, &mut change),
        }
        if change != JobChange::none(*id) {
            decided.changes.insert(*id, change);
        }
    }
    decided
}

/// Starts the attempts that got room.
pub(super) fn place(
    view: &View,
    now: Timestamp,
    starts: &Starts,
    changes: &mut BTreeMap<Id, JobChange>,
) {
    for (gang, seats) in starts {
        let Some(job) = view.jobs.get(&gang.id()) else {
            continue;
        };
        let change = changes
            .entry(gang.id())
            .or_insert_with(|| JobChange::none(gang.id()));
        let mut status = job.status.clone();
        status.phase = JobPhase::Running;
        status.attempts += 1;
        status.not_before = None;
        status.waiting = None;
        status.started_at.get_or_insert(now);
        change.start = Some(NewAttempt {
            number: status.attempts,
            nodes: nodes_of(seats),
        });
        change.run = Some(RunPhase::Running);
        change.events.push(Happening {
            severity: EventSeverity::Normal,
            reason: "Started".to_owned(),
            message: format!("attempt {} starts on `{}`", status.attempts, seats[0].node),
        });
        change.status = Some(status);
    }
}

/// A job without an attempt: it is over, asked to end, pausing, or waits for room.
fn wait_or_end(
    view: &View,
    now: Timestamp,
    job: &Job,
    cluster: &mut ClusterView,
    report: &mut Report,
    change: &mut JobChange,
) {
    if job.status.phase.is_final() {
        change.delete = job.is_deleting();
        return;
    }
    if job.spec.cancel_requested_at.is_some() {
        end(job, now, JobPhase::Cancelled, Some(cancelled(job)), change);
        return;
    }
    if let Some(not_before) = job.status.not_before
        && not_before > now
    {
        let reason = job
            .status
            .reason
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let next = job.status.attempts + 1;
        let message = format!("attempt {next} starts at {not_before}: the last one {reason}");
        report.wait(job.metadata.id, "back-off", message);
        report.wake(not_before);
        return;
    }
    let ask = Ask::from(job.spec.resources);
    let pending = PendingGang {
        project: job.metadata.project.clone(),
        priority: job.spec.priority,
        submitted_at: job.metadata.created_at,
        members: vec![ask; job.spec.workers as usize],
        selector: Selector::default(),
        predicted_duration: view_duration(view, job),
        runs_at_most: job.spec.timeout,
        deadline: None,
    };
    cluster.queue.insert(GangId::from(job.metadata.id), pending);
}

/// A timeout is the one thing that is known of how long a job runs.
fn view_duration(_view: &View, job: &Job) -> Option<lepton_types::DurationMs> {
    job.spec.timeout
}

fn hold(cluster: &mut ClusterView, job: &Job, attempt: &Attempt) {
    let members = attempt.spec.nodes.iter().filter_map(|node| {
        let seat = Seat {
            node: node.parse().ok()?,
            gpus: Vec::new(),
        };
        Some(Occupied {
            ask: Ask::from(attempt.spec.resources),
            seat,
        })
    });
    let running = RunningGang {
        project: job.metadata.project.clone(),
        priority: job.spec.priority,
        // Stopping a job for another one waits until jobs say that they can go on later.
        preemptible: false,
        members: members.collect(),
        started_at: attempt.metadata.created_at,
        checkpointed_at: None,
        predicted_duration: job.spec.timeout,
        runs_at_most: job.spec.timeout,
        stopping: attempt.status.phase == AttemptPhase::Stopping,
    };
    cluster
        .running
        .insert(GangId::from(job.metadata.id), running);
}

/// By whom; records from before that was kept say only that it was asked for.
fn cancelled(job: &Job) -> ExitReason {
    let by = job.spec.cancel_requested_by.clone();
    ExitReason::Cancelled {
        by: by.unwrap_or_else(|| "request".to_owned()),
    }
}

/// Records that a job is over.
fn end(
    job: &Job,
    now: Timestamp,
    phase: JobPhase,
    reason: Option<ExitReason>,
    change: &mut JobChange,
) {
    let (run, severity, word) = match phase {
        JobPhase::Succeeded => (RunPhase::Finished, EventSeverity::Normal, "Succeeded"),
        JobPhase::Cancelled => (RunPhase::Killed, EventSeverity::Normal, "Cancelled"),
        JobPhase::Failed | JobPhase::Queued | JobPhase::Running => {
            (RunPhase::Failed, EventSeverity::Warning, "Failed")
        }
    };
    let message = match &reason {
        Some(reason) => reason.to_string(),
        None => "every worker ended well".to_owned(),
    };
    change.events.push(Happening {
        severity,
        reason: word.to_owned(),
        message,
    });
    change.run = Some(run);
    change.status = Some(JobStatus {
        phase,
        reason,
        finished_at: Some(now),
        not_before: None,
        waiting: None,
        ..job.status.clone()
    });
}

/// One job with an attempt that is not over.
struct Advance<'a> {
    view: &'a View,
    now: Timestamp,
    rng: &'a PlanRng,
    job: &'a Job,
    attempt: &'a Attempt,
    change: &'a mut JobChange,
}

impl Advance<'_> {
    /// Returns whether the attempt still holds its machines, and what to do to its workers.
    fn run(&mut self, report: &mut Report) -> (bool, Vec<Effect>) {
        let mut status = self.attempt.status.clone();
        let mut effects = Vec::new();
        let wants_end = self.job.spec.cancel_requested_at.is_some();
        for worker in &mut status.workers {
            let key = WorkerKey {
                id: self.attempt.metadata.id,
                rank: worker.rank,
            };
            let stopping = wants_end || status.phase == AttemptPhase::Stopping;
            let never_started = stopping.then(|| {
                let known = status.reason.clone();
                known.unwrap_or_else(|| cancelled(self.job))
            });
            let fact = self.view.workers.get(&key);
            // Some are over before anybody saw them run.
            if let Some(WorkerFact::Exited {
                started_at: Some(at),
                ..
            }) = fact
            {
                status.started_at.get_or_insert(*at);
            }
            effects.extend(observe(worker, key, fact, never_started));
        }
        let over = status.workers.iter().all(is_over);
        let failed = status
            .workers
            .iter()
            .find(|worker| is_over(worker) && !ended_well(worker));
        let stop = match failed {
            _ if over => None,
            _ if wants_end => Some((StopCause::Cancelled, cancelled(self.job))),
            Some(first) => Some((
                StopCause::GangFailed,
                ExitReason::GangFailed { rank: first.rank },
            )),
            // A pass before has decided it.
            None if status.phase == AttemptPhase::Stopping => Some((
                StopCause::Cancelled,
                status.reason.clone().unwrap_or_else(|| cancelled(self.job)),
            )),
            None => None,
        };
        if over {
            self.finish(&mut status);
        } else if let Some((cause, reason)) = stop {
            status.phase = AttemptPhase::Stopping;
            status.reason.get_or_insert(reason);
            // What has not started by now must not start any more.
            effects.clear();
            let alive = status.workers.iter().filter(|worker| !is_over(worker));
            effects.extend(alive.map(|worker| {
                let key = WorkerKey {
                    id: self.attempt.metadata.id,
                    rank: worker.rank,
                };
                Effect::Stop(key, cause)
            }));
            report.wait(
                self.job.metadata.id,
                "stopping",
                "its workers are being ended",
            );
        } else if status
            .workers
            .iter()
            .all(|worker| worker.phase == WorkerPhase::Running)
        {
            status.phase = AttemptPhase::Running;
            status.started_at.get_or_insert(self.now);
        } else {
            report.wait(
                self.job.metadata.id,
                "starting",
                "its workers are being started",
            );
        }
        if status != self.attempt.status {
            self.change.attempt = Some((self.attempt.metadata.id, status));
        }
        (!over, effects)
    }

    /// Every worker is over: so is the attempt, and perhaps the job.
    fn finish(&mut self, status: &mut AttemptStatus) {
        status.finished_at = Some(self.now);
        // An executor knows that a worker was ended because of another, not because of which.
        if let Some(ExitReason::GangFailed { rank: first }) = status.reason {
            for worker in &mut status.workers {
                if let Some(ExitReason::GangFailed { rank }) = &mut worker.reason {
                    *rank = first;
                }
            }
        }
        let root = root_cause(&status.workers);
        if root.is_none() {
            status.phase = AttemptPhase::Succeeded;
            status.reason = None;
            end(self.job, self.now, JobPhase::Succeeded, None, self.change);
            return;
        }
        if self.job.spec.cancel_requested_at.is_some() {
            status.phase = AttemptPhase::Cancelled;
            status.reason = Some(cancelled(self.job));
            end(
                self.job,
                self.now,
                JobPhase::Cancelled,
                Some(cancelled(self.job)),
                self.change,
            );
            return;
        }
        let reason = root.unwrap_or_else(|| cancelled(self.job));
        status.phase = match reason {
            ExitReason::Lost { .. } => AttemptPhase::Lost,
            _ => AttemptPhase::Failed,
        };
        status.reason = Some(reason.clone());
        let permanent = matches!(reason, ExitReason::CouldNotStart { .. });
        if self.job.status.attempts > self.job.spec.retries || permanent {
            end(
                self.job,
                self.now,
                JobPhase::Failed,
                Some(reason),
                self.change,
            );
        } else {
            self.retry(reason);
        }
    }

    fn retry(&mut self, reason: ExitReason) {
        let pause = self.view.policy.backoff(self.job.status.attempts);
        // Up to a quarter more, so that jobs that failed together do not return together.
        let number = u128::from_be_bytes(self.attempt.metadata.id.to_bytes());
        let jitter = self
            .rng
            .stream("backoff", number)
            .random_range(0..=pause.as_millis() / 4);
        let not_before = self.now + pause + lepton_types::DurationMs::from_millis(jitter);
        self.change.events.push(Happening {
            severity: EventSeverity::Warning,
            reason: "Retrying".to_owned(),
            message: format!("attempt {} {reason}", self.job.status.attempts),
        });
        self.change.run = Some(RunPhase::Scheduled);
        self.change.status = Some(JobStatus {
            phase: JobPhase::Queued,
            reason: Some(reason),
            not_before: Some(not_before),
            waiting: None,
            ..self.job.status.clone()
        });
    }
}

/// Takes in what is known of one worker; launches it if nobody has.
fn observe(
    worker: &mut WorkerStatus,
    key: WorkerKey,
    fact: Option<&WorkerFact>,
    never_started: Option<ExitReason>,
) -> Option<Effect> {
    if is_over(worker) {
        return None;
    }
    match fact {
        None if worker.phase == WorkerPhase::Running => {
            worker.phase = WorkerPhase::Lost;
            let message = "the executor has no record of it any more".to_owned();
            worker.reason = Some(ExitReason::Lost { message });
        }
        None => match never_started {
            Some(reason) => {
                worker.phase = WorkerPhase::Exited;
                worker.reason = Some(reason);
            }
            None => return Some(Effect::Launch(key, Kind::Attempt)),
        },
        Some(WorkerFact::Starting) => {}
        Some(WorkerFact::Running { enforcement, .. }) => {
            worker.phase = WorkerPhase::Running;
            worker.enforcement = Some(enforcement.clone());
        }
        Some(WorkerFact::Exited {
            reason,
            memory_bytes_max,
            ..
        }) => {
            worker.phase = WorkerPhase::Exited;
            worker.reason = Some(reason.clone());
            worker.memory_bytes_max = *memory_bytes_max;
        }
        Some(WorkerFact::Lost { message }) => {
            worker.phase = WorkerPhase::Lost;
            worker.reason = Some(ExitReason::Lost {
                message: message.clone(),
            });
        }
    }
    None
}

fn is_over(worker: &WorkerStatus) -> bool {
    matches!(worker.phase, WorkerPhase::Exited | WorkerPhase::Lost)
}

fn ended_well(worker: &WorkerStatus) -> bool {
    worker.reason == Some(ExitReason::Exited { code: 0 })
}

/// Why a gang failed: the end that nobody asked for, before those that followed from it.
fn root_cause(workers: &[WorkerStatus]) -> Option<ExitReason> {
    let bad = || {
        workers
            .iter()
            .filter(|worker| !ended_well(worker))
            .filter_map(|w| w.reason.clone())
    };
    let asked_for = |reason: &ExitReason| {
        matches!(
            reason,
            ExitReason::Cancelled { .. } | ExitReason::GangFailed { .. }
        )
    };
    bad()
        .find(|reason| !asked_for(reason))
        .or_else(|| bad().next())
}

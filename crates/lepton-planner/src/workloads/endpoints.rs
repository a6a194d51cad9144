//! Endpoints and their replicas.

use std::collections::BTreeMap;
use std::sync::Arc;

use lepton_types::resources::{
    Endpoint, EndpointPhase, EndpointStatus, EventSeverity, ExitReason, Kind, Replica,
    ReplicaPhase, ReplicaStatus,
};
use lepton_types::{Id, Timestamp};

use super::view::{View, WorkerFact, WorkerKey};
use super::{Effect, EndpointChange, Happening, NewReplica, Report, Starts, StopCause};
use crate::cluster::{
    Ask, ClusterView, GangId, Occupied, PendingGang, RunningGang, Seat, Selector,
};

/// Replicas go before jobs: somebody waits for each answer.
const PRIORITY: i32 = 1_000_000;

/// What is decided about endpoints before room is given out.
#[derive(Default)]
pub(super) struct Decided {
    pub(super) changes: BTreeMap<Id, EndpointChange>,
    pub(super) effects: Vec<Effect>,
    /// The endpoint that each gang in the queue is a wanted replica of.
    pub(super) asks: BTreeMap<GangId, Id>,
}

/// Moves every endpoint on as far as its replicas allow, and puts into `cluster` what holds
/// machines and what waits for them.
pub(super) fn advance(
    view: &View,
    now: Timestamp,
    cluster: &mut ClusterView,
    report: &mut Report,
) -> Decided {
    let mut decided = Decided::default();
    let mut owned: BTreeMap<Id, Vec<&Arc<Replica>>> = BTreeMap::new();
    for replica in view.replicas.values() {
        if let Some(owner) = replica.metadata.owner {
            owned.entry(owner.id).or_default().push(replica);
        }
    }
    for (id, endpoint) in &view.endpoints {
        let replicas = owned.remove(id).unwrap_or_default();
        let mut advance = Advance {
            view,
            now,
            endpoint,
            change: EndpointChange::none(*id),
            effects: Vec::new(),
        };
        let wanted = advance.run(&replicas, cluster, report);
        for index in 0..wanted {
            let gang = ask_id(*id, index);
            decided.asks.insert(gang, *id);
            cluster.queue.insert(gang, pending(endpoint));
        }
        decided.effects.extend(advance.effects);
        let nothing = EndpointChange::none(*id);
        if advance.change != nothing {
            decided.changes.insert(*id, advance.change);
        }
    }
    decided
}

/// Records the replicas that got room.
pub(super) fn place(
    view: &View,
    asks: &BTreeMap<GangId, Id>,
    starts: &Starts,
    changes: &mut BTreeMap<Id, EndpointChange>,
) {
    for (gang, seats) in starts {
        let Some(id) = asks.get(gang) else { continue };
        let Some(version) = view.versions.get(id) else {
            continue;
        };
        let change = changes
            .entry(*id)
            .or_insert_with(|| EndpointChange::none(*id));
        let node = seats[0].node.clone();
        change.start.push(NewReplica {
            version: *version,
            node,
        });
    }
}

/// A wanted replica has no id yet; its place in the queue needs one. The last two bytes of the
/// endpoint's id are random, so flipping them meets no other id in practice.
fn ask_id(endpoint: Id, index: u32) -> GangId {
    let mut bytes = endpoint.to_bytes();
    let index = u16::try_from(index + 1).unwrap_or(u16::MAX).to_be_bytes();
    bytes[14] ^= index[0];
    bytes[15] ^= index[1];
    GangId::from(Id::from_bytes(bytes))
}

fn pending(endpoint: &Endpoint) -> PendingGang {
    PendingGang {
        project: endpoint.metadata.project.clone(),
        priority: PRIORITY,
        submitted_at: endpoint.metadata.created_at,
        members: vec![Ask::from(endpoint.spec.resources)],
        selector: Selector::default(),
        predicted_duration: None,
        deadline: None,
    }
}

fn hold(cluster: &mut ClusterView, replica: &Replica) {
    let Ok(node) = replica.spec.node.parse() else {
        return;
    };
    let seat = Seat {
        node,
        gpus: Vec::new(),
    };
    let running = RunningGang {
        project: replica.metadata.project.clone(),
        priority: PRIORITY,
        preemptible: false,
        members: vec![Occupied {
            ask: Ask::from(replica.spec.resources),
            seat,
        }],
        started_at: replica.metadata.created_at,
        checkpointed_at: None,
        predicted_duration: None,
        stopping: replica.status.phase == ReplicaPhase::Stopping,
    };
    cluster
        .running
        .insert(GangId::from(replica.metadata.id), running);
}

/// One endpoint.
struct Advance<'a> {
    view: &'a View,
    now: Timestamp,
    endpoint: &'a Endpoint,
    change: EndpointChange,
    effects: Vec<Effect>,
}

/// A replica with its status as it is now.
struct Current<'a> {
    replica: &'a Replica,
    status: ReplicaStatus,
    wanted: bool,
}

impl Current<'_> {
    fn is_ready(&self) -> bool {
        self.status.phase == ReplicaPhase::Ready
    }

    fn is_serving_or_will(&self) -> bool {
        matches!(
            self.status.phase,
            ReplicaPhase::Starting | ReplicaPhase::Ready
        )
    }
}

impl Advance<'_> {
    /// Returns how many replicas are to be started.
    fn run(
        &mut self,
        replicas: &[&Arc<Replica>],
        cluster: &mut ClusterView,
        report: &mut Report,
    ) -> u32 {
        let version = self.view.versions.get(&self.endpoint.metadata.id).copied();
        let mut status = self.endpoint.status.clone();
        status.version = version;
        let mut current = Vec::new();
        for replica in replicas {
            if replica.status.phase.is_final() {
                continue;
            }
            let now = self.observe(replica, &mut status, report);
            if !now.phase.is_final() {
                hold(cluster, replica);
            }
            let wanted = Some(replica.spec.version) == version
                && replica.spec.resources == self.endpoint.spec.resources;
            current.push(Current {
                replica,
                status: now,
                wanted,
            });
        }
        let missing = self.balance(&mut current, &status, version, report);
        self.record(replicas, &current);
        self.conclude(&current, status, version, report);
        missing
    }

    fn want(&self) -> usize {
        if self.endpoint.is_deleting() {
            0
        } else {
            self.endpoint.spec.replicas as usize
        }
    }

    /// What a replica has come to by itself.
    fn observe(
        &mut self,
        replica: &Replica,
        endpoint: &mut EndpointStatus,
        report: &mut Report,
    ) -> ReplicaStatus {
        let mut status = replica.status.clone();
        let key = WorkerKey {
            id: replica.metadata.id,
            rank: 0,
        };
        let health = self
            .view
            .health
            .get(&replica.metadata.id)
            .copied()
            .unwrap_or_default();
        let leaving = matches!(
            status.phase,
            ReplicaPhase::Stopping | ReplicaPhase::Draining
        );
        match self.view.workers.get(&key) {
            None if status.phase == ReplicaPhase::Starting => {
                self.effects.push(Effect::Launch(key, Kind::Replica));
            }
            None if leaving => status.phase = ReplicaPhase::Stopped,
            None => {
                let message = "the executor has no record of it any more".to_owned();
                self.fail(replica, &mut status, endpoint, ExitReason::Lost { message });
            }
            Some(WorkerFact::Starting) => {}
            Some(WorkerFact::Running {
                address,
                enforcement,
                ..
            }) => {
                status.address = *address;
                status.enforcement = Some(enforcement.clone());
                if status.phase == ReplicaPhase::Starting && health.answers {
                    status.phase = ReplicaPhase::Ready;
                    status.ready_at = Some(self.now);
                }
                let dead = status.phase == ReplicaPhase::Ready
                    && health.failures >= self.view.policy.probe_failures_max;
                let deadline = replica.metadata.created_at + self.view.policy.replica_start_max;
                let late = status.phase == ReplicaPhase::Starting && self.now >= deadline;
                if dead || late {
                    status.phase = ReplicaPhase::Stopping;
                    let message = if dead {
                        "it stopped answering"
                    } else {
                        "it did not become ready"
                    };
                    status.reason = Some(ExitReason::CouldNotStart {
                        message: message.to_owned(),
                    });
                    self.effects.push(Effect::Stop(key, StopCause::Unhealthy));
                } else if status.phase == ReplicaPhase::Starting {
                    report.wake(deadline);
                }
            }
            Some(WorkerFact::Exited { reason, .. }) => match &status.reason {
                Some(unhealthy) => {
                    let unhealthy = unhealthy.clone();
                    self.fail(replica, &mut status, endpoint, unhealthy);
                }
                None if leaving => status.phase = ReplicaPhase::Stopped,
                None => self.fail(replica, &mut status, endpoint, reason.clone()),
            },
            Some(WorkerFact::Lost { message }) => {
                let reason = ExitReason::Lost {
                    message: message.clone(),
                };
                self.fail(replica, &mut status, endpoint, reason);
            }
        }
        if status.phase == ReplicaPhase::Draining {
            self.drain(replica, &mut status, health.in_flight, report);
        } else if status.phase == ReplicaPhase::Stopping {
            self.effects.push(Effect::Stop(key, StopCause::Unneeded));
        }
        status
    }

    /// Ends a draining replica that has nothing left to do, or took too long.
    fn drain(
        &mut self,
        replica: &Replica,
        status: &mut ReplicaStatus,
        in_flight: u64,
        report: &mut Report,
    ) {
        let since = replica.spec.drain_since.unwrap_or(self.now);
        let deadline = since + self.view.policy.drain_max;
        // The routes without it are published after its draining was recorded; one pass later
        // nothing new can reach it.
        let unrouted = replica.status.phase == ReplicaPhase::Draining;
        if (unrouted && in_flight == 0) || self.now >= deadline {
            status.phase = ReplicaPhase::Stopping;
            let key = WorkerKey {
                id: replica.metadata.id,
                rank: 0,
            };
            self.effects.push(Effect::Stop(key, StopCause::Unneeded));
        } else {
            report.wake(deadline);
        }
    }

    fn fail(
        &mut self,
        replica: &Replica,
        status: &mut ReplicaStatus,
        endpoint: &mut EndpointStatus,
        reason: ExitReason,
    ) {
        let served_long = status
            .ready_at
            .is_some_and(|ready_at| self.now.since(ready_at) >= self.view.policy.stable_after);
        endpoint.failures = if served_long {
            0
        } else {
            endpoint.failures.saturating_add(1)
        };
        endpoint.not_before = (endpoint.failures > 1)
            .then(|| self.now + self.view.policy.backoff(endpoint.failures - 1));
        self.change.events.push(Happening {
            severity: EventSeverity::Warning,
            reason: "ReplicaFailed".to_owned(),
            message: format!(
                "replica {} of version {} {reason}",
                replica.metadata.id, replica.spec.version
            ),
        });
        status.phase = ReplicaPhase::Failed;
        status.reason = Some(reason);
    }

    /// Drains what is too much or outdated; returns how many are missing.
    fn balance(
        &mut self,
        current: &mut [Current<'_>],
        status: &EndpointStatus,
        version: Option<u32>,
        report: &mut Report,
    ) -> u32 {
        let want = self.want();
        let good = current
            .iter()
            .filter(|c| c.wanted && c.is_serving_or_will())
            .count();
        let ready = current.iter().filter(|c| c.is_ready()).count();
        let ready_good = current.iter().filter(|c| c.wanted && c.is_ready()).count();

        // Outdated ones go as far as the ready ones that stay suffice; those that never answered
        // go at once.
        let mut spare = if ready_good >= want {
            ready
        } else {
            ready.saturating_sub(want)
        };
        for outdated in current
            .iter_mut()
            .filter(|c| !c.wanted && c.is_serving_or_will())
        {
            if !outdated.is_ready() {
                self.begin_drain(outdated);
            } else if spare > 0 && (want == 0 || version.is_some()) {
                spare -= 1;
                self.begin_drain(outdated);
            }
        }
        let mut excess = good.saturating_sub(want);
        // Those that do not answer yet first, then the newest.
        for pass_ready in [false, true] {
            for extra in current.iter_mut().rev() {
                let fits =
                    extra.wanted && extra.is_serving_or_will() && extra.is_ready() == pass_ready;
                if excess > 0 && fits {
                    excess -= 1;
                    self.begin_drain(extra);
                }
            }
        }
        let missing = want.saturating_sub(good);
        if missing == 0 || version.is_none() {
            return 0;
        }
        if let Some(not_before) = status.not_before
            && not_before > self.now
        {
            report.wake(not_before);
            return 0;
        }
        u32::try_from(missing).unwrap_or(u32::MAX)
    }

    fn begin_drain(&mut self, current: &mut Current<'_>) {
        let was_ready = current.is_ready();
        current.status.phase = if was_ready {
            ReplicaPhase::Draining
        } else {
            ReplicaPhase::Stopping
        };
        if was_ready {
            self.change.drain.push(current.replica.metadata.id);
        } else {
            let key = WorkerKey {
                id: current.replica.metadata.id,
                rank: 0,
            };
            self.effects
                .retain(|effect| *effect != Effect::Launch(key, Kind::Replica));
            self.effects.push(Effect::Stop(key, StopCause::Unneeded));
        }
    }

    /// Puts changed statuses, and records that may go, into the change.
    fn record(&mut self, replicas: &[&Arc<Replica>], current: &[Current<'_>]) {
        for now in current {
            let id = now.replica.metadata.id;
            match now.status.phase {
                ReplicaPhase::Stopped => self.change.forget.push(id),
                _ if now.status != now.replica.status => {
                    self.change.replicas.insert(id, now.status.clone());
                }
                _ => {}
            }
        }
        let over: Vec<Id> = replicas
            .iter()
            .filter(|replica| replica.status.phase.is_final())
            .map(|replica| replica.metadata.id)
            .collect();
        let kept = self.view.policy.failed_replicas_kept;
        let old = over.len().saturating_sub(kept);
        self.change.forget.extend(&over[..old]);
    }

    fn conclude(
        &mut self,
        current: &[Current<'_>],
        mut status: EndpointStatus,
        version: Option<u32>,
        report: &mut Report,
    ) {
        let want = self.want();
        let alive = current
            .iter()
            .filter(|c| !c.status.phase.is_final())
            .count();
        let ready = current.iter().filter(|c| c.is_ready()).count();
        let ready_good = current.iter().filter(|c| c.wanted && c.is_ready()).count();
        if self.endpoint.is_deleting() && alive == 0 {
            self.change = EndpointChange {
                delete: true,
                ..EndpointChange::none(self.endpoint.metadata.id)
            };
            return;
        }
        status.ready_replicas = u32::try_from(ready_good).unwrap_or(u32::MAX);
        status.phase = if self.endpoint.is_deleting() {
            EndpointPhase::Deleting
        } else if ready_good >= want && version.is_some() {
            EndpointPhase::Ready
        } else if ready == 0 && status.failures >= 2 {
            EndpointPhase::Failing
        } else if ready > 0 {
            EndpointPhase::Updating
        } else {
            EndpointPhase::Pending
        };
        self.forget_failures(current, want, &mut status, report);
        self.explain(&status, version, report);
        if status.phase == EndpointPhase::Ready
            && self.endpoint.status.phase != EndpointPhase::Ready
        {
            self.change.events.push(Happening {
                severity: EventSeverity::Normal,
                reason: "Ready".to_owned(),
                message: format!(
                    "{ready_good} replicas of version {} answer",
                    version.unwrap_or(0)
                ),
            });
        }
        if status != self.endpoint.status {
            self.change.status = Some(status);
        }
    }

    /// Failures count until all that is wanted has answered for a while.
    fn forget_failures(
        &self,
        current: &[Current<'_>],
        want: usize,
        status: &mut EndpointStatus,
        report: &mut Report,
    ) {
        if status.failures == 0 {
            return;
        }
        let ready = current.iter().filter(|c| c.wanted && c.is_ready());
        let times: Vec<Timestamp> = ready.filter_map(|c| c.status.ready_at).collect();
        if times.len() < want {
            return;
        }
        let stable = times
            .into_iter()
            .max()
            .map(|last| last + self.view.policy.stable_after);
        match stable {
            Some(at) if at > self.now => report.wake(at),
            _ => {
                status.failures = 0;
                status.not_before = None;
            }
        }
    }

    fn explain(&self, status: &EndpointStatus, version: Option<u32>, report: &mut Report) {
        let id = self.endpoint.metadata.id;
        if version.is_none() && !self.endpoint.is_deleting() {
            let message = format!("model `{}` has no such version", self.endpoint.spec.model);
            report.wait(id, "no-model", message);
        } else if let Some(not_before) = status.not_before.filter(|at| *at > self.now) {
            let newest = self.view.replicas.values().rev().find(|replica| {
                replica.metadata.owner.is_some_and(|owner| owner.id == id)
                    && replica.status.reason.is_some()
            });
            let last = newest.and_then(|replica| replica.status.reason.as_ref());
            let last = last.map_or_else(String::new, |reason| format!("; the last one {reason}"));
            let message = format!(
                "replicas failed {} times in a row{last}; the next one starts at {not_before}",
                status.failures
            );
            report.wait(id, "back-off", message);
        } else if !matches!(status.phase, EndpointPhase::Ready) {
            let message = format!(
                "{} of {} replicas of the wanted version answer",
                status.ready_replicas,
                self.want()
            );
            report.wait(id, "starting", message);
        }
    }
}

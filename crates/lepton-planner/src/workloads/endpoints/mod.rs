//! Endpoints and their replicas.

mod conclude;
mod observe;

use std::collections::BTreeMap;
use std::sync::Arc;

use lepton_types::resources::{
    Endpoint, EndpointStatus, EventSeverity, Kind, Replica, ReplicaPhase, ReplicaStatus,
    ScalingStatus,
};
use lepton_types::{Id, Timestamp};

use super::view::{View, WorkerKey};
use super::{Effect, EndpointChange, Happening, NewReplica, Report, Starts, StopCause};
use crate::autoscaling::AutoscalePlan;
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
    scaling: &BTreeMap<Id, AutoscalePlan>,
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
            scaled: scaling.get(id),
            change: EndpointChange::none(*id),
            effects: Vec::new(),
            strays: 0,
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
        runs_at_most: None,
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
        runs_at_most: None,
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
    /// How many the load asks for, where the number follows it.
    scaled: Option<&'a AutoscalePlan>,
    change: EndpointChange,
    effects: Vec<Effect>,
    /// Replicas that are over on record and alive.
    strays: usize,
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
                self.stop_again(replica);
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
        self.note_scaling(&mut status);
        let missing = self.balance(&mut current, &status, version, report);
        self.record(replicas, &current);
        self.conclude(&current, status, version, report);
        missing
    }

    fn want(&self) -> usize {
        if self.endpoint.is_deleting() {
            0
        } else {
            let fixed = || self.endpoint.wanted_replicas();
            self.scaled.map_or_else(fixed, |plan| plan.replicas) as usize
        }
    }

    /// Replicas without which the endpoint is not what was asked for. Those that only the load
    /// asks for come and go, and say nothing about how it stands.
    fn needed(&self) -> usize {
        let want = self.want();
        let least = self.endpoint.spec.scaling.map_or(want, |scaling| {
            usize::try_from(scaling.min_replicas.max(1)).unwrap_or(want)
        });
        least.min(want)
    }

    /// Notes how many replicas the load asks for, and says so when the number changes.
    fn note_scaling(&mut self, status: &mut EndpointStatus) {
        let Some(plan) = self.scaled else {
            if self.endpoint.spec.scaling.is_none() {
                status.scaling = None;
            }
            return;
        };
        let known = self.endpoint.status.scaling.as_ref();
        if known.is_some_and(|known| known.wanted == plan.replicas) {
            return;
        }
        let why = plan.report.to_string();
        if let Some(known) = known {
            let (from, to) = (known.wanted, plan.replicas);
            self.change.events.push(Happening {
                severity: EventSeverity::Normal,
                reason: "Scaled".to_owned(),
                message: format!("from {from} to {to} replicas: {why}"),
            });
        }
        status.scaling = Some(ScalingStatus {
            wanted: plan.replicas,
            since: self.now,
            why,
            // Noted by what was observed in this very pass.
            cold_start: status
                .scaling
                .as_ref()
                .and_then(|scaling| scaling.cold_start),
        });
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
}

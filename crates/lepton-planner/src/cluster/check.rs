//! Refuses plans that break a rule, by its own reading of the rules: it shares no code with
//! the planner but the types, and adds up from the view again.

use std::collections::{BTreeMap, BTreeSet};

use lepton_types::{Name, Resources, Timestamp};
use serde::Serialize;
use thiserror::Error;

mod promises;

use super::{Ask, ClusterView, GangId, NodeName, Plan, Seat, StopCause};

/// One rule broken by a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum Finding {
    #[error("gang `{gang}` is started and is not in the queue")]
    NotQueued { gang: GangId },
    #[error("gang `{gang}` is started and runs already")]
    RunsAlready { gang: GangId },
    #[error("gang `{gang}` has {members} workers and gets {seats} seats")]
    Split {
        gang: GangId,
        members: u64,
        seats: u64,
    },
    #[error("gang `{gang}` is put on node `{node}`, which is not in the pool")]
    UnknownNode { gang: GangId, node: NodeName },
    #[error("gang `{gang}` is put on node `{node}`, which takes nothing new")]
    Unschedulable { gang: GangId, node: NodeName },
    #[error("gang `{gang}` is put on node `{node}`, which its selector rules out")]
    Selector { gang: GangId, node: NodeName },
    #[error("gang `{gang}` is spread over several values of the label `{label}`")]
    Apart { gang: GangId, label: String },
    #[error("gang `{gang}` gets other gpus on node `{node}` than it asks for")]
    WrongGpus { gang: GangId, node: NodeName },
    #[error("node `{node}` has not enough {resource}: {used} of {capacity} would be used")]
    Overcommitted {
        node: NodeName,
        resource: &'static str,
        used: u128,
        capacity: u128,
    },
    #[error("`{project}` was promised room on node `{node}` at {at}, and others would be on it")]
    PromiseBroken {
        project: Name,
        node: NodeName,
        at: Timestamp,
    },
    #[error("project `{project}` would exceed its {rule}")]
    Entitlement { project: Name, rule: &'static str },
    #[error("gang `{gang}` is stopped and does not run")]
    NotRunning { gang: GangId },
    #[error("gang `{gang}` is stopped and may not be: {why}")]
    MayNotStop { gang: GangId, why: &'static str },
}

/// Everything that is wrong with a plan for this view; empty if it may be applied.
#[must_use]
pub fn check(view: &ClusterView, plan: &Plan, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (gang, seats) in &plan.starts {
        check_start(view, *gang, seats, &mut findings);
    }
    check_nodes(view, plan, &mut findings);
    check_projects(view, plan, &mut findings);
    for (gang, stop) in &plan.stops {
        check_stop(view, *gang, stop.in_favour_of, stop.cause, &mut findings);
        if stop.cause == StopCause::Promise {
            promises::check_stop(view, *gang, stop.in_favour_of, now, &mut findings);
        }
    }
    promises::check_starts(view, plan, now, &mut findings);
    findings
}

fn check_start(view: &ClusterView, gang: GangId, seats: &[Seat], findings: &mut Vec<Finding>) {
    let Some(pending) = view.queue.get(&gang) else {
        findings.push(Finding::NotQueued { gang });
        return;
    };
    if view.running.contains_key(&gang) {
        findings.push(Finding::RunsAlready { gang });
    }
    if pending.members.is_empty() || pending.members.len() != seats.len() {
        findings.push(Finding::Split {
            gang,
            members: pending.members.len() as u64,
            seats: seats.len() as u64,
        });
    }
    let mut values = BTreeSet::new();
    for (ask, seat) in pending.members.iter().zip(seats) {
        let node = seat.node.clone();
        let Some(machine) = view.nodes.get(&seat.node) else {
            findings.push(Finding::UnknownNode { gang, node });
            continue;
        };
        if machine.unschedulable {
            findings.push(Finding::Unschedulable {
                gang,
                node: node.clone(),
            });
        }
        let models = &pending.selector.gpu_models;
        let model_allowed =
            models.is_empty() || machine.gpu_model.iter().any(|model| models.contains(model));
        let mut labels = pending.selector.labels.iter();
        if !model_allowed || labels.any(|(k, v)| machine.labels.get(k) != Some(v)) {
            findings.push(Finding::Selector {
                gang,
                node: node.clone(),
            });
        }
        let distinct: BTreeSet<u16> = seat.gpus.iter().copied().collect();
        let wanted = if ask.gpu_milli > 0 {
            1
        } else {
            ask.resources.gpus as usize
        };
        let exist = distinct
            .iter()
            .all(|gpu| u32::from(*gpu) < machine.capacity.gpus);
        if distinct.len() != seat.gpus.len() || distinct.len() != wanted || !exist {
            findings.push(Finding::WrongGpus { gang, node });
        }
        if let Some(label) = &pending.selector.together {
            values.insert(machine.labels.get(label));
        }
    }
    if let Some(label) = &pending.selector.together
        && (values.len() > 1 || values.contains(&None))
    {
        findings.push(Finding::Apart {
            gang,
            label: label.clone(),
        });
    }
}

/// What is used on one node, and what of it the plan adds.
#[derive(Default)]
struct Load {
    cpu: (u128, bool),
    memory: (u128, bool),
    gpus: BTreeMap<u16, (u128, bool)>,
    unnamed_gpu_milli: u128,
}

impl Load {
    fn add(&mut self, ask: &Ask, gpus: &[u16], new: bool) {
        let grow = |load: &mut (u128, bool), by: u128| {
            load.0 += by;
            load.1 |= new && by > 0;
        };
        grow(&mut self.cpu, u128::from(ask.resources.cpu.as_millis()));
        grow(
            &mut self.memory,
            u128::from(ask.resources.memory.as_bytes()),
        );
        let whole = ask.resources.gpus > 0;
        let each = if whole {
            1_000
        } else {
            u128::from(ask.gpu_milli)
        };
        for gpu in gpus {
            grow(self.gpus.entry(*gpu).or_default(), each);
        }
        if gpus.is_empty() {
            self.unnamed_gpu_milli += match ask.resources.gpus {
                0 => each.min(1_000),
                whole => u128::from(whole) * 1_000,
            };
        }
    }
}

fn check_nodes(view: &ClusterView, plan: &Plan, findings: &mut Vec<Finding>) {
    let mut loads: BTreeMap<&NodeName, Load> = BTreeMap::new();
    for worker in view.running.values().flat_map(|gang| &gang.members) {
        let load = loads.entry(&worker.seat.node).or_default();
        load.add(&worker.ask, &worker.seat.gpus, false);
    }
    for (gang, seats) in &plan.starts {
        let members = view.queue.get(gang).map_or(&[][..], |gang| &gang.members);
        for (ask, seat) in members.iter().zip(seats) {
            let load = loads.entry(&seat.node).or_default();
            load.add(ask, &seat.gpus, true);
        }
    }
    for (name, load) in loads {
        let Some(node) = view.nodes.get(name) else {
            continue;
        };
        // What a view has over-committed already is no fault of a plan that adds nothing to it.
        let mut over = |resource, (used, grows): (u128, bool), capacity: u128| {
            if grows && used > capacity {
                findings.push(Finding::Overcommitted {
                    node: name.clone(),
                    resource,
                    used,
                    capacity,
                });
            }
        };
        over("cpu", load.cpu, u128::from(node.capacity.cpu.as_millis()));
        over(
            "memory",
            load.memory,
            u128::from(node.capacity.memory.as_bytes()),
        );
        let mut all = (load.unnamed_gpu_milli, false);
        for (gpu, used) in load.gpus {
            over("of one gpu", used, 1_000);
            if u32::from(gpu) < node.capacity.gpus {
                // A device that is over-committed is one device all the same.
                all = (all.0 + used.0.min(1_000), all.1 | used.1);
            }
        }
        let devices = u128::from(node.capacity.gpus) * 1_000;
        over("gpus", all, devices);
    }
}

type Sums = (u128, u128, u128);

fn add(sum: &mut Sums, ask: &Ask) {
    sum.0 += u128::from(ask.resources.cpu.as_millis());
    sum.1 += u128::from(ask.resources.memory.as_bytes());
    sum.2 += u128::from(ask.gpu_milli_total());
}

fn check_projects(view: &ClusterView, plan: &Plan, findings: &mut Vec<Finding>) {
    let mut used: BTreeMap<&Name, Sums> = BTreeMap::new();
    let mut grown: BTreeMap<&Name, Sums> = BTreeMap::new();
    for gang in view.running.values() {
        for worker in &gang.members {
            add(used.entry(&gang.project).or_default(), &worker.ask);
        }
    }
    for gang in plan.starts.keys().filter_map(|gang| view.queue.get(gang)) {
        for ask in &gang.members {
            add(used.entry(&gang.project).or_default(), ask);
            add(grown.entry(&gang.project).or_default(), ask);
        }
    }
    for (project, grown) in grown {
        let Some(share) = view.projects.get(project) else {
            continue;
        };
        let used = used.get(project).copied().unwrap_or_default();
        let exceeds = |most: &Resources| {
            (grown.0 > 0 && used.0 > u128::from(most.cpu.as_millis()))
                || (grown.1 > 0 && used.1 > u128::from(most.memory.as_bytes()))
                || (grown.2 > 0 && used.2 > u128::from(most.gpus) * 1_000)
        };
        if share.limit.is_some_and(|limit| exceeds(&limit)) {
            let project = project.clone();
            findings.push(Finding::Entitlement {
                project,
                rule: "limit",
            });
        }
        if !share.may_borrow && share.quota.is_some_and(|quota| exceeds(&quota)) {
            let project = project.clone();
            findings.push(Finding::Entitlement {
                project,
                rule: "quota",
            });
        }
    }
}

fn check_stop(
    view: &ClusterView,
    gang: GangId,
    in_favour_of: GangId,
    cause: StopCause,
    findings: &mut Vec<Finding>,
) {
    let Some(victim) = view.running.get(&gang) else {
        findings.push(Finding::NotRunning { gang });
        return;
    };
    let mut refuse = |why| findings.push(Finding::MayNotStop { gang, why });
    if !view.policy.preemption {
        refuse("the policy stops nobody");
    }
    if !victim.preemptible {
        refuse("it is not preemptible");
    }
    let Some(other) = view.queue.get(&in_favour_of) else {
        refuse("the gang in whose favour it is stopped does not wait");
        return;
    };
    if cause == StopCause::Priority && victim.priority >= other.priority {
        refuse("the other's priority is not greater");
    }
    if cause == StopCause::Quota {
        let owns = view
            .projects
            .get(&other.project)
            .is_some_and(|share| share.quota.is_some());
        if !owns || other.project == victim.project {
            refuse("the other's project has no quota to take back");
        }
    }
}

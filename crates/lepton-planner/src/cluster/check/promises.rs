//! Refuses plans that break a promise made in advance, by its own reading of it.
//!
//! Owns: that rule. Must not know: how the planner keeps it.

use std::collections::{BTreeMap, BTreeSet};

use lepton_types::{DurationMs, Name, Resources, Timestamp};

use super::super::{Ask, ClusterView, GangId, NodeName, Plan, Reservation, Seat};
use super::{Finding, Load, Sums, add};

/// One gang on one node at a moment to come.
struct Use<'a> {
    gang: GangId,
    project: &'a Name,
    sums: Sums,
    ask: &'a Ask,
    gpus: &'a [u16],
    is_new: bool,
}

/// Whoever is started and may still run when a window opens leaves its room to its owner.
pub(super) fn check_starts(
    view: &ClusterView,
    plan: &Plan,
    now: Timestamp,
    findings: &mut Vec<Finding>,
) {
    let valid = |it: &&Reservation| it.until > now && it.from < it.until;
    let moments: BTreeSet<Timestamp> = view
        .reservations
        .values()
        .filter(valid)
        .map(|it| if it.from > now { it.from } else { now })
        .collect();
    for at in moments {
        let uses = uses(view, plan, now, at);
        let open: Vec<&Reservation> = view
            .reservations
            .values()
            .filter(|it| it.from <= at && at < it.until)
            .collect();
        let nodes: BTreeSet<&NodeName> = open
            .iter()
            .flat_map(|it| &it.seats)
            .map(|seat| &seat.node)
            .collect();
        for node in nodes {
            let Some(machine) = view.nodes.get(node) else {
                continue;
            };
            let on_node = uses.get(node).map_or(&[][..], Vec::as_slice);
            let unused = unused(view, &open, node, on_node);
            let total = held(on_node, machine.capacity.gpus);
            for added in on_node.iter().filter(|it| it.is_new) {
                // An owner that starts here uses what is its own; to others' it is like anybody.
                let others = unused
                    .iter()
                    .filter(|(_, it)| !owns(view, it, added.gang, added.project));
                let Some((_, broken)) = others.clone().next() else {
                    continue;
                };
                let most = others.fold(total, |sum, (rest, _)| plus(sum, *rest));
                if exceeds(most, added.sums, &machine.capacity) {
                    findings.push(Finding::PromiseBroken {
                        project: broken.project.clone(),
                        node: node.clone(),
                        at,
                    });
                    break;
                }
            }
        }
    }
}

/// What is held on a node: a GPU that several claim is one, and one that is not there is none.
fn held(uses: &[Use<'_>], gpus: u32) -> Sums {
    let mut load = Load::default();
    for it in uses {
        load.add(it.ask, it.gpus, it.is_new);
    }
    let devices = load.gpus.iter().filter(|(gpu, _)| u32::from(**gpu) < gpus);
    let named: u128 = devices.map(|(_, (used, _))| (*used).min(1_000)).sum();
    (load.cpu.0, load.memory.0, load.unnamed_gpu_milli + named)
}

/// Whether `total` is more than there is of anything that `added` asks for.
fn exceeds(total: Sums, added: Sums, capacity: &Resources) -> bool {
    let over = |used: u128, added: u128, most: u128| added > 0 && used > most;
    over(total.0, added.0, u128::from(capacity.cpu.as_millis()))
        || over(total.1, added.1, u128::from(capacity.memory.as_bytes()))
        || over(total.2, added.2, u128::from(capacity.gpus) * 1_000)
}

/// Room for one gang is that gang's; room for a project is for those of its gangs that have none.
fn owns(view: &ClusterView, reservation: &Reservation, gang: GangId, project: &Name) -> bool {
    if reservation.project != *project {
        return false;
    }
    let of_gang = |it: &&Reservation| it.project == *project && it.gang == Some(gang);
    match reservation.gang {
        Some(only) => only == gang,
        None => view.reservations.values().find(of_gang).is_none(),
    }
}

fn plus(a: Sums, b: Sums) -> Sums {
    (a.0 + b.0, a.1 + b.1, a.2 + b.2)
}

/// Who is on which node at `at`, if hard limits are kept and nothing else ends.
fn uses<'a>(
    view: &'a ClusterView,
    plan: &'a Plan,
    now: Timestamp,
    at: Timestamp,
) -> BTreeMap<&'a NodeName, Vec<Use<'a>>> {
    let mut uses: BTreeMap<&NodeName, Vec<Use<'_>>> = BTreeMap::new();
    let mut put = |gang, project, seat: &'a Seat, ask: &'a Ask, is_new| {
        let mut sums = (0, 0, 0);
        add(&mut sums, ask);
        uses.entry(&seat.node).or_default().push(Use {
            gang,
            project,
            sums,
            ask,
            gpus: &seat.gpus,
            is_new,
        });
    };
    let over = |start: Timestamp, most: Option<DurationMs>| {
        most.is_some_and(|most| start + most > now && start + most <= at)
    };
    for (id, gang) in &view.running {
        if !over(gang.started_at, gang.runs_at_most) {
            for worker in &gang.members {
                put(*id, &gang.project, &worker.seat, &worker.ask, false);
            }
        }
    }
    for (id, seats) in &plan.starts {
        let Some(gang) = view.queue.get(id) else {
            continue;
        };
        if !over(now, gang.runs_at_most) {
            for (ask, seat) in gang.members.iter().zip(seats) {
                put(*id, &gang.project, seat, ask, true);
            }
        }
    }
    uses
}

/// What of the open promises on `node` their owners do not use.
fn unused<'a>(
    view: &ClusterView,
    open: &[&'a Reservation],
    node: &NodeName,
    uses: &[Use<'_>],
) -> Vec<(Sums, &'a Reservation)> {
    let mut promised: BTreeMap<(&Name, Option<GangId>), (Sums, &'a Reservation)> = BTreeMap::new();
    for reservation in open {
        for seat in reservation.seats.iter().filter(|seat| seat.node == *node) {
            let entry = promised
                .entry((&reservation.project, reservation.gang))
                .or_insert(((0, 0, 0), reservation));
            add(&mut entry.0, &seat.ask);
        }
    }
    let mut left = Vec::new();
    for (amount, reservation) in promised.into_values() {
        let theirs = uses
            .iter()
            .filter(|it| owns(view, reservation, it.gang, it.project));
        let used = theirs.fold((0, 0, 0), |sum, it| plus(sum, it.sums));
        let rest = (
            amount.0.saturating_sub(used.0),
            amount.1.saturating_sub(used.1),
            amount.2.saturating_sub(used.2),
        );
        if rest != (0, 0, 0) {
            left.push((rest, reservation));
        }
    }
    left
}

/// A gang is stopped for a promise only on a node of an open one to the other.
pub(super) fn check_stop(
    view: &ClusterView,
    gang: GangId,
    in_favour_of: GangId,
    now: Timestamp,
    findings: &mut Vec<Finding>,
) {
    let (Some(victim), Some(other)) = (view.running.get(&gang), view.queue.get(&in_favour_of))
    else {
        return;
    };
    let promised = view.reservations.values().any(|it| {
        it.from <= now
            && now < it.until
            && owns(view, it, in_favour_of, &other.project)
            && !owns(view, it, gang, &victim.project)
            && it.seats.iter().any(|seat| {
                let on_node = |worker: &super::super::Occupied| worker.seat.node == seat.node;
                victim.members.iter().any(on_node)
            })
    });
    if !promised {
        findings.push(Finding::MayNotStop {
            gang,
            why: "the other was promised none of its room",
        });
    }
}

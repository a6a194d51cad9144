//! Room that is made by stopping gangs of less importance.
//!
//! Owns: who may be stopped for whom, and the cheapest choice. Must not know: the order of
//! turns.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use lepton_types::{DurationMs, Name};

use super::capacity::{Free, give_back};
use super::pass::{Pass, seat_in_groups};
use super::queue::Item;
use super::report::{Stop, StopCause};
use super::reserve::{Kept, KeptFor};
use super::world::{Active, Amount, World};
use super::{GPU_MILLI, GangId, promises};

/// The most running gangs that are weighed for one waiting gang; beyond, the dearest are left
/// alone.
const VICTIMS_WEIGHED_MAX: usize = 512;

/// Finds the cheapest gangs whose stop makes room for `item`, marks them as stopping, and
/// keeps their room; gives all the stopping gangs that it waits for. `None` if there is no
/// such choice.
pub(super) fn make<'a>(pass: &mut Pass<'_, 'a>, item: &Item<'a>) -> Option<Vec<GangId>> {
    if let Some(Kept {
        kept_for: KeptFor::Ends(_),
        ..
    }) = pass.kept
    {
        return None;
    }
    let key = (item.shape, item.gang.priority, &item.gang.project);
    if pass.no_room.contains(&key) {
        return None;
    }
    let found = search(pass, item);
    if found.is_none() {
        pass.no_room.insert(key);
    }
    found
}

fn search<'a>(pass: &mut Pass<'_, 'a>, item: &Item<'a>) -> Option<Vec<GangId>> {
    let mut later = match &pass.kept {
        Some(kept) => kept.later.clone(),
        None => when_stopped(pass.world),
    };
    let first = pass.first_node(item.id);
    let groups = &pass.queue.selectors[item.selector];
    // What is promised to others is no room, whoever stops.
    let fits = |free: &[Free], world: &World<'_>| {
        let mut free = free.to_vec();
        promises::leave_alone(world, item, world.now, &BTreeSet::new(), &mut free);
        seat_in_groups(&mut free, None, item, groups, &world.market, first)
    };
    let project = &item.gang.project;
    let claimed = pass.claimed.get(project).copied().unwrap_or_default();
    let mut chosen: Vec<(GangId, StopCause)> = Vec::new();
    let mut seated = fits(&later, pass.world);
    if seated.is_err() {
        let most = pass.world.view.policy.stops_per_pass_max as usize;
        let budget = most.saturating_sub(pass.plan.stops.len());
        chosen = choose(pass.world, (item, claimed), &mut later, budget, |free| {
            fits(free, pass.world).is_ok()
        })?;
        seated = fits(&later, pass.world);
    }
    let seats = seated.ok()?;
    for seat in &seats {
        later[seat.node].occupy(&seat.ask, &seat.gpus);
    }
    pass.claimed.insert(project, claimed.plus(item.amount));
    for (id, cause) in &chosen {
        let stop = Stop {
            in_favour_of: item.id,
            cause: *cause,
        };
        pass.plan.stops.insert(*id, stop);
        if let Some(active) = pass.world.active.get_mut(id) {
            active.stopping = true;
        }
    }
    let waits_for: Vec<GangId> = pass
        .world
        .active
        .iter()
        .filter(|(_, active)| active.stopping)
        .filter(|(_, active)| shares_node(active, &seats))
        .map(|(id, _)| *id)
        .collect();
    let first_owner = pass.kept.as_ref().map_or(item.id, |kept| kept.first_owner);
    pass.kept = Some(Kept {
        first_owner,
        later,
        kept_for: KeptFor::Stopping,
    });
    Some(waits_for)
}

fn shares_node(active: &Active<'_>, seats: &[super::capacity::Taken]) -> bool {
    let nodes = |node: usize| seats.iter().any(|seat| seat.node == node);
    active.seats.iter().any(|seat| nodes(seat.node))
}

/// What is free once those that are stopping have stopped.
fn when_stopped(world: &World<'_>) -> Vec<Free> {
    let mut free = world.free.clone();
    for active in world.active.values().filter(|active| active.stopping) {
        give_back(&mut free, &active.seats);
    }
    free
}

/// The cheapest gangs first until `fits`, then without those that were not needed after all.
/// On success `free` has their room added.
fn choose<'a>(
    world: &World<'a>,
    (item, claimed): (&Item<'a>, Amount),
    free: &mut Vec<Free>,
    budget: usize,
    fits: impl Fn(&mut Vec<Free>) -> bool,
) -> Option<Vec<(GangId, StopCause)>> {
    let candidates = candidates(world, item, claimed);
    let mut used: BTreeMap<&Name, Amount> = BTreeMap::new();
    let mut chosen: Vec<(GangId, &Active<'a>, StopCause)> = Vec::new();
    let mut enough = false;
    for (id, active, cause) in candidates {
        if chosen.len() >= budget.min(VICTIMS_WEIGHED_MAX) {
            break;
        }
        let project = active.project;
        let usage = *used
            .entry(project)
            .or_insert_with(|| world.usage_when_stopped(project));
        if cause == StopCause::Quota && !borrows(world, project, usage) {
            continue;
        }
        used.insert(project, usage.minus(active.amount));
        give_back(free, &active.seats);
        chosen.push((id, active, cause));
        if fits(&mut free.clone()) {
            enough = true;
            break;
        }
    }
    if !enough {
        return None;
    }
    let mut needed = Vec::new();
    while let Some((id, active, cause)) = chosen.pop() {
        let mut without = free.clone();
        for seat in &active.seats {
            without[seat.node].occupy(&seat.ask, &seat.gpus);
        }
        if fits(&mut without.clone()) {
            *free = without;
        } else {
            needed.push((id, cause));
        }
    }
    Some(needed)
}

/// Who may be stopped for `item`, the cheapest first.
fn candidates<'w, 'a>(
    world: &'w World<'a>,
    item: &Item<'a>,
    claimed: Amount,
) -> Vec<(GangId, &'w Active<'a>, StopCause)> {
    let policy = &world.view.policy;
    if !policy.preemption {
        return Vec::new();
    }
    let owns = world.share(&item.gang.project).quota.is_some()
        && !world.would_borrow(&item.gang.project, item.amount.plus(claimed));
    let mut found: Vec<(GangId, &Active<'_>, StopCause)> = world
        .active
        .iter()
        .filter(|(_, active)| may_stop(world, active))
        .filter_map(|(id, active)| {
            let cause = if promises::stands_in(world, item, *id, active) {
                StopCause::Promise
            } else if active.priority < item.gang.priority {
                StopCause::Priority
            } else if owns
                && *active.project != item.gang.project
                && borrows(
                    world,
                    active.project,
                    world.usage_when_stopped(active.project),
                )
            {
                StopCause::Quota
            } else {
                return None;
            };
            Some((*id, active, cause))
        })
        .collect();
    found.sort_by_key(|(id, active, _)| (active.priority, lost_work(world, active), Reverse(*id)));
    found.truncate(VICTIMS_WEIGHED_MAX);
    found
}

fn may_stop(world: &World<'_>, active: &Active<'_>) -> bool {
    let policy = &world.view.policy;
    let now = world.now;
    let ends_anyway = active
        .expected_end(now)
        .is_some_and(|end| end.since(now) <= policy.checkpoint_cost);
    active.preemptible
        && !active.stopping
        // A gang that has not run at all is never stopped, or one plan would undo another's.
        && now.since(active.started_at) >= policy.run_at_least.max(DurationMs::from_millis(1))
        && !ends_anyway
}

/// What a stop throws away, in GPU- and processor-milliseconds.
fn lost_work(world: &World<'_>, active: &Active<'_>) -> u128 {
    let lost = world.now.since(active.saved_at).as_millis();
    let cost = world.view.policy.checkpoint_cost.as_millis();
    let resources = active.amount.resources();
    // A GPU is worth eight processors, as where nodes are chosen.
    let gpus = u128::from(resources.gpus) * u128::from(GPU_MILLI) * 8;
    let size = gpus + u128::from(resources.cpu.as_millis());
    u128::from(lost.saturating_add(cost)) * size.max(1)
}

/// Whether a project uses more than it owns; one without a quota owns nothing.
fn borrows(world: &World<'_>, project: &Name, usage: Amount) -> bool {
    let quota = world.share(project).quota.unwrap_or_default();
    usage.exceeds(Amount::of(&quota))
}

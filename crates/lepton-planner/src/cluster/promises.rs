//! Room that was promised in advance.
//!
//! Owns: whom a reservation binds, what of it is unused, and what is left beside it. Must not
//! know: whose turn is next, how a node is chosen.
//!
//! A reservation binds everybody but its owner who may still run when its window opens: whoever
//! has no hard limit, or one that ends later. It is checked at the moments at which windows open:
//! between them loads only shrink.

use std::collections::{BTreeMap, BTreeSet};

use lepton_types::{Name, Timestamp};

use super::capacity::{Free, Taken};
use super::queue::Item;
use super::world::{Active, Amount, World};
use super::{ClusterView, GangId, Reservation};

/// Who may use promised room: a project, or one gang of it.
type Owner<'a> = (&'a Name, Option<GangId>);

/// What is free beside what is promised to others, and the first promise that counts.
pub(super) struct Beside {
    pub(super) free: Vec<Free>,
    pub(super) first: Name,
}

impl Reservation {
    fn is_open(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }

    fn owner(&self) -> Owner<'_> {
        (&self.project, self.gang)
    }

    /// A gang that was promised room by itself has that, and no part of what its project was promised.
    fn is_for(&self, view: &ClusterView, id: GangId, project: &Name) -> bool {
        self.project == *project
            && match self.gang {
                Some(gang) => gang == id,
                None => !has_its_own(view, id, project),
            }
    }
}

fn has_its_own(view: &ClusterView, id: GangId, project: &Name) -> bool {
    let mut all = view.reservations.values();
    all.any(|it| it.gang == Some(id) && it.project == *project)
}

/// What is free for `item` at every moment at which a promise to others begins to count; none, if
/// nothing is promised that binds it.
pub(super) fn beside(world: &World<'_>, item: &Item<'_>) -> Option<Beside> {
    let binding = binding(world, item);
    let first = (*binding.first()?).clone();
    let mut free = world.free.clone();
    for at in moments(world, &binding) {
        for (node, promised) in unused(world, at, Some(item)) {
            let mut then = world.free[node];
            for active in world.active.values() {
                if active.surely_over_by(world.now, at) && !active.stopping {
                    give_back_on(&mut then, node, active);
                }
            }
            promised.take_from(&mut then);
            then.settle_gpus();
            free[node] = free[node].least(&then);
        }
    }
    Some(Beside { free, first })
}

/// Whether `item`, its `seats` already taken from what is free, leaves too little for a promise: the parts of
/// a GPU that it got may lie on more devices than those that were free beside it.
pub(super) fn breaks(world: &World<'_>, item: &Item<'_>, seats: &[Taken]) -> bool {
    let binding = binding(world, item);
    moments(world, &binding).into_iter().any(|at| {
        let unused = unused(world, at, Some(item));
        unused.into_iter().any(|(node, promised)| {
            let mut then = world.free[node];
            for active in world.active.values() {
                if active.surely_over_by(world.now, at) && !active.stopping {
                    give_back_on(&mut then, node, active);
                }
            }
            promised.take_from(&mut then);
            seats.iter().any(|seat| seat.node == node) && then.is_overdrawn()
        })
    })
}

/// Takes from `free`, which is what should be free at `at`, what is promised to others than `item` and
/// would be needed if it started then; those who will have `ended` use nothing of what they were promised.
/// Says whether anything was taken.
pub(super) fn leave_alone(
    world: &World<'_>,
    item: &Item<'_>,
    at: Timestamp,
    ended: &BTreeSet<GangId>,
    free: &mut [Free],
) -> bool {
    let binding = binding_from(world, item, at);
    let before = moments_from(world, &binding, at).into_iter().map(|at| {
        let unused = unused_once(world, at, Some(item), ended);
        unused.into_iter().map(|(node, promised)| {
            let mut then = free[node];
            promised.take_from(&mut then);
            then.settle_gpus();
            (node, then)
        })
    });
    let all: Vec<(usize, Free)> = before.flatten().collect();
    for (node, then) in &all {
        free[*node] = free[*node].least(then);
    }
    !all.is_empty()
}

/// Whether `active` stands on room that is open now and was promised to `item`.
pub(super) fn stands_in(
    world: &World<'_>,
    item: &Item<'_>,
    id: GangId,
    active: &Active<'_>,
) -> bool {
    let view = world.view;
    if view.reservations.is_empty() {
        return false;
    }
    let mine = view.reservations.values().filter(|reservation| {
        reservation.is_open(world.now)
            && reservation.is_for(world.view, item.id, &item.gang.project)
            && !reservation.is_for(view, id, active.project)
    });
    let nodes: BTreeSet<usize> = mine
        .flat_map(|reservation| &reservation.seats)
        .filter_map(|seat| world.names.binary_search(&&seat.node).ok())
        .collect();
    let overrun: BTreeSet<usize> = unused(world, world.now, None)
        .into_iter()
        .filter(|(node, promised)| {
            nodes.contains(node) && {
                let mut free = world.free[*node];
                promised.take_from(&mut free);
                free.is_overdrawn()
            }
        })
        .map(|(node, _)| node)
        .collect();
    active.seats.iter().any(|seat| overrun.contains(&seat.node))
}

/// The reservations that bind `item`, by name. A limit of no time at all is none.
fn binding<'a>(world: &World<'a>, item: &Item<'_>) -> Vec<&'a Name> {
    binding_from(world, item, world.now)
}

/// Those that bind `item` if it starts at `start`.
fn binding_from<'a>(world: &World<'a>, item: &Item<'_>, start: Timestamp) -> Vec<&'a Name> {
    let view: &'a ClusterView = world.view;
    let end = item.gang.runs_at_most.map(|most| start + most);
    let end = end.filter(|end| *end > start);
    let bound = view.reservations.iter().filter(|(_, reservation)| {
        reservation.until > start
            && reservation.from < reservation.until
            && end.is_none_or(|end| reservation.from < end || reservation.from <= start)
            && !reservation.is_for(world.view, item.id, &item.gang.project)
    });
    bound.map(|(name, _)| name).collect()
}

fn moments(world: &World<'_>, names: &[&Name]) -> BTreeSet<Timestamp> {
    moments_from(world, names, world.now)
}

fn moments_from(world: &World<'_>, names: &[&Name], start: Timestamp) -> BTreeSet<Timestamp> {
    let reservations = names
        .iter()
        .filter_map(|name| world.view.reservations.get(*name));
    reservations
        .map(|reservation| reservation.from.max(start))
        .collect()
}

/// What of the promises open at `at` their owners do not use then, by node; those to `item` left out.
fn unused(world: &World<'_>, at: Timestamp, item: Option<&Item<'_>>) -> BTreeMap<usize, Amount> {
    unused_once(world, at, item, &BTreeSet::new())
}

/// The same once those who run and are named have `ended`.
fn unused_once(
    world: &World<'_>,
    at: Timestamp,
    item: Option<&Item<'_>>,
    ended: &BTreeSet<GangId>,
) -> BTreeMap<usize, Amount> {
    let view = world.view;
    let mut promised: BTreeMap<(usize, Owner<'_>), Amount> = BTreeMap::new();
    let open = view.reservations.values().filter(|reservation| {
        reservation.is_open(at)
            && item.is_none_or(|item| !reservation.is_for(world.view, item.id, &item.gang.project))
    });
    for reservation in open {
        for seat in &reservation.seats {
            if let Ok(node) = world.names.binary_search(&&seat.node) {
                let sum = promised.entry((node, reservation.owner())).or_default();
                *sum = sum.plus(Amount::of_all([&seat.ask]));
            }
        }
    }
    let mut left: BTreeMap<usize, Amount> = BTreeMap::new();
    for ((node, (project, gang)), amount) in promised {
        let used = world.active.iter().filter(|(id, active)| {
            active.project == project
                && !ended.contains(id)
                && !active.surely_over_by(world.now, at)
                && match gang {
                    Some(gang) => gang == **id,
                    None => !has_its_own(view, **id, project),
                }
        });
        let seats = used.flat_map(|(_, active)| &active.seats);
        let asks = seats.filter(|seat| seat.node == node).map(|seat| &seat.ask);
        let sum = left.entry(node).or_default();
        *sum = sum.plus(amount.minus(Amount::of_all(asks)));
    }
    left
}

fn give_back_on(free: &mut Free, node: usize, active: &Active<'_>) {
    for seat in active.seats.iter().filter(|seat| seat.node == node) {
        free.release(&seat.ask, &seat.gpus);
    }
}

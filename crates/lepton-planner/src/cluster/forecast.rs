//! When each waiting gang should start.
//!
//! Owns: a walk through the predicted ends and the closing windows, with the queue served in its
//! order. Must not know: why a gang waits.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use lepton_types::Timestamp;

use super::GangId;
use super::capacity::{Free, Taken, give_back};
use super::pass::seat_in_groups;
use super::promises::leave_alone;
use super::queue::{Item, Queue};
use super::world::World;

/// How many nodes may be looked at before the rest of the queue goes without a forecast:
/// some ten milliseconds.
const NODES_LOOKED_AT_MAX: usize = 1_000_000;

/// The expected start of one gang.
#[derive(Debug, Clone, Default)]
pub(super) struct Forecast {
    pub(super) start: Option<Timestamp>,
    pub(super) after: Vec<GangId>,
}

/// Something after which there may be more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// A gang ends, by its number among the seats.
    End(usize),
    /// The window of a promise closes.
    Closes,
}

/// The walk through time.
struct Walk<'w, 'a> {
    world: &'w World<'a>,
    at: Timestamp,
    free: Vec<Free>,
    turns: BinaryHeap<Reverse<(Timestamp, Turn)>>,
    seats: Vec<(GangId, Vec<Taken>)>,
    /// Those that have ended.
    ended: BTreeSet<GangId>,
    /// Nodes that may still be looked at.
    budget: usize,
}

/// Forecasts for the items numbered in `order`, as far as the budget reaches. Who must leave promised
/// room alone is forecast to start when that is so, or when its window has closed.
pub(super) fn forecast(world: &World<'_>, queue: &Queue<'_>, order: &[usize]) -> Vec<Forecast> {
    let mut walk = Walk {
        world,
        at: world.now,
        free: world.free.clone(),
        turns: BinaryHeap::new(),
        seats: Vec::new(),
        ended: BTreeSet::new(),
        budget: NODES_LOOKED_AT_MAX,
    };
    for (id, active) in &world.active {
        let limit = active.ends_by.filter(|end| *end > world.now);
        let end = active.expected_end(world.now);
        let end = end.map_or(limit, |end| Some(limit.map_or(end, |limit| end.min(limit))));
        if let Some(end) = end {
            let turn = Turn::End(walk.seats.len());
            walk.turns.push(Reverse((end, turn)));
            walk.seats.push((*id, active.seats.clone()));
        }
    }
    let closing = world.view.reservations.values().map(|it| it.until);
    for until in closing.filter(|until| *until > world.now) {
        walk.turns.push(Reverse((until, Turn::Closes)));
    }
    order
        .iter()
        .map(|number| {
            let item = &queue.items[*number];
            walk.until_seated(item, &queue.selectors[item.selector])
        })
        .collect()
}

impl Walk<'_, '_> {
    /// Goes on until there is room for `item`, which takes it.
    fn until_seated(&mut self, item: &Item<'_>, groups: &[Vec<usize>]) -> Forecast {
        let looks: usize = groups.iter().map(Vec::len).sum::<usize>() * item.gang.members.len();
        let looks = looks.max(1) + self.looks_aside();
        let mut ended: Vec<usize> = Vec::new();
        while let Some(rest) = self.budget.checked_sub(looks) {
            self.budget = rest;
            if let Some(taken) = self.seat(item, groups) {
                let forecast = Forecast {
                    start: Some(self.at.max(self.world.now)),
                    after: last_on_same_nodes(&ended, &self.seats, &taken),
                };
                if let Some(duration) = item.gang.predicted_duration {
                    let turn = Turn::End(self.seats.len());
                    self.turns.push(Reverse((self.at + duration, turn)));
                }
                self.seats.push((item.id, taken));
                return forecast;
            }
            let Some(Reverse((at, turn))) = self.turns.pop() else {
                break;
            };
            self.at = self.at.max(at);
            if let Turn::End(gang) = turn {
                let (id, seats) = &self.seats[gang];
                give_back(&mut self.free, seats);
                self.ended.insert(*id);
                ended.push(gang);
            }
        }
        Forecast::default()
    }

    /// What leaving promised room alone costs each time: every moment at which a window opens, and who may use which.
    fn looks_aside(&self) -> usize {
        match self.world.view.reservations.len() {
            0 => 0,
            promises => self.free.len() + promises * (promises + self.world.active.len()),
        }
    }

    fn seat(&mut self, item: &Item<'_>, groups: &[Vec<usize>]) -> Option<Vec<Taken>> {
        let Self {
            world,
            at,
            free,
            ended,
            ..
        } = self;
        let mut beside = Vec::new();
        if !world.view.reservations.is_empty() {
            beside.clone_from(free);
            if !leave_alone(world, item, *at, ended, &mut beside) {
                beside.clear();
            }
        }
        let later = (!beside.is_empty()).then_some(&mut beside[..]);
        seat_in_groups(free, later, item, groups, &world.market, 0).ok()
    }
}

/// Of the gangs that had to end, the last three on the nodes taken, in the order of ending.
fn last_on_same_nodes(
    ended: &[usize],
    seats: &[(GangId, Vec<Taken>)],
    taken: &[Taken],
) -> Vec<GangId> {
    let touches = |gang: &usize| {
        let same = |seat: &Taken| taken.iter().any(|taken| taken.node == seat.node);
        seats[*gang].1.iter().any(same)
    };
    let last = ended.iter().rev().filter(|gang| touches(gang)).take(3);
    let mut after: Vec<GangId> = last.map(|gang| seats[*gang].0).collect();
    after.reverse();
    after
}

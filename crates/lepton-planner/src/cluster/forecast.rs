//! When each waiting gang should start.
//!
//! Owns: a walk through the predicted ends, with the queue served in its order. Must not know:
//! why a gang waits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use lepton_types::Timestamp;

use super::GangId;
use super::capacity::{Taken, give_back};
use super::pass::seat_in_groups;
use super::queue::Queue;
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

/// Forecasts for the items numbered in `order`, as far as the budget reaches.
pub(super) fn forecast(world: &World<'_>, queue: &Queue<'_>, order: &[usize]) -> Vec<Forecast> {
    let mut free = world.free.clone();
    let mut at = world.now;
    let mut budget = NODES_LOOKED_AT_MAX;
    let mut seats: Vec<(GangId, Vec<Taken>)> = Vec::new();
    let mut ends: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
    for (id, active) in &world.active {
        if let Some(end) = active.expected_end(world.now) {
            ends.push(Reverse((end, seats.len())));
            seats.push((*id, active.seats.clone()));
        }
    }
    let mut forecasts = Vec::with_capacity(order.len());
    for number in order {
        let item = &queue.items[*number];
        let groups = &queue.selectors[item.selector];
        let looks: usize = groups.iter().map(Vec::len).sum::<usize>() * item.gang.members.len();
        let mut ended: Vec<usize> = Vec::new();
        let mut forecast = Forecast::default();
        while let Some(rest) = budget.checked_sub(looks.max(1)) {
            budget = rest;
            if let Ok(taken) = seat_in_groups(&mut free, None, item, groups, &world.market, 0) {
                forecast = Forecast {
                    start: Some(at.max(world.now)),
                    after: last_on_same_nodes(&ended, &seats, &taken),
                };
                if let Some(duration) = item.gang.predicted_duration {
                    ends.push(Reverse((at + duration, seats.len())));
                }
                seats.push((item.id, taken));
                break;
            }
            let Some(Reverse((end, gang))) = ends.pop() else {
                break;
            };
            at = at.max(end);
            give_back(&mut free, &seats[gang].1);
            ended.push(gang);
        }
        forecasts.push(forecast);
    }
    forecasts
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

//! Who runs where on a pool of machines: the decision behind the local pool, every job and
//! every endpoint.
//!
//! Owns: placement, gangs, fair shares, quotas with borrowing, priorities, ageing, backfill,
//! pre-emption, and the reasons. Must not know: what a gang computes, how it is started, where
//! the facts come from.
//!
//! # Goals
//!
//! - A gang starts with all its workers or not at all, and on no node beyond its capacity.
//! - Turns go to the greatest priority, then to those within their project's quota, then to the
//!   project with the least weighted dominant share (DRF, NSDI'11), then to who waits longest.
//! - Nobody starves: waiting raises the priority, and a gang that waited
//!   [`Policy::reserve_after`] has room kept for it which smaller ones may not delay.
//! - A running gang is stopped only for a greater priority, or for a project that takes back
//!   its quota; of all that could be, those who lose the least work.
//! - Whoever waits is told what is missing where, and when that is expected to change.
//!
//! # Why applying a plan leaves nothing to do
//!
//! [`plan`] walks over the queue again and again, as if what it decided had been applied, until
//! a walk starts and stops nobody. Each walk before the last takes a gang from the queue or
//! marks a running one as stopping, so there are at most as many as gangs. What the last walk
//! saw is what the next call sees if the plan is applied and nothing else happens: the same
//! walk, with nothing to do. So a pass may be repeated after a crash, and a plan that was applied
//! in half is completed, never doubled.

mod booking;
mod capacity;
mod check;
mod forecast;
mod market;
mod pass;
mod policy;
mod promises;
mod queue;
mod record;
mod report;
mod reserve;
mod room;
mod view;
mod world;

pub use booking::{Booking, NotBooked, book};
pub use check::{Finding, check};
pub use policy::Policy;
pub use record::{Record, Replay};
pub use report::{Nearest, Plan, Reason, Report, Stop, StopCause, Waiting};
pub use view::{
    Ask, ClusterView, GPU_MILLI, GPUS_PER_NODE_MAX, GangId, Node, NodeName, Occupied,
    ParseNodeNameError, PendingGang, PromisedSeat, Reservation, RunningGang, Seat, Selector, Share,
};

use std::collections::BTreeSet;

use lepton_types::Timestamp;

use crate::PlanRng;
use forecast::forecast;
use pass::{Outcome, walk};
use queue::Queue;
use world::World;

/// Decides who starts where and who stops, and says of everybody else why not.
#[must_use]
pub fn plan(view: &ClusterView, now: Timestamp, rng: &PlanRng) -> (Plan, Report) {
    let mut world = World::new(view, now);
    let queue = Queue::new(&world);
    let mut plan = Plan::default();
    let mut waiting: Vec<usize> = (0..queue.items.len()).collect();
    let outcome = loop {
        let (outcome, changed) = walk(&mut world, &queue, rng, &mut plan, &waiting);
        if !changed {
            break outcome;
        }
        let still: BTreeSet<usize> = outcome.iter().map(|(number, _)| *number).collect();
        waiting.retain(|number| still.contains(number));
    };
    let report = report(world, &queue, outcome);
    (plan, report)
}

fn report(world: World<'_>, queue: &Queue<'_>, outcome: Outcome) -> Report {
    let is_hopeful = |reason: &Reason| {
        matches!(
            reason,
            Reason::Capacity { .. }
                | Reason::Reserved { .. }
                | Reason::Promised { .. }
                | Reason::Stopping { .. }
        )
    };
    let hopeful = outcome.iter().filter(|(_, reason)| is_hopeful(reason));
    let hopeful: Vec<usize> = hopeful.map(|(number, _)| *number).collect();
    let mut forecasts = forecast(&world, queue, &hopeful).into_iter();
    let mut report = Report::default();
    for ((number, reason), position) in outcome.into_iter().zip(1..) {
        let item = &queue.items[number];
        let forecast = is_hopeful(&reason)
            .then(|| forecasts.next())
            .flatten()
            .unwrap_or_default();
        let earliest = forecast.start.unwrap_or(world.now);
        let end = earliest + item.gang.predicted_duration.unwrap_or_default();
        let waiting = Waiting {
            position,
            reason,
            expected_start: forecast.start,
            after: forecast.after,
            late: item.gang.deadline.is_some_and(|deadline| end > deadline),
        };
        report.waiting.insert(item.id, waiting);
    }
    report.notes = world.notes;
    report
}

//! What is thought to be asked for, and when that is thought anew.
//!
//! Owns: the window of arrivals, and the demand that prices are computed for. Must not know: how
//! a price is used.

use std::collections::{BTreeMap, BTreeSet};

use super::Trace;
use crate::packing::{Demand, Policy, Pool, Prices, Task, WHOLE, bound, typical};

/// How many arrivals are looked at together before the mix is compared with what was expected.
const WINDOW: usize = 4_096;

/// The part of the demand that must have moved to other sizes before prices are computed anew:
/// four times what a window of an unchanged mix shows by chance.
const DRIFT: f64 = 0.15;

/// What is thought to be asked for: at first the tasks that are known to be usual, then the
/// latest window that differs from what was thought.
pub(super) struct Mix<'a> {
    trace: &'a Trace,
    policy: Policy,
    expected: BTreeMap<u16, f64>,
    window: Vec<Task>,
    pub(super) solves: usize,
}

impl<'a> Mix<'a> {
    pub(super) fn new(trace: &'a Trace, policy: Policy) -> Self {
        Self {
            trace,
            policy,
            expected: BTreeMap::new(),
            window: Vec::new(),
            solves: 0,
        }
    }

    /// FGD keeps its mix, as published; ours follows the demand.
    pub(super) fn see(&mut self, task: &Task, pool: &mut Pool) {
        if self.policy != Policy::Lepton {
            return;
        }
        self.window.push(*task);
        if self.window.len() < WINDOW {
            return;
        }
        let window = std::mem::take(&mut self.window);
        if distance(&self.expected, &parts(&window)) > DRIFT {
            self.teach(&window, pool);
        }
    }

    pub(super) fn teach(&mut self, tasks: &[Task], pool: &mut Pool) {
        self.expected = parts(tasks);
        let prices = (self.policy == Policy::Lepton)
            .then(|| self.prices(tasks))
            .flatten();
        pool.expect(typical(tasks), prices);
    }

    /// The prices when just as much is asked for as there is: below, room is worth nothing, and
    /// far above it only the easiest tasks are.
    #[expect(clippy::cast_precision_loss, reason = "far under 2^53")]
    fn prices(&mut self, tasks: &[Task]) -> Option<Prices> {
        self.solves += 1;
        let asked: u64 = tasks.iter().map(Task::gpu_milli_total).sum();
        let capacity = self.trace.gpu_milli() as f64;
        let mut demand = Demand::of(tasks);
        for size in &mut demand {
            size.count *= capacity / asked.max(1) as f64;
        }
        Some(bound(capacity / f64::from(WHOLE), &demand)?.prices())
    }
}

/// The part of the GPU demand that is of each size.
fn parts(tasks: &[Task]) -> BTreeMap<u16, f64> {
    let demand = Demand::of(tasks);
    let milli = |size: &Demand| size.count * f64::from(size.gpu_milli);
    let total: f64 = demand.iter().map(milli).sum();
    let part = |size: &Demand| (size.gpu_milli, milli(size) / total.max(1.0));
    demand.iter().map(part).collect()
}

/// The part of one mix that would have to move to give the other.
fn distance(left: &BTreeMap<u16, f64>, right: &BTreeMap<u16, f64>) -> f64 {
    let sizes: BTreeSet<&u16> = left.keys().chain(right.keys()).collect();
    let part = |mix: &BTreeMap<u16, f64>, size| mix.get(size).copied().unwrap_or(0.0);
    sizes
        .into_iter()
        .map(|size| (part(left, size) - part(right, size)).abs())
        .sum::<f64>()
        / 2.0
}

//! The replay of a published packing experiment: machines, tasks that arrive one by one, no
//! departures.
//!
//! Owns: the order of arrivals, the measure. Must not know: files, how a machine is chosen.

mod formats;
mod mix;

use std::collections::{BTreeMap, BTreeSet};

pub use formats::{Models, parse_arrivals, parse_machines, parse_tasks};

use crate::PlanRng;
use crate::packing::{Bound, Demand, Machine, Policy, Pool, State, Task, WHOLE, bound};
use mix::Mix;

/// Machines or arrivals of one replay at most: a few gigabytes.
const PARTS_MOST: usize = 20_000_000;

/// Machines, kinds of tasks and an order of arrival.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The machines.
    pub machines: Vec<Machine>,
    /// For every machine, its place in the order that breaks ties.
    pub ranks: Vec<u32>,
    /// The tasks that are known to be usual, in the order of their names.
    pub tasks: Vec<Task>,
    /// The numbers of the tasks that arrive.
    pub arrivals: Vec<usize>,
}

/// A trace that nothing can be measured on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceFault {
    /// No machine has a GPU.
    #[error("no node has a gpu: there is nothing to be allocated")]
    NoGpus,
    /// Nothing arrives that asks for one.
    #[error("no pod that arrives asks for a gpu: there is nothing to be allocated")]
    NothingAsked,
    /// More copies than fit into memory.
    #[error("{copies} copies of {nodes} nodes and {arrivals} arrivals are more than {PARTS_MOST}")]
    TooLarge {
        /// Asked for.
        copies: u32,
        /// In one copy.
        nodes: usize,
        /// In one copy.
        arrivals: usize,
    },
}

/// What a replay measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// For each whole percent of the GPUs asked for, the mean percent allocated then.
    pub allocated_pct: BTreeMap<u32, f64>,
    /// How many tasks were tried.
    pub decisions: usize,
    /// How many found a place.
    pub placed: usize,
    /// How often the prices were computed.
    pub solves: usize,
    /// How many different states machines were in.
    pub states: usize,
}

impl Trace {
    /// Thousandths of all GPUs.
    #[must_use]
    pub fn gpu_milli(&self) -> u64 {
        let all = self.machines.iter();
        all.map(|machine| u64::from(machine.gpus) * u64::from(WHOLE))
            .sum()
    }

    /// What keeps a replay from measuring anything.
    ///
    /// # Errors
    ///
    /// If there are no GPUs, or nobody asks for one.
    pub fn validate(&self) -> Result<(), TraceFault> {
        if self.gpu_milli() == 0 {
            return Err(TraceFault::NoGpus);
        }
        let mut asked = self.arrivals.iter().map(|task| &self.tasks[*task]);
        if asked.all(|task| task.gpus == 0) {
            return Err(TraceFault::NothingAsked);
        }
        Ok(())
    }

    /// Arrivals that no machine has room for, even the empty ones: they are tried, and count as
    /// arrived.
    #[must_use]
    pub fn never_fit(&self) -> usize {
        let kinds: BTreeSet<Machine> = self.machines.iter().copied().collect();
        let fits = |task: &Task| {
            kinds
                .iter()
                .any(|machine| State::empty(*machine).fits(task))
        };
        let never: Vec<bool> = self.tasks.iter().map(|task| !fits(task)).collect();
        self.arrivals.iter().filter(|task| never[**task]).count()
    }

    /// The same trace on `copies` as many machines, all arriving as often, in the same order
    /// again and again.
    ///
    /// # Errors
    ///
    /// If that is more than a replay can hold.
    pub fn replicated(&self, copies: u32) -> Result<Self, TraceFault> {
        let (nodes, arrivals) = (self.machines.len(), self.arrivals.len());
        let times = usize::try_from(copies).unwrap_or(usize::MAX);
        if nodes.max(arrivals).saturating_mul(times) > PARTS_MOST {
            return Err(TraceFault::TooLarge {
                copies,
                nodes,
                arrivals,
            });
        }
        let count = u32::try_from(nodes).unwrap_or(u32::MAX);
        let ranks =
            (0..copies).flat_map(|copy| self.ranks.iter().map(move |rank| copy * count + rank));
        Ok(Self {
            machines: self.machines.repeat(times),
            ranks: ranks.collect(),
            tasks: self.tasks.clone(),
            arrivals: self.arrivals.repeat(times),
        })
    }

    /// The first arrivals that ask for `percent` of the GPUs.
    #[must_use]
    pub fn until(&self, percent: u64) -> &[usize] {
        let most = self.gpu_milli() * percent / 100;
        let mut asked = 0;
        let within = |task: &&usize| {
            asked += self.tasks[**task].gpu_milli_total();
            asked <= most
        };
        &self.arrivals[..self.arrivals.iter().take_while(within).count()]
    }

    /// The most that any policy could allocate of what has arrived at 100 %, in percent.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far under 2^53")]
    pub fn bound_at_100(&self) -> Option<(f64, Bound)> {
        let demand = Demand::of(self.until(100).iter().map(|task| &self.tasks[*task]));
        let total = self.gpu_milli() as f64;
        let found = bound(total / f64::from(WHOLE), &demand)?;
        Some((100.0 * found.gpu_milli / total, found))
    }

    /// Replays the trace; `progress` is told the number of decisions now and then.
    #[must_use]
    pub fn replay(
        &self,
        policy: Policy,
        rng: &PlanRng,
        mut progress: impl FnMut(usize),
    ) -> Outcome {
        let random = rng.stream("pool", 0);
        let mut pool = Pool::new(&self.machines, &self.ranks, policy, random);
        let mut mix = Mix::new(self, policy);
        mix.teach(&self.tasks, &mut pool);
        let total = self.gpu_milli().max(1);
        let (mut asked, mut allocated, mut placed) = (0_u64, 0_u64, 0);
        let mut sums: BTreeMap<u32, (f64, u32)> = BTreeMap::new();
        for (decisions, task) in self.arrivals.iter().enumerate() {
            let task = &self.tasks[*task];
            asked += task.gpu_milli_total();
            if pool.place(task).is_some() {
                allocated += task.gpu_milli_total();
                placed += 1;
            }
            let percent = |part: u64| 100.0 * ratio(part, total);
            let (sum, count) = sums.entry(rounded(percent(asked))).or_default();
            *sum += percent(allocated);
            *count += 1;
            mix.see(task, &mut pool);
            if decisions % 1_024 == 0 {
                progress(decisions);
            }
        }
        let mean = |(percent, (sum, count)): (u32, (f64, u32))| (percent, sum / f64::from(count));
        Outcome {
            allocated_pct: sums.into_iter().map(mean).collect(),
            decisions: self.arrivals.len(),
            placed,
            solves: mix.solves,
            states: pool.states_seen(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far under 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small percentage"
)]
fn rounded(percent: f64) -> u32 {
    percent.round() as u32
}

#[cfg(test)]
mod tests;

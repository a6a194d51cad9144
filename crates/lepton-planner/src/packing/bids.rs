//! What a place costs the pool: our policy for one who walks over the machines on its own.
//!
//! Owns: the mix that is expected, its prices, and the cost of a move. Must not know: which
//! machines there are, who asks.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;

use super::score::{Move, Policy, Scorer};
use super::{Demand, State, Task, WHOLE, bound, typical};

/// The most sizes of parts that the prices tell apart, the most asked for first: the LP of so
/// many is solved in milliseconds.
const SIZES_MAX: usize = 32;

/// The most shapes of tasks that the fragmentation is expected over, for the same reason.
const SHAPES_MAX: usize = 128;

/// Costs that are remembered at once: states are few, and a pass asks for each again and again.
const REMEMBERED_MAX: usize = 1 << 16;

/// What places cost under the mix of tasks that run and wait.
#[derive(Debug)]
pub struct Bids {
    scorer: Scorer,
    /// Only looked into, never walked: its order reaches no result.
    known: RefCell<HashMap<(State, Task), Option<Move>>>,
}

impl Bids {
    /// The prices of a mix, for a pool of so many GPUs; `None` if nobody asks for one.
    #[must_use]
    pub fn of(gpus: u32, mix: &[Task]) -> Option<Self> {
        if gpus == 0 || mix.iter().all(|task| task.gpus == 0) {
            return None;
        }
        let mut usual = typical(mix);
        usual.truncate(SHAPES_MAX);
        // Whole GPUs fill each other's place: only parts need a price.
        let parts = mix.iter().any(Task::is_share);
        let prices = parts.then(|| bound(f64::from(gpus), &scaled(gpus, mix)));
        let scorer = Scorer {
            policy: Policy::Lepton,
            usual,
            prices: prices.flatten().map(|bound| bound.prices()),
        };
        let known = RefCell::default();
        Some(Self { scorer, known })
    }

    /// What it costs the pool to run `task` on a machine in this state, less being better, and
    /// on which GPU that is, for a part of one; `None` if it does not fit.
    #[must_use]
    pub fn cost(&self, state: &State, task: &Task) -> Option<(i64, usize)> {
        let mut known = self.known.borrow_mut();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        let best = *known.entry((*state, *task)).or_insert_with(|| {
            let before = self.scorer.fragmentation(state);
            self.scorer.best_move(state, before, task)
        });
        best.map(|best| (-best.score, best.gpu))
    }
}

/// The sizes most asked for, as many of each as fill the pool.
fn scaled(gpus: u32, mix: &[Task]) -> Vec<Demand> {
    let milli = |size: &Demand| size.count * f64::from(size.gpu_milli);
    let mut demand = Demand::of(mix);
    demand.sort_by(|left, right| {
        let order = milli(right).total_cmp(&milli(left));
        order.then(Reverse(left.gpu_milli).cmp(&Reverse(right.gpu_milli)))
    });
    demand.truncate(SIZES_MAX);
    let total: f64 = demand.iter().map(milli).sum();
    for size in &mut demand {
        size.count *= f64::from(gpus) * f64::from(WHOLE) / total.max(1.0);
    }
    demand.sort_by_key(|size| size.gpu_milli);
    demand
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::Machine;

    fn part(gpu_milli: u16) -> Task {
        Task {
            cpu_milli: 0,
            memory_mib: 0,
            gpus: 1,
            gpu_milli,
            models: 0,
        }
    }

    #[test]
    fn who_wants_no_gpu_goes_where_none_is_left() {
        let machine = Machine {
            cpu_milli: 8_000,
            memory_mib: 0,
            gpus: 1,
            model: 0,
        };
        let whole = Task {
            cpu_milli: 4_000,
            ..part(WHOLE)
        };
        let bids = Bids::of(10, &[whole]).unwrap();
        let empty = State::empty(machine);
        let full = empty.after(&part(WHOLE), 0);
        let plain = Task {
            cpu_milli: 6_000,
            gpus: 0,
            ..part(0)
        };
        let cost = |state: &State, task| bids.cost(state, task).map(|(cost, _)| cost);
        // On the empty machine it would leave too few processors for the GPU.
        assert!(cost(&full, &plain) < cost(&empty, &plain));
        assert_eq!(cost(&full, &whole), None);
    }

    #[test]
    fn without_gpus_or_askers_there_are_no_prices() {
        assert!(Bids::of(0, &[part(500)]).is_none());
        let plain = Task {
            gpus: 0,
            ..part(500)
        };
        assert!(Bids::of(8, &[plain]).is_none());
    }
}

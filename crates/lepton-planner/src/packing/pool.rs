//! The machines of a pool, indexed so that the best for a task is found without looking at all.
//!
//! Machines in the same state are one class; the move of a kind of task on a class is computed
//! once and kept. For each kind a heap holds machines by score, brought up to date with the
//! machines that changed since the kind was last asked for; stale entries are dropped when they
//! come up. So a decision costs a few heap operations however many machines there are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use rand::Rng as _;

use super::score::{Move, Policy, Prices, Scorer};
use super::{Machine, State, Task, Typical};
use crate::Stream;

/// Where a task was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The number of the machine.
    pub machine: usize,
    /// The GPU, for a part of one.
    pub gpu: usize,
}

/// See the module.
pub struct Pool {
    scorer: Scorer,
    /// Of every machine, the number of its class.
    class_of: Vec<u32>,
    /// Of every machine, its place in the fixed order of ties.
    rank_of: Vec<u32>,
    machine_at: Vec<u32>,
    classes: Vec<Class>,
    /// Only looked into, never walked: its order reaches no result.
    class_by_state: HashMap<State, u32>,
    kinds: Vec<Kind>,
    kind_by_task: HashMap<Task, u32>,
    /// The machines that changed, in order.
    changed: Vec<u32>,
    random: Stream,
}

struct Class {
    state: State,
    fragmentation: f64,
    /// By kind: not yet computed, does not fit, or how.
    moves: Vec<Option<Option<Move>>>,
}

struct Kind {
    task: Task,
    /// By score, then by the order of ties.
    best: BinaryHeap<(i64, Reverse<u32>)>,
    /// How much of [`Pool::changed`] the heap knows.
    seen: usize,
    fresh: bool,
}

impl Pool {
    /// An empty pool; `ranks` gives every machine its place in the order that breaks ties.
    ///
    /// # Panics
    ///
    /// If there is not one distinct rank under their number for every machine.
    #[must_use]
    pub fn new(machines: &[Machine], ranks: &[u32], policy: Policy, random: Stream) -> Self {
        assert_eq!(machines.len(), ranks.len(), "one rank a machine");
        let mut machine_at = vec![u32::MAX; ranks.len()];
        for (machine, rank) in (0..).zip(ranks) {
            machine_at[*rank as usize] = machine;
        }
        assert!(
            machine_at.iter().all(|machine| *machine != u32::MAX),
            "ranks are distinct"
        );
        let mut pool = Self {
            scorer: Scorer {
                policy,
                usual: Vec::new(),
                prices: None,
            },
            class_of: Vec::with_capacity(machines.len()),
            rank_of: ranks.to_vec(),
            machine_at,
            classes: Vec::new(),
            class_by_state: HashMap::new(),
            kinds: Vec::new(),
            kind_by_task: HashMap::new(),
            changed: Vec::new(),
            random,
        };
        for machine in machines {
            let class = pool.class(State::empty(*machine));
            pool.class_of.push(class);
        }
        pool
    }

    /// Sets the usual mix and the prices; every score is computed anew.
    pub fn expect(&mut self, usual: Vec<Typical>, prices: Option<Prices>) {
        self.scorer.usual = usual;
        self.scorer.prices = prices;
        for class in &mut self.classes {
            class.fragmentation = self.scorer.fragmentation(&class.state);
            class.moves.clear();
        }
        for kind in &mut self.kinds {
            kind.best.clear();
            kind.fresh = true;
        }
    }

    /// What a machine has left.
    #[must_use]
    pub fn state(&self, machine: usize) -> &State {
        &self.classes[self.class_of[machine] as usize].state
    }

    /// How many different states the machines have been in.
    #[must_use]
    pub fn states_seen(&self) -> usize {
        self.classes.len()
    }

    /// Puts a task where the policy wants it; `None` if it fits nowhere.
    pub fn place(&mut self, task: &Task) -> Option<Placed> {
        let kind = self.kind(task);
        let (machine, gpu) = if self.scorer.policy == Policy::Random {
            self.draw(kind)?
        } else {
            self.best(kind)?
        };
        self.put(machine, task, gpu);
        Some(Placed { machine, gpu })
    }

    /// Puts all of `tasks`, or none.
    pub fn place_gang(&mut self, tasks: &[Task]) -> Option<Vec<Placed>> {
        let mut placed = Vec::with_capacity(tasks.len());
        let mut before = Vec::with_capacity(tasks.len());
        for task in tasks {
            let kind = self.kind(task);
            let Some((machine, gpu)) = self.best(kind) else {
                for (machine, class) in before.into_iter().rev() {
                    self.set_class(machine, class);
                }
                return None;
            };
            before.push((machine, self.class_of[machine]));
            self.put(machine, task, gpu);
            placed.push(Placed { machine, gpu });
        }
        Some(placed)
    }

    fn put(&mut self, machine: usize, task: &Task, gpu: usize) {
        let next = self.state(machine).after(task, gpu);
        let class = self.class(next);
        self.set_class(machine, class);
    }

    fn set_class(&mut self, machine: usize, class: u32) {
        self.class_of[machine] = class;
        self.changed
            .push(u32::try_from(machine).unwrap_or(u32::MAX));
    }

    fn class(&mut self, state: State) -> u32 {
        let classes = &mut self.classes;
        let scorer = &self.scorer;
        *self.class_by_state.entry(state).or_insert_with(|| {
            classes.push(Class {
                state,
                fragmentation: scorer.fragmentation(&state),
                moves: Vec::new(),
            });
            u32::try_from(classes.len() - 1).unwrap_or(u32::MAX)
        })
    }

    fn kind(&mut self, task: &Task) -> usize {
        let kinds = &mut self.kinds;
        let number = *self.kind_by_task.entry(*task).or_insert_with(|| {
            kinds.push(Kind {
                task: *task,
                best: BinaryHeap::new(),
                seen: 0,
                fresh: true,
            });
            u32::try_from(kinds.len() - 1).unwrap_or(u32::MAX)
        });
        number as usize
    }

    fn move_on(&mut self, machine: usize, kind: usize) -> Option<Move> {
        let class = &mut self.classes[self.class_of[machine] as usize];
        if class.moves.len() <= kind {
            class.moves.resize(kind + 1, None);
        }
        let task = &self.kinds[kind].task;
        *class.moves[kind].get_or_insert_with(|| {
            self.scorer
                .best_move(&class.state, class.fragmentation, task)
        })
    }

    fn best(&mut self, kind: usize) -> Option<(usize, usize)> {
        self.refresh(kind);
        while let Some((score, Reverse(rank))) = self.kinds[kind].best.peek().copied() {
            let machine = self.machine_at[rank as usize] as usize;
            match self.move_on(machine, kind) {
                Some(best) if best.score == score => return Some((machine, best.gpu)),
                _ => {
                    self.kinds[kind].best.pop();
                }
            }
        }
        None
    }

    /// Adds the machines that have changed since the kind was last asked for.
    fn refresh(&mut self, kind: usize) {
        let all = self.class_of.len();
        let missed = self.changed.len() - self.kinds[kind].seen;
        if self.kinds[kind].fresh || missed > all {
            let mut entries = Vec::with_capacity(all);
            for machine in 0..all {
                if let Some(best) = self.move_on(machine, kind) {
                    entries.push((best.score, Reverse(self.rank_of[machine])));
                }
            }
            self.kinds[kind].best = BinaryHeap::from(entries);
            self.kinds[kind].fresh = false;
        } else {
            for index in self.kinds[kind].seen..self.changed.len() {
                let machine = self.changed[index] as usize;
                if let Some(best) = self.move_on(machine, kind) {
                    let entry = (best.score, Reverse(self.rank_of[machine]));
                    self.kinds[kind].best.push(entry);
                }
            }
        }
        self.kinds[kind].seen = self.changed.len();
    }

    /// Any machine that fits, and on it any GPU, all alike.
    fn draw(&mut self, kind: usize) -> Option<(usize, usize)> {
        let task = self.kinds[kind].task;
        let fits = |machine: &usize| self.state(*machine).fits(&task);
        let fitting: Vec<usize> = (0..self.class_of.len()).filter(fits).collect();
        if fitting.is_empty() {
            return None;
        }
        let machine = fitting[self.random.random_range(0..fitting.len())];
        let gpus = self.state(machine).gpus();
        let able: Vec<usize> = (0..gpus.len())
            .filter(|gpu| gpus[*gpu] >= task.gpu_milli)
            .collect();
        let gpu = if task.is_share() {
            able[self.random.random_range(0..able.len())]
        } else {
            0
        };
        Some((machine, gpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlanRng;
    use crate::packing::typical;

    /// The index is a way to be fast: a scan of all machines chooses the same.
    #[test]
    fn the_index_finds_what_a_scan_finds() {
        let machine = |gpus, cpu_milli| Machine {
            cpu_milli,
            memory_mib: 64_000,
            gpus,
            model: gpus,
        };
        let sizes = [(2, 16_000), (4, 24_000), (8, 96_000)];
        let machines: Vec<Machine> = (0..30)
            .map(|n| machine(sizes[n % 3].0, sizes[n % 3].1))
            .collect();
        let ranks: Vec<u32> = (0..30).map(|n| n * 7 % 30).collect();
        let task = |cpu_milli, gpus, gpu_milli| Task {
            cpu_milli,
            memory_mib: 1_000,
            gpus,
            gpu_milli,
            models: 0,
        };
        let tasks = [
            task(2_000, 1, 300),
            task(1_000, 1, 700),
            task(4_000, 2, 1_000),
            task(500, 0, 0),
        ];
        for policy in Policy::ALL
            .into_iter()
            .filter(|policy| *policy != Policy::Random)
        {
            let random = PlanRng::from_seed(1).stream("test", 0);
            let mut pool = Pool::new(&machines, &ranks, policy, random);
            pool.expect(typical(&tasks), None);
            for step in 0..400_usize {
                let task = &tasks[step * step % 7 % 4];
                let before: Vec<State> = (0..30).map(|n| *pool.state(n)).collect();
                let found = |number: usize| {
                    let state = &before[number];
                    let best =
                        pool.scorer
                            .best_move(state, pool.scorer.fragmentation(state), task)?;
                    Some((best.score, Reverse(ranks[number]), number, best.gpu))
                };
                let scanned = (0..30).filter_map(found).max();
                let scanned = scanned.map(|(_, _, machine, gpu)| Placed { machine, gpu });
                assert_eq!(pool.place(task), scanned, "{policy:?} at {step}");
            }
        }
    }

    #[test]
    fn a_gang_that_does_not_fit_leaves_no_trace() {
        let machine = Machine {
            cpu_milli: 4_000,
            memory_mib: 10,
            gpus: 2,
            model: 0,
        };
        let random = PlanRng::from_seed(1).stream("test", 0);
        let mut pool = Pool::new(&[machine; 2], &[0, 1], Policy::Fgd, random);
        let task = Task {
            cpu_milli: 1_000,
            memory_mib: 1,
            gpus: 1,
            gpu_milli: 1_000,
            models: 0,
        };
        assert_eq!(pool.place_gang(&[task; 5]), None);
        assert_eq!(*pool.state(0), State::empty(machine));
        assert_eq!(
            pool.place_gang(&[task; 4]).map(|seats| seats.len()),
            Some(4)
        );
    }
}

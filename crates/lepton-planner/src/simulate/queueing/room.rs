//! Room for those who wait: who starts, who is stopped or moved for whom.
//!
//! Owns: the choice of the next job and of its nodes. Must not know: when events come, how a rank
//! comes about.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::machines::{Machines, Taken};
use super::replay::Replay;
use crate::queueing::{Policy, Rank};

/// How many waiting jobs of each size backfilling looks at: those behind are younger by days.
const BACKFILL_DEPTH: usize = 32;

/// A job runs this many times the cost of a checkpoint before it may be stopped again, so that
/// at most a third of its time goes into being stopped.
const RUN_AT_LEAST_CHECKPOINTS: f64 = 2.0;

/// How many more jobs than their GPUs ask for are stopped at most where the room of those
/// stopped lies apart.
const MOST_TRIES: usize = 8;

impl Replay<'_> {
    /// Starts, and stops for others, until nothing more is to be done.
    pub(super) fn schedule(&mut self) {
        let mut blocked: BTreeSet<u32> = BTreeSet::new();
        loop {
            let open = self
                .waiting
                .iter()
                .filter(|(size, _)| !blocked.contains(size));
            let heads = open.filter_map(|(_, queue)| queue.first().copied());
            let Some((rank, job)) = heads.min() else {
                return;
            };
            let gpus = self.jobs[job].gpus;
            if let Some(taken) = self.machines.find(gpus) {
                self.start(rank, job, taken);
                continue;
            }
            if self.policy.stops() && self.make_room(rank, job) {
                continue;
            }
            match self.policy {
                Policy::Fifo => return,
                Policy::Backfill => return self.backfill(job),
                _ => blocked.insert(gpus),
            };
        }
    }

    /// Stops the least important jobs whose room lets `job` in.
    fn make_room(&mut self, rank: Rank, job: usize) -> bool {
        if self.policy.moves() {
            return self.clear_room(rank, job);
        }
        let victims_of_node = self.victims(rank);
        let mut chosen: BTreeSet<usize> = BTreeSet::new();
        let mut taken: Taken = Vec::new();
        for part in self.machines.parts(self.jobs[job].gpus) {
            let nodes = (0..self.machines.free.len())
                .filter(|node| taken.iter().all(|(other, _)| other != node));
            let choice = nodes.filter_map(|node| {
                let mut free = self.machines.free[node];
                let mut victims = Vec::new();
                for (rank, victim, gpus) in &victims_of_node[node] {
                    if free >= part {
                        break;
                    }
                    free += gpus;
                    victims.push((*rank, *victim));
                }
                let most_important = victims.last().map(|(rank, _)| Reverse(*rank));
                (free >= part).then_some((most_important, victims.len(), node, victims))
            });
            let Some((_, _, node, victims)) = choice.min() else {
                return false;
            };
            chosen.extend(victims.into_iter().map(|(_, victim)| victim));
            taken.push((node, part));
        }
        for victim in chosen {
            self.stop(victim);
        }
        self.start(rank, job, taken);
        true
    }

    /// Stops the least important jobs of the whole pool until their room would do, and moves
    /// others together where it lies apart.
    fn clear_room(&mut self, rank: Rank, job: usize) -> bool {
        let gpus = self.jobs[job].gpus;
        let worse = self.served.iter().rev();
        let worse = worse.take_while(|(current, _)| self.policy.may_stop(*current, rank));
        let mut order = worse.filter(|(_, other)| self.is_settled(*other));
        let mut machines = self.machines.clone();
        let mut room = machines.total_free();
        let mut stopped = BTreeSet::new();
        let mut tries = 0;
        let (taken, moved) = loop {
            if room >= gpus {
                if let Some((taken, moved)) = self.gather(&machines, gpus, &stopped) {
                    break (taken, moved);
                }
                tries += 1;
                if tries > MOST_TRIES {
                    return false;
                }
            }
            let Some((_, other)) = order.next() else {
                return false;
            };
            stopped.insert(*other);
            room += self.jobs[*other].gpus;
            if let Some(taken) = &self.live[*other].taken {
                machines.release(taken);
            }
        };
        self.carry_out((rank, job), taken, &stopped, moved);
        true
    }

    /// Nodes for a job on `machines`, and where those go that must leave them; those already
    /// stopped are gone.
    fn gather(
        &self,
        machines: &Machines,
        gpus: u32,
        stopped: &BTreeSet<usize>,
    ) -> Option<(Taken, Vec<(usize, Taken)>)> {
        let mut machines = machines.clone();
        let mut taken = Taken::new();
        let mut moved = Vec::new();
        for part in machines.parts(gpus) {
            let open = |node: &usize| taken.iter().all(|(other, _)| other != node);
            let cost = |node: &usize| {
                let free = machines.free[*node];
                (part.saturating_sub(free), free, *node)
            };
            let node = (0..machines.free.len()).filter(open).min_by_key(cost)?;
            let leavers = if machines.free[node] < part {
                self.movable(node, stopped)
            } else {
                Vec::new()
            };
            for other in leavers {
                if machines.free[node] >= part {
                    break;
                }
                machines.free[node] += self.jobs[other].gpus;
                moved.push(other);
            }
            if machines.free[node] < part {
                return None;
            }
            machines.free[node] -= part;
            taken.push((node, part));
        }
        let place = |other: usize| {
            let found = machines.find(self.jobs[other].gpus)?;
            machines.take(&found);
            Some((other, found))
        };
        let moved: Option<Vec<_>> = moved.into_iter().map(place).collect();
        Some((taken, moved?))
    }

    /// Who may be moved from a node: those that run only there. The largest first, so that the
    /// fewest are moved.
    fn movable(&self, node: usize, stopped: &BTreeSet<usize>) -> Vec<usize> {
        let only_here = |other: &usize| {
            let taken = self.live[*other].taken.as_deref();
            taken == Some(&[(node, self.jobs[*other].gpus)])
        };
        let mut here: Vec<usize> = self
            .running
            .iter()
            .copied()
            .filter(|other| only_here(other) && !stopped.contains(other))
            .filter(|other| self.is_settled(*other))
            .collect();
        here.sort_by_key(|other| Reverse(self.jobs[*other].gpus));
        here
    }

    fn carry_out(
        &mut self,
        (rank, job): (Rank, usize),
        taken: Taken,
        stopped: &BTreeSet<usize>,
        moved: Vec<(usize, Taken)>,
    ) {
        for other in stopped {
            self.stop(*other);
        }
        for (other, _) in &moved {
            self.leave(*other);
            self.live[*other].owed += self.setting.checkpoint_s;
            self.preemptions += 1;
        }
        self.start(rank, job, taken);
        for (other, taken) in moved {
            let rank = self.live[other].rank.expect("invariant: it ran");
            self.start(rank, other, taken);
        }
    }

    /// Whether a running job has run long enough to be stopped.
    fn is_settled(&self, job: usize) -> bool {
        let live = &self.live[job];
        let at_least = RUN_AT_LEAST_CHECKPOINTS * self.setting.checkpoint_s;
        self.now - live.since >= at_least + live.owed
    }

    /// On every node, whom a job of this rank may stop, the least important first.
    fn victims(&self, rank: Rank) -> Vec<Vec<(Rank, usize, u32)>> {
        let mut victims = vec![Vec::new(); self.machines.free.len()];
        let at_least = RUN_AT_LEAST_CHECKPOINTS * self.setting.checkpoint_s;
        for job in &self.running {
            let live = &self.live[*job];
            let current = match self.policy {
                Policy::ShortestRemaining => self.rank(*job),
                _ => live.rank.unwrap_or(rank),
            };
            if self.now - live.since < at_least + live.owed || !self.policy.may_stop(current, rank)
            {
                continue;
            }
            for (node, gpus) in live.taken.iter().flatten() {
                victims[*node].push((current, *job, *gpus));
            }
        }
        for of_node in &mut victims {
            of_node.sort_by_key(|(rank, job, _)| Reverse((*rank, *job)));
        }
        victims
    }

    /// Starts those behind `first` that should have ended by the time it has its room, or leave
    /// it its room.
    fn backfill(&mut self, first: usize) {
        let rest = |job: usize| -> f64 {
            let age = self.age(job);
            let outlook = self.live[job].outlook.as_ref();
            let median = outlook.and_then(|outlook| outlook.quantile(age, 0.5));
            median.map_or(f64::INFINITY, |total| (total - age).max(0.0))
        };
        let mut ends: Vec<(f64, u32)> = self
            .running
            .iter()
            .map(|job| (rest(*job), self.jobs[*job].gpus))
            .collect();
        ends.sort_by(|left, right| left.0.total_cmp(&right.0));
        let needed = self.jobs[first].gpus;
        let mut free = self.machines.total_free();
        let mut shadow = f64::INFINITY;
        for (end, gpus) in ends {
            free += gpus;
            if free >= needed {
                shadow = end;
                break;
            }
        }
        let mut spare = free.saturating_sub(needed);
        let candidates: Vec<(Rank, usize)> = self
            .waiting
            .values()
            .flat_map(|queue| queue.iter().take(BACKFILL_DEPTH).copied())
            .filter(|(_, job)| *job != first)
            .map(|(rank, job)| (rank, job, rest(job)))
            .filter(|(_, job, rest)| *rest <= shadow || self.jobs[*job].gpus <= spare)
            .map(|(rank, job, _)| (rank, job))
            .collect();
        for (rank, job) in candidates {
            let gpus = self.jobs[job].gpus;
            let in_time = self.live[job].outlook.as_ref().is_some_and(|outlook| {
                outlook
                    .quantile(0.0, 0.5)
                    .is_some_and(|total| total <= shadow)
            });
            if !in_time && gpus > spare {
                continue;
            }
            if let Some(taken) = self.machines.find(gpus) {
                if !in_time {
                    spare -= gpus;
                }
                self.start(rank, job, taken);
            }
        }
    }
}

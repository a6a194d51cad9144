//! Expected fragmentation (FGD, "Beware of Fragmentation", USENIX ATC'23, §4): what of a
//! machine's idle GPU a task drawn from the usual mix could not use.

use std::collections::BTreeMap;

use super::{State, Task};

/// The share of tasks that counts as usual, as published.
const POPULAR: f64 = 0.95;

/// A task of the usual mix; memory does not count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Typical {
    /// What it asks for; its memory is zero.
    pub task: Task,
    /// How often; all together 1.
    pub frequency: f64,
}

/// The most popular tasks that make up 95 % of those given, with their frequencies.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far under 2^53")]
pub fn typical<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Vec<Typical> {
    let mut counts: BTreeMap<Task, u64> = BTreeMap::new();
    for task in tasks {
        let shape = Task {
            memory_mib: 0,
            ..*task
        };
        *counts.entry(shape).or_default() += 1;
    }
    let mut by_count: Vec<(Task, u64)> = counts.into_iter().collect();
    by_count.sort_by_key(|(task, count)| (std::cmp::Reverse(*count), *task));
    let total: u64 = by_count.iter().map(|(_, count)| count).sum();
    let mut covered = 0;
    let mut usual = Vec::new();
    for (task, count) in by_count {
        if covered as f64 >= POPULAR * total as f64 {
            break;
        }
        covered += count;
        usual.push((task, count));
    }
    let frequency = |count: u64| count as f64 / covered as f64;
    usual
        .into_iter()
        .map(|(task, count)| Typical {
            task,
            frequency: frequency(count),
        })
        .collect()
}

/// F(n): the expected thousandths of idle GPU that a usual task cannot use.
#[must_use]
pub(super) fn fragmentation(state: &State, usual: &[Typical]) -> f64 {
    let idle = state.gpu_milli_left();
    if idle == 0 {
        return 0.0;
    }
    usual
        .iter()
        .map(|typical| typical.frequency * f64::from(unusable(state, &typical.task, idle)))
        .sum()
}

fn unusable(state: &State, task: &Task, idle: u32) -> u32 {
    if task.gpus == 0 || !state.fits_memory_aside(task) {
        return idle;
    }
    let too_little = |left: &&u16| **left < task.gpu_milli;
    state
        .gpus()
        .iter()
        .filter(too_little)
        .map(|left| u32::from(*left))
        .sum()
}

//! Small classical cases, properly posed, with exact answers: a yardstick for whoever changes
//! the solvers, and a calculator for whoever plans by hand.

use microlp::{ComparisonOp, OptimizationDirection, Problem, Variable};

use super::whole::{Kind, Load, Need, cheapest};

/// A task whose work can be spread over more or less machine as it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Malleable {
    /// The greatest rate at which it runs.
    pub rate: f64,
    /// How long it takes at that rate, in hours: its work is their product.
    pub hours: f64,
}

/// When each task ends, in hours.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// By task.
    pub ends: Vec<f64>,
}

impl Schedule {
    /// The last end.
    #[must_use]
    pub fn makespan(&self) -> f64 {
        self.ends.iter().copied().fold(0.0, f64::max)
    }

    /// All ends together.
    #[must_use]
    pub fn completions(&self) -> f64 {
        self.ends.iter().sum()
    }
}

/// The least makespan on a capacity: no task can end before its hours, nor all before their work
/// is done; at constant rates that make every task end together, both bounds are met.
#[must_use]
pub fn least_makespan(capacity: f64, tasks: &[Malleable]) -> f64 {
    let longest = tasks.iter().map(|task| task.hours).fold(0.0, f64::max);
    let work: f64 = tasks.iter().map(|task| task.rate * task.hours).sum();
    longest.max(work / capacity)
}

/// The most tasks whose orders of completion are all tried.
const TASKS_MAX: usize = 7;

/// The least sum of completions on a capacity, exactly: for every order in which the tasks may
/// end, a linear program over the work of each in each interval between two ends. `None` for
/// more than seven tasks, or no capacity.
#[must_use]
pub fn least_completions(capacity: f64, tasks: &[Malleable]) -> Option<Schedule> {
    if tasks.len() > TASKS_MAX || capacity <= 0.0 {
        return None;
    }
    let mut best: Option<Schedule> = None;
    for order in orders(tasks.len()) {
        let Some(schedule) = in_order(capacity, tasks, &order) else {
            continue;
        };
        let better = |best: &Schedule| schedule.completions() < best.completions() - 1e-9;
        if best.as_ref().is_none_or(better) {
            best = Some(schedule);
        }
    }
    best
}

fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..count {
        let longer = |order: &Vec<usize>| {
            let order = order.clone();
            let rest = (0..count).filter({
                let order = order.clone();
                move |task| !order.contains(task)
            });
            rest.map(move |task| [&order[..], &[task]].concat())
                .collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// The least sum of completions if the tasks end in this order.
#[expect(clippy::cast_precision_loss, reason = "at most seven")]
fn in_order(capacity: f64, tasks: &[Malleable], order: &[usize]) -> Option<Schedule> {
    let mut program = Problem::new(OptimizationDirection::Minimize);
    let all = (0.0, f64::INFINITY);
    let count = order.len();
    let lengths: Vec<Variable> = (0..count)
        .map(|interval| program.add_var((count - interval) as f64, all))
        .collect();
    let mut in_interval: Vec<Vec<(Variable, f64)>> = vec![Vec::new(); count];
    for (place, task) in order.iter().enumerate() {
        let Malleable { rate, hours } = tasks[*task];
        let mut work = Vec::new();
        for interval in 0..=place {
            let part = program.add_var(0.0, all);
            let limit = vec![(part, 1.0), (lengths[interval], -rate)];
            program.add_constraint(limit, ComparisonOp::Le, 0.0);
            in_interval[interval].push((part, 1.0));
            work.push((part, 1.0));
        }
        program.add_constraint(work, ComparisonOp::Eq, rate * hours);
    }
    for (mut row, length) in in_interval.into_iter().zip(&lengths) {
        row.push((*length, -capacity));
        program.add_constraint(row, ComparisonOp::Le, 0.0);
    }
    let outcome = program.solve().ok()?;
    let solution = outcome.solution()?;
    let mut ends = vec![0.0; count];
    let mut at = 0.0;
    for (task, length) in order.iter().zip(&lengths) {
        at += solution.var_value(*length);
        ends[*task] = at;
    }
    Some(Schedule { ends })
}

/// Max-min fair rates where everybody's satisfaction is the part of the greatest rate that it
/// gets: all get the same part, and nobody more than all.
#[must_use]
pub fn max_min_rates(capacity: f64, tasks: &[Malleable]) -> Vec<f64> {
    let wanted: f64 = tasks.iter().map(|task| task.rate).sum();
    let part = if wanted > capacity {
        capacity / wanted
    } else {
        1.0
    };
    tasks.iter().map(|task| task.rate * part).collect()
}

/// What is wanted, or what one node has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machines {
    /// Processors.
    pub cores: f64,
    /// Memory, in terabytes.
    pub memory_tb: f64,
}

/// The fewest of `nodes` equal nodes that hold a load which can be divided at will; `None` if
/// all of them do not. A mixed-integer program, whose proof is checked.
#[must_use]
pub fn fewest(load: Machines, node: Machines, nodes: u32) -> Option<u32> {
    let need = Need {
        kinds: vec![Kind {
            name: "node".to_owned(),
            count: nodes,
            usd_per_hour: 1.0,
            has: vec![node.cores, node.memory_tb],
        }],
        loads: vec![Load {
            name: "load".to_owned(),
            needs: vec![load.cores, load.memory_tb],
            allowed: vec![true],
        }],
    };
    let fleet = cheapest(&need).ok()?;
    let proof = fleet.verify(&need);
    let proven = proof.complete && proof.gap_usd_per_hour < 0.5;
    // Nothing still needs a place to be.
    proven.then(|| fleet.machines[0].max(1))
}

/// The evenest division of a load over `nodes` equal nodes: what each holds; `None` if that is
/// more than a node has. The least greatest part over all divisions, as a linear program.
#[must_use]
pub fn evenest(load: Machines, node: Machines, nodes: u32) -> Option<Machines> {
    let mut program = Problem::new(OptimizationDirection::Minimize);
    let most = program.add_var(1.0, (0.0, 1.0));
    let parts: Vec<Variable> = (0..nodes)
        .map(|_| program.add_var(0.0, (0.0, 1.0)))
        .collect();
    for part in &parts {
        program.add_constraint([(*part, 1.0), (most, -1.0)], ComparisonOp::Le, 0.0);
        program.add_constraint([(*part, load.cores)], ComparisonOp::Le, node.cores);
        program.add_constraint([(*part, load.memory_tb)], ComparisonOp::Le, node.memory_tb);
    }
    let all: Vec<_> = parts.iter().map(|part| (*part, 1.0)).collect();
    program.add_constraint(all, ComparisonOp::Eq, 1.0);
    let outcome = program.solve().ok()?;
    let part = outcome.solution()?.var_value(most);
    Some(Machines {
        cores: load.cores * part,
        memory_tb: load.memory_tb * part,
    })
}

/// Data that is moved and kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Move {
    /// How much, in gigabytes.
    pub gigabytes: f64,
    /// The delay of the path, in the unit that the price refers to.
    pub delay: f64,
    /// The bandwidth that is taken; moving is priced at delay × bandwidth.
    pub bandwidth: f64,
    /// What keeping a gigabyte costs.
    pub usd_per_gb_stored: f64,
}

/// What moving and keeping costs.
#[must_use]
pub fn move_cost(data: &Move) -> f64 {
    data.delay * data.bandwidth + data.gigabytes * data.usd_per_gb_stored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-6, "{left} is not {right}");
    }

    fn tasks(first_rate: f64) -> [Malleable; 3] {
        let task = |rate, hours| Malleable { rate, hours };
        [task(first_rate, 2.0), task(200.0, 4.0), task(150.0, 3.0)]
    }

    /// (a) Malleable tasks of work C·T and greatest rate C, on capacity 400.
    #[test]
    fn malleable_tasks() {
        close(least_makespan(400.0, &tasks(100.0)), 4.0);
        close(
            least_completions(400.0, &tasks(100.0))
                .unwrap()
                .completions(),
            9.5,
        );
        close(least_makespan(400.0, &tasks(200.0)), 4.125);
        close(
            least_completions(400.0, &tasks(200.0))
                .unwrap()
                .completions(),
            10.5,
        );
        for (first, rates) in [
            (100.0, [800.0 / 9.0, 1_600.0 / 9.0, 1_200.0 / 9.0]),
            (200.0, [1_600.0 / 11.0, 1_600.0 / 11.0, 1_200.0 / 11.0]),
        ] {
            for (rate, wanted) in max_min_rates(400.0, &tasks(first)).into_iter().zip(rates) {
                close(rate, wanted);
            }
        }
    }

    const NODE: Machines = Machines {
        cores: 2_000.0,
        memory_tb: 1.0,
    };

    /// (b) 4,000 cores and 2 TB from ten nodes of 2,000 cores and 1 TB.
    #[test]
    fn the_fewest_nodes_and_the_evenest() {
        let load = Machines {
            cores: 4_000.0,
            memory_tb: 2.0,
        };
        assert_eq!(fewest(load, NODE, 10), Some(2));
        let each = Machines {
            cores: 500.0,
            memory_tb: 0.25,
        };
        assert_eq!(evenest(load, NODE, 8), Some(each));
        assert_eq!(evenest(load, NODE, 1), None);
        assert_eq!(
            fewest(
                Machines {
                    cores: 20_001.0,
                    memory_tb: 0.0
                },
                NODE,
                10
            ),
            None
        );
    }

    /// (c) A load of 10,000 cores on such nodes.
    #[test]
    fn a_load_of_ten_thousand_cores() {
        let load = Machines {
            cores: 10_000.0,
            memory_tb: 0.0,
        };
        assert_eq!(fewest(load, NODE, 10), Some(5));
    }

    /// (d) Moving 1 TB at 100 and storing it at 0.1 a gigabyte.
    #[test]
    fn moving_and_storing() {
        let data = Move {
            gigabytes: 1_000.0,
            delay: 10.0,
            bandwidth: 10.0,
            usd_per_gb_stored: 0.1,
        };
        close(move_cost(&data), 200.0);
        let faster = Move { delay: 5.0, ..data };
        close(move_cost(&faster), 150.0);
        let cheaper = Move {
            usd_per_gb_stored: 0.05,
            ..faster
        };
        close(move_cost(&cheaper), 100.0);
    }

    #[test]
    fn no_more_than_can_be_tried_is_tried() {
        assert_eq!(
            least_completions(
                1.0,
                &[Malleable {
                    rate: 1.0,
                    hours: 1.0
                }; 8]
            ),
            None
        );
        assert_eq!(least_completions(0.0, &tasks(1.0)), None);
    }
}

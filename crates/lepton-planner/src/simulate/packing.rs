//! The replay of a published packing experiment: machines, tasks that arrive one by one, no
//! departures.
//!
//! Owns: the formats of the trace, the order of arrivals, the measure. Must not know: files,
//! how a machine is chosen.

use std::collections::{BTreeMap, BTreeSet};

use super::TraceError;
use super::trace::{field, whole};
use crate::PlanRng;
use crate::packing::{
    Bound, Demand, GPUS_MAX, Machine, Policy, Pool, Prices, Task, WHOLE, bound, typical,
};

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

/// The numbers given to GPU models.
#[derive(Debug, Clone, Default)]
pub struct Models(BTreeMap<String, u8>);

impl Models {
    fn number(&mut self, model: &str, line: usize) -> Result<u8, TraceError> {
        let next = u8::try_from(self.0.len()).unwrap_or(u8::MAX);
        let number = *self.0.entry(model.to_owned()).or_insert(next);
        if number < 64 {
            Ok(number)
        } else {
            Err(TraceError::at(line, "there are more than 64 gpu models"))
        }
    }
}

/// Reads `sn,cpu_milli,memory_mib,gpu,model`.
///
/// # Errors
///
/// Names the line and what is wrong with it.
pub fn parse_machines(text: &str, models: &mut Models) -> Result<Vec<Machine>, TraceError> {
    let mut machines = Vec::new();
    for (line, row) in rows(text, "sn,cpu_milli,memory_mib,gpu,model")? {
        let fields: Vec<&str> = row.split(',').collect();
        let gpus = small(&fields, 3, "gpu", line, GPUS_MAX as u64)?;
        let machine = Machine {
            cpu_milli: small(&fields, 1, "cpu_milli", line, u64::from(u32::MAX))?,
            memory_mib: small(&fields, 2, "memory_mib", line, u64::from(u32::MAX))?,
            gpus: u8::try_from(gpus).unwrap_or(u8::MAX),
            model: models.number(field(&fields, 4, "model", line)?, line)?,
        };
        if machine.cpu_milli == 0 {
            return Err(TraceError::at(line, "the node has no processors"));
        }
        machines.push(machine);
    }
    if machines.is_empty() {
        return Err(TraceError::at(1, "there are no nodes"));
    }
    Ok(machines)
}

/// Reads `name,cpu_milli,memory_mib,num_gpu,gpu_milli[,gpu_spec,…]`, sorted by name.
///
/// # Errors
///
/// Names the line and what is wrong with it.
pub fn parse_tasks(text: &str, models: &mut Models) -> Result<Vec<Task>, TraceError> {
    let mut tasks = Vec::new();
    for (line, row) in rows(text, "name,cpu_milli,memory_mib,num_gpu,gpu_milli")? {
        let fields: Vec<&str> = row.split(',').collect();
        let name = field(&fields, 0, "name", line)?;
        let gpus = small(&fields, 3, "num_gpu", line, GPUS_MAX as u64)?;
        let gpu_milli = small(&fields, 4, "gpu_milli", line, u64::from(WHOLE))?;
        if gpus > 1 && gpu_milli < u32::from(WHOLE) {
            return Err(TraceError::at(
                line,
                "a part of more than one gpu is asked for",
            ));
        }
        if (gpus == 0) != (gpu_milli == 0) {
            return Err(TraceError::at(
                line,
                "`num_gpu` and `gpu_milli` contradict each other",
            ));
        }
        let mut allowed = 0;
        let spec = fields.get(5).map_or("", |text| text.trim());
        for model in spec.split('|').filter(|model| !model.is_empty()) {
            allowed |= 1 << models.number(model, line)?;
        }
        let task = Task {
            cpu_milli: small(&fields, 1, "cpu_milli", line, u64::from(u32::MAX))?,
            memory_mib: small(&fields, 2, "memory_mib", line, u64::from(u32::MAX))?,
            gpus: u8::try_from(gpus).unwrap_or(u8::MAX),
            gpu_milli: u16::try_from(gpu_milli).unwrap_or(u16::MAX),
            models: allowed,
        };
        tasks.push((name.to_owned(), task));
    }
    if tasks.is_empty() {
        return Err(TraceError::at(1, "there are no pods"));
    }
    tasks.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(tasks.into_iter().map(|(_, task)| task).collect())
}

/// Reads the order of ties (line 1) and of arrivals (line 2).
///
/// # Errors
///
/// Names the line and what is wrong with it.
pub fn parse_arrivals(
    text: &str,
    machines: usize,
    tasks: usize,
) -> Result<(Vec<u32>, Vec<usize>), TraceError> {
    let mut lines = text.lines();
    let mut numbers = |line: usize, below: usize| -> Result<Vec<usize>, TraceError> {
        let row = lines
            .next()
            .ok_or_else(|| TraceError::at(line, "the line is missing"))?;
        let words = row.split_ascii_whitespace().skip(1);
        words
            .map(|word| {
                let number = whole(word, "an index", line)?;
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                if number < below {
                    Ok(number)
                } else {
                    Err(TraceError::at(
                        line,
                        format!("the index {number} is not under {below}"),
                    ))
                }
            })
            .collect()
    };
    let order = numbers(1, machines)?;
    let arrivals = numbers(2, tasks)?;
    let mut seen = vec![false; machines];
    for machine in &order {
        if std::mem::replace(&mut seen[*machine], true) {
            return Err(TraceError::at(
                1,
                format!("the node {machine} stands twice"),
            ));
        }
    }
    if order.len() != machines {
        return Err(TraceError::at(
            1,
            format!("{} of {machines} nodes are named", order.len()),
        ));
    }
    let ranks = order
        .into_iter()
        .map(|rank| u32::try_from(rank).unwrap_or(u32::MAX))
        .collect();
    Ok((ranks, arrivals))
}

fn rows<'a>(
    text: &'a str,
    header: &str,
) -> Result<impl Iterator<Item = (usize, &'a str)>, TraceError> {
    let mut lines = text.lines().zip(1..).map(|(row, line)| (line, row));
    match lines.next() {
        Some((_, first)) if first.trim_end().starts_with(header) => {}
        _ => {
            return Err(TraceError::at(
                1,
                format!("the header `{header}` is expected"),
            ));
        }
    }
    Ok(lines.filter(|(_, row)| !row.trim().is_empty()))
}

fn small(
    fields: &[&str],
    index: usize,
    name: &str,
    line: usize,
    most: u64,
) -> Result<u32, TraceError> {
    let text = field(fields, index, name, line)?;
    if text.starts_with('-') {
        return Err(TraceError::at(
            line,
            format!("`{name}` is negative: `{text}`"),
        ));
    }
    let value = whole(text, name, line)?;
    if value > most {
        return Err(TraceError::at(
            line,
            format!("`{name}` is {value}, more than {most}"),
        ));
    }
    Ok(u32::try_from(value).unwrap_or(u32::MAX))
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

    /// The same trace on `times` as many machines, all arriving as often, in the same order
    /// again and again.
    #[must_use]
    pub fn replicated(&self, times: usize) -> Self {
        let count = u32::try_from(self.machines.len()).unwrap_or(u32::MAX);
        let copies = u32::try_from(times).unwrap_or(u32::MAX);
        let ranks =
            (0..copies).flat_map(|copy| self.ranks.iter().map(move |rank| copy * count + rank));
        Self {
            machines: self.machines.repeat(times),
            ranks: ranks.collect(),
            tasks: self.tasks.clone(),
            arrivals: self.arrivals.repeat(times),
        }
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

/// How many arrivals are looked at together before the mix is compared with what was expected.
const WINDOW: usize = 4_096;

/// The part of the demand that must have moved to other sizes before prices are computed anew:
/// four times what a window of an unchanged mix shows by chance.
const DRIFT: f64 = 0.15;

/// What is thought to be asked for: at first the tasks that are known to be usual, then the
/// latest window that differs from what was thought.
struct Mix<'a> {
    trace: &'a Trace,
    policy: Policy,
    expected: BTreeMap<u16, f64>,
    window: Vec<Task>,
    solves: usize,
}

impl<'a> Mix<'a> {
    fn new(trace: &'a Trace, policy: Policy) -> Self {
        Self {
            trace,
            policy,
            expected: BTreeMap::new(),
            window: Vec::new(),
            solves: 0,
        }
    }

    /// FGD keeps its mix, as published; ours follows the demand.
    fn see(&mut self, task: &Task, pool: &mut Pool) {
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

    fn teach(&mut self, tasks: &[Task], pool: &mut Pool) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng as _;

    /// A small pool and a mix that fills it badly if it is not watched.
    fn trace(seed: u64) -> Trace {
        let mut random = PlanRng::from_seed(seed).stream("trace", 0);
        let machine = |gpus| Machine {
            cpu_milli: 96_000,
            memory_mib: 400_000,
            gpus,
            model: 0,
        };
        let task = |gpu_milli| Task {
            cpu_milli: 4_000,
            memory_mib: 8_192,
            gpus: 1,
            gpu_milli,
            models: 0,
        };
        let tasks: Vec<Task> = [700, 700, 300, 500, 400, 1_000].map(task).to_vec();
        let arrivals = (0..600)
            .map(|_| random.random_range(0..tasks.len()))
            .collect();
        let machines: Vec<Machine> = (0..40)
            .map(|number| machine([8, 4, 2][number % 3]))
            .collect();
        Trace {
            ranks: (0..40).collect(),
            machines,
            tasks,
            arrivals,
        }
    }

    fn at_100(trace: &Trace, policy: Policy) -> f64 {
        trace
            .replay(policy, &PlanRng::from_seed(1), |_| {})
            .allocated_pct[&100]
    }

    #[test]
    fn nothing_exceeds_the_bound_and_ours_is_no_worse_than_the_published() {
        let mut means: BTreeMap<&str, f64> = BTreeMap::new();
        for seed in 0..10 {
            let trace = trace(seed);
            let (bound, certificate) = trace.bound_at_100().unwrap();
            assert!(certificate.violation < 1e-3, "{certificate:?}");
            for policy in Policy::ALL {
                let allocated = at_100(&trace, policy);
                // The last percent of arrivals may stand for half a percent more than the bound's.
                assert!(
                    allocated <= bound + 0.5,
                    "seed {seed}: {allocated} of {bound}"
                );
                *means.entry(policy.name()).or_default() += allocated / 10.0;
            }
        }
        let best = means.values().copied().fold(0.0, f64::max);
        assert!(means["lepton"] > best - 0.5, "{means:?}");
    }

    #[test]
    fn a_replay_repeats() {
        let trace = trace(7);
        for policy in Policy::ALL {
            let replay = || trace.replay(policy, &PlanRng::from_seed(3), |_| {});
            assert_eq!(replay(), replay());
        }
    }

    #[test]
    fn bad_lines_are_named() {
        let machines = |text: &str| {
            let header = "sn,cpu_milli,memory_mib,gpu,model\n";
            parse_machines(&format!("{header}{text}"), &mut Models::default())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            machines("a,1,1,1,T4\nb,x,1,1,T4"),
            "line 3: `cpu_milli` is not a whole number: `x`"
        );
        assert_eq!(machines("a,0,1,1,T4"), "line 2: the node has no processors");
        assert_eq!(machines("a,1,1,99,T4"), "line 2: `gpu` is 99, more than 16");
        assert_eq!(
            machines("a,-1,1,1,T4"),
            "line 2: `cpu_milli` is negative: `-1`"
        );
        assert_eq!(machines("a,1"), "line 2: the field `gpu` is missing");
        assert_eq!(machines(""), "line 1: there are no nodes");
        let tasks = |text: &str| {
            let header = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n";
            parse_tasks(&format!("{header}{text}"), &mut Models::default())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            tasks("p,1,1,2,500"),
            "line 2: a part of more than one gpu is asked for"
        );
        assert_eq!(
            tasks("p,1,1,0,500"),
            "line 2: `num_gpu` and `gpu_milli` contradict each other"
        );
        let arrivals = |text| parse_arrivals(text, 2, 1).unwrap_err().to_string();
        assert_eq!(
            arrivals("nodeperm 0 0\npods 0"),
            "line 1: the node 0 stands twice"
        );
        assert_eq!(
            arrivals("nodeperm 0 1\npods 5"),
            "line 2: the index 5 is not under 1"
        );
        assert_eq!(arrivals("nodeperm 0 1"), "line 2: the line is missing");
    }
}

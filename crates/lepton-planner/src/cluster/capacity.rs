//! What is free on each node, and where a gang would go.
//!
//! Owns: fitting, taking, giving back, and the choice among nodes that fit. Must not know:
//! projects, priorities, time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use lepton_types::{CpuMillis, MemoryBytes, Resources};

use super::market::Market;
use super::{Ask, GPU_MILLI, GPUS_PER_NODE_MAX, Node};
use crate::packing::{GPUS_MAX, Machine, State};

/// What is free on one node; below nothing when a view claims more use than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Free {
    // A view may claim that several workers use 2^64 bytes each: wide enough for all that fit into one.
    cpu: i128,
    memory: i128,
    gpu_count: u16,
    gpus: [i32; GPUS_PER_NODE_MAX],
}

/// One worker on one node, by the numbers of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) node: usize,
    pub(super) ask: Ask,
    pub(super) gpus: Vec<u16>,
}

/// Why a gang found no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortfall {
    /// How many of its members had found a place.
    pub(super) placed: usize,
    /// What the next one asks for.
    pub(super) ask: Ask,
    /// The node that comes nearest, and what it lacks.
    pub(super) nearest: Option<(usize, Resources)>,
}

impl Free {
    /// The whole node.
    pub(super) fn whole(node: &Node) -> Self {
        let count = (node.capacity.gpus as usize).min(GPUS_PER_NODE_MAX);
        let mut gpus = [0; GPUS_PER_NODE_MAX];
        gpus[..count].fill(i32::from(GPU_MILLI));
        Self {
            cpu: node.capacity.cpu.as_millis().into(),
            memory: node.capacity.memory.as_bytes().into(),
            gpu_count: u16::try_from(count).unwrap_or(0),
            gpus,
        }
    }

    fn devices(&self) -> &[i32] {
        &self.gpus[..usize::from(self.gpu_count)]
    }

    fn idle_gpus(&self) -> usize {
        let whole = i32::from(GPU_MILLI);
        self.devices().iter().filter(|free| **free >= whole).count()
    }

    /// Whether one worker fits.
    pub(super) fn fits(&self, ask: &Ask) -> bool {
        i128::from(ask.resources.cpu.as_millis()) <= self.cpu
            && i128::from(ask.resources.memory.as_bytes()) <= self.memory
            && (!ask.wants_gpu() || self.fits_gpu(ask))
    }

    /// Where more of a GPU is taken than there is, the others have to make up for it: whoever holds it
    /// may be on any of them.
    fn fits_gpu(&self, ask: &Ask) -> bool {
        let left: i64 = self.devices().iter().map(|free| i64::from(*free)).sum();
        if i128::from(left) < i128::from(ask.gpu_milli_total()) {
            return false;
        }
        if ask.resources.gpus > 0 {
            return self.idle_gpus() >= ask.resources.gpus as usize;
        }
        let part = i32::from(ask.gpu_milli);
        self.devices().iter().any(|free| *free >= part)
    }

    /// The GPUs that a worker which fits would get: the lowest idle ones, or the fullest that
    /// still has the part asked for.
    fn choose_gpus(&self, ask: &Ask) -> Vec<u16> {
        let numbered = (0..self.gpu_count).zip(self.devices());
        if ask.resources.gpus > 0 {
            let whole = i32::from(GPU_MILLI);
            return numbered
                .filter(|(_, free)| **free >= whole)
                .map(|(number, _)| number)
                .take(ask.resources.gpus as usize)
                .collect();
        }
        let part = i32::from(ask.gpu_milli);
        numbered
            .filter(|(_, free)| part > 0 && **free >= part)
            .min_by_key(|(number, free)| (**free, *number))
            .map(|(number, _)| number)
            .into_iter()
            .collect()
    }

    /// In the words of packing, memory aside; `None` with more GPUs than it tells apart.
    pub(super) fn state(&self) -> Option<State> {
        let gpus = u8::try_from(self.gpu_count).ok()?;
        let cpu_milli = u32::try_from(self.cpu.max(0)).unwrap_or(u32::MAX);
        let left = self.devices().iter();
        let left = left.map(|free| u16::try_from(*free).unwrap_or(0));
        let machine = Machine {
            cpu_milli: 0,
            memory_mib: 0,
            gpus,
            model: 0,
        };
        (usize::from(gpus) <= GPUS_MAX).then(|| State::with_left(machine, cpu_milli, left))
    }

    /// Takes room for one worker, its part of a GPU on `gpu` if that is said, and says which
    /// GPUs it got.
    fn take(&mut self, ask: &Ask, gpu: Option<u16>) -> Vec<u16> {
        let gpus = gpu.map_or_else(|| self.choose_gpus(ask), |gpu| vec![gpu]);
        self.add(ask, &gpus, -1);
        gpus
    }

    /// Takes room on given GPUs, there or not. A worker whose GPUs are not named gets the
    /// first idle ones, and where there are too few, the least occupied: it runs, so it has them.
    pub(super) fn occupy(&mut self, ask: &Ask, gpus: &[u16]) -> Vec<u16> {
        let mut gpus = gpus.to_vec();
        if gpus.is_empty() && ask.wants_gpu() {
            gpus = self.choose_gpus(ask);
            let wanted = ask.resources.gpus.max(1) as usize;
            let mut rest: Vec<u16> = (0..self.gpu_count)
                .filter(|gpu| !gpus.contains(gpu))
                .collect();
            rest.sort_by_key(|gpu| (Reverse(self.gpus[usize::from(*gpu)]), *gpu));
            let missing = wanted.saturating_sub(gpus.len());
            gpus.extend(rest.into_iter().take(missing));
        }
        self.add(ask, &gpus, -1);
        gpus
    }

    /// Gives back what [`Self::take`] or [`Self::occupy`] took.
    pub(super) fn release(&mut self, ask: &Ask, gpus: &[u16]) {
        self.add(ask, gpus, 1);
    }

    /// The less of both, in everything.
    pub(super) fn least(&self, other: &Self) -> Self {
        let mut gpus = self.gpus;
        for (gpu, other) in gpus.iter_mut().zip(&other.gpus) {
            *gpu = (*gpu).min(*other);
        }
        Self {
            cpu: self.cpu.min(other.cpu),
            memory: self.memory.min(other.memory),
            gpu_count: self.gpu_count.min(other.gpu_count),
            gpus,
        }
    }

    /// Where more of a GPU is taken than there is, no part of another is room either: what is owed
    /// must be paid first.
    pub(super) fn settle_gpus(&mut self) {
        if self.devices().iter().any(|free| *free < 0) {
            for free in &mut self.gpus {
                *free = (*free).min(0);
            }
        }
    }

    /// Whether more is taken than there is.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.cpu < 0 || self.memory < 0 || self.devices().iter().any(|free| *free < 0)
    }

    fn add(&mut self, ask: &Ask, gpus: &[u16], sign: i128) {
        self.cpu += sign * i128::from(ask.resources.cpu.as_millis());
        self.memory += sign * i128::from(ask.resources.memory.as_bytes());
        let each = if ask.resources.gpus > 0 {
            i32::from(GPU_MILLI)
        } else {
            i32::from(ask.gpu_milli)
        };
        let step = if sign < 0 { -each } else { each };
        for gpu in gpus {
            if let Some(free) = self.gpus.get_mut(usize::from(*gpu)) {
                *free = free.saturating_add(step);
            }
        }
    }

    /// What one worker lacks here.
    fn lacks(&self, ask: &Ask) -> Resources {
        let over = |asked: u64, free: i128| {
            let lacks = (i128::from(asked) - free).clamp(0, u64::MAX.into());
            u64::try_from(lacks).expect("invariant: clamped to what it holds")
        };
        let idle = u32::try_from(self.idle_gpus()).unwrap_or(0);
        let gpus = if self.fits_gpu(ask) || !ask.wants_gpu() {
            0
        } else {
            ask.resources.gpus.max(1).saturating_sub(idle).max(1)
        };
        Resources {
            cpu: CpuMillis::from_millis(over(ask.resources.cpu.as_millis(), self.cpu)),
            memory: MemoryBytes::from_bytes(over(ask.resources.memory.as_bytes(), self.memory)),
            gpus,
        }
    }

    /// Less is better: first keep GPU nodes free of work that needs none, then leave the
    /// smallest rest.
    fn rest_after(&self, ask: &Ask) -> (bool, u64) {
        let wasted = !ask.wants_gpu() && self.gpu_count > 0;
        let rest = |free: i128, asked: u64| u64::try_from(free - i128::from(asked)).unwrap_or(0);
        // A processor weighs as much as 4 GiB, an idle GPU as much as 8 processors: the
        // proportions in which machines are sold.
        let cpu = rest(self.cpu, ask.resources.cpu.as_millis()).min(1 << 40);
        let memory = rest(self.memory, ask.resources.memory.as_bytes()) >> 22;
        let gpus: i64 = self
            .devices()
            .iter()
            .map(|free| i64::from(*free).max(0))
            .sum();
        (
            wasted,
            cpu + memory.min(1 << 40) + u64::try_from(gpus).unwrap_or(0) * 8,
        )
    }
}

/// Finds one node for every member of a gang among `candidates`, and takes the room; on
/// failure `free` is as it was. With `later`, every node must have the room there as well.
pub(super) fn seat_gang(
    free: &mut [Free],
    mut later: Option<&mut [Free]>,
    members: &[Ask],
    candidates: &Candidates<'_>,
) -> Result<Vec<Taken>, Shortfall> {
    let mut taken: Vec<Taken> = Vec::with_capacity(members.len());
    let mut taken_later: Vec<Taken> = Vec::new();
    let mut line: Option<Line> = None;
    for (member, ask) in members.iter().enumerate() {
        let node = match &mut line {
            Some(line) if line.ask == *ask => line.next(),
            _ if members.get(member + 1) == Some(ask) => {
                let mut fresh = Line::new(free, later.as_deref(), ask, candidates);
                let first = fresh.next();
                line = Some(fresh);
                first
            }
            _ => {
                // Another worker changes nodes that the line has scored already.
                line = None;
                candidates.best(free, later.as_deref(), ask)
            }
        };
        let Some(node) = node else {
            let nearest = candidates.nearest(free, ask);
            give_back(free, &taken);
            if let Some(later) = &mut later {
                give_back(later, &taken_later);
            }
            let shortfall = Shortfall {
                placed: taken.len(),
                ask: *ask,
                nearest,
            };
            // For equal workers any choice of nodes is as good; for others the order matters.
            let mixed = members.windows(2).any(|pair| pair[0] != pair[1]);
            let searched = mixed.then(|| Search::run(free, later, members, candidates));
            return searched.flatten().ok_or(shortfall);
        };
        taken.push(take(free, node, ask, candidates.market));
        if let Some(later) = later.as_deref_mut() {
            taken_later.push(take(later, node, ask, candidates.market));
        }
        if let Some(line) = line.as_mut().filter(|line| line.ask == *ask) {
            line.put_back(free, later.as_deref(), node, candidates);
        }
    }
    Ok(taken)
}

/// The nodes with room for one of several equal workers, the best first: a worker changes only
/// the node that it is put on.
struct Line {
    ask: Ask,
    nodes: BinaryHeap<Reverse<(Score, usize)>>,
}

impl Line {
    fn new(free: &[Free], later: Option<&[Free]>, ask: &Ask, candidates: &Candidates<'_>) -> Self {
        let fits = |node: &usize| fits_both(free, later, *node, ask);
        let scored = |node| Reverse((candidates.score(free, node, ask), node));
        let nodes = candidates.nodes.iter().copied().filter(fits).map(scored);
        Self {
            ask: *ask,
            nodes: nodes.collect(),
        }
    }

    fn next(&mut self) -> Option<usize> {
        self.nodes.pop().map(|Reverse((_, node))| node)
    }

    fn put_back(
        &mut self,
        free: &[Free],
        later: Option<&[Free]>,
        node: usize,
        candidates: &Candidates<'_>,
    ) {
        if fits_both(free, later, node, &self.ask) {
            let score = candidates.score(free, node, &self.ask);
            self.nodes.push(Reverse((score, node)));
        }
    }
}

fn take(free: &mut [Free], node: usize, ask: &Ask, market: &Market) -> Taken {
    let (_, gpu) = market.cost(&free[node], ask);
    Taken {
        node,
        ask: *ask,
        gpus: free[node].take(ask, gpu),
    }
}

/// How many placements of one worker a search may try: enough for every gang of up to five
/// different workers on four nodes, some tens of microseconds.
const SEARCH_STEPS_MAX: usize = 1_024;

/// A depth-first search for the seats of a gang whose workers differ.
struct Search<'s, 'c> {
    free: &'s mut [Free],
    later: Option<&'s mut [Free]>,
    members: &'s [Ask],
    candidates: &'s Candidates<'c>,
    /// The members, the largest first.
    order: Vec<usize>,
    steps: usize,
}

impl Search<'_, '_> {
    fn run(
        free: &mut [Free],
        later: Option<&mut [Free]>,
        members: &[Ask],
        candidates: &Candidates<'_>,
    ) -> Option<Vec<Taken>> {
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|member| (Reverse(members[*member]), *member));
        let mut search = Search {
            free,
            later,
            members,
            candidates,
            order,
            steps: SEARCH_STEPS_MAX,
        };
        let mut found = vec![None; members.len()];
        search
            .place(0, &mut found)
            .then(|| found.into_iter().flatten().collect())
    }

    fn place(&mut self, depth: usize, found: &mut [Option<Taken>]) -> bool {
        let Some(member) = self.order.get(depth).copied() else {
            return true;
        };
        let ask = self.members[member];
        let mut nodes = self
            .candidates
            .fitting(self.free, self.later.as_deref(), &ask);
        nodes.truncate(self.steps);
        for node in nodes {
            let Some(steps) = self.steps.checked_sub(1) else {
                return false;
            };
            self.steps = steps;
            let market = self.candidates.market;
            let taken = take(self.free, node, &ask, market);
            let taken_later = self
                .later
                .as_deref_mut()
                .map(|later| take(later, node, &ask, market));
            found[member] = Some(taken.clone());
            if self.place(depth + 1, found) {
                return true;
            }
            give_back(self.free, &[taken]);
            if let Some((later, taken)) = self.later.as_deref_mut().zip(taken_later) {
                give_back(later, &[taken]);
            }
        }
        false
    }
}

/// Undoes a placement.
pub(super) fn give_back(free: &mut [Free], taken: &[Taken]) {
    for worker in taken {
        free[worker.node].release(&worker.ask, &worker.gpus);
    }
}

/// Less is better: whether a GPU node is wasted, what the pool loses of its GPUs, the rest, the
/// price, the turn among equals.
type Score = (bool, i64, u64, u64, usize);

/// The nodes that a gang may use.
pub(super) struct Candidates<'a> {
    /// By number.
    pub(super) nodes: &'a [usize],
    /// What each node of the pool costs.
    pub(super) market: &'a Market,
    /// Where ties begin to be broken, so that a broken machine does not draw every gang.
    pub(super) first: usize,
}

impl Candidates<'_> {
    fn best(&self, free: &[Free], later: Option<&[Free]>, ask: &Ask) -> Option<usize> {
        let fits = |node: &usize| fits_both(free, later, *node, ask);
        let nodes = self.nodes.iter().copied().filter(fits);
        nodes.min_by_key(|node| self.score(free, *node, ask))
    }

    /// All nodes with room, the best first.
    fn fitting(&self, free: &[Free], later: Option<&[Free]>, ask: &Ask) -> Vec<usize> {
        let fits = |node: &usize| fits_both(free, later, *node, ask);
        let mut nodes: Vec<usize> = self.nodes.iter().copied().filter(fits).collect();
        nodes.sort_by_key(|node| self.score(free, *node, ask));
        nodes
    }

    /// Less is better.
    fn score(&self, free: &[Free], node: usize, ask: &Ask) -> Score {
        let (wasted, rest) = free[node].rest_after(ask);
        let turn = (node + free.len() - self.first) % free.len();
        let (lost, _) = self.market.cost(&free[node], ask);
        (wasted, lost, rest, self.market.hourly[node], turn)
    }

    fn nearest(&self, free: &[Free], ask: &Ask) -> Option<(usize, Resources)> {
        self.nodes
            .iter()
            .map(|node| (*node, free[*node].lacks(ask)))
            .min_by_key(|(node, lacks)| {
                let Resources { cpu, memory, gpus } = *lacks;
                let weight = cpu.as_millis().saturating_add(memory.as_bytes() >> 22);
                let gpus = u64::from(gpus) * u64::from(GPU_MILLI) * 8;
                (weight.saturating_add(gpus), Reverse(free[*node].cpu), *node)
            })
    }
}

fn fits_both(free: &[Free], later: Option<&[Free]>, node: usize, ask: &Ask) -> bool {
    free[node].fits(ask) && later.is_none_or(|later| later[node].fits(ask))
}

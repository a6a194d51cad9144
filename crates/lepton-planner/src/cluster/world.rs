//! The view, indexed for planning, and changed as the plan grows.
//!
//! Owns: nodes by number, what is free, what each project uses, what runs. Must not know: who
//! goes first.

use std::collections::BTreeMap;

use lepton_types::{CpuMillis, DurationMs, MemoryBytes, Name, Resources, Timestamp};

use super::capacity::{Free, Taken};
use super::market::Market;
use super::{
    Ask, ClusterView, GPU_MILLI, GPUS_PER_NODE_MAX, GangId, Node, NodeName, Occupied, Share,
};

/// An amount with GPUs in thousandths, so that parts of GPUs count in quotas and shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount {
    cpu: u64,
    memory: u64,
    gpu_milli: u64,
}

impl Amount {
    pub(super) fn of_all<'a>(asks: impl IntoIterator<Item = &'a Ask>) -> Self {
        asks.into_iter().fold(Self::default(), |sum, ask| Self {
            cpu: sum.cpu.saturating_add(ask.resources.cpu.as_millis()),
            memory: sum.memory.saturating_add(ask.resources.memory.as_bytes()),
            gpu_milli: sum.gpu_milli.saturating_add(ask.gpu_milli_total()),
        })
    }

    pub(super) fn of(resources: &Resources) -> Self {
        Self::of_all([&Ask::from(*resources)])
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            gpu_milli: self.gpu_milli.saturating_add(other.gpu_milli),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
            gpu_milli: self.gpu_milli.saturating_sub(other.gpu_milli),
        }
    }

    /// Takes this much from what is free on one node.
    pub(super) fn take_from(self, free: &mut Free) {
        let whole = self.gpu_milli / u64::from(GPU_MILLI);
        let part = self.gpu_milli % u64::from(GPU_MILLI);
        let resources = Resources {
            cpu: CpuMillis::from_millis(self.cpu),
            memory: MemoryBytes::from_bytes(self.memory),
            gpus: u32::try_from(whole).unwrap_or(u32::MAX),
        };
        free.occupy(&Ask::from(resources), &[]);
        if part > 0 {
            let rest = Ask {
                resources: Resources::default(),
                gpu_milli: u16::try_from(part).unwrap_or(GPU_MILLI),
            };
            free.occupy(&rest, &[]);
        }
    }

    /// Whether using `asked` on top of this stays within `most`, in what is asked for.
    pub(super) fn allows(self, asked: Self, most: Self) -> bool {
        let within = |used: u64, asked: u64, most: u64| {
            asked == 0 || used.checked_add(asked).is_some_and(|sum| sum <= most)
        };
        within(self.cpu, asked.cpu, most.cpu)
            && within(self.memory, asked.memory, most.memory)
            && within(self.gpu_milli, asked.gpu_milli, most.gpu_milli)
    }

    /// Whether this is more than `most` in anything.
    pub(super) fn exceeds(self, most: Self) -> bool {
        self.cpu > most.cpu || self.memory > most.memory || self.gpu_milli > most.gpu_milli
    }

    /// Whole GPUs are rounded up, so that nobody reads that nothing is used.
    pub(super) fn resources(self) -> Resources {
        Resources {
            cpu: CpuMillis::from_millis(self.cpu),
            memory: MemoryBytes::from_bytes(self.memory),
            gpus: u32::try_from(self.gpu_milli.div_ceil(u64::from(GPU_MILLI))).unwrap_or(u32::MAX),
        }
    }

    /// The greatest share of `total` over the resources, in billionths (DRF, NSDI'11, §4).
    fn dominant_share(self, total: Self) -> u64 {
        let share = |used: u64, total: u64| match (used, total) {
            (0, _) => 0,
            (_, 0) => u64::MAX,
            _ => {
                let billionths = u128::from(used) * 1_000_000_000 / u128::from(total);
                u64::try_from(billionths).unwrap_or(u64::MAX)
            }
        };
        share(self.cpu, total.cpu)
            .max(share(self.memory, total.memory))
            .max(share(self.gpu_milli, total.gpu_milli))
    }
}

/// A gang that holds machines, from the view or started by this plan.
#[derive(Debug, Clone)]
pub(super) struct Active<'a> {
    pub(super) project: &'a Name,
    pub(super) priority: i32,
    pub(super) preemptible: bool,
    pub(super) seats: Vec<Taken>,
    pub(super) started_at: Timestamp,
    pub(super) saved_at: Timestamp,
    pub(super) predicted: Option<DurationMs>,
    /// When it is stopped at the latest.
    pub(super) ends_by: Option<Timestamp>,
    pub(super) stopping: bool,
    pub(super) amount: Amount,
}

impl Active<'_> {
    /// Whether a hard limit has ended it by `at`. One that has outlived its limit already proves
    /// that the limit is not kept.
    pub(super) fn surely_over_by(&self, now: Timestamp, at: Timestamp) -> bool {
        self.ends_by.is_some_and(|end| end > now && end <= at)
    }

    /// When it should end. One that has outlived its prediction is given as long again as it
    /// has run: of a time that outlasted its estimate that is the median under a Pareto law.
    pub(super) fn expected_end(&self, now: Timestamp) -> Option<Timestamp> {
        if self.stopping {
            return Some(now);
        }
        let predicted = self.predicted?;
        let ran = now.since(self.started_at);
        Some(if ran < predicted {
            self.started_at + predicted
        } else {
            now + ran
        })
    }
}

/// See the module.
pub(super) struct World<'a> {
    pub(super) view: &'a ClusterView,
    pub(super) now: Timestamp,
    pub(super) names: Vec<&'a NodeName>,
    pub(super) nodes: Vec<&'a Node>,
    pub(super) market: Market,
    pub(super) free: Vec<Free>,
    pub(super) active: BTreeMap<GangId, Active<'a>>,
    pub(super) notes: Vec<String>,
    total: Amount,
    usage: BTreeMap<&'a Name, Amount>,
}

impl<'a> World<'a> {
    pub(super) fn new(view: &'a ClusterView, now: Timestamp) -> Self {
        let names: Vec<&NodeName> = view.nodes.keys().collect();
        let nodes: Vec<&Node> = view.nodes.values().collect();
        let total = nodes.iter().fold(Amount::default(), |sum, node| {
            sum.plus(Amount::of(&node.capacity))
        });
        let mut world = Self {
            view,
            now,
            market: Market::of(view),
            free: nodes.iter().map(|node| Free::whole(node)).collect(),
            active: BTreeMap::new(),
            notes: Vec::new(),
            total,
            usage: BTreeMap::new(),
            names,
            nodes,
        };
        world.note_contradictions();
        world.seat_running();
        world
    }

    /// What may be wrong with a view and is worked around, said once.
    fn note_contradictions(&mut self) {
        for (name, node) in &self.view.nodes {
            if node.capacity.gpus as usize > GPUS_PER_NODE_MAX {
                let claimed = node.capacity.gpus;
                self.notes.push(format!(
                    "node `{name}` claims {claimed} gpus; the first {GPUS_PER_NODE_MAX} are used"
                ));
            }
        }
        for (name, share) in &self.view.projects {
            let contradicts =
                |quota: &Resources, limit: &Resources| Amount::of(quota).exceeds(Amount::of(limit));
            if share
                .quota
                .zip(share.limit)
                .is_some_and(|(q, l)| contradicts(&q, &l))
            {
                self.notes.push(format!(
                    "project `{name}` has a quota above its limit; the limit holds"
                ));
            }
        }
    }

    fn seat_running(&mut self) {
        let view = self.view;
        for (id, gang) in &view.running {
            if gang.started_at > self.now {
                self.notes.push(format!(
                    "gang `{id}` started at {}, which is later than now; the clock has jumped",
                    gang.started_at
                ));
            }
            let active = Active {
                project: &gang.project,
                priority: gang.priority,
                preemptible: gang.preemptible,
                seats: Vec::with_capacity(gang.members.len()),
                started_at: gang.started_at,
                saved_at: gang.checkpointed_at.unwrap_or(gang.started_at),
                predicted: gang.predicted_duration,
                ends_by: gang.runs_at_most.map(|most| gang.started_at + most),
                stopping: gang.stopping,
                amount: Amount::of_all(gang.members.iter().map(|worker| &worker.ask)),
            };
            self.start(*id, active);
        }
        // Those whose GPUs are named first, so that nobody else is put on them.
        for named in [true, false] {
            for (id, gang) in &view.running {
                for worker in &gang.members {
                    let is_named = !worker.ask.wants_gpu() || !worker.seat.gpus.is_empty();
                    if is_named == named {
                        self.seat_worker(*id, worker);
                    }
                }
            }
        }
    }

    fn seat_worker(&mut self, id: GangId, worker: &Occupied) {
        let Ok(node) = self.names.binary_search(&&worker.seat.node) else {
            self.notes.push(format!(
                "gang `{id}` runs on node `{}`, which is not in the pool",
                worker.seat.node
            ));
            return;
        };
        let gpus = self.free[node].occupy(&worker.ask, &worker.seat.gpus);
        if let Some(active) = self.active.get_mut(&id) {
            let ask = worker.ask;
            active.seats.push(Taken { node, ask, gpus });
        }
    }

    fn add_usage(&mut self, project: &'a Name, amount: Amount) {
        let used = self.usage.entry(project).or_default();
        *used = used.plus(amount);
    }

    /// Records a gang whose room is already taken.
    pub(super) fn start(&mut self, id: GangId, active: Active<'a>) {
        self.add_usage(active.project, active.amount);
        self.active.insert(id, active);
    }

    pub(super) fn usage(&self, project: &Name) -> Amount {
        self.usage.get(project).copied().unwrap_or_default()
    }

    /// What `project` will use once those of its gangs that are stopping have.
    pub(super) fn usage_when_stopped(&self, project: &Name) -> Amount {
        let stopping = self.active.values().filter(|active| active.stopping);
        let of_project = stopping.filter(|active| active.project == project);
        of_project.fold(self.usage(project), |used, active| {
            used.minus(active.amount)
        })
    }

    pub(super) fn share(&self, project: &Name) -> Share {
        self.view.projects.get(project).cloned().unwrap_or_default()
    }

    /// The project's dominant share over its weight; the least is served first.
    pub(super) fn weighted_share(&self, project: &Name) -> u64 {
        let weight = self
            .view
            .projects
            .get(project)
            .map_or(1, |share| share.weight);
        let share = self.usage(project).dominant_share(self.total);
        share.checked_div(u64::from(weight)).unwrap_or(u64::MAX)
    }

    /// Whether `asked` on top of what `project` uses is more than it owns.
    pub(super) fn would_borrow(&self, project: &Name, asked: Amount) -> bool {
        self.view
            .projects
            .get(project)
            .and_then(|share| share.quota)
            .is_some_and(|quota| !self.usage(project).allows(asked, Amount::of(&quota)))
    }
}

//! The GPUs of the simulated pool: equal nodes, and the rule that a job no larger than a node
//! runs on one.

/// GPUs taken on nodes.
pub(super) type Taken = Vec<(usize, u32)>;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Machines {
    pub(super) free: Vec<u32>,
    pub(super) gpus_per_node: u32,
}

impl Machines {
    pub(super) fn new(gpus: u32, gpus_per_node: u32) -> Self {
        let whole = vec![gpus_per_node; (gpus / gpus_per_node) as usize];
        let rest = gpus % gpus_per_node;
        let free = whole
            .into_iter()
            .chain((rest > 0).then_some(rest))
            .collect();
        Self {
            free,
            gpus_per_node,
        }
    }

    pub(super) fn total_free(&self) -> u32 {
        self.free.iter().sum()
    }

    /// The parts in which a job is placed: whole nodes, and the rest on one.
    pub(super) fn parts(&self, gpus: u32) -> Vec<u32> {
        let mut parts = vec![self.gpus_per_node; (gpus / self.gpus_per_node) as usize];
        let rest = gpus % self.gpus_per_node;
        parts.extend((rest > 0).then_some(rest));
        parts
    }

    /// Where a job would go: the fullest nodes that still have room.
    pub(super) fn find(&self, gpus: u32) -> Option<Taken> {
        let mut taken: Taken = Vec::new();
        for part in self.parts(gpus) {
            let fits = |(node, free): &(usize, &u32)| {
                **free >= part && taken.iter().all(|(other, _)| other != node)
            };
            let best = self
                .free
                .iter()
                .enumerate()
                .filter(fits)
                .min_by_key(|(node, free)| (**free, *node));
            taken.push((best?.0, part));
        }
        Some(taken)
    }

    pub(super) fn take(&mut self, taken: &Taken) {
        for (node, gpus) in taken {
            self.free[*node] -= gpus;
        }
    }

    pub(super) fn release(&mut self, taken: &Taken) {
        for (node, gpus) in taken {
            self.free[*node] += gpus;
        }
    }
}

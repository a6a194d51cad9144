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

    /// Where a job would go: idle nodes, and for the rest the fullest node that still has room.
    pub(super) fn find(&self, gpus: u32) -> Option<Taken> {
        let whole = (gpus / self.gpus_per_node) as usize;
        let rest = gpus % self.gpus_per_node;
        let idle = self.free.iter().enumerate();
        let mut taken: Taken = idle
            .filter(|(_, free)| whole > 0 && **free >= self.gpus_per_node)
            .map(|(node, _)| (node, self.gpus_per_node))
            .take(whole)
            .collect();
        if taken.len() < whole {
            return None;
        }
        if rest > 0 {
            // Idle nodes are taken in their order: those up to the last are gone.
            let gone = taken.last().map(|(node, _)| *node);
            let is_gone = |node, free| free >= self.gpus_per_node && gone >= Some(node);
            let nodes = self.free.iter().enumerate();
            let fits = nodes.filter(|(node, free)| **free >= rest && !is_gone(*node, **free));
            let best = fits.min_by_key(|(node, free)| (**free, *node))?;
            taken.push((best.0, rest));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_nodes_are_idle_ones_and_the_rest_goes_to_the_fullest_that_has_room() {
        let mut machines = Machines::new(28, 8);
        assert_eq!(machines.free, [8, 8, 8, 4]);
        machines.take(&vec![(0, 2)]);
        assert_eq!(machines.find(16), Some(vec![(1, 8), (2, 8)]));
        assert_eq!(machines.find(13), Some(vec![(1, 8), (0, 5)]));
        assert_eq!(machines.find(12), Some(vec![(1, 8), (3, 4)]));
        assert_eq!(machines.find(7), Some(vec![(1, 7)]));
        assert_eq!(machines.find(24), None);
        machines.take(&vec![(0, 6), (3, 4)]);
        assert_eq!(machines.find(9), Some(vec![(1, 8), (2, 1)]));
        machines.take(&vec![(1, 8)]);
        assert_eq!(machines.find(9), None);
        let small = Machines::new(7, 8);
        assert_eq!((small.find(7), small.find(8)), (Some(vec![(0, 7)]), None));
    }
}

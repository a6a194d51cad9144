//! What the nodes of a pool cost: their owners by the hour, and others by the room they lose.
//!
//! Owns: the words of a cluster put into those of [`crate::packing`]. Must not know: projects,
//! time, who is served next.

use lepton_types::Resources;

use super::capacity::Free;
use super::{Ask, ClusterView, GPU_MILLI};
use crate::packing::{Bids, GPUS_MAX, Task};

/// See the module.
pub(super) struct Market {
    /// The price of each node by the hour.
    pub(super) hourly: Vec<u64>,
    /// Under the mix of all that run and wait, which starting one of them does not change.
    bids: Option<Bids>,
}

impl Market {
    pub(super) fn of(view: &ClusterView) -> Self {
        let nodes = || view.nodes.values();
        let gpus = nodes().fold(0_u32, |sum, node| sum.saturating_add(node.capacity.gpus));
        let running = view.running.values().flat_map(|gang| &gang.members);
        let waiting = view.queue.values().flat_map(|gang| &gang.members);
        let asks = running.map(|worker| &worker.ask).chain(waiting);
        // One that wants none takes processors from those who do; it is no part of the mix, for
        // no GPU is worth anything to it.
        let mix: Vec<Task> = if gpus == 0 || view.queue.is_empty() {
            Vec::new()
        } else {
            asks.filter(|ask| ask.wants_gpu())
                .filter_map(task)
                .collect()
        };
        Self {
            hourly: nodes().map(|node| node.price_millis_per_hour).collect(),
            bids: Bids::of(gpus, &mix),
        }
    }

    /// What it costs the pool to run a worker there, less being better, and on which GPU, for a
    /// part of one. Nothing where nobody asks for GPUs, or the machine has more than are sold.
    pub(super) fn cost(&self, free: &Free, ask: &Ask) -> (i64, Option<u16>) {
        let bid = || {
            let (state, task) = (free.state()?, task(ask)?);
            let (cost, gpu) = self.bids.as_ref()?.cost(&state, &task)?;
            let gpu = u16::try_from(gpu).ok().filter(|_| task.is_share());
            Some((cost, gpu))
        };
        bid().unwrap_or((0, None))
    }
}

/// A worker in the words of packing. Memory does not count in what is lost.
fn task(ask: &Ask) -> Option<Task> {
    let Resources { cpu, gpus, .. } = ask.resources;
    let (gpus, gpu_milli) = match gpus {
        0 if ask.gpu_milli == 0 => (0, 0),
        0 => (1, ask.gpu_milli),
        whole => (u8::try_from(whole).ok()?, GPU_MILLI),
    };
    let sensible = usize::from(gpus) <= GPUS_MAX && gpu_milli <= GPU_MILLI;
    sensible.then_some(Task {
        cpu_milli: u32::try_from(cpu.as_millis()).ok()?,
        memory_mib: 0,
        gpus,
        gpu_milli,
        models: 0,
    })
}

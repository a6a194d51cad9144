//! What a machine has left, and what a task asks of it.

/// The most GPUs of one machine that this module tells apart.
pub const GPUS_MAX: usize = 16;

/// Thousandths of one GPU.
pub const WHOLE: u16 = 1_000;

/// What a machine has when it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Machine {
    /// Thousandths of a processor.
    pub cpu_milli: u32,
    /// Memory in 2^20 bytes.
    pub memory_mib: u32,
    /// GPUs.
    pub gpus: u8,
    /// The number of the GPU model, under 64.
    pub model: u8,
}

/// What a task asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Task {
    /// Thousandths of a processor.
    pub cpu_milli: u32,
    /// Memory in 2^20 bytes.
    pub memory_mib: u32,
    /// How many GPUs.
    pub gpus: u8,
    /// Thousandths of each of them: less than [`WHOLE`] only for one GPU.
    pub gpu_milli: u16,
    /// The allowed GPU models, one bit each; zero for any.
    pub models: u64,
}

impl Task {
    /// Thousandths of GPUs altogether.
    #[must_use]
    pub fn gpu_milli_total(&self) -> u64 {
        u64::from(self.gpus) * u64::from(self.gpu_milli)
    }

    /// Whether it asks for a part of one GPU.
    #[must_use]
    pub const fn is_share(&self) -> bool {
        self.gpus == 1 && self.gpu_milli < WHOLE
    }
}

/// What a machine has left. Equal states are equally good for every task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// Thousandths of a processor.
    pub cpu_milli: u32,
    /// Memory in 2^20 bytes.
    pub memory_mib: u32,
    /// What it had, empty: the GPU clustering policy and the prices ask.
    pub machine: Machine,
    /// How many tasks of each GPU class run: a bit for "some", which is all that is asked.
    pub classes: u8,
    gpus: [u16; GPUS_MAX],
}

impl State {
    /// An empty machine.
    #[must_use]
    pub fn empty(machine: Machine) -> Self {
        let mut gpus = [0; GPUS_MAX];
        gpus[..usize::from(machine.gpus).min(GPUS_MAX)].fill(WHOLE);
        Self {
            cpu_milli: machine.cpu_milli,
            memory_mib: machine.memory_mib,
            machine,
            classes: 0,
            gpus,
        }
    }

    /// A machine that has as much left; GPUs beyond [`GPUS_MAX`] are not counted.
    #[must_use]
    pub fn with_left(machine: Machine, cpu_milli: u32, left: impl Iterator<Item = u16>) -> Self {
        let mut state = Self::empty(machine);
        state.cpu_milli = cpu_milli;
        for (gpu, left) in state.gpus.iter_mut().zip(left) {
            *gpu = left.min(WHOLE);
        }
        state
    }

    /// What is left of each GPU.
    #[must_use]
    pub fn gpus(&self) -> &[u16] {
        &self.gpus[..usize::from(self.machine.gpus).min(GPUS_MAX)]
    }

    /// Thousandths left on all GPUs.
    #[must_use]
    pub fn gpu_milli_left(&self) -> u32 {
        self.gpus().iter().map(|left| u32::from(*left)).sum()
    }

    /// GPUs that nobody uses.
    #[must_use]
    pub fn idle_gpus(&self) -> usize {
        self.gpus().iter().filter(|left| **left == WHOLE).count()
    }

    /// Whether a task fits.
    #[must_use]
    pub fn fits(&self, task: &Task) -> bool {
        self.memory_mib >= task.memory_mib && self.fits_memory_aside(task)
    }

    /// Whether a task fits, were there memory enough.
    #[must_use]
    pub fn fits_memory_aside(&self, task: &Task) -> bool {
        let any = task.gpus == 0 || task.models == 0;
        let model_allowed = any || (task.models >> (self.machine.model & 63)) & 1 == 1;
        self.cpu_milli >= task.cpu_milli && model_allowed && self.fits_gpus(task)
    }

    fn fits_gpus(&self, task: &Task) -> bool {
        let enough = self
            .gpus()
            .iter()
            .filter(|left| **left >= task.gpu_milli)
            .count();
        task.gpus == 0 || enough >= usize::from(task.gpus)
    }

    /// The state once `task` runs on GPU `gpu`, or on the lowest idle ones if it asks for whole
    /// ones. The task must fit.
    #[must_use]
    pub fn after(&self, task: &Task, gpu: usize) -> Self {
        let mut next = *self;
        next.cpu_milli -= task.cpu_milli;
        next.memory_mib -= task.memory_mib;
        next.classes |= class_bit(task);
        if task.is_share() {
            next.gpus[gpu] -= task.gpu_milli;
        } else {
            let count = usize::from(self.machine.gpus).min(GPUS_MAX);
            let idle = next.gpus[..count].iter_mut().filter(|left| **left == WHOLE);
            for left in idle.take(usize::from(task.gpus)) {
                *left = 0;
            }
        }
        next
    }

    /// The GPUs on which a part of one could run, one of each that have equally much left.
    pub fn shares(&self, task: &Task) -> impl Iterator<Item = usize> {
        let milli = task.gpu_milli;
        let gpus = self.gpus();
        (0..gpus.len())
            .filter(move |gpu| gpus[*gpu] >= milli && !gpus[..*gpu].contains(&gpus[*gpu]))
    }
}

/// The classes of "GpuClustering": parts of a GPU, one, two, four, eight, another number.
pub(super) fn class_bit(task: &Task) -> u8 {
    match (task.gpus, task.is_share()) {
        (0, _) => 0,
        (_, true) => 1,
        (1, _) => 2,
        (2, _) => 4,
        (4, _) => 8,
        (8, _) => 16,
        _ => 32,
    }
}

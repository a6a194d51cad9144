//! How good a machine is for a task, by the published policies and by ours.

use serde::{Deserialize, Serialize};

use super::fragmentation::fragmentation;
use super::state::class_bit;
use super::{State, Task, Typical, WHOLE};

/// Which machine is taken for a task; the variants are named as in FGD's comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// Any that fits.
    Random,
    /// The smallest dot product of what is left and what is asked (Tetris, SIGCOMM'14, turned
    /// round as in FGD's comparison).
    DotProd,
    /// Machines that run tasks of the same GPU class (Gandiva, OSDI'18).
    GpuClustering,
    /// Occupied GPUs first, then idle GPUs of occupied machines (MLaaS, NSDI'22).
    GpuPacking,
    /// The least rest.
    BestFit,
    /// The least growth of expected fragmentation (USENIX ATC'23).
    Fgd,
    /// Ours: bid prices of a configuration LP, expected fragmentation for ties.
    Lepton,
}

impl Policy {
    /// All of them, ours last.
    pub const ALL: [Self; 7] = [
        Self::Random,
        Self::DotProd,
        Self::GpuClustering,
        Self::GpuPacking,
        Self::BestFit,
        Self::Fgd,
        Self::Lepton,
    ];

    /// The name under which it was published; ours is `lepton`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "Random",
            Self::DotProd => "DotProd",
            Self::GpuClustering => "GpuClustering",
            Self::GpuPacking => "GpuPacking",
            Self::BestFit => "BestFit",
            Self::Fgd => "FGD",
            Self::Lepton => "lepton",
        }
    }
}

/// The greatest processor and GPU of the published comparison, in thousandths.
const CPU_SPEC: f64 = 128_000.0;
const GPU_SPEC: f64 = 8_000.0;

/// What our policy pays for: the value of what is left of one GPU, from the dual of the
/// configuration LP over the usual mix.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    /// For each thousandth of one GPU left, the most that the LP's values can fill it with.
    pub(super) fill: Vec<f64>,
    /// For each size of a part of one GPU, what the LP pays for it.
    pub(super) value: Vec<f64>,
}

/// Everything that a score depends on beside the machine and the task.
#[derive(Debug, Clone)]
pub(super) struct Scorer {
    pub(super) policy: Policy,
    pub(super) usual: Vec<Typical>,
    pub(super) prices: Option<Prices>,
}

/// The best way to run a task on a machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Move {
    /// Greater is better; comparable between machines.
    pub(super) score: i64,
    pub(super) gpu: usize,
}

impl Scorer {
    /// F(n), where the policy asks for it.
    pub(super) fn fragmentation(&self, state: &State) -> f64 {
        match self.policy {
            Policy::Fgd | Policy::Lepton => fragmentation(state, &self.usual),
            _ => 0.0,
        }
    }

    /// The best move, if the task fits; `before` is the state's fragmentation, `random` the
    /// draw of this task.
    pub(super) fn best_move(&self, state: &State, before: f64, task: &Task) -> Option<Move> {
        if !state.fits(task) {
            return None;
        }
        Some(match self.policy {
            Policy::Random => tightest(state, task, 0),
            Policy::DotProd => tightest(state, task, dot_product(state, task)),
            Policy::GpuClustering => tightest(state, task, clustering(state, task)),
            Policy::GpuPacking => tightest(state, task, packing(state, task)),
            Policy::BestFit => tightest(state, task, best_fit(state, task)),
            Policy::Fgd => self.best_gpu(state, task, |next| self.descent(before, next)),
            Policy::Lepton => {
                self.best_gpu(state, task, |next| self.bid(state, before, next, task))
            }
        })
    }

    fn best_gpu(&self, state: &State, task: &Task, score: impl Fn(&State) -> i64) -> Move {
        let on = |gpu: usize| Move {
            score: score(&state.after(task, gpu)),
            gpu,
        };
        if !task.is_share() {
            return on(0);
        }
        let moves = state.shares(task).map(on);
        let better = |best: Move, next: Move| if next.score > best.score { next } else { best };
        moves.reduce(better).unwrap_or(Move { score: 0, gpu: 0 })
    }

    /// FGD's score, quantised as published: without that it loses two points.
    #[expect(clippy::cast_possible_truncation, reason = "0 to 100")]
    fn descent(&self, before: f64, next: &State) -> i64 {
        let growth = (before - fragmentation(next, &self.usual)) / 1_000.0;
        (100.0 / (1.0 + (-growth).exp())) as i64
    }

    /// What the LP's prices lose by this move, then FGD's score.
    #[expect(clippy::cast_possible_truncation, reason = "some thousands")]
    fn bid(&self, state: &State, before: f64, next: &State, task: &Task) -> i64 {
        let regret = self
            .prices
            .as_ref()
            .map_or(0.0, |prices| prices.regret(state, next, task));
        let steps = (regret / REGRET_STEP).round() as i64;
        -steps * 1_000 + self.descent(before, next)
    }
}

/// The least difference of prices that is told apart, in thousandths of a GPU: below it the
/// fragmentation decides.
const REGRET_STEP: f64 = 10.0;

impl Prices {
    /// What is lost of the value of the GPUs' rests beyond what the task itself is worth.
    fn regret(&self, state: &State, next: &State, task: &Task) -> f64 {
        if task.gpus == 0 {
            return 0.0;
        }
        let fill = |state: &State| -> f64 {
            state
                .gpus()
                .iter()
                .map(|left| self.fill[usize::from(*left)])
                .sum()
        };
        let value = if task.is_share() {
            self.value[usize::from(task.gpu_milli)]
        } else {
            f64::from(task.gpus) * self.value[usize::from(WHOLE)]
        };
        (fill(state) - fill(next) - value).max(0.0)
    }
}

/// The GPU of a part: the fullest that fits.
fn tightest(state: &State, task: &Task, score: i64) -> Move {
    let gpus = state.gpus();
    let gpu = if task.is_share() {
        state
            .shares(task)
            .min_by_key(|gpu| (gpus[*gpu], *gpu))
            .unwrap_or(0)
    } else {
        0
    };
    Move { score, gpu }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "0 to 100"
)]
fn dot_product(state: &State, task: &Task) -> i64 {
    let cpu = f64::from(state.cpu_milli) / CPU_SPEC * (f64::from(task.cpu_milli) / CPU_SPEC);
    let gpu =
        f64::from(state.gpu_milli_left()) / GPU_SPEC * (task.gpu_milli_total() as f64 / GPU_SPEC);
    (100.0 * (1.0 - f64::midpoint(cpu, gpu))) as i64
}

fn clustering(state: &State, task: &Task) -> i64 {
    let class = class_bit(task);
    if class == 0 {
        return 0;
    }
    let used = 25 * (8_000 - i64::from(state.gpu_milli_left())) / 8_000;
    used + if state.classes & class != 0 {
        if state.classes == class { 75 } else { 50 }
    } else if state.classes == 0 {
        25
    } else {
        0
    }
}

#[expect(clippy::cast_possible_wrap, reason = "at most sixteen")]
fn packing(state: &State, task: &Task) -> i64 {
    if task.gpus == 0 {
        return 0;
    }
    let idle = state.idle_gpus();
    if idle == usize::from(state.machine.gpus) {
        return (33 - idle as i64).max(idle as i64);
    }
    let mut left: Vec<u16> = state.gpus().to_vec();
    left.sort_unstable();
    let fitting = left.into_iter().filter(|left| *left >= task.gpu_milli);
    let used: Vec<u16> = fitting.take(usize::from(task.gpus)).collect();
    let whole = used.iter().filter(|left| **left == WHOLE).count();
    if whole > 0 {
        return (50 - whole as i64).max(33);
    }
    let percent: i64 = used
        .iter()
        .map(|left| i64::from(*left) * 100 / i64::from(WHOLE))
        .sum();
    (100 - percent / 10).max(50)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "0 to 100"
)]
fn best_fit(state: &State, task: &Task) -> i64 {
    let cpu = f64::from(state.cpu_milli - task.cpu_milli) / CPU_SPEC * 0.5;
    let gpu = (f64::from(state.gpu_milli_left()) - task.gpu_milli_total() as f64) / GPU_SPEC * 0.5;
    ((1.0 - cpu - gpu) * 100.0) as i64
}

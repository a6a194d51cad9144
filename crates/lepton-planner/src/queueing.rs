//! In which order jobs are served when there is not room for all.
//!
//! Owns: the rank of a job under each policy, and whether one may be stopped for another. Must
//! not know: nodes, the clock, who asks.

use serde::{Deserialize, Serialize};

use crate::prediction::Outlook;

/// The order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// First come, first served; nobody passes the first.
    Fifo,
    /// First come, first served; others pass where the first is not expected to be delayed
    /// (EASY, JSSPP'95), by predictions from history.
    Backfill,
    /// Two queues by attained service, first come first served in each, the first before the
    /// second (Tiresias, NSDI'19).
    LeastAttained,
    /// The shortest rest first, told by an oracle.
    ShortestRemaining,
    /// Ours: the greatest chance of ending per GPU-second of service that history offers to a job
    /// of this kind, burst and age (Gittins' index), without an oracle. What runs is moved
    /// together where the room for another lies apart.
    Lepton,
}

/// What a rank depends on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// When it was asked for, in seconds.
    pub submitted: f64,
    /// For how long it has run, in seconds.
    pub age: f64,
    /// How many GPUs it needs.
    pub gpus: u32,
    /// How much longer it runs, in seconds; only an oracle looks.
    pub rest: f64,
    /// What history says of it.
    pub outlook: &'a Outlook,
}

/// Less is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    class: u8,
    bits: u64,
}

/// GPU-seconds after which a job falls into the second queue: an hour of one GPU, as Tiresias'
/// default of 3,200 rounded up.
const SECOND_QUEUE_GPU_S: f64 = 3_600.0;

/// How much better a job must be for another to be stopped: a stop costs a checkpoint. (On the
/// Philly log 1.0 stops twice as often for nothing, 1.5 waits longer.)
const STOP_MARGIN: f64 = 1.1;

impl Rank {
    fn of(class: u8, value: f64) -> Self {
        // The bits of floats that are not negative order as the floats do.
        Self {
            class,
            bits: value.max(0.0).to_bits(),
        }
    }

    fn value(self) -> f64 {
        f64::from_bits(self.bits)
    }
}

impl Policy {
    /// All of them, ours last.
    pub const ALL: [Self; 5] = [
        Self::Fifo,
        Self::Backfill,
        Self::LeastAttained,
        Self::ShortestRemaining,
        Self::Lepton,
    ];

    /// The name under which it is known; ours is `lepton`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fifo => "FIFO",
            Self::Backfill => "backfill",
            Self::LeastAttained => "LAS",
            Self::ShortestRemaining => "SRTF",
            Self::Lepton => "lepton",
        }
    }

    /// Whether it stops running jobs.
    #[must_use]
    pub const fn stops(self) -> bool {
        matches!(
            self,
            Self::LeastAttained | Self::ShortestRemaining | Self::Lepton
        )
    }

    /// Whether it moves running jobs from node to node to bring free GPUs together.
    #[must_use]
    pub const fn moves(self) -> bool {
        matches!(self, Self::Lepton)
    }

    /// Whether it asks for an outlook.
    #[must_use]
    pub const fn predicts(self) -> bool {
        matches!(self, Self::Backfill | Self::Lepton)
    }

    /// The job's place in the order.
    #[must_use]
    pub fn rank(self, job: &Facts<'_>) -> Rank {
        match self {
            Self::Fifo | Self::Backfill => Rank::of(0, job.submitted),
            Self::LeastAttained => {
                let second = job.age * f64::from(job.gpus) >= SECOND_QUEUE_GPU_S;
                Rank::of(u8::from(second), job.submitted)
            }
            Self::ShortestRemaining => Rank::of(0, job.rest),
            Self::Lepton => {
                let size = f64::from(job.gpus.max(1));
                let index = job.outlook.gittins(job.age) / size;
                Rank::of(0, 1.0 / index.max(1e-12))
            }
        }
    }

    /// The age at which the rank of a running job next gets worse, if ever.
    #[must_use]
    pub fn next_change(self, job: &Facts<'_>) -> Option<f64> {
        match self {
            Self::LeastAttained => {
                let at = SECOND_QUEUE_GPU_S / f64::from(job.gpus.max(1));
                (job.age < at).then_some(at)
            }
            Self::Lepton => Some(job.outlook.next_change(job.age)),
            _ => None,
        }
    }

    /// Whether a running job may be stopped for one that waits.
    #[must_use]
    pub fn may_stop(self, running: Rank, waiting: Rank) -> bool {
        match self {
            Self::Fifo | Self::Backfill => false,
            Self::LeastAttained => running.class > waiting.class,
            Self::ShortestRemaining | Self::Lepton => {
                running.value() > STOP_MARGIN * waiting.value()
            }
        }
    }
}

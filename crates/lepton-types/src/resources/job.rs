//! Job: an execution asked for. Attempt: one try at it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BlobDigest, Resource, spec_of, word_enum};
use crate::{DurationMs, FreeName, Name, Resources, RunId, Timestamp};

/// An execution asked for.
pub type Job = Resource<JobSpec, JobStatus>;
/// One try at a job.
pub type Attempt = Resource<AttemptSpec, AttemptStatus>;

/// What is wanted of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobSpec {
    /// What it runs.
    pub program: Program,
    /// How many workers start together.
    pub workers: u32,
    /// What each worker may use.
    pub resources: Resources,
    /// Added to each worker's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long one attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationMs>,
    /// How often a failed attempt is tried again.
    #[serde(default)]
    pub retries: u32,
    /// Higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// Where it is placed.
    pub pool: Name,
    /// The experiment of its run.
    pub experiment: FreeName,
    /// Its run.
    pub run: RunId,
    /// When somebody asked for its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested_at: Option<Timestamp>,
    /// Who did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested_by: Option<String>,
}

/// What a job runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Program {
    /// Any command.
    Command(CommandSpec),
    /// The built-in trainer of tabular models.
    Train(TrainSpec),
    /// The built-in preparation of data.
    Prepare(PrepareSpec),
}

/// A preparation of data: a new version of a dataset out of versions of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrepareSpec {
    /// The dataset that gets a version.
    pub dataset: Name,
    /// What it is made from.
    pub inputs: Vec<NamedVersion>,
    /// The description, in YAML.
    pub description: String,
}

/// A dataset's version, and the name that a description knows it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedVersion {
    /// The name.
    pub name: String,
    /// The dataset.
    pub dataset: Name,
    /// Its version.
    pub version: u32,
}

/// Any command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// Program and arguments; no shell is in between.
    pub command: Vec<String>,
    /// A `tar.gz` that every worker starts in a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<BlobDigest>,
}

/// A training of a tabular model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// The dataset.
    pub dataset: Name,
    /// Its version; the newest is written here when the job is made.
    #[serde(default)]
    pub dataset_version: u32,
    /// The column to predict.
    pub target: String,
    /// What to optimise; the task's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// How long to search.
    pub budget: TrainBudget,
    /// The name to register the model under.
    pub model: FreeName,
    /// Where randomness starts.
    #[serde(default)]
    pub seed: u64,
}

/// How long a search goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrainBudget {
    /// Until this time is used.
    Time(DurationMs),
    /// For this many trials; repeats exactly.
    Trials(u32),
}

word_enum! {
    /// Where a job stands.
    JobPhase {
        /// Waits for room, or for its next attempt.
        Queued = "queued",
        /// Has an attempt that is not over.
        Running = "running",
        /// Ended well.
        Succeeded = "succeeded",
        /// Ended badly, and is not tried again.
        Failed = "failed",
        /// Was ended by somebody.
        Cancelled = "cancelled",
    }
}

impl JobPhase {
    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What is of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobStatus {
    /// Where it stands.
    pub phase: JobPhase,
    /// Attempts made.
    pub attempts: u32,
    /// Why it ended, or why it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ExitReason>,
    /// When the first attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Not before this time is it tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Why it waits; filled in when it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
}

impl Default for JobStatus {
    fn default() -> Self {
        Self {
            phase: JobPhase::Queued,
            attempts: 0,
            reason: None,
            started_at: None,
            finished_at: None,
            not_before: None,
            waiting: None,
        }
    }
}

/// Why something waits, in the words of the decision that left it waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// A word for scripts: `no-room`, `too-large`, `back-off`, `starting`, …
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// What is wanted of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptSpec {
    /// Counts from 1.
    pub number: u32,
    /// The node of each worker, by rank.
    pub nodes: Vec<String>,
    /// What each worker may use.
    pub resources: Resources,
    /// Where its workers meet: a port of the node of rank 0, free when the attempt was made.
    pub master_port: u16,
}

word_enum! {
    /// Where an attempt stands.
    AttemptPhase {
        /// Recorded; its workers may or may not have started.
        Starting = "starting",
        /// All its workers run.
        Running = "running",
        /// Its workers are being ended.
        Stopping = "stopping",
        /// Every worker ended well.
        Succeeded = "succeeded",
        /// A worker ended badly.
        Failed = "failed",
        /// Ended because somebody asked.
        Cancelled = "cancelled",
        /// Nobody knows how it ended.
        Lost = "lost",
    }
}

impl AttemptPhase {
    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Lost
        )
    }
}

word_enum! {
    /// Where one worker stands.
    WorkerPhase {
        /// Asked for.
        Starting = "starting",
        /// Runs.
        Running = "running",
        /// Over.
        Exited = "exited",
        /// Nobody knows how it ended.
        Lost = "lost",
    }
}

/// Why something ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ExitReason {
    /// It exited by itself.
    Exited {
        /// Its exit status.
        code: i32,
    },
    /// A signal ended it.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// It used more memory than it had asked for.
    OutOfMemory {
        /// What it had asked for, in bytes.
        limit_bytes: u64,
    },
    /// It took longer than it may.
    TimedOut {
        /// How long that is.
        after: DurationMs,
    },
    /// It could not be started.
    CouldNotStart {
        /// Why, and what to do.
        message: String,
    },
    /// Somebody asked for its end.
    Cancelled {
        /// Who.
        by: String,
    },
    /// Another worker of the same gang failed.
    GangFailed {
        /// The rank of the first that failed.
        rank: u32,
    },
    /// The machine or the supervisor died with it.
    Lost {
        /// What is known.
        message: String,
    },
}

impl std::fmt::Display for ExitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with status {code}"),
            Self::Signalled { signal } => write!(f, "ended by signal {signal}"),
            Self::OutOfMemory { limit_bytes } => {
                let limit = crate::MemoryBytes::from_bytes(*limit_bytes);
                write!(
                    f,
                    "out of memory: used more than the {limit} it had asked for"
                )
            }
            Self::TimedOut { after } => write!(f, "timed out after {after}"),
            Self::CouldNotStart { message } => write!(f, "could not start: {message}"),
            Self::Cancelled { by } => write!(f, "cancelled by {by}"),
            Self::GangFailed { rank } => {
                write!(f, "ended because worker {rank} of the gang failed")
            }
            Self::Lost { message } => write!(f, "lost: {message}"),
        }
    }
}

/// What is of one worker of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerStatus {
    /// Its rank, from 0.
    pub rank: u32,
    /// Where it stands.
    pub phase: WorkerPhase,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ExitReason>,
    /// How its limits are enforced, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<String>,
    /// The most memory it used, in bytes, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
    /// When its logs were sealed into objects: their files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<super::FileEntry>,
}

/// What is of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptStatus {
    /// Where it stands.
    pub phase: AttemptPhase,
    /// Its workers, by rank.
    pub workers: Vec<WorkerStatus>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ExitReason>,
    /// When its workers started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When its last worker ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

impl Default for AttemptStatus {
    fn default() -> Self {
        Self {
            phase: AttemptPhase::Starting,
            workers: Vec::new(),
            reason: None,
            started_at: None,
            finished_at: None,
        }
    }
}

spec_of!(JobSpec, JobStatus, Job, named: false, |status| status.phase.as_str());
spec_of!(AttemptSpec, AttemptStatus, Attempt, named: false, |status| status.phase.as_str());

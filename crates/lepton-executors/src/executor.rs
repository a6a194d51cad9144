//! The seam: what every executor does, and the facts it reports.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use lepton_types::{DurationMs, MemoryBytes, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{WorkloadId, WorkloadSpec};

/// Called soon after a worker changes state; it must be quick and not call back.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Starts, watches and stops workers, one at a time. Every method may be repeated.
pub trait Executor: Send + Sync {
    /// Starts a worker. A second start of an id that is known changes nothing.
    ///
    /// # Errors
    /// Nothing was started and nothing is left behind.
    fn start(&self, spec: &WorkloadSpec) -> Result<(), StartError>;

    /// Everything that was started and not yet removed.
    ///
    /// # Errors
    /// The executor cannot say; the last answer still stands.
    fn observe(&self) -> Result<BTreeMap<WorkloadId, Observation>, ObserveError>;

    /// Asks a worker and all it started to end, and ends them when their grace is over. The first
    /// reason counts; stopping one that has ended, or that nobody knows, changes nothing.
    ///
    /// # Errors
    /// The request may not have arrived; repeat it.
    fn stop(&self, id: WorkloadId, reason: StopReason) -> Result<(), StopError>;

    /// Forgets a worker that has ended, with all it left. Forgetting an unknown one is done already.
    ///
    /// # Errors
    /// It still runs, or its folder cannot be deleted.
    fn remove(&self, id: WorkloadId) -> Result<(), RemoveError>;

    /// Reads at most `max` bytes of what a worker printed, from byte `cursor` of all it printed.
    ///
    /// # Errors
    /// The worker is unknown, or its log cannot be read.
    fn read_log(
        &self,
        id: WorkloadId,
        stream: LogStream,
        cursor: u64,
        max: usize,
    ) -> Result<LogChunk, ReadError>;

    /// Reads a file that a worker left in its working directory; symbolic links are not followed.
    ///
    /// # Errors
    /// The worker is unknown, the path leaves the folder, the file is larger than `max`.
    fn read_file(&self, id: WorkloadId, path: &str, max: usize) -> Result<Vec<u8>, ReadError>;

    /// Registers a callback for the life of the executor.
    fn subscribe(&self, wake: Wake);
}

/// What is known of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// Accepted; its program does not run yet.
    Starting,
    /// Its program runs.
    Running {
        /// The process id of its main process.
        pid: u32,
        /// When the program started.
        since: Timestamp,
        /// Where its named ports listen.
        addresses: BTreeMap<String, SocketAddr>,
        /// What holds it to its limits.
        enforcement: Enforcement,
    },
    /// It ended, and this is how.
    Exited {
        /// How.
        outcome: ExitOutcome,
        /// When its program started; none if it never did.
        started_at: Option<Timestamp>,
        /// When its main process ended.
        finished_at: Timestamp,
        /// What it used.
        usage: Usage,
    },
    /// Nobody knows how it ended; it may have run, and it will not run again.
    Lost {
        /// Why nobody knows.
        reason: LostReason,
    },
}

impl Observation {
    /// Whether it will never change again.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Exited { .. } | Self::Lost { .. })
    }
}

/// Why the end of a worker is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostReason {
    /// The shim over it died: killed, or the machine restarted.
    ShimDied,
    /// The record of its end cannot be read.
    RecordDamaged,
    /// The machine under it is gone.
    NodeGone,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShimDied => "its supervisor was killed or the machine restarted",
            Self::RecordDamaged => "the record of its end is damaged",
            Self::NodeGone => "the machine under it is gone",
        })
    }
}

/// How a worker ended: the fate of its main process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitOutcome {
    /// It returned a code.
    Code(i32),
    /// A signal ended it, sent by itself or by somebody else.
    Signal(i32),
    /// It wanted more memory than it may have.
    OutOfMemory {
        /// What it may have.
        limit: MemoryBytes,
    },
    /// It ran longer than it may.
    TimedOut {
        /// How long it may run.
        after: DurationMs,
    },
    /// It was asked to stop before it ended.
    Stopped(StopReason),
    /// It never ran: command not found, not executable, an input that does not unpack.
    CouldNotStart(String),
}

impl fmt::Display for ExitOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::OutOfMemory { limit } => write!(f, "out of memory: its limit is {limit}"),
            Self::TimedOut { after } => write!(f, "timed out after {after}"),
            Self::Stopped(reason) => write!(f, "stopped: {reason}"),
            Self::CouldNotStart(why) => write!(f, "could not start: {why}"),
        }
    }
}

/// Why a worker was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A person asked.
    Cancelled,
    /// A more urgent one needed its room.
    Preempted,
    /// Another worker of its attempt ended badly.
    GangFailed,
    /// Scaled down, redeployed, or its owner deleted.
    Unneeded,
    /// It did not answer its health checks.
    Unhealthy,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::Preempted => "preempted",
            Self::GangFailed => "another worker of the attempt failed",
            Self::Unneeded => "no longer needed",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// What holds a worker to its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Enforcement {
    /// Its processor time.
    pub cpu: CpuEnforcement,
    /// Its memory.
    pub memory: MemoryEnforcement,
}

/// What holds a worker to its processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuEnforcement {
    /// No limit was asked for.
    Unlimited,
    /// A quota of control group version 2.
    CgroupV2,
    /// A quota of control group version 1.
    CgroupV1,
    /// It is pinned to as many processors, rounded up.
    Pinned,
}

/// What holds a worker to its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryEnforcement {
    /// No limit was asked for.
    Unlimited,
    /// Control group version 2.
    CgroupV2,
    /// Control group version 1.
    CgroupV1,
    /// The shim adds up what its processes hold, several times a second.
    Sampled,
}

/// What a worker used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// The most memory it held; of its largest process where nothing better is known.
    pub memory_peak: MemoryBytes,
    /// Processor time of all its processes.
    pub cpu_time: DurationMs,
    /// Bytes it printed that could not be kept, because the disk was full.
    pub log_bytes_lost: u64,
}

/// One of the two streams that a worker prints to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl LogStream {
    /// The name of the stream.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// What was printed.
    pub bytes: Vec<u8>,
    /// The cursor of the byte after these.
    pub next: u64,
    /// Whether nothing will ever follow.
    pub end: bool,
    /// Whether bytes between the cursor asked for and these are gone: the log is longer than is kept.
    pub truncated: bool,
}

/// The machine refused a file operation.
#[derive(Debug, thiserror::Error)]
#[error("could not {action}")]
pub struct StorageError {
    /// What was attempted, without paths of the machine.
    pub action: &'static str,
    /// What the operating system said.
    #[source]
    pub source: std::io::Error,
}

impl StorageError {
    /// Whether there was no room (no space, or the quota is used up).
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        )
    }
}

/// A specification that no executor can start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the workload's {field} is not usable: {rule}")]
pub struct InvalidSpec {
    /// Which part.
    pub field: &'static str,
    /// What is expected of it.
    pub rule: &'static str,
}

/// Why a worker was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It can never start.
    #[error(transparent)]
    Invalid(#[from] InvalidSpec),
    /// An input is not where it should be.
    #[error("an input of the workload is missing")]
    InputMissing(#[source] std::io::Error),
    /// No port of the range is free.
    #[error("no free port between {first} and {last}")]
    NoPort {
        /// The first port of the range.
        first: u16,
        /// The last port of the range.
        last: u16,
    },
    /// Without isolation, workers of only one project may run at a time.
    #[error("workers of project `{running}` run here, and this machine cannot keep projects apart")]
    OtherProject {
        /// Whose workers run.
        running: lepton_types::Name,
    },
    /// Its folder could not be made; the disk may be full.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Its shim could not be started.
    #[error("could not start the supervisor process")]
    Shim(#[source] std::io::Error),
    /// The executor is unreachable or out of order; retry.
    #[error("the executor is unavailable")]
    Unavailable,
}

/// Why nothing is known at the moment.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The executor is unreachable or out of order; retry.
    #[error("the executor is unavailable")]
    Unavailable,
}

/// Why a request to stop may not have arrived.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Neither the file nor the pipe of the shim could be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The executor is unreachable or out of order; retry.
    #[error("the executor is unavailable")]
    Unavailable,
}

/// Why a worker was not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Only what has ended can be removed.
    #[error("workload `{id}` still runs")]
    StillRunning {
        /// Which.
        id: WorkloadId,
    },
    /// Its folder could not be deleted.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The executor is unreachable or out of order; retry.
    #[error("the executor is unavailable")]
    Unavailable,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It was never started here, or it was removed.
    #[error("workload `{id}` is not known here")]
    UnknownWorkload {
        /// Which.
        id: WorkloadId,
    },
    /// No such file in its folder.
    #[error("`{path}` does not exist")]
    NotFound {
        /// What was asked for.
        path: String,
    },
    /// Not below the folder, or not an ordinary file.
    #[error("`{path}` is not an ordinary file below the working directory")]
    NotAFile {
        /// What was asked for.
        path: String,
    },
    /// More than the caller wants.
    #[error("`{path}` is larger than {max} bytes")]
    TooLarge {
        /// What was asked for.
        path: String,
        /// The bound.
        max: usize,
    },
    /// The machine refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The executor is unreachable or out of order; retry.
    #[error("the executor is unavailable")]
    Unavailable,
}

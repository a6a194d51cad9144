//! Executors start, watch and stop workers, and read what they leave behind.
//!
//! Owns: the seam ([`Executor`]), local processes ([`LocalExecutor`]), the small
//! process that stands over each of them and outlives the server ([`shim`]), and
//! the executor of the simulation ([`FakeExecutor`]). Must not know: why a worker
//! runs (the planner's reasons), and the HTTP API.

mod executor;
mod fake;
mod local;
mod record;
pub mod shim;
mod sys;
mod workload;

pub use executor::{
    CpuEnforcement, Enforcement, Executor, ExitOutcome, InvalidSpec, LogChunk, LogStream,
    LostReason, MemoryEnforcement, Observation, ObserveError, ReadError, RemoveError, StartError,
    StopError, StopReason, StorageError, Usage, Wake,
};
pub use fake::{FakeConfig, FakeExecutor, FakeScript};
pub use local::{Isolation, LocalConfig, LocalExecutor, OpenError};
pub use workload::{Input, ParseWorkloadIdError, Program, SecretText, WorkloadId, WorkloadSpec};

//! The vocabulary of Lepton: ids, names, quantities, the resources people name,
//! their lifecycles, and the clock.
//!
//! Owns: what a value may be. Everything here is valid once it exists; parsing
//! happens at the border. Must not know: async, HTTP, SQL.

mod ids;
mod names;
mod quantities;
pub mod resources;
pub mod signature;
mod time;
pub mod trace;
pub mod tracking;

pub use ids::{
    AttemptId, ContentId, DataKeyId, DatasetId, EndpointId, ExperimentId, Id, IdSource, JobId,
    ModelId, ParseIdError, PoolId, ProjectId, ReplicaId, RunId, SystemIds, TokenId,
};
pub use names::{AliasName, FreeName, Name, ParseNameError};
pub use quantities::{CpuMillis, MemoryBytes, ParseQuantityError, Resources};
pub use time::{
    Clock, DurationMs, ManualClock, ParseDurationError, ParseTimestampError, SystemClock, Timestamp,
};

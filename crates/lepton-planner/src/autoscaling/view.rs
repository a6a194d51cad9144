//! What is known when an endpoint is scaled.
//!
//! Owns: the facts and what was remembered. Must not know: what is done with them.

use lepton_types::{DurationMs, Timestamp};
use serde::{Deserialize, Serialize};

use super::fleet::Counts;
use super::scaler::Scaler;
use super::service::ServiceTimes;

/// Everything that [`super::plan`] looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoscaleView {
    /// What the owner asked for.
    pub spec: ScalingSpec,
    /// The end of the last second of `seconds`.
    pub observed_until: Timestamp,
    /// The past, second by second, oldest first; an hour is enough, more is ignored.
    pub seconds: Vec<Second>,
    /// How long requests took.
    pub service: ServiceTimes,
    /// Requests that wait or are served now.
    pub in_flight: u64,
    /// The replicas there are.
    pub replicas: Counts,
    /// What the last plan left behind.
    #[serde(default)]
    pub memory: Memory,
}

/// What the owner of an endpoint asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalingSpec {
    /// Requests that one replica serves at once.
    pub slots_per_replica: u32,
    /// From the order of a replica to its first request.
    pub cold_start: DurationMs,
    /// The fewest replicas; zero allows to stop them all.
    pub min_replicas: u32,
    /// The most replicas.
    pub max_replicas: u32,
    /// A request that waits longer is late.
    pub late_after: DurationMs,
    /// The share of requests that may be late, in millionths.
    pub late_share_ppm: u32,
    /// Whether a draining replica may take requests again.
    pub revive_draining: bool,
    /// How long the last replica is kept without a request; by cost where absent.
    #[serde(default)]
    pub idle_after: Option<DurationMs>,
}

/// What happened in one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Second {
    /// Requests that arrived.
    pub arrivals: u32,
    /// Request-milliseconds spent waiting or being served: the mean number times 1,000.
    pub in_flight_ms: u64,
    /// Requests that ended.
    pub ended: u32,
    /// Milliseconds in service of the requests that ended.
    pub ended_ms: u64,
    /// Requests that turned out late.
    pub late: u32,
}

/// What one plan tells the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The way in use, with its own memory.
    pub scaler: Option<Scaler>,
    /// When the ways were last compared.
    pub reviewed_at: Option<Timestamp>,
    /// When this endpoint was first looked at.
    pub first_seen: Option<Timestamp>,
    /// When a request was last seen.
    pub last_busy: Option<Timestamp>,
}

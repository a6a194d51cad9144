//! Endpoint: what serves. Replica: one supervised copy behind it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ExitReason, ModelRef, Resource, Waiting, spec_of, word_enum};
use crate::{DurationMs, FreeName, Name, Resources, Timestamp};

/// What serves.
pub type Endpoint = Resource<EndpointSpec, EndpointStatus>;
/// One supervised copy behind an endpoint.
pub type Replica = Resource<ReplicaSpec, ReplicaStatus>;

/// What is wanted of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpec {
    /// Which model; an alias is followed as it moves, the newest is fixed when deployed.
    pub model: ModelRef,
    /// How many copies; where `scaling` is given, how many to begin with.
    #[serde(default = "one")]
    pub replicas: u32,
    /// The number follows the load, within limits; it is fixed where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// What each copy may use.
    #[serde(default = "EndpointSpec::default_resources")]
    pub resources: Resources,
    /// Where they are placed.
    #[serde(default = "EndpointSpec::default_pool")]
    pub pool: Name,
}

const fn one() -> u32 {
    1
}

/// How the number of replicas follows the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// The fewest replicas; with 0 all are stopped while nobody asks, and the next request waits
    /// until one is back.
    #[serde(default = "one")]
    pub min_replicas: u32,
    /// The most replicas.
    pub max_replicas: u32,
    /// Requests that one replica is given at once; more of them wait.
    #[serde(default = "Scaling::default_concurrency")]
    pub concurrency: u32,
    /// A request that waits longer for a replica is late.
    #[serde(default = "Scaling::default_late_after")]
    pub late_after: DurationMs,
    /// The share of requests that may be late, in thousandths.
    #[serde(default = "Scaling::default_late_per_mille")]
    pub late_per_mille: u32,
    /// How long the last replica is kept without a request; where absent, as long as that costs
    /// less than starting it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_after: Option<DurationMs>,
}

impl Scaling {
    /// Eight at once: enough for a batch, few enough that a processor can answer all of them soon.
    #[must_use]
    pub const fn default_concurrency() -> u32 {
        8
    }

    /// A second: what people notice.
    #[must_use]
    pub const fn default_late_after() -> DurationMs {
        DurationMs::from_secs(1)
    }

    /// One in a hundred.
    #[must_use]
    pub const fn default_late_per_mille() -> u32 {
        10
    }

    /// Between `min_replicas` and `max_replicas`, the rest as usual.
    #[must_use]
    pub const fn between(min_replicas: u32, max_replicas: u32) -> Self {
        Self {
            min_replicas,
            max_replicas,
            concurrency: Self::default_concurrency(),
            late_after: Self::default_late_after(),
            late_per_mille: Self::default_late_per_mille(),
            idle_after: None,
        }
    }
}

impl EndpointSpec {
    /// Room for a small model: a tenth of a processor, 256 MiB.
    #[must_use]
    pub const fn default_resources() -> Resources {
        Resources {
            cpu: crate::CpuMillis::from_millis(100),
            memory: crate::MemoryBytes::from_mib(256),
            gpus: 0,
        }
    }

    /// The pool that is found at the first start.
    #[must_use]
    pub fn default_pool() -> Name {
        "local".parse().expect("invariant: `local` is a valid name")
    }
}

word_enum! {
    /// Where an endpoint stands.
    EndpointPhase {
        /// No replica answers yet.
        Pending = "pending",
        /// Some answer; a change is under way.
        Updating = "updating",
        /// All wanted replicas of the wanted version answer.
        Ready = "ready",
        /// Replicas fail again and again.
        Failing = "failing",
        /// On its way out.
        Deleting = "deleting",
    }
}

/// What is of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointStatus {
    /// Where it stands.
    pub phase: EndpointPhase,
    /// The model version that the spec resolves to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Replicas of that version that answer.
    pub ready_replicas: u32,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Replica starts that failed in a row.
    #[serde(default)]
    pub failures: u32,
    /// Not before this time is another replica started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// How many replicas the load asks for, where the number follows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ScalingStatus>,
}

/// How many replicas the load asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScalingStatus {
    /// Replicas that should be ready or starting.
    pub wanted: u32,
    /// Since when so many.
    pub since: Timestamp,
    /// Why, in words.
    pub why: String,
    /// How long a replica took from its record to its first answer, lately; unknown before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<DurationMs>,
}

impl Endpoint {
    /// Replicas that should be ready or starting, before anything is decided anew.
    #[must_use]
    pub fn wanted_replicas(&self) -> u32 {
        let Some(scaling) = self.spec.scaling else {
            return self.spec.replicas;
        };
        let wanted = self.status.scaling.as_ref().map(|status| status.wanted);
        // A new endpoint begins with one at least, so that a model that cannot be served is noticed.
        let wanted = wanted.unwrap_or_else(|| self.spec.replicas.max(1));
        wanted.clamp(
            scaling.min_replicas,
            scaling.max_replicas.max(scaling.min_replicas),
        )
    }
}

impl Default for EndpointStatus {
    fn default() -> Self {
        Self {
            phase: EndpointPhase::Pending,
            version: None,
            ready_replicas: 0,
            waiting: None,
            failures: 0,
            not_before: None,
            scaling: None,
        }
    }
}

/// What is wanted of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaSpec {
    /// The endpoint's name.
    pub endpoint: Name,
    /// The model it serves.
    pub model: FreeName,
    /// The version it serves.
    pub version: u32,
    /// Where it is placed.
    pub node: String,
    /// What it may use.
    pub resources: Resources,
    /// When its end was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_since: Option<Timestamp>,
}

word_enum! {
    /// Where a replica stands.
    ReplicaPhase {
        /// Asked for.
        Starting = "starting",
        /// Answers.
        Ready = "ready",
        /// Gets no new requests; finishes what it has.
        Draining = "draining",
        /// Was told to end.
        Stopping = "stopping",
        /// Over.
        Stopped = "stopped",
        /// Ended by itself.
        Failed = "failed",
    }
}

impl ReplicaPhase {
    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

/// What is of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaStatus {
    /// Where it stands.
    pub phase: ReplicaPhase,
    /// Where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<SocketAddr>,
    /// When it first answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ExitReason>,
    /// How its limits are enforced, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<String>,
}

impl Default for ReplicaStatus {
    fn default() -> Self {
        Self {
            phase: ReplicaPhase::Starting,
            address: None,
            ready_at: None,
            reason: None,
            enforcement: None,
        }
    }
}

spec_of!(EndpointSpec, EndpointStatus, Endpoint, named: true, |status| status.phase.as_str());
spec_of!(ReplicaSpec, ReplicaStatus, Replica, named: false, |status| status.phase.as_str());

//! The facts that lifecycles are decided from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lepton_types::resources::{Attempt, Endpoint, ExitReason, Job, Replica, Reservation};
use lepton_types::{DurationMs, Id, Timestamp};
use serde::{Deserialize, Serialize};

use crate::autoscaling::{Memory, Second, ServiceTimes};
use crate::cluster::{Node, NodeName};

/// Everything that is not over, and what is known of its workers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct View {
    /// The machines.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Jobs that are not over, or are being deleted.
    pub jobs: BTreeMap<Id, Arc<Job>>,
    /// Attempts that are not over.
    pub attempts: BTreeMap<Id, Arc<Attempt>>,
    /// Endpoints.
    pub endpoints: BTreeMap<Id, Arc<Endpoint>>,
    /// Replicas, those that are over included.
    pub replicas: BTreeMap<Id, Arc<Replica>>,
    /// The model version that each endpoint's spec means now.
    pub versions: BTreeMap<Id, u32>,
    /// What the executor knows.
    #[serde(with = "by_text")]
    pub workers: BTreeMap<WorkerKey, WorkerFact>,
    /// What the gateway and the probes know of replicas.
    pub health: BTreeMap<Id, Health>,
    /// What the endpoints that follow their load were asked.
    #[serde(default)]
    pub loads: BTreeMap<Id, Load>,
    /// Room that is promised, or asked to be.
    #[serde(default)]
    pub reservations: BTreeMap<Id, Arc<Reservation>>,
    /// How to decide.
    pub policy: Policy,
}

/// What an endpoint was asked, and what the last decision about its number left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The end of the last second of `seconds`.
    pub observed_until: Timestamp,
    /// The past, second by second, oldest first.
    pub seconds: Arc<Vec<Second>>,
    /// How long requests took.
    pub service: ServiceTimes,
    /// Requests that wait or are answered now.
    pub in_flight: u64,
    /// What the last decision left behind.
    pub memory: Memory,
}

/// One start of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerKey {
    /// The attempt or replica.
    pub id: Id,
    /// The rank; 0 for a replica.
    pub rank: u32,
}

/// What the executor knows of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerFact {
    /// Accepted; its program does not run yet.
    Starting,
    /// Its program runs.
    Running {
        /// Since when.
        since: Timestamp,
        /// Where it listens, if it does.
        address: Option<SocketAddr>,
        /// How its limits are enforced, in words.
        enforcement: String,
    },
    /// It ended.
    Exited {
        /// How.
        reason: ExitReason,
        /// When its program started, if it did.
        started_at: Option<Timestamp>,
        /// When it ended.
        finished_at: Timestamp,
        /// The most memory it used, in bytes, where that is known.
        memory_bytes_max: Option<u64>,
    },
    /// Nobody knows how it ended.
    Lost {
        /// What is known.
        message: String,
    },
}

/// What the gateway and the probes know of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Health {
    /// Whether it answered the last probe.
    pub answers: bool,
    /// Probes in a row that it did not answer.
    pub failures: u32,
    /// Requests that it works on.
    pub in_flight: u64,
}

impl Health {
    /// Takes in what a probe said.
    pub fn take_in(&mut self, answers: bool) {
        self.answers = answers;
        self.failures = if answers {
            0
        } else {
            self.failures.saturating_add(1)
        };
    }
}

/// How to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The pause before a first retry; each further one is twice as long.
    pub backoff_first: DurationMs,
    /// The longest pause before a retry.
    pub backoff_max: DurationMs,
    /// How long a replica may take to answer for the first time.
    pub replica_start_max: DurationMs,
    /// How long a replica may take to finish what it has.
    pub drain_max: DurationMs,
    /// Unanswered probes in a row after which a replica is replaced.
    pub probe_failures_max: u32,
    /// How long a replica must answer until its failures are forgotten.
    pub stable_after: DurationMs,
    /// Failed replicas that are kept to be looked at.
    pub failed_replicas_kept: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            backoff_first: DurationMs::from_secs(1),
            // As Kubernetes waits at most between restarts.
            backoff_max: DurationMs::from_secs(300),
            replica_start_max: DurationMs::from_secs(120),
            drain_max: DurationMs::from_secs(60),
            probe_failures_max: 3,
            stable_after: DurationMs::from_secs(60),
            failed_replicas_kept: 2,
        }
    }
}

impl Policy {
    /// The pause after `failures` in a row, without jitter.
    #[must_use]
    pub fn backoff(&self, failures: u32) -> DurationMs {
        let doublings = failures.saturating_sub(1).min(20);
        let millis = self
            .backoff_first
            .as_millis()
            .saturating_mul(1 << doublings);
        DurationMs::from_millis(millis.min(self.backoff_max.as_millis()))
    }
}

/// JSON has text keys only: workers are written as a list.
mod by_text {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{WorkerFact, WorkerKey};

    pub(super) fn serialize<S: Serializer>(
        workers: &BTreeMap<WorkerKey, WorkerFact>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(workers)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<WorkerKey, WorkerFact>, D::Error> {
        let pairs: Vec<(WorkerKey, WorkerFact)> = Vec::deserialize(deserializer)?;
        Ok(pairs.into_iter().collect())
    }
}

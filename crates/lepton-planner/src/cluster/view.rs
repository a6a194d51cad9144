//! The facts that a placement decision is taken from.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use lepton_types::{DurationMs, Id, JobId, Name, Resources, Timestamp};
use serde::{Deserialize, Serialize};

use super::Policy;

/// The most GPUs of one node that are told apart; larger machines do not exist
/// (sixteen is the most that is sold), and a fixed size keeps a node in two cache lines.
pub const GPUS_PER_NODE_MAX: usize = 32;

/// Thousandths in one whole GPU.
pub const GPU_MILLI: u16 = 1_000;

/// The name of a machine: 1 to 253 visible characters, as Kubernetes allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// A text that is no name of a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of a node: 1 to 253 visible characters are expected")]
pub struct ParseNodeNameError {
    /// The first 64 characters of what was given, control characters escaped.
    pub text: String,
}

impl FromStr for NodeName {
    type Err = ParseNodeNameError;

    fn from_str(text: &str) -> Result<Self, ParseNodeNameError> {
        let valid = (1..=253).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
        valid
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| ParseNodeNameError {
                text: text.chars().take(64).flat_map(char::escape_debug).collect(),
            })
    }
}

impl TryFrom<String> for NodeName {
    type Error = ParseNodeNameError;

    fn try_from(text: String) -> Result<Self, ParseNodeNameError> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl From<Name> for NodeName {
    fn from(name: Name) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The workers that start together or not at all: usually one job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GangId(Id);

impl GangId {
    /// The untyped id.
    #[must_use]
    pub const fn id(self) -> Id {
        self.0
    }
}

impl From<Id> for GangId {
    fn from(id: Id) -> Self {
        Self(id)
    }
}

impl From<JobId> for GangId {
    fn from(id: JobId) -> Self {
        Self(id.id())
    }
}

impl fmt::Display for GangId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for GangId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Everything that [`super::plan`] may know.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterView {
    /// The machines of the pool.
    pub nodes: BTreeMap<NodeName, Node>,
    /// What each project is entitled to; one without an entry has [`Share::default`].
    #[serde(default)]
    pub projects: BTreeMap<Name, Share>,
    /// What holds machines now, starting and stopping gangs included.
    #[serde(default)]
    pub running: BTreeMap<GangId, RunningGang>,
    /// What waits.
    #[serde(default)]
    pub queue: BTreeMap<GangId, PendingGang>,
    /// What was promised in advance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reservations: BTreeMap<Name, Reservation>,
    /// How to decide.
    #[serde(default)]
    pub policy: Policy,
}

/// Room promised in advance: named parts of machines, in a window of time.
///
/// Whoever else could still run when the window opens leaves the room alone; see
/// [`PendingGang::runs_at_most`]. Preemptible gangs that stand on it when it is open and its owner
/// asks for it are stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// Whose gangs may use it.
    pub project: Name,
    /// The one gang that may use it; any of the project where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang: Option<GangId>,
    /// When the window opens.
    pub from: Timestamp,
    /// When it closes.
    pub until: Timestamp,
    /// What is promised, and where; [`super::book`] chooses the machines.
    pub seats: Vec<PromisedSeat>,
}

/// A part of one machine that is promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromisedSeat {
    /// How much.
    pub ask: Ask,
    /// Of which machine.
    pub node: NodeName,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What it has, occupied or not.
    pub capacity: Resources,
    /// The model of its GPUs, as in `A100`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_model: Option<String>,
    /// Free text that selectors and topologies refer to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What an hour of it costs, in thousandths of a dollar; of two nodes that are as good,
    /// the cheaper is taken.
    #[serde(default)]
    pub price_millis_per_hour: u64,
    /// Takes nothing new: cordoned, draining or lost.
    #[serde(default)]
    pub unschedulable: bool,
}

impl From<Resources> for Node {
    fn from(capacity: Resources) -> Self {
        Self {
            capacity,
            ..Self::default()
        }
    }
}

/// What a project is entitled to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Share {
    /// The weight of its dominant share against other projects'; 0 is served last.
    pub weight: u32,
    /// What it owns: nobody who borrowed may keep it from there.
    pub quota: Option<Resources>,
    /// Whether it may use more than its quota while others leave it idle.
    pub may_borrow: bool,
    /// What it never exceeds, borrowed or not.
    pub limit: Option<Resources>,
}

impl Default for Share {
    /// Weight 1, no quota, no limit.
    fn default() -> Self {
        Self {
            weight: 1,
            quota: None,
            may_borrow: true,
            limit: None,
        }
    }
}

/// What one worker asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Processors, memory and whole GPUs.
    pub resources: Resources,
    /// Thousandths of one GPU; only where no whole GPU is asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gpu_milli: u16,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_zero(value: &u16) -> bool {
    *value == 0
}

impl Ask {
    /// Thousandths of GPUs, whole ones included.
    #[must_use]
    pub fn gpu_milli_total(&self) -> u64 {
        match self.resources.gpus {
            0 => u64::from(self.gpu_milli),
            whole => u64::from(whole) * u64::from(GPU_MILLI),
        }
    }

    /// Whether it needs a GPU or a part of one.
    #[must_use]
    pub const fn wants_gpu(&self) -> bool {
        self.resources.gpus > 0 || self.gpu_milli > 0
    }

    fn key(&self) -> (u32, u16, u64, u64) {
        let Resources { cpu, memory, gpus } = self.resources;
        (gpus, self.gpu_milli, cpu.as_millis(), memory.as_bytes())
    }
}

impl From<Resources> for Ask {
    fn from(resources: Resources) -> Self {
        Self {
            resources,
            gpu_milli: 0,
        }
    }
}

impl PartialOrd for Ask {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ask {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.resources)?;
        if self.gpu_milli > 0 {
            write!(f, ", {} thousandths of a gpu", self.gpu_milli)?;
        }
        Ok(())
    }
}

/// Which nodes a gang may use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    /// Labels that a node must carry, with these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The GPU models allowed; empty for any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub gpu_models: BTreeSet<String>,
    /// The label (a rack, a zone) whose value all nodes of the gang must share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub together: Option<String>,
}

/// A gang that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingGang {
    /// Who pays for it.
    pub project: Name,
    /// Greater goes first.
    #[serde(default)]
    pub priority: i32,
    /// Since when it waits: when it was asked for, or last stopped. (Were it the former for
    /// one that was stopped, its age would put it before those it was stopped for.)
    pub submitted_at: Timestamp,
    /// Its workers, in order of rank.
    pub members: Vec<Ask>,
    /// Where it may run.
    #[serde(default)]
    pub selector: Selector,
    /// How long it is thought to run; never needed for correctness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_duration: Option<DurationMs>,
    /// After so long it is stopped: a promise to somebody else that begins later does not bind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_at_most: Option<DurationMs>,
    /// When it should have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// A gang that holds machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningGang {
    /// Who pays for it.
    pub project: Name,
    /// Greater is never stopped for smaller.
    #[serde(default)]
    pub priority: i32,
    /// Whether it may be stopped and started again later.
    #[serde(default)]
    pub preemptible: bool,
    /// Its workers and where they are.
    pub members: Vec<Occupied>,
    /// When it started.
    pub started_at: Timestamp,
    /// The latest moment whose work would survive a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpointed_at: Option<Timestamp>,
    /// How long it was thought to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_duration: Option<DurationMs>,
    /// So long after its start it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_at_most: Option<DurationMs>,
    /// Already told to stop, its machines not yet free.
    #[serde(default)]
    pub stopping: bool,
}

/// One running worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Occupied {
    /// What it holds.
    pub ask: Ask,
    /// Where.
    pub seat: Seat,
}

/// Where one worker runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// The machine.
    pub node: NodeName,
    /// Its GPUs, by their number on that machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<u16>,
}

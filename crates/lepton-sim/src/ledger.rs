//! The ledger: what the server acknowledged, which it must keep.

use std::collections::{BTreeMap, BTreeSet};

use lepton_types::Id;
use lepton_types::resources::JobPhase;

/// Everything that was promised.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) jobs: BTreeMap<Id, JobPromise>,
    /// By name.
    pub(crate) endpoints: BTreeMap<String, EndpointPromise>,
    /// Replicas that fell out by themselves at some time: they count for nobody any more.
    pub(crate) broken_replicas: BTreeSet<Id>,
}

/// A job that was accepted.
pub(crate) struct JobPromise {
    pub(crate) workers: u32,
    pub(crate) retries: u32,
    pub(crate) cancelled: bool,
    pub(crate) deleted: bool,
    /// How it ended, once it was seen to have.
    pub(crate) end: Option<JobPhase>,
}

/// An endpoint that was accepted.
pub(crate) struct EndpointPromise {
    pub(crate) id: Id,
    pub(crate) wanted: u32,
    /// The least of them that must stay: all, or the fewest where the number follows the load.
    pub(crate) kept: u32,
    /// The least that had to stay since the routes were looked at.
    pub(crate) kept_min: u32,
    /// Whether the number follows the load.
    pub(crate) follows: bool,
    pub(crate) deleted: bool,
    /// Which replicas were routed when they were looked at.
    pub(crate) routed: BTreeSet<Id>,
}

impl EndpointPromise {
    /// `fewest` is given where the number follows the load.
    pub(crate) fn new(id: Id, wanted: u32, fewest: Option<u32>) -> Self {
        let kept = fewest.unwrap_or(wanted);
        Self {
            id,
            wanted,
            kept,
            kept_min: kept,
            follows: fewest.is_some(),
            deleted: false,
            routed: BTreeSet::new(),
        }
    }

    pub(crate) fn change(&mut self, wanted: u32, fewest: Option<u32>) {
        self.wanted = wanted;
        self.kept = fewest.unwrap_or(wanted);
        self.kept_min = self.kept_min.min(self.kept);
        self.follows = fewest.is_some();
    }
}

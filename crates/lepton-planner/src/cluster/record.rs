//! A decision on record, and its replay.

use lepton_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ClusterView, Finding, Plan, Report, check, plan};
use crate::PlanRng;

/// All that a decision was taken from, and what it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The facts.
    pub view: ClusterView,
    /// The time.
    pub now: Timestamp,
    /// The seed of its randomness.
    pub seed: u64,
    /// What was decided.
    pub plan: Plan,
}

/// What a recorded decision comes to when it is taken again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// The plan now.
    pub plan: Plan,
    /// The reasons now.
    pub report: Report,
    /// What the checker says of the recorded plan.
    pub findings: Vec<Finding>,
    /// Whether the plan is the recorded one.
    pub same: bool,
}

impl Record {
    /// Takes a decision, and records it.
    #[must_use]
    pub fn take(view: ClusterView, now: Timestamp, rng: &PlanRng) -> (Self, Report) {
        let (plan, report) = plan(&view, now, rng);
        let seed = rng.seed();
        (
            Self {
                view,
                now,
                seed,
                plan,
            },
            report,
        )
    }

    /// Takes the decision again.
    #[must_use]
    pub fn replay(&self) -> Replay {
        let (plan, report) = plan(&self.view, self.now, &PlanRng::from_seed(self.seed));
        Replay {
            same: plan == self.plan,
            findings: check(&self.view, &self.plan, self.now),
            plan,
            report,
        }
    }
}

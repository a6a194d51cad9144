//! A decision about the number of replicas on record, and its replay.

use lepton_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AutoscalePlan, AutoscaleView, Finding, check, plan};
use crate::PlanRng;

/// All that a decision was taken from, and what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The facts.
    pub view: AutoscaleView,
    /// The time.
    pub now: Timestamp,
    /// The seed of its randomness.
    pub seed: u64,
    /// What was decided.
    pub plan: AutoscalePlan,
}

/// What a recorded decision comes to when it is taken again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// The plan now.
    pub plan: AutoscalePlan,
    /// What the checker says of the recorded plan.
    pub findings: Vec<Finding>,
    /// Whether the plan is the recorded one.
    pub same: bool,
}

impl Record {
    /// Takes a decision, and records it.
    #[must_use]
    pub fn take(view: AutoscaleView, now: Timestamp, rng: &PlanRng) -> Self {
        let plan = plan(&view, now, rng);
        let seed = rng.seed();
        Self {
            view,
            now,
            seed,
            plan,
        }
    }

    /// Takes the decision again.
    #[must_use]
    pub fn replay(&self) -> Replay {
        let plan = plan(&self.view, self.now, &PlanRng::from_seed(self.seed));
        Replay {
            same: plan == self.plan,
            findings: check(&self.view, &self.plan, self.now),
            plan,
        }
    }
}

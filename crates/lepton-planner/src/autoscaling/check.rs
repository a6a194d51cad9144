//! Refuses a plan that breaks the rules, by its own reading of them.
//!
//! Owns: the rules. Must not know: how a plan is made.

use lepton_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::plan::AutoscalePlan;
use super::view::AutoscaleView;

/// One rule that a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Finding {
    /// Fewer than the owner asks for.
    #[error("{replicas} replicas are fewer than the {min} asked for")]
    BelowMinimum {
        /// Planned.
        replicas: u32,
        /// Asked for.
        min: u32,
    },
    /// More than the owner allows.
    #[error("{replicas} replicas are more than the {max} allowed")]
    AboveMaximum {
        /// Planned.
        replicas: u32,
        /// Allowed.
        max: u32,
    },
    /// Everything stops while requests are there.
    #[error("no replica is left for {in_flight} requests in flight")]
    StopsUnderLoad {
        /// Requests that wait or are served.
        in_flight: u64,
    },
    /// The number changes although nothing recent is known.
    #[error("the number changes from {have} to {replicas} on observations that are not of now")]
    ChangesBlindly {
        /// Ready or starting.
        have: u32,
        /// Planned.
        replicas: u32,
    },
}

/// Every rule that `plan` breaks on `view` at `now`; none, for a plan of [`super::plan`].
#[must_use]
pub fn check(view: &AutoscaleView, plan: &AutoscalePlan, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let min = view.spec.min_replicas;
    // Where the limits contradict each other the minimum stands.
    let max = std::cmp::max(view.spec.max_replicas, min);
    let replicas = plan.replicas;
    if replicas < min {
        findings.push(Finding::BelowMinimum { replicas, min });
    }
    if replicas > max {
        findings.push(Finding::AboveMaximum { replicas, max });
    }
    let age_ms = now
        .as_millis()
        .saturating_sub(view.observed_until.as_millis());
    let blind = !(0..=30_000).contains(&age_ms);
    let have = view.replicas.ready.saturating_add(view.replicas.starting);
    if blind && replicas != have && (min..=max).contains(&have) {
        findings.push(Finding::ChangesBlindly { have, replicas });
    }
    if !blind && replicas == 0 && max > 0 && view.in_flight > 0 {
        findings.push(Finding::StopsUnderLoad {
            in_flight: view.in_flight,
        });
    }
    findings
}

//! What the owner of a pool decides once: the knobs of placement and order.

use lepton_types::DurationMs;
use serde::{Deserialize, Serialize};

/// How to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Waiting this long raises a gang by one priority, again and again, so that nobody
    /// starves; zero switches it off.
    pub ageing: DurationMs,
    /// A gang that waited this long has room kept for it: smaller ones may pass it only where
    /// they do not delay it.
    pub reserve_after: DurationMs,
    /// Whether running gangs may be stopped for more important ones.
    pub preemption: bool,
    /// What a stop and a later start cost; a gang that ends sooner than that is left alone.
    pub checkpoint_cost: DurationMs,
    /// A gang runs at least this long before it may be stopped again.
    pub run_at_least: DurationMs,
    /// The most gangs that one pass may stop.
    pub stops_per_pass_max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            // A batch job of yesterday goes before one of today that is 24 classes above: long
            // enough for priorities to mean something, short enough to be waited out.
            ageing: DurationMs::from_secs(3_600),
            // Nobody notices five minutes of being overtaken; ten hours of it they do.
            reserve_after: DurationMs::from_secs(300),
            preemption: true,
            checkpoint_cost: DurationMs::from_secs(60),
            run_at_least: DurationMs::from_secs(300),
            stops_per_pass_max: 64,
        }
    }
}

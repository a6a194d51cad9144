//! What is known when a job's machine is bought.
//!
//! Owns: the facts, and what they add up to. Must not know: any policy.

use lepton_types::{DurationMs, Timestamp};
use serde::{Deserialize, Serialize};

use super::history::SpotHistory;

/// Everything that [`super::plan`] looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobView {
    /// Work left on a machine of speed one, checkpointed.
    pub work_left: DurationMs,
    /// When it must be done.
    pub deadline: Timestamp,
    /// Time lost, and paid, whenever a machine is taken up.
    pub changeover: DurationMs,
    /// What is left of the changeover that runs now.
    pub changeover_left: DurationMs,
    /// Time from one decision to the next: what is lost when a machine goes at once.
    pub tick: DurationMs,
    /// What the job runs on.
    pub running: Option<Purchase>,
    /// What can be bought, in the order of preference where costs are equal.
    pub offers: Vec<Offer>,
}

/// A machine that can be bought in one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Instance type and region, in words.
    pub name: String,
    /// Work done an hour, beside the reference machine; more than zero.
    pub speed: f64,
    /// Dollars an hour, never taken away.
    pub on_demand_usd_per_hour: f64,
    /// Dollars an hour, taken away without notice; none, if not sold so.
    pub spot_usd_per_hour: Option<f64>,
    /// What was seen of the spot offer, one sample a tick, the present one last.
    #[serde(default)]
    pub history: SpotHistory,
}

/// What is bought: an offer by its place in the view, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purchase {
    /// Index into the offers.
    pub offer: usize,
    /// Whether it can be taken away.
    pub mode: Mode,
}

/// How a machine is bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Cheap, and gone without notice.
    Spot,
    /// Dear, and kept as long as wanted.
    OnDemand,
}

impl Offer {
    /// Whether the offer makes sense: a speed above zero, prices that are not negative.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let price_fault = |what: &str, usd: f64| {
            (!usd.is_finite() || usd < 0.0).then(|| {
                format!(
                    "`{}` has no {what} price that can be paid: {usd}",
                    self.name
                )
            })
        };
        if !self.speed.is_finite() || self.speed <= 0.0 {
            return Some(format!(
                "`{}` has no speed above zero: {}",
                self.name, self.speed
            ));
        }
        price_fault("on-demand", self.on_demand_usd_per_hour).or_else(|| {
            self.spot_usd_per_hour
                .and_then(|usd| price_fault("spot", usd))
        })
    }

    /// Whether a spot machine can be had now.
    #[must_use]
    pub fn spot_is_up(&self) -> bool {
        self.spot_usd_per_hour.is_some() && self.history.is_up()
    }

    /// Time on this machine for `work` of the reference.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "positive, and the conversion saturates"
    )]
    pub fn time_for(&self, work: DurationMs) -> DurationMs {
        DurationMs::from_millis((work.as_millis() as f64 / self.speed).ceil() as u64)
    }
}

impl JobView {
    /// Time that can still be lost on `offer` without a deadline missed, if its on-demand machine
    /// were taken up now: negative when it is too late.
    #[must_use]
    pub fn reserve_ms(&self, offer: &Offer, now: Timestamp) -> i128 {
        let left = i128::from(self.deadline.as_millis()) - i128::from(now.as_millis());
        left - i128::from(offer.time_for(self.work_left).as_millis())
            - i128::from(self.changeover.as_millis())
    }
}

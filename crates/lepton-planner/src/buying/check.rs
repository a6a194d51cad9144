//! Refuses a plan that breaks the rules, by its own reading of them.
//!
//! Owns: the rules. Must not know: how a plan is made.

use lepton_types::Timestamp;

use super::policy::JobPlan;
use super::view::{JobView, Mode};

/// One rule that a plan breaks.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Finding {
    /// An offer that is not there, or makes no sense.
    #[error("offer {offer} is not there, or cannot be bought")]
    NoOffer {
        /// Which.
        offer: usize,
    },
    /// A spot machine that is not to be had.
    #[error("the spot machine of `{offer}` cannot be had now")]
    NotUp {
        /// Which.
        offer: String,
    },
    /// The deadline would be kept by another choice, and may not be by this one.
    #[error("a deadline that could be kept is at risk: {short_ms} ms may be missing")]
    Risk {
        /// How much.
        short_ms: i128,
    },
}

/// Every rule that `plan` breaks on `view` at `now`.
///
/// The worst case is played through: the machine goes at the next decision, and the fastest on-demand
/// machine is taken up then.
#[must_use]
pub fn check(view: &JobView, plan: &JobPlan, now: Timestamp) -> Vec<Finding> {
    let usable = |index: usize| {
        view.offers
            .get(index)
            .filter(|offer| offer.fault().is_none())
    };
    if let Some(purchase) = plan.purchase {
        let Some(offer) = usable(purchase.offer) else {
            return vec![Finding::NoOffer {
                offer: purchase.offer,
            }];
        };
        let down = offer.spot_usd_per_hour.is_none() || !offer.history.is_up();
        if purchase.mode == Mode::Spot && down {
            return vec![Finding::NotUp {
                offer: offer.name.clone(),
            }];
        }
    }
    let work = view.work_left.as_millis();
    let left = i128::from(view.deadline.as_millis()) - i128::from(now.as_millis());
    let fastest = (0..view.offers.len())
        .filter_map(usable)
        .map(|offer| offer.speed)
        .fold(0.0, f64::max);
    if work == 0 || fastest <= 0.0 {
        return Vec::new();
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "durations stay far below 2^53 ms"
    )]
    let rush =
        |work: f64| (work / fastest).ceil() as i128 + i128::from(view.changeover.as_millis());
    #[expect(
        clippy::cast_precision_loss,
        reason = "durations stay far below 2^53 ms"
    )]
    let work = work as f64;
    let hopeless = rush(work) > left;
    let tick = i128::from(view.tick.as_millis());
    let needed = match plan.purchase {
        None => tick + rush(work),
        Some(purchase) => {
            let Some(offer) = usable(purchase.offer) else {
                return Vec::new();
            };
            let pending = if plan.purchase == view.running {
                view.changeover_left
            } else {
                view.changeover
            };
            let pending = i128::from(pending.as_millis());
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "durations stay far below 2^53 ms"
            )]
            match purchase.mode {
                Mode::OnDemand => (work / offer.speed).ceil() as i128 + pending,
                Mode::Spot => {
                    let worked = (tick - pending).max(0) as f64 * offer.speed;
                    let rest = (work - worked).max(0.0);
                    if rest > 0.0 { tick + rush(rest) } else { 0 }
                }
            }
        }
    };
    // Two milliseconds of rounding are no risk.
    let short_ms = needed - left - 2;
    if short_ms > 0 && !hopeless {
        return vec![Finding::Risk { short_ms }];
    }
    Vec::new()
}

//! The least time that a budget buys.
//!
//! Owns: the search over time limits, and what it proves. Must not know: how a plan is found.

use super::plan::{Method, TransferError, TransferPlan, TransferView, plan};
use crate::PlanRng;

/// Halvings of the time that is not decided yet: what is left of four decades is a tenth of a percent.
const HALVINGS: usize = 14;

/// The fastest plan found within the budget, and what was proven beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fastest {
    /// The plan; it takes as long as it says, or less than any limit that was found possible.
    pub plan: TransferPlan,
    /// No plan within the budget takes less, in seconds.
    pub bound_seconds: f64,
}

/// The plan that takes the least time of those that cost at most `view.usd_most`, and at most
/// `view.seconds_most`. The least cost never falls as the time allowed shrinks, so the time is halved
/// between what is surely too short and what was found possible.
///
/// # Errors
/// A view that makes no sense, or without a budget, or a budget that is kept at no time allowed.
pub fn fastest(
    view: &TransferView,
    method: Method,
    rng: &PlanRng,
) -> Result<Fastest, TransferError> {
    let Some(usd_most) = view.usd_most else {
        return Err(TransferError::Amount {
            what: "the cost allowed",
            value: f64::NAN,
        });
    };
    let (mut best, _) = plan(view, method, rng)?;
    let mut proven = view.seconds_at_full_rate();
    let (mut short, mut enough) = (proven.min(best.seconds), best.seconds);
    for _ in 0..HALVINGS {
        let seconds_most = (short * enough).sqrt();
        let tighter = TransferView {
            seconds_most,
            ..view.clone()
        };
        match plan(&tighter, method, rng) {
            Ok((found, _)) => {
                enough = found.seconds.min(seconds_most);
                best = found;
            }
            Err(TransferError::TooDear { bound_usd, .. }) => {
                short = seconds_most;
                if bound_usd > usd_most {
                    proven = proven.max(seconds_most);
                }
            }
            Err(TransferError::TooFast { .. }) => short = seconds_most,
            Err(other) => return Err(other),
        }
    }
    Ok(Fastest {
        bound_seconds: proven.min(best.seconds),
        plan: best,
    })
}

impl TransferView {
    /// Seconds at the rate of all machines of one end on its fastest link: nothing is faster.
    fn seconds_at_full_rate(&self) -> f64 {
        let fastest = |of: &dyn Fn(usize, usize) -> bool| {
            let links = self.network.links.iter();
            let at_end = links.filter(|(from, to, _)| of(*from, *to));
            at_end.map(|(_, _, link)| link.gbps).fold(0.0, f64::max)
        };
        let out = fastest(&|from, _| from == self.from);
        let into = fastest(&|_, to| to == self.to);
        let gbps = out.min(into) * f64::from(self.network.machines_most);
        self.gigabytes * 8.0 / gbps.max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::triangle;
    use super::*;
    use crate::transfer::check;

    #[test]
    fn more_money_buys_time_and_too_little_buys_none() {
        let rng = PlanRng::from_seed(1);
        let at = |usd_most| TransferView {
            network: triangle(),
            from: 0,
            to: 2,
            gigabytes: 100.0,
            seconds_most: 10_000.0,
            usd_most,
        };
        let (cheapest, report) = plan(&at(None), Method::Milp, &rng).unwrap();
        let mut seconds = f64::INFINITY;
        for more in [1.0, 1.2, 1.5, 2.0] {
            let view = at(Some(cheapest.usd * more));
            let found = fastest(&view, Method::Milp, &rng).unwrap();
            assert!(check(&view, &found.plan).is_empty());
            assert!(found.plan.usd <= cheapest.usd * more * (1.0 + 1e-9));
            assert!(found.plan.seconds <= seconds * (1.0 + 1e-9));
            assert!(found.bound_seconds <= found.plan.seconds);
            seconds = found.plan.seconds;
        }
        assert!(seconds < cheapest.seconds, "{seconds} {}", cheapest.seconds);
        let poor = at(Some(report.bound_usd * 0.9));
        assert!(matches!(
            fastest(&poor, Method::Milp, &rng),
            Err(TransferError::TooDear { .. })
        ));
        assert!(matches!(
            fastest(&at(None), Method::Milp, &rng),
            Err(TransferError::Amount { .. })
        ));
    }
}

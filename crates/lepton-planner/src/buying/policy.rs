//! What to run on until the next decision: ours, and the published rules beside it.
//!
//! Owns: the decision on a view, and its reason. Must not know: how a machine is rented.

use std::fmt;

use lepton_types::{DurationMs, Timestamp};
use serde::{Deserialize, Serialize};

use super::strategy::{Seat, Strategy};
use super::view::{JobView, Mode, Purchase};

/// What to run on until the next decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobPlan {
    /// The machine; none, to wait.
    pub purchase: Option<Purchase>,
    /// Why.
    pub report: Report,
}

/// Why this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What decided.
    pub cause: Cause,
    /// Expected cost to the end, where it was worked out.
    pub expected_usd: Option<f64>,
    /// Contradictions in the view that were worked around.
    pub notes: Vec<String>,
}

/// What decided on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// The work is done.
    Done,
    /// No time may be lost any more.
    NoSlack,
    /// The deadline cannot be kept by any offer.
    TooLate {
        /// By how much it will be missed.
        by: DurationMs,
    },
    /// The least expected cost.
    Cheapest,
    /// A published rule, by its name.
    Rule {
        /// Which.
        rule: String,
    },
    /// Nothing can be bought.
    NoOffer,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Done => f.write_str("the work is done")?,
            Cause::NoSlack => f.write_str("on demand, because no time may be lost any more")?,
            Cause::TooLate { by } => {
                write!(f, "as fast as can be: the deadline will be missed by {by}")?;
            }
            Cause::Cheapest => f.write_str("the least expected cost")?,
            Cause::Rule { rule } => write!(f, "the rule `{rule}`")?,
            Cause::NoOffer => f.write_str("no offer can be bought")?,
        }
        if let Some(usd) = self.expected_usd {
            write!(f, ", ${usd:.2} expected to the end")?;
        }
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        Ok(())
    }
}

/// Strategies solved before, one an offer; a caller that decides every few minutes keeps them for
/// some hours, one that does not lets [`plan`] solve anew.
#[derive(Debug, Clone)]
pub struct Solved(Vec<Option<Strategy>>);

impl Solved {
    /// Solves for every offer of `view` at `now`.
    #[must_use]
    pub fn of(view: &JobView, now: Timestamp) -> Self {
        let left_ms = view.deadline.since(now).as_millis();
        Self(
            view.offers
                .iter()
                .map(|offer| {
                    offer
                        .fault()
                        .is_none()
                        .then(|| Strategy::solve(view, offer, left_ms))
                })
                .collect(),
        )
    }
}

/// The machine of least expected cost, solved for this view.
#[must_use]
pub fn plan(view: &JobView, now: Timestamp) -> JobPlan {
    plan_with(view, now, &Solved::of(view, now))
}

/// The machine of least expected cost, with strategies solved before for the same offers.
#[must_use]
pub fn plan_with(view: &JobView, now: Timestamp, solved: &Solved) -> JobPlan {
    let notes: Vec<String> = view
        .offers
        .iter()
        .filter_map(super::view::Offer::fault)
        .collect();
    if let Some(forced) = forced(view, now) {
        return JobPlan {
            report: Report {
                notes,
                ..forced.report
            },
            ..forced
        };
    }
    let left_ms = view.deadline.since(now).as_millis();
    let mut best: Option<(f64, Option<Purchase>)> = None;
    for (index, offer) in view.offers.iter().enumerate() {
        let Some(Some(strategy)) = solved.0.get(index) else {
            continue;
        };
        let here = view.running.filter(|running| running.offer == index);
        let seat = Seat::from(here.map(|running| running.mode));
        for (next, usd) in strategy.costs(view, offer, left_ms, seat) {
            let purchase = match next {
                Seat::Nothing => None,
                Seat::Spot => Some(Purchase {
                    offer: index,
                    mode: Mode::Spot,
                }),
                Seat::OnDemand => Some(Purchase {
                    offer: index,
                    mode: Mode::OnDemand,
                }),
            };
            let stays = purchase == view.running;
            if !safe(view, now, purchase) || !usd.is_finite() {
                continue;
            }
            // What runs wins a tie.
            let better =
                best.is_none_or(|(least, _)| usd < least - 1e-9 || (stays && usd <= least + 1e-9));
            if better {
                best = Some((usd, purchase));
            }
        }
    }
    match best {
        Some((usd, purchase)) => JobPlan {
            purchase,
            report: Report {
                cause: Cause::Cheapest,
                expected_usd: Some(usd),
                notes,
            },
        },
        None => JobPlan {
            report: Report {
                notes,
                ..no_slack(view).report
            },
            ..no_slack(view)
        },
    }
}

/// What leaves no choice: done, nothing to buy, too late.
fn forced(view: &JobView, now: Timestamp) -> Option<JobPlan> {
    let of = |purchase, cause| JobPlan {
        purchase,
        report: Report {
            cause,
            expected_usd: None,
            notes: Vec::new(),
        },
    };
    if view.work_left == DurationMs::ZERO {
        return Some(of(None, Cause::Done));
    }
    let Some(fastest) = on_demand(view) else {
        return Some(of(None, Cause::NoOffer));
    };
    let reserve = most_reserve(view, now)?;
    // What runs needs no changeover.
    let on_demand_now = view
        .running
        .filter(|running| running.mode == Mode::OnDemand);
    if let Some(running) = on_demand_now {
        let saved =
            i128::from(view.changeover.as_millis()) - i128::from(view.changeover_left.as_millis());
        let own = view
            .offers
            .get(running.offer)
            .map(|offer| view.reserve_ms(offer, now) + saved);
        if reserve < 0 && own.is_some_and(|own| own >= 0) {
            return Some(of(Some(running), Cause::NoSlack));
        }
    }
    (reserve < 0).then(|| {
        let by = DurationMs::from_millis(u64::try_from(-reserve).unwrap_or(u64::MAX));
        let purchase = on_demand_now.unwrap_or(fastest);
        of(Some(purchase), Cause::TooLate { by })
    })
}

fn no_slack(view: &JobView) -> JobPlan {
    JobPlan {
        purchase: view
            .running
            .filter(|running| running.mode == Mode::OnDemand)
            .or_else(|| on_demand(view)),
        report: Report {
            cause: Cause::NoSlack,
            expected_usd: None,
            notes: Vec::new(),
        },
    }
}

/// The fastest on-demand machine, the cheapest of equals.
fn on_demand(view: &JobView) -> Option<Purchase> {
    view.offers
        .iter()
        .enumerate()
        .filter(|(_, offer)| offer.fault().is_none())
        .min_by(|(_, a), (_, b)| {
            b.speed.total_cmp(&a.speed).then(
                a.on_demand_usd_per_hour
                    .total_cmp(&b.on_demand_usd_per_hour),
            )
        })
        .map(|(offer, _)| Purchase {
            offer,
            mode: Mode::OnDemand,
        })
}

fn most_reserve(view: &JobView, now: Timestamp) -> Option<i128> {
    view.offers
        .iter()
        .filter(|offer| offer.fault().is_none())
        .map(|offer| view.reserve_ms(offer, now))
        .max()
}

/// Whether the deadline stays safe if `next` is what runs until the next decision, whatever the
/// spot offers do.
#[must_use]
pub fn safe(view: &JobView, now: Timestamp, next: Option<Purchase>) -> bool {
    let Some(reserve) = most_reserve(view, now) else {
        return false;
    };
    let tick = i128::from(view.tick.as_millis());
    let changeover = i128::from(view.changeover.as_millis());
    match next {
        None => reserve >= tick,
        Some(Purchase {
            offer,
            mode: Mode::OnDemand,
        }) => {
            let Some(machine) = view.offers.get(offer) else {
                return false;
            };
            let own = view.reserve_ms(machine, now);
            let saved = if view.running == next {
                changeover - i128::from(view.changeover_left.as_millis())
            } else {
                0
            };
            own + saved >= 0
        }
        Some(Purchase {
            offer,
            mode: Mode::Spot,
        }) => {
            let Some(machine) = view.offers.get(offer) else {
                return false;
            };
            if !machine.spot_is_up() {
                return false;
            }
            let pending = if view.running == next {
                i128::from(view.changeover_left.as_millis())
            } else {
                changeover
            };
            // Taken away at the next decision, this tick's changeover is lost; and a machine slower
            // than the fastest loses what the fastest would have done meanwhile.
            let fastest = view
                .offers
                .iter()
                .map(|offer| offer.speed)
                .fold(0.0, f64::max);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "a tick is short"
            )]
            let slower = (tick as f64 * (1.0 - machine.speed / fastest)).ceil() as i128;
            reserve >= pending.min(tick) + slower
        }
    }
}

/// A published rule, on the first offer of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// On demand from the beginning.
    OnDemand,
    /// Spot when it is up, waiting when it is not, on demand to the end once slack is gone.
    Greedy,
    /// "Can't Be Late" (NSDI'24), uniform progress: on demand whenever behind the straight line to the
    /// deadline, back to spot once two changeovers ahead of it.
    UniformProgress {
        /// The work in all.
        work: DurationMs,
        /// When it began.
        began: Timestamp,
    },
}

impl Rule {
    /// What the rule runs on; the safety of the deadline goes before it.
    #[must_use]
    pub fn plan(self, view: &JobView, now: Timestamp) -> JobPlan {
        if let Some(forced) = forced(view, now) {
            return forced;
        }
        let wanted = self.wanted(view, now);
        if !safe(view, now, wanted) {
            return no_slack(view);
        }
        let rule = match self {
            Self::OnDemand => "on demand",
            Self::Greedy => "greedy",
            Self::UniformProgress { .. } => "uniform progress",
        };
        JobPlan {
            purchase: wanted,
            report: Report {
                cause: Cause::Rule {
                    rule: rule.to_owned(),
                },
                expected_usd: None,
                notes: Vec::new(),
            },
        }
    }

    fn wanted(self, view: &JobView, now: Timestamp) -> Option<Purchase> {
        let spot = Purchase {
            offer: 0,
            mode: Mode::Spot,
        };
        let on_demand = Purchase {
            offer: 0,
            mode: Mode::OnDemand,
        };
        let up = view
            .offers
            .first()
            .is_some_and(super::view::Offer::spot_is_up);
        let runs_on_demand = view.running == Some(on_demand);
        match self {
            Self::OnDemand => Some(on_demand),
            Self::Greedy if runs_on_demand => Some(on_demand),
            Self::Greedy => up.then_some(spot),
            Self::UniformProgress { work, began } => {
                let ahead = |later: DurationMs| {
                    let total = view.deadline.since(began).as_secs_f64().max(1e-9);
                    let elapsed = (now + later).since(began).as_secs_f64();
                    let done = work.as_secs_f64() - view.work_left.as_secs_f64();
                    done >= work.as_secs_f64() * elapsed / total
                };
                if runs_on_demand && !ahead(view.changeover.saturating_mul(2)) {
                    Some(on_demand)
                } else if up {
                    Some(spot)
                } else if ahead(DurationMs::ZERO) {
                    None
                } else {
                    Some(on_demand)
                }
            }
        }
    }
}

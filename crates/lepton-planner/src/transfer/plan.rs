//! A transfer, what is planned for it, and what that costs.
//!
//! Owns: the view, the plan, and the choice of a method. Must not know: how bytes move.
//!
//! A machine divides its sending time among the links out of it, and its receiving time among
//! those into it: `n` machines in a region send at most so that `Σ gbps used / gbps of the link ≤ n`.
//! Machines are rented while the transfer lasts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::exact::solve;
use super::network::{Network, NetworkFault};
use super::routes::Routes;
use crate::PlanRng;

/// Everything that [`plan`] looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferView {
    /// Where things can go.
    pub network: Network,
    /// From: a place in the network's regions.
    pub from: usize,
    /// To.
    pub to: usize,
    /// How much, in gigabytes.
    pub gigabytes: f64,
    /// The longest it may take, in seconds.
    pub seconds_most: f64,
    /// The most it may cost, in dollars.
    pub usd_most: Option<f64>,
}

/// How to search for a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Exact where that is affordable, annealing beyond, the better of what was found.
    Lepton,
    /// Mixed-integer programming, exact within its limit of nodes.
    Milp,
    /// Simulated annealing over shares of routes.
    Annealing,
    /// A genetic algorithm over shares of routes.
    Genetic,
    /// The direct link, and the cheapest detours when it is full.
    Greedy,
}

impl Method {
    /// Every method and its name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("lepton", Self::Lepton),
        ("milp", Self::Milp),
        ("annealing", Self::Annealing),
        ("genetic", Self::Genetic),
        ("greedy", Self::Greedy),
    ];
}

/// What flows where, on how many machines.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferPlan {
    /// From, to, gigabits a second.
    pub flows: Vec<(usize, usize, f64)>,
    /// Machines rented, by region.
    pub machines: BTreeMap<usize, u32>,
    /// How long it takes.
    pub seconds: f64,
    /// What it costs.
    pub usd: f64,
}

/// How good a plan is, and how that is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The method whose plan it is.
    pub method: Method,
    /// No plan costs less than this, in dollars.
    pub bound_usd: f64,
    /// The distance of the plan from the bound, in percent of the bound.
    pub gap_pct: f64,
    /// Nodes of the branch and bound.
    pub nodes: u64,
    /// In words.
    pub reason: String,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TransferError {
    /// The network makes no sense.
    #[error("the network cannot be planned on")]
    Network(#[from] NetworkFault),
    /// An amount that is not a number above zero.
    #[error("{what} must be a number above zero, not `{value}`")]
    Amount {
        /// Which.
        what: &'static str,
        /// What was given.
        value: f64,
    },
    /// The two ends are one region, or not in the network.
    #[error("the transfer has no two ends in the network")]
    Ends,
    /// Nothing leads there.
    #[error("no link leads from `{from}` to `{to}`, even over others")]
    NoRoute {
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// No plan is fast enough: for an exact method, none exists within its nodes.
    #[error(
        "{gigabytes} GB in {seconds_most} s need {gbps:.1} Gbit/s: no way was found with {machines_most} machines a region"
    )]
    TooFast {
        /// How much.
        gigabytes: f64,
        /// How fast.
        seconds_most: f64,
        /// That is.
        gbps: f64,
        /// The limit.
        machines_most: u32,
    },
    /// The limits on time and cost contradict each other.
    #[error(
        "the cheapest way found costs ${usd:.2} where ${usd_most:.2} may be spent; none costs less than ${bound_usd:.2}"
    )]
    TooDear {
        /// Found.
        usd: f64,
        /// Allowed.
        usd_most: f64,
        /// Proven.
        bound_usd: f64,
    },
}

/// The cheapest plan that keeps the limits, and how far from the least cost it may be.
///
/// # Errors
/// A view that makes no sense, or limits that nothing keeps.
pub fn plan(
    view: &TransferView,
    method: Method,
    rng: &PlanRng,
) -> Result<(TransferPlan, Report), TransferError> {
    let found = search(view, method, rng)?;
    let solved = match &found {
        Found {
            certificate: Some(_),
            ..
        } => None,
        Found { plan, .. } => Some(solve(view, plan.as_ref())),
    };
    let (bound_usd, nodes) = solved
        .map(|solved| (solved.bound_usd, solved.nodes))
        .or(found.certificate)
        .unwrap_or((0.0, 0));
    let by = found.by;
    let plan = found.plan.ok_or(TransferError::TooFast {
        gigabytes: view.gigabytes,
        seconds_most: view.seconds_most,
        gbps: view.gbps_least(),
        machines_most: view.network.machines_most,
    })?;
    let bound_usd = bound_usd.min(plan.usd);
    if let Some(usd_most) = view.usd_most.filter(|most| plan.usd > *most) {
        return Err(TransferError::TooDear {
            usd: plan.usd,
            usd_most,
            bound_usd,
        });
    }
    let gap_pct = 100.0 * (plan.usd - bound_usd) / bound_usd.max(1e-9);
    let report = Report {
        method: by,
        bound_usd,
        gap_pct,
        nodes,
        reason: reason(view, &plan, gap_pct),
    };
    Ok((plan, report))
}

/// What a method found by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The plan, if it found one.
    pub plan: Option<TransferPlan>,
    /// Whose plan it is.
    pub by: Method,
    /// For an exact method: dollars below which no plan costs, and the nodes that took.
    pub certificate: Option<(f64, u64)>,
}

/// What a method finds, without a bound where it has none of its own.
///
/// # Errors
/// A view that makes no sense.
pub fn search(view: &TransferView, method: Method, rng: &PlanRng) -> Result<Found, TransferError> {
    validate(view)?;
    let routes = Routes::of(view).ok_or_else(|| no_route(view))?;
    let mut stream = rng.stream("transfer", (view.from as u128) << 64 | view.to as u128);
    let by = |plan, by| Found {
        plan,
        by,
        certificate: None,
    };
    Ok(match method {
        Method::Greedy => by(routes.greedy(), method),
        Method::Annealing => by(routes.anneal(&mut stream), method),
        Method::Genetic => by(routes.evolve(&mut stream), method),
        Method::Milp => exact(view, routes.greedy().as_ref()),
        Method::Lepton => {
            // A good plan to begin with saves the exact method a programme or two.
            let annealed = routes.anneal(&mut stream).or_else(|| routes.greedy());
            let found = exact(view, annealed.as_ref());
            let unchanged = found.plan.is_some() && found.plan == annealed;
            Found {
                by: if unchanged {
                    Method::Annealing
                } else {
                    Method::Milp
                },
                ..found
            }
        }
    })
}

fn exact(view: &TransferView, seed: Option<&TransferPlan>) -> Found {
    let solved = solve(view, seed);
    Found {
        plan: solved.plan,
        by: Method::Milp,
        certificate: Some((solved.bound_usd, solved.nodes)),
    }
}

fn reason(view: &TransferView, plan: &TransferPlan, gap_pct: f64) -> String {
    let direct: f64 = plan
        .flows
        .iter()
        .filter(|(from, to, _)| (*from, *to) == (view.from, view.to))
        .map(|(_, _, gbps)| gbps)
        .sum();
    let out: f64 = plan
        .flows
        .iter()
        .filter(|(from, ..)| *from == view.from)
        .map(|(_, _, gbps)| gbps)
        .sum();
    let via: Vec<&str> = plan
        .machines
        .keys()
        .filter(|region| **region != view.from && **region != view.to)
        .map(|region| view.network.regions[*region].as_str())
        .collect();
    let path = if via.is_empty() {
        "all of it on the direct link".to_owned()
    } else {
        format!(
            "{:.0} % on the direct link, the rest over {}",
            100.0 * direct / out.max(1e-9),
            via.join(", ")
        )
    };
    format!(
        "{path}; ${:.2} in {:.0} s, at most {gap_pct:.2} % above the least",
        plan.usd, plan.seconds
    )
}

fn no_route(view: &TransferView) -> TransferError {
    TransferError::NoRoute {
        from: view.network.regions[view.from].clone(),
        to: view.network.regions[view.to].clone(),
    }
}

fn validate(view: &TransferView) -> Result<(), TransferError> {
    view.network.validate()?;
    for (what, value) in [
        ("the amount of data", view.gigabytes),
        ("the time allowed", view.seconds_most),
    ] {
        if !value.is_finite() || value <= 0.0 {
            return Err(TransferError::Amount { what, value });
        }
    }
    if let Some(value) = view.usd_most.filter(|usd| usd.is_nan() || *usd < 0.0) {
        return Err(TransferError::Amount {
            what: "the cost allowed",
            value,
        });
    }
    let regions = view.network.regions.len();
    if view.from == view.to || view.from >= regions || view.to >= regions {
        return Err(TransferError::Ends);
    }
    Ok(())
}

impl TransferView {
    /// The least rate that keeps the time limit.
    #[must_use]
    pub fn gbps_least(&self) -> f64 {
        self.gigabytes * 8.0 / self.seconds_most
    }

    /// A plan from flows of any rate: as many machines as the least rate needs, then as fast as they allow.
    /// None, if a region would need too many.
    pub(super) fn plan_of(&self, flows: &BTreeMap<(usize, usize), f64>) -> Option<TransferPlan> {
        let rate: f64 = flows
            .iter()
            .filter(|((from, _), _)| *from == self.from)
            .map(|(_, gbps)| gbps)
            .sum::<f64>()
            - flows
                .iter()
                .filter(|((_, to), _)| *to == self.from)
                .map(|(_, gbps)| gbps)
                .sum::<f64>();
        if rate <= 0.0 {
            return None;
        }
        let scale = self.gbps_least() / rate;
        let busy = self.busy(flows);
        let mut machines = BTreeMap::new();
        let mut faster = f64::INFINITY;
        for (region, share) in &busy {
            let needed = share * scale;
            let count = (needed - 1e-7).ceil().max(1.0);
            if count > f64::from(self.network.machines_most) {
                return None;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and the most machines"
            )]
            machines.insert(*region, count as u32);
            faster = faster.min(count / needed);
        }
        Some(self.priced(flows, scale * faster.max(1.0), machines))
    }

    /// Machines kept busy by `flows`, by region.
    fn busy(&self, flows: &BTreeMap<(usize, usize), f64>) -> BTreeMap<usize, f64> {
        let (mut sends, mut receives) = (BTreeMap::new(), BTreeMap::new());
        for (from, to, link) in &self.network.links {
            if let Some(gbps) = flows.get(&(*from, *to)) {
                *sends.entry(*from).or_insert(0.0) += gbps / link.gbps;
                *receives.entry(*to).or_insert(0.0) += gbps / link.gbps;
            }
        }
        for (region, share) in receives {
            let most: &mut f64 = sends.entry(region).or_insert(0.0);
            *most = most.max(share);
        }
        sends
    }

    /// The plan of `flows` times `scale` on `machines`.
    pub(super) fn priced(
        &self,
        flows: &BTreeMap<(usize, usize), f64>,
        scale: f64,
        machines: BTreeMap<usize, u32>,
    ) -> TransferPlan {
        let network = &self.network;
        let mut scaled = Vec::new();
        let mut egress_usd_per_s = 0.0;
        for (from, to, link) in &network.links {
            if let Some(gbps) = flows.get(&(*from, *to)) {
                scaled.push((*from, *to, gbps * scale));
                egress_usd_per_s += gbps * scale / 8.0 * link.usd_per_gb;
            }
        }
        let net = |end: usize| -> f64 {
            scaled
                .iter()
                .filter(|(from, ..)| *from == end)
                .map(|(_, _, gbps)| gbps)
                .sum::<f64>()
                - scaled
                    .iter()
                    .filter(|(_, to, _)| *to == end)
                    .map(|(_, _, gbps)| gbps)
                    .sum::<f64>()
        };
        let seconds = self.gigabytes * 8.0 / net(self.from).max(1e-12);
        let machines_usd_per_s: f64 = machines
            .iter()
            .map(|(region, count)| f64::from(*count) * network.machine_usd_per_s(*region))
            .sum();
        TransferPlan {
            flows: scaled,
            machines,
            seconds,
            usd: (egress_usd_per_s + machines_usd_per_s) * seconds,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

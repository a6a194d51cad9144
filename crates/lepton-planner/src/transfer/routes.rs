//! Transfers as shares of a few good routes: greedy, annealing, genetic.
//!
//! Owns: the routes that are worth a try, and the searches over them. Must not know: the
//! exact solver.

use std::collections::BTreeMap;

use rand::Rng as _;

use super::network::Link;
use super::plan::{TransferPlan, TransferView};
use super::search::{Landscape, anneal, evolve};
use crate::Stream;

/// Routes kept: the direct one and the cheapest detours.
const ROUTES_MOST: usize = 40;
/// Regions through which routes of two stops are tried.
const STOPS_MOST: usize = 12;
/// A transfer is divided into so many parts, each on one route.
const PARTS: u32 = 96;
/// Steps of annealing and generations: a few tens of milliseconds each.
const STEPS: u32 = 30_000;
const GENERATIONS: u32 = 250;

/// The routes of one transfer.
pub(super) struct Routes<'a> {
    view: &'a TransferView,
    /// Regions from end to end, cheapest first.
    routes: Vec<Vec<usize>>,
    links: BTreeMap<(usize, usize), Link>,
    /// Flows and use of machines at the least rate, by route and for one part.
    prices: Vec<f64>,
}

/// Parts on each route.
type Shares = Vec<u32>;

impl<'a> Routes<'a> {
    /// None, if nothing leads there with two stops or fewer.
    pub(super) fn of(view: &'a TransferView) -> Option<Self> {
        let links: BTreeMap<(usize, usize), Link> = view
            .network
            .links
            .iter()
            .map(|(from, to, link)| ((*from, *to), *link))
            .collect();
        let hop = |from: usize, to: usize| {
            links
                .get(&(from, to))
                .map(|link| price(view, from, to, link))
        };
        let (from, to) = (view.from, view.to);
        let mut found: Vec<(f64, Vec<usize>)> = hop(from, to)
            .map(|usd| (usd, vec![from, to]))
            .into_iter()
            .collect();
        let others: Vec<usize> = (0..view.network.regions.len())
            .filter(|via| *via != from && *via != to)
            .collect();
        let mut first: Vec<(f64, usize)> = others
            .iter()
            .filter_map(|via| Some((hop(from, *via)?, *via)))
            .collect();
        let mut last: Vec<(f64, usize)> = others
            .iter()
            .filter_map(|via| Some((hop(*via, to)?, *via)))
            .collect();
        for (usd, via) in &first {
            if let Some(rest) = hop(*via, to) {
                found.push((usd + rest, vec![from, *via, to]));
            }
        }
        first.sort_by(|a, b| a.0.total_cmp(&b.0));
        last.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (usd, one) in first.iter().take(STOPS_MOST) {
            for (rest, two) in last.iter().take(STOPS_MOST).filter(|(_, two)| two != one) {
                if let Some(middle) = hop(*one, *two) {
                    found.push((usd + middle + rest, vec![from, *one, *two, to]));
                }
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        // The fastest out of the beginning matter when machines are short, whatever they cost.
        let direct = found.iter().position(|(_, route)| route.len() == 2);
        if let Some(direct) = direct.filter(|at| *at >= ROUTES_MOST) {
            found.swap(direct, ROUTES_MOST - 1);
        }
        found.truncate(ROUTES_MOST);
        let (prices, routes) = found.into_iter().unzip();
        let this = Self {
            view,
            routes,
            links,
            prices,
        };
        (!this.routes.is_empty()).then_some(this)
    }

    /// All on the direct link if its machines suffice; else part by part on the route that is
    /// cheapest with what is already there.
    pub(super) fn greedy(&self) -> Option<TransferPlan> {
        let direct = self.routes.iter().position(|route| route.len() == 2);
        let all_on = |route: usize| {
            let mut shares = vec![0; self.routes.len()];
            shares[route] = PARTS;
            self.plan(&shares)
        };
        if let Some(plan) = direct.and_then(all_on) {
            return Some(plan);
        }
        let mut shares = vec![0; self.routes.len()];
        for _ in 0..PARTS {
            let best = (0..self.routes.len())
                .filter_map(|route| {
                    let mut next = shares.clone();
                    next[route] += 1;
                    let cost = self.cost(&next);
                    cost.is_finite().then_some((cost, route))
                })
                .min_by(|a, b| a.0.total_cmp(&b.0))?;
            shares[best.1] += 1;
        }
        self.plan(&shares)
    }

    pub(super) fn anneal(&self, rng: &mut Stream) -> Option<TransferPlan> {
        let (shares, _) = anneal(self, self.start(), STEPS, rng);
        self.plan(&shares)
    }

    pub(super) fn evolve(&self, rng: &mut Stream) -> Option<TransferPlan> {
        let mut starts: Vec<Shares> = (0..self.routes.len().min(10))
            .map(|route| {
                let mut shares = vec![0; self.routes.len()];
                shares[route] = PARTS;
                shares
            })
            .collect();
        starts.push(self.start());
        let (shares, _) = evolve(self, &starts, GENERATIONS, rng)?;
        self.plan(&shares)
    }

    fn start(&self) -> Shares {
        let cheapest = (0..self.routes.len())
            .min_by(|a, b| self.prices[*a].total_cmp(&self.prices[*b]))
            .unwrap_or(0);
        let mut shares = vec![0; self.routes.len()];
        shares[cheapest] = PARTS;
        shares
    }

    /// Gigabits a second on each link at the least rate.
    fn flows(&self, shares: &Shares) -> BTreeMap<(usize, usize), f64> {
        let part = self.view.gbps_least() / f64::from(PARTS);
        let mut flows = BTreeMap::new();
        for (route, share) in self
            .routes
            .iter()
            .zip(shares)
            .filter(|(_, share)| **share > 0)
        {
            for hop in route.windows(2) {
                *flows.entry((hop[0], hop[1])).or_insert(0.0) += part * f64::from(*share);
            }
        }
        flows
    }

    fn plan(&self, shares: &Shares) -> Option<TransferPlan> {
        let parts: u32 = shares.iter().sum();
        (parts == PARTS)
            .then(|| self.view.plan_of(&self.flows(shares)))
            .flatten()
    }
}

/// Dollars for a gigabyte over a link, its machines at both ends used to the full.
fn price(view: &TransferView, from: usize, to: usize, link: &Link) -> f64 {
    let machines = view.network.machine_usd_per_s(from) + view.network.machine_usd_per_s(to);
    link.usd_per_gb + machines / 2.0 * 8.0 / link.gbps
}

/// What a machine too many costs, in machines: far more than any that may be rented.
const TOO_MANY: f64 = 1_000.0;

impl Landscape for Routes<'_> {
    type Point = Shares;

    /// Dollars for the transfer; machines beyond the limit are priced out of it.
    fn cost(&self, shares: &Shares) -> f64 {
        let regions = self.view.network.regions.len();
        let (mut sends, mut receives) = (vec![0.0; regions], vec![0.0; regions]);
        let parts: u32 = shares.iter().sum();
        let part = self.view.gbps_least() / f64::from(PARTS);
        let mut egress = 0.0;
        for (route, share) in self
            .routes
            .iter()
            .zip(shares)
            .filter(|(_, share)| **share > 0)
        {
            let gbps = part * f64::from(*share);
            for hop in route.windows(2) {
                let link = &self.links[&(hop[0], hop[1])];
                sends[hop[0]] += gbps / link.gbps;
                receives[hop[1]] += gbps / link.gbps;
                egress += gbps / 8.0 * link.usd_per_gb;
            }
        }
        let most = f64::from(self.view.network.machines_most);
        let (mut machines, mut faster, mut beyond) = (0.0, f64::INFINITY, 0.0);
        for region in 0..regions {
            let needed: f64 = f64::max(sends[region], receives[region]);
            if needed > 0.0 {
                let count = (needed - 1e-7).ceil().max(1.0);
                machines += count * self.view.network.machine_usd_per_s(region);
                faster = faster.min(count / needed);
                beyond += (count - most).max(0.0);
            }
        }
        // At `faster` times the rate the machines are paid for less long.
        let rate_share = f64::from(parts.max(1)) / f64::from(PARTS);
        let seconds = self.view.seconds_most / rate_share;
        let egress_usd = egress * self.view.seconds_most / rate_share;
        let penalty = beyond * TOO_MANY * (egress_usd + 1.0);
        egress_usd + machines * seconds / faster.max(1.0) + penalty
    }

    fn step(&self, shares: &Shares, rng: &mut Stream) -> Shares {
        let mut next = shares.clone();
        let used: Vec<usize> = (0..next.len()).filter(|route| next[*route] > 0).collect();
        let from = used[rng.random_range(0..used.len())];
        // Most moves go to what is cheap or used already: there the optimum lies.
        let to = match rng.random_range(0..3) {
            0 => used[rng.random_range(0..used.len())],
            1 => rng.random_range(0..next.len().min(8)),
            _ => rng.random_range(0..next.len()),
        };
        let most = next[from];
        let parts = if rng.random_range(0..3) == 0 {
            most
        } else {
            rng.random_range(1..=most.min(12))
        };
        next[from] -= parts;
        next[to] += parts;
        next
    }

    fn cross(&self, one: &Shares, other: &Shares, rng: &mut Stream) -> Shares {
        let mut child: Shares = one
            .iter()
            .zip(other)
            .map(|(a, b)| if rng.random_range(0..2) == 0 { *a } else { *b })
            .collect();
        // As many parts as before: the surplus goes, the lack comes, from the cheap end on.
        let mut parts: u32 = child.iter().sum();
        for share in child.iter_mut().rev() {
            let surplus = parts.saturating_sub(PARTS).min(*share);
            *share -= surplus;
            parts -= surplus;
        }
        if let Some(lacking) = child.iter_mut().zip(one).find(|(_, a)| **a > 0) {
            *lacking.0 += PARTS - parts;
        }
        child
    }
}

//! Where to keep a dataset that several regions read.
//!
//! Owns: the copies, and who reads which. Must not know: how bytes move.
//!
//! A copy costs its storage every month and its way there once; a read costs the way from the
//! copy that is read. Which copies to keep is uncapacitated facility location: exact by
//! mixed-integer programming, by annealing and a genetic algorithm beyond.

use std::collections::{BTreeMap, BTreeSet};

use microlp::{ComparisonOp, OptimizationDirection, Problem, SolveOptions, Variable};
use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::network::Network;
use super::plan::Method;
use super::search::{Landscape, anneal, evolve};
use crate::{PlanRng, Stream};

/// Nodes of branch and bound: the relaxation of these problems is nearly always whole already.
const NODES_MOST: u64 = 400;
const STEPS: u32 = 20_000;
const GENERATIONS: u32 = 150;

/// Everything that [`place`] looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementView {
    /// Regions, and what a gigabyte costs between them.
    pub network: Network,
    /// Dollars a gigabyte and month, by region; where there is none, nothing can be kept.
    pub storage_usd_per_gb_month: Vec<Option<f64>>,
    /// Where the data is now.
    pub home: usize,
    /// How much.
    pub gigabytes: f64,
    /// Gigabytes read a month, by region.
    pub reads_gb_per_month: BTreeMap<usize, f64>,
    /// Regions that the data may not leave for: where copies are allowed; empty for anywhere.
    #[serde(default)]
    pub allowed: BTreeSet<usize>,
    /// A reader must get at least so much from its copy, unless it is in its region: the limit on time.
    #[serde(default)]
    pub gbps_least: f64,
    /// Months over which the way of a copy is written off.
    pub months: f64,
    /// The most it may cost a month.
    pub usd_most_per_month: Option<f64>,
}

/// Which copies there are, and who reads which.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementPlan {
    /// Regions with a copy.
    pub copies: BTreeSet<usize>,
    /// The copy that each reading region reads.
    pub reads_from: BTreeMap<usize, usize>,
    /// Dollars a month.
    pub usd_per_month: f64,
    /// No placement costs less.
    pub bound_usd_per_month: f64,
}

/// Why there is no placement.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlacementError {
    /// The network makes no sense.
    #[error("the network cannot be planned on")]
    Network(#[from] super::network::NetworkFault),
    /// An amount that is not a number of zero or more, or a region that is not there.
    #[error("{what} makes no sense")]
    Senseless {
        /// What.
        what: &'static str,
    },
    /// A reader that no allowed copy can serve.
    #[error("`{region}` can be served by no copy that is allowed and fast enough")]
    Unserved {
        /// The reader.
        region: String,
    },
    /// The limits on time and cost contradict each other.
    #[error(
        "the cheapest placement found costs ${usd:.2} a month where ${usd_most:.2} may be spent; none costs less than ${bound_usd:.2}"
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

/// The cheapest placement that a method finds, with a bound.
///
/// # Errors
/// A view that makes no sense, or limits that nothing keeps.
pub fn place(
    view: &PlacementView,
    method: Method,
    rng: &PlanRng,
) -> Result<PlacementPlan, PlacementError> {
    validate(view)?;
    let costs = Costs::of(view)?;
    let mut stream = rng.stream("placement", view.home as u128);
    let start = costs.greedy();
    let (exact, bound) = costs.exact();
    let copies = match method {
        Method::Greedy => start,
        Method::Annealing => anneal(&costs, start, STEPS, &mut stream).0,
        Method::Genetic => {
            let one_each = (0..costs.sites.len())
                .map(|site| (0..costs.sites.len()).map(|other| other == site).collect());
            let starts: Vec<Vec<bool>> = one_each.take(10).chain([start.clone()]).collect();
            evolve(&costs, &starts, GENERATIONS, &mut stream).map_or(start, |(copies, _)| copies)
        }
        Method::Milp => exact.unwrap_or(start),
        Method::Lepton => {
            let annealed = anneal(&costs, start, STEPS, &mut stream).0;
            exact
                .filter(|exact| costs.cost(exact) <= costs.cost(&annealed))
                .unwrap_or(annealed)
        }
    };
    let plan = costs.plan(&copies, bound);
    match view
        .usd_most_per_month
        .filter(|most| plan.usd_per_month > *most)
    {
        Some(usd_most) => Err(PlacementError::TooDear {
            usd: plan.usd_per_month,
            usd_most,
            bound_usd: plan.bound_usd_per_month,
        }),
        None => Ok(plan),
    }
}

fn validate(view: &PlacementView) -> Result<(), PlacementError> {
    view.network.validate()?;
    let senseless = |what| Err(PlacementError::Senseless { what });
    let regions = view.network.regions.len();
    let sound = |value: f64| value.is_finite() && value >= 0.0;
    if view.home >= regions || view.storage_usd_per_gb_month.len() != regions {
        return senseless("the place of the data");
    }
    if !sound(view.gigabytes) || !sound(view.gbps_least) {
        return senseless("an amount of data or a throughput");
    }
    if !view.months.is_finite() || view.months <= 0.0 {
        return senseless("a time of no months");
    }
    if view
        .storage_usd_per_gb_month
        .iter()
        .flatten()
        .any(|usd| !sound(*usd))
    {
        return senseless("a price of storage");
    }
    if view
        .reads_gb_per_month
        .iter()
        .any(|(region, gb)| *region >= regions || !sound(*gb))
    {
        return senseless("an amount that is read");
    }
    Ok(())
}

/// The problem as costs: of each site, and of each reader at each site.
struct Costs {
    /// Regions where a copy may be.
    sites: Vec<usize>,
    readers: Vec<usize>,
    keep_usd: Vec<f64>,
    /// By reader, by site; infinite where the site cannot serve.
    read_usd: Vec<Vec<f64>>,
}

impl Costs {
    fn of(view: &PlacementView) -> Result<Self, PlacementError> {
        let links: BTreeMap<(usize, usize), (f64, f64)> = view
            .network
            .links
            .iter()
            .map(|(from, to, link)| ((*from, *to), (link.usd_per_gb, link.gbps)))
            .collect();
        let way = |from: usize, to: usize| {
            if from == to {
                Some((0.0, f64::INFINITY))
            } else {
                links.get(&(from, to)).copied()
            }
        };
        let may = |site: usize| view.allowed.is_empty() || view.allowed.contains(&site);
        let mut this = Self {
            sites: Vec::new(),
            readers: Vec::new(),
            keep_usd: Vec::new(),
            read_usd: Vec::new(),
        };
        for (site, usd) in view.storage_usd_per_gb_month.iter().enumerate() {
            if let (Some(usd), Some((moved, _)), true) = (usd, way(view.home, site), may(site)) {
                this.sites.push(site);
                this.keep_usd
                    .push(view.gigabytes * (usd + moved / view.months));
            }
        }
        for (reader, gigabytes) in &view.reads_gb_per_month {
            let costs: Vec<f64> = this
                .sites
                .iter()
                .map(|site| match way(*site, *reader) {
                    Some((usd, gbps)) if gbps >= view.gbps_least => usd * gigabytes,
                    _ => f64::INFINITY,
                })
                .collect();
            if costs.iter().all(|usd| usd.is_infinite()) {
                return Err(PlacementError::Unserved {
                    region: view.network.regions[*reader].clone(),
                });
            }
            this.readers.push(*reader);
            this.read_usd.push(costs);
        }
        if this.sites.is_empty() {
            return Err(PlacementError::Unserved {
                region: view.network.regions[view.home].clone(),
            });
        }
        Ok(this)
    }

    /// Copies are added while one makes it cheaper.
    fn greedy(&self) -> Vec<bool> {
        let mut copies = vec![false; self.sites.len()];
        loop {
            let here = self.cost(&copies);
            let best = (0..copies.len())
                .filter(|site| !copies[*site])
                .map(|site| {
                    let mut next = copies.clone();
                    next[site] = true;
                    (self.cost(&next), site)
                })
                .min_by(|a, b| a.0.total_cmp(&b.0));
            match best {
                Some((cost, site)) if cost < here => copies[site] = true,
                _ => return copies,
            }
        }
    }

    /// The optimum, if the nodes suffice, and a bound in any case.
    fn exact(&self) -> (Option<Vec<bool>>, f64) {
        let mut problem = Problem::new(OptimizationDirection::Minimize);
        let open: Vec<Variable> = self
            .keep_usd
            .iter()
            .map(|usd| problem.add_binary_var(*usd))
            .collect();
        // At least one copy, even if nobody reads.
        problem.add_constraint(
            open.iter().map(|copy| (*copy, 1.0)).collect::<Vec<_>>(),
            ComparisonOp::Ge,
            1.0,
        );
        for costs in &self.read_usd {
            let mut served = Vec::new();
            for (site, usd) in costs.iter().enumerate().filter(|(_, usd)| usd.is_finite()) {
                let share = problem.add_var(*usd, (0.0, 1.0));
                problem.add_constraint([(share, 1.0), (open[site], -1.0)], ComparisonOp::Le, 0.0);
                served.push((share, 1.0));
            }
            problem.add_constraint(served, ComparisonOp::Eq, 1.0);
        }
        let mut options = SolveOptions::default();
        options.node_limit = Some(NODES_MOST);
        let Ok(outcome) = problem.solve_with(options) else {
            return (None, 0.0);
        };
        let copies = outcome.solution().map(|solution| {
            open.iter()
                .map(|copy| solution.var_value(*copy) > 0.5)
                .collect()
        });
        let bound = match outcome.solution() {
            Some(solution) if outcome.is_optimal() => solution.objective(),
            _ => outcome.stats().best_bound.unwrap_or(0.0),
        };
        (copies, bound)
    }

    fn plan(&self, copies: &[bool], bound: f64) -> PlacementPlan {
        let mut reads_from = BTreeMap::new();
        for (reader, costs) in self.readers.iter().zip(&self.read_usd) {
            let cheapest = (0..copies.len())
                .filter(|site| copies[*site])
                .min_by(|a, b| costs[*a].total_cmp(&costs[*b]));
            if let Some(site) = cheapest {
                reads_from.insert(*reader, self.sites[site]);
            }
        }
        let usd = self.cost(&copies.to_vec());
        PlacementPlan {
            copies: self
                .sites
                .iter()
                .zip(copies)
                .filter_map(|(site, kept)| kept.then_some(*site))
                .collect(),
            reads_from,
            usd_per_month: usd,
            bound_usd_per_month: bound.min(usd),
        }
    }
}

/// Dollars a reader without a copy counts for: more than any placement costs.
const UNSERVED_USD: f64 = 1e12;

impl Landscape for Costs {
    type Point = Vec<bool>;

    fn cost(&self, copies: &Vec<bool>) -> f64 {
        let kept: f64 = self
            .keep_usd
            .iter()
            .zip(copies)
            .filter(|(_, kept)| **kept)
            .map(|(usd, _)| usd)
            .sum();
        if !copies.contains(&true) {
            #[expect(clippy::cast_precision_loss, reason = "few readers")]
            return UNSERVED_USD * (self.readers.len() + 1) as f64;
        }
        let read: f64 = self
            .read_usd
            .iter()
            .map(|costs| {
                let least = costs
                    .iter()
                    .zip(copies)
                    .filter(|(_, kept)| **kept)
                    .map(|(usd, _)| *usd);
                least.fold(UNSERVED_USD, f64::min)
            })
            .sum();
        kept + read
    }

    fn step(&self, copies: &Vec<bool>, rng: &mut Stream) -> Vec<bool> {
        let mut next = copies.clone();
        let site = rng.random_range(0..next.len());
        next[site] = !next[site];
        // Half of the moves shift a copy instead of adding or dropping one.
        if rng.random_range(0..2) == 0 {
            let other = rng.random_range(0..next.len());
            next[other] = copies[site];
        }
        next
    }

    fn cross(&self, one: &Vec<bool>, other: &Vec<bool>, rng: &mut Stream) -> Vec<bool> {
        one.iter()
            .zip(other)
            .map(|(a, b)| if rng.random_range(0..2) == 0 { *a } else { *b })
            .collect()
    }
}

/// A rule that a placement breaks.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlacementFinding {
    /// A copy where none may be.
    #[error("a copy in region {region}, where none may be kept")]
    Forbidden {
        /// Where.
        region: usize,
    },
    /// A reader without a copy, or with one that is too slow or not there.
    #[error("region {region} reads from no copy that can serve it")]
    Unserved {
        /// Where.
        region: usize,
    },
    /// Another cost than the plan says, or more than may be spent.
    #[error(
        "the placement costs ${usd:.4} a month, which is not what it says or more than may be spent"
    )]
    Cost {
        /// Worked out.
        usd: f64,
    },
}

/// Every rule that `plan` breaks on `view`, by its own reading of them.
#[must_use]
pub fn check_placement(view: &PlacementView, plan: &PlacementPlan) -> Vec<PlacementFinding> {
    let mut findings = Vec::new();
    let link = |from: usize, to: usize| {
        view.network
            .links
            .iter()
            .find(|(a, b, _)| *a == from && *b == to)
            .map(|(_, _, link)| *link)
    };
    let mut usd = 0.0;
    for copy in &plan.copies {
        let storage = view.storage_usd_per_gb_month.get(*copy).copied().flatten();
        let outside = !view.allowed.is_empty() && !view.allowed.contains(copy);
        let moved = if *copy == view.home {
            Some(0.0)
        } else {
            link(view.home, *copy).map(|link| link.usd_per_gb)
        };
        match (storage, moved) {
            (Some(storage), Some(moved)) if !outside => {
                usd += storage * view.gigabytes + moved * view.gigabytes / view.months;
            }
            _ => findings.push(PlacementFinding::Forbidden { region: *copy }),
        }
    }
    for (reader, gigabytes) in &view.reads_gb_per_month {
        let copy = plan
            .reads_from
            .get(reader)
            .filter(|copy| plan.copies.contains(copy));
        match copy {
            Some(copy) if copy == reader => {}
            Some(copy) => match link(*copy, *reader).filter(|link| link.gbps >= view.gbps_least) {
                Some(link) => usd += link.usd_per_gb * gigabytes,
                None => findings.push(PlacementFinding::Unserved { region: *reader }),
            },
            None => findings.push(PlacementFinding::Unserved { region: *reader }),
        }
    }
    let off = (usd - plan.usd_per_month).abs() > 1e-6 * usd.abs().max(1.0);
    if off
        || view
            .usd_most_per_month
            .is_some_and(|most| usd > most * (1.0 + 1e-9))
    {
        findings.push(PlacementFinding::Cost { usd });
    }
    findings
}

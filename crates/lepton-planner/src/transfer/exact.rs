//! The least cost of a transfer by mixed-integer programming, with a bound that stands.
//!
//! Owns: the model, and the certificate. Must not know: the searches.
//!
//! The cost of a gigabyte is a ratio: dollars a second over gigabytes a second, where both the
//! number of machines and the rate are free. Dinkelbach's method (1967) solves it exactly by
//! a few mixed-integer programmes `min dollars − λ·gigabytes`: λ is the ratio of the best plan so
//! far, and is the least ratio once the programme's optimum is zero. A lower bound `F` of the
//! programme bounds the ratio by `λ + F / least rate`, also where the nodes ran out.

use std::collections::BTreeMap;

use microlp::{ComparisonOp, OptimizationDirection, Problem, SolveOptions, Variable};

use super::plan::{TransferPlan, TransferView};

/// Nodes of branch and bound in one programme.
const NODES_MOST: u64 = 400;
/// Programmes in one solve; the method converges in three or four.
const PROGRAMMES_MOST: usize = 8;
/// Ratios as close as this, relatively, are equal.
const PRECISION: f64 = 1e-6;

/// What is known after a solve.
pub(super) struct Solved {
    pub plan: Option<TransferPlan>,
    pub bound_usd: f64,
    pub nodes: u64,
}

pub(super) fn solve(view: &TransferView, seed: Option<&TransferPlan>) -> Solved {
    let mut best = seed.cloned();
    let mut solved = Solved {
        plan: None,
        bound_usd: 0.0,
        nodes: 0,
    };
    // Without a plan to begin with, any ratio above all others will do.
    let mut ratio = best
        .as_ref()
        .map_or_else(|| dearest(view), |plan| plan.usd / view.gigabytes);
    for _ in 0..PROGRAMMES_MOST {
        let Some(step) = Programme::of(view, ratio).solve() else {
            break;
        };
        solved.nodes += step.nodes;
        let least_rate = view.gbps_least() / 8.0;
        let bound = (ratio + step.bound.min(0.0) / least_rate) * view.gigabytes;
        solved.bound_usd = solved.bound_usd.max(bound);
        let Some(found) = step.plan else { break };
        let next = found.usd / view.gigabytes;
        let better = next < ratio * (1.0 - PRECISION);
        if best.as_ref().is_none_or(|best| found.usd < best.usd) {
            best = Some(found);
        }
        if !better {
            break;
        }
        ratio = next;
    }
    solved.plan = best;
    solved
}

/// Dollars a gigabyte above any plan without loops.
fn dearest(view: &TransferView) -> f64 {
    let network = &view.network;
    let egress: f64 = network
        .links
        .iter()
        .map(|(_, _, link)| link.usd_per_gb)
        .fold(0.0, f64::max);
    let machines: f64 = (0..network.regions.len())
        .map(|region| network.machine_usd_per_s(region))
        .sum();
    let most = f64::from(network.machines_most);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand regions at most")]
    let regions = network.regions.len() as f64;
    egress * regions + machines * most * 8.0 / view.gbps_least()
}

struct Programme<'a> {
    view: &'a TransferView,
    problem: Problem,
    flows: Vec<(usize, usize, Variable)>,
    machines: Vec<Variable>,
}

struct Step {
    plan: Option<TransferPlan>,
    bound: f64,
    nodes: u64,
}

impl<'a> Programme<'a> {
    fn of(view: &'a TransferView, ratio: f64) -> Self {
        let network = &view.network;
        let mut problem = Problem::new(OptimizationDirection::Minimize);
        let most = i32::try_from(network.machines_most).unwrap_or(i32::MAX);
        let machines: Vec<Variable> = (0..network.regions.len())
            .map(|region| problem.add_integer_var(network.machine_usd_per_s(region), (0, most)))
            .collect();
        let rate = problem.add_var(-ratio / 8.0, (view.gbps_least(), f64::INFINITY));
        let mut flows = Vec::new();
        let mut balance: Vec<Vec<(Variable, f64)>> = vec![Vec::new(); network.regions.len()];
        let (mut sends, mut receives) = (balance.clone(), balance.clone());
        for (from, to, link) in &network.links {
            // Nothing comes back to the beginning, or leaves the end.
            if *to == view.from || *from == view.to {
                continue;
            }
            let flow = problem.add_var(link.usd_per_gb / 8.0, (0.0, f64::INFINITY));
            flows.push((*from, *to, flow));
            balance[*from].push((flow, 1.0));
            balance[*to].push((flow, -1.0));
            sends[*from].push((flow, 1.0 / link.gbps));
            receives[*to].push((flow, 1.0 / link.gbps));
        }
        for (region, mut row) in balance.into_iter().enumerate() {
            if region == view.from {
                row.push((rate, -1.0));
            } else if region == view.to {
                row.push((rate, 1.0));
            }
            problem.add_constraint(row, ComparisonOp::Eq, 0.0);
        }
        for rows in [sends, receives] {
            for (region, mut row) in rows
                .into_iter()
                .enumerate()
                .filter(|(_, row)| !row.is_empty())
            {
                row.push((machines[region], -1.0));
                problem.add_constraint(row, ComparisonOp::Le, 0.0);
            }
        }
        Self {
            view,
            problem,
            flows,
            machines,
        }
    }

    fn solve(self) -> Option<Step> {
        let mut options = SolveOptions::default();
        options.node_limit = Some(NODES_MOST);
        let outcome = self.problem.solve_with(options).ok()?;
        let stats = outcome.stats();
        let solution = outcome.solution();
        let bound = if outcome.is_optimal() {
            solution.map(microlp::Solution::objective)
        } else {
            stats.best_bound
        };
        let plan = solution.map(|solution| {
            let flows: BTreeMap<(usize, usize), f64> = self
                .flows
                .iter()
                .filter_map(|(from, to, flow)| {
                    let gbps = solution.var_value(*flow);
                    (gbps > 1e-7).then_some(((*from, *to), gbps))
                })
                .collect();
            let machines: BTreeMap<usize, u32> = self
                .machines
                .iter()
                .enumerate()
                .filter_map(|(region, count)| {
                    let count = solution.var_value(*count).round();
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "within the bounds of the variable"
                    )]
                    (count > 0.5).then_some((region, count as u32))
                })
                .collect();
            let exact = self.view.priced(&flows, 1.0, machines);
            // The same flows on the fewest machines for the least rate may cost less still.
            match self.view.plan_of(&flows) {
                Some(slower) if slower.usd < exact.usd => slower,
                _ => exact,
            }
        });
        Some(Step {
            plan,
            bound: bound.unwrap_or(f64::NEG_INFINITY),
            nodes: stats.nodes_solved,
        })
    }
}

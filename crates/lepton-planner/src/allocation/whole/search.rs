//! The search for whole machines: branch and bound over linear relaxations.
//!
//! Owns: the programs, which box is divided and where. Must not know: what a certificate is worth.

use microlp::{ComparisonOp, OptimizationDirection, Problem as Program, Variable};

use super::{Leaf, Need, WHOLE};

/// Boxes that are looked at: a limit of steps, never of time.
pub(super) const BOXES_MOST: usize = 4_000;

/// Counts of machines that need not be whole, and what part of each load they hold.
type Relaxed = (Vec<f64>, Vec<Vec<f64>>);

/// Branch and bound over boxes of choices.
pub(super) struct Search<'a> {
    need: &'a Need,
    /// The cheapest machines found, and what part of each load they hold.
    pub(super) best: Option<(Vec<u32>, Vec<Vec<f64>>)>,
    /// The boxes that were closed.
    pub(super) proof: Vec<Leaf>,
    steps: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(need: &'a Need) -> Self {
        Self {
            need,
            best: None,
            proof: Vec::new(),
            steps: 0,
        }
    }

    /// Depth first, the half nearer to the relaxation first.
    pub(super) fn look(&mut self, within: Vec<(u32, u32)>) {
        let mut open = vec![within];
        while let Some(within) = open.pop() {
            self.steps += 1;
            let Some((machines, parts)) = relaxed(self.need, &within) else {
                let prices = priced(self.need, &within, true);
                self.close(within, prices, true);
                continue;
            };
            // The relaxation rounded up holds what it holds.
            let up: Vec<u32> = machines
                .iter()
                .zip(&within)
                .map(|(count, (least, most))| ceiling(*count).clamp(*least, *most))
                .collect();
            let cost = self.need.cost(&up);
            let best = self.best.as_ref();
            if best.is_none_or(|(best, _)| cost < self.need.cost(best) - WHOLE) {
                self.best = Some((up, parts));
            }
            let prices = priced(self.need, &within, false);
            let leaf = Leaf {
                within: within.clone(),
                prices: prices.clone().unwrap_or_default(),
                empty: false,
            };
            let bar = self
                .best
                .as_ref()
                .map_or(f64::INFINITY, |it| self.need.cost(&it.0));
            let split = machines
                .iter()
                .enumerate()
                .map(|(kind, count)| (kind, (count - count.round()).abs()))
                .filter(|(_, away)| *away > WHOLE)
                .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
            let hopeless = self.need.proven(&leaf) >= bar - WHOLE * (1.0 + bar.abs());
            let (Some((kind, _)), false) = (split, hopeless || self.steps >= BOXES_MOST) else {
                self.close(within, prices, false);
                continue;
            };
            let cut = ceiling(machines[kind]).max(1);
            let (mut below, mut above) = (within.clone(), within);
            below[kind].1 = cut - 1;
            above[kind].0 = cut;
            open.push(below);
            open.push(above);
        }
    }

    fn close(&mut self, within: Vec<(u32, u32)>, prices: Option<Vec<Vec<f64>>>, empty: bool) {
        let none = || {
            let resources = self.need.kinds.first().map_or(0, |kind| kind.has.len());
            vec![vec![0.0; resources]; self.need.kinds.len()]
        };
        self.proof.push(Leaf {
            within,
            prices: prices.unwrap_or_else(none),
            empty,
        });
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between the limits of a u32, and the conversion saturates"
)]
fn ceiling(count: f64) -> u32 {
    (count - WHOLE).ceil().max(0.0) as u32
}

/// Machines and parts of loads, if parts of machines could be had.
pub(super) fn relaxed(need: &Need, within: &[(u32, u32)]) -> Option<Relaxed> {
    let mut program = Program::new(OptimizationDirection::Minimize);
    let machines: Vec<Variable> = need
        .kinds
        .iter()
        .zip(within)
        .map(|(kind, (least, most))| {
            program.add_var(kind.usd_per_hour, (f64::from(*least), f64::from(*most)))
        })
        .collect();
    let parts: Vec<Vec<Option<Variable>>> = need
        .loads
        .iter()
        .map(|load| {
            let allowed = load.allowed.iter();
            allowed
                .map(|yes| yes.then(|| program.add_var(0.0, (0.0, 1.0))))
                .collect()
        })
        .collect();
    for of_load in &parts {
        let row: Vec<_> = of_load.iter().flatten().map(|part| (*part, 1.0)).collect();
        if row.is_empty() {
            return None;
        }
        program.add_constraint(row, ComparisonOp::Eq, 1.0);
    }
    for (number, kind) in need.kinds.iter().enumerate() {
        for (resource, has) in kind.has.iter().enumerate() {
            let mut row = vec![(machines[number], *has)];
            for (load, of_load) in need.loads.iter().zip(&parts) {
                row.extend(of_load[number].map(|part| (part, -load.needs[resource])));
            }
            program.add_constraint(row, ComparisonOp::Ge, 0.0);
        }
    }
    let outcome = program.solve().ok()?;
    let solution = outcome.solution()?;
    let part = |it: &Option<Variable>| it.map_or(0.0, |it| solution.var_value(it).clamp(0.0, 1.0));
    Some((
        machines.iter().map(|it| solution.var_value(*it)).collect(),
        parts
            .iter()
            .map(|all| all.iter().map(part).collect())
            .collect(),
    ))
}

/// Prices that prove most about a box: the dual of the relaxation; with `empty`, a proof that the box
/// holds nothing.
pub(super) fn priced(need: &Need, within: &[(u32, u32)], empty: bool) -> Option<Vec<Vec<f64>>> {
    let mut program = Program::new(OptimizationDirection::Maximize);
    let all = (0.0, f64::INFINITY);
    // A proof of emptiness may be scaled at will: its prices are at most one.
    let price_most = if empty { 1.0 } else { f64::INFINITY };
    let mut prices = Vec::new();
    for (kind, (least, most)) in need.kinds.iter().zip(within) {
        let of_kind: Vec<Variable> = kind
            .has
            .iter()
            .map(|_| program.add_var(0.0, (0.0, price_most)))
            .collect();
        let fewest = program.add_var(f64::from(*least), all);
        let surplus = program.add_var(-f64::from(*most), all);
        let mut row: Vec<_> = of_kind
            .iter()
            .copied()
            .zip(kind.has.iter().copied())
            .collect();
        row.extend([(fewest, 1.0), (surplus, -1.0)]);
        let cost = if empty { 0.0 } else { kind.usd_per_hour };
        program.add_constraint(row, ComparisonOp::Le, cost);
        prices.push(of_kind);
    }
    for load in &need.loads {
        let held = program.add_var(1.0, all);
        for (of_kind, yes) in prices.iter().zip(&load.allowed) {
            if *yes {
                let mut row = vec![(held, 1.0)];
                let needs = of_kind.iter().copied().zip(&load.needs);
                row.extend(needs.map(|(price, needs)| (price, -needs)));
                program.add_constraint(row, ComparisonOp::Le, 0.0);
            }
        }
    }
    let outcome = program.solve().ok()?;
    let solution = outcome.solution()?;
    let value = |price: &Variable| solution.var_value(*price).max(0.0);
    Some(
        prices
            .iter()
            .map(|all| all.iter().map(value).collect())
            .collect(),
    )
}

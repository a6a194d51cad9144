//! Whole machines: the cheapest that hold divisible loads, with a proof that nothing is cheaper.
//!
//! Owns: the mixed-integer program, its branch and bound, and the certificate. Must not know: the
//! division of machines that are there already.
//!
//! The certificate is the tree itself: boxes that together hold every choice of machines, each with
//! prices of its resources. For any prices that are not negative, a load costs at least what it
//! would where its parts are cheapest, and a machine at least its price less what its resources are
//! worth, times the fewest or the most of the box: Lagrange's relaxation, which needs no solver to
//! be believed. [`Fleet::verify`] adds that up again.

mod certificate;

use microlp::{ComparisonOp, OptimizationDirection, Problem as Program, Variable};
use serde::{Deserialize, Serialize};

/// Boxes that are looked at: a limit of steps, never of time.
const BOXES_MOST: usize = 4_000;
/// What is as near to a whole number is one.
const WHOLE: f64 = 1e-6;

/// Machines of one type that can be had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// How many can be had.
    pub count: u32,
    /// What one costs an hour, in dollars.
    pub usd_per_hour: f64,
    /// What one has, of every resource.
    pub has: Vec<f64>,
}

/// A load that can be divided at will, its resources together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// What it needs, of every resource.
    pub needs: Vec<f64>,
    /// For every kind, whether parts of it may be there.
    pub allowed: Vec<bool>,
}

/// The problem.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// What can be had.
    pub kinds: Vec<Kind>,
    /// What must be held.
    pub loads: Vec<Load>,
}

/// Whole machines, and the proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    /// For every kind, how many.
    pub machines: Vec<u32>,
    /// For every load and kind, which part of the load is there.
    pub parts: Vec<Vec<f64>>,
    /// What the machines cost an hour, in dollars.
    pub usd_per_hour: f64,
    /// No choice costs less.
    pub bound_usd_per_hour: f64,
    /// The tree: boxes that together hold every choice.
    pub proof: Vec<Leaf>,
    /// The prices before the first branch, for [`Fleet::in_words`].
    pub prices: Vec<Vec<f64>>,
}

/// One box of the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaf {
    /// For every kind, the fewest and the most.
    pub within: Vec<(u32, u32)>,
    /// For every kind and resource, what a unit of it is worth, in dollars an hour.
    pub prices: Vec<Vec<f64>>,
    /// The prices prove that the box holds no choice that suffices; else that none is cheaper than
    /// the bound.
    pub empty: bool,
}

/// What a certificate comes to when it is added up again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proof {
    /// By how much the worst limit is overstepped.
    pub overstep: f64,
    /// Cost less what the boxes prove, in dollars an hour.
    pub gap_usd_per_hour: f64,
    /// Whether the boxes hold every choice.
    pub complete: bool,
}

/// A need without an answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NeedError {
    /// A number that is negative, endless or not one.
    #[error("`{name}` has an amount of {value}, and must have numbers that are not negative")]
    Number {
        /// Whose.
        name: String,
        /// What was given.
        value: f64,
    },
    /// Lists of another length than the others.
    #[error("`{name}` gives {given} amounts where {wanted} are expected")]
    Shape {
        /// Whose.
        name: String,
        /// How many it gives.
        given: usize,
        /// How many are expected.
        wanted: usize,
    },
    /// Not even all machines suffice.
    #[error("not even all the machines that can be had suffice")]
    Infeasible,
    /// The limit of steps was reached without an answer.
    #[error("no answer was found within {BOXES_MOST} steps")]
    GaveUp,
}

impl Need {
    fn validate(&self) -> Result<(), NeedError> {
        let resources = self.kinds.first().map_or(0, |kind| kind.has.len());
        let shape = |name: &str, given: usize, wanted: usize| {
            let name = name.to_owned();
            (given == wanted).then_some(()).ok_or(NeedError::Shape {
                name,
                given,
                wanted,
            })
        };
        let numbers = |name: &str, values: &[f64]| {
            let bad = values.iter().find(|it| !it.is_finite() || **it < 0.0);
            bad.map_or(Ok(()), |value| {
                Err(NeedError::Number {
                    name: name.to_owned(),
                    value: *value,
                })
            })
        };
        for kind in &self.kinds {
            shape(&kind.name, kind.has.len(), resources)?;
            numbers(&kind.name, &kind.has)?;
            numbers(&kind.name, &[kind.usd_per_hour])?;
        }
        for load in &self.loads {
            shape(&load.name, load.needs.len(), resources)?;
            shape(&load.name, load.allowed.len(), self.kinds.len())?;
            numbers(&load.name, &load.needs)?;
        }
        Ok(())
    }

    fn cost(&self, machines: &[u32]) -> f64 {
        let each = self.kinds.iter().zip(machines);
        each.map(|(kind, count)| kind.usd_per_hour * f64::from(*count))
            .sum()
    }

    /// What `load` costs at least at these prices: all of it where it is cheapest.
    fn held_for(&self, load: &Load, prices: &[Vec<f64>]) -> f64 {
        let allowed = prices.iter().zip(&load.allowed).filter(|(_, yes)| **yes);
        let cheapest = allowed
            .map(|(prices, _)| worth(&load.needs, prices))
            .fold(f64::INFINITY, f64::min);
        // Without any kind, no price is high enough.
        cheapest
    }

    /// What every choice within the box costs at least, by these prices; with `empty`, above zero if
    /// there is none.
    fn proven(&self, leaf: &Leaf) -> f64 {
        let below = |price: &f64| price.is_nan() || *price < 0.0;
        if leaf.prices.iter().flatten().any(below) {
            return f64::NEG_INFINITY;
        }
        let loads: f64 = self
            .loads
            .iter()
            .map(|load| self.held_for(load, &leaf.prices))
            .sum();
        let kinds = self.kinds.iter().zip(&leaf.within).zip(&leaf.prices);
        let machines: f64 = kinds
            .map(|((kind, (least, most)), prices)| {
                let cost = if leaf.empty { 0.0 } else { kind.usd_per_hour };
                let rest = cost - worth(&kind.has, prices);
                rest * f64::from(if rest >= 0.0 { *least } else { *most })
            })
            .sum();
        loads + machines
    }
}

fn worth(amounts: &[f64], prices: &[f64]) -> f64 {
    amounts.iter().zip(prices).map(|(a, p)| a * p).sum()
}

/// The cheapest whole machines that hold every load.
///
/// # Errors
///
/// If the need contradicts itself, or nothing suffices.
pub fn cheapest(need: &Need) -> Result<Fleet, NeedError> {
    need.validate()?;
    let whole: Vec<(u32, u32)> = need.kinds.iter().map(|kind| (0, kind.count)).collect();
    let mut search = Search {
        need,
        best: None,
        proof: Vec::new(),
        steps: 0,
    };
    search.look(whole.clone());
    let Some((machines, parts)) = search.best else {
        let all_empty = search.proof.iter().all(|leaf| leaf.empty);
        return Err(if all_empty {
            NeedError::Infeasible
        } else {
            NeedError::GaveUp
        });
    };
    let mut fleet = Fleet {
        usd_per_hour: need.cost(&machines),
        machines,
        parts,
        bound_usd_per_hour: 0.0,
        proof: search.proof,
        prices: priced(need, &whole, false).unwrap_or_default(),
    };
    fleet.bound_usd_per_hour = fleet.bound(need);
    Ok(fleet)
}

type Relaxed = (Vec<f64>, Vec<Vec<f64>>);

struct Search<'a> {
    need: &'a Need,
    best: Option<(Vec<u32>, Vec<Vec<f64>>)>,
    proof: Vec<Leaf>,
    steps: usize,
}

impl Search<'_> {
    /// Depth first, the half nearer to the relaxation first.
    fn look(&mut self, within: Vec<(u32, u32)>) {
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
fn relaxed(need: &Need, within: &[(u32, u32)]) -> Option<Relaxed> {
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
fn priced(need: &Need, within: &[(u32, u32)], empty: bool) -> Option<Vec<Vec<f64>>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(name: &str, count: u32, usd_per_hour: f64, has: &[f64]) -> Kind {
        Kind {
            name: name.to_owned(),
            count,
            usd_per_hour,
            has: has.to_vec(),
        }
    }

    fn load(needs: &[f64], allowed: &[bool]) -> Load {
        Load {
            name: "batch".to_owned(),
            needs: needs.to_vec(),
            allowed: allowed.to_vec(),
        }
    }

    #[test]
    fn parts_of_machines_cannot_be_had() {
        // Two large for 10 hold 8; the relaxation takes one and a quarter of them.
        let need = Need {
            kinds: vec![
                kind("large", 9, 10.0, &[4.0]),
                kind("small", 9, 3.0, &[1.0]),
            ],
            loads: vec![load(&[5.0], &[true, true])],
        };
        let fleet = cheapest(&need).unwrap();
        assert_eq!(fleet.machines, [1, 1]);
        let proof = fleet.verify(&need);
        assert!(proof.complete && proof.overstep < 1e-6, "{proof:?}");
        assert!(proof.gap_usd_per_hour < 1e-3, "{proof:?}");
        assert_eq!(
            fleet.in_words(&need),
            ["a hundredth less of `batch` would save 0.12 dollars an hour"]
        );
        // A proof that forgets a box, or whose prices are too low, proves less.
        let mut forgot = fleet.clone();
        forgot.proof.pop();
        assert!(!forgot.verify(&need).complete || fleet.proof.len() == 1);
        let mut cheap = fleet;
        for leaf in &mut cheap.proof {
            leaf.prices = vec![vec![0.0]; 2];
        }
        assert!(cheap.verify(&need).gap_usd_per_hour > 1.0);
    }

    #[test]
    fn what_cannot_be_held_is_said() {
        let words = |kinds: Vec<Kind>, loads: Vec<Load>| {
            cheapest(&Need { kinds, loads }).unwrap_err().to_string()
        };
        let one = || vec![kind("a", 1, 1.0, &[1.0])];
        let too_few = "not even all the machines that can be had suffice";
        assert_eq!(words(one(), vec![load(&[2.0], &[true])]), too_few);
        assert_eq!(words(one(), vec![load(&[1.0], &[false])]), too_few);
        assert_eq!(
            words(one(), vec![load(&[1.0, 2.0], &[true])]),
            "`batch` gives 2 amounts where 1 are expected"
        );
        assert_eq!(
            words(vec![kind("a", 1, -1.0, &[1.0])], vec![]),
            "`a` has an amount of -1, and must have numbers that are not negative"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

        #[test]
        fn nothing_that_can_be_tried_is_cheaper(
            kinds in prop::collection::vec((0..4_u32, 1..9_u8, 0..5_u8, 0..5_u8), 1..4),
            loads in prop::collection::vec((0..7_u8, 0..7_u8, 0..8_u8), 1..3),
        ) {
            let need = Need {
                kinds: kinds
                    .iter()
                    .map(|(n, usd, a, b)| kind("k", *n, f64::from(*usd), &[f64::from(*a), f64::from(*b)]))
                    .collect(),
                loads: loads
                    .iter()
                    .map(|(a, b, yes)| {
                        let allowed: Vec<bool> = (0..kinds.len()).map(|k| yes >> k & 1 == 1).collect();
                        load(&[f64::from(*a), f64::from(*b)], &allowed)
                    })
                    .collect(),
            };
            // Every choice, by hand.
            let mut choices = vec![Vec::new()];
            for (count, ..) in &kinds {
                choices = choices
                    .into_iter()
                    .flat_map(|choice| (0..=*count).map(move |n| [&choice[..], &[n]].concat()))
                    .collect();
            }
            let suffices = |choice: &Vec<u32>| {
                let within: Vec<(u32, u32)> = choice.iter().map(|n| (*n, *n)).collect();
                relaxed(&need, &within).is_some()
            };
            let least = choices
                .iter()
                .filter(|choice| suffices(choice))
                .map(|choice| need.cost(choice))
                .min_by(f64::total_cmp);
            match (cheapest(&need), least) {
                (Ok(fleet), Some(least)) => {
                    prop_assert!((fleet.usd_per_hour - least).abs() < 1e-6, "{fleet:?} {least}");
                    let proof = fleet.verify(&need);
                    prop_assert!(proof.complete && proof.overstep < 1e-6, "{proof:?}");
                    prop_assert!(proof.gap_usd_per_hour < 1e-3 * (1.0 + least), "{proof:?} {fleet:?}");
                }
                (Err(NeedError::Infeasible), None) => {}
                (found, least) => prop_assert!(false, "{found:?} {least:?}"),
            }
        }
    }
}

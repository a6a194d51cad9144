//! Whole machines: the cheapest that hold divisible loads, with a proof that nothing is cheaper.
//!
//! Owns: the need, and the answer with its certificate. Must not know: the
//! division of machines that are there already.
//!
//! The certificate is the tree itself: boxes that together hold every choice of machines, each with
//! prices of its resources. For any prices that are not negative, a load costs at least what it
//! would where its parts are cheapest, and a machine at least its price less what its resources are
//! worth, times the fewest or the most of the box: Lagrange's relaxation, which needs no solver to
//! be believed. [`Fleet::verify`] adds that up again.

mod certificate;
mod search;

use search::{BOXES_MOST, Search, priced};
use serde::{Deserialize, Serialize};

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
    let mut search = Search::new(need);
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

#[cfg(test)]
mod tests;

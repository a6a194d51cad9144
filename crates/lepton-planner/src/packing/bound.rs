//! How much of the GPUs any policy could use: the configuration LP, and its prices.
//!
//! A configuration is a set of parts that fill one GPU (Gilmore and Gomory, 1961). The LP asks
//! for the most GPU milli that configurations on the GPUs of the pool can serve of a demand,
//! with processors and memory relaxed. It is solved on its dual side, by adding the
//! configuration that violates the prices most until none does; that last search is the
//! certificate: prices under which no configuration earns more than its GPU costs bound every
//! placement from above.

use std::collections::BTreeMap;

use microlp::{ComparisonOp, OptimizationDirection, Problem};

use super::score::Prices;
use super::{Task, WHOLE};

/// What is asked for of one size of a part of a GPU; whole ones count as parts of 1,000.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Thousandths of one GPU.
    pub gpu_milli: u16,
    /// How many.
    pub count: f64,
}

/// The bound and its certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The most GPU milli that any policy can allocate of the demand.
    pub gpu_milli: f64,
    /// What one more GPU would add.
    pub gpu_price: f64,
    /// What one more task of each size would add.
    pub task_prices: Vec<(u16, f64)>,
    /// By how much the worst configuration still violated the prices; made up for in the bound.
    pub violation: f64,
    /// How many configurations were needed.
    pub configurations: usize,
}

impl Demand {
    /// The demand of tasks by size.
    #[must_use]
    pub fn of<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Vec<Self> {
        let mut counts: BTreeMap<u16, f64> = BTreeMap::new();
        for task in tasks.into_iter().filter(|task| task.gpus > 0) {
            *counts.entry(task.gpu_milli).or_default() += f64::from(task.gpus);
        }
        let demand = |(gpu_milli, count)| Self { gpu_milli, count };
        counts.into_iter().map(demand).collect()
    }
}

/// More rounds than any mix of a thousand sizes was seen to need.
const ROUNDS_MAX: usize = 2_000;

/// Prices that differ by less are equal.
const TOLERANCE: f64 = 1e-6;

/// The bound for `gpus` GPUs; `None` if the solver gave up.
#[must_use]
pub fn bound(gpus: f64, demand: &[Demand]) -> Option<Bound> {
    let demand: Vec<Demand> = demand
        .iter()
        .copied()
        .filter(|size| size.count > 0.0 && (1..=WHOLE).contains(&size.gpu_milli))
        .collect();
    // To begin with, configurations of one size each.
    let mut configurations: Vec<Vec<u16>> = (0..demand.len())
        .map(|size| {
            let mut counts = vec![0; demand.len()];
            counts[size] = WHOLE / demand[size].gpu_milli;
            counts
        })
        .collect();
    for _ in 0..ROUNDS_MAX {
        let (gpu_price, prices) = dual(gpus, &demand, &configurations)?;
        let values: Vec<f64> = demand
            .iter()
            .zip(&prices)
            .map(|(size, price)| f64::from(size.gpu_milli) - price)
            .collect();
        let (worth, counts) = best_configuration(&demand, &values);
        let violation = (worth - gpu_price).max(0.0);
        if violation > TOLERANCE && !configurations.contains(&counts) {
            configurations.push(counts);
            continue;
        }
        let served: f64 = demand
            .iter()
            .zip(&prices)
            .map(|(size, price)| size.count * price)
            .sum();
        return Some(Bound {
            gpu_milli: gpus * (gpu_price + violation) + served,
            gpu_price: gpu_price + violation,
            task_prices: demand
                .iter()
                .map(|size| size.gpu_milli)
                .zip(prices)
                .collect(),
            violation,
            configurations: configurations.len(),
        });
    }
    None
}

/// min gpus·μ + Σ count·π, where no configuration is worth more than it costs.
fn dual(gpus: f64, demand: &[Demand], configurations: &[Vec<u16>]) -> Option<(f64, Vec<f64>)> {
    let mut problem = Problem::new(OptimizationDirection::Minimize);
    let gpu = problem.add_var(gpus, (0.0, f64::INFINITY));
    let tasks: Vec<_> = demand
        .iter()
        .map(|size| problem.add_var(size.count, (0.0, f64::from(size.gpu_milli))))
        .collect();
    for counts in configurations {
        let worth: f64 = counts
            .iter()
            .zip(demand)
            .map(|(count, size)| f64::from(*count) * f64::from(size.gpu_milli))
            .sum();
        let costs = tasks.iter().zip(counts).filter(|(_, count)| **count > 0);
        let mut row: Vec<_> = costs
            .map(|(task, count)| (*task, f64::from(*count)))
            .collect();
        row.push((gpu, 1.0));
        problem.add_constraint(row, ComparisonOp::Ge, worth);
    }
    let outcome = problem.solve().ok()?;
    let solution = outcome.solution()?;
    let price = |variable| solution.var_value(variable).max(0.0);
    let prices = tasks.iter().map(|task| price(*task)).collect();
    Some((price(gpu), prices))
}

/// The most valuable filling of every rest up to one GPU, and the last part it takes.
fn fillings(sizes: &[(u16, f64)]) -> (Vec<f64>, Vec<Option<usize>>) {
    let mut best = vec![0.0_f64; usize::from(WHOLE) + 1];
    let mut last = vec![None; usize::from(WHOLE) + 1];
    for rest in 1..=usize::from(WHOLE) {
        best[rest] = best[rest - 1];
        for (number, (milli, value)) in sizes.iter().enumerate() {
            let milli = usize::from(*milli);
            if milli <= rest && best[rest - milli] + value > best[rest] + 1e-12 {
                best[rest] = best[rest - milli] + value;
                last[rest] = Some(number);
            }
        }
    }
    (best, last)
}

fn best_configuration(demand: &[Demand], values: &[f64]) -> (f64, Vec<u16>) {
    let sizes: Vec<(u16, f64)> = demand
        .iter()
        .map(|size| size.gpu_milli)
        .zip(values.iter().copied())
        .collect();
    let (best, last) = fillings(&sizes);
    let mut counts = vec![0; demand.len()];
    let mut rest = usize::from(WHOLE);
    while rest > 0 {
        match last[rest] {
            Some(number) => {
                counts[number] += 1;
                rest -= usize::from(sizes[number].0);
            }
            None => rest -= 1,
        }
    }
    (best[usize::from(WHOLE)], counts)
}

impl Bound {
    /// The prices for our policy: what the LP pays for each size, and what it can make of each
    /// rest.
    #[must_use]
    pub fn prices(&self) -> Prices {
        let sizes: Vec<(u16, f64)> = self
            .task_prices
            .iter()
            .map(|(milli, price)| (*milli, f64::from(*milli) - price))
            .collect();
        let (fill, _) = fillings(&sizes);
        // A size that the mix lacks is worth what it takes away from the best filling.
        let mut value: Vec<f64> = (0..=usize::from(WHOLE))
            .map(|milli| fill[usize::from(WHOLE)] - fill[usize::from(WHOLE) - milli])
            .collect();
        for (milli, worth) in sizes {
            value[usize::from(milli)] = worth;
        }
        Prices { fill, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thirds_parts_leave_a_third_unless_thirds_fill_it() {
        let demand = |counts: &[(u16, f64)]| -> Vec<Demand> {
            let size = |(gpu_milli, count): &(u16, f64)| Demand {
                gpu_milli: *gpu_milli,
                count: *count,
            };
            counts.iter().map(size).collect()
        };
        let only = bound(10.0, &demand(&[(600, 100.0)])).unwrap();
        assert!((only.gpu_milli - 6_000.0).abs() < 1e-3);
        let both = bound(10.0, &demand(&[(600, 100.0), (400, 4.0)])).unwrap();
        assert!((both.gpu_milli - 7_600.0).abs() < 1e-3, "{both:?}");
        let price = |milli| {
            both.task_prices
                .iter()
                .find(|(size, _)| *size == milli)
                .unwrap()
                .1
        };
        assert!(
            (price(400) - 400.0).abs() < 1e-3,
            "one more filler serves 400 more"
        );
        assert!(price(600).abs() < 1e-3, "of these there are enough");
    }
}

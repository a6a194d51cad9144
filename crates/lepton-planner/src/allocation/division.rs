//! Who gets how much of which pool.

use microlp::{ComparisonOp, OptimizationDirection, Problem as Program, Variable};
use serde::{Deserialize, Serialize};

/// Machines of one type in one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// The machine type.
    pub machine: String,
    /// How many there are.
    pub count: f64,
    /// What an hour of one costs, in dollars.
    pub usd_per_hour: f64,
}

/// Somebody who asks for machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// How much work an hour it needs at least, and how much it can use at most.
    pub work: (f64, f64),
    /// What a unit of work is worth to it, in dollars.
    pub usd_per_work: f64,
    /// For every pool, how much work an hour one machine does; zero where it cannot run.
    pub speed: Vec<f64>,
}

/// The problem.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// What there is.
    pub pools: Vec<Pool>,
    /// Who wants it.
    pub claims: Vec<Claim>,
}

/// An answer and its certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Division {
    /// For every claim and pool, how many machines.
    pub machines: Vec<Vec<f64>>,
    /// Value less cost, in dollars an hour.
    pub usd_per_hour: f64,
    /// What no division can exceed, by the prices below.
    pub bound_usd_per_hour: f64,
    /// What one more machine of each pool would bring.
    pub pool_prices: Vec<f64>,
    /// What a unit less of each claim's least work would save.
    pub least_prices: Vec<f64>,
    /// What a unit more of each claim's most work would bring.
    pub most_prices: Vec<f64>,
}

/// How far an answer may be from the best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    /// By how much the worst limit is overstepped.
    pub overstep: f64,
    /// By how much the prices violate the dual's worst limit.
    pub mispricing: f64,
    /// Bound less value, in dollars an hour.
    pub usd_per_hour: f64,
}

/// A problem without an answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DivisionError {
    /// A number that is negative, endless or not one.
    #[error("`{what}` of `{name}` is {value}, and must be a number that is not negative")]
    Number {
        /// Whose.
        name: String,
        /// Which.
        what: &'static str,
        /// What was given.
        value: f64,
    },
    /// A claim whose speeds are not one a pool.
    #[error("claim `{name}` gives {given} speeds for {pools} pools")]
    Speeds {
        /// Whose.
        name: String,
        /// How many it gives.
        given: usize,
        /// How many there are.
        pools: usize,
    },
    /// Limits that contradict themselves.
    #[error("claim `{name}` needs at least {least} and at most {most}")]
    Contradiction {
        /// Whose.
        name: String,
        /// The least.
        least: f64,
        /// The most.
        most: f64,
    },
    /// The pools do not suffice for what everybody needs at least.
    #[error("the pools do not suffice for what all claims need at least")]
    Infeasible,
    /// The solver gave up.
    #[error("the solver found no answer within its limits")]
    GaveUp,
}

impl Problem {
    fn validate(&self) -> Result<(), DivisionError> {
        let number = |name: &str, what, value: f64| {
            let name = name.to_owned();
            let good = value.is_finite() && value >= 0.0;
            good.then_some(())
                .ok_or(DivisionError::Number { name, what, value })
        };
        for pool in &self.pools {
            number(&pool.name, "count", pool.count)?;
            number(&pool.name, "usd_per_hour", pool.usd_per_hour)?;
        }
        for claim in &self.claims {
            let name = || claim.name.clone();
            let (least, most) = claim.work;
            number(&claim.name, "work", least)?;
            number(&claim.name, "work", most)?;
            number(&claim.name, "usd_per_work", claim.usd_per_work)?;
            if least > most {
                return Err(DivisionError::Contradiction {
                    name: name(),
                    least,
                    most,
                });
            }
            let (given, pools) = (claim.speed.len(), self.pools.len());
            if given != pools {
                return Err(DivisionError::Speeds {
                    name: name(),
                    given,
                    pools,
                });
            }
            for speed in &claim.speed {
                number(&claim.name, "speed", *speed)?;
            }
        }
        Ok(())
    }

    /// What one machine of `pool` brings `claim` an hour, less its cost.
    fn margin(&self, claim: &Claim, pool: usize) -> f64 {
        claim.speed[pool] * claim.usd_per_work - self.pools[pool].usd_per_hour
    }
}

/// The division of the greatest value less cost.
///
/// # Errors
///
/// If the problem contradicts itself, or its least needs do not fit.
pub fn divide(problem: &Problem) -> Result<Division, DivisionError> {
    problem.validate()?;
    let machines = primal(problem)?;
    let (pool_prices, least_prices, most_prices) = dual(problem)?;
    let mut division = Division {
        machines,
        usd_per_hour: 0.0,
        bound_usd_per_hour: 0.0,
        pool_prices,
        least_prices,
        most_prices,
    };
    division.usd_per_hour = division.value(problem);
    division.bound_usd_per_hour = division.bound(problem);
    Ok(division)
}

fn primal(problem: &Problem) -> Result<Vec<Vec<f64>>, DivisionError> {
    let mut program = Program::new(OptimizationDirection::Maximize);
    let all = (0.0, f64::INFINITY);
    let variables: Vec<Vec<Variable>> = problem
        .claims
        .iter()
        .map(|claim| {
            let pools = 0..problem.pools.len();
            pools
                .map(|pool| program.add_var(problem.margin(claim, pool), all))
                .collect()
        })
        .collect();
    for (pool, limits) in problem.pools.iter().enumerate() {
        let row: Vec<_> = variables
            .iter()
            .map(|of_claim| (of_claim[pool], 1.0))
            .collect();
        program.add_constraint(row, ComparisonOp::Le, limits.count);
    }
    for (claim, of_claim) in problem.claims.iter().zip(&variables) {
        let row = || {
            of_claim
                .iter()
                .copied()
                .zip(claim.speed.iter().copied())
                .collect::<Vec<_>>()
        };
        program.add_constraint(row(), ComparisonOp::Ge, claim.work.0);
        program.add_constraint(row(), ComparisonOp::Le, claim.work.1);
    }
    let outcome = program.solve().map_err(|error| match error {
        microlp::Error::Infeasible => DivisionError::Infeasible,
        _ => DivisionError::GaveUp,
    })?;
    let solution = outcome.solution().ok_or(DivisionError::GaveUp)?;
    let amount = |variable: &Variable| solution.var_value(*variable).max(0.0);
    Ok(variables
        .iter()
        .map(|of_claim| of_claim.iter().map(amount).collect())
        .collect())
}

type Prices = (Vec<f64>, Vec<f64>, Vec<f64>);

/// min count·p − least·l + most·m, where for every claim and pool p − speed·l + speed·m ≥ margin.
fn dual(problem: &Problem) -> Result<Prices, DivisionError> {
    let mut program = Program::new(OptimizationDirection::Minimize);
    let all = (0.0, f64::INFINITY);
    let pools: Vec<_> = problem
        .pools
        .iter()
        .map(|pool| program.add_var(pool.count, all))
        .collect();
    let least: Vec<_> = problem
        .claims
        .iter()
        .map(|claim| program.add_var(-claim.work.0, all))
        .collect();
    let most: Vec<_> = problem
        .claims
        .iter()
        .map(|claim| program.add_var(claim.work.1, all))
        .collect();
    for (number, claim) in problem.claims.iter().enumerate() {
        for (pool, price) in pools.iter().enumerate() {
            let speed = claim.speed[pool];
            let row = vec![
                (*price, 1.0),
                (least[number], -speed),
                (most[number], speed),
            ];
            program.add_constraint(row, ComparisonOp::Ge, problem.margin(claim, pool));
        }
    }
    let outcome = program.solve().map_err(|error| match error {
        microlp::Error::Unbounded => DivisionError::Infeasible,
        _ => DivisionError::GaveUp,
    })?;
    let solution = outcome.solution().ok_or(DivisionError::GaveUp)?;
    let values = |variables: &[Variable]| -> Vec<f64> {
        variables
            .iter()
            .map(|variable| solution.var_value(*variable).max(0.0))
            .collect()
    };
    Ok((values(&pools), values(&least), values(&most)))
}

impl Division {
    fn value(&self, problem: &Problem) -> f64 {
        let mut value = 0.0;
        for (claim, amounts) in problem.claims.iter().zip(&self.machines) {
            for (pool, amount) in amounts.iter().enumerate() {
                value += amount * problem.margin(claim, pool);
            }
        }
        value
    }

    fn bound(&self, problem: &Problem) -> f64 {
        let pools = problem
            .pools
            .iter()
            .zip(&self.pool_prices)
            .map(|(p, price)| p.count * price);
        let claims = problem
            .claims
            .iter()
            .zip(&self.least_prices)
            .zip(&self.most_prices);
        let claims = claims.map(|((c, least), most)| c.work.1 * most - c.work.0 * least);
        pools.sum::<f64>() + claims.sum::<f64>()
    }

    /// Recomputes the certificate from the problem: nothing that the solver said is believed.
    #[must_use]
    pub fn verify(&self, problem: &Problem) -> Gap {
        let mut overstep: f64 = 0.0;
        let mut mispricing: f64 = 0.0;
        for (pool, limits) in problem.pools.iter().enumerate() {
            let used: f64 = self.machines.iter().map(|amounts| amounts[pool]).sum();
            overstep = overstep.max(used - limits.count);
        }
        for (number, claim) in problem.claims.iter().enumerate() {
            let amounts = &self.machines[number];
            let work: f64 = amounts
                .iter()
                .zip(&claim.speed)
                .map(|(a, speed)| a * speed)
                .sum();
            let below = amounts.iter().copied().fold(0.0, f64::min);
            overstep = overstep
                .max(claim.work.0 - work)
                .max(work - claim.work.1)
                .max(-below);
            for (pool, speed) in claim.speed.iter().enumerate() {
                let earned = problem.margin(claim, pool) + speed * self.least_prices[number];
                let paid = self.pool_prices[pool] + speed * self.most_prices[number];
                mispricing = mispricing.max(earned - paid);
            }
        }
        Gap {
            overstep,
            mispricing,
            usd_per_hour: self.bound(problem) - self.value(problem),
        }
    }

    /// The shadow prices that are not nothing, in words.
    #[must_use]
    pub fn in_words(&self, problem: &Problem) -> Vec<String> {
        let noted = |price: &f64| *price > 1e-6;
        let pools = problem
            .pools
            .iter()
            .zip(&self.pool_prices)
            .filter(|(_, p)| noted(p));
        let pools = pools.map(|(pool, price)| {
            let Pool { name, machine, .. } = pool;
            format!("one more {machine} in pool `{name}` would bring {price:.2} dollars an hour")
        });
        let least = problem
            .claims
            .iter()
            .zip(&self.least_prices)
            .filter(|(_, p)| noted(p));
        let least = least.map(|(claim, price)| {
            let name = &claim.name;
            format!("a unit less of what `{name}` needs at least would save {price:.2} dollars")
        });
        let most = problem
            .claims
            .iter()
            .zip(&self.most_prices)
            .filter(|(_, p)| noted(p));
        let most = most.map(|(claim, price)| {
            let name = &claim.name;
            format!("a unit more of what `{name}` can use would bring {price:.2} dollars")
        });
        pools.chain(least).chain(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(name: &str, count: f64, usd_per_hour: f64) -> Pool {
        let machine = "gpu of type A".to_owned();
        Pool {
            name: name.to_owned(),
            machine,
            count,
            usd_per_hour,
        }
    }

    fn claim(name: &str, work: (f64, f64), usd_per_work: f64, speed: &[f64]) -> Claim {
        Claim {
            name: name.to_owned(),
            work,
            usd_per_work,
            speed: speed.to_vec(),
        }
    }

    #[test]
    fn the_one_who_gains_most_gets_the_scarce_machines_and_the_price_is_said() {
        let problem = Problem {
            pools: vec![pool("b", 4.0, 1.0), pool("slow", 10.0, 0.5)],
            claims: vec![
                claim("train", (0.0, 100.0), 3.0, &[2.0, 1.0]),
                claim("serve", (2.0, 100.0), 1.0, &[2.0, 1.0]),
            ],
        };
        let division = divide(&problem).unwrap();
        // Serving needs 2: two slow machines; training takes the rest.
        assert!((division.usd_per_hour - (4.0 * 5.0 + 8.0 * 2.5 + 2.0 * 0.5)).abs() < 1e-6);
        let gap = division.verify(&problem);
        assert!(
            gap.overstep < 1e-6 && gap.mispricing < 1e-6 && gap.usd_per_hour < 1e-6,
            "{gap:?}"
        );
        assert_eq!(
            division.in_words(&problem)[0],
            "one more gpu of type A in pool `b` would bring 5.00 dollars an hour"
        );
    }

    #[test]
    fn contradictions_are_said() {
        let words = |pools: Vec<Pool>, claims: Vec<Claim>| {
            divide(&Problem { pools, claims }).unwrap_err().to_string()
        };
        let one = || vec![pool("a", 1.0, 1.0)];
        assert_eq!(
            words(vec![pool("a", 1.0, -2.0)], vec![]),
            "`usd_per_hour` of `a` is -2, and must be a number that is not negative"
        );
        assert_eq!(
            words(one(), vec![claim("x", (3.0, 2.0), 1.0, &[1.0])]),
            "claim `x` needs at least 3 and at most 2"
        );
        assert_eq!(
            words(one(), vec![claim("x", (0.0, 2.0), 1.0, &[])]),
            "claim `x` gives 0 speeds for 1 pools"
        );
        assert_eq!(
            words(one(), vec![claim("x", (2.0, 2.0), 1.0, &[1.0])]),
            "the pools do not suffice for what all claims need at least"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn every_answer_carries_its_proof(
            pools in prop::collection::vec((0.0..50.0_f64, 0.0..5.0_f64), 1..5),
            claims in prop::collection::vec(
                (0.0..3.0_f64, 0.0..60.0_f64, 0.0..9.0_f64, prop::collection::vec(0.0..4.0_f64, 5)),
                1..6,
            ),
        ) {
            let count = pools.len();
            let problem = Problem {
                pools: pools.into_iter().map(|(n, usd)| pool("p", n, usd)).collect(),
                claims: claims
                    .into_iter()
                    .map(|(least, more, usd, speed)| claim("c", (least, least + more), usd, &speed[..count]))
                    .collect(),
            };
            match divide(&problem) {
                Ok(division) => {
                    let gap = division.verify(&problem);
                    let scale = 1.0 + division.usd_per_hour.abs();
                    prop_assert!(gap.overstep < 1e-5, "{gap:?}");
                    prop_assert!(gap.mispricing < 1e-5, "{gap:?}");
                    prop_assert!(gap.usd_per_hour.abs() < 1e-5 * scale, "{gap:?}");
                }
                Err(error) => prop_assert_eq!(error, DivisionError::Infeasible),
            }
        }
    }
}

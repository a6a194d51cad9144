//! Gradient-boosted trees (Friedman 2001), with second-order leaves (Chen and Guestrin 2016).
//!
//! Owns: losses, rounds, row and column sampling. Must not know: how a tree is grown.

use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::super::prepare::Matrix;
use super::bins::Bins;
use super::tree::{Growth, Node, Pulls, Tree, Trees, grow};
use super::{Goal, Link, Stop, softmax};

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Rounds; each adds a tree, or one a class where there are more than two.
    pub rounds: usize,
    /// What part of a tree counts.
    pub rate: f64,
    /// The most leaves of a tree.
    pub leaves: usize,
    /// The fewest training rows in a leaf.
    pub leaf_rows: usize,
    /// Penalty on leaves.
    pub l2: f64,
    /// The part of the rows that a round sees.
    pub row_share: f64,
    /// The part of the features that a tree sees.
    pub column_share: f64,
}

/// Fits; `None` if told to stop.
#[must_use]
pub fn fit(
    params: &Params,
    features: &Matrix,
    goal: Goal<'_>,
    rng: &mut ChaCha8Rng,
    stop: Stop<'_>,
) -> Option<Trees> {
    let rows = goal.rows();
    let (base, link) = start(goal);
    let outputs = base.len();
    let bins = Bins::new(features, rows);
    let growth = Growth {
        leaves: params.leaves,
        leaf_rows: params.leaf_rows,
        leaf_weight: 1e-3,
        l2: params.l2,
        rate: params.rate,
    };
    let mut sums = base.repeat(rows);
    let mut trees = Vec::with_capacity(params.rounds * outputs);
    let (mut pulls, mut weights) = (vec![0.0; rows * outputs], vec![0.0; rows * outputs]);
    for _ in 0..params.rounds {
        derivatives(goal, &sums, &mut pulls, &mut weights);
        let sample = sample(rows, params.row_share, rng);
        for output in 0..outputs {
            if stop() {
                return None;
            }
            let columns: Vec<usize> = sample_columns(features.width, params.column_share, rng);
            let own = output * rows..(output + 1) * rows;
            let pulls = Pulls {
                values: &pulls[own.clone()],
                outputs: 1,
                weights: &weights[own],
            };
            let (nodes, members) = grow(&bins, &growth, &pulls, sample.clone(), &columns);
            let tree = Tree { output, nodes };
            if sample.len() == rows {
                for (node, members) in members {
                    let Node::Leaf(values) = &tree.nodes[node] else {
                        continue;
                    };
                    members
                        .iter()
                        .for_each(|row| sums[*row as usize * outputs + output] += values[0]);
                }
            } else {
                for row in 0..rows {
                    sums[row * outputs + output] += tree.leaf(features.row(row))[0];
                }
            }
            trees.push(tree);
        }
    }
    Some(Trees { base, trees, link })
}

/// The sums before any tree: the mean, or the classes' log shares.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "32-bit models"
)]
fn start(goal: Goal<'_>) -> (Vec<f32>, Link) {
    match goal {
        Goal::Numbers(values) => {
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
            (vec![mean as f32], Link::Identity)
        }
        Goal::Classes { labels, count } => {
            // One row more a class, so that a class absent from a fold stays possible.
            let share = |class: usize| {
                let rows = labels.iter().filter(|l| **l as usize == class).count();
                ((rows + 1) as f64 / (labels.len() + count) as f64).ln()
            };
            if count == 2 {
                (vec![(share(1) - share(0)) as f32], Link::LogOdds)
            } else {
                (
                    (0..count).map(|class| share(class) as f32).collect(),
                    Link::Softmax,
                )
            }
        }
    }
}

/// Negative first and positive second derivatives of the loss, output by output.
fn derivatives(goal: Goal<'_>, sums: &[f32], pulls: &mut [f32], weights: &mut [f32]) {
    match goal {
        Goal::Numbers(values) => {
            for (row, value) in values.iter().enumerate() {
                pulls[row] = value - sums[row];
                weights[row] = 1.0;
            }
        }
        Goal::Classes { labels, count: 2 } => {
            for (row, label) in labels.iter().enumerate() {
                let p = 1.0 / (1.0 + (-sums[row]).exp());
                pulls[row] = f32::from(u8::from(*label == 1)) - p;
                weights[row] = (p * (1.0 - p)).max(1e-6);
            }
        }
        Goal::Classes { labels, count } => {
            let rows = labels.len();
            let mut p = vec![0.0; count];
            for (row, label) in labels.iter().enumerate() {
                p.copy_from_slice(&sums[row * count..(row + 1) * count]);
                softmax(&mut p);
                for (class, p) in p.iter().enumerate() {
                    let at = class * rows + row;
                    pulls[at] = f32::from(u8::from(*label as usize == class)) - p;
                    weights[at] = (p * (1.0 - p)).max(1e-6);
                }
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a count"
)]
fn part(whole: usize, share: f64) -> usize {
    ((whole as f64 * share).ceil() as usize).clamp(1, whole.max(1))
}

fn sample(rows: usize, share: f64, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let narrow = |row: usize| u32::try_from(row).expect("invariant: readers bound rows");
    if share >= 1.0 {
        return (0..rows).map(narrow).collect();
    }
    let mut chosen: Vec<u32> = index::sample(rng, rows, part(rows, share))
        .into_iter()
        .map(narrow)
        .collect();
    chosen.sort_unstable();
    chosen
}

fn sample_columns(width: usize, share: f64, rng: &mut ChaCha8Rng) -> Vec<usize> {
    if share >= 1.0 || width == 0 {
        return (0..width).collect();
    }
    let mut chosen = index::sample(rng, width, part(width, share)).into_vec();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    const PARAMS: Params = Params {
        rounds: 60,
        rate: 0.2,
        leaves: 8,
        leaf_rows: 5,
        l2: 1.0,
        row_share: 0.8,
        column_share: 0.7,
    };

    fn noise(rows: usize) -> Matrix {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        Matrix {
            values: (0..rows * 3).map(|_| rng.random_range(-1.0..1.0)).collect(),
            width: 3,
        }
    }

    #[test]
    fn a_curved_surface_is_learned() {
        let features = noise(400);
        let target: Vec<f32> = (0..400)
            .map(|r| features.row(r)[0].powi(2) * 3.0 + features.row(r)[1])
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let trees = fit(
            &PARAMS,
            &features,
            Goal::Numbers(&target),
            &mut rng,
            &|| false,
        )
        .unwrap();
        let error: f32 = trees
            .sums(&features, 400)
            .iter()
            .zip(&target)
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f32>()
            / 400.0;
        assert!(error < 0.02, "{error}");
    }

    #[test]
    fn three_rings_are_told_apart() {
        let features = noise(600);
        let labels: Vec<u32> = (0..600)
            .map(|r| {
                let radius = features.row(r)[0].hypot(features.row(r)[1]);
                u32::from(radius > 0.5) + u32::from(radius > 0.9)
            })
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let goal = Goal::Classes {
            labels: &labels,
            count: 3,
        };
        let trees = fit(&PARAMS, &features, goal, &mut rng, &|| false).unwrap();
        let sums = trees.sums(&features, 600);
        let right = sums
            .chunks(3)
            .zip(&labels)
            .filter(|(s, l)| super::super::super::metrics::most_probable(s) == **l as usize);
        assert!(right.count() > 580);
    }

    #[test]
    fn the_same_seed_gives_the_same_trees() {
        let features = noise(100);
        let labels: Vec<u32> = (0..100)
            .map(|r| u32::from(features.row(r)[0] > 0.0))
            .collect();
        let goal = Goal::Classes {
            labels: &labels,
            count: 2,
        };
        let once = |seed| {
            fit(
                &PARAMS,
                &features,
                goal,
                &mut ChaCha8Rng::seed_from_u64(seed),
                &|| false,
            )
        };
        assert_eq!(once(5), once(5));
        assert_ne!(once(5), once(6));
    }
}

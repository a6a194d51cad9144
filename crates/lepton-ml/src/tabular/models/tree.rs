//! Trees: their structure, their prediction, and the histogram algorithm that grows them.
//!
//! Owns: growing one tree, best split first, over binned features (Ke et al. 2017, "LightGBM",
//! sections 2 and 3), and the single decision tree. Must not know: boosting. Ours and not a
//! library's: `forust-ml` 0.8 has no softmax objective, cannot be stopped at a deadline, and
//! cuts at data values instead of between them.

use serde::{Deserialize, Serialize};

use super::super::prepare::Matrix;
use super::bins::{Bins, MISSING};
use super::{Goal, Link};

/// How to fit the single decision tree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// The most leaves.
    pub leaves: usize,
    /// The fewest training rows in a leaf.
    pub leaf_rows: usize,
}

/// A sum of trees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trees {
    /// What each sum begins with.
    pub base: Vec<f32>,
    /// What is added.
    pub trees: Vec<Tree>,
    /// What becomes of the sums.
    pub link: Link,
}

/// One binary tree; node 0 is its root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// The sum to which a leaf's first value is added.
    pub output: usize,
    /// Inner nodes and leaves; children come after their parent.
    pub nodes: Vec<Node>,
}

/// A node of a tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    /// A question.
    Split {
        /// The feature asked about.
        feature: usize,
        /// To the left if not above this.
        threshold: f32,
        /// Whether a missing value goes left.
        missing_left: bool,
        /// The node to the left.
        left: usize,
        /// The node to the right.
        right: usize,
    },
    /// An answer: one value, or one a class.
    Leaf(Vec<f32>),
}

impl Trees {
    /// The sums of all rows, row-major, added tree by tree in 32 bits.
    #[must_use]
    pub fn sums(&self, features: &Matrix, rows: usize) -> Vec<f32> {
        let outputs = self.base.len();
        let mut sums = self.base.repeat(rows);
        // Tree by tree, so that one tree's nodes stay in the cache for all rows.
        for tree in &self.trees {
            for (row, sums) in sums.chunks_exact_mut(outputs).enumerate() {
                let values = if features.width == 0 {
                    &[]
                } else {
                    features.row(row)
                };
                for (sum, value) in sums[tree.output..].iter_mut().zip(tree.leaf(values)) {
                    *sum += value;
                }
            }
        }
        sums
    }
}

impl Tree {
    /// The values of the leaf that a row ends in.
    #[must_use]
    pub fn leaf(&self, row: &[f32]) -> &[f32] {
        let mut at = 0;
        loop {
            match &self.nodes[at] {
                Node::Leaf(values) => return values,
                Node::Split {
                    feature,
                    threshold,
                    missing_left,
                    left,
                    right,
                } => {
                    let value = row[*feature];
                    let goes_left = if value.is_nan() {
                        *missing_left
                    } else {
                        value <= *threshold
                    };
                    at = if goes_left { *left } else { *right };
                }
            }
        }
    }
}

/// Fits a decision tree: class shares or means in its leaves, by the Gini or variance
/// criterion (Breiman et al. 1984).
#[must_use]
pub fn fit(params: &Params, features: &Matrix, goal: Goal<'_>) -> Trees {
    let rows = goal.rows();
    // Classes are counted from their shares, and a leaf counts as one row more of those: no
    // leaf is sure that a class is impossible.
    let (base, l2) = match goal {
        Goal::Numbers(_) => (vec![0.0], 0.0),
        Goal::Classes { labels, count } => (shares(labels, count), 1.0),
    };
    let outputs = base.len();
    let pulls = match goal {
        Goal::Numbers(values) => values.to_vec(),
        Goal::Classes { labels, .. } => {
            let mut pulls: Vec<f32> = base
                .iter()
                .map(|share| -share)
                .collect::<Vec<_>>()
                .repeat(rows);
            for (row, label) in labels.iter().enumerate() {
                pulls[row * outputs + *label as usize] += 1.0;
            }
            pulls
        }
    };
    let bins = Bins::new(features, rows);
    let growth = Growth {
        leaves: params.leaves,
        leaf_rows: params.leaf_rows,
        leaf_weight: 0.0,
        l2,
        rate: 1.0,
    };
    let weights = vec![1.0; rows];
    let all = (0..u32::try_from(rows).expect("invariant: readers bound rows")).collect();
    let columns: Vec<usize> = (0..features.width).collect();
    let nodes = grow(
        &bins,
        &growth,
        &Pulls {
            values: &pulls,
            outputs,
            weights: &weights,
        },
        all,
        &columns,
    )
    .0;
    Trees {
        base,
        trees: vec![Tree { output: 0, nodes }],
        link: Link::Identity,
    }
}

/// Each class's part of the rows.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "32-bit models"
)]
fn shares(labels: &[u32], count: usize) -> Vec<f32> {
    let rows = |class: usize| labels.iter().filter(|l| **l as usize == class).count();
    (0..count)
        .map(|class| (rows(class) as f64 / labels.len() as f64) as f32)
        .collect()
}

/// How to grow.
pub(super) struct Growth {
    pub(super) leaves: usize,
    pub(super) leaf_rows: usize,
    /// The least sum of weights in a leaf.
    pub(super) leaf_weight: f64,
    pub(super) l2: f64,
    /// Multiplied into the leaves.
    pub(super) rate: f64,
}

/// What pulls the leaves, row by row: leaf = rate · Σ values / (Σ weights + l2).
pub(super) struct Pulls<'a> {
    /// `outputs` a row.
    pub(super) values: &'a [f32],
    pub(super) outputs: usize,
    /// One a row: second derivatives, or ones.
    pub(super) weights: &'a [f32],
}

/// Sums over some rows: `outputs` pulls, their weight, their count.
type Sums = Vec<f64>;

struct Leaf {
    node: usize,
    rows: Vec<u32>,
    /// For each slot, the sums of its rows, flat.
    histogram: Vec<f64>,
    sums: Sums,
    best: Option<Split>,
}

#[derive(Clone)]
struct Split {
    gain: f64,
    feature: usize,
    bin: usize,
    missing_left: bool,
}

/// Grows a tree on these rows and columns. Also tells which rows ended in which node.
pub(super) fn grow(
    bins: &Bins,
    growth: &Growth,
    pulls: &Pulls<'_>,
    rows: Vec<u32>,
    columns: &[usize],
) -> (Vec<Node>, Vec<(usize, Vec<u32>)>) {
    let grower = Grower {
        bins,
        growth,
        pulls,
        columns,
        stride: pulls.outputs + 2,
    };
    let root = grower.leaf(0, rows);
    let mut nodes = vec![Node::Leaf(grower.values(&root.sums))];
    let mut leaves = vec![root];
    while leaves.len() < growth.leaves {
        let gain = |leaf: &Leaf| leaf.best.as_ref().map_or(0.0, |split| split.gain);
        let Some(at) = (0..leaves.len())
            .filter(|&l| leaves[l].best.is_some())
            .reduce(|a, b| {
                if gain(&leaves[b]) > gain(&leaves[a]) {
                    b
                } else {
                    a
                }
            })
        else {
            break;
        };
        let parent = leaves.swap_remove(at);
        let split = parent
            .best
            .clone()
            .expect("invariant: only leaves with a split are chosen");
        let (left, right) = (nodes.len(), nodes.len() + 1);
        nodes[parent.node] = Node::Split {
            feature: split.feature,
            threshold: bins.cuts[split.feature][split.bin],
            missing_left: split.missing_left,
            left,
            right,
        };
        for child in grower.divide(parent, &split, (left, right)) {
            nodes.push(Node::Leaf(grower.values(&child.sums)));
            leaves.push(child);
        }
    }
    (
        nodes,
        leaves
            .into_iter()
            .map(|leaf| (leaf.node, leaf.rows))
            .collect(),
    )
}

struct Grower<'a> {
    bins: &'a Bins,
    growth: &'a Growth,
    pulls: &'a Pulls<'a>,
    columns: &'a [usize],
    stride: usize,
}

impl Grower<'_> {
    fn leaf(&self, node: usize, rows: Vec<u32>) -> Leaf {
        let histogram = self.histogram(&rows);
        self.leaf_with(node, rows, histogram)
    }

    fn leaf_with(&self, node: usize, rows: Vec<u32>, histogram: Vec<f64>) -> Leaf {
        let mut sums = vec![0.0; self.stride];
        for &row in &rows {
            self.add(&mut sums, row);
        }
        let best = self.best_split(&histogram, &sums);
        Leaf {
            node,
            rows,
            histogram,
            sums,
            best,
        }
    }

    #[inline]
    fn add(&self, sums: &mut [f64], row: u32) {
        let (row, outputs) = (row as usize, self.pulls.outputs);
        if let ([sum, weight, count], 1) = (&mut *sums, outputs) {
            // Boosting's case, and the innermost loop of all training.
            *sum += f64::from(self.pulls.values[row]);
            *weight += f64::from(self.pulls.weights[row]);
            *count += 1.0;
            return;
        }
        let values = &self.pulls.values[row * outputs..(row + 1) * outputs];
        sums.iter_mut()
            .zip(values)
            .for_each(|(sum, value)| *sum += f64::from(*value));
        sums[outputs] += f64::from(self.pulls.weights[row]);
        sums[outputs + 1] += 1.0;
    }

    fn histogram(&self, rows: &[u32]) -> Vec<f64> {
        let mut histogram = vec![0.0; self.bins.slots * self.stride];
        for &feature in self.columns {
            let codes = self.bins.column(feature);
            let missing = self.bins.cuts[feature].len() + 1;
            let start = self.bins.starts[feature];
            for &row in rows {
                let code = codes[row as usize];
                let slot = start
                    + if code == MISSING {
                        missing
                    } else {
                        usize::from(code)
                    };
                self.add(
                    &mut histogram[slot * self.stride..(slot + 1) * self.stride],
                    row,
                );
            }
        }
        histogram
    }

    /// The two leaves of a split; only the smaller one's histogram is counted, the other's
    /// is the difference.
    fn divide(&self, parent: Leaf, split: &Split, (left, right): (usize, usize)) -> [Leaf; 2] {
        let codes = self.bins.column(split.feature);
        let goes_left = |row: &u32| match codes[*row as usize] {
            MISSING => split.missing_left,
            code => usize::from(code) <= split.bin,
        };
        let (left_rows, right_rows): (Vec<u32>, Vec<u32>) =
            parent.rows.iter().partition(|row| goes_left(row));
        let left_is_smaller = left_rows.len() <= right_rows.len();
        let smaller = if left_is_smaller {
            &left_rows
        } else {
            &right_rows
        };
        let small = self.histogram(smaller);
        let mut large = parent.histogram;
        large.iter_mut().zip(&small).for_each(|(l, s)| *l -= s);
        let (left_sums, right_sums) = if left_is_smaller {
            (small, large)
        } else {
            (large, small)
        };
        [
            self.leaf_with(left, left_rows, left_sums),
            self.leaf_with(right, right_rows, right_sums),
        ]
    }

    /// Σ pull² / (weight + l2), by which a split is judged.
    fn merit(&self, sums: &[f64]) -> f64 {
        let outputs = self.pulls.outputs;
        let squares: f64 = sums[..outputs].iter().map(|s| s * s).sum();
        squares / (sums[outputs] + self.growth.l2).max(1e-12)
    }

    fn allows(&self, sums: &[f64]) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let fewest = self.growth.leaf_rows as f64 - 0.5;
        sums[self.pulls.outputs + 1] > fewest && sums[self.pulls.outputs] >= self.growth.leaf_weight
    }

    fn best_split(&self, histogram: &[f64], sums: &[f64]) -> Option<Split> {
        let whole = self.merit(sums);
        let mut best: Option<Split> = None;
        let (mut left, mut right) = (vec![0.0; self.stride], vec![0.0; self.stride]);
        for &feature in self.columns {
            let cuts = self.bins.cuts[feature].len();
            let slot = |bin: usize| {
                let at = (self.bins.starts[feature] + bin) * self.stride;
                &histogram[at..at + self.stride]
            };
            let missing = slot(cuts + 1);
            let has_missing = missing[self.stride - 1] > 0.5;
            let sides: &[bool] = if has_missing {
                &[false, true]
            } else {
                &[false]
            };
            for &missing_left in sides {
                left.fill(0.0);
                if missing_left {
                    left.copy_from_slice(missing);
                }
                for bin in 0..cuts {
                    left.iter_mut().zip(slot(bin)).for_each(|(l, s)| *l += s);
                    right
                        .iter_mut()
                        .zip(sums)
                        .zip(&left)
                        .for_each(|((r, s), l)| *r = s - l);
                    if !self.allows(&left) || !self.allows(&right) {
                        continue;
                    }
                    let gain = self.merit(&left) + self.merit(&right) - whole;
                    if gain > best.as_ref().map_or(1e-7, |b| b.gain) {
                        // Where none is missing, later ones go with the many.
                        let many_left = left[self.stride - 1] >= right[self.stride - 1];
                        let missing_left = if has_missing { missing_left } else { many_left };
                        best = Some(Split {
                            gain,
                            feature,
                            bin,
                            missing_left,
                        });
                    }
                }
            }
        }
        best
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "models compute with 32 bits"
    )]
    fn values(&self, sums: &[f64]) -> Vec<f32> {
        let weight = (sums[self.pulls.outputs] + self.growth.l2).max(1e-12);
        sums[..self.pulls.outputs]
            .iter()
            .map(|s| (self.growth.rate * s / weight) as f32)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::bins::between;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cut_is_always_below_the_upper_value() {
        let next = f32::from_bits(1.0_f32.to_bits() + 1);
        assert_eq!(between(1.0, next), 1.0);
        assert_eq!(between(-f32::MAX, f32::MAX), 0.0);
        assert_eq!(between(1.0, 3.0), 2.0);
    }

    #[test]
    fn missing_values_find_their_side() {
        let value = |row: u16| match row % 3 {
            0 => f32::NAN,
            _ => f32::from(row % 7),
        };
        let features = Matrix {
            values: (0..90).map(value).collect(),
            width: 1,
        };
        // Missing ones belong with the high numbers, then with the low ones.
        for missing_class in [1, 0] {
            let class = |v: &f32| {
                if v.is_nan() {
                    missing_class
                } else {
                    u32::from(*v > 3.0)
                }
            };
            let labels: Vec<u32> = features.values.iter().map(class).collect();
            let params = Params {
                leaves: 2,
                leaf_rows: 1,
            };
            let trees = fit(
                &params,
                &features,
                Goal::Classes {
                    labels: &labels,
                    count: 2,
                },
            );
            for (row, label) in labels.iter().enumerate() {
                assert!(trees.sums(&features, 90)[row * 2 + *label as usize] > 0.9);
            }
        }
    }

    /// The best first split, tried naively on every value.
    fn naive_gain(values: &[f32], targets: &[f32]) -> f64 {
        let square = |rows: &[usize]| {
            let sum: f64 = rows.iter().map(|&r| f64::from(targets[r])).sum();
            sum * sum / f64::from(u32::try_from(rows.len()).unwrap())
        };
        let all: Vec<usize> = (0..values.len()).collect();
        let mut best = 0.0_f64;
        for &cut in values {
            let (left, right): (Vec<usize>, Vec<usize>) =
                all.iter().partition(|&&r| values[r] <= cut);
            if !left.is_empty() && !right.is_empty() {
                best = best.max(square(&left) + square(&right) - square(&all));
            }
        }
        best
    }

    proptest! {
        #[test]
        fn the_first_split_is_the_best_one(
            rows in proptest::collection::vec((0_u8..12, -3.0_f32..3.0), 4..40)
        ) {
            let values: Vec<f32> = rows.iter().map(|r| f32::from(r.0) / 3.0).collect();
            let targets: Vec<f32> = rows.iter().map(|r| r.1).collect();
            let features = Matrix { values: values.clone(), width: 1 };
            let trees = fit(&Params { leaves: 2, leaf_rows: 1 }, &features, Goal::Numbers(&targets));
            let predicted = trees.sums(&features, rows.len());
            let mean = |v: &[f32]| v.iter().map(|x| f64::from(*x)).sum::<f64>() / rows.len() as f64;
            let count = rows.len() as f64;
            // Σ ŷ² − n·ȳ² is the gain of the split that was made.
            let made = predicted.iter().map(|p| f64::from(*p).powi(2)).sum::<f64>() - count * mean(&targets).powi(2);
            prop_assert!((made - naive_gain(&values, &targets)).abs() < 1e-3, "{made}");
        }

        /// Leaves hold the mean of exactly the rows that prediction sends there: bins and
        /// thresholds agree on every training value.
        #[test]
        fn prediction_and_growth_agree_on_training_rows(
            rows in proptest::collection::vec((any::<f32>(), -3.0_f32..3.0), 4..60)
        ) {
            let values: Vec<f32> = rows.iter().map(|r| if r.0.is_infinite() { f32::NAN } else { r.0 }).collect();
            let targets: Vec<f32> = rows.iter().map(|r| r.1).collect();
            let features = Matrix { values, width: 1 };
            let bins = Bins::new(&features, rows.len());
            let weights = vec![1.0; rows.len()];
            let pulls = Pulls { values: &targets, outputs: 1, weights: &weights };
            let growth = Growth { leaves: 16, leaf_rows: 1, leaf_weight: 0.0, l2: 0.0, rate: 1.0 };
            let all = (0..u32::try_from(rows.len()).unwrap()).collect();
            let (nodes, members) = grow(&bins, &growth, &pulls, all, &[0]);
            let tree = Tree { output: 0, nodes };
            for (node, members) in members {
                let Node::Leaf(leaf) = &tree.nodes[node] else { panic!("members are of leaves") };
                for row in members {
                    prop_assert!(std::ptr::eq(tree.leaf(features.row(row as usize)), leaf.as_slice()));
                }
            }
        }
    }
}

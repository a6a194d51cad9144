//! The models that training chooses from.
//!
//! Owns: each algorithm's parameters, its fit and its prediction. Must not know: raw
//! columns, files, or how candidates are chosen. Everything predicts in the 32-bit
//! arithmetic of the exported graph.

mod bins;
pub mod boosting;
mod layers;
pub mod linear;
pub mod network;
mod product;
pub mod tree;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::prepare::Features;
pub use layers::{Layer, Layers};
pub use tree::{Node, Tree, Trees};

/// An algorithm and its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "snake_case")]
pub enum Config {
    /// A linear model: least squares for numbers, softmax for classes.
    Linear(linear::Params),
    /// One decision tree.
    Tree(tree::Params),
    /// Gradient-boosted trees.
    Boosting(boosting::Params),
    /// A small neural network.
    Network(network::Params),
}

/// A fitted model, before its link and scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Affine layers with rectifiers between; a linear model is one layer.
    Layers(Layers),
    /// A sum of trees.
    Trees(Trees),
}

/// What to learn, row by row.
#[derive(Debug, Clone, Copy)]
pub enum Goal<'a> {
    /// Classes.
    Classes {
        /// Each row's class.
        labels: &'a [u32],
        /// How many classes there are.
        count: usize,
    },
    /// Numbers of mean 0 and deviation 1.
    Numbers(&'a [f32]),
}

/// How a model's sums become predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// As they are: numbers, or the class shares of a tree's leaves.
    Identity,
    /// A softmax over as many sums as there are classes.
    Softmax,
    /// One sum: the log-odds of the second of two classes.
    LogOdds,
}

/// Asked between steps; true means to give up.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

impl Config {
    /// The algorithm's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear(_) => "linear",
            Self::Tree(_) => "tree",
            Self::Boosting(_) => "boosting",
            Self::Network(_) => "network",
        }
    }

    /// Fits; `None` if told to stop before it was done.
    #[must_use]
    pub fn fit(
        &self,
        features: &Features,
        goal: Goal<'_>,
        rng: &mut ChaCha8Rng,
        stop: Stop<'_>,
    ) -> Option<Model> {
        match self {
            Self::Linear(params) => {
                linear::fit(params, &features.dense, goal, stop).map(Model::Layers)
            }
            Self::Tree(params) => Some(Model::Trees(tree::fit(params, &features.trees, goal))),
            Self::Boosting(params) => {
                boosting::fit(params, &features.trees, goal, rng, stop).map(Model::Trees)
            }
            Self::Network(params) => {
                network::fit(params, &features.dense, goal, rng, stop).map(Model::Layers)
            }
        }
    }
}

impl Model {
    /// Row-major predictions of all rows: probabilities, or scaled numbers.
    #[must_use]
    pub fn predict(&self, features: &Features, rows: usize) -> Vec<f32> {
        let (sums, width, link) = match self {
            Self::Layers(layers) => (
                layers.sums(&features.dense, rows),
                layers.width(),
                layers.link,
            ),
            Self::Trees(trees) => (
                trees.sums(&features.trees, rows),
                trees.base.len(),
                trees.link,
            ),
        };
        link.apply(sums, width)
    }
}

impl Goal<'_> {
    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Classes { labels, .. } => labels.len(),
            Self::Numbers(values) => values.len(),
        }
    }
}

impl Link {
    /// Turns sums, `width` a row, into predictions.
    #[must_use]
    pub fn apply(self, mut sums: Vec<f32>, width: usize) -> Vec<f32> {
        match self {
            Self::Identity => sums,
            Self::Softmax => {
                sums.chunks_exact_mut(width).for_each(softmax);
                sums
            }
            Self::LogOdds => {
                let mut pairs: Vec<f32> = sums.into_iter().flat_map(|sum| [0.0, sum]).collect();
                pairs.chunks_exact_mut(2).for_each(softmax);
                pairs
            }
        }
    }
}

/// Softmax in place, shifted by the maximum so that it cannot overflow.
pub(super) fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for value in row.iter_mut() {
        *value = (*value - most).exp();
        total += *value;
    }
    row.iter_mut().for_each(|value| *value /= total);
}

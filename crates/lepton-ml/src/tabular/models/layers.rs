//! Affine layers with rectifiers between: linear models and networks.
//!
//! Owns: their parameters and the forward pass. Must not know: how they were fitted.

use serde::{Deserialize, Serialize};

use super::super::prepare::Matrix;
use super::Link;
use super::product::{View, multiply};

/// Layers, from features to sums.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layers {
    /// At least one; all but the last are followed by a rectifier.
    pub layers: Vec<Layer>,
    /// What becomes of the last layer's sums.
    pub link: Link,
}

/// `x·weights + bias`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Row-major, one row an input.
    pub weights: Vec<f32>,
    /// One an output.
    pub bias: Vec<f32>,
}

impl Layers {
    /// How many sums a row has.
    #[must_use]
    pub fn width(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.bias.len())
    }

    /// The last layer's sums, row-major.
    #[must_use]
    pub fn sums(&self, features: &Matrix, rows: usize) -> Vec<f32> {
        let mut values = self.layers[0].forward(&features.values, rows);
        for layer in &self.layers[1..] {
            values.iter_mut().for_each(|v| *v = v.max(0.0));
            values = layer.forward(&values, rows);
        }
        values
    }
}

impl Layer {
    /// How many inputs there are.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.weights.len() / self.bias.len()
    }

    pub(super) fn forward(&self, inputs: &[f32], rows: usize) -> Vec<f32> {
        let mut out = self.bias.repeat(rows);
        let outputs = self.bias.len();
        multiply(
            View::new(inputs, rows, self.inputs()),
            View::new(&self.weights, self.inputs(), outputs),
            1.0,
            &mut out,
        );
        out
    }
}

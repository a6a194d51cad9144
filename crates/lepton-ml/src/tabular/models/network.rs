//! A small neural network: rectified layers, dropout, Adam (Kingma and Ba 2015) with decoupled
//! weight decay (Loshchilov and Hutter 2019) and a cosine schedule.
//!
//! Owns: the backward pass and the optimiser. Must not know: which width is best.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::super::prepare::Matrix;
use super::layers::{Layer, Layers};
use super::product::{View, multiply};
use super::{Goal, Link, Stop, softmax};

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Units of each hidden layer.
    pub width: usize,
    /// Hidden layers.
    pub depth: usize,
    /// Passes over the rows, more if they are few.
    pub epochs: usize,
    /// The highest learning rate.
    pub rate: f32,
    /// Decay of weights, in parts of the learning rate.
    pub decay: f32,
    /// The part of the units left out of a step.
    pub dropout: f32,
}

/// Rows of a step.
const BATCH_ROWS: usize = 32;
/// The fewest steps, for small data: wine has four in a pass.
const STEPS_MIN: usize = 600;
/// The most steps, for large data.
const STEPS_MAX: usize = 20_000;
const MOMENTUM: f32 = 0.9;
const MOMENTUM_SQUARED: f32 = 0.999;

/// Fits; `None` if told to stop.
#[must_use]
pub fn fit(
    params: &Params,
    features: &Matrix,
    goal: Goal<'_>,
    rng: &mut ChaCha8Rng,
    stop: Stop<'_>,
) -> Option<Layers> {
    let rows = goal.rows();
    let mut layers = initial(params, features.width, goal, rng);
    let mut optimiser = Adam::new(&layers);
    let batch = BATCH_ROWS.min(rows);
    let steps = (params.epochs * rows / batch).clamp(STEPS_MIN, STEPS_MAX);
    let mut order: Vec<usize> = (0..rows).collect();
    let mut next = rows;
    for step in 0..steps {
        if step % 16 == 0 && stop() {
            return None;
        }
        if next + batch > rows {
            order.shuffle(rng);
            next = 0;
        }
        let chosen = &order[next..next + batch];
        next += batch;
        let masks = masks(params, batch, rng);
        let gradients = backward(&layers, features, goal, chosen, &masks).0;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share of at most 20,000 steps"
        )]
        let progress = step as f32 / steps as f32;
        // Warms up over the first twentieth, then falls as a cosine.
        let rate = params.rate
            * (progress * 20.0).min(1.0)
            * 0.5
            * (1.0 + (std::f32::consts::PI * progress).cos());
        optimiser.step(&mut layers, &gradients, rate, params.decay);
    }
    Some(layers)
}

/// He initialisation (He et al. 2015); the last layer begins small.
fn initial(params: &Params, inputs: usize, goal: Goal<'_>, rng: &mut ChaCha8Rng) -> Layers {
    let (outputs, link) = match goal {
        Goal::Numbers(_) => (1, Link::Identity),
        Goal::Classes { count, .. } => (count, Link::Softmax),
    };
    let mut widths = vec![inputs];
    widths.extend(std::iter::repeat_n(params.width, params.depth));
    widths.push(outputs);
    let layers = widths
        .windows(2)
        .enumerate()
        .map(|(at, pair)| {
            #[expect(clippy::cast_precision_loss, reason = "widths are small")]
            let deviation =
                (2.0 / pair[0].max(1) as f32).sqrt() * if at == params.depth { 0.3 } else { 1.0 };
            // Uniform of that deviation: its bounds are √3 as far.
            let bound = deviation * 3.0_f32.sqrt();
            let weights = (0..pair[0] * pair[1])
                .map(|_| rng.random_range(-bound..=bound))
                .collect();
            Layer {
                weights,
                bias: vec![0.0; pair[1]],
            }
        })
        .collect();
    Layers { layers, link }
}

/// For each hidden layer, what its units are multiplied by.
fn masks(params: &Params, rows: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
    if params.dropout <= 0.0 {
        return Vec::new();
    }
    let kept = 1.0 / (1.0 - params.dropout);
    let unit = |rng: &mut ChaCha8Rng| {
        if rng.random::<f32>() < params.dropout {
            0.0
        } else {
            kept
        }
    };
    (0..params.depth)
        .map(|_| (0..rows * params.width).map(|_| unit(rng)).collect())
        .collect()
}

/// The gradient of the mean loss over these rows, layer by layer, and that loss.
fn backward(
    layers: &Layers,
    features: &Matrix,
    goal: Goal<'_>,
    rows: &[usize],
    masks: &[Vec<f32>],
) -> (Vec<Layer>, f32) {
    let count = rows.len();
    let mut inputs = Vec::with_capacity(count * features.width);
    rows.iter()
        .for_each(|&row| inputs.extend_from_slice(features.row(row)));
    let mut activations = vec![inputs];
    for (at, layer) in layers.layers.iter().enumerate() {
        let mut out = layer.forward(&activations[at], count);
        if at + 1 < layers.layers.len() {
            out.iter_mut().for_each(|v| *v = v.max(0.0));
            if let Some(mask) = masks.get(at) {
                out.iter_mut().zip(mask).for_each(|(v, m)| *v *= m);
            }
        }
        activations.push(out);
    }
    let mut errors = activations.pop().unwrap_or_default();
    let loss = output_errors(&mut errors, goal, rows);
    let mut gradients = Vec::with_capacity(layers.layers.len());
    for (at, layer) in layers.layers.iter().enumerate().rev() {
        let (inputs, outputs) = (layer.inputs(), layer.bias.len());
        let mut weights = vec![0.0; inputs * outputs];
        let seen = View::new(&activations[at], count, inputs);
        multiply(
            seen.transposed(),
            View::new(&errors, count, outputs),
            0.0,
            &mut weights,
        );
        let mut bias = vec![0.0; outputs];
        for row in errors.chunks_exact(outputs) {
            bias.iter_mut().zip(row).for_each(|(b, e)| *b += e);
        }
        gradients.push(Layer { weights, bias });
        if at > 0 {
            let mut before = vec![0.0; count * inputs];
            let by_output = View::new(&layer.weights, inputs, outputs).transposed();
            multiply(
                View::new(&errors, count, outputs),
                by_output,
                0.0,
                &mut before,
            );
            for (index, (error, value)) in before.iter_mut().zip(&activations[at]).enumerate() {
                let mask = masks.get(at - 1).map_or(1.0, |mask| mask[index]);
                *error = if *value > 0.0 { *error * mask } else { 0.0 };
            }
            errors = before;
        }
    }
    gradients.reverse();
    (gradients, loss)
}

/// Turns the last sums into their gradient of the mean loss; tells that loss.
fn output_errors(sums: &mut [f32], goal: Goal<'_>, rows: &[usize]) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
    let share = 1.0 / rows.len() as f32;
    let mut loss = 0.0;
    match goal {
        Goal::Numbers(values) => {
            for (sum, &row) in sums.iter_mut().zip(rows) {
                let error = *sum - values[row];
                loss += 0.5 * error * error * share;
                *sum = error * share;
            }
        }
        Goal::Classes { labels, count } => {
            for (sums, &row) in sums.chunks_exact_mut(count).zip(rows) {
                softmax(sums);
                let own = &mut sums[labels[row] as usize];
                loss -= own.max(f32::MIN_POSITIVE).ln() * share;
                *own -= 1.0;
                sums.iter_mut().for_each(|s| *s *= share);
            }
        }
    }
    loss
}

/// First and second moments of each parameter.
struct Adam {
    moments: Vec<(Layer, Layer)>,
    /// Powers of the two momenta, for the bias correction.
    powers: (f32, f32),
}

impl Adam {
    fn new(layers: &Layers) -> Self {
        let zero = |layer: &Layer| Layer {
            weights: vec![0.0; layer.weights.len()],
            bias: vec![0.0; layer.bias.len()],
        };
        let moments = layers
            .layers
            .iter()
            .map(|layer| (zero(layer), zero(layer)))
            .collect();
        Self {
            moments,
            powers: (1.0, 1.0),
        }
    }

    fn step(&mut self, layers: &mut Layers, gradients: &[Layer], rate: f32, decay: f32) {
        self.powers = (self.powers.0 * MOMENTUM, self.powers.1 * MOMENTUM_SQUARED);
        let powers = self.powers;
        for ((layer, gradient), (first, second)) in layers
            .layers
            .iter_mut()
            .zip(gradients)
            .zip(&mut self.moments)
        {
            layer
                .weights
                .iter_mut()
                .for_each(|w| *w -= rate * decay * *w);
            update(
                (&mut layer.weights, &gradient.weights),
                (&mut first.weights, &mut second.weights),
                rate,
                powers,
            );
            update(
                (&mut layer.bias, &gradient.bias),
                (&mut first.bias, &mut second.bias),
                rate,
                powers,
            );
        }
    }
}

fn update(
    (values, gradient): (&mut [f32], &[f32]),
    (first, second): (&mut [f32], &mut [f32]),
    rate: f32,
    powers: (f32, f32),
) {
    for (((value, g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
        *m = MOMENTUM * *m + (1.0 - MOMENTUM) * g;
        *v = MOMENTUM_SQUARED * *v + (1.0 - MOMENTUM_SQUARED) * g * g;
        let (m, v) = (*m / (1.0 - powers.0), *v / (1.0 - powers.1));
        *value -= rate * m / (v.sqrt() + 1e-8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const PARAMS: Params = Params {
        width: 8,
        depth: 2,
        epochs: 40,
        rate: 0.01,
        decay: 0.01,
        dropout: 0.25,
    };

    fn noise(rows: usize, width: usize) -> Matrix {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        Matrix {
            values: (0..rows * width)
                .map(|_| rng.random_range(-1.0..1.0))
                .collect(),
            width,
        }
    }

    /// Every parameter's gradient, against central differences, with dropout and without;
    /// and none of the layers is cut off.
    #[test]
    fn gradients_are_those_of_finite_differences_and_reach_every_layer() {
        let features = noise(16, 3);
        let labels: Vec<u32> = (0..16).map(|r| r % 3).collect();
        let numbers: Vec<f32> = (0..16).map(|r| features.row(r)[0] * 2.0).collect();
        let rows: Vec<usize> = (0..16).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for goal in [
            Goal::Classes {
                labels: &labels,
                count: 3,
            },
            Goal::Numbers(&numbers),
        ] {
            for masks in [masks(&PARAMS, 16, &mut rng), Vec::new()] {
                let mut layers = initial(&PARAMS, 3, goal, &mut rng);
                let gradients = backward(&layers, &features, goal, &rows, &masks).0;
                let (mut bad, mut tried) = (0, 0);
                for (at, gradient) in gradients.iter().enumerate() {
                    for part in 0..2 {
                        let values = if part == 0 {
                            &gradient.weights
                        } else {
                            &gradient.bias
                        };
                        assert!(
                            values.iter().any(|g| g.abs() > 1e-6),
                            "layer {at} learns nothing"
                        );
                        for (index, expected) in values.iter().enumerate() {
                            let mut beside = |by: f32| {
                                let layer = &mut layers.layers[at];
                                let value = if part == 0 {
                                    &mut layer.weights[index]
                                } else {
                                    &mut layer.bias[index]
                                };
                                *value += by;
                                let loss = backward(&layers, &features, goal, &rows, &masks).1;
                                let layer = &mut layers.layers[at];
                                let value = if part == 0 {
                                    &mut layer.weights[index]
                                } else {
                                    &mut layer.bias[index]
                                };
                                *value -= by;
                                loss
                            };
                            let slope = (beside(2e-3) - beside(-2e-3)) / 4e-3;
                            tried += 1;
                            bad += usize::from(
                                (slope - expected).abs() > 2e-3 + 0.02 * expected.abs(),
                            );
                        }
                    }
                }
                // A rectifier's corner may lie between the two points of a few.
                assert!(bad * 20 <= tried, "{bad} of {tried}");
            }
        }
    }

    #[test]
    fn exclusive_or_is_learned_and_repeats_exactly() {
        let features = noise(300, 2);
        let labels: Vec<u32> = (0..300)
            .map(|r| u32::from(features.row(r)[0] * features.row(r)[1] > 0.0))
            .collect();
        let goal = Goal::Classes {
            labels: &labels,
            count: 2,
        };
        let params = Params {
            width: 16,
            dropout: 0.0,
            epochs: 100,
            ..PARAMS
        };
        let once = || {
            fit(
                &params,
                &features,
                goal,
                &mut ChaCha8Rng::seed_from_u64(4),
                &|| false,
            )
            .unwrap()
        };
        let layers = once();
        let sums = layers.sums(&features, 300);
        let right = sums
            .chunks(2)
            .zip(&labels)
            .filter(|(s, l)| usize::from(s[1] > s[0]) == **l as usize)
            .count();
        assert!(right > 285, "{right}");
        assert_eq!(layers, once());
    }
}

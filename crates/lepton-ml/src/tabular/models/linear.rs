//! Linear models: ridge and elastic-net least squares, L2-regularised softmax.
//!
//! Owns: the solvers. Must not know: how the penalty is chosen. Solved in 64 bits, kept
//! in 32.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::super::prepare::Matrix;
use super::layers::{Layer, Layers};
use super::product::{View, multiply};
use super::{Goal, Link, Stop};

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Params {
    /// Weight of the penalty beside the sum of losses; 1/C in other tools.
    pub penalty: f64,
    /// The part of the penalty that is L1, for numbers only: 0 is ridge, 1 is lasso.
    pub l1_share: f64,
}

/// Rounds of coordinate descent; diabetes needs 60.
const DESCENT_ROUNDS_MAX: usize = 1_000;
/// Steps of L-BFGS; wine needs 40.
const NEWTON_STEPS_MAX: usize = 300;
/// Pairs of steps that L-BFGS remembers (Nocedal and Wright 2006, section 7.2).
const NEWTON_MEMORY: usize = 10;

/// Fits; `None` if told to stop.
#[must_use]
pub fn fit(params: &Params, features: &Matrix, goal: Goal<'_>, stop: Stop<'_>) -> Option<Layers> {
    let values: Vec<f64> = features.values.iter().map(|v| f64::from(*v)).collect();
    let x = Design {
        values,
        rows: goal.rows(),
        width: features.width,
    };
    match goal {
        Goal::Numbers(targets) => least_squares(params, &x, targets, stop),
        Goal::Classes { labels, count } => softmax_regression(params, &x, labels, count, stop),
    }
}

/// The features in 64 bits.
struct Design {
    values: Vec<f64>,
    rows: usize,
    width: usize,
}

impl Design {
    fn view(&self) -> View<'_, f64> {
        View::new(&self.values, self.rows, self.width)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "models compute with 32 bits"
)]
fn layers(weights: &[f64], bias: &[f64], link: Link) -> Layers {
    let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect();
    Layers {
        layers: vec![Layer {
            weights: narrow(weights),
            bias: narrow(bias),
        }],
        link,
    }
}

fn least_squares(params: &Params, x: &Design, targets: &[f32], stop: Stop<'_>) -> Option<Layers> {
    let width = x.width;
    #[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
    let rows = x.rows as f64;
    let y: Vec<f64> = targets.iter().map(|t| f64::from(*t)).collect();
    let mut means = vec![0.0; width];
    for row in x.values.chunks_exact(width.max(1)) {
        means.iter_mut().zip(row).for_each(|(m, v)| *m += v / rows);
    }
    let y_mean = y.iter().sum::<f64>() / rows;
    // The Gram matrix of the centred features, and their products with the target.
    let mut gram = vec![0.0; width * width];
    multiply(x.view().transposed(), x.view(), 0.0, &mut gram);
    let mut moments = vec![0.0; width];
    multiply(
        x.view().transposed(),
        View::new(&y, x.rows, 1),
        0.0,
        &mut moments,
    );
    for i in 0..width {
        moments[i] -= rows * means[i] * y_mean;
        for j in 0..width {
            gram[i * width + j] -= rows * means[i] * means[j];
        }
    }
    if stop() {
        return None;
    }
    let weights = if params.l1_share > 0.0 {
        descend(params, &gram, &moments, stop)?
    } else {
        for i in 0..width {
            // A little more than nothing, so that equal columns stay solvable.
            gram[i * width + i] += params.penalty + 1e-8 * rows;
        }
        solve_cholesky(gram, moments)
    };
    let bias = y_mean - means.iter().zip(&weights).map(|(m, w)| m * w).sum::<f64>();
    Some(layers(&weights, &[bias], Link::Identity))
}

/// Solves `a·x = b` for a symmetric positive definite `a`, in place.
fn solve_cholesky(mut a: Vec<f64>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let rest = a[i * n + j] - dot;
            a[i * n + j] = if i == j {
                rest.max(1e-12).sqrt()
            } else {
                rest / a[j * n + j]
            };
        }
    }
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| a[i * n + k] * b[k]).sum();
        b[i] = (b[i] - dot) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| a[k * n + i] * b[k]).sum();
        b[i] = (b[i] - dot) / a[i * n + i];
    }
    b
}

/// Coordinate descent with covariance updates (Friedman, Hastie and Tibshirani 2010,
/// section 2.2).
fn descend(params: &Params, gram: &[f64], moments: &[f64], stop: Stop<'_>) -> Option<Vec<f64>> {
    let width = moments.len();
    let l1 = params.penalty * params.l1_share;
    let l2 = params.penalty * (1.0 - params.l1_share);
    let mut weights = vec![0.0; width];
    let mut residual = moments.to_vec();
    for _ in 0..DESCENT_ROUNDS_MAX {
        if stop() {
            return None;
        }
        let mut moved = 0.0_f64;
        for j in 0..width {
            let own = gram[j * width + j];
            if own <= 1e-12 {
                continue;
            }
            let pull = residual[j] + own * weights[j];
            let next = pull.signum() * (pull.abs() - l1).max(0.0) / (own + l2);
            let step = next - weights[j];
            if step != 0.0 {
                weights[j] = next;
                let column = &gram[j * width..(j + 1) * width];
                residual
                    .iter_mut()
                    .zip(column)
                    .for_each(|(r, g)| *r -= g * step);
                moved = moved.max(step.abs());
            }
        }
        if moved < 1e-7 {
            break;
        }
    }
    Some(weights)
}

fn softmax_regression(
    params: &Params,
    x: &Design,
    labels: &[u32],
    classes: usize,
    stop: Stop<'_>,
) -> Option<Layers> {
    let start = vec![0.0; (x.width + 1) * classes];
    let loss = |w: &[f64], gradient: &mut [f64]| softmax_loss(params, x, labels, w, gradient);
    let solution = minimise(start, loss, stop)?;
    let (weights, bias) = solution.split_at(x.width * classes);
    Some(layers(weights, bias, Link::Softmax))
}

/// The mean loss and its gradient; `w` holds the weights, then the biases.
fn softmax_loss(
    params: &Params,
    x: &Design,
    labels: &[u32],
    w: &[f64],
    gradient: &mut [f64],
) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
    let rows = x.rows as f64;
    let classes = w.len() / (x.width + 1);
    let (weights, bias) = w.split_at(x.width * classes);
    let mut scores = bias.repeat(x.rows);
    multiply(
        x.view(),
        View::new(weights, x.width, classes),
        1.0,
        &mut scores,
    );
    let mut loss = 0.0;
    for (row, &label) in scores.chunks_exact_mut(classes).zip(labels) {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let own = row[label as usize] - most;
        let mut total = 0.0;
        for value in row.iter_mut() {
            *value = (*value - most).exp();
            total += *value;
        }
        loss += total.ln() - own;
        row.iter_mut().for_each(|value| *value /= total * rows);
        row[label as usize] -= 1.0 / rows;
    }
    let (by_weight, by_bias) = gradient.split_at_mut(x.width * classes);
    let errors = View::new(&scores, x.rows, classes);
    multiply(x.view().transposed(), errors, 0.0, by_weight);
    by_bias.fill(0.0);
    for row in scores.chunks_exact(classes) {
        by_bias.iter_mut().zip(row).for_each(|(g, e)| *g += e);
    }
    let decay = params.penalty / rows;
    by_weight
        .iter_mut()
        .zip(weights)
        .for_each(|(g, w)| *g += decay * w);
    loss / rows + decay / 2.0 * weights.iter().map(|w| w * w).sum::<f64>()
}

/// L-BFGS with a backtracking search (Nocedal and Wright 2006, algorithms 7.4, 7.5).
fn minimise(
    mut at: Vec<f64>,
    loss: impl Fn(&[f64], &mut [f64]) -> f64,
    stop: Stop<'_>,
) -> Option<Vec<f64>> {
    let mut gradient = vec![0.0; at.len()];
    let mut value = loss(&at, &mut gradient);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
    for _ in 0..NEWTON_STEPS_MAX {
        if stop() {
            return None;
        }
        let direction = quasi_newton(&gradient, &memory);
        let slope = dot(&direction, &gradient);
        if slope > -1e-14 || gradient.iter().all(|g| g.abs() < 1e-6) {
            break;
        }
        let mut step = if memory.is_empty() {
            1.0 / dot(&gradient, &gradient).sqrt()
        } else {
            1.0
        };
        let mut next_gradient = vec![0.0; at.len()];
        let (next, next_value) = loop {
            let next: Vec<f64> = at
                .iter()
                .zip(&direction)
                .map(|(a, d)| a + step * d)
                .collect();
            let next_value = loss(&next, &mut next_gradient);
            // Armijo's condition; below the smallest step nothing is to be gained.
            if next_value <= value + 1e-4 * step * slope {
                break (next, next_value);
            }
            step /= 2.0;
            if step < 1e-10 {
                return Some(at);
            }
        };
        let moved: Vec<f64> = next.iter().zip(&at).map(|(n, a)| n - a).collect();
        let turned: Vec<f64> = next_gradient
            .iter()
            .zip(&gradient)
            .map(|(n, g)| n - g)
            .collect();
        let curvature = dot(&moved, &turned);
        if curvature > 1e-12 {
            memory.push_back((moved, turned, 1.0 / curvature));
            if memory.len() > NEWTON_MEMORY {
                memory.pop_front();
            }
        }
        let gained = value - next_value;
        (at, value, gradient) = (next, next_value, next_gradient);
        if gained < 1e-10 * value.abs().max(1e-3) {
            break;
        }
    }
    Some(at)
}

/// The two-loop recursion.
fn quasi_newton(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for (moved, turned, inverse) in memory.iter().rev() {
        let share = inverse * dot(moved, &direction);
        direction
            .iter_mut()
            .zip(turned)
            .for_each(|(d, t)| *d -= share * t);
        shares.push(share);
    }
    if let Some((_, turned, inverse)) = memory.back() {
        let scale = 1.0 / (inverse * dot(turned, turned));
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for ((moved, turned, inverse), share) in memory.iter().zip(shares.into_iter().rev()) {
        let back = inverse * dot(turned, &direction);
        direction
            .iter_mut()
            .zip(moved)
            .for_each(|(d, m)| *d += (share - back) * m);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn noise(rows: usize, width: usize) -> Matrix {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let values = (0..rows * width)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        Matrix { values, width }
    }

    #[test]
    fn ridge_solves_its_normal_equations() {
        let x = noise(60, 4);
        let y: Vec<f32> = (0..60)
            .map(|r| 2.0 * x.row(r)[0] - x.row(r)[3] + 0.5)
            .collect();
        let params = Params {
            penalty: 3.0,
            l1_share: 0.0,
        };
        let model = fit(&params, &x, Goal::Numbers(&y), &|| false).unwrap();
        let predicted = model.sums(&x, 60);
        // At the optimum: xᵀ(y − ŷ) = penalty·w, and the residuals sum to nothing.
        for j in 0..4 {
            let pull: f32 = (0..60).map(|r| x.row(r)[j] * (y[r] - predicted[r])).sum();
            assert!((pull - 3.0 * model.layers[0].weights[j]).abs() < 1e-3);
        }
        assert!(
            y.iter()
                .zip(&predicted)
                .map(|(a, b)| a - b)
                .sum::<f32>()
                .abs()
                < 1e-3
        );
    }

    #[test]
    fn lasso_satisfies_its_optimality_conditions_and_drops_noise() {
        let x = noise(200, 6);
        let y: Vec<f32> = (0..200).map(|r| 2.0 * x.row(r)[1]).collect();
        let params = Params {
            penalty: 5.0,
            l1_share: 1.0,
        };
        let model = fit(&params, &x, Goal::Numbers(&y), &|| false).unwrap();
        let predicted = model.sums(&x, 200);
        for (j, weight) in model.layers[0].weights.iter().enumerate() {
            let pull: f32 = (0..200).map(|r| x.row(r)[j] * (y[r] - predicted[r])).sum();
            if *weight == 0.0 {
                assert!(pull.abs() <= 5.01);
            } else {
                assert!((pull - 5.0 * weight.signum()).abs() < 0.01, "{j}: {pull}");
            }
        }
        assert_eq!(
            model.layers[0]
                .weights
                .iter()
                .filter(|w| **w != 0.0)
                .count(),
            1
        );
    }

    #[test]
    fn the_softmax_gradient_is_that_of_finite_differences() {
        let features = noise(30, 3);
        let values = features.values.iter().map(|v| f64::from(*v)).collect();
        let x = Design {
            values,
            rows: 30,
            width: 3,
        };
        let labels: Vec<u32> = (0..30).map(|r| r % 3).collect();
        let params = Params {
            penalty: 0.7,
            l1_share: 0.0,
        };
        let at: Vec<f64> = (0..12).map(|i| f64::from(i) * 0.1 - 0.5).collect();
        let mut gradient = vec![0.0; 12];
        softmax_loss(&params, &x, &labels, &at, &mut gradient);
        for i in 0..12 {
            let beside = |by: f64| {
                let mut moved = at.clone();
                moved[i] += by;
                softmax_loss(&params, &x, &labels, &moved, &mut [0.0; 12])
            };
            let slope = (beside(1e-5) - beside(-1e-5)) / 2e-5;
            assert!(
                (slope - gradient[i]).abs() < 1e-7,
                "{i}: {slope} {}",
                gradient[i]
            );
        }
        let solved = softmax_regression(&params, &x, &labels, 3, &|| false).unwrap();
        let flat: Vec<f64> = solved.layers[0]
            .weights
            .iter()
            .chain(&solved.layers[0].bias)
            .map(|v| f64::from(*v))
            .collect();
        softmax_loss(&params, &x, &labels, &flat, &mut gradient);
        assert!(gradient.iter().all(|g| g.abs() < 1e-4), "{gradient:?}");
    }

    #[test]
    fn told_to_stop_it_stops() {
        let x = noise(30, 3);
        let params = Params {
            penalty: 1.0,
            l1_share: 0.0,
        };
        assert!(fit(&params, &x, Goal::Numbers(&[0.5; 30]), &|| true).is_none());
    }
}

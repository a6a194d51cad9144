//! Which candidates are tried, in which order.
//!
//! Owns: the fixed portfolio and the random proposals after it. Must not know: scores.

use lepton_types::signature::Task;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::models::{Config, boosting, linear, network, tree};

/// The candidate of a trial: first a fixed portfolio, cheap and different ones ahead, then
/// random draws around it.
#[must_use]
pub fn candidate(task: Task, rows: usize, trial: u32, rng: &mut ChaCha8Rng) -> Config {
    let fixed = portfolio(task, rows);
    match fixed.into_iter().nth(trial as usize) {
        Some(config) => config,
        None => draw(task, rng),
    }
}

fn portfolio(task: Task, rows: usize) -> Vec<Config> {
    let tree = Config::Tree(tree::Params {
        leaves: 16,
        leaf_rows: 5,
    });
    let boosting = boosting::Params {
        rounds: 100,
        rate: 0.1,
        leaves: 15,
        leaf_rows: if rows < 2_000 { 5 } else { 20 },
        l2: 1.0,
        row_share: 0.8,
        column_share: 0.5,
    };
    let network = network::Params {
        width: 64,
        depth: 1,
        epochs: 60,
        rate: 3e-3,
        decay: 0.02,
        dropout: 0.2,
    };
    let wide = network::Params {
        width: 128,
        dropout: 0.4,
        ..network
    };
    let slow = boosting::Params {
        rounds: 200,
        rate: 0.05,
        leaves: 8,
        column_share: 0.3,
        ..boosting
    };
    let first = [
        linear(1.0, 0.0),
        Config::Boosting(boosting),
        Config::Network(network),
        tree,
    ];
    let rest = match task {
        Task::Classification => [
            linear(0.1, 0.0),
            linear(10.0, 0.0),
            Config::Network(wide),
            Config::Boosting(slow),
        ],
        Task::Regression => [
            linear(30.0, 0.0),
            linear(10.0, 0.9),
            Config::Network(network::Params {
                width: 16,
                decay: 0.3,
                ..network
            }),
            Config::Boosting(boosting::Params {
                leaves: 4,
                rate: 0.05,
                ..slow
            }),
        ],
    };
    first.into_iter().chain(rest).collect()
}

fn linear(penalty: f64, l1_share: f64) -> Config {
    Config::Linear(linear::Params { penalty, l1_share })
}

fn draw(task: Task, rng: &mut ChaCha8Rng) -> Config {
    match rng.random_range(0..5) {
        0 => {
            let l1_share = if task == Task::Regression && rng.random() {
                0.9
            } else {
                0.0
            };
            linear(between(rng, 0.01, 300.0), l1_share)
        }
        1 | 2 => {
            let rate = between(rng, 0.02, 0.3);
            Config::Boosting(boosting::Params {
                // Slow learners get more rounds.
                rounds: pick(rng, &[10, 15, 20]) * whole(1.0 / rate).clamp(3, 15),
                rate,
                leaves: pick(rng, &[4, 8, 16, 31]),
                leaf_rows: pick(rng, &[3, 5, 10, 20]),
                l2: between(rng, 0.1, 10.0),
                row_share: pick(rng, &[0.6, 0.8, 1.0]),
                column_share: pick(rng, &[0.3, 0.6, 1.0]),
            })
        }
        _ => Config::Network(network::Params {
            width: pick(rng, &[16, 32, 64, 128]),
            depth: pick(rng, &[1, 2]),
            epochs: pick(rng, &[30, 60, 100]),
            rate: pick(rng, &[1e-3, 3e-3, 1e-2]),
            decay: pick(rng, &[0.0, 0.02, 0.1, 0.3]),
            dropout: pick(rng, &[0.0, 0.2, 0.4]),
        }),
    }
}

/// Uniform on a logarithmic scale.
fn between(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    rng.random_range(low.ln()..high.ln()).exp()
}

fn pick<T: Copy>(rng: &mut ChaCha8Rng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small positive number"
)]
fn whole(value: f64) -> usize {
    value as usize
}

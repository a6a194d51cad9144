//! Many seeds. `LEPTON_SIM_SEEDS=10000` runs more; `LEPTON_SIM_SEED=7` repeats one.
#![allow(clippy::unwrap_used, reason = "a test's steps")]

use std::sync::atomic::{AtomicU64, Ordering};

use lepton_sim::{Outcome, Settings, simulate};

/// Enough for every step and every fault to come up hundreds of times; a minute of processor time.
const SEEDS: u64 = 50;

fn run(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match runtime.block_on(simulate(seed, &Settings::default())) {
        Ok(outcome) => outcome,
        Err(failed) => panic!(
            "{failed}\nrepeat it with: LEPTON_SIM_SEED={seed} cargo test -p lepton-sim --test seeds"
        ),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_seed_breaks_a_rule() {
    if let Some(seed) = number("LEPTON_SIM_SEED") {
        println!("{}", run(seed).story.join("\n"));
        return;
    }
    let seeds = number("LEPTON_SIM_SEEDS").unwrap_or(SEEDS);
    let (next, crashes, workers) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = run(seed);
                    crashes.fetch_add(outcome.crashes, Ordering::SeqCst);
                    workers.fetch_add(outcome.workers, Ordering::SeqCst);
                }
            });
        }
    });
    println!("{seeds} seeds, {crashes:?} crashes of the server, {workers:?} workers");
    assert!(
        crashes.into_inner() > seeds,
        "a simulation without crashes shows little"
    );
    assert!(
        workers.into_inner() > 5 * seeds,
        "a simulation without workers shows little"
    );
}

/// Whatever the disk and the processors have to do besides.
#[test]
fn a_seed_repeats() {
    for seed in [3, 7] {
        let (one, other) = (run(seed), run(seed));
        let differs = one.story.iter().zip(&other.story).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed} went two ways");
        assert_eq!(one, other, "seed {seed}");
    }
}

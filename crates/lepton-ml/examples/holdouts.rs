//! Trains on twenty seeded 30 % hold-outs of each data set and writes models and splits, for
//! `benches/tabular/compare.py` to judge beside scikit-learn.
//!
//! `holdouts DATA_FOLDER OUT_FOLDER [BUDGET, such as 4s or 8] [SPLITS] [METRIC]`
//!
//! `ONLY` in the environment names a single set, `FROM` the first split, to share out the work.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use lepton_ml::tabular::{Budget, Frame, ReadOptions, Source, TrainOptions, read, train};
use lepton_types::SystemClock;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The last column of each is its target.
const SETS: [&str; 5] = ["breast_cancer", "wine", "iris", "digits", "diabetes"];

#[expect(clippy::print_stdout, reason = "what it prints is its result")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let data = PathBuf::from(arguments.next().ok_or("which data folder?")?);
    let out = PathBuf::from(arguments.next().ok_or("which output folder?")?);
    let budget = arguments.next().unwrap_or_else(|| "8".to_owned());
    let budget = match budget.parse() {
        Ok(trials) => Budget::Trials(trials),
        Err(_) => Budget::Time(budget.parse()?),
    };
    let splits: u64 = arguments.next().map_or(Ok(20), |s| s.parse())?;
    let metric = arguments.next().map(|m| m.parse()).transpose()?;
    let only = std::env::var("ONLY").ok();
    let from = std::env::var("FROM").map_or(Ok(0), |from| from.parse())?;
    for set in SETS {
        if only.as_deref().is_some_and(|only| only != set) {
            continue;
        }
        let source = Source::Path(data.join(format!("{set}.csv")));
        let frame = read(&[source], &ReadOptions::default())?;
        let target = frame.names().last().ok_or("no columns")?.clone();
        let folder = out.join(set);
        fs::create_dir_all(&folder)?;
        for split in from..splits {
            let started = Instant::now();
            let (training, held_out) = divide(&frame, split);
            let options = TrainOptions {
                target: target.clone(),
                task: None,
                metric,
                budget,
                seed: split,
                threads: 2,
            };
            let trained = train(&frame.take(&training), &options, &SystemClock, &mut ())?;
            fs::write(folder.join(format!("{split}.onnx")), &trained.onnx)?;
            fs::write(
                folder.join(format!("{split}.rows.json")),
                serde_json::to_vec(&held_out)?,
            )?;
            let predictions = trained.predict(&frame.take(&held_out))?;
            fs::write(
                folder.join(format!("{split}.predictions.json")),
                serde_json::to_vec(&predictions)?,
            )?;
            for plot in &trained.plots {
                fs::write(folder.join(format!("{split}.{}.svg", plot.name)), &plot.svg)?;
            }
            let members: Vec<String> = trained
                .leaderboard
                .iter()
                .filter(|e| e.weight > 0.0)
                .map(|e| format!("{}#{} {:.2}", e.model, e.trial, e.weight))
                .collect();
            let figures: Vec<String> = trained
                .metrics
                .iter()
                .map(|(m, v)| format!("{m} {v:.4}"))
                .collect();
            println!(
                "{set} {split}: {:.1?}, {} trials, {} [{}]",
                started.elapsed(),
                trained.leaderboard.len(),
                figures.join(", "),
                members.join(" + ")
            );
            if split == 0 {
                for entry in &trained.leaderboard {
                    println!(
                        "    {} {} {:?} {:?}",
                        entry.trial, entry.model, entry.score, entry.outcome
                    );
                }
            }
        }
    }
    Ok(())
}

/// The first 70 % of a seeded shuffle, and the rest.
fn divide(frame: &Frame, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut rows: Vec<usize> = (0..frame.rows()).collect();
    rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let held_out = rows.split_off(frame.rows() * 7 / 10);
    (rows, held_out)
}

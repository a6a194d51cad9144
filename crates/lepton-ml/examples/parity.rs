//! Trains models of every kind and writes them with raw rows and the trainer's own predictions,
//! for `tests/clients/test_onnx_parity.py` to repeat in onnxruntime.
//!
//! `parity DATA_FOLDER OUT_FOLDER`

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use lepton_ml::tabular::models::{Config, boosting, linear, network, tree};
use lepton_ml::tabular::pipeline::{Lesson, Member, Pipeline};
use lepton_ml::tabular::prepare::Preparation;
use lepton_ml::tabular::target::Target;
use lepton_ml::tabular::{
    Budget, Column, Frame, ReadOptions, Source, TrainOptions, export, read, train,
};
use lepton_types::SystemClock;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let data = PathBuf::from(arguments.next().ok_or("which data folder?")?);
    let out = PathBuf::from(arguments.next().ok_or("which output folder?")?);
    fs::create_dir_all(&out)?;
    for set in ["breast_cancer", "wine", "iris", "digits", "diabetes"] {
        let source = Source::Path(data.join(format!("{set}.csv")));
        let frame = read(&[source], &ReadOptions::default())?;
        let target = frame.names().last().ok_or("no columns")?.clone();
        let options = TrainOptions {
            target: target.clone(),
            task: None,
            metric: None,
            budget: Budget::Trials(8),
            seed: 1,
            threads: 2,
        };
        let trained = train(&frame, &options, &SystemClock, &mut ())?;
        let predictions = trained.predict(&frame)?;
        write(
            &out,
            set,
            (&trained.onnx, &json!(trained.signature)),
            &frame,
            &predictions,
        )?;
        every_model(&out, set, &frame, &frame, &target)?;
    }
    for target in ["price", "kind", "grade"] {
        let (seen, unseen) = (synthetic(400, false), synthetic(300, true));
        every_model(&out, &format!("synthetic_{target}"), &seen, &unseen, target)?;
    }
    Ok(())
}

/// One file for each algorithm, and one for all of them averaged.
fn every_model(
    out: &Path,
    set: &str,
    frame: &Frame,
    rows: &Frame,
    target_name: &str,
) -> Result<(), Box<dyn Error>> {
    let configs = [
        (
            "linear",
            Config::Linear(linear::Params {
                penalty: 1.0,
                l1_share: 0.0,
            }),
        ),
        (
            "tree",
            Config::Tree(tree::Params {
                leaves: 16,
                leaf_rows: 5,
            }),
        ),
        (
            "boosting",
            Config::Boosting(boosting::Params {
                rounds: 40,
                rate: 0.2,
                leaves: 15,
                leaf_rows: 3,
                l2: 1.0,
                row_share: 0.8,
                column_share: 0.7,
            }),
        ),
        (
            "network",
            Config::Network(network::Params {
                width: 32,
                depth: 2,
                epochs: 20,
                rate: 3e-3,
                decay: 0.02,
                dropout: 0.1,
            }),
        ),
    ];
    let target = Target::read(frame, target_name, None)?;
    let frame = frame.take(&target.rows);
    let all: Vec<usize> = (0..frame.rows()).collect();
    let preparation = Preparation::fit(&frame, &all, target_name, &target.values);
    let lesson = Lesson::new(preparation.apply(&frame)?, target.values.clone());
    let mut members = Vec::new();
    for (name, config) in configs {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let model = lesson.fit(&config, &mut rng, &|| false).ok_or("stopped")?;
        let member = Member {
            config,
            model,
            weight: 1.0,
        };
        members.push((name, vec![member.clone()]));
    }
    let together = members
        .iter()
        .map(|(_, m)| Member {
            weight: 0.25,
            ..m[0].clone()
        })
        .collect();
    members.push(("ensemble", together));
    for (name, members) in members {
        let pipeline = Pipeline {
            preparation: preparation.clone(),
            members,
            scale: lesson.scale,
        };
        let signature = export::signature(&pipeline, &frame, target_name, &target.values);
        let onnx = export::onnx(&pipeline, &signature);
        let predictions = pipeline.predict(rows)?;
        write(
            out,
            &format!("{set}.{name}"),
            (&onnx, &json!(signature)),
            rows,
            &predictions,
        )?;
    }
    Ok(())
}

/// Numbers on a coarse grid (so that values meet thresholds), few and many categories, missing
/// values, an identifier, a constant; where `strange`, also unseen categories, infinities and
/// absurd numbers.
fn synthetic(rows: usize, strange: bool) -> Frame {
    let mut rng = ChaCha8Rng::seed_from_u64(if strange { 8 } else { 7 });
    let mut columns: [Vec<f64>; 3] = Default::default();
    let mut texts: [Vec<Option<String>>; 4] = Default::default();
    let (mut price, mut kind, mut grade) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..rows {
        let odd = strange && rng.random_range(0..6) == 0;
        let gap = |rng: &mut ChaCha8Rng| rng.random_range(0..8) == 0;
        let (a, b) = (
            f64::from(rng.random_range(0..20)) / 8.0,
            rng.random_range(-3.0..3.0),
        );
        let (few, many) = (rng.random_range(0..4), rng.random_range(0..30));
        columns[0].push(if gap(&mut rng) { f64::NAN } else { a });
        columns[1].push(match (odd, row % 4) {
            (true, 0) => f64::INFINITY,
            (true, 1) => f64::NEG_INFINITY,
            (true, 2) => 1e30,
            _ => b,
        });
        columns[2].push(4.0);
        texts[0].push((!gap(&mut rng)).then(|| {
            if odd {
                "unheard of".into()
            } else {
                format!("few {few}")
            }
        }));
        texts[1].push((!gap(&mut rng)).then(|| {
            if odd {
                "ünseen \"quoted\"".into()
            } else {
                format!("many {many}")
            }
        }));
        texts[2].push(Some(format!("id {row}")));
        texts[3].push(Some(format!("m{}", few % 2)));
        let value = a * 2.0 + b * b + f64::from(few) - f64::from(many) / 10.0;
        price.push(value * 100.0);
        kind.push(Some(
            if value > 3.0 { "high, indeed" } else { "low" }.to_owned(),
        ));
        grade.push(f64::from(u8::from(value > 1.0)) + f64::from(u8::from(value > 4.0)) * 2.0);
    }
    let text =
        |values: &[Option<String>]| Column::Text(values.iter().map(Option::as_deref).collect());
    let [a, b, constant] = columns;
    Frame::new(vec![
        ("a".into(), Column::Number(a)),
        ("b, with comma".into(), Column::Number(b)),
        ("constant".into(), Column::Number(constant)),
        ("few".into(), text(&texts[0])),
        ("many".into(), text(&texts[1])),
        ("id".into(), text(&texts[2])),
        ("whole".into(), text(&texts[3])),
        ("price".into(), Column::Number(price)),
        ("kind".into(), text(&kind)),
        ("grade".into(), Column::Number(grade)),
    ])
    .expect("names differ")
}

fn write(
    out: &Path,
    name: &str,
    (onnx, signature): (&[u8], &serde_json::Value),
    rows: &Frame,
    predictions: &[f32],
) -> Result<(), Box<dyn Error>> {
    let columns: serde_json::Map<_, _> = rows
        .iter()
        .map(|(name, column)| {
            let values: Vec<_> = (0..rows.rows())
                .map(|row| match column {
                    // JSON has no infinities: they travel as text.
                    Column::Number(values) if values[row].is_infinite() => {
                        json!(values[row].to_string())
                    }
                    Column::Number(values) if values[row].is_nan() => json!(null),
                    Column::Number(values) => json!(values[row]),
                    Column::Text(text) => json!(text.get(row)),
                })
                .collect();
            (name.to_owned(), json!(values))
        })
        .collect();
    let case = json!({"signature": signature, "columns": columns, "predictions": predictions});
    fs::write(out.join(format!("{name}.onnx")), onnx)?;
    fs::write(out.join(format!("{name}.json")), serde_json::to_vec(&case)?)?;
    Ok(())
}

//! Judging the chosen model: figures, and which columns matter.
//!
//! Owns: cross-validation on folds that the search did not see, permutation importances. Must
//! not know: how the model was chosen.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::frame::Frame;
use super::metrics::Metric;
use super::observer::Observer;
use super::pace::{Pace, Until};
use super::pipeline::{Member, Pipeline};
use super::prepare::Encoding;
use super::search::{Bench, Entry, pool, stream};
use super::target::TargetValues;

/// How much the figure falls when a column is shuffled among held-out rows (Breiman 2001).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// The raw column.
    pub column: String,
    /// The loss of merit; about 0 for a column of no use, and may be a little below.
    pub value: f64,
}

/// The chosen models, fitted on each fold.
pub(super) struct Judged {
    pub(super) pipelines: Vec<Pipeline>,
    /// Predictions for every row by the pipeline that did not see it.
    pub(super) predictions: Vec<f32>,
}

/// Rows of a fold that are shuffled and predicted again; more would not change a ranking.
const IMPORTANCE_ROWS: usize = 200;
/// Columns beyond which importances are not computed.
const IMPORTANCE_COLUMNS: usize = 1_000;

/// Fits the members on every fold; `None` if time ran out or the run was cancelled.
pub(super) fn judge(
    benches: &[Bench],
    target: &TargetValues,
    members: &[&Entry],
    seed: u64,
    pace: &Pace<'_>,
    observer: &mut dyn Observer,
) -> Option<Judged> {
    let tasks: Vec<(usize, &Entry)> = (0..benches.len())
        .flat_map(|fold| members.iter().map(move |entry| (fold, *entry)))
        .collect();
    let fitted = pace.run(&tasks, observer, |(fold, entry)| {
        let mut rng = stream(seed ^ FRESH, entry.trial, *fold);
        let model = benches[*fold]
            .lesson
            .fit(&entry.config, &mut rng, &|| pace.over(Until::BudgetEnds))?;
        Some(Member {
            config: entry.config.clone(),
            model,
            weight: entry.weight,
        })
    });
    let mut fitted = fitted.into_iter().collect::<Option<Vec<_>>>()?.into_iter();
    let pipelines: Vec<Pipeline> = benches
        .iter()
        .map(|bench| Pipeline {
            preparation: bench.preparation.clone(),
            members: fitted.by_ref().take(members.len()).collect(),
            scale: bench.lesson.scale,
        })
        .collect();
    let own: Vec<Vec<f32>> = pipelines
        .iter()
        .zip(benches)
        .map(|(pipeline, bench)| pipeline.predict_features(&bench.validation, bench.rows.len()))
        .collect();
    let predictions = pool(benches, own.iter().map(Vec::as_slice), target);
    Some(Judged {
        pipelines,
        predictions,
    })
}

/// Set apart from the search's random numbers.
pub(super) const FRESH: u64 = 0x5eed_f01d;

/// How much each column matters, most first. Columns that time did not suffice for are left out.
pub(super) fn importances(
    frame: &Frame,
    benches: &[Bench],
    judged: &Judged,
    metric: Metric,
    (seed, pace): (u64, &Pace<'_>),
    observer: &mut dyn Observer,
) -> Vec<Importance> {
    let columns = &judged.pipelines[0].preparation.columns;
    let used: Vec<&str> = columns
        .iter()
        .filter(|column| !matches!(column.encoding, Encoding::Dropped(_)))
        .map(|column| column.name.as_str())
        .take(IMPORTANCE_COLUMNS)
        .collect();
    let held_out: Vec<(Frame, TargetValues)> = benches
        .iter()
        .map(|bench| {
            let rows = &bench.rows[..bench.rows.len().min(IMPORTANCE_ROWS)];
            let positions: Vec<usize> = (0..rows.len()).collect();
            (frame.take(rows), bench.truth.take(&positions))
        })
        .collect();
    let merit = |pipeline: &Pipeline, rows: &Frame, truth: &TargetValues| {
        let predictions = pipeline.predict(rows).ok()?;
        let merit = metric.merit(metric.value(truth, &predictions));
        (!merit.is_nan()).then_some(merit)
    };
    let whole: Vec<Option<f64>> = judged
        .pipelines
        .iter()
        .zip(&held_out)
        .map(|(pipeline, (rows, truth))| merit(pipeline, rows, truth))
        .collect();
    let numbered: Vec<(u32, &str)> = (0..).zip(used).collect();
    let values = pace.run(&numbered, observer, |(number, name)| {
        if pace.over(Until::BudgetEnds) {
            return None;
        }
        let mut losses = Vec::new();
        for (fold, (pipeline, (rows, truth))) in judged.pipelines.iter().zip(&held_out).enumerate()
        {
            let shuffled = shuffle(rows, name, &mut stream(!seed, *number, fold));
            if let (Some(before), Some(after)) = (whole[fold], merit(pipeline, &shuffled, truth)) {
                losses.push(before - after);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a few folds")]
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        (!losses.is_empty()).then_some(mean)
    });
    let mut found: Vec<Importance> = numbered
        .iter()
        .zip(values)
        .filter_map(|((_, name), value)| {
            Some(Importance {
                column: (*name).to_owned(),
                value: value?,
            })
        })
        .collect();
    found.sort_by(|a, b| b.value.total_cmp(&a.value).then(a.column.cmp(&b.column)));
    found
}

fn shuffle(frame: &Frame, name: &str, rng: &mut ChaCha8Rng) -> Frame {
    let mut order: Vec<usize> = (0..frame.rows()).collect();
    order.shuffle(rng);
    match frame.column(name) {
        Ok(column) => frame.with_column(name, column.take(&order)),
        Err(_) => frame.clone(),
    }
}

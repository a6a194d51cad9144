//! The pictures of a trained model.
//!
//! Owns: which pictures a model gets. Must not know: how they are drawn.

use super::learning::LearningPoint;
use super::metrics::RocCurve;
use super::search::Outcome;
use super::target::TargetValues;
use super::train::Trained;
use crate::plots::{Bars, Guide, Heat, Lines, Plot, Points, Series};

/// Classes beyond which a confusion matrix is unreadable.
const CONFUSION_CLASSES_MAX: usize = 40;
/// Curves that one plot bears.
const CURVES_MAX: usize = 8;
/// Points that one plot bears.
const POINTS_MAX: usize = 2_000;
/// Columns whose importance is shown.
const BARS_MAX: usize = 20;

pub(super) fn draw(trained: &Trained, target: &TargetValues, predictions: &[f32]) -> Vec<Plot> {
    let mut plots = match target {
        TargetValues::Classes { labels, names, .. } => {
            let mut plots = vec![
                roc(labels, names, predictions),
                calibration(labels, names, predictions),
            ];
            if let Some(confusion) = trained
                .confusion
                .as_ref()
                .filter(|_| names.len() <= CONFUSION_CLASSES_MAX)
            {
                let heat = Heat {
                    title: "Confusion matrix".into(),
                    labels: ("predicted".into(), "true".into()),
                    names: names.clone(),
                    counts: confusion.counts.clone(),
                };
                plots.push(heat.draw("confusion_matrix"));
            }
            plots
        }
        TargetValues::Numbers(values) => numbers(values, predictions),
    };
    plots.push(search(trained));
    if trained.learning.len() > 1 {
        plots.push(learning(trained));
    }
    if !trained.importances.is_empty() {
        let bars = trained
            .importances
            .iter()
            .take(BARS_MAX)
            .map(|i| (i.column.clone(), i.value));
        let bars = Bars {
            title: "Importance of columns".into(),
            label: format!("loss of {} when shuffled", trained.metric),
            bars: bars.collect(),
        };
        plots.push(bars.draw("importances"));
    }
    plots
}

fn roc(labels: &[u32], names: &[String], probabilities: &[f32]) -> Plot {
    let shown = if names.len() == 2 {
        1..2
    } else {
        0..names.len().min(CURVES_MAX)
    };
    let series = shown.filter_map(|class| {
        let (positive, scores) = one_against_rest(labels, names.len(), probabilities, class);
        let curve = RocCurve::new(&positive, &scores)?;
        let name = format!("{} ({:.3})", names[class], curve.area());
        Some(Series {
            name,
            points: curve.points,
        })
    });
    let series: Vec<Series> = series.collect();
    let title = match &series[..] {
        [one] => format!("ROC curve of {}", one.name),
        _ => "ROC curves, one class against the rest (area)".to_owned(),
    };
    Lines {
        title,
        labels: ("false positive rate".into(), "true positive rate".into()),
        series,
        unit_square: true,
        dots: false,
    }
    .draw("roc")
}

/// Of the rows given a probability, how many were of the class: ten steps of equal width.
fn calibration(labels: &[u32], names: &[String], probabilities: &[f32]) -> Plot {
    let shown = if names.len() == 2 {
        1..2
    } else {
        0..names.len().min(CURVES_MAX)
    };
    let series: Vec<Series> = shown
        .map(|class| {
            let (positive, scores) = one_against_rest(labels, names.len(), probabilities, class);
            let mut steps = [(0.0, 0.0, 0.0); 10];
            for (positive, score) in positive.iter().zip(&scores) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "0 to 9"
                )]
                let step = &mut steps[((score * 10.0) as usize).min(9)];
                step.0 += 1.0;
                step.1 += f64::from(*score);
                step.2 += f64::from(u8::from(*positive));
            }
            let points = steps
                .iter()
                .filter(|s| s.0 > 0.0)
                .map(|s| (s.1 / s.0, s.2 / s.0));
            Series {
                name: names[class].clone(),
                points: points.collect(),
            }
        })
        .collect();
    let title = match &series[..] {
        [one] => format!("Calibration of {}", one.name),
        _ => "Calibration, one class against the rest".to_owned(),
    };
    Lines {
        title,
        labels: ("predicted probability".into(), "observed share".into()),
        series,
        unit_square: true,
        dots: true,
    }
    .draw("calibration")
}

fn one_against_rest(
    labels: &[u32],
    classes: usize,
    probabilities: &[f32],
    class: usize,
) -> (Vec<bool>, Vec<f32>) {
    let positive = labels.iter().map(|l| *l as usize == class).collect();
    let scores = probabilities
        .chunks_exact(classes)
        .map(|row| row[class])
        .collect();
    (positive, scores)
}

fn numbers(values: &[f64], predictions: &[f32]) -> Vec<Plot> {
    let stride = values.len().div_ceil(POINTS_MAX).max(1);
    let pairs: Vec<(f64, f64)> = values
        .iter()
        .zip(predictions)
        .step_by(stride)
        .map(|(y, p)| (*y, f64::from(*p)))
        .collect();
    let fit = Points {
        title: "Predicted and actual".into(),
        labels: ("actual".into(), "predicted".into()),
        points: pairs.clone(),
        guide: Guide::Diagonal,
    };
    let residuals = Points {
        title: "Residuals".into(),
        labels: ("predicted".into(), "actual − predicted".into()),
        points: pairs.into_iter().map(|(y, p)| (p, y - p)).collect(),
        guide: Guide::Zero,
    };
    vec![fit.draw("predicted_actual"), residuals.draw("residuals")]
}

fn learning(trained: &Trained) -> Plot {
    let metric = trained.metric;
    let line = |name: &str, value: fn(&LearningPoint) -> f64| {
        #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
        let points = trained.learning.iter().map(|p| (p.rows as f64, value(p)));
        Series {
            name: name.into(),
            points: points.collect(),
        }
    };
    Lines {
        title: format!("Learning curve: {metric} by rows learned from"),
        labels: ("rows learned from".into(), metric.to_string()),
        series: vec![
            line("held-out rows", |p| p.validation),
            line("learned rows", |p| p.training),
        ],
        unit_square: false,
        dots: true,
    }
    .draw("learning_curve")
}

fn search(trained: &Trained) -> Plot {
    let metric = trained.metric;
    let mut tried = Series {
        name: "trial".into(),
        points: Vec::new(),
    };
    let mut best = Series {
        name: "best so far".into(),
        points: Vec::new(),
    };
    for entry in trained
        .leaderboard
        .iter()
        .filter(|e| e.outcome == Outcome::Complete)
    {
        let Some(score) = entry.score else { continue };
        let trial = f64::from(entry.trial);
        tried.points.push((trial, score));
        let before = best.points.last().map_or(score, |p| p.1);
        let now = if metric.merit(score) > metric.merit(before) {
            score
        } else {
            before
        };
        best.points.push((trial, now));
    }
    Lines {
        title: format!("Search: cross-validated {metric} by trial"),
        labels: ("trial".into(), metric.to_string()),
        series: vec![best, tried],
        unit_square: false,
        dots: true,
    }
    .draw("search")
}

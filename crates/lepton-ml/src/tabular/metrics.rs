//! Figures of merit.
//!
//! Owns: each metric's definition and which direction is better. Must not know:
//! where predictions come from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use lepton_types::signature::Task;

use super::target::TargetValues;

/// A figure of merit. Precision, recall and F1 are unweighted means over the classes
/// (a class that is never predicted has precision 0); ROC AUC is that of the second
/// class where there are two, else the mean of one against the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the field's own names say it")]
pub enum Metric {
    Accuracy,
    Precision,
    Recall,
    F1,
    RocAuc,
    LogLoss,
    Mse,
    Rmse,
    Mae,
    R2,
}

/// A text that names no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a metric: use one of accuracy, precision, recall, f1, roc_auc, log_loss, mse, rmse, mae, r2"
)]
pub struct ParseMetricError {
    /// What was given.
    pub text: String,
}

/// Probabilities below this count as this in the logarithmic loss, so that one sure
/// mistake costs 36 and not infinity.
const PROBABILITY_MIN: f64 = f64::EPSILON;

impl Metric {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 10] = [
        Self::Accuracy,
        Self::Precision,
        Self::Recall,
        Self::F1,
        Self::RocAuc,
        Self::LogLoss,
        Self::R2,
        Self::Rmse,
        Self::Mae,
        Self::Mse,
    ];

    /// The name on every face.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "f1",
            Self::RocAuc => "roc_auc",
            Self::LogLoss => "log_loss",
            Self::Mse => "mse",
            Self::Rmse => "rmse",
            Self::Mae => "mae",
            Self::R2 => "r2",
        }
    }

    /// The task that it judges.
    #[must_use]
    pub const fn task(self) -> Task {
        match self {
            Self::Mse | Self::Rmse | Self::Mae | Self::R2 => Task::Regression,
            _ => Task::Classification,
        }
    }

    /// Whether more is better.
    #[must_use]
    pub const fn more_is_better(self) -> bool {
        !matches!(self, Self::LogLoss | Self::Mse | Self::Rmse | Self::Mae)
    }

    /// The value turned so that more is better.
    #[must_use]
    pub fn merit(self, value: f64) -> f64 {
        if self.more_is_better() { value } else { -value }
    }

    /// The figure for these predictions: for classes, row-major probabilities as wide as
    /// there are classes; for numbers, one a row. NaN where it is not defined, as the
    /// ROC AUC of one class.
    #[must_use]
    pub fn value(self, truth: &TargetValues, predictions: &[f32]) -> f64 {
        match truth {
            TargetValues::Classes { labels, names, .. } => {
                self.of_classes(labels, names.len(), predictions)
            }
            TargetValues::Numbers(values) => self.of_numbers(values, predictions),
        }
    }

    fn of_classes(self, labels: &[u32], classes: usize, probabilities: &[f32]) -> f64 {
        match self {
            Self::LogLoss => log_loss(labels, classes, probabilities),
            Self::RocAuc => roc_auc(labels, classes, probabilities),
            _ => {
                let matrix = ConfusionMatrix::new(labels, classes, probabilities);
                let mean = |f: fn(&ClassReport) -> f64| {
                    let reports = matrix.reports();
                    let present: Vec<_> = reports
                        .iter()
                        .filter(|r| r.support > 0 || r.predicted > 0)
                        .collect();
                    present.iter().map(|r| f(r)).sum::<f64>() / count(present.len())
                };
                match self {
                    Self::Precision => mean(|r| r.precision),
                    Self::Recall => mean(|r| r.recall),
                    Self::F1 => mean(|r| r.f1),
                    _ => matrix.accuracy(),
                }
            }
        }
    }

    fn of_numbers(self, truth: &[f64], predictions: &[f32]) -> f64 {
        let errors = || {
            truth
                .iter()
                .zip(predictions)
                .map(|(y, p)| y - f64::from(*p))
        };
        let mse = errors().map(|e| e * e).sum::<f64>() / count(truth.len());
        match self {
            Self::Mae => errors().map(f64::abs).sum::<f64>() / count(truth.len()),
            Self::Rmse => mse.sqrt(),
            Self::R2 => {
                let mean = truth.iter().sum::<f64>() / count(truth.len());
                let variance = truth.iter().map(|y| (y - mean).powi(2)).sum::<f64>();
                1.0 - mse * count(truth.len()) / variance
            }
            _ => mse,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = ParseMetricError;

    fn from_str(text: &str) -> Result<Self, ParseMetricError> {
        let found = Self::ALL.into_iter().find(|metric| metric.name() == text);
        found.ok_or_else(|| ParseMetricError {
            text: text.chars().take(64).collect(),
        })
    }
}

/// How often each class was taken for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionMatrix {
    /// `counts[true][predicted]`.
    pub counts: Vec<Vec<u64>>,
}

/// How well one class is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Of those predicted, how many were; 0 if none were predicted.
    pub precision: f64,
    /// Of those that were, how many were predicted; 0 if there were none.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
    /// How many there were.
    pub support: u64,
    /// How many were predicted.
    pub predicted: u64,
}

impl ConfusionMatrix {
    /// Counts the most probable class of each row.
    #[must_use]
    pub fn new(labels: &[u32], classes: usize, probabilities: &[f32]) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (&label, row) in labels.iter().zip(probabilities.chunks_exact(classes)) {
            counts[label as usize][most_probable(row)] += 1;
        }
        Self { counts }
    }

    /// The part of all rows that is right.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.counts.len()).map(|c| self.counts[c][c]).sum();
        ratio(right, self.counts.iter().flatten().sum())
    }

    /// Each class's figures.
    #[must_use]
    pub fn reports(&self) -> Vec<ClassReport> {
        (0..self.counts.len())
            .map(|class| {
                let right = self.counts[class][class];
                let support = self.counts[class].iter().sum();
                let predicted = self.counts.iter().map(|row| row[class]).sum();
                let precision = ratio(right, predicted);
                let recall = ratio(right, support);
                let f1 = ratio(2 * right, support + predicted);
                ClassReport {
                    precision,
                    recall,
                    f1,
                    support,
                    predicted,
                }
            })
            .collect()
    }
}

/// The position of the largest value, the first of equals, as ONNX's `ArgMax` has it.
#[must_use]
pub fn most_probable(row: &[f32]) -> usize {
    let mut best = 0;
    for (class, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = class;
        }
    }
    best
}

fn log_loss(labels: &[u32], classes: usize, probabilities: &[f32]) -> f64 {
    let loss = labels
        .iter()
        .zip(probabilities.chunks_exact(classes))
        .map(|(label, row)| {
            let total: f64 = row.iter().map(|p| f64::from(*p)).sum();
            let p = f64::from(row[*label as usize]) / total;
            -p.clamp(PROBABILITY_MIN, 1.0).ln()
        });
    loss.sum::<f64>() / count(labels.len())
}

fn roc_auc(labels: &[u32], classes: usize, probabilities: &[f32]) -> f64 {
    let one = |class: usize| {
        let scores: Vec<f32> = probabilities
            .chunks_exact(classes)
            .map(|row| row[class])
            .collect();
        let positive: Vec<bool> = labels.iter().map(|l| *l as usize == class).collect();
        RocCurve::new(&positive, &scores).map(|curve| curve.area())
    };
    if classes == 2 {
        return one(1).unwrap_or(f64::NAN);
    }
    let areas: Vec<f64> = (0..classes).filter_map(one).collect();
    areas.iter().sum::<f64>() / count(areas.len())
}

/// True against false positive rates, as the threshold falls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RocCurve {
    /// `(false positive rate, true positive rate)`, from (0, 0) to (1, 1).
    pub points: Vec<(f64, f64)>,
}

impl RocCurve {
    /// The curve; `None` unless there are both positives and negatives.
    #[must_use]
    pub fn new(positive: &[bool], scores: &[f32]) -> Option<Self> {
        let positives = positive.iter().filter(|p| **p).count() as u64;
        let negatives = positive.len() as u64 - positives;
        if positives == 0 || negatives == 0 {
            return None;
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let mut points = vec![(0.0, 0.0)];
        let (mut hits, mut alarms) = (0_u64, 0_u64);
        for (at, &row) in order.iter().enumerate() {
            if positive[row] {
                hits += 1;
            } else {
                alarms += 1;
            }
            // Equal scores are one step.
            if order
                .get(at + 1)
                .is_none_or(|&next| scores[next] != scores[row])
            {
                points.push((ratio(alarms, negatives), ratio(hits, positives)));
            }
        }
        Some(Self { points })
    }

    /// The area below it, by trapezia.
    #[must_use]
    pub fn area(&self) -> f64 {
        self.points
            .windows(2)
            .map(|w| (w[1].0 - w[0].0) * (w[1].1 + w[0].1) / 2.0)
            .sum()
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
    let ratio = part as f64 / whole as f64;
    ratio
}

#[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
fn count(rows: usize) -> f64 {
    rows as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classes(labels: &[u32], count: usize) -> TargetValues {
        let names = (0..count).map(|c| c.to_string()).collect();
        TargetValues::Classes {
            labels: labels.to_vec(),
            names,
            integers: true,
        }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    }

    /// The examples of scikit-learn's documentation of each function.
    #[test]
    fn published_examples() {
        // roc_auc_score and roc_curve: y = [0, 0, 1, 1], scores = [.1, .4, .35, .8].
        let p = [0.9, 0.1, 0.6, 0.4, 0.65, 0.35, 0.2, 0.8];
        close(Metric::RocAuc.value(&classes(&[0, 0, 1, 1], 2), &p), 0.75);
        // log_loss(["spam", "ham", "ham", "spam"], [[.1, .9], [.9, .1], [.8, .2], [.35, .65]]).
        let p = [0.1, 0.9, 0.9, 0.1, 0.8, 0.2, 0.35, 0.65];
        close(
            Metric::LogLoss.value(&classes(&[1, 0, 0, 1], 2), &p),
            0.216_161_874_6,
        );
        // precision, recall, f1 (macro) of [0, 1, 2, 0, 1, 2] taken for [0, 2, 1, 0, 0, 1].
        let mut p = vec![0.0; 18];
        for (row, class) in [0, 2, 1, 0, 0, 1].into_iter().enumerate() {
            p[row * 3 + class] = 1.0;
        }
        let truth = classes(&[0, 1, 2, 0, 1, 2], 3);
        close(Metric::Precision.value(&truth, &p), 2.0 / 9.0);
        close(Metric::Recall.value(&truth, &p), 1.0 / 3.0);
        close(Metric::F1.value(&truth, &p), 4.0 / 15.0);
        close(Metric::Accuracy.value(&truth, &p), 1.0 / 3.0);
        // mean_squared_error, mean_absolute_error, r2_score of [3, -.5, 2, 7].
        let truth = TargetValues::Numbers(vec![3.0, -0.5, 2.0, 7.0]);
        let p = [2.5, 0.0, 2.0, 8.0];
        close(Metric::Mse.value(&truth, &p), 0.375);
        close(Metric::Rmse.value(&truth, &p), 0.612_372_435_7);
        close(Metric::Mae.value(&truth, &p), 0.5);
        close(Metric::R2.value(&truth, &p), 0.948_608_137_0);
    }

    #[test]
    fn names_round_trip() {
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(metric));
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
        }
        assert!("auc".parse::<Metric>().is_err());
    }

    #[test]
    fn the_roc_auc_of_one_class_is_not_defined() {
        assert!(
            Metric::RocAuc
                .value(&classes(&[1, 1], 2), &[0.1, 0.9, 0.3, 0.7])
                .is_nan()
        );
    }

    proptest! {
        /// The area is the chance that a positive scores above a negative (Hanley and
        /// McNeil 1982), ties counting half.
        #[test]
        fn area_is_the_chance_of_the_right_order(rows in proptest::collection::vec((any::<bool>(), 0_u8..20), 2..60)) {
            let positive: Vec<bool> = rows.iter().map(|r| r.0).collect();
            let scores: Vec<f32> = rows.iter().map(|r| f32::from(r.1)).collect();
            let (mut wins, mut pairs) = (0.0, 0.0);
            for a in rows.iter().filter(|r| r.0) {
                for b in rows.iter().filter(|r| !r.0) {
                    pairs += 1.0;
                    wins += if a.1 > b.1 { 1.0 } else if a.1 == b.1 { 0.5 } else { 0.0 };
                }
            }
            match RocCurve::new(&positive, &scores) {
                Some(curve) => prop_assert!((curve.area() - wins / pairs).abs() < 1e-9),
                None => prop_assert!(pairs == 0.0),
            }
        }
    }
}

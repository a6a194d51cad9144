//! The learning curve: what more rows would bring.
//!
//! Owns: fitting the chosen model on growing parts of each fold. Must not know: how the model was
//! chosen, or how the curve is drawn.
//!
//! The gap between the two lines tells whether the model memorises; the slope at the right end
//! tells whether more data would help (Perlich, Provost & Simonoff 2003).

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::evaluate::{FRESH, Judged};
use super::folds::Fold;
use super::frame::Frame;
use super::metrics::Metric;
use super::observer::Observer;
use super::pace::{Pace, Until};
use super::pipeline::{Member, Pipeline};
use super::search::{Bench, Entry, stream};
use super::target::TargetValues;

/// The chosen model's figure, learned from a part of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LearningPoint {
    /// How many rows were learned from; the mean over the folds.
    pub rows: usize,
    /// The figure on these very rows.
    pub training: f64,
    /// The figure on rows that were held out.
    pub validation: f64,
}

/// The parts of a fold's rows that are learned from, beside all of them.
const PARTS: [f64; 5] = [0.05, 0.1, 0.25, 0.5, 0.75];
/// Fewer rows teach nothing that a curve should show.
const ROWS_MIN: usize = 10;
/// Folds that are averaged; more would only cost time.
const FOLDS_MAX: usize = 3;

/// What is being drawn: the data, its folds, and the model that was chosen.
pub(super) struct Course<'a> {
    pub(super) frame: &'a Frame,
    pub(super) target_name: &'a str,
    pub(super) target: &'a TargetValues,
    pub(super) benches: &'a [Bench],
    pub(super) judged: &'a Judged,
    pub(super) members: &'a [&'a Entry],
    pub(super) metric: Metric,
    pub(super) seed: u64,
}

/// A part of one fold's training rows.
struct Step<'a> {
    part: usize,
    fold: usize,
    bench: &'a Bench,
    training: Vec<usize>,
}

/// One fold's figures at one size.
struct Figures {
    rows: usize,
    training: f64,
    validation: f64,
}

impl Course<'_> {
    /// The curve, by ascending size. Sizes that time does not suffice for are left out; the last
    /// point, of all rows, costs nothing anew.
    pub(super) fn run(&self, pace: &Pace<'_>, observer: &mut dyn Observer) -> Vec<LearningPoint> {
        let folds = self.benches.len().min(FOLDS_MAX);
        let steps: Vec<Step<'_>> = (0..PARTS.len())
            .flat_map(|part| (0..folds).map(move |fold| (part, fold)))
            .map(|(part, fold)| self.step(part, fold))
            .filter(|step| step.training.len() >= ROWS_MIN.max(2 * self.classes()))
            .collect();
        let figures = pace.run(&steps, observer, |step| self.figures(step, pace));
        let mut points: Vec<LearningPoint> = (0..PARTS.len())
            .filter_map(|part| {
                let of_part = steps.iter().zip(&figures).filter(|(s, _)| s.part == part);
                mean(of_part.map(|(_, figures)| figures.as_ref()))
            })
            .collect();
        let whole: Vec<Option<Figures>> = (0..folds).map(|fold| self.whole(fold)).collect();
        points.extend(mean(whole.iter().map(Option::as_ref)));
        points.dedup_by_key(|point| point.rows);
        points
    }

    fn classes(&self) -> usize {
        match self.target {
            TargetValues::Classes { names, .. } => names.len(),
            TargetValues::Numbers(_) => 1,
        }
    }

    /// A smaller part lies within every larger one, and each holds its share of every class.
    fn step(&self, part: usize, fold: usize) -> Step<'_> {
        let bench = &self.benches[fold];
        let mut order = bench.training.clone();
        order.shuffle(&mut stream(!self.seed ^ FRESH, 0, fold));
        let class = |row: usize| match self.target {
            TargetValues::Classes { labels, .. } => labels[row] as usize,
            TargetValues::Numbers(_) => 0,
        };
        let mut of_class = vec![0_usize; self.classes()];
        order.iter().for_each(|&row| of_class[class(row)] += 1);
        let room: Vec<usize> = of_class
            .iter()
            .map(|&rows| share(rows, PARTS[part]))
            .collect();
        let mut taken = vec![0; room.len()];
        order.retain(|&row| {
            let class = class(row);
            taken[class] += 1;
            taken[class] <= room[class]
        });
        order.sort_unstable();
        Step {
            part,
            fold,
            bench,
            training: order,
        }
    }

    /// Fits the preparation and the members on a part; `None` if time ran out.
    fn figures(&self, step: &Step<'_>, pace: &Pace<'_>) -> Option<Figures> {
        if pace.over(Until::BudgetEnds) {
            return None;
        }
        let fold = Fold {
            training: step.training.clone(),
            validation: step.bench.rows.clone(),
        };
        let bench = Bench::new(self.frame, self.target_name, self.target, &fold).ok()?;
        let fit = |entry: &&Entry| {
            let mut rng = stream(self.seed ^ FRESH, entry.trial, step.fold);
            let stop = || pace.over(Until::BudgetEnds);
            Some(Member {
                config: entry.config.clone(),
                model: bench.lesson.fit(&entry.config, &mut rng, &stop)?,
                weight: entry.weight,
            })
        };
        let pipeline = Pipeline {
            preparation: bench.preparation.clone(),
            members: self.members.iter().map(fit).collect::<Option<_>>()?,
            scale: bench.lesson.scale,
        };
        self.score(&bench, &pipeline)
    }

    fn whole(&self, fold: usize) -> Option<Figures> {
        self.score(&self.benches[fold], &self.judged.pipelines[fold])
    }

    fn score(&self, bench: &Bench, pipeline: &Pipeline) -> Option<Figures> {
        let rows = bench.training.len();
        let seen = pipeline.predict_features(&bench.lesson.features, rows);
        let unseen = pipeline.predict_features(&bench.validation, bench.rows.len());
        let figures = Figures {
            rows,
            training: self.metric.value(bench.lesson.target(), &seen),
            validation: self.metric.value(&bench.truth, &unseen),
        };
        (figures.training.is_finite() && figures.validation.is_finite()).then_some(figures)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of rows, between none and all"
)]
fn share(rows: usize, part: f64) -> usize {
    (rows as f64 * part).ceil() as usize
}

/// The mean of the folds; nothing unless all of them have their figures, as folds differ more
/// than sizes do.
fn mean<'a>(folds: impl Iterator<Item = Option<&'a Figures>>) -> Option<LearningPoint> {
    let folds = folds.collect::<Option<Vec<_>>>()?;
    #[expect(clippy::cast_precision_loss, reason = "a few folds")]
    let count = folds.len() as f64;
    (!folds.is_empty()).then(|| LearningPoint {
        rows: folds.iter().map(|f| f.rows).sum::<usize>() / folds.len(),
        training: folds.iter().map(|f| f.training).sum::<f64>() / count,
        validation: folds.iter().map(|f| f.validation).sum::<f64>() / count,
    })
}

//! Training, from a table to a finished model.
//!
//! Owns: the order of the steps and what comes out. Must not know: where the table came from,
//! or where the model goes.

use std::collections::BTreeMap;

use lepton_types::Clock;
use lepton_types::signature::{Signature, Task};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::evaluate::{self, FRESH, Importance};
use super::export;
use super::folds;
use super::frame::Frame;
use super::learning::{Course, LearningPoint};
use super::metrics::{ClassReport, ConfusionMatrix, Metric};
use super::observer::{Observer, Phase, Point, Progress};
use super::pace::{Budget, Pace, Until};
use super::pipeline::{Lesson, Member, Pipeline};
use super::prepare::{Encoding, Preparation, PrepareError, check_finite};
use super::search::{Bench, Entry, Search, stream};
use super::target::{Target, TargetError, TargetValues};
use crate::fitted::{FittedTransform, FrontError};
use crate::plots::Plot;

/// What to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainOptions {
    /// The column to predict.
    pub target: String,
    /// Classification or regression, if the target's values do not tell.
    pub task: Option<Task>,
    /// The metric to choose by; log loss or R² if none is given.
    pub metric: Option<Metric>,
    /// How long to search.
    pub budget: Budget,
    /// Where all random numbers come from.
    pub seed: u64,
    /// How many threads may compute.
    pub threads: usize,
}

/// A trained model and everything that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The model, preparation included, as one ONNX file.
    pub onnx: Vec<u8>,
    /// What it takes and gives.
    pub signature: Signature,
    /// What was chosen by.
    pub metric: Metric,
    /// The figures, by metric, as [`Self::judged_on`] says; never from rows that the judged
    /// model had seen.
    pub metrics: BTreeMap<Metric, f64>,
    /// Where the figures come from.
    pub judged_on: JudgedOn,
    /// Which class was taken for which; classification only.
    pub confusion: Option<ConfusionMatrix>,
    /// Each class's figures, in the order of the signature's classes.
    pub class_reports: Vec<ClassReport>,
    /// Every trial, in order; those of weight above 0 make up the model.
    pub leaderboard: Vec<Entry>,
    /// Figures over trials and at the end.
    pub series: Vec<Point>,
    /// How much each column matters, most first; empty if time ran out.
    pub importances: Vec<Importance>,
    /// What the model makes of fewer rows, by ascending size; empty if time ran out.
    pub learning: Vec<LearningPoint>,
    /// Pictures of all that.
    pub plots: Vec<Plot>,
    /// How many rows were learned from.
    pub rows: usize,
    /// The fitted pipeline itself.
    pub pipeline: Pipeline,
}

/// Where figures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgedOn {
    /// Cross-validation on folds drawn anew after the choice was made.
    FreshFolds,
    /// The folds that the choice was made by, as time ran out: a little flattering.
    SearchFolds,
}

/// Why there is no model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// The target cannot be learned.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A column cannot be used.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// Nothing to learn from.
    #[error(
        "no column but the target `{target}` tells anything: all others are constant, empty or identifiers"
    )]
    NoFeatures {
        /// The target.
        target: String,
    },
    /// A metric of the other task.
    #[error("the metric `{metric}` does not suit this target: {needed} is needed")]
    MetricMismatch {
        /// What was asked for.
        metric: Metric,
        /// What would suit.
        needed: &'static str,
    },
    /// The observer asked to stop.
    #[error("training was cancelled")]
    Cancelled,
}

/// Rows that the search looks at; the final fit sees more.
const SEARCH_ROWS_MAX: usize = 20_000;
/// Rows that the final fit looks at.
const FIT_ROWS_MAX: usize = 200_000;
/// Below this, five folds; from here on, three are steady enough.
const FIVE_FOLDS_BELOW: usize = 5_000;

/// Trains a model: reads the target, searches, judges on fresh folds, refits on all rows,
/// exports. Rows without a target are left out. A time budget is kept to within the final fit.
///
/// # Errors
/// Fails if nothing can be learned from the data, or if the observer asks to stop.
pub fn train(
    frame: &Frame,
    options: &TrainOptions,
    clock: &dyn Clock,
    observer: &mut dyn Observer,
) -> Result<Trained, TrainError> {
    let pace = Pace::new(clock, options.budget, options.threads);
    let target = Target::read(frame, &options.target, options.task)?;
    let metric = chosen_metric(options, target.task())?;
    check_finite(frame, &options.target)?;
    let run = Run {
        options,
        metric,
        pace: &pace,
        data: Data::new(frame, target, options.seed),
    };
    let observer = &mut Recorder {
        observer,
        series: Vec::new(),
    };
    let search = run.data.part(SEARCH_ROWS_MAX);
    let benches = run.benches(&search, options.seed, repeats(search.1.len()))?;
    let whole = run.data.part(FIT_ROWS_MAX);
    let preparation = run.preparation(&whole)?;
    let searcher = Search {
        benches: &benches,
        target: &search.1,
        metric,
        seed: options.seed,
        pace: &pace,
    };
    let found = searcher.run(observer).ok_or(TrainError::Cancelled)?;
    let members: Vec<&Entry> = found
        .leaderboard
        .iter()
        .filter(|e| e.weight > 0.0)
        .collect();
    run.phase(Phase::Evaluation, &found.leaderboard, observer);
    let fresh = run.benches(&search, options.seed ^ FRESH, 1)?;
    let judged = evaluate::judge(&fresh, &search.1, &members, options.seed, &pace, observer);
    let importances = judged.as_ref().map(|judged| {
        evaluate::importances(
            &search.0,
            &fresh,
            judged,
            metric,
            (options.seed, &pace),
            observer,
        )
    });
    run.phase(Phase::Refit, &found.leaderboard, observer);
    let pipeline = run.refit(&whole, preparation, &members, observer)?;
    let learning = judged.as_ref().map(|judged| {
        let course = Course {
            frame: &search.0,
            target_name: &options.target,
            target: &search.1,
            benches: &fresh,
            judged,
            members: &members,
            metric,
            seed: options.seed,
        };
        course.run(&pace, observer)
    });
    let learning = learning.unwrap_or_default();
    let (predictions, judged_on) = match judged {
        Some(judged) => (judged.predictions, JudgedOn::FreshFolds),
        None => (found.predictions, JudgedOn::SearchFolds),
    };
    let metrics = figures(&search.1, &predictions);
    tell(&metrics, &learning, metric, observer);
    let signature = export::signature(&pipeline, frame, &options.target, &search.1);
    let confusion = match &search.1 {
        TargetValues::Classes { labels, names, .. } => {
            Some(ConfusionMatrix::new(labels, names.len(), &predictions))
        }
        TargetValues::Numbers(_) => None,
    };
    let mut trained = Trained {
        onnx: export::onnx(&pipeline, &signature),
        signature,
        metric,
        metrics,
        judged_on,
        class_reports: confusion
            .as_ref()
            .map(ConfusionMatrix::reports)
            .unwrap_or_default(),
        confusion,
        leaderboard: found.leaderboard,
        series: std::mem::take(&mut observer.series),
        importances: importances.unwrap_or_default(),
        learning,
        plots: Vec::new(),
        rows: whole.1.len(),
        pipeline,
    };
    trained.plots = super::figures::draw(&trained, &search.1, &predictions);
    Ok(trained)
}

/// How often the search's folds are drawn: the choice among few rows is a noisy one.
fn repeats(rows: usize) -> usize {
    match rows {
        0..300 => 3,
        300..1_000 => 2,
        _ => 1,
    }
}

fn chosen_metric(options: &TrainOptions, task: Task) -> Result<Metric, TrainError> {
    let (default, needed) = match task {
        Task::Classification => (
            Metric::LogLoss,
            "accuracy, precision, recall, f1, roc_auc or log_loss",
        ),
        Task::Regression => (Metric::R2, "r2, rmse, mae or mse"),
    };
    let metric = options.metric.unwrap_or(default);
    if metric.task() == task {
        Ok(metric)
    } else {
        Err(TrainError::MetricMismatch { metric, needed })
    }
}

fn figures(target: &TargetValues, predictions: &[f32]) -> BTreeMap<Metric, f64> {
    Metric::ALL
        .into_iter()
        .filter(|metric| metric.task() == target.task())
        .map(|metric| (metric, metric.value(target, predictions)))
        .filter(|(_, value)| value.is_finite())
        .collect()
}

/// Tells the figures of the model and of what it makes of fewer rows.
fn tell(
    metrics: &BTreeMap<Metric, f64>,
    learning: &[LearningPoint],
    metric: Metric,
    observer: &mut dyn Observer,
) {
    let mut point =
        |key: String, step: i64, value: f64| observer.point(&Point { key, step, value });
    for (metric, value) in metrics {
        point(metric.name().to_owned(), 0, *value);
    }
    for size in learning {
        let rows = i64::try_from(size.rows).unwrap_or(i64::MAX);
        point(format!("learning.training.{metric}"), rows, size.training);
        point(
            format!("learning.validation.{metric}"),
            rows,
            size.validation,
        );
    }
}

/// Keeps the series beside telling them.
struct Recorder<'a> {
    observer: &'a mut dyn Observer,
    series: Vec<Point>,
}

impl Observer for Recorder<'_> {
    fn progress(&mut self, progress: &Progress) {
        self.observer.progress(progress);
    }

    fn point(&mut self, point: &Point) {
        self.series.push(point.clone());
        self.observer.point(point);
    }

    fn should_stop(&mut self) -> bool {
        self.observer.should_stop()
    }
}

/// Rows with a target, in a seeded order if there are too many to look at all.
struct Data<'a> {
    frame: &'a Frame,
    target: Target,
    seed: u64,
}

impl<'a> Data<'a> {
    fn new(frame: &'a Frame, target: Target, seed: u64) -> Self {
        Self {
            frame,
            target,
            seed,
        }
    }

    /// At most that many rows and their targets.
    fn part(&self, most: usize) -> (Frame, TargetValues) {
        let count = self.target.rows.len();
        let positions: Vec<usize> = if count <= most {
            (0..count).collect()
        } else {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            let mut chosen = index::sample(&mut rng, count, most).into_vec();
            chosen.sort_unstable();
            chosen
        };
        let rows: Vec<usize> = positions.iter().map(|&p| self.target.rows[p]).collect();
        (self.frame.take(&rows), self.target.values.take(&positions))
    }
}

struct Run<'a> {
    options: &'a TrainOptions,
    metric: Metric,
    pace: &'a Pace<'a>,
    data: Data<'a>,
}

impl Run<'_> {
    fn benches(
        &self,
        part: &(Frame, TargetValues),
        seed: u64,
        repeats: usize,
    ) -> Result<Vec<Bench>, PrepareError> {
        let count = if part.1.len() < FIVE_FOLDS_BELOW {
            5
        } else {
            3
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let folds = (0..repeats)
            .flat_map(|_| folds::split(&part.1, count, &mut rng))
            .collect::<Vec<_>>();
        folds
            .iter()
            .map(|fold| Bench::new(&part.0, &self.options.target, &part.1, fold))
            .collect()
    }

    fn preparation(&self, part: &(Frame, TargetValues)) -> Result<Preparation, TrainError> {
        let rows: Vec<usize> = (0..part.0.rows()).collect();
        let preparation = Preparation::fit(&part.0, &rows, &self.options.target, &part.1);
        let useless =
            |c: &super::prepare::PreparedColumn| matches!(c.encoding, Encoding::Dropped(_));
        if preparation.columns.iter().all(useless) {
            return Err(TrainError::NoFeatures {
                target: self.options.target.clone(),
            });
        }
        Ok(preparation)
    }

    /// Fits the chosen models on all rows.
    fn refit(
        &self,
        part: &(Frame, TargetValues),
        preparation: Preparation,
        members: &[&Entry],
        observer: &mut dyn Observer,
    ) -> Result<Pipeline, TrainError> {
        let lesson = Lesson::new(preparation.apply(&part.0)?, part.1.clone());
        let fitted = self.pace.run(members, observer, |entry| {
            let mut rng = stream(self.options.seed, entry.trial, 1_022);
            let model = lesson.fit(&entry.config, &mut rng, &|| self.pace.over(Until::Done))?;
            Some(Member {
                config: entry.config.clone(),
                model,
                weight: entry.weight,
            })
        });
        let members = fitted
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or(TrainError::Cancelled)?;
        if self.pace.cancelled() {
            return Err(TrainError::Cancelled);
        }
        Ok(Pipeline {
            preparation,
            members,
            scale: lesson.scale,
        })
    }

    fn phase(&self, phase: Phase, leaderboard: &[Entry], observer: &mut dyn Observer) {
        let trials = u32::try_from(leaderboard.len()).unwrap_or(u32::MAX);
        let scores = leaderboard
            .iter()
            .filter(|e| e.weight > 0.0)
            .filter_map(|e| e.score);
        let best = scores
            .map(|s| self.metric.merit(s))
            .reduce(f64::max)
            .map(|m| self.metric.merit(m));
        observer.progress(&Progress {
            phase,
            trials,
            trials_total: Some(trials),
            model: None,
            score: None,
            best,
            fraction: self.pace.fraction(trials),
        });
    }
}

impl Trained {
    /// Has the model take the raw columns that entered a preparation, and do what was fitted there
    /// itself. [`Trained::predict`] goes on to take prepared rows.
    ///
    /// # Errors
    /// Fails if a column that the model looks at cannot be made from raw columns.
    pub fn stand_behind(&mut self, fitted: &FittedTransform) -> Result<(), FrontError> {
        let target = self.signature.target.clone().unwrap_or_default();
        let used = export::used_columns(&self.pipeline);
        let shown = self.pipeline.preparation.columns.iter();
        let shown: Vec<&str> = shown.map(|column| column.name.as_str()).collect();
        let front = fitted.front(&used, &shown, &target)?;
        let examples = std::mem::take(&mut self.signature.inputs);
        self.signature = export::signature_behind(&front, &self.signature);
        for input in &mut self.signature.inputs {
            // A column that no step touches is known by an example still.
            let untouched = fitted.steps.iter().all(|step| !step.touches(&input.name));
            let known = examples.iter().find(|e| e.name == input.name && untouched);
            input.example = known.and_then(|known| known.example.clone());
        }
        self.onnx = export::onnx_behind(&self.pipeline, &self.signature, &front);
        Ok(())
    }

    /// Predicts raw rows: row-major probabilities, or one number a row.
    ///
    /// # Errors
    /// Fails if a column that the model needs is not there or of another type.
    pub fn predict(&self, frame: &Frame) -> Result<Vec<f32>, PrepareError> {
        self.pipeline.predict(frame)
    }
}

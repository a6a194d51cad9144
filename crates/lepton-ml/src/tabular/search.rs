//! Choosing a model by cross-validation.
//!
//! Owns: trials, racing and the leaderboard. Must not know: files, plots, or the export.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::folds::Fold;
use super::frame::Frame;
use super::metrics::Metric;
use super::models::Config;
use super::observer::{Observer, Phase, Point, Progress};
use super::pace::{Budget, Pace, Until};
use super::pipeline::{Lesson, average};
use super::portfolio;
use super::prepare::{Features, Preparation, PrepareError};
use super::selection::{self, Candidate};
use super::target::TargetValues;

/// A trial and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Which trial, from 0.
    pub trial: u32,
    /// The algorithm's name.
    pub model: String,
    /// The algorithm and its parameters.
    pub config: Config,
    /// The cross-validated figure in the chosen metric; of the first fold only if pruned.
    pub score: Option<f64>,
    /// What became of it.
    pub outcome: Outcome,
    /// Its part in the final model.
    pub weight: f32,
}

/// What became of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Candidate on all folds.
    Complete,
    /// So far behind on the first fold that the others were spared.
    Pruned,
    /// Time ran out, or the figure is not defined.
    Abandoned,
}

/// One fold, prepared: the preparation is fitted on its training rows only.
pub(super) struct Bench {
    pub(super) preparation: Preparation,
    pub(super) lesson: Lesson,
    pub(super) training: Vec<usize>,
    pub(super) validation: Features,
    pub(super) rows: Vec<usize>,
    pub(super) truth: TargetValues,
}

impl Bench {
    pub(super) fn new(
        frame: &Frame,
        target_name: &str,
        target: &TargetValues,
        fold: &Fold,
    ) -> Result<Self, PrepareError> {
        let learned = target.take(&fold.training);
        let preparation = Preparation::fit(frame, &fold.training, target_name, &learned);
        let features = preparation.apply(&frame.take(&fold.training))?;
        let validation = preparation.apply(&frame.take(&fold.validation))?;
        Ok(Self {
            preparation,
            lesson: Lesson::new(features, learned),
            training: fold.training.clone(),
            validation,
            rows: fold.validation.clone(),
            truth: target.take(&fold.validation),
        })
    }

    /// Fits and predicts the validation rows on the target's scale.
    fn judge(
        &self,
        config: &Config,
        rng: &mut ChaCha8Rng,
        pace: &Pace<'_>,
        until: Until,
    ) -> Option<Vec<f32>> {
        let model = self.lesson.fit(config, rng, &|| pace.over(until))?;
        let mut predictions = model.predict(&self.validation, self.rows.len());
        self.lesson.scale.stretch(&mut predictions);
        predictions
            .iter()
            .all(|p| p.is_finite())
            .then_some(predictions)
    }
}

/// What a search found.
pub(super) struct Found {
    pub(super) leaderboard: Vec<Entry>,
    /// Predictions of the chosen ensemble for every row, from folds that did not see it.
    pub(super) predictions: Vec<f32>,
}

/// Candidates that race against each other; also what bounds waste where threads abound.
const ROUND: u32 = 4;
/// The part of the log loss in the comparison: enough to tell equals apart, no more.
const LOG_LOSS_SHARE: f64 = 0.003;
/// The part of what is left of a time budget that judging and fitting the members may take;
/// the rest is for importances and plots.
const MEMBERS_SHARE: f64 = 0.7;

/// A trial on all folds, or as far as it came.
struct Trial {
    config: Config,
    /// Each fold's validation predictions.
    folds: Vec<Option<Vec<f32>>>,
    /// What all that took on one thread.
    seconds: f64,
}

/// A trial on one fold: predictions unless time ran out, and the seconds that it took.
type Judgement = (Option<Vec<f32>>, f64);

/// The search of one run.
pub(super) struct Search<'a> {
    pub(super) benches: &'a [Bench],
    pub(super) target: &'a TargetValues,
    pub(super) metric: Metric,
    pub(super) seed: u64,
    pub(super) pace: &'a Pace<'a>,
}

/// The stream of random numbers of one fit.
pub(super) fn stream(seed: u64, trial: u32, fold: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Stream 0 draws folds; the fold's number fits ten bits.
    rng.set_stream(((u64::from(trial) + 1) << 10) | fold as u64);
    rng
}

impl Search<'_> {
    /// Tries candidates until the budget ends; `None` if cancelled before the first was done.
    pub(super) fn run(&self, observer: &mut dyn Observer) -> Option<Found> {
        let mut leaderboard: Vec<Entry> = Vec::new();
        let mut complete: Vec<Candidate> = Vec::new();
        let mut first_fold_best = f64::NEG_INFINITY;
        while !self.finished(leaderboard.len(), complete.is_empty()) {
            let round = self.round(leaderboard.len());
            let trials = self.race(&round, &mut first_fold_best, observer);
            for trial in trials {
                let number = u32::try_from(leaderboard.len()).unwrap_or(u32::MAX);
                let (score, outcome, predictions) = self.outcome(&trial);
                if let Some(predictions) = predictions {
                    complete.push(Candidate {
                        at: leaderboard.len(),
                        predictions,
                        seconds: self.seconds_of_a_member(trial.seconds),
                    });
                }
                leaderboard.push(Entry {
                    trial: number,
                    model: trial.config.name().to_owned(),
                    config: trial.config,
                    score,
                    outcome,
                    weight: 0.0,
                });
                self.tell(&leaderboard, observer);
            }
        }
        if complete.is_empty() || self.pace.cancelled() {
            return None;
        }
        let seconds = self
            .pace
            .left()
            .map_or(f64::INFINITY, |left| left.as_secs_f64() * MEMBERS_SHARE);
        let merit = |truth: &TargetValues, own: &[f32]| self.merit(truth, own);
        let members = selection::choose(&complete, self.target, merit, seconds);
        #[expect(clippy::cast_precision_loss, reason = "a few members")]
        let weight = 1.0 / members.len() as f32;
        for &member in &members {
            leaderboard[complete[member].at].weight = weight;
        }
        let own = |member: usize| (weight, complete[member].predictions.clone());
        let predictions = average(members.into_iter().map(own));
        Some(Found {
            leaderboard,
            predictions,
        })
    }

    fn finished(&self, trials: usize, nothing_yet: bool) -> bool {
        if self.pace.cancelled() {
            return true;
        }
        match self.pace.budget() {
            Budget::Trials(total) => trials >= total.max(1) as usize,
            // The first round always happens.
            Budget::Time(_) => self.pace.over(Until::SearchEnds) && (trials > 0 || !nothing_yet),
        }
    }

    /// What judging a member on fresh folds and fitting it on all rows will take, from what the
    /// search's folds took: as many fits as a row has folds, and one on more rows.
    fn seconds_of_a_member(&self, seconds: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few folds")]
        let (folds, repeats, threads) = (
            self.benches.len() as f64,
            repeats(self.benches, self.target) as f64,
            self.pace.threads() as f64,
        );
        seconds / folds * (folds / repeats + 1.25) / threads
    }

    fn round(&self, done: usize) -> Vec<(u32, Config)> {
        let done = u32::try_from(done).unwrap_or(u32::MAX);
        let size = match self.pace.budget() {
            Budget::Trials(total) => ROUND.min(total.max(1).saturating_sub(done)),
            Budget::Time(_) => ROUND,
        };
        let (task, rows) = (self.target.task(), self.target.len());
        (done..done + size)
            .map(|trial| {
                let mut rng = stream(self.seed, trial, 1_023);
                (trial, portfolio::candidate(task, rows, trial, &mut rng))
            })
            .collect()
    }

    /// Judges a round on the first fold, drops the hopeless, and the rest on all folds.
    fn race(
        &self,
        round: &[(u32, Config)],
        best: &mut f64,
        observer: &mut dyn Observer,
    ) -> Vec<Trial> {
        let first: Vec<_> = round
            .iter()
            .map(|(trial, config)| (*trial, config, 0))
            .collect();
        let judged = self.pace.run(&first, observer, |task| self.judge(task));
        let merits: Vec<f64> = judged
            .iter()
            .map(|(p, _)| self.first_merit(p.as_deref()))
            .collect();
        let bar = *best - 0.25 * best.abs() - 0.02;
        *best = merits.iter().copied().fold(*best, f64::max);
        let mut trials: Vec<Trial> = round
            .iter()
            .zip(judged)
            .map(|((_, config), (own, seconds))| Trial {
                config: config.clone(),
                folds: vec![own],
                seconds,
            })
            .collect();
        let alive: Vec<usize> = (0..round.len()).filter(|&at| merits[at] >= bar).collect();
        let rest: Vec<_> = alive
            .iter()
            .flat_map(|&at| {
                (1..self.benches.len()).map(move |fold| (round[at].0, &round[at].1, fold))
            })
            .collect();
        let mut judged = self
            .pace
            .run(&rest, observer, |task| self.judge(task))
            .into_iter();
        for at in alive {
            for (own, seconds) in judged.by_ref().take(self.benches.len() - 1) {
                trials[at].folds.push(own);
                trials[at].seconds += seconds;
            }
        }
        trials
    }

    fn judge(&self, (trial, config, fold): &(u32, &Config, usize)) -> Judgement {
        // One model must come out of however short a time.
        let until = if *trial == 0 {
            Until::Done
        } else {
            Until::SearchEnds
        };
        let mut rng = stream(self.seed, *trial, *fold);
        let started = self.pace.elapsed();
        let own = self.benches[*fold].judge(config, &mut rng, self.pace, until);
        let seconds = self.pace.elapsed().as_secs_f64() - started.as_secs_f64();
        (own, seconds)
    }

    /// What candidates are compared by: the metric, and where that counts whole rows only, a
    /// little of the log loss, which tells equals apart and steadies the choice among few rows.
    fn merit(&self, truth: &TargetValues, predictions: &[f32]) -> f64 {
        let merit = self.metric.merit(self.metric.value(truth, predictions));
        match self.metric {
            Metric::Accuracy | Metric::Precision | Metric::Recall | Metric::F1 => {
                merit - LOG_LOSS_SHARE * Metric::LogLoss.value(truth, predictions)
            }
            _ => merit,
        }
    }

    fn first_merit(&self, predictions: Option<&[f32]>) -> f64 {
        let merit = predictions.map(|own| self.merit(&self.benches[0].truth, own));
        // A metric that one fold cannot tell spares everybody.
        merit.map_or(f64::NEG_INFINITY, |m| {
            if m.is_nan() { f64::INFINITY } else { m }
        })
    }

    fn outcome(&self, trial: &Trial) -> (Option<f64>, Outcome, Option<Vec<f32>>) {
        let judged: Option<Vec<&Vec<f32>>> = trial.folds.iter().map(Option::as_ref).collect();
        let Some(judged) = judged else {
            return (None, Outcome::Abandoned, None);
        };
        if judged.len() < self.benches.len() {
            let score = self.metric.value(&self.benches[0].truth, judged[0]);
            return (Some(score), Outcome::Pruned, None);
        }
        let pooled = pool(
            self.benches,
            judged.into_iter().map(Vec::as_slice),
            self.target,
        );
        let score = self.metric.value(self.target, &pooled);
        if score.is_nan() {
            return (None, Outcome::Abandoned, None);
        }
        (Some(score), Outcome::Complete, Some(pooled))
    }

    fn tell(&self, leaderboard: &[Entry], observer: &mut dyn Observer) {
        let Some(last) = leaderboard.last() else {
            return;
        };
        let complete = leaderboard
            .iter()
            .filter(|e| e.outcome == Outcome::Complete);
        let best = complete
            .filter_map(|e| e.score)
            .map(|s| self.metric.merit(s))
            .reduce(f64::max);
        let best = best.map(|merit| self.metric.merit(merit));
        let step = i64::from(last.trial);
        if let (Some(value), Outcome::Complete) = (last.score, last.outcome) {
            observer.point(&Point {
                key: format!("search/{}", self.metric),
                step,
                value,
            });
        }
        if let Some(value) = best {
            observer.point(&Point {
                key: format!("search/best_{}", self.metric),
                step,
                value,
            });
        }
        let trials = last.trial + 1;
        observer.progress(&Progress {
            phase: Phase::Search,
            trials,
            trials_total: match self.pace.budget() {
                Budget::Trials(total) => Some(total.max(1)),
                Budget::Time(_) => None,
            },
            model: Some(last.model.clone()),
            score: last.score,
            best,
            fraction: self.pace.fraction(trials),
        });
    }
}

/// Puts the folds' validation predictions back in the order of the rows; where folds were drawn
/// several times, their mean.
pub(super) fn pool<'p>(
    benches: &[Bench],
    predictions: impl Iterator<Item = &'p [f32]>,
    target: &TargetValues,
) -> Vec<f32> {
    let width = target.width();
    #[expect(clippy::cast_precision_loss, reason = "a few repeats")]
    let share = 1.0 / repeats(benches, target) as f32;
    let mut pooled = vec![0.0; target.len() * width];
    for (bench, own) in benches.iter().zip(predictions) {
        for (&row, values) in bench.rows.iter().zip(own.chunks_exact(width)) {
            let sums = &mut pooled[row * width..(row + 1) * width];
            sums.iter_mut()
                .zip(values)
                .for_each(|(sum, value)| *sum += value * share);
        }
    }
    pooled
}

/// How often the folds were drawn: each row validates once a time.
fn repeats(benches: &[Bench], target: &TargetValues) -> usize {
    let validated: usize = benches.iter().map(|bench| bench.rows.len()).sum();
    (validated / target.len().max(1)).max(1)
}

//! How long a job will run, learnt from those that have finished.
//!
//! Owns: histories by feature, and what they say of a job of a given age, with the uncertainty
//! they leave. Must not know: what a prediction is used for. Nothing may need one to be right.
//!
//! A history is a histogram over ages that grow by a fixed factor, in which old jobs fade. The
//! features of a job are given from the least to the most specific (all jobs; those of this
//! size; those of this user and size; …); each level is drawn towards the one before as long as
//! it has seen little.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Steps of the histogram in one doubling: an estimate is never finer than 19 %.
const STEPS_PER_DOUBLING: f64 = 4.0;

/// The shortest and the longest that are told apart: one second and a year.
const STEPS: usize = 101;

/// How much of a level's weight one more job leaves to those before: the latest twenty weigh
/// about as much as all before, for people submit the same job many times over.
const FADING: f64 = 0.95;

/// As many jobs as a level must have seen to weigh as much as the level before.
const SHRINKAGE: f64 = 4.0;

/// Durations of finished jobs, by feature.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    levels: BTreeMap<String, Histogram>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Histogram {
    weights: Vec<f64>,
    total: f64,
    /// What a new job weighs, growing, in place of all others' fading.
    unit: f64,
}

/// What a history says of one job: a distribution over its whole duration.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// Of each step, the probability that the job ends in it; all together 1, unless empty.
    probabilities: Vec<f64>,
    /// How many finished jobs of the most specific feature it rests on, faded.
    pub evidence: f64,
}

/// The age at which a step ends, in seconds.
fn step_end(step: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most a hundred")]
    let exponent = step as f64 / STEPS_PER_DOUBLING;
    exponent.exp2()
}

/// The step in which an age lies.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped before"
)]
fn step_of(seconds: f64) -> usize {
    let exact = seconds.max(1.0).log2() * STEPS_PER_DOUBLING;
    (exact.ceil() as usize).min(STEPS - 1)
}

impl Histogram {
    fn new() -> Self {
        Self {
            weights: vec![0.0; STEPS],
            total: 0.0,
            unit: 1.0,
        }
    }

    fn add(&mut self, seconds: f64) {
        self.weights[step_of(seconds)] += self.unit;
        self.total += self.unit;
        self.unit /= FADING;
        if self.unit > 1e12 {
            // Before precision is lost; a scale changes no proportion.
            for weight in &mut self.weights {
                *weight /= self.unit;
            }
            self.total /= self.unit;
            self.unit = 1.0;
        }
    }

    fn evidence(&self) -> f64 {
        self.total / self.unit
    }
}

impl History {
    /// Learns that a job with these features, the least specific first, has run so long.
    pub fn observe(&mut self, features: &[String], seconds: f64) {
        for feature in features {
            let level = self
                .levels
                .entry(feature.clone())
                .or_insert_with(Histogram::new);
            level.add(seconds);
        }
    }

    /// What is known of a job with these features, the least specific first.
    #[must_use]
    pub fn outlook(&self, features: &[String]) -> Outlook {
        let mut outlook = Outlook {
            probabilities: vec![0.0; STEPS],
            evidence: 0.0,
        };
        for level in features
            .iter()
            .filter_map(|feature| self.levels.get(feature))
        {
            let evidence = level.evidence();
            let known = outlook
                .probabilities
                .iter()
                .any(|probability| *probability > 0.0);
            let prior = if known { SHRINKAGE } else { 0.0 };
            let own = evidence / (evidence + prior);
            for (probability, weight) in outlook.probabilities.iter_mut().zip(&level.weights) {
                *probability = (1.0 - own) * *probability + own * weight / level.total;
            }
            outlook.evidence = evidence;
        }
        outlook
    }
}

impl Outlook {
    /// Of a job of which nothing is known.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            probabilities: Vec::new(),
            evidence: 0.0,
        }
    }

    fn alive_at(&self, age: f64) -> (usize, f64) {
        let first = if age <= 0.0 { 0 } else { step_of(age) };
        let alive = self.probabilities.get(first..).unwrap_or_default();
        (first, alive.iter().sum())
    }

    /// The age by which a job that has reached `age` has ended with probability `level`, in
    /// seconds; `None` if no such job has been seen.
    #[must_use]
    pub fn quantile(&self, age: f64, level: f64) -> Option<f64> {
        let (first, alive) = self.alive_at(age);
        if alive <= 0.0 {
            return None;
        }
        let mut ended = 0.0;
        for step in first..STEPS {
            ended += self.probabilities[step];
            if ended >= level * alive {
                return Some(step_end(step).max(age));
            }
        }
        Some(step_end(STEPS - 1))
    }

    /// The age at which the rank next changes.
    #[must_use]
    pub fn next_change(&self, age: f64) -> f64 {
        step_end((step_of(age) + 1).min(STEPS - 1)).max(age + 1.0)
    }

    /// The Gittins index of a job of this age (Gittins 1979; Aalto et al., QUESTA'09): the
    /// greatest probability of ending per second that any further stretch of service offers.
    #[must_use]
    pub fn gittins(&self, age: f64) -> f64 {
        let (first, alive) = self.alive_at(age);
        if alive <= 1e-9 {
            // Older than all that were seen: as likely to take as long again (Lindy).
            return 1.0 / age.max(1.0);
        }
        let (mut best, mut ended, mut spent, mut from) = (0.0_f64, 0.0, 0.0, age.max(0.0));
        for step in first..STEPS {
            let to = step_end(step).max(from + 0.5);
            // Those that end in this step do so half-way.
            let probability = self.probabilities[step];
            spent += (to - from) * (alive - ended - probability / 2.0);
            ended += probability;
            if probability > 0.0 && spent > 0.0 {
                best = best.max(ended / spent);
            }
            from = to;
        }
        best
    }

    /// The mean of what is left of a job of this age, in seconds.
    #[must_use]
    pub fn mean_rest(&self, age: f64) -> Option<f64> {
        let (first, alive) = self.alive_at(age);
        if alive <= 1e-9 {
            return None;
        }
        let rest = |step: usize| {
            let middle = f64::midpoint(step_end(step), step_end(step.saturating_sub(1)));
            self.probabilities[step] * (middle - age).max(0.5)
        };
        Some((first..STEPS).map(rest).sum::<f64>() / alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn features(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_known_of_one_user_outweighs_what_is_known_of_all() {
        let mut history = History::default();
        for _ in 0..200 {
            history.observe(&features(&["all", "long"]), 10_000.0);
            history.observe(&features(&["all", "short"]), 100.0);
        }
        let median = |names: &[&str]| {
            history
                .outlook(&features(names))
                .quantile(0.0, 0.5)
                .unwrap()
        };
        assert!((80.0..125.0).contains(&median(&["all", "short"])));
        assert!((8_000.0..12_500.0).contains(&median(&["all", "long"])));
        let stranger = history.outlook(&features(&["all", "stranger"]));
        let (low, high) = (stranger.quantile(0.0, 0.1), stranger.quantile(0.0, 0.9));
        assert!(
            high.unwrap() > 50.0 * low.unwrap(),
            "of a stranger little is known"
        );
        // Having survived the short ones, it is a long one.
        assert!(stranger.quantile(1_000.0, 0.1).unwrap() > 8_000.0);
        assert!(stranger.gittins(0.0) > 5.0 * stranger.gittins(1_000.0));
    }

    #[test]
    fn nothing_known_is_said_to_be_nothing() {
        let outlook = History::default().outlook(&features(&["all"]));
        assert_eq!(
            (outlook.quantile(0.0, 0.5), outlook.mean_rest(0.0)),
            (None, None)
        );
        assert!(outlook.gittins(0.0) > outlook.gittins(100.0));
    }

    proptest! {
        /// Nine in ten of what comes next lie under the 90 % quantile: the uncertainty is honest.
        #[test]
        fn quantiles_are_calibrated(seed: u64) {
            use rand::Rng as _;
            let mut random = crate::PlanRng::from_seed(seed).stream("test", 0);
            let mut history = History::default();
            let all = features(&["all"]);
            let mut under = 0;
            for round in 0..1_200 {
                let seconds = (random.random_range(0.0..10.0_f64)).exp2() * 10.0;
                if round >= 200 {
                    let high = history.outlook(&all).quantile(0.0, 0.9).unwrap();
                    under += i32::from(seconds <= high);
                }
                history.observe(&all, seconds);
            }
            prop_assert!((830..=980).contains(&under), "{under} of 1,000");
        }
    }
}

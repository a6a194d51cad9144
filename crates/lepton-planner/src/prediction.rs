//! How long a job will run, learnt from those that have finished and those that still run.
//!
//! Owns: histories by feature, and what they say of a job of a given age, with the uncertainty
//! they leave. Must not know: what a prediction is used for. Nothing may need one to be right.
//!
//! A history counts, over ages that grow by a fixed factor, how many jobs reached an age and how
//! many of those ended there (Kaplan and Meier, 1958): a job that still runs tells that it has
//! not ended yet, so that the long are not missed while they run. Old jobs fade. The features of
//! a job are given from the least to the most specific (all jobs; those of this size; those of
//! this user and size; …); each level is drawn towards the one before at every age of which it
//! has seen little (a beta process, Hjort 1990).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Steps of the histogram in one doubling: an estimate is never finer than 19 %.
const STEPS_PER_DOUBLING: f64 = 4.0;

/// The shortest and the longest that are told apart: one second and a year.
const STEPS: usize = 101;

/// How an end is spread over its step and those beside it: the next of its kind ends near it,
/// not in the very step.
const SPREAD: [f64; 3] = [0.25, 0.5, 0.25];

/// The chance that a job older than all that were seen ends within a step: as likely as not it
/// takes as long again (Lindy), and a doubling has four steps.
const LINDY: f64 = 0.159;

/// How many jobs that guess weighs: a quarter of one, or it would end the long before their time.
const BELIEF_IN_LINDY: f64 = 0.25;

/// One feature of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Feature {
    /// What jobs of it share, such as the name of their user.
    pub name: String,
    /// How alike they are.
    pub likeness: Likeness,
}

/// How much the jobs of a feature tell of one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Likeness {
    /// They share a size, a user, a name: much else changes with time.
    Kind,
    /// They were asked for at one go: most run equally long.
    Burst,
}

impl Likeness {
    /// How many jobs this level must have seen at an age to weigh as much as the level before.
    const fn shrinkage(self) -> f64 {
        match self {
            Self::Kind => 2.0,
            Self::Burst => 0.5,
        }
    }

    /// How much of their weight one more job leaves to those before.
    const fn fading(self) -> f64 {
        match self {
            // The latest fifty weigh about as much as all before: people change what they do.
            Self::Kind => 0.98,
            Self::Burst => 1.0,
        }
    }
}

/// What jobs taught, by feature.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    levels: BTreeMap<String, Level>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Level {
    /// Of each step, the weight of those that reached it and are known to have ended in it or
    /// passed it.
    reached: Vec<f64>,
    /// Of each step, the weight of those that ended in it.
    ended: Vec<f64>,
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

impl Level {
    fn new() -> Self {
        Self {
            reached: vec![0.0; STEPS],
            ended: vec![0.0; STEPS],
            unit: 1.0,
        }
    }

    fn pass(&mut self, from: usize, to: usize) {
        for reached in self.reached.iter_mut().take(to).skip(from) {
            *reached += self.unit;
        }
    }

    fn end(&mut self, from: usize, step: usize, fading: f64) {
        let first = step.saturating_sub(1);
        self.pass(from, first);
        let mut left = self.unit;
        for (offset, part) in SPREAD.into_iter().enumerate() {
            let at = (first + offset).min(STEPS - 1);
            self.reached[at] += left;
            self.ended[at] += part * self.unit;
            left -= part * self.unit;
        }
        self.unit /= fading;
        if self.unit > 1e12 {
            // Before precision is lost; a scale changes no proportion.
            for weight in self.reached.iter_mut().chain(&mut self.ended) {
                *weight /= self.unit;
            }
            self.unit = 1.0;
        }
    }
}

impl History {
    /// Learns that a job with these features has lived through the ages up to `seconds`, of
    /// which the first `told` steps were told before. Returns how many have been told now.
    #[must_use]
    pub fn survive(&mut self, features: &[Feature], told: usize, seconds: f64) -> usize {
        // One step less: an end is spread over one step before its own.
        let to = step_of(seconds).saturating_sub(1);
        if seconds <= 0.0 || to <= told {
            return told;
        }
        for feature in features {
            self.level(feature).pass(told, to);
        }
        to
    }

    /// Learns that a job with these features has run so long, of which the first `told` steps
    /// were told before.
    pub fn observe(&mut self, features: &[Feature], told: usize, seconds: f64) {
        for feature in features {
            let fading = feature.likeness.fading();
            self.level(feature).end(told, step_of(seconds), fading);
        }
    }

    /// Forgets what is known of a feature: no job has it any more.
    pub fn forget(&mut self, feature: &Feature) {
        self.levels.remove(&feature.name);
    }

    fn level(&mut self, feature: &Feature) -> &mut Level {
        self.levels
            .entry(feature.name.clone())
            .or_insert_with(Level::new)
    }

    /// What is known of a job with these features, the least specific first.
    #[must_use]
    pub fn outlook(&self, features: &[Feature]) -> Outlook {
        let mut hazards = [LINDY; STEPS];
        let mut evidence = 0.0;
        let mut known = false;
        for (feature, level) in features
            .iter()
            .filter_map(|feature| Some((feature, self.levels.get(&feature.name)?)))
        {
            let strength = if known {
                feature.likeness.shrinkage()
            } else {
                BELIEF_IN_LINDY
            };
            let prior = strength * level.unit;
            for (step, hazard) in hazards.iter_mut().enumerate() {
                *hazard = (level.ended[step] + prior * *hazard) / (level.reached[step] + prior);
            }
            evidence = level.ended.iter().sum::<f64>() / level.unit;
            known |= evidence > 0.0;
        }
        if !known {
            return Outlook::unknown();
        }
        let mut alive = 1.0;
        let mut probabilities = Vec::with_capacity(STEPS);
        for hazard in &hazards[..STEPS - 1] {
            probabilities.push(alive * hazard);
            alive *= 1.0 - hazard;
        }
        probabilities.push(alive);
        Outlook {
            probabilities,
            evidence,
        }
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
        if age >= step_end(STEPS - 1) {
            // Ages beyond grow as steps do: by the second, the replay of a job of years never ends.
            return age * step_end(1);
        }
        step_end((step_of(age) + 1).min(STEPS - 1)).max(age + 1.0)
    }

    /// The Gittins index of a job of this age (Gittins 1979; Aalto et al., QUESTA'09): the
    /// greatest probability of ending per second that any further stretch of service offers.
    #[must_use]
    pub fn gittins(&self, age: f64) -> f64 {
        let (first, alive) = self.alive_at(age);
        if alive <= 1e-9 || age > step_end(STEPS - 1) {
            // Older than all that were seen or are told apart: as likely to take as long again
            // (Lindy).
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

    fn features(names: &[&str]) -> Vec<Feature> {
        let kind = |name: &&str| Feature {
            name: (*name).to_owned(),
            likeness: Likeness::Kind,
        };
        names.iter().map(kind).collect()
    }

    #[test]
    fn a_job_of_years_is_looked_at_ever_less_often_and_is_not_about_to_end() {
        let mut history = History::default();
        for _ in 0..10 {
            history.observe(&features(&["all"]), 0, 1e9);
        }
        let outlook = history.outlook(&features(&["all"]));
        let mut age = 1.0;
        for _ in 0..160 {
            age = outlook.next_change(age);
        }
        assert!(age > 1e10, "{age}");
        assert!(outlook.gittins(1e9) <= 1e-9, "{}", outlook.gittins(1e9));
    }

    #[test]
    fn what_is_known_of_one_user_outweighs_what_is_known_of_all() {
        let mut history = History::default();
        for _ in 0..200 {
            history.observe(&features(&["all", "long"]), 0, 10_000.0);
            history.observe(&features(&["all", "short"]), 0, 100.0);
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

    #[test]
    fn a_sibling_that_ended_or_still_runs_tells_of_the_others() {
        let mut history = History::default();
        for seconds in [50.0, 500.0, 5_000.0].repeat(50) {
            history.observe(&features(&["all"]), 0, seconds);
        }
        let mut kin = features(&["all", "burst"]);
        kin[1].likeness = Likeness::Burst;
        let before = history.outlook(&kin).mean_rest(0.0).unwrap();
        let told = history.survive(&kin, 0, 1_000.0);
        assert!(
            told > 0 && history.survive(&kin, told, 1_000.0) == told,
            "told once"
        );
        let longer = history.outlook(&kin).mean_rest(0.0).unwrap();
        assert!(longer > 1.3 * before, "{before} {longer}");
        let mut ended = history.clone();
        for _ in 0..3 {
            ended.observe(&kin, 0, 50.0);
        }
        let shorter = ended.outlook(&kin).mean_rest(0.0).unwrap();
        assert!(shorter < 0.6 * longer, "{longer} {shorter}");
        ended.forget(&kin[1]);
        assert!(ended.outlook(&kin).mean_rest(0.0).unwrap() > shorter);
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
                history.observe(&all, 0, seconds);
            }
            prop_assert!((830..=980).contains(&under), "{under} of 1,000");
        }
    }
}

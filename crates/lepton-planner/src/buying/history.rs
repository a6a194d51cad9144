//! What is known of a spot offer: how long it tends to stay up, and down.
//!
//! Owns: the counts, and the probabilities that follow. Must not know: prices, jobs.

use serde::{Deserialize, Serialize};

/// Ages double from one bucket to the next; 2^20 samples of three minutes are six years.
const BUCKETS: usize = 20;
/// An offer whose past is unknown ends with a probability of half over its age: runs of all
/// lengths are as likely on a logarithmic scale, which is how outages are seen to be.
const PRIOR_SLOPE: f64 = 1.0;
/// A prior that nobody has seen counts for as much as two runs seen to end.
const PRIOR_ENDS: f64 = 2.0;
/// One that stands on offers like this one counts for a dozen: their next weeks are much like its own.
const LIKE_ENDS: f64 = 12.0;
/// A sample counts for so many units when it is new, so that whole numbers can fade.
const UNITS: u64 = 1_024;
/// After so many samples all earlier ones count for `FADED` of `UNITS` as much: for half after 800,
/// two days of samples three minutes apart. Good weeks and bad ones follow each other.
const FADE_EVERY: u64 = 64;
const FADED: u64 = 969;
/// No prior knows an end within a sample better than this.
const PRIOR_MOST: f64 = 0.1;

/// What was seen of one offer, sample by sample, in counts that stay small.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpotHistory {
    /// Whether the last sample was up.
    up: bool,
    /// Samples for which that has been so.
    age: u64,
    /// Samples seen.
    #[serde(default)]
    samples: u64,
    ups: Ages,
    downs: Ages,
    /// What was seen of offers like this one, in other places: a prior, not evidence.
    #[serde(default)]
    like_ups: Ages,
    #[serde(default)]
    like_downs: Ages,
}

/// For runs of one kind, by the doubling of their age: samples seen, and how many were the last, in units
/// that fade.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Ages(Vec<(u64, u64)>);

impl SpotHistory {
    /// Adds the next sample.
    pub fn observe(&mut self, up: bool) {
        if self.age > 0 {
            let ended = up != self.up;
            let ages = if self.up {
                &mut self.ups
            } else {
                &mut self.downs
            };
            ages.count(self.age, ended);
            if ended {
                self.age = 0;
            }
        }
        self.up = up;
        self.age = self.age.saturating_add(1);
        self.samples = self.samples.saturating_add(1);
        if self.samples.is_multiple_of(FADE_EVERY) {
            self.ups.fade();
            self.downs.fade();
        }
    }

    /// Whether the last sample was up; not, before the first.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Samples for which the last state has lasted.
    #[must_use]
    pub fn age(&self) -> u64 {
        self.age
    }

    /// The probability that a run which is `up` or not, `age` samples old, ends with the next.
    #[must_use]
    pub fn ends(&self, up: bool, age: u64) -> f64 {
        let (ages, like) = if up {
            (&self.ups, &self.like_ups)
        } else {
            (&self.downs, &self.like_downs)
        };
        let bucket = bucket_of(age);
        let seen_elsewhere = !like.0.is_empty();
        let weight = if seen_elsewhere {
            LIKE_ENDS
        } else {
            PRIOR_ENDS
        };
        ages.ends(bucket, like.ends(bucket, unknown(bucket), weight), weight)
    }

    /// Takes what was seen of offers like this one, by now, as the prior.
    pub fn learn_from<'a>(&mut self, others: impl Iterator<Item = &'a Self>) {
        self.like_ups = Ages::default();
        self.like_downs = Ages::default();
        for other in others {
            self.like_ups.add(&other.ups);
            self.like_downs.add(&other.downs);
        }
    }
}

impl Ages {
    fn count(&mut self, age: u64, ended: bool) {
        let bucket = bucket_of(age);
        if self.0.len() <= bucket {
            self.0.resize(bucket + 1, (0, 0));
        }
        let (seen, ends) = &mut self.0[bucket];
        *seen = seen.saturating_add(UNITS);
        *ends = ends.saturating_add(if ended { UNITS } else { 0 });
    }

    fn fade(&mut self) {
        for (seen, ends) in &mut self.0 {
            *seen = seen.saturating_mul(FADED) / UNITS;
            *ends = ends.saturating_mul(FADED) / UNITS;
        }
    }

    fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), (0, 0));
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.0 = mine.0.saturating_add(theirs.0);
            mine.1 = mine.1.saturating_add(theirs.1);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    fn ends(&self, bucket: usize, prior: f64, weight: f64) -> f64 {
        let (seen, ends) = self.0.get(bucket).copied().unwrap_or((0, 0));
        let unit = UNITS as f64;
        (ends as f64 / unit + weight) / (seen as f64 / unit + weight / prior)
    }
}

/// What is assumed of a run whose ages nobody has seen.
#[expect(clippy::cast_precision_loss, reason = "a bucket's number is small")]
fn unknown(bucket: usize) -> f64 {
    (PRIOR_SLOPE / (1.5 * (bucket as f64).exp2())).min(PRIOR_MOST)
}

/// Ages 1, 2–3, 4–7 and so on.
fn bucket_of(age: u64) -> usize {
    (age.max(1).ilog2() as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_counts_most() {
        let mut history = SpotHistory::default();
        for sample in 0..4_000 {
            history.observe(sample % 4 != 0);
        }
        let then = history.ends(true, 3);
        for _ in 0..3_000 {
            history.observe(true);
        }
        for sample in 0..400 {
            history.observe(sample % 40 != 0);
        }
        let now = history.ends(true, 3);
        assert!(now < 0.7 * then, "{then} {now}");
    }

    #[test]
    fn an_end_is_learnt_and_an_unknown_age_falls_to_the_prior() {
        let mut history = SpotHistory::default();
        for sample in 0..4_000 {
            history.observe(sample % 10 != 0);
        }
        // Up for nine, down for one: an outage ends with the next sample. The prior and the hundred outages
        // that have not faded leave some doubt.
        assert!(history.ends(false, 1) > 0.8, "{}", history.ends(false, 1));
        assert!(history.ends(true, 2) < 0.02, "{}", history.ends(true, 2));
        assert!(history.ends(true, 8) > 0.3, "{}", history.ends(true, 8));
        let unknown = SpotHistory::default();
        assert!(unknown.ends(true, 100) > unknown.ends(true, 1_000));
    }
}

//! How long requests take: a bounded histogram, and what follows from it.
//!
//! Owns: the distribution of service times. Must not know: arrivals, replicas.

use serde::{Deserialize, Serialize};

/// Buckets grow by an eighth of a doubling (9 %): fine enough for staffing, and 25 octaves
/// (1 ms to 9 h) fit in 200 of them.
const BUCKETS_PER_OCTAVE: usize = 8;
const BUCKETS: usize = 200;

/// What is assumed before the first request has ended, in milliseconds.
const UNKNOWN_SERVICE_MS: f64 = 1_000.0;

/// A histogram of service times with logarithmic buckets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceTimes {
    counts: Vec<u64>,
}

impl ServiceTimes {
    /// Counts one request that took `millis`.
    pub fn record(&mut self, millis: u64) {
        let bucket = bucket_of(millis);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
    }

    /// Halves every count, so that the past fades; a gateway does so now and then.
    pub fn fade(&mut self) {
        for count in &mut self.counts {
            *count /= 2;
        }
    }

    /// How many requests were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().take(BUCKETS).sum()
    }

    /// The shape that forecasts need, worked out once.
    #[must_use]
    pub fn curve(&self) -> ServiceCurve {
        let total = self.total();
        if total == 0 {
            return ServiceCurve::from_points(vec![(UNKNOWN_SERVICE_MS, 1.0)]);
        }
        let points = self
            .counts
            .iter()
            .take(BUCKETS)
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| (middle_of(bucket), ratio(*count, total)))
            .collect();
        ServiceCurve::from_points(points)
    }
}

/// The distribution of service times, as points of probability.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceCurve {
    /// (milliseconds, probability), shortest first.
    points: Vec<(f64, f64)>,
    mean_ms: f64,
}

impl ServiceCurve {
    fn from_points(points: Vec<(f64, f64)>) -> Self {
        let mean_ms = points.iter().map(|(at, share)| at * share).sum::<f64>();
        Self {
            points,
            mean_ms: mean_ms.max(1.0),
        }
    }

    /// The mean, in seconds.
    #[must_use]
    pub fn mean_s(&self) -> f64 {
        self.mean_ms / 1_000.0
    }

    /// The probability that a request seen in service still is so `after_s` seconds on: the
    /// equilibrium residual life, `∫_h^∞ P(S > u) du / E[S]`.
    #[must_use]
    pub fn residual(&self, after_s: f64) -> f64 {
        let after = after_s * 1_000.0;
        let left: f64 = self
            .points
            .iter()
            .map(|(at, share)| (at - after).max(0.0) * share)
            .sum();
        (left / self.mean_ms).clamp(0.0, 1.0)
    }

    /// The service time at `quantile` of the distribution, in milliseconds.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a bucket's middle is positive and below 2^35"
    )]
    pub fn quantile_ms(&self, quantile: f64) -> u64 {
        let mut below = 0.0;
        for (at, share) in &self.points {
            below += share;
            if below >= quantile {
                return at.round() as u64;
            }
        }
        self.points.last().map_or(1, |(at, _)| at.round() as u64)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a logarithm of a u64 is small and not negative"
)]
fn bucket_of(millis: u64) -> usize {
    let octaves = (millis.max(1) as f64).log2();
    ((octaves * BUCKETS_PER_OCTAVE as f64) as usize).min(BUCKETS - 1)
}

#[expect(clippy::cast_precision_loss, reason = "a bucket's number is small")]
fn middle_of(bucket: usize) -> f64 {
    ((bucket as f64 + 0.5) / BUCKETS_PER_OCTAVE as f64).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_and_the_residual_of_a_constant_service_time() {
        let mut times = ServiceTimes::default();
        for _ in 0..100 {
            times.record(4_000);
        }
        let curve = times.curve();
        assert!((curve.mean_s() - 4.0).abs() < 0.2, "{}", curve.mean_s());
        // Half of what is in service has ended after half of its time.
        assert!((curve.residual(2.0) - 0.5).abs() < 0.05);
        assert!(curve.residual(5.0) < 1e-9);
        assert!((curve.residual(0.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_seen_is_one_second_and_extremes_stay_bounded() {
        let mut times = ServiceTimes::default();
        assert!((times.curve().mean_s() - 1.0).abs() < 1e-9);
        times.record(0);
        times.record(u64::MAX);
        assert_eq!(times.total(), 2);
        assert!(times.curve().mean_s().is_finite());
    }
}

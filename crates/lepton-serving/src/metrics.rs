//! Counters and latencies, cheap to write from many threads, read as Prometheus text.
//!
//! Owns: the buckets and the text form (Prometheus exposition format 0.0.4). Must not
//! know: what is counted.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency buckets in seconds: from a cached linear model to a
/// request that was queued until its deadline.
pub const LATENCY_BOUNDS_SECONDS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// How often what took how long.
#[derive(Debug, Default)]
pub struct LatencyHistogram {
    /// One a bound, and one above the last.
    buckets: [AtomicU64; LATENCY_BOUNDS_SECONDS.len() + 1],
    sum_micros: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatencySnapshot {
    /// How many fell into each bucket; the last is above all bounds.
    pub buckets: [u64; LATENCY_BOUNDS_SECONDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl LatencyHistogram {
    /// Counts one.
    pub fn record(&self, latency: Duration) {
        let seconds = latency.as_secs_f64();
        let bucket = LATENCY_BOUNDS_SECONDS.partition_point(|&bound| bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn snapshot(&self) -> LatencySnapshot {
        LatencySnapshot {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
            sum: Duration::from_micros(self.sum_micros.load(Ordering::Relaxed)),
        }
    }
}

impl LatencySnapshot {
    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The bound that `quantile` (0 to 1) of them stay under; `None` before the first,
    /// and infinite above the last bound.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among counts, which are far below 2^53"
    )]
    pub fn quantile_bound_seconds(&self, quantile: f64) -> Option<f64> {
        let rank = (self.count() as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return Some(
                    LATENCY_BOUNDS_SECONDS
                        .get(at)
                        .copied()
                        .unwrap_or(f64::INFINITY),
                );
            }
        }
        None
    }
}

/// Prometheus text being written.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a metric; `kind` is Prometheus's word for it.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One number with its labels.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        self.labels(labels, None);
        let _ = writeln!(self.0, " {value}");
    }

    /// A histogram with its labels.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], snapshot: &LatencySnapshot) {
        let mut total = 0;
        for (at, count) in snapshot.buckets.iter().enumerate() {
            total += count;
            let bound = LATENCY_BOUNDS_SECONDS.get(at);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), ToString::to_string);
            let _ = write!(self.0, "{name}_bucket");
            self.labels(labels, Some(&bound));
            let _ = writeln!(self.0, " {total}");
        }
        let _ = write!(self.0, "{name}_sum");
        self.labels(labels, None);
        let _ = write!(self.0, " {}\n{name}_count", snapshot.sum.as_secs_f64());
        self.labels(labels, None);
        let _ = writeln!(self.0, " {total}");
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    fn labels(&mut self, labels: &[(&str, &str)], bound: Option<&str>) {
        let bound = bound.map(|bound| ("le", bound));
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{separator}{name}=\"{value}\"");
            separator = ',';
        }
        if separator == ',' {
            self.0.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_buckets() {
        let histogram = LatencyHistogram::default();
        assert_eq!(histogram.snapshot().quantile_bound_seconds(0.5), None);
        for millis in [1, 1, 1, 3, 40_000] {
            histogram.record(Duration::from_millis(millis));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 5);
        assert_eq!(snapshot.buckets[1], 3);
        assert_eq!(snapshot.quantile_bound_seconds(0.5), Some(0.001));
        assert_eq!(snapshot.quantile_bound_seconds(0.8), Some(0.005));
        assert_eq!(snapshot.quantile_bound_seconds(0.99), Some(f64::INFINITY));
        assert_eq!(snapshot.sum, Duration::from_millis(40_006));
    }

    #[test]
    fn the_text_is_prometheuss() {
        let mut text = Exposition::default();
        text.metric("a_total", "counter", "How many.");
        text.sample("a_total", &[("name", "x\"y\\z")], 3);
        text.sample("b", &[], 1.5);
        let histogram = LatencyHistogram::default();
        histogram.record(Duration::from_millis(2));
        text.histogram("l", &[("m", "n")], &histogram.snapshot());
        let text = text.into_text();
        assert!(text.starts_with(
            "# HELP a_total How many.\n# TYPE a_total counter\na_total{name=\"x\\\"y\\\\z\"} 3\nb 1.5\n"
        ));
        assert!(text.contains("l_bucket{m=\"n\",le=\"0.001\"} 0\n"));
        assert!(text.contains("l_bucket{m=\"n\",le=\"0.0025\"} 1\n"));
        assert!(text.contains(
            "l_bucket{m=\"n\",le=\"+Inf\"} 1\nl_sum{m=\"n\"} 0.002\nl_count{m=\"n\"} 1\n"
        ));
    }
}

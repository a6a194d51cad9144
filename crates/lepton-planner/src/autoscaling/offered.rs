//! The load that arrivals offer a cold start from now: several estimates, and how wrong each was.
//!
//! Owns: the estimates, their errors over the past, the choice between them. Must not know:
//! replicas, safety, or who asks.
//!
//! What is in service now and still is so after the cold start is binomial with the residual
//! life of the service time; what arrives until then is Poisson: the transient M/G/∞ queue
//! (Eick, Massey, Whitt 1993). The rate of the work that arrives is what the estimates differ in. Each is
//! asked for the past as well, where what came is known: the one that was least wrong is believed,
//! and by how much it was wrong is how far off it may be now.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::scaler::Signals;

/// One way to take the rate of the work that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimate {
    /// Half of that of one minute and half that of five.
    #[default]
    Mixed,
    /// That of one minute.
    Minute,
    /// That of five minutes.
    Minutes,
    /// That of a quarter of an hour.
    Quarter,
    /// The line through two halves of five minutes, to the end of the cold start.
    Trend,
    /// The line through two halves of ten minutes, to the end of the cold start.
    LongTrend,
    /// Half of that of five minutes and half that of a quarter of an hour.
    Long,
    /// Half of the trend of five minutes and half of that of a quarter of an hour.
    HalfTrend,
}

impl Estimate {
    /// Every estimate.
    const ALL: [Self; 8] = [
        Self::Mixed,
        Self::Minute,
        Self::Minutes,
        Self::Quarter,
        Self::Trend,
        Self::LongTrend,
        Self::Long,
        Self::HalfTrend,
    ];

    /// Requests that arrivals will hold in service, were their rate to stay for long.
    fn offered(self, past: &Past<'_>) -> f64 {
        match self {
            Self::Mixed => 0.5 * (past.offered(0, 60) + past.offered(0, 300)),
            Self::Minute => past.offered(0, 60),
            Self::Minutes => past.offered(0, 300),
            Self::Quarter => past.offered(0, 900),
            Self::Trend => past.line(150),
            Self::LongTrend => past.line(300),
            Self::Long => 0.5 * (past.offered(0, 300) + past.offered(0, 900)),
            Self::HalfTrend => 0.5 * (past.line(150) + past.offered(0, 900)),
        }
    }

    /// So much past, in seconds, must be there when it is judged.
    fn needs_s(self) -> usize {
        match self {
            Self::Mixed | Self::Minute | Self::Minutes => 60,
            Self::Quarter | Self::Trend | Self::Long | Self::HalfTrend => 300,
            Self::LongTrend => 600,
        }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mixed => "one minute and five",
            Self::Minute => "one minute",
            Self::Minutes => "five minutes",
            Self::Quarter => "a quarter of an hour",
            Self::Trend => "the trend of five minutes",
            Self::LongTrend => "the trend of ten minutes",
            Self::Long => "five minutes and a quarter of an hour",
            Self::HalfTrend => "half the trend of five minutes and half a quarter of an hour",
        })
    }
}

/// Which estimate is believed, and how far off it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// The estimate that was least wrong.
    pub estimate: Estimate,
    /// The root of the mean square of its errors, in deviations of independent requests, in thousandths.
    pub spread_thousandths: u32,
    /// The second at which this was found.
    pub at_s: u64,
}

impl Judgement {
    /// The second of one that is not judged again.
    pub const FOR_GOOD: u64 = u64::MAX;
}

impl Default for Judgement {
    fn default() -> Self {
        Self {
            estimate: Estimate::Mixed,
            spread_thousandths: thousandths(SPREAD_BEFORE.sqrt()),
            at_s: 0,
        }
    }
}

/// The past at one of its seconds.
struct Past<'a> {
    signals: &'a Signals<'a>,
    /// Seconds of the series that are past.
    at: usize,
}

impl Past<'_> {
    /// The offered load over the `window` seconds that ended `ago` seconds before.
    fn offered(&self, ago: usize, window: usize) -> f64 {
        let to = self.at.saturating_sub(ago);
        let from = to.saturating_sub(window);
        if from == to {
            return 0.0;
        }
        let over = |sums: &[u64]| count(sums[to].saturating_sub(sums[from]));
        // A few requests do not decide how long all take.
        let mean_s = self.signals.curve.mean_s();
        let service_s = (over(self.signals.ended_ms) / 1_000.0 + SERVICE_PRIOR * mean_s)
            / (over(self.signals.ended) + SERVICE_PRIOR);
        over(self.signals.arrivals) * service_s / size(to - from)
    }

    /// The line through the offered loads of the last `half` seconds and the `half` before them.
    fn line(&self, half: usize) -> f64 {
        let (newer, older) = (self.offered(0, half), self.offered(half, half));
        if self.at < 2 * half {
            return newer;
        }
        let ahead_s = size(half) / 2.0 + self.signals.cold_start_s;
        let line = newer + (newer - older) * ahead_s / size(half);
        // A line is believed for a doubling, not for more.
        line.clamp(newer / 2.0, newer * 2.0)
    }
}

/// What a mean service time is taken to be from, before any request ended.
const SERVICE_PRIOR: f64 = 10.0;
/// Errors of the last hour count.
const JUDGED_S: usize = 3_600;
/// One error every so many seconds: those nearer to one another say the same.
const STEP_S: usize = 5;
/// The mean square of the errors before any was seen, and the seconds that it counts for.
const SPREAD_BEFORE: f64 = 2.0;
const SPREAD_BEFORE_S: f64 = 300.0;
/// An error by which the load was short counts for so much more.
const SHORT: f64 = 1.2;
/// Another estimate than the mixed one must be better by this much: the least of several is partly chance.
const WORTH_BELIEVING: f64 = 0.97;
/// An error counts for at most so many deviations: a burst is not what forecasts are judged by.
const ERROR_MOST: f64 = 5.0;

/// Requests that arrivals will hold in service by `estimate`, were their rate to stay for long.
#[must_use]
pub(super) fn offered(signals: &Signals<'_>, estimate: Estimate) -> f64 {
    let at = signals.arrivals.len().saturating_sub(1);
    estimate.offered(&Past { signals, at })
}

/// The share of what is in service at `at` that still is so one cold start later.
fn stays(signals: &Signals<'_>, at: usize) -> f64 {
    let from = at.saturating_sub(300);
    let over = |sums: &[u64]| count(sums[at].saturating_sub(sums[from]));
    let mean_s = signals.curve.mean_s();
    let service_s = (over(signals.ended_ms) / 1_000.0 + SERVICE_PRIOR * mean_s)
        / (over(signals.ended) + SERVICE_PRIOR);
    signals
        .curve
        .residual(signals.cold_start_s * mean_s / service_s.max(1e-3))
}

/// The estimate that was least wrong over the past hour, and by how much.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cold start is positive, and the conversion saturates"
)]
pub(super) fn judge(signals: &Signals<'_>) -> Judgement {
    let ahead = (signals.cold_start_s.ceil() as usize).max(1);
    let last = signals.arrivals.len().saturating_sub(1);
    let in_service = |at: usize| {
        count(signals.in_system_ms[at].saturating_sub(signals.in_system_ms[at - 1])) / 1_000.0
    };
    let mut sums = [(0.0, 0.0); Estimate::ALL.len()];
    let begin = last.saturating_sub(JUDGED_S).max(60);
    for at in (begin..last.saturating_sub(ahead)).step_by(STEP_S) {
        let past = Past { signals, at };
        let (stays, then) = (stays(signals, at), in_service(at + ahead));
        let stayed = in_service(at) * stays;
        for (estimate, (sum, seen)) in Estimate::ALL.into_iter().zip(&mut sums) {
            if at < estimate.needs_s() {
                continue;
            }
            let mean = stayed + estimate.offered(&past) * (1.0 - stays);
            let error = (then - mean) / mean.max(0.25).sqrt();
            // What is short makes requests wait, what is over costs little.
            let error = if error > 0.0 { error * SHORT } else { error };
            *sum += error.clamp(-ERROR_MOST, ERROR_MOST).powi(2) * size(STEP_S);
            *seen += size(STEP_S);
        }
    }
    let mut best = (Estimate::Mixed, f64::INFINITY);
    let mut bar = f64::INFINITY;
    for (estimate, (sum, seen)) in Estimate::ALL.into_iter().zip(sums) {
        let square = (sum + SPREAD_BEFORE * SPREAD_BEFORE_S) / (seen + SPREAD_BEFORE_S);
        if square < bar {
            best = (estimate, square);
            bar = if estimate == Estimate::Mixed {
                square * WORTH_BELIEVING
            } else {
                square
            };
        }
    }
    Judgement {
        estimate: best.0,
        spread_thousandths: thousandths(best.1.sqrt()),
        at_s: signals.now_s,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded by the most that an error counts for"
)]
fn thousandths(value: f64) -> u32 {
    (value * 1_000.0).round() as u32
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(super) fn count(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "windows are short")]
pub(super) fn size(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::super::service::ServiceTimes;
    use super::*;

    /// A second's arrivals by `rate`, each of four seconds, when nobody waits.
    fn judged(seconds: u64, rate: fn(u64) -> u64) -> Judgement {
        let mut times = ServiceTimes::default();
        times.record(4_000);
        let sums = |of: &dyn Fn(u64) -> u64| {
            let mut sum = 0;
            let mut sums = vec![0];
            for second in 0..seconds {
                sum += of(second);
                sums.push(sum);
            }
            sums
        };
        let ended = |second: u64| second.checked_sub(4).map_or(0, rate);
        let busy = |second: u64| {
            (0..4)
                .filter_map(move |ago| second.checked_sub(ago))
                .map(rate)
        };
        judge(&Signals {
            now_s: seconds,
            arrivals: &sums(&rate),
            in_system_ms: &sums(&|second| 1_000 * busy(second).sum::<u64>()),
            ended: &sums(&ended),
            ended_ms: &sums(&|second| 4_000 * ended(second)),
            late: &sums(&|_| 0),
            late_share: 0.01,
            in_flight: 0,
            ready: 1,
            starting: 0,
            curve: &times.curve(),
            slots: 8,
            cold_start_s: 60.0,
            late_after_s: 1.0,
        })
    }

    #[test]
    fn a_load_that_rises_for_long_is_extrapolated() {
        let rising = judged(3_600, |second| 10 + second / 20);
        assert!(
            matches!(rising.estimate, Estimate::Trend | Estimate::LongTrend),
            "{rising:?}"
        );
    }

    #[test]
    fn a_load_that_swings_within_minutes_is_known_to_be_uncertain() {
        let swinging = judged(3_600, |second| 20 + 15 * (second / 45 % 2));
        let steady = judged(3_600, |_| 27);
        assert!(
            swinging.spread_thousandths > 2 * steady.spread_thousandths,
            "{swinging:?} {steady:?}"
        );
    }

    #[test]
    fn nothing_seen_is_the_mixed_estimate_and_its_prior() {
        assert_eq!(judged(0, |_| 1).estimate, Estimate::Mixed);
        assert_eq!(
            judged(30, |_| 1).spread_thousandths,
            Judgement::default().spread_thousandths
        );
    }
}

//! The decision: how many replicas from now on, and why.
//!
//! Owns: the order of the rules. Must not know: the formulas of the ways it calls.

use std::fmt;

use lepton_types::{DurationMs, Timestamp};
use serde::{Deserialize, Serialize};

use super::choice::{Past, review};
use super::fleet::FleetSpec;
use super::scaler::{Forecast, ForecastSetting, Scaler, Signals};
use super::view::{AutoscaleView, Memory, Second};
use crate::PlanRng;

/// Seconds of the past that count: an hour holds the bursts that come every few minutes.
const PAST_S: usize = 3_600;
/// The ways are compared this often: a comparison costs some tens of milliseconds.
const REVIEW_EVERY: DurationMs = DurationMs::from_secs(120);
/// And not before so much of the past is known: less holds too few busy moments to tell settings apart.
const REVIEW_AFTER_S: usize = 600;
/// A review replays at most so many requests: a second of work. Where more came in the last ten
/// minutes there is none: of a load as large, chance is a small part, and what the forecast begins
/// with serves it.
const REVIEWED_MAX: u64 = 60_000;
/// A review aims at so much of the target at least, and at most: the cheapest on the past is partly luck.
const LATE_LEAST: f64 = 0.5;
const LATE_MOST: f64 = 0.75;
/// For so long after the first plan no replica is stopped: what is short ends first, so the first
/// service times seen are too short, and the first rates are of a few requests.
const LEARNING: DurationMs = DurationMs::from_secs(90);
/// Before there is a past to review, a load whose variance is so many times its mean keeps what it
/// needed: of independent requests it would be one, with a rate that drifts it is two.
const RESTLESS: f64 = 4.0;
/// For so long: the first bursts tell of the next.
const HOLD_OF_THE_RESTLESS_S: u32 = 900;
/// The first seconds of an endpoint fill it, which says nothing; of the others so many are needed.
const FILLING_S: usize = 90;
const SEEN_S: usize = 60;
/// Observations older than this say nothing about now.
const STALE: DurationMs = DurationMs::from_secs(30);
/// What a request that meets no replica is worth, in cold starts, when keeping the last
/// replica is weighed against stopping it.
const COLD_REQUEST_PRICE: u64 = 10;
/// The last replica is kept so long at least, however soon it starts: people pause to think.
const KEPT_AT_LEAST: DurationMs = DurationMs::from_secs(30);

/// How many replicas there should be, and what to remember.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoscalePlan {
    /// Replicas that should be ready or starting.
    pub replicas: u32,
    /// For the next view.
    pub memory: Memory,
    /// Why.
    pub report: Report,
}

/// Why there should be as many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What decided the number.
    pub cause: Cause,
    /// Replicas that the way in use wanted, before the limits.
    pub wanted: u32,
    /// Contradictions in the view that were worked around.
    pub notes: Vec<String>,
}

/// What decided the number of replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// The way in use, on the load it expects.
    Load {
        /// The way, in words.
        way: String,
    },
    /// The fewest that the owner allows.
    Minimum,
    /// The most that the owner allows.
    Maximum,
    /// The load is not known for long enough to stop a replica that is there.
    Learning,
    /// No request came for so long that stopping costs less than keeping.
    Idle {
        /// How long none came.
        idle: DurationMs,
    },
    /// What was observed is too old, or from the future: nothing changes.
    Blind,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Load { way } => write!(f, "{} for the load expected ({way})", self.wanted)?,
            Cause::Minimum => write!(f, "the minimum; the load alone needs {}", self.wanted)?,
            Cause::Maximum => write!(f, "the maximum; the load needs {}", self.wanted)?,
            Cause::Learning => write!(
                f,
                "kept while the load is learnt; it seems to need {}",
                self.wanted
            )?,
            Cause::Idle { idle } => write!(f, "none: no request for {idle}")?,
            Cause::Blind => f.write_str("unchanged: nothing recent was observed")?,
        }
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        Ok(())
    }
}

/// How many replicas the endpoint should have from `now` on.
#[must_use]
pub fn plan(view: &AutoscaleView, now: Timestamp, rng: &PlanRng) -> AutoscalePlan {
    let mut notes = contradictions(view);
    let have = view.replicas.ready.saturating_add(view.replicas.starting);
    let (min, max) = limits(view);
    if let Some(note) = blindness(view, now) {
        notes.push(note);
        return AutoscalePlan {
            replicas: have.clamp(min, max),
            memory: view.memory.clone(),
            report: Report {
                cause: Cause::Blind,
                wanted: have,
                notes,
            },
        };
    }
    let seconds = &view.seconds[view.seconds.len().saturating_sub(PAST_S)..];
    let mut memory = view.memory.clone();
    if busy(view, seconds) {
        memory.last_busy = Some(now);
    }
    let mut scaler = scaler_in_use(view, seconds, now, rng, &mut memory);
    let wanted = ask(view, seconds, now, &mut scaler);
    let way = describe(&scaler);
    memory.scaler = Some(scaler);
    let (replicas, cause) = bound(view, seconds, now, &mut memory, wanted, way);
    AutoscalePlan {
        replicas,
        memory,
        report: Report {
            cause,
            wanted,
            notes,
        },
    }
}

fn limits(view: &AutoscaleView) -> (u32, u32) {
    (
        view.spec.min_replicas,
        view.spec.max_replicas.max(view.spec.min_replicas),
    )
}

fn contradictions(view: &AutoscaleView) -> Vec<String> {
    let mut notes = Vec::new();
    let spec = &view.spec;
    if spec.max_replicas < spec.min_replicas {
        notes.push(format!(
            "at most {} replicas contradicts at least {}: the latter is kept",
            spec.max_replicas, spec.min_replicas
        ));
    }
    if spec.slots_per_replica == 0 {
        notes.push("a replica that serves no request at once is taken to serve one".to_owned());
    }
    if spec.late_share_ppm == 0 {
        notes.push("no request may be late: no finite fleet can promise that".to_owned());
    }
    notes
}

fn blindness(view: &AutoscaleView, now: Timestamp) -> Option<String> {
    if view.observed_until > now {
        return Some(format!(
            "the observations end at {}, after now: a clock has jumped",
            view.observed_until
        ));
    }
    let age = now.since(view.observed_until);
    (age > STALE).then(|| format!("the observations ended {age} ago"))
}

fn busy(view: &AutoscaleView, seconds: &[Second]) -> bool {
    view.in_flight > 0 || seconds.last().is_some_and(|second| second.arrivals > 0)
}

fn fleet_spec(view: &AutoscaleView) -> FleetSpec {
    FleetSpec {
        slots: view.spec.slots_per_replica.max(1),
        // A cold start of more than an hour is no longer answered by scaling.
        cold_start_ms: view.spec.cold_start.as_millis().min(3_600_000),
        late_after_ms: view.spec.late_after.as_millis(),
        revive: view.spec.revive_draining,
    }
}

/// The way in use, compared with the others if it is time.
fn scaler_in_use(
    view: &AutoscaleView,
    seconds: &[Second],
    now: Timestamp,
    rng: &PlanRng,
    memory: &mut Memory,
) -> Scaler {
    let fleet = fleet_spec(view);
    let mut current = memory.scaler.clone().unwrap_or_else(|| {
        Scaler::Forecast(Forecast::new(ForecastSetting::first(fleet.cold_start_ms)))
    });
    if let Scaler::Forecast(forecast) = &mut current
        && seconds.len() < REVIEW_AFTER_S
        && is_restless(seconds)
    {
        forecast.setting.hold_s = HOLD_OF_THE_RESTLESS_S;
    }
    let due = memory
        .reviewed_at
        .is_none_or(|at| at > now || now.since(at) >= REVIEW_EVERY);
    let seconds = reviewable(seconds);
    if !due || seconds.len() < REVIEW_AFTER_S {
        return current;
    }
    memory.reviewed_at = Some(now);
    let (min, max) = limits(view);
    let past = Past {
        seconds,
        service: &view.service,
        fleet,
        min,
        max,
        target: f64::from(view.spec.late_share_ppm) / 1e6,
        late_share: late_share_left(view, seconds),
    };
    let mut stream = rng.stream(
        "autoscaling review",
        u128::from(now.as_millis().unsigned_abs()),
    );
    review(&past, &current, &mut stream).map_or(current, |(scaler, _)| scaler)
}

/// Whether the number of requests in the system moves more than chance explains.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn is_restless(seconds: &[Second]) -> bool {
    let loads = seconds.get(FILLING_S..).unwrap_or_default();
    if loads.len() < SEEN_S {
        return false;
    }
    let load = |second: &Second| second.in_flight_ms as f64 / 1_000.0;
    let count = loads.len() as f64;
    let mean = loads.iter().map(load).sum::<f64>() / count;
    let apart = loads.iter().map(|it| (load(it) - mean).powi(2));
    apart.sum::<f64>() / count > RESTLESS * mean.max(1.0)
}

/// The newest seconds with no more requests than a review replays; none, if there was no request.
fn reviewable(seconds: &[Second]) -> &[Second] {
    let mut left = REVIEWED_MAX;
    let newest = seconds.iter().rev().take_while(|second| {
        let fits = u64::from(second.arrivals) <= left;
        left = left.saturating_sub(u64::from(second.arrivals));
        fits
    });
    let count = newest.count();
    if left == REVIEWED_MAX {
        return &[];
    }
    &seconds[seconds.len() - count..]
}

/// The share of late requests to aim at: what the recent past has left of the target over as
/// long a future.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn late_share_left(view: &AutoscaleView, seconds: &[Second]) -> f64 {
    let target = f64::from(view.spec.late_share_ppm) / 1e6;
    let all: u64 = seconds
        .iter()
        .map(|second| u64::from(second.arrivals))
        .sum();
    let late: u64 = seconds.iter().map(|second| u64::from(second.late)).sum();
    let seen = late as f64 / all.max(1) as f64;
    (2.0 * target - seen).clamp(LATE_LEAST * target, LATE_MOST * target)
}

fn ask(view: &AutoscaleView, seconds: &[Second], now: Timestamp, scaler: &mut Scaler) -> u32 {
    let sums = |of: fn(&Second) -> u64| {
        let mut sum = 0_u64;
        std::iter::once(0)
            .chain(seconds.iter().map(|second| {
                sum = sum.saturating_add(of(second));
                sum
            }))
            .collect::<Vec<u64>>()
    };
    let fleet = fleet_spec(view);
    scaler.target(&Signals {
        now_s: now.as_millis().max(0).unsigned_abs() / 1_000,
        arrivals: &sums(|second| u64::from(second.arrivals)),
        in_system_ms: &sums(|second| second.in_flight_ms),
        ended: &sums(|second| u64::from(second.ended)),
        ended_ms: &sums(|second| second.ended_ms),
        late: &sums(|second| u64::from(second.late)),
        late_share: f64::from(view.spec.late_share_ppm) / 1e6,
        in_flight: view.in_flight,
        ready: view.replicas.ready,
        starting: view.replicas.starting,
        curve: &view.service.curve(),
        slots: fleet.slots,
        cold_start_s: DurationMs::from_millis(fleet.cold_start_ms).as_secs_f64(),
        late_after_s: view.spec.late_after.as_secs_f64(),
    })
}

fn bound(
    view: &AutoscaleView,
    seconds: &[Second],
    now: Timestamp,
    memory: &mut Memory,
    wanted: u32,
    way: String,
) -> (u32, Cause) {
    let (min, max) = limits(view);
    if min == 0 && max > 0 {
        let since = *memory.last_busy.get_or_insert(now);
        let idle = now.since(since);
        if idle >= keep_warm(view, seconds) {
            return (0, Cause::Idle { idle });
        }
    }
    // While requests come, or may soon, one replica at least.
    let wanted = wanted.max(1);
    let have = view.replicas.ready.saturating_add(view.replicas.starting);
    let since = *memory.first_seen.get_or_insert(now);
    if now.since(since) < LEARNING && wanted < have && (min..=max).contains(&have) {
        (have, Cause::Learning)
    } else if wanted > max {
        (max, Cause::Maximum)
    } else if wanted < min {
        (min, Cause::Minimum)
    } else {
        (wanted, Cause::Load { way })
    }
}

/// How long the last replica is kept without a request: the time that would have cost least over
/// the idle gaps seen, a cold start and the request that waits for it being paid for; without a
/// gap seen, the price of one (the ski rental rule, at most twice the least cost).
fn keep_warm(view: &AutoscaleView, seconds: &[Second]) -> DurationMs {
    if let Some(asked_for) = view.spec.idle_after {
        return asked_for;
    }
    let cold_s = view.spec.cold_start.as_millis().div_ceil(1_000).max(1);
    let restart = cold_s.saturating_mul(1 + COLD_REQUEST_PRICE);
    let mut gaps: Vec<u64> = seconds
        .split(|second| second.arrivals > 0)
        .map(|gap| gap.len() as u64)
        .filter(|gap| *gap > 0)
        .collect();
    // The last gap is not over: how long it will be is the question.
    gaps.pop();
    gaps.sort_unstable();
    let cost = |keep: u64| {
        let over = gaps.partition_point(|gap| *gap <= keep);
        let bridged: u64 = gaps[..over].iter().sum();
        let dearer = (gaps.len() - over) as u64;
        bridged.saturating_add(dearer.saturating_mul(keep.saturating_add(restart)))
    };
    // Fewer gaps than this say nothing about the next.
    let least = if gaps.len() < 8 {
        restart
    } else {
        gaps.iter()
            .copied()
            .chain([0])
            .min_by_key(|keep| (cost(*keep), *keep))
            .unwrap_or(restart)
            .min(restart)
    };
    DurationMs::from_secs(least).max(KEPT_AT_LEAST)
}

fn describe(scaler: &Scaler) -> String {
    match scaler {
        Scaler::Fixed { replicas } => format!("always {replicas}"),
        Scaler::Knative(it) => format!("observed concurrency, {} % a replica", it.target_pct),
        Scaler::Hpa(it) => format!("observed usage, {} % a replica", it.target_pct),
        Scaler::Forecast(it) => format!(
            "forecast by {}, {} replica-seconds for a late request, held {} s, at least {}",
            it.judgement().estimate,
            it.setting.price,
            it.setting.hold_s,
            it.setting.floor
        ),
    }
}

//! Which way to scale: the cheapest that would have kept the target on the recent past.
//!
//! Owns: the candidates, and the comparison by replay. Must not know: how a replica is
//! started, or what was served beyond counts.

use rand::Rng as _;

use super::fleet::FleetSpec;
use super::offered::Judgement;
use super::replay::{Request, Series, replay};
use super::scaler::{FIRST_PRICE, Forecast, ForecastSetting, Knative, Scaler};
use super::service::{ServiceCurve, ServiceTimes};
use super::view::Second;
use crate::Stream;

/// What may follow the load above a standing reserve: the price of a late request, and whether a replica that
/// was needed stays for long.
const WAYS: [(u32, bool); 6] = [
    (0, false),
    (FIRST_PRICE, false),
    (FIRST_PRICE, true),
    (4 * FIRST_PRICE, false),
    (4 * FIRST_PRICE, true),
    (64 * FIRST_PRICE, false),
];
/// For so long, in seconds.
const LONG_HOLD_S: u32 = 900;
/// A dearer way is left only for one that is this much cheaper, so that the choice does not
/// swing on noise.
const WORTH_CHANGING: f64 = 0.97;
/// Late requests come in clusters: what the past says of their number is uncertain by the root of the
/// squares of the clusters. So many seconds make one.
const CLUSTER_S: usize = 120;
/// Points at which the service times are tabulated: finer than their buckets.
const DRAWS: usize = 512;
/// The past is replayed as if one request more of so many had come: the next hour may be as much busier.
const ONE_MORE_OF: u64 = 20;
/// A replay decides nothing before its fleet has filled.
const SETTLE_S: u64 = 30;
/// The mean service time of a second is taken over so many seconds after it.
const LOCAL_S: usize = 45;

/// Replicas that a replay looks at, all its requests and seconds together: some tens of milliseconds.
const WORK_MAX: usize = 20_000_000;

/// The recent past as the choice needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past<'a> {
    pub seconds: &'a [Second],
    pub service: &'a ServiceTimes,
    pub fleet: FleetSpec,
    pub min: u32,
    pub max: u32,
    /// The share of requests that may be late.
    pub target: f64,
    /// The share to stay under, of what is left of the target.
    pub late_share: f64,
}

/// What one way would have cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Score {
    pub late_share: f64,
    /// By how much that share may be chance.
    pub uncertain: f64,
    pub replica_s: f64,
}

impl Score {
    fn beats(self, other: Self, late_share: f64) -> bool {
        let (keeps, other_keeps) = (
            self.late_share <= late_share,
            other.late_share <= late_share,
        );
        match (keeps, other_keeps) {
            (true, true) => self.replica_s < other.replica_s,
            (false, false) => {
                (self.late_share, self.replica_s) < (other.late_share, other.replica_s)
            }
            (keeps, _) => keeps,
        }
    }
}

/// The cheapest way that would have kept the target on the past: the forecast that all begin with where
/// that does, else one with a standing reserve, or the published way.
///
/// None where the fleet is too large to be replayed: of a load as large, chance is a small part.
pub(super) fn review(
    past: &Past<'_>,
    current: &Scaler,
    rng: &mut Stream,
) -> Option<(Scaler, Score)> {
    let judgement = match current {
        Scaler::Forecast(forecast) => forecast.judgement(),
        _ => Judgement::default(),
    };
    let replays = Replays::of(past, judgement, rng);
    if replays.is_too_large() {
        return None;
    }
    let first = ForecastSetting::first(past.fleet.cold_start_ms);
    // An hour holds few bad moments: what they seem to teach is mostly chance. So the forecast that all
    // begin with, which corrects itself by what was late, is left only where it surely fails, and
    // taken again only where it likely does not.
    let plain = Scaler::Forecast(Forecast::new(first).remembering(current));
    let found = replays.score(plain.clone());
    let in_use = matches!(current, Scaler::Forecast(it) if it.setting == first);
    let keeps = if in_use {
        found.late_share - found.uncertain <= past.target
    } else {
        found.late_share + found.uncertain <= past.target
    };
    if keeps {
        return Some((plain, found));
    }
    let mut chosen = plain;
    let mut bar = found;
    if let Scaler::Forecast(forecast) = current {
        bar = replays.score_forecast(forecast.setting);
        bar.replica_s *= WORTH_CHANGING;
        chosen = current.clone();
    }
    for (price, long) in WAYS {
        let hold_s = if long { LONG_HOLD_S } else { first.hold_s };
        let way = ForecastSetting {
            price,
            hold_s,
            ..first
        };
        if let Some((setting, found)) = replays.least_reserve(way, bar) {
            chosen = Scaler::Forecast(Forecast::new(setting).remembering(current));
            bar = found;
        }
    }
    let knative = Scaler::Knative(Knative::tuned(70, 60, 0));
    let found = replays.score_carefully(knative.clone());
    if found.beats(bar, past.late_share) {
        chosen = match current {
            Scaler::Knative(_) => current.clone(),
            _ => knative,
        };
        bar = found;
    }
    Some((chosen, bar))
}

/// The past made ready to be replayed many times.
struct Replays<'a> {
    past: &'a Past<'a>,
    curve: ServiceCurve,
    judgement: Judgement,
    requests: Vec<Request>,
    /// Replicas that the middle second needs, and the busiest.
    warm: u32,
    peak: u32,
}

impl<'a> Replays<'a> {
    /// Arrivals are spread evenly over their second; the service times have the shape of all
    /// that were seen and the mean of those that ended soon after.
    fn of(past: &'a Past<'a>, judgement: Judgement, rng: &mut Stream) -> Self {
        let curve = past.service.curve();
        #[expect(clippy::cast_precision_loss, reason = "below 512")]
        let services: Vec<u64> = (0..DRAWS)
            .map(|index| curve.quantile_ms((index as f64 + 0.5) / DRAWS as f64))
            .collect();
        let mut requests = Vec::new();
        let mut seen = 0;
        let means = local_means(past.seconds, curve.mean_s());
        for (second, (facts, mean_s)) in past.seconds.iter().zip(&means).enumerate() {
            let scale = mean_s / curve.mean_s();
            seen += u64::from(facts.arrivals);
            let count = u64::from(facts.arrivals) + seen / ONE_MORE_OF;
            seen %= ONE_MORE_OF;
            for index in 0..count {
                let drawn = services[rng.random_range(0..services.len())];
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "service times are below 2^35 ms"
                )]
                let service_ms = (drawn as f64 * scale).round() as u64;
                requests.push(Request {
                    at_ms: second as u64 * 1_000 + index * 1_000 / count,
                    service_ms: service_ms.max(1),
                });
            }
        }
        let loads = sorted_loads(&requests, past.seconds.len());
        let replicas = |at: usize| past.fleet.replicas_for(loads.get(at).copied().unwrap_or(0));
        // No more than an ordinary moment needs: what a long hold keeps must have been wanted first.
        let warm = replicas(loads.len() / 2);
        let peak = replicas(loads.len().saturating_sub(1));
        Self {
            past,
            curve,
            judgement,
            requests,
            warm,
            peak,
        }
    }

    /// The fewest replicas and the most: no more than can be replayed.
    fn limits(&self) -> (u32, u32) {
        let least = self.past.min.max(1);
        let most = WORK_MAX / (self.requests.len() + self.past.seconds.len()).max(1);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        (least, self.past.max.min(most).max(least))
    }

    /// Whether what the busiest second needs, or the owner, is more than can be replayed.
    fn is_too_large(&self) -> bool {
        let (least, most) = self.limits();
        let needed = self.peak.min(self.past.max).max(least);
        let each = self.requests.len() + self.past.seconds.len();
        needed > most || each.saturating_mul(needed as usize) > WORK_MAX
    }

    /// The smallest standing reserve with which `way` beats `bar`, by halving: more of it is dearer, and
    /// makes fewer requests late.
    fn least_reserve(&self, way: ForecastSetting, bar: Score) -> Option<(ForecastSetting, Score)> {
        let target = self.past.late_share;
        let (mut least, mut most) = (0, self.peak);
        let mut best = None;
        let mut bar = bar;
        while least <= most {
            let floor = least + (most - least) / 2;
            let setting = ForecastSetting { floor, ..way };
            let found = self.score_forecast(setting);
            if found.beats(bar, target) {
                bar = found;
                best = Some((setting, found));
            }
            if found.late_share <= target {
                let Some(fewer) = floor.checked_sub(1) else {
                    break;
                };
                most = fewer;
            } else {
                least = floor + 1;
            }
        }
        best
    }

    /// What a forecast would have cost.
    fn score_forecast(&self, setting: ForecastSetting) -> Score {
        self.score_carefully(Scaler::Forecast(Forecast::new(setting)))
    }

    /// What a way would have cost, as many requests more being late as may be chance: of several ways the
    /// cheapest is partly the luckiest.
    fn score_carefully(&self, scaler: Scaler) -> Score {
        let mut score = self.score(scaler);
        score.late_share += score.uncertain;
        score
    }

    fn score(&self, mut scaler: Scaler) -> Score {
        let fleet = self.past.fleet;
        let (least, most) = self.limits();
        if let Scaler::Forecast(forecast) = scaler {
            scaler = Scaler::Forecast(forecast.believing(self.judgement));
        }
        let warm = match &scaler {
            Scaler::Forecast(forecast) => self.warm.max(forecast.setting.floor),
            _ => self.warm,
        };
        let period = scaler.period_s();
        let requests = self.requests.iter().copied();
        let series = replay(
            fleet,
            warm.clamp(least, most),
            requests,
            self.past.seconds.len(),
            |fleet, series| {
                let now_s = series.seconds() as u64;
                (now_s >= SETTLE_S && now_s.is_multiple_of(period)).then(|| {
                    scaler
                        .target(&series.signals(fleet, &self.curve, self.past.target))
                        .clamp(least, most)
                })
            },
        );
        measure(&series, fleet)
    }
}

/// Requests in service if none waited, of every second, in order of size.
fn sorted_loads(requests: &[Request], seconds: usize) -> Vec<u64> {
    let mut change = vec![0_i64; seconds + 1];
    for request in requests {
        let at = |ms: u64| usize::try_from(ms / 1_000).unwrap_or(seconds).min(seconds);
        change[at(request.at_ms)] += 1;
        change[at(request.at_ms.saturating_add(request.service_ms))] -= 1;
    }
    let mut busy = 0_i64;
    let mut loads: Vec<u64> = change[..seconds]
        .iter()
        .map(|by| {
            busy += by;
            busy.max(0).unsigned_abs()
        })
        .collect();
    loads.sort_unstable();
    loads
}

/// The mean service time around each second, in seconds; where little ended, that of all.
fn local_means(seconds: &[Second], mean_s: f64) -> Vec<f64> {
    let (mut ended, mut spent_ms) = (0_u64, 0_u64);
    let mut sums = vec![(0, 0)];
    for second in seconds {
        ended += u64::from(second.ended);
        spent_ms = spent_ms.saturating_add(second.ended_ms);
        sums.push((ended, spent_ms));
    }
    (0..seconds.len())
        .map(|at| {
            let (from, to) = (sums[at], sums[(at + LOCAL_S).min(seconds.len())]);
            #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
            let (ended, spent_s) = ((to.0 - from.0) as f64, (to.1 - from.1) as f64 / 1_000.0);
            (spent_s + 5.0 * mean_s) / (ended + 5.0)
        })
        .collect()
}

/// Cost and lateness after the fleet that the replay began with has settled.
fn measure(series: &Series, fleet: FleetSpec) -> Score {
    let settled = usize::try_from(2 * fleet.cold_start_ms / 1_000)
        .unwrap_or(usize::MAX)
        .clamp(60, 300)
        .min(series.seconds() / 2);
    let over = |sums: &[u64]| sums[sums.len() - 1] - sums[settled];
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    let (late, all, paid) = (
        over(&series.late) as f64,
        over(&series.arrivals) as f64,
        over(&series.paid_ms) as f64,
    );
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    let squares: f64 = series.late[settled..]
        .iter()
        .step_by(CLUSTER_S)
        .zip(
            series.late[settled..]
                .iter()
                .skip(CLUSTER_S)
                .step_by(CLUSTER_S),
        )
        .map(|(from, to)| (to.saturating_sub(*from) as f64).powi(2))
        .sum();
    Score {
        late_share: late / all.max(1.0),
        uncertain: squares.sqrt() / all.max(1.0),
        replica_s: paid / 1_000.0,
    }
}

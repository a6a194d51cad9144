//! Which way to scale: the cheapest that would have kept the target on the recent past.
//!
//! Owns: the candidates, and the comparison by replay. Must not know: how a replica is
//! started, or what was served beyond counts.

use rand::Rng as _;

use super::fleet::FleetSpec;
use super::offered::Judgement;
use super::replay::{Request, Series, replay};
use super::scaler::{Forecast, ForecastSetting, Knative, Scaler};
use super::service::{ServiceCurve, ServiceTimes};
use super::view::Second;
use crate::Stream;

/// Deviations above the mean that are tried, in tenths.
const SAFETIES: [i32; 13] = [-20, -10, -5, 0, 5, 10, 13, 16, 20, 30, 40, 60, 90];
/// Of these, where every review looks without a standing reserve.
const PLAIN_SAFETIES: [i32; 4] = [20, 30, 40, 60];
/// And with one.
const RESERVE_SAFETIES: [i32; 3] = [-20, 10, 20];
/// Deviations more that must fit after a replica is stopped, in tenths.
const BANDS: [u32; 5] = [0, 5, 10, 15, 20];
/// Holds that are tried: multiples of the cold start in halves, because a replica that comes
/// back within one cold start was cheaper kept; then minutes.
const HOLD_HALVES: [u32; 6] = [0, 1, 2, 4, 8, 20];
const LONG_HOLDS: [u32; 2] = [300, 900];
/// A dearer way is left only for one that is this much cheaper, so that the choice does not
/// swing on noise.
const WORTH_CHANGING: f64 = 0.97;
/// Steps of the search from the best of the ways that every review looks at.
const ROUNDS: usize = 2;
/// Late requests come in clusters: what the past says of their number is uncertain by the root of the
/// squares of the clusters. So many seconds make one.
const CLUSTER_S: usize = 120;
/// Points at which the service times are tabulated: finer than their buckets.
const DRAWS: usize = 512;
/// Quantiles of the load, in thousandths, at which a floor is tried.
const ANCHORS: [usize; 7] = [500, 800, 900, 950, 980, 995, 1_000];
/// A replay decides nothing before its fleet has filled.
const SETTLE_S: u64 = 30;
/// The mean service time of a second is taken over so many seconds after it.
const LOCAL_S: usize = 45;

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

fn holds(cold_start_ms: u64) -> Vec<u32> {
    let cold_s = u32::try_from(cold_start_ms.div_ceil(1_000))
        .unwrap_or(3_600)
        .min(3_600);
    let mut holds: Vec<u32> = HOLD_HALVES
        .iter()
        .map(|halves| (cold_s * halves).div_ceil(2))
        .chain(LONG_HOLDS)
        .collect();
    holds.sort_unstable();
    holds.dedup();
    // A cold start of nothing still has three holds to choose from.
    holds.resize(holds.len().max(3), 900);
    holds
}

/// The best way found on the past: of some that every review looks at, the one in use, and what
/// lies near the best of them, with the published ones beside.
pub(super) fn review(past: &Past<'_>, current: &Scaler, rng: &mut Stream) -> (Scaler, Score) {
    let judgement = match current {
        Scaler::Forecast(forecast) => forecast.judgement(),
        _ => Judgement::default(),
    };
    let replays = Replays::of(past, judgement, rng);
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
        return (plain, found);
    }
    let mut here = match current {
        Scaler::Forecast(forecast) => forecast.setting,
        _ => first,
    };
    let mut tried = std::collections::BTreeMap::new();
    let mut rate = |setting: ForecastSetting| {
        *tried
            .entry(key(setting))
            .or_insert_with(|| replays.score_forecast(setting))
    };
    let mut bar = rate(here);
    bar.replica_s *= WORTH_CHANGING;
    for round in 0..=ROUNDS {
        let candidates = if round == 0 {
            replays.landmarks()
        } else {
            neighbours(past.fleet.cold_start_ms, here)
        };
        let mut best = None;
        for candidate in candidates {
            let found = rate(candidate);
            if found.beats(bar, past.late_share) {
                bar = found;
                best = Some(candidate);
            }
        }
        match best {
            Some(found) => here = found,
            None if round > 0 => break,
            None => {}
        }
    }
    let mut chosen = Scaler::Forecast(Forecast::new(here).remembering(current));
    let knative = Scaler::Knative(Knative::tuned(70, 60, 0));
    let found = replays.score(knative.clone());
    if found.beats(bar, past.late_share) {
        chosen = match current {
            Scaler::Knative(_) => current.clone(),
            _ => knative,
        };
        bar = found;
    }
    (chosen, bar)
}

fn key(setting: ForecastSetting) -> (i32, u32, u32, u32) {
    (
        setting.z_tenths,
        setting.band_tenths,
        setting.hold_s,
        setting.floor,
    )
}

/// Every setting one move away.
fn neighbours(cold_start_ms: u64, here: ForecastSetting) -> Vec<ForecastSetting> {
    let holds = holds(cold_start_ms);
    MOVES
        .iter()
        .filter_map(|[z, band, hold, floor]| {
            Some(ForecastSetting {
                z_tenths: step(&SAFETIES, here.z_tenths, *z)?,
                band_tenths: step(&BANDS, here.band_tenths, *band)?,
                hold_s: step(&holds, here.hold_s, *hold)?,
                floor: here.floor.checked_add_signed(*floor)?,
            })
        })
        .collect()
}

/// Steps on the grid (safety, band, hold, floor): each alone, and trades of safety.
const MOVES: [[i32; 4]; 16] = [
    [-1, 0, 0, 0],
    [1, 0, 0, 0],
    [2, 0, 0, 0],
    [0, -1, 0, 0],
    [0, 1, 0, 0],
    [0, 0, -1, 0],
    [0, 0, 1, 0],
    [0, 0, 2, 0],
    [-1, 1, 0, 0],
    [1, -1, 0, 0],
    [-1, 0, 1, 0],
    [1, 0, -1, 0],
    [0, 0, 0, -1],
    [0, 0, 0, 1],
    [-2, 0, 0, 1],
    [2, 0, 0, -1],
];

/// The value `by` places from where `value` belongs on `grid`; as it is, for no step.
fn step<T: PartialOrd + Copy>(grid: &[T], value: T, by: i32) -> Option<T> {
    if by == 0 {
        return Some(value);
    }
    let at = grid
        .iter()
        .position(|at| *at >= value)
        .unwrap_or(grid.len() - 1);
    let to = at.checked_add_signed(isize::try_from(by).ok()?)?;
    grid.get(to).copied()
}

/// The past made ready to be replayed many times.
struct Replays<'a> {
    past: &'a Past<'a>,
    curve: ServiceCurve,
    judgement: Judgement,
    requests: Vec<Request>,
    /// Requests in service if none waited, at each quantile of `ANCHORS`.
    load: [u64; ANCHORS.len()],
    warm: u32,
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
        let means = local_means(past.seconds, curve.mean_s());
        for (second, (facts, mean_s)) in past.seconds.iter().zip(&means).enumerate() {
            let scale = mean_s / curve.mean_s();
            for index in 0..u64::from(facts.arrivals) {
                let drawn = services[rng.random_range(0..services.len())];
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "service times are below 2^35 ms"
                )]
                let service_ms = (drawn as f64 * scale).round() as u64;
                requests.push(Request {
                    at_ms: second as u64 * 1_000 + index * 1_000 / u64::from(facts.arrivals),
                    service_ms: service_ms.max(1),
                });
            }
        }
        let load = load_quantiles(&requests, past.seconds.len());
        // No more than an ordinary moment needs: what a long hold keeps must have been wanted first.
        let warm = past.fleet.replicas_for(load[0]);
        Self {
            past,
            curve,
            judgement,
            requests,
            load,
            warm,
        }
    }

    /// Ways that every review looks at: forecasts alone, and standing reserves at quantiles of the
    /// load with forecasts that add to them, for a short while or a long one.
    fn landmarks(&self) -> Vec<ForecastSetting> {
        let first = ForecastSetting::first(self.past.fleet.cold_start_ms);
        let mut found = Vec::new();
        for z_tenths in PLAIN_SAFETIES {
            found.push(ForecastSetting { z_tenths, ..first });
        }
        for load in &self.load {
            let seen = self.past.fleet.replicas_for(*load);
            for floor in [seen, seen.saturating_add(margin(seen, self.past.fleet))] {
                for z_tenths in RESERVE_SAFETIES {
                    for hold_s in [first.hold_s, LONG_HOLDS[1]] {
                        found.push(ForecastSetting {
                            z_tenths,
                            hold_s,
                            floor,
                            ..first
                        });
                    }
                }
            }
        }
        found
    }

    /// What a forecast would have cost. A standing reserve must have kept the target with one
    /// deviation of its load less: the next peak is not the highest that was seen.
    fn score_forecast(&self, setting: ForecastSetting) -> Score {
        let spare = margin(setting.floor, self.past.fleet);
        let floor = setting.floor - spare;
        let mut score = self.score(Scaler::Forecast(Forecast::new(ForecastSetting {
            floor,
            ..setting
        })));
        #[expect(clippy::cast_precision_loss, reason = "an hour of seconds")]
        let seconds = self.past.seconds.len() as f64;
        score.replica_s += f64::from(spare) * seconds;
        score
    }

    fn score(&self, mut scaler: Scaler) -> Score {
        let (fleet, least) = (self.past.fleet, self.past.min.max(1));
        if let Scaler::Forecast(forecast) = scaler {
            scaler = Scaler::Forecast(forecast.believing(self.judgement));
        }
        let most = self.past.max.max(least);
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

/// Requests in service if none waited, second by second, at each quantile of `ANCHORS`.
fn load_quantiles(requests: &[Request], seconds: usize) -> [u64; ANCHORS.len()] {
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
    ANCHORS.map(|per_mille| {
        let index = loads.len() * per_mille / 1_000;
        loads
            .get(index.min(loads.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0)
    })
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

/// Replicas that a standing reserve has beyond what its load needs: one deviation of that load,
/// were it Poisson, rounded.
fn margin(floor: u32, fleet: FleetSpec) -> u32 {
    let slots = f64::from(fleet.slots.max(1));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most the root of a u32"
    )]
    let spare = ((slots * f64::from(floor)).sqrt() / slots).round() as u32;
    spare.min(floor)
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

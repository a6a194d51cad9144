//! One way to set the number of replicas: the published algorithms, and a forecast.
//!
//! Owns: how many replicas one way wants now, and what it remembers. Must not know: which
//! way is used, or how replicas come and go.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::offered::{Judgement, count, judge, offered, size};
use super::service::ServiceCurve;
use super::staffing::{Staffing, ceil};

/// What every way may look at. Series hold one sum a second since the history began, so the
/// mean over any window costs two reads; index `i` is the sum over the first `i` seconds.
#[derive(Debug, Clone, Copy)]
pub struct Signals<'a> {
    /// The second that has just ended, on a scale that only grows.
    pub now_s: u64,
    /// Requests arrived.
    pub arrivals: &'a [u64],
    /// Request-milliseconds spent in the system.
    pub in_system_ms: &'a [u64],
    /// Requests ended.
    pub ended: &'a [u64],
    /// Milliseconds in service of the requests ended.
    pub ended_ms: &'a [u64],
    /// Requests known to be late.
    pub late: &'a [u64],
    /// The share of requests that may be late.
    pub late_share: f64,
    /// Requests in the system now.
    pub in_flight: u64,
    /// Replicas ready now.
    pub ready: u32,
    /// Replicas starting now.
    pub starting: u32,
    /// How long requests take.
    pub curve: &'a ServiceCurve,
    /// Requests that a replica serves at once.
    pub slots: u32,
    /// Seconds from an order to a ready replica.
    pub cold_start_s: f64,
    /// A request that waits longer is late, in seconds.
    pub late_after_s: f64,
}

impl Signals<'_> {
    /// Mean requests in the system over the last `window` seconds.
    #[must_use]
    pub fn concurrency(&self, window: usize) -> f64 {
        window_mean(self.in_system_ms, window).map_or(count(self.in_flight), |mean| mean / 1_000.0)
    }

    /// Mean arrivals a second over the last `window` seconds.
    #[must_use]
    pub fn rate(&self, window: usize) -> f64 {
        window_mean(self.arrivals, window).unwrap_or(0.0)
    }
}

impl Signals<'_> {
    /// Mean seconds in service of what ended in the last two minutes; the curve counts for ten
    /// requests, so that a few do not decide.
    #[must_use]
    pub fn service_s(&self) -> f64 {
        let over = |sums: &[u64]| {
            let last = sums.len().saturating_sub(1);
            let from = last.saturating_sub(SERVICE_WINDOW_S);
            sums.get(last)
                .zip(sums.get(from))
                .map_or(0, |(now, then)| now.saturating_sub(*then))
        };
        let ended = count(over(self.ended));
        let spent_s = count(over(self.ended_ms)) / 1_000.0;
        ((spent_s + 10.0 * self.curve.mean_s()) / (ended + 10.0)).max(1e-3)
    }

    /// The logarithm of what the price is multiplied by: up for what was overspent of an hour's target, down
    /// for what is left.
    fn correction(&self) -> f64 {
        let seconds = self.arrivals.len().saturating_sub(1).min(BUDGET_WINDOW_S);
        let over = |sums: &[u64]| window_mean(sums, BUDGET_WINDOW_S).unwrap_or(0.0) * size(seconds);
        let (arrived, late) = (over(self.arrivals), over(self.late));
        let budget = self.late_share * arrived * size(BUDGET_WINDOW_S) / size(seconds.max(1));
        if budget <= 0.0 {
            return 0.0;
        }
        let overspent = late - BUDGET_AIM * self.late_share * arrived;
        (BUDGET_DEVIATIONS * overspent / budget).clamp(-CORRECTION_MAX, CORRECTION_MAX)
    }

    /// Requests that wait now.
    fn queued(&self) -> u64 {
        let room = u64::from(self.ready) * u64::from(self.slots);
        self.in_flight.saturating_sub(room)
    }
}

/// Over so long the mean service time is taken: it drifts within minutes, and hundreds of requests
/// settle it.
const SERVICE_WINDOW_S: usize = 300;
/// The estimates of the load are judged this often.
const JUDGE_EVERY_S: u64 = 60;
/// What one late request less is worth to the forecast that all begin with, in replica-seconds.
pub(super) const FIRST_PRICE: u32 = 20;
/// And as much again for each so many seconds of a cold start: for so long a shortage lasts.
const DEARER_BY_S: f64 = 240.0;
/// A replica that is there is kept as long as it would pay at so many times the price.
const KEEP: f64 = 2.0;
/// Over so long the late requests are counted against the target.
const BUDGET_WINDOW_S: usize = 3_600;
/// Of the target so much is aimed at.
const BUDGET_AIM: f64 = 0.6;
/// The logarithm by which a whole hour's target, unspent or overspent, lowers or raises the price.
const BUDGET_DEVIATIONS: f64 = 0.9;
/// And by at most so much: what is missed is not always the forecast's to mend.
const CORRECTION_MAX: f64 = 1.0;
/// Windows in which a burst is looked for.
const BURST_WINDOWS_S: [usize; 4] = [2, 5, 10, 20];
/// A short window counts as a burst as far as it is this many deviations above what was expected.
const BURST_DEVIATIONS: f64 = 2.5;

fn window_mean(sums: &[u64], window: usize) -> Option<f64> {
    let last = sums.len().checked_sub(1)?;
    let window = window.min(last);
    let sum = sums[last].saturating_sub(sums[last - window]);
    (window > 0).then(|| count(sum) / size(window))
}

/// One way to set the number of replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Scaler {
    /// Always as many.
    Fixed {
        /// How many.
        replicas: u32,
    },
    /// Knative's pod autoscaler.
    Knative(Knative),
    /// Kubernetes' horizontal pod autoscaler.
    Hpa(Hpa),
    /// A forecast of the load when a replica ordered now is ready.
    Forecast(Forecast),
}

impl Scaler {
    /// Seconds between two decisions.
    #[must_use]
    pub fn period_s(&self) -> u64 {
        match self {
            Self::Fixed { .. } | Self::Knative(_) => 2,
            Self::Hpa(_) => 15,
            Self::Forecast(_) => 1,
        }
    }

    /// How many replicas should be ready or starting from now on.
    pub fn target(&mut self, signals: &Signals<'_>) -> u32 {
        match self {
            Self::Fixed { replicas } => *replicas,
            Self::Knative(knative) => knative.target(signals),
            Self::Hpa(hpa) => hpa.target(signals),
            Self::Forecast(forecast) => forecast.target(signals),
        }
    }
}

/// Knative's pod autoscaler: a stable and a panic window over the observed concurrency
/// (`knative.dev/serving`, `pkg/autoscaler/scaling/autoscaler.go`, its defaults).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knative {
    /// Share of a replica's slots to fill, in percent; 70 by default.
    pub target_pct: u32,
    /// Seconds of the stable window; 60 by default. The panic window is a tenth.
    pub stable_s: u32,
    /// Seconds a lower number must have been wanted before it is taken; 0 by default.
    pub down_delay_s: u32,
    /// Second at which the last panic was seen, and the most it wanted.
    panic: Option<(u64, u32)>,
    recent: Recent,
}

impl Knative {
    /// With a target, a stable window and a delay before scaling down.
    #[must_use]
    pub fn tuned(target_pct: u32, stable_s: u32, down_delay_s: u32) -> Self {
        Self {
            target_pct: target_pct.max(1),
            stable_s: stable_s.max(10),
            down_delay_s,
            panic: None,
            recent: Recent::default(),
        }
    }

    fn target(&mut self, signals: &Signals<'_>) -> u32 {
        let now = signals.now_s;
        let per_replica = f64::from(signals.slots) * f64::from(self.target_pct) / 100.0;
        let ready = f64::from(signals.ready.max(1));
        let most = ceil(ready * 1_000.0);
        let least = (ready / 2.0).floor();
        let stable = ceil(signals.concurrency(self.stable_s as usize) / per_replica);
        let panic = ceil(signals.concurrency(self.stable_s as usize / 10) / per_replica);
        let floor = ceil(least).max(1);
        let mut wanted = stable.clamp(floor, most);
        let panics = f64::from(panic) / ready >= 2.0;
        self.panic = match self.panic {
            Some((since, peak))
                if now < since.saturating_add(u64::from(self.stable_s)) || panics =>
            {
                let peak = peak.max(panic.min(most));
                Some((if panics { now } else { since }, peak))
            }
            _ if panics => Some((now, panic.max(signals.ready))),
            _ => None,
        };
        if let Some((_, peak)) = self.panic {
            wanted = wanted.max(peak);
        }
        self.recent.most(now, wanted, self.down_delay_s)
    }
}

/// Kubernetes' horizontal pod autoscaler on the concurrency of a replica: 15 s sync, 10 %
/// tolerance, 300 s of stabilisation downwards, at most doubling or four more upwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hpa {
    /// Share of a replica's slots to fill, in percent; 80 by default.
    pub target_pct: u32,
    /// Seconds of stabilisation downwards; 300 by default.
    pub stabilise_s: u32,
    recent: Recent,
}

impl Hpa {
    /// With a target and a stabilisation window.
    #[must_use]
    pub fn tuned(target_pct: u32, stabilise_s: u32) -> Self {
        Self {
            target_pct: target_pct.max(1),
            stabilise_s,
            recent: Recent::default(),
        }
    }

    fn target(&mut self, signals: &Signals<'_>) -> u32 {
        let have = signals.ready.saturating_add(signals.starting);
        let per_replica = f64::from(signals.slots) * f64::from(self.target_pct) / 100.0;
        let load = signals.concurrency(15);
        let usage = load / (per_replica * f64::from(signals.ready.max(1)));
        let wanted = if (usage - 1.0).abs() <= 0.1 {
            have
        } else {
            ceil(load / per_replica)
        };
        let wanted = wanted
            .min(have.saturating_mul(2).max(have.saturating_add(4)))
            .max(1);
        self.recent.most(signals.now_s, wanted, self.stabilise_s)
    }
}

/// The load when a replica ordered now is ready, as many replicas as pay for it, a floor and a hold downwards.
///
/// What is in service now and still is so after the cold start is binomial with the residual
/// life of the service time; what arrives until then is Poisson: the transient M/G/∞ queue
/// (Eick, Massey, Whitt 1993). A replica is ordered
/// if the late requests that it is expected to save are worth more than it costs. A short window so full that
/// chance does not explain it raises the rate at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// What is tuned.
    #[serde(flatten)]
    pub setting: ForecastSetting,
    recent: Recent,
    #[serde(default)]
    judgement: Judgement,
}

/// The setting of a forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ForecastSetting {
    /// Replica-seconds that one request less that is late is worth.
    pub price: u32,
    /// Seconds a lower number must have been wanted before it is taken.
    pub hold_s: u32,
    /// The fewest replicas: a standing reserve for bursts that no forecast sees.
    pub floor: u32,
}

impl ForecastSetting {
    /// The setting that all begin with: a hold of a quarter of a cold start.
    #[must_use]
    pub fn first(cold_start_ms: u64) -> Self {
        let cold_s = u32::try_from(cold_start_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
        Self {
            price: FIRST_PRICE,
            hold_s: cold_s.min(3_600).div_ceil(4),
            floor: 0,
        }
    }
}

impl Forecast {
    /// With a setting.
    #[must_use]
    pub fn new(setting: ForecastSetting) -> Self {
        Self {
            setting,
            recent: Recent::default(),
            judgement: Judgement::default(),
        }
    }

    /// Believes `judgement`, and does not judge again.
    #[must_use]
    pub fn believing(mut self, judgement: Judgement) -> Self {
        self.judgement = Judgement {
            at_s: Judgement::FOR_GOOD,
            ..judgement
        };
        self
    }

    /// What it believes.
    #[must_use]
    pub fn judgement(&self) -> Judgement {
        self.judgement
    }

    /// Takes over what `other` remembers, so that a change of setting does not forget a hold.
    #[must_use]
    pub fn remembering(mut self, other: &Scaler) -> Self {
        if let Scaler::Forecast(other) = other {
            self.recent = other.recent.clone();
            self.judgement = other.judgement;
        }
        self
    }

    fn target(&mut self, signals: &Signals<'_>) -> u32 {
        let since = self.judgement.at_s;
        let fresh = since..since.saturating_add(JUDGE_EVERY_S);
        // A clock that jumped back is judged at once, too.
        if since != Judgement::FOR_GOOD && !fresh.contains(&signals.now_s) {
            self.judgement = judge(signals);
        }
        let (mean, deviation) = self.load(signals);
        // What a standing reserve missed, no higher price would have met: its size is reviewed.
        let correction = match self.setting.floor {
            0 => signals.correction(),
            _ => 0.0,
        };
        let price = f64::from(self.setting.price)
            * correction.exp()
            * (1.0 + signals.cold_start_s / DEARER_BY_S);
        let load = Staffing::of(signals, mean, deviation);
        let up = load.replicas(price);
        let down = load.replicas(price * KEEP).max(up);
        let have = signals.ready.saturating_add(signals.starting);
        // The reserve is remembered too: another setting with a hold does not drop it at once.
        let wanted = have.clamp(up, down).max(self.setting.floor);
        self.recent.most(signals.now_s, wanted, self.setting.hold_s)
    }

    /// The load one cold start on: its mean, and its deviation.
    fn load(&self, signals: &Signals<'_>) -> (f64, f64) {
        let service_s = signals.service_s();
        let scale = service_s / signals.curve.mean_s();
        let stays = signals.curve.residual(signals.cold_start_s / scale);
        let queued = count(signals.queued());
        let served = count(signals.in_flight) - queued;
        // What waits is served off within a cold start: a longer start must not order a fleet for
        // a queue that a small one clears.
        let backlog = queued * service_s / service_s.max(signals.cold_start_s);
        let calm = offered(signals, self.judgement.estimate) / service_s;
        let mean = backlog + served * stays + rate(signals, calm) * service_s * (1.0 - stays);
        let spread = f64::from(self.judgement.spread_thousandths) / 1_000.0;
        (mean, spread * mean.max(0.25).sqrt())
    }
}

/// Requests a second: `calm`, or more if a short window is so full that chance does not explain it.
fn rate(signals: &Signals<'_>, calm: f64) -> f64 {
    BURST_WINDOWS_S
        .iter()
        .map(|window| {
            let expected = calm * size(*window);
            let seen = signals.rate(*window) * size(*window);
            (seen - BURST_DEVIATIONS * seen.max(expected).sqrt()) / size(*window)
        })
        .fold(calm, f64::max)
}

/// What was wanted lately, kept as a falling staircase: the most over a window is its head.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Recent(VecDeque<(u64, u32)>);

impl Recent {
    /// Notes `wanted` at `now` and answers with the most wanted in the last `window` seconds.
    fn most(&mut self, now: u64, wanted: u32, window: u32) -> u32 {
        while self
            .0
            .back()
            .is_some_and(|(at, value)| *value <= wanted || *at >= now)
        {
            self.0.pop_back();
        }
        self.0.push_back((now, wanted));
        while self
            .0
            .front()
            .is_some_and(|(at, _)| at.saturating_add(u64::from(window)) < now)
        {
            self.0.pop_front();
        }
        self.0.front().map_or(wanted, |(_, value)| *value)
    }
}

//! Replays requests against a fleet that a policy scales.
//!
//! Owns: the policies by name, the figures and the bounds beside them. Must not know: files,
//! or how figures are printed.

mod known;
mod trace;

use lepton_types::{DurationMs, Timestamp};
use serde::{Deserialize, Serialize};

pub use trace::{Shape, read_requests, synthetic};

use crate::PlanRng;
use crate::autoscaling::{
    AutoscaleView, Fleet, FleetSpec, Forecast, ForecastSetting, Hpa, Knative, Memory, Request,
    Scaler, ScalingSpec, Second, Series, ServiceTimes, check, clairvoyant_ms, instant_ms, plan,
    replay, work_ms,
};

/// A request may wait so long before it is late.
const LATE_AFTER_MS: u64 = 1_000;
/// The share of late requests that tuned policies and ours must keep.
const LATE_SHARE: f64 = 0.01;

/// A way to scale, by the name it has on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Ours: the forecast or the published way that was cheapest on the recent past.
    Lepton,
    /// Ours, with the forecast as it begins, never changed.
    Forecast,
    /// Knative's autoscaler with its defaults.
    Knative,
    /// Knative's, with the best of 96 settings for this very trace, known afterwards.
    KnativeTuned,
    /// Kubernetes' horizontal autoscaler with its defaults.
    Hpa,
    /// The horizontal autoscaler with the best of 30 settings for this very trace, known afterwards.
    HpaTuned,
    /// The smallest fleet that keeps the target on this very trace, known afterwards.
    Fixed,
    /// A fleet that is told the mean rate of the minutes to come, with the best safety for this very
    /// trace: what no policy can know.
    KnownRate,
}

impl Policy {
    /// Every policy and its name.
    pub const ALL: [(&'static str, Self); 8] = [
        ("lepton", Self::Lepton),
        ("forecast", Self::Forecast),
        ("knative", Self::Knative),
        ("knative-tuned", Self::KnativeTuned),
        ("hpa", Self::Hpa),
        ("hpa-tuned", Self::HpaTuned),
        ("fixed", Self::Fixed),
        ("known-rate", Self::KnownRate),
    ];
}

/// What is replayed.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// In order of arrival.
    pub requests: Vec<Request>,
    /// Time from the order of a replica to its first request.
    pub cold_start: DurationMs,
    /// Requests that a replica serves at once.
    pub slots: u32,
    /// Replicas ready at the start; by default what the first five minutes need, and one.
    pub warm: Option<u32>,
    /// Cost and lateness count from here on; what comes before is replayed, and learnt from.
    pub measure_from: DurationMs,
    /// For ours.
    pub seed: u64,
}

/// What a policy came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Replica-seconds paid.
    pub replica_seconds: f64,
    /// Requests that waited over a second, in percent.
    pub late_pct: f64,
    /// Replica-seconds of a fleet that follows the requests in service at once and for nothing.
    pub clairvoyant_replica_seconds: f64,
    /// Replica-seconds of a fleet that knows the future, lets nobody wait and pays for its cold starts.
    pub clairvoyant_with_starts_replica_seconds: f64,
    /// Replica-seconds of the work alone.
    pub work_replica_seconds: f64,
    /// Paid, to clairvoyant.
    pub ratio: f64,
    /// Requests replayed.
    pub requests: u64,
    /// Replicas ready at the start.
    pub warm: u32,
    /// The setting of a tuned policy, or how ours ended.
    pub setting: String,
}

impl Scenario {
    fn fleet(&self, revive: bool) -> FleetSpec {
        FleetSpec {
            slots: self.slots.max(1),
            cold_start_ms: self.cold_start.as_millis(),
            late_after_ms: LATE_AFTER_MS,
            revive,
        }
    }

    fn seconds(&self) -> usize {
        let last = self.requests.last().map_or(0, |request| request.at_ms);
        usize::try_from(last / 1_000 + 1).unwrap_or(usize::MAX)
    }

    /// The second from which cost and lateness count.
    fn first_measured(&self, end: usize) -> usize {
        let from = usize::try_from(self.measure_from.as_millis() / 1_000);
        from.unwrap_or(usize::MAX).min(end)
    }

    /// Replicas ready at the start.
    #[must_use]
    pub fn warm(&self) -> u32 {
        self.warm.unwrap_or_else(|| {
            let first_ms = 300_000.min(self.seconds() as u64 * 1_000);
            let busy: u64 = self
                .requests
                .iter()
                .take_while(|request| request.at_ms < first_ms)
                .map(|request| request.service_ms)
                .sum();
            let replicas = busy.div_ceil(first_ms * u64::from(self.slots.max(1)));
            u32::try_from(replicas).unwrap_or(u32::MAX - 1) + 1
        })
    }
}

/// Replays `scenario` under `policy`; `progress` is told of the seconds that are done.
pub fn simulate(
    scenario: &Scenario,
    policy: Policy,
    progress: &mut dyn FnMut(u64, u64),
) -> Figures {
    match policy {
        Policy::Lepton => {
            let (series, setting) = lepton(scenario, progress);
            figures(scenario, &series, setting)
        }
        Policy::Forecast => {
            let first = ForecastSetting::first(scenario.cold_start.as_millis());
            tuned(
                scenario,
                vec![Scaler::Forecast(Forecast::new(first))],
                progress,
            )
        }
        Policy::Knative => tuned(
            scenario,
            vec![Scaler::Knative(Knative::tuned(70, 60, 0))],
            progress,
        ),
        Policy::KnativeTuned => tuned(scenario, knative_grid(), progress),
        Policy::Hpa => tuned(scenario, vec![Scaler::Hpa(Hpa::tuned(80, 300))], progress),
        Policy::HpaTuned => tuned(scenario, hpa_grid(), progress),
        Policy::Fixed => tuned(scenario, fixed_grid(scenario), progress),
        Policy::KnownRate => {
            let (series, setting) = known::known_rate(scenario, progress);
            figures(scenario, &series, setting)
        }
    }
}

fn knative_grid() -> Vec<Scaler> {
    let mut grid = Vec::new();
    for target in [40, 50, 60, 70, 80, 90, 100, 110] {
        for stable in [20, 60, 180] {
            for delay in [0, 30, 120, 600] {
                grid.push(Scaler::Knative(Knative::tuned(target, stable, delay)));
            }
        }
    }
    grid
}

fn hpa_grid() -> Vec<Scaler> {
    let mut grid = Vec::new();
    for target in [30, 40, 50, 60, 65, 70, 75, 80, 90, 100] {
        for stabilise in [0, 60, 300] {
            grid.push(Scaler::Hpa(Hpa::tuned(target, stabilise)));
        }
    }
    grid
}

fn fixed_grid(scenario: &Scenario) -> Vec<Scaler> {
    // The busiest moment bounds the fleet that is ever useful.
    let mut changes: Vec<(u64, i64)> = scenario
        .requests
        .iter()
        .flat_map(|request| [(request.at_ms, 1), (request.at_ms + request.service_ms, -1)])
        .collect();
    changes.sort_unstable();
    let mut busy = 0_i64;
    let peak = changes
        .iter()
        .map(|(_, by)| {
            busy += by;
            busy
        })
        .max()
        .unwrap_or(1);
    let most = u32::try_from(peak)
        .unwrap_or(u32::MAX)
        .div_ceil(scenario.slots.max(1))
        .max(1);
    (1..=most)
        .map(|replicas| Scaler::Fixed { replicas })
        .collect()
}

/// The best of `grid` on the scenario: the cheapest that keeps the target, else the least late.
fn tuned(scenario: &Scenario, grid: Vec<Scaler>, progress: &mut dyn FnMut(u64, u64)) -> Figures {
    let all = grid.len() as u64;
    let mut best: Option<Figures> = None;
    for (index, scaler) in grid.into_iter().enumerate() {
        let setting = setting(&scaler);
        let found = figures(scenario, &published(scenario, scaler), setting);
        let better = best.as_ref().is_none_or(|best| {
            let (keeps, best_keeps) = (
                found.late_pct <= LATE_SHARE * 100.0,
                best.late_pct <= LATE_SHARE * 100.0,
            );
            match (keeps, best_keeps) {
                (true, true) => found.replica_seconds < best.replica_seconds,
                (false, false) => found.late_pct < best.late_pct,
                (keeps, _) => keeps,
            }
        });
        if better {
            best = Some(found);
        }
        progress(index as u64 + 1, all);
    }
    best.expect("invariant: every grid has at least one setting")
}

/// Replays one way to scale, with one setting.
#[must_use]
pub fn run_scaler(scenario: &Scenario, scaler: Scaler) -> Figures {
    let setting = setting(&scaler);
    figures(scenario, &published(scenario, scaler), setting)
}

fn setting(scaler: &Scaler) -> String {
    match scaler {
        Scaler::Fixed { replicas } => format!("{replicas} replicas"),
        Scaler::Knative(it) => format!(
            "{} %, {} s, delay {} s",
            it.target_pct, it.stable_s, it.down_delay_s
        ),
        Scaler::Hpa(it) => format!("{} %, {} s", it.target_pct, it.stabilise_s),
        Scaler::Forecast(it) => format!(
            "price {}, hold {} s, floor {}",
            it.setting.price, it.setting.hold_s, it.setting.floor
        ),
    }
}

/// A published way, which cannot revive a replica that is ending.
fn published(scenario: &Scenario, mut scaler: Scaler) -> Series {
    let mut times = ServiceTimes::default();
    let period = scaler.period_s();
    // A fixed fleet is there from the start.
    let warm = match scaler {
        Scaler::Fixed { replicas } => replicas,
        _ => scenario.warm(),
    };
    let ours = matches!(scaler, Scaler::Forecast(_));
    let first = if ours { 90 } else { period };
    let spec = scenario.fleet(ours);
    replay(
        spec,
        warm,
        scenario.requests.iter().copied(),
        scenario.seconds(),
        |fleet, series| {
            note_ended(fleet, &mut times);
            let now_s = series.seconds() as u64;
            (now_s >= first && now_s.is_multiple_of(period)).then(|| {
                scaler
                    .target(&series.signals(fleet, &times.curve(), LATE_SHARE))
                    .max(1)
            })
        },
    )
}

fn note_ended(fleet: &mut Fleet, times: &mut ServiceTimes) {
    for service_ms in fleet.take_ended() {
        times.record(service_ms);
    }
}

/// Ours, through the function that the reconciler calls, every plan checked.
fn lepton(scenario: &Scenario, progress: &mut dyn FnMut(u64, u64)) -> (Series, String) {
    let rng = PlanRng::from_seed(scenario.seed);
    let fleet = scenario.fleet(true);
    let seconds = scenario.seconds();
    let mut view = AutoscaleView {
        spec: ScalingSpec {
            slots_per_replica: fleet.slots,
            cold_start: scenario.cold_start,
            min_replicas: 1,
            max_replicas: 10_000,
            late_after: DurationMs::from_millis(LATE_AFTER_MS),
            late_share_ppm: 10_000,
            revive_draining: true,
            idle_after: None,
        },
        observed_until: Timestamp::from_millis(0),
        seconds: Vec::new(),
        service: ServiceTimes::default(),
        in_flight: 0,
        replicas: Fleet::warm(fleet, scenario.warm()).counts(),
        memory: Memory::default(),
    };
    let series = replay(
        fleet,
        scenario.warm(),
        scenario.requests.iter().copied(),
        seconds,
        |fleet, series| {
            note_ended(fleet, &mut view.service);
            observe(&mut view, fleet, series);
            let now = view.observed_until;
            let plan = plan(&view, now, &rng);
            debug_assert_eq!(check(&view, &plan, now), Vec::new());
            view.memory = plan.memory;
            progress(series.seconds() as u64, seconds as u64);
            (series.seconds() > 0).then_some(plan.replicas)
        },
    );
    let setting = view.memory.scaler.as_ref().map(setting).unwrap_or_default();
    (series, setting)
}

fn observe(view: &mut AutoscaleView, fleet: &Fleet, series: &Series) {
    let done = series.seconds();
    if done > 0 {
        let over = |sums: &[u64]| sums[done] - sums[done - 1];
        view.seconds.push(Second {
            arrivals: u32::try_from(over(&series.arrivals)).unwrap_or(u32::MAX),
            in_flight_ms: over(&series.in_system_ms),
            ended: u32::try_from(over(&series.ended)).unwrap_or(u32::MAX),
            ended_ms: over(&series.ended_ms),
            late: u32::try_from(series.late[done].saturating_sub(series.late[done - 1]))
                .unwrap_or(u32::MAX),
        });
    }
    view.observed_until = Timestamp::from_millis(
        i64::try_from(done)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000),
    );
    view.in_flight = fleet.in_system();
    view.replicas = fleet.counts();
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn figures(scenario: &Scenario, series: &Series, setting: String) -> Figures {
    let end = series.seconds();
    let from = scenario.first_measured(end);
    let over = |sums: &[u64]| (sums[end] - sums[from]) as f64;
    let between = |bound: &dyn Fn(u64) -> u64| {
        (bound(end as u64 * 1_000) - bound(from as u64 * 1_000)) as f64 / 1_000.0
    };
    let (fleet, requests) = (scenario.fleet(false), &scenario.requests);
    let clairvoyant = between(&|end_ms| instant_ms(fleet, requests, end_ms));
    let with_starts = between(&|end_ms| clairvoyant_ms(fleet, scenario.warm(), requests, end_ms));
    let paid = over(&series.paid_ms) / 1_000.0;
    Figures {
        replica_seconds: paid,
        late_pct: 100.0 * over(&series.late) / over(&series.arrivals).max(1.0),
        clairvoyant_replica_seconds: clairvoyant,
        clairvoyant_with_starts_replica_seconds: with_starts,
        work_replica_seconds: between(&|end_ms| work_ms(fleet, requests, end_ms)),
        ratio: paid / clairvoyant.max(1e-9),
        requests: series.arrivals[end] - series.arrivals[from],
        warm: scenario.warm(),
        setting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(shape: Shape, seed: u64) -> Scenario {
        Scenario {
            requests: synthetic(shape, seed, 1),
            cold_start: DurationMs::from_secs(10),
            slots: 8,
            warm: None,
            measure_from: DurationMs::ZERO,
            seed,
        }
    }

    #[test]
    fn every_policy_replays_to_the_same_figures_and_pays_at_least_for_the_work() {
        let scenario = scenario(Shape::Steady, 11);
        // The tuned ones are the same replays a hundred times.
        let quick = Policy::ALL
            .into_iter()
            .filter(|(name, _)| !name.ends_with("tuned"));
        for (name, policy) in quick {
            let figures = simulate(&scenario, policy, &mut |_, _| {});
            assert_eq!(
                figures,
                simulate(&scenario, policy, &mut |_, _| {}),
                "{name}"
            );
            assert!(figures.work_replica_seconds <= figures.clairvoyant_replica_seconds);
            assert!(
                figures.clairvoyant_replica_seconds
                    <= figures.clairvoyant_with_starts_replica_seconds
            );
            assert!(
                figures.replica_seconds > 0.9 * figures.work_replica_seconds,
                "{name}"
            );
        }
    }

    #[test]
    fn ours_keeps_the_target_on_waves_for_less_than_the_defaults_of_others() {
        let waves = Scenario {
            requests: synthetic(Shape::Waves, 41, 2),
            measure_from: DurationMs::from_secs(3_600),
            ..scenario(Shape::Waves, 41)
        };
        let ours = simulate(&waves, Policy::Lepton, &mut |_, _| {});
        assert!(ours.late_pct <= 1.0, "{ours:?}");
        for policy in [Policy::Hpa, Policy::Knative] {
            let theirs = simulate(&waves, policy, &mut |_, _| {});
            assert!(
                ours.replica_seconds < theirs.replica_seconds,
                "{ours:?} {theirs:?}"
            );
        }
    }
}

//! Replays a job with a deadline over the availability of spot machines.
//!
//! Owns: the format, the job's progress, the figures. Must not know: files, or how figures
//! are printed.

mod service;

use lepton_types::{DurationMs, Timestamp};
use serde::{Deserialize, Serialize};

use super::trace::TraceError;
use crate::buying::{
    JobView, KnownJob, Mode, Offer, Purchase, Rule, Solved, SpotHistory, optimum_usd, plan_with,
};
pub use service::{
    Service, ServiceFault, ServiceFigures, ServicePolicy, simulate as simulate_service,
};

/// Samples of an availability file are at most a day apart: no machine is rented for less often.
const GAP_MOST_S: f64 = 86_400.0;

/// What is seen of a zone: one sample a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    /// Time between two samples.
    pub tick: DurationMs,
    /// Whether a spot machine could be had.
    pub up: Vec<bool>,
}

/// Reads `{"metadata": {"gap_seconds": 195}, "data": [0, 1, …]}`.
///
/// # Errors
/// Text that is not of this form, a gap of nothing, or a sample that is neither 0 nor 1.
pub fn read_availability(text: &str) -> Result<Availability, TraceError> {
    #[derive(Deserialize)]
    struct File {
        metadata: Metadata,
        data: Vec<f64>,
    }
    #[derive(Deserialize)]
    struct Metadata {
        gap_seconds: f64,
    }
    let file: File = serde_json::from_str(text)
        .map_err(|error| TraceError::at(error.line().max(1), error.to_string()))?;
    let gap = file.metadata.gap_seconds;
    if !gap.is_finite() || !(1.0..=GAP_MOST_S).contains(&gap) {
        return Err(TraceError::at(
            1,
            format!("`gap_seconds` is not between a second and a day: `{gap}`"),
        ));
    }
    if file.data.is_empty() {
        return Err(TraceError::at(1, "`data` holds no sample"));
    }
    let up = file
        .data
        .iter()
        .enumerate()
        .map(|(index, sample)| match *sample {
            0.0 => Ok(false),
            1.0 => Ok(true),
            other => Err(TraceError::at(
                1,
                format!("sample {} is neither 0 nor 1: `{other}`", index + 1),
            )),
        })
        .collect::<Result<Vec<bool>, _>>()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least one, and the conversion saturates"
    )]
    let tick = DurationMs::from_millis((gap * 1_000.0).round() as u64);
    Ok(Availability { tick, up })
}

/// A way to buy, by the name it has on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Ours: the least expected cost under what was learnt of the zone up to then.
    Lepton,
    /// Spot if up, wait while slack lasts, then on demand to the end.
    Greedy,
    /// "Can't Be Late" (NSDI'24).
    UniformProgress,
    /// Never spot.
    OnDemand,
}

impl Policy {
    /// Every policy and its name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("lepton", Self::Lepton),
        ("greedy", Self::Greedy),
        ("uniform-progress", Self::UniformProgress),
        ("on-demand", Self::OnDemand),
    ];
}

/// The job and the prices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scenario {
    /// Work on one machine.
    pub work: DurationMs,
    /// From the start to the deadline.
    pub deadline: DurationMs,
    /// Lost whenever a machine is taken up.
    pub changeover: DurationMs,
    /// Dollars an hour.
    pub on_demand_usd_per_hour: f64,
    /// Dollars an hour.
    pub spot_usd_per_hour: f64,
    /// Start times, evenly spread over each trace.
    pub starts: usize,
}

/// What a policy came to, over all zones and start times.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Mean cost, beside a run on demand with its one changeover.
    pub cost_vs_on_demand: f64,
    /// Mean of the least cost with the future known, beside the same.
    pub optimum_vs_on_demand: f64,
    /// Deadlines missed.
    pub missed: u32,
    /// Jobs replayed.
    pub runs: u32,
}

/// A scenario that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScenarioError {
    /// A price below zero, or none.
    #[error("the {what} price is not a number {least}: `{usd}`")]
    Price {
        /// Which.
        what: &'static str,
        /// In words: what it must be.
        least: &'static str,
        /// What was given.
        usd: f64,
    },
    /// Nothing to be done.
    #[error("there is no work: `{work}`")]
    NoWork {
        /// What was given.
        work: DurationMs,
    },
    /// No start time, or more than are of use.
    #[error("start times are between 1 and {STARTS_MOST}, not {starts}")]
    Starts {
        /// What was given.
        starts: usize,
    },
    /// Not even an on-demand machine keeps the deadline.
    #[error(
        "work of {work} and a changeover of {changeover} do not fit before a deadline of {deadline}"
    )]
    Impossible {
        /// Work.
        work: DurationMs,
        /// Changeover.
        changeover: DurationMs,
        /// Deadline.
        deadline: DurationMs,
    },
    /// A trace shorter than the job.
    #[error("a trace of {samples} samples is shorter than the deadline, {needed} samples")]
    Short {
        /// The number of the trace among those given.
        zone: usize,
        /// In the trace.
        samples: usize,
        /// Up to the deadline.
        needed: usize,
    },
    /// More states than the exact optimum can be worked out over.
    #[error(
        "the optimum counts work in the greatest unit that divides the work ({work}), the changeover ({changeover}) and \
         the {tick} between samples, and these are too many: a deadline nearer or times that are rounded have fewer"
    )]
    TooFine {
        /// The number of the trace among those given.
        zone: usize,
        /// Work.
        work: DurationMs,
        /// Changeover.
        changeover: DurationMs,
        /// Time between two samples.
        tick: DurationMs,
    },
}

/// One job, run to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRun {
    /// Dollars spent.
    pub usd: f64,
    /// Whether work was left at the deadline.
    pub missed: bool,
    /// Machines taken up.
    pub changeovers: u32,
}

/// More start times than this say nothing new: the traces have some thousands of samples.
const STARTS_MOST: usize = 10_000;

/// Ours solves anew after so many decisions: what is learnt in less changes little.
const SOLVE_EVERY: usize = 74;

/// Replays the job from every start time in every zone.
///
/// # Errors
/// A scenario that makes no sense.
pub fn simulate(
    scenario: &Scenario,
    zones: &[Availability],
    policy: Policy,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Figures, ScenarioError> {
    validate(scenario, zones)?;
    let base = scenario.on_demand_usd_per_hour * hours(scenario.least_ms());
    let (mut usd, mut least, mut missed, mut runs) = (0.0, 0.0, 0, 0);
    let all = zones.len() * scenario.starts;
    for (index, zone) in zones.iter().enumerate() {
        let others: Vec<&Availability> = zones
            .iter()
            .enumerate()
            .filter_map(|(other, zone)| (other != index).then_some(zone))
            .collect();
        for start in 0..scenario.starts {
            let from = start_of(scenario, zone, start);
            let optimum = optimum(scenario, zone, from).ok_or(ScenarioError::TooFine {
                zone: index,
                work: scenario.work,
                changeover: scenario.changeover,
                tick: zone.tick,
            })?;
            let run = run_job(scenario, zone, &others, from, policy);
            usd += run.usd / base;
            least += optimum / base;
            missed += u32::from(run.missed);
            runs += 1;
            progress(u64::from(runs), all as u64);
        }
    }
    Ok(Figures {
        cost_vs_on_demand: usd / f64::from(runs.max(1)),
        optimum_vs_on_demand: least / f64::from(runs.max(1)),
        missed,
        runs,
    })
}

impl Scenario {
    /// Milliseconds that the job takes on demand.
    fn least_ms(&self) -> u64 {
        let (work, changeover) = (self.work.as_millis(), self.changeover.as_millis());
        work.saturating_add(changeover)
    }
}

/// Between these prices every cost, and what it is beside that on demand, is a number.
const PRICE_LEAST_USD: f64 = 1e-9;
const PRICE_MOST_USD: f64 = 1e9;

/// Prices that can be paid and compared: costs are told beside those on demand.
fn validate_prices(on_demand: f64, spot: f64) -> Result<(), ScenarioError> {
    let sound = |what, least, usd: f64, ok: bool| {
        let least = match usd > PRICE_MOST_USD {
            true => "of a billion or less",
            false if ok => return Ok(()),
            false => least,
        };
        Err(ScenarioError::Price { what, least, usd })
    };
    let is_paid = on_demand >= PRICE_LEAST_USD;
    sound("on-demand", "above zero", on_demand, is_paid)?;
    sound("spot", "of zero or more", spot, spot >= 0.0)
}

fn validate(scenario: &Scenario, zones: &[Availability]) -> Result<(), ScenarioError> {
    validate_prices(scenario.on_demand_usd_per_hour, scenario.spot_usd_per_hour)?;
    if scenario.work == DurationMs::ZERO {
        let work = scenario.work;
        return Err(ScenarioError::NoWork { work });
    }
    if !(1..=STARTS_MOST).contains(&scenario.starts) {
        let starts = scenario.starts;
        return Err(ScenarioError::Starts { starts });
    }
    for (index, zone) in zones.iter().enumerate() {
        let needed = samples(scenario, zone);
        if (needed as u64).saturating_mul(zone.tick.as_millis()) < scenario.least_ms() {
            return Err(ScenarioError::Impossible {
                work: scenario.work,
                changeover: scenario.changeover,
                deadline: scenario.deadline,
            });
        }
        if zone.up.len() < needed {
            return Err(ScenarioError::Short {
                zone: index,
                samples: zone.up.len(),
                needed,
            });
        }
    }
    Ok(())
}

/// Whole samples up to the deadline.
fn samples(scenario: &Scenario, zone: &Availability) -> usize {
    usize::try_from(scenario.deadline.as_millis() / zone.tick.as_millis()).unwrap_or(usize::MAX)
}

/// The first sample of the start time number `start`.
#[must_use]
pub fn start_of(scenario: &Scenario, zone: &Availability, start: usize) -> usize {
    let room = zone.up.len().saturating_sub(samples(scenario, zone));
    room * start / scenario.starts.max(1)
}

fn optimum(scenario: &Scenario, zone: &Availability, from: usize) -> Option<f64> {
    optimum_usd(&KnownJob {
        up: &zone.up[from..from + samples(scenario, zone)],
        tick_ms: zone.tick.as_millis(),
        work_ms: scenario.work.as_millis(),
        changeover_ms: scenario.changeover.as_millis(),
        on_demand_usd_per_hour: scenario.on_demand_usd_per_hour,
        spot_usd_per_hour: scenario.spot_usd_per_hour,
    })
}

/// Runs the job from sample `from` to its end; what came before is history.
#[must_use]
pub fn run_job(
    scenario: &Scenario,
    zone: &Availability,
    others: &[&Availability],
    from: usize,
    policy: Policy,
) -> JobRun {
    let tick_ms = zone.tick.as_millis();
    let stamp = |sample: usize| {
        Timestamp::from_millis(i64::try_from(sample as u64 * tick_ms).unwrap_or(i64::MAX))
    };
    let needed = samples(scenario, zone);
    let past = |zone: &Availability| {
        let mut history = SpotHistory::default();
        // Other zones may be sampled at another pace; only those of the same are alike.
        if zone.tick.as_millis() == tick_ms {
            for up in zone.up.iter().take(from) {
                history.observe(*up);
            }
        }
        history
    };
    let elsewhere: Vec<SpotHistory> = others.iter().map(|zone| past(zone)).collect();
    let mut history = past(zone);
    history.learn_from(elsewhere.iter());
    let mut view = JobView {
        work_left: scenario.work,
        deadline: stamp(from + needed),
        changeover: scenario.changeover,
        changeover_left: DurationMs::ZERO,
        tick: zone.tick,
        running: None,
        offers: vec![Offer {
            name: "zone".to_owned(),
            speed: 1.0,
            on_demand_usd_per_hour: scenario.on_demand_usd_per_hour,
            spot_usd_per_hour: Some(scenario.spot_usd_per_hour),
            history,
        }],
    };
    let mut run = JobRun {
        usd: 0.0,
        missed: false,
        changeovers: 0,
    };
    let mut solved = None;
    for sample in from..from + needed {
        view.offers[0].history.observe(zone.up[sample]);
        if !zone.up[sample]
            && view
                .running
                .is_some_and(|running| running.mode == Mode::Spot)
        {
            view.running = None;
            view.changeover_left = DurationMs::ZERO;
        }
        let now = stamp(sample);
        if policy == Policy::Lepton && (sample - from).is_multiple_of(SOLVE_EVERY) {
            solved = Some(Solved::of(&view, now));
        }
        let next = decide(policy, scenario, &view, now, stamp(from), solved.as_ref());
        advance(&mut view, &mut run, next, tick_ms);
        if view.work_left == DurationMs::ZERO {
            return run;
        }
    }
    run.missed = true;
    run
}

fn decide(
    policy: Policy,
    scenario: &Scenario,
    view: &JobView,
    now: Timestamp,
    began: Timestamp,
    solved: Option<&Solved>,
) -> Option<Purchase> {
    let plan = match (policy, solved) {
        (Policy::Lepton, Some(solved)) => plan_with(view, now, solved),
        (Policy::Lepton, None) => crate::buying::plan(view, now),
        (Policy::Greedy, _) => Rule::Greedy.plan(view, now),
        (Policy::OnDemand, _) => Rule::OnDemand.plan(view, now),
        (Policy::UniformProgress, _) => Rule::UniformProgress {
            work: scenario.work,
            began,
        }
        .plan(view, now),
    };
    plan.purchase
}

/// One tick on `next`: the changeover first, then work; the last tick is paid as far as it was used.
fn advance(view: &mut JobView, run: &mut JobRun, next: Option<Purchase>, tick_ms: u64) {
    if next != view.running {
        run.changeovers += u32::from(next.is_some());
        view.changeover_left = if next.is_some() {
            view.changeover
        } else {
            DurationMs::ZERO
        };
        view.running = next;
    }
    let Some(purchase) = next else { return };
    let offer = &view.offers[purchase.offer];
    let usd_per_hour = match purchase.mode {
        Mode::OnDemand => offer.on_demand_usd_per_hour,
        Mode::Spot => offer
            .spot_usd_per_hour
            .unwrap_or(offer.on_demand_usd_per_hour),
    };
    let changing = view.changeover_left.as_millis().min(tick_ms);
    let working = (tick_ms - changing).min(view.work_left.as_millis());
    view.changeover_left = DurationMs::from_millis(view.changeover_left.as_millis() - changing);
    view.work_left = DurationMs::from_millis(view.work_left.as_millis() - working);
    run.usd += usd_per_hour * hours(changing + working);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "durations stay far below 2^53 ms"
)]
fn hours(ms: u64) -> f64 {
    ms as f64 / 3_600_000.0
}

#[cfg(test)]
mod tests;

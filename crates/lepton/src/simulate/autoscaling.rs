//! `lepton simulate autoscaling`.
//!
//! Owns: its arguments. Must not know: any policy's inside.

use std::io::Write;
use std::path::{Path, PathBuf};

use lepton_planner::autoscaling::Request;
use lepton_planner::simulate::TraceError;
use lepton_planner::simulate::autoscaling::{
    Policy, Scenario, Shape, read_requests, simulate, synthetic,
};
use lepton_types::DurationMs;

use super::figures::{Plot, Table};
use super::{SimulateError, in_file, policies, progress, read};
use crate::output::Format;

/// Requests that one replica serves at once, at most.
const SLOTS_MOST: i64 = 100_000;
/// Replicas that are ready at the start, at most.
const WARM_MOST: i64 = 100_000;
/// A replica that takes longer to start is never worth waiting for in a trace of hours.
const COLD_START_MOST: DurationMs = DurationMs::from_secs(86_400);
/// A replay walks through every second of a trace: forty days.
const SPAN_MOST: DurationMs = DurationMs::from_secs(1_000 * 3_600);
/// Nobody waits longer for an answer.
const SERVICE_MOST: DurationMs = DurationMs::from_secs(86_400);

const PLOTS: [Plot; 2] = [
    Plot::beside("replica_seconds", "clairvoyant_replica_seconds"),
    Plot::of("late_pct"),
];

/// Replays requests against a fleet that a policy scales.
#[derive(Debug, clap::Args)]
pub(crate) struct AutoscalingArgs {
    /// Requests: a CSV of Azure's (`TIMESTAMP,ContextTokens,GeneratedTokens`) or of Lepton's own
    /// (`at_ms,service_ms`), or `synthetic:SHAPE:SEED` with a shape of steady, waves, bursts or onoff
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// From the order of a replica to its first request
    #[arg(long, default_value = "10s", allow_hyphen_values = true)]
    cold_start: DurationMs,
    /// Requests that a replica serves at once
    #[arg(
        long,
        default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(1..=SLOTS_MOST),
        allow_negative_numbers = true
    )]
    slots: u32,
    /// Replicas ready at the start; by default what the first five minutes need, and one
    #[arg(
        long,
        value_parser = clap::value_parser!(u32).range(..=WARM_MOST),
        allow_negative_numbers = true
    )]
    warm: Option<u32>,
    /// Hours that a synthetic trace is long
    #[arg(
        long,
        default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=1_000),
        allow_negative_numbers = true
    )]
    hours: u32,
    /// Cost and lateness count from here on; what comes before is replayed, and learnt from
    #[arg(long, default_value = "0s", allow_hyphen_values = true)]
    measure_from: DurationMs,
    /// Seed of our own policy's replays
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// A policy, several with commas, `all`, or `list`
    #[arg(long, default_value = "lepton")]
    policy: String,
}

pub(crate) fn run(
    args: &AutoscalingArgs,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), SimulateError> {
    let chosen = policies(&args.policy, &Policy::ALL, format, out)?;
    if chosen.is_empty() {
        return Ok(());
    }
    let path = args.requests.as_deref().ok_or(SimulateError::Missing {
        argument: "--requests",
    })?;
    let requests = requests(path, args.hours)?;
    validate(args, path, &requests)?;
    let scenario = Scenario {
        requests,
        cold_start: args.cold_start,
        slots: args.slots,
        warm: args.warm,
        measure_from: args.measure_from,
        seed: args.seed,
    };
    let mut table = Table::default();
    for (name, policy) in chosen {
        let bar = progress(name);
        let figures = simulate(&scenario, policy, &mut |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        table.push(name, &figures);
    }
    Ok(table.print(format, &PLOTS, out)?)
}

/// Limits between which a replay ends and its figures mean something.
fn validate(
    args: &AutoscalingArgs,
    path: &Path,
    requests: &[Request],
) -> Result<(), SimulateError> {
    let senseless = |words: String| Err(SimulateError::Senseless(words));
    if args.cold_start > COLD_START_MOST {
        let (given, most) = (args.cold_start, COLD_START_MOST);
        return senseless(format!("`--cold-start {given}` is longer than {most}"));
    }
    let span = requests.last().map_or(0, |request| request.at_ms);
    let span = DurationMs::from_millis(span);
    if span > SPAN_MOST {
        return Err(SimulateError::Unplayable {
            path: path.to_owned(),
            problem: format!(
                "the requests span {span}, more than {SPAN_MOST}: cut the trace into pieces"
            ),
        });
    }
    if args.measure_from > span {
        let from = args.measure_from;
        return senseless(format!(
            "`--measure-from {from}` leaves nothing to measure: the last request comes at {span}"
        ));
    }
    Ok(())
}

fn is_endless(request: &Request) -> bool {
    request.service_ms > SERVICE_MOST.as_millis()
}

/// The first line whose request takes too long.
fn endless(path: &Path, text: &str) -> SimulateError {
    let header = text.lines().next().unwrap_or_default();
    let is_endless = |row: &str| {
        let alone = read_requests(&format!("{header}\n{row}"));
        alone.is_ok_and(|alone| alone.iter().any(is_endless))
    };
    let line = text.lines().skip(1).position(is_endless);
    let problem = format!("the request takes longer than {SERVICE_MOST}");
    in_file(path)(TraceError {
        line: line.map_or(1, |line| line + 2),
        problem,
    })
}

fn requests(path: &Path, hours: u32) -> Result<Vec<Request>, SimulateError> {
    let Some(made) = path
        .to_str()
        .and_then(|text| text.strip_prefix("synthetic:"))
    else {
        let text = read(path)?;
        let requests = read_requests(&text).map_err(in_file(path))?;
        return match requests.iter().any(is_endless) {
            true => Err(endless(path, &text)),
            false => Ok(requests),
        };
    };
    let parsed = made.split_once(':').and_then(|(name, seed)| {
        let (_, shape) = Shape::ALL.iter().find(|(other, _)| *other == name)?;
        Some(synthetic(*shape, seed.parse().ok()?, hours))
    });
    parsed.ok_or_else(|| {
        SimulateError::Senseless(format!(
            "`--requests synthetic:{made}` names no shape and seed, such as `synthetic:bursts:7`; the \
             shapes are {}",
            Shape::ALL.map(|(name, _)| name).join(", ")
        ))
    })
}

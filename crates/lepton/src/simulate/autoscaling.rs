//! `lepton simulate autoscaling`.
//!
//! Owns: its arguments. Must not know: any policy's inside.

use std::io::Write;
use std::path::{Path, PathBuf};

use lepton_planner::autoscaling::Request;
use lepton_planner::simulate::autoscaling::{
    Policy, Scenario, Shape, read_requests, simulate, synthetic,
};
use lepton_types::DurationMs;

use super::figures::Table;
use super::{SimulateError, in_file, policies, progress, read};
use crate::output::Format;

/// Replays requests against a fleet that a policy scales.
#[derive(Debug, clap::Args)]
pub(crate) struct AutoscalingArgs {
    /// Requests: a CSV of Azure's (`TIMESTAMP,ContextTokens,GeneratedTokens`) or of Lepton's own
    /// (`at_ms,service_ms`), or `synthetic:SHAPE:SEED` with a shape of steady, waves, bursts or onoff
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// From the order of a replica to its first request
    #[arg(long, default_value = "10s")]
    cold_start: DurationMs,
    /// Requests that a replica serves at once
    #[arg(long, default_value_t = 8)]
    slots: u32,
    /// Replicas ready at the start; by default what the first five minutes need, and one
    #[arg(long)]
    warm: Option<u32>,
    /// Hours that a synthetic trace is long
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    hours: u32,
    /// Cost and lateness count from here on; what comes before is replayed, and learnt from
    #[arg(long, default_value = "0s")]
    measure_from: DurationMs,
    /// Seed of our own policy's replays
    #[arg(long, default_value_t = 0)]
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
    let chosen = policies(&args.policy, &Policy::ALL, out)?;
    if chosen.is_empty() {
        return Ok(());
    }
    if args.slots == 0 {
        return Err(SimulateError::Senseless(
            "a replica must serve at least one request at once".to_owned(),
        ));
    }
    let path = args.requests.as_deref().ok_or(SimulateError::Missing {
        argument: "--requests",
    })?;
    let scenario = Scenario {
        requests: requests(path, args.hours)?,
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
    Ok(table.print(format, "replica_seconds", out)?)
}

fn requests(path: &Path, hours: u32) -> Result<Vec<Request>, SimulateError> {
    let Some(made) = path
        .to_str()
        .and_then(|text| text.strip_prefix("synthetic:"))
    else {
        return read_requests(&read(path)?).map_err(in_file(path));
    };
    let parsed = made.split_once(':').and_then(|(name, seed)| {
        let (_, shape) = Shape::ALL.iter().find(|(other, _)| *other == name)?;
        Some(synthetic(*shape, seed.parse().ok()?, hours))
    });
    parsed.ok_or_else(|| {
        SimulateError::Senseless(format!(
            "`{made}` is not a shape and a seed, such as `bursts:7`"
        ))
    })
}

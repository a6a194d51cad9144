//! `lepton simulate queueing`.
//!
//! Owns: its arguments and the names of its figures. Must not know: any policy's inside.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lepton_planner::queueing::Policy;
use lepton_planner::simulate::queueing::{Setting, SettingError, parse_jobs, replay};
use lepton_types::DurationMs;
use serde::Serialize;

use super::figures::{Plot, Table};
use super::{SimulateError, in_file, policies, progress, read};
use crate::output::Format;

const PLOTS: [Plot; 4] = [
    Plot::of("jct_mean_s"),
    Plot::of("wait_mean_s"),
    Plot::of("utilisation"),
    Plot::of("fairness"),
];

/// Replays a log of jobs through an order of service.
#[derive(Debug, clap::Args)]
pub(crate) struct QueueingArgs {
    /// Jobs: a CSV with `submit_s,duration_s,gpus,virtual_cluster`, or what `lepton get jobs -o json` prints
    #[arg(long, value_name = "FILE")]
    jobs: Option<PathBuf>,
    /// GPUs of the pool
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    gpus: u32,
    /// GPUs of one node; a job no larger runs on one
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    gpus_per_node: u32,
    /// What a stop costs the job that is stopped
    #[arg(long, default_value = "60s", allow_hyphen_values = true)]
    checkpoint: DurationMs,
    /// A policy, several with commas, `all`, or `list`
    #[arg(long, default_value = "lepton")]
    policy: String,
}

#[derive(Serialize)]
struct Figures {
    jct_mean_s: f64,
    jct_p99_s: f64,
    makespan_s: f64,
    preemptions: u64,
    wait_mean_s: f64,
    fairness: f64,
    utilisation: f64,
    events: u64,
    events_per_s: f64,
}

pub(crate) fn run(
    args: &QueueingArgs,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), SimulateError> {
    let known = Policy::ALL.map(|policy| (policy.name(), policy));
    let chosen = policies(&args.policy, &known, format, out)?;
    if chosen.is_empty() {
        return Ok(());
    }
    let path = args
        .jobs
        .as_deref()
        .ok_or(SimulateError::Missing { argument: "--jobs" })?;
    let jobs = parse_jobs(&read(path)?).map_err(in_file(path))?;
    let setting = Setting {
        gpus: args.gpus,
        gpus_per_node: args.gpus_per_node,
        checkpoint_s: args.checkpoint.as_secs_f64(),
    };
    let mut table = Table::default();
    for (name, policy) in chosen {
        let bar = progress(name);
        bar.set_length(jobs.len() as u64);
        let begun = Instant::now();
        let outcome = replay(&jobs, &setting, policy, |done| {
            bar.set_position(done as u64);
        });
        let seconds = begun.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let outcome = outcome.map_err(|error| refused(path, &error))?;
        #[expect(clippy::cast_precision_loss, reason = "far under 2^53")]
        let events_per_s = outcome.events as f64 / seconds.max(1e-9);
        let figures = Figures {
            jct_mean_s: outcome.jct_mean_s,
            jct_p99_s: outcome.jct_p99_s,
            makespan_s: outcome.makespan_s,
            preemptions: outcome.preemptions,
            wait_mean_s: outcome.wait_mean_s,
            fairness: outcome.fairness,
            utilisation: outcome.utilisation,
            events: outcome.events,
            events_per_s,
        };
        table.push(name, &figures);
    }
    Ok(table.print(format, &PLOTS, out)?)
}

fn refused(path: &Path, error: &SettingError) -> SimulateError {
    match error {
        SettingError::TooLarge { .. } => SimulateError::Unplayable {
            path: path.to_owned(),
            problem: format!("{error}: give more `--gpus`, or leave the job out"),
        },
        SettingError::Empty { .. } | SettingError::TooMany { .. } => {
            SimulateError::Senseless(format!("`--gpus`, `--gpus-per-node`: {error}"))
        }
    }
}

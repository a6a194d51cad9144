//! `lepton simulate packing`.
//!
//! Owns: its arguments and the names of its figures. Must not know: any policy's inside.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use lepton_planner::PlanRng;
use lepton_planner::packing::Policy;
use lepton_planner::simulate::packing::{
    Models, Trace, TraceFault, parse_arrivals, parse_machines, parse_tasks,
};
use serde::Serialize;

use super::figures::{Plot, Table};
use super::{SimulateError, in_file, policies, progress, read};
use crate::output::Format;

const PLOTS: [Plot; 1] = [Plot::beside("allocated_pct_at_100", "bound_pct_at_100")];

/// Replays tasks that arrive one by one on machines with shared GPUs.
#[derive(Debug, clap::Args)]
pub(crate) struct PackingArgs {
    /// Machines: a CSV with `sn,cpu_milli,memory_mib,gpu,model`
    #[arg(long, value_name = "FILE")]
    nodes: Option<PathBuf>,
    /// Tasks: a CSV with `name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec`
    #[arg(long, value_name = "FILE")]
    pods: Option<PathBuf>,
    /// Line 1 the order that breaks ties, line 2 the order of arrival
    #[arg(long, value_name = "FILE")]
    arrivals: Option<PathBuf>,
    /// As many copies of every machine and of every arrival
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    replicate: u32,
    /// Seed of the random policy
    #[arg(long, default_value_t = 42, allow_negative_numbers = true)]
    seed: u64,
    /// A policy, several with commas, `all`, or `list`
    #[arg(long, default_value = "lepton")]
    policy: String,
}

#[derive(Serialize)]
struct Figures {
    allocated_pct_at_100: Option<f64>,
    allocated_pct_at_130: Option<f64>,
    bound_pct_at_100: Option<f64>,
    decisions_per_s: f64,
    decisions: usize,
    placed: usize,
    /// Of those not placed, those that no empty node has room for.
    never_fit: usize,
    seconds: f64,
}

pub(crate) fn run(
    args: &PackingArgs,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), SimulateError> {
    let known = Policy::ALL.map(|policy| (policy.name(), policy));
    let chosen = policies(&args.policy, &known, format, out)?;
    if chosen.is_empty() {
        return Ok(());
    }
    let trace = trace(args)?;
    let bound = trace.bound_at_100().map(|(percent, _)| percent);
    let never_fit = trace.never_fit();
    let rng = PlanRng::from_seed(args.seed);
    let mut table = Table::default();
    for (name, policy) in chosen {
        let bar = progress(name);
        bar.set_length(trace.arrivals.len() as u64);
        let begun = Instant::now();
        let outcome = trace.replay(policy, &rng, |done| bar.set_position(done as u64));
        let seconds = begun.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let at = |percent: u32| outcome.allocated_pct.get(&percent).copied();
        #[expect(clippy::cast_precision_loss, reason = "far under 2^53")]
        let decisions_per_s = outcome.decisions as f64 / seconds.max(1e-9);
        let figures = Figures {
            allocated_pct_at_100: at(100),
            allocated_pct_at_130: at(130),
            bound_pct_at_100: bound,
            decisions_per_s,
            decisions: outcome.decisions,
            placed: outcome.placed,
            never_fit,
            seconds,
        };
        table.push(name, &figures);
    }
    Ok(table.print(format, &PLOTS, out)?)
}

fn trace(args: &PackingArgs) -> Result<Trace, SimulateError> {
    let needed =
        |path: &Option<PathBuf>, argument| path.clone().ok_or(SimulateError::Missing { argument });
    let nodes = needed(&args.nodes, "--nodes")?;
    let pods = needed(&args.pods, "--pods")?;
    let order = needed(&args.arrivals, "--arrivals")?;
    let mut models = Models::default();
    let machines = parse_machines(&read(&nodes)?, &mut models).map_err(in_file(&nodes))?;
    let tasks = parse_tasks(&read(&pods)?, &mut models).map_err(in_file(&pods))?;
    let text = read(&order)?;
    let (ranks, arrivals) =
        parse_arrivals(&text, machines.len(), tasks.len()).map_err(in_file(&order))?;
    let trace = Trace {
        machines,
        ranks,
        tasks,
        arrivals,
    };
    trace
        .validate()
        .map_err(|fault| SimulateError::Unplayable {
            path: if fault == TraceFault::NoGpus {
                nodes
            } else {
                order
            },
            problem: fault.to_string(),
        })?;
    trace
        .replicated(args.replicate)
        .map_err(|fault| SimulateError::Senseless(format!("`--replicate`: {fault}")))
}

//! `lepton simulate transfer`.
//!
//! Owns: its arguments. Must not know: any method's inside.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use lepton_planner::PlanRng;
use lepton_planner::simulate::transfer::{Summary, draw, read_network, simulate, summarise};
use lepton_planner::transfer::{Method, Network, search};
use serde::Serialize;

use super::figures::Table;
use super::{SimulateError, in_file, policies, progress, read};
use crate::output::Format;

/// Plans a transfer that is drawn from a seed, on a measured grid of regions.
#[derive(Debug, clap::Args)]
pub(crate) struct TransferArgs {
    /// Throughput: `src_region,src_tier,dst_region,dst_tier,gbps`
    #[arg(long, value_name = "FILE")]
    throughput: Option<PathBuf>,
    /// Prices: `src,dest,src_tier,dest_tier,cost`
    #[arg(long, value_name = "FILE")]
    egress: Option<PathBuf>,
    /// Which transfer
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// So many transfers from this seed on, summed up with the time that the method took for one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// A method, several with commas, `all`, or `list`
    #[arg(long, default_value = "lepton")]
    policy: String,
}

pub(crate) fn run(
    args: &TransferArgs,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), SimulateError> {
    let chosen = policies(&args.policy, &Method::ALL, out)?;
    if chosen.is_empty() {
        return Ok(());
    }
    let throughput = args.throughput.as_deref().ok_or(SimulateError::Missing {
        argument: "--throughput",
    })?;
    let egress = args.egress.as_deref().ok_or(SimulateError::Missing {
        argument: "--egress",
    })?;
    let network = read_network(&read(throughput)?, &read(egress)?)
        .map_err(|(file, error)| in_file(if file == 0 { throughput } else { egress })(error))?;
    let mut table = Table::default();
    for (name, method) in chosen {
        let bar = progress(name);
        bar.set_length(args.count.into());
        if args.count == 1 {
            let figures = simulate(&network, args.seed, method);
            let figures = figures.map_err(|error| SimulateError::Senseless(error.to_string()))?;
            table.push(name, &figures);
        } else {
            table.push(name, &many(args, &network, method, &bar));
        }
        bar.finish_and_clear();
    }
    Ok(table.print(format, "cost_usd", out)?)
}

/// Figures of many transfers, and the time of the method without the proof of its bound.
#[derive(Debug, Serialize)]
struct Timed {
    #[serde(flatten)]
    summary: Summary,
    milliseconds_each: f64,
}

fn many(args: &TransferArgs, network: &Network, method: Method, bar: &ProgressBar) -> Timed {
    let seeds = args.seed..args.seed.saturating_add(args.count.into());
    let mut took = Duration::ZERO;
    let mut figures = Vec::new();
    for seed in seeds {
        let view = draw(network, seed);
        let begun = Instant::now();
        // Its answer comes again below, with its bound.
        let _ = search(&view, method, &PlanRng::from_seed(seed));
        took += begun.elapsed();
        figures.push(simulate(network, seed, method).ok());
        bar.inc(1);
    }
    Timed {
        summary: summarise(&figures),
        milliseconds_each: 1_000.0 * took.as_secs_f64() / f64::from(args.count.max(1)),
    }
}

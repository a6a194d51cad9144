//! `lepton simulate transfer`.
//!
//! Owns: its arguments. Must not know: any method's inside.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use lepton_planner::PlanRng;
use lepton_planner::simulate::transfer::{
    Came, Summary, draw, read_network, simulate, simulate_budget, summarise,
};
use lepton_planner::transfer::{Method, Network, TransferError, search};
use serde::Serialize;

use super::figures::{Plot, Table};
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
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// So many transfers from this seed on, summed up with the time that the method took for one
    #[arg(
        long,
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        allow_negative_numbers = true
    )]
    count: u32,
    /// As fast as so many dollars allow, instead of as cheap as the transfer's time allows
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    budget: Option<f64>,
    /// A method, several with commas, `all`, or `list`
    #[arg(long, default_value = "lepton")]
    policy: String,
}

pub(crate) fn run(
    args: &TransferArgs,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), SimulateError> {
    let chosen = policies(&args.policy, &Method::ALL, format, out)?;
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
    if args.seed.checked_add(args.count.into()).is_none() {
        let words = format!("`--seed {}`: the last seed is {}", args.seed, u64::MAX);
        return Err(SimulateError::Senseless(words));
    }
    let mut table = Table::default();
    for (name, method) in chosen {
        let bar = progress(name);
        bar.set_length(args.count.into());
        if args.count == 1 {
            one(args, &network, (name, method), &mut table)?;
        } else {
            table.push(name, &many(args, &network, method, &bar)?);
        }
        bar.finish_and_clear();
    }
    let plots = match (args.budget, args.count) {
        (Some(_), 1) => [
            Plot::beside("seconds", "bound_seconds"),
            Plot::of("cost_usd"),
        ],
        (None, 1) => [Plot::beside("cost_usd", "bound_usd"), Plot::of("seconds")],
        // Sums over the transfers that a policy planned cannot be compared.
        (_, _) => [Plot::of("gap_pct"), Plot::of("milliseconds_each")],
    };
    Ok(table.print(format, &plots, out)?)
}

fn one(
    args: &TransferArgs,
    network: &Network,
    (name, method): (&str, Method),
    table: &mut Table,
) -> Result<(), SimulateError> {
    match args.budget {
        None => {
            let figures = simulate(network, args.seed, method);
            table.push(name, &figures.map_err(|error| refused(args, &error))?);
        }
        Some(usd) => {
            let figures = simulate_budget(network, args.seed, method, usd);
            table.push(name, &figures.map_err(|error| refused(args, &error))?);
        }
    }
    Ok(())
}

fn refused(args: &TransferArgs, error: &TransferError) -> SimulateError {
    let argument = match error {
        TransferError::TooDear { .. } => "`--budget`",
        TransferError::Amount { .. } if args.budget.is_some() => "`--budget`",
        _ => "`--seed`",
    };
    SimulateError::Senseless(format!("{argument}: {error}"))
}

/// Figures of many transfers, and the time of the method, without the proof of its bound where
/// there is no budget.
#[derive(Debug, Serialize)]
struct Timed {
    #[serde(flatten)]
    summary: Summary,
    milliseconds_each: f64,
}

fn many(
    args: &TransferArgs,
    network: &Network,
    method: Method,
    bar: &ProgressBar,
) -> Result<Timed, SimulateError> {
    let mut took = Duration::ZERO;
    let mut came: Vec<Option<Came>> = Vec::new();
    for seed in args.seed..args.seed + u64::from(args.count) {
        let begun = Instant::now();
        if let Some(usd) = args.budget {
            came.push(match simulate_budget(network, seed, method, usd) {
                Ok(figures) => Some(figures.into()),
                Err(error @ TransferError::Amount { .. }) => return Err(refused(args, &error)),
                Err(_) => None,
            });
            took += begun.elapsed();
        } else {
            // Its answer comes again below, with its bound.
            let _ = search(&draw(network, seed), method, &PlanRng::from_seed(seed));
            took += begun.elapsed();
            came.push(simulate(network, seed, method).ok().map(Came::from));
        }
        bar.inc(1);
    }
    Ok(Timed {
        summary: summarise(&came),
        milliseconds_each: 1_000.0 * took.as_secs_f64() / f64::from(args.count.max(1)),
    })
}

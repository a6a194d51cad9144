//! `lepton simulate transfer`.
//!
//! Owns: its arguments. Must not know: any method's inside.

use std::io::Write;
use std::path::PathBuf;

use lepton_planner::simulate::transfer::{read_network, simulate};
use lepton_planner::transfer::Method;

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
        let figures = simulate(&network, args.seed, method);
        bar.finish_and_clear();
        table.push(
            name,
            &figures.map_err(|error| SimulateError::Senseless(error.to_string()))?,
        );
    }
    Ok(table.print(format, "cost_usd", out)?)
}

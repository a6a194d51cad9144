//! `lepton simulate buying`.
//!
//! Owns: its arguments. Must not know: any policy's inside.

use std::io::Write;
use std::path::PathBuf;

use lepton_planner::simulate::buying::{
    Availability, Policy, Scenario, read_availability, simulate,
};
use lepton_types::DurationMs;

use super::figures::Table;
use super::{SimulateError, in_file, policies, progress, read};
use crate::output::Format;

/// Replays a job with a deadline over the availability of spot machines, zone by zone.
#[derive(Debug, clap::Args)]
pub(crate) struct BuyingArgs {
    /// Availability of a spot machine, a file a zone: `{"metadata": {"gap_seconds": 195}, "data": [0, 1, …]}`
    #[arg(long, value_name = "FILE", num_args = 1..)]
    availability: Vec<PathBuf>,
    /// Work on one machine
    #[arg(long, default_value = "48h")]
    work: DurationMs,
    /// From the start to the deadline
    #[arg(long, default_value = "52h")]
    deadline: DurationMs,
    /// Lost, and paid, whenever a machine is taken up
    #[arg(long, default_value = "12m")]
    changeover: DurationMs,
    /// Dollars an hour
    #[arg(long, default_value_t = 3.06)]
    on_demand_usd_per_hour: f64,
    /// Dollars an hour
    #[arg(long, default_value_t = 0.918)]
    spot_usd_per_hour: f64,
    /// Start times, evenly spread over each file
    #[arg(long, default_value_t = 8)]
    starts: usize,
    /// A policy, several with commas, `all`, or `list`
    #[arg(long, default_value = "lepton")]
    policy: String,
}

pub(crate) fn run(
    args: &BuyingArgs,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), SimulateError> {
    let chosen = policies(&args.policy, &Policy::ALL, out)?;
    if chosen.is_empty() {
        return Ok(());
    }
    if args.availability.is_empty() {
        return Err(SimulateError::Missing {
            argument: "--availability",
        });
    }
    let zones: Vec<Availability> = args
        .availability
        .iter()
        .map(|path| read_availability(&read(path)?).map_err(in_file(path)))
        .collect::<Result<_, _>>()?;
    let scenario = Scenario {
        work: args.work,
        deadline: args.deadline,
        changeover: args.changeover,
        on_demand_usd_per_hour: args.on_demand_usd_per_hour,
        spot_usd_per_hour: args.spot_usd_per_hour,
        starts: args.starts,
    };
    let mut table = Table::default();
    for (name, policy) in chosen {
        let bar = progress(name);
        let figures = simulate(&scenario, &zones, policy, &mut |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        table.push(
            name,
            &figures.map_err(|error| SimulateError::Senseless(error.to_string()))?,
        );
    }
    Ok(table.print(format, "cost_vs_on_demand", out)?)
}

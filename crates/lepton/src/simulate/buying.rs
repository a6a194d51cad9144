//! `lepton simulate buying`.
//!
//! Owns: its arguments. Must not know: any policy's inside.

use std::io::Write;
use std::path::PathBuf;

use lepton_planner::buying::ServiceError;
use lepton_planner::simulate::buying::{
    Availability, Policy, Scenario, ScenarioError, Service, ServiceFault, ServicePolicy,
    read_availability, simulate, simulate_service,
};
use lepton_types::DurationMs;

use super::figures::{Plot, Table};
use super::{SimulateError, in_file, policies, progress, read};
use crate::output::Format;

const JOB_PLOTS: [Plot; 1] = [Plot::beside("cost_vs_on_demand", "optimum_vs_on_demand")];
const SERVICE_PLOTS: [Plot; 2] = [Plot::of("cost_vs_on_demand"), Plot::of("availability")];

/// Replays a job with a deadline over the availability of spot machines, zone by zone; or, with
/// `--service`, machines that are bought once and kept.
#[derive(Debug, clap::Args)]
pub(crate) struct BuyingArgs {
    /// Availability of a spot machine, a file a zone: `{"metadata": {"gap_seconds": 195}, "data": [0, 1, …]}`
    #[arg(long, value_name = "FILE", num_args = 1..)]
    availability: Vec<PathBuf>,
    /// Work on one machine
    #[arg(long, default_value = "48h", allow_hyphen_values = true)]
    work: DurationMs,
    /// From the start to the deadline
    #[arg(long, default_value = "52h", allow_hyphen_values = true)]
    deadline: DurationMs,
    /// Lost, and paid, whenever a machine is taken up
    #[arg(long, default_value = "12m", allow_hyphen_values = true)]
    changeover: DurationMs,
    /// Dollars an hour
    #[arg(long, default_value_t = 3.06, allow_negative_numbers = true)]
    on_demand_usd_per_hour: f64,
    /// Dollars an hour
    #[arg(long, default_value_t = 0.918, allow_negative_numbers = true)]
    spot_usd_per_hour: f64,
    /// Start times, evenly spread over each file
    #[arg(long, default_value_t = 8, allow_negative_numbers = true)]
    starts: usize,
    /// Instead of a job, a service: so many machines must be up. The first half of each file is
    /// learnt from, the second replayed
    #[arg(
        long,
        value_name = "MACHINES",
        conflicts_with_all = ["work", "deadline", "changeover", "starts"],
        allow_negative_numbers = true
    )]
    service: Option<u32>,
    /// The share of the time at which the service must be up
    #[arg(
        long,
        default_value_t = 0.99,
        requires = "service",
        allow_negative_numbers = true
    )]
    available: f64,
    /// A policy, several with commas, `all`, or `list`
    #[arg(long, default_value = "lepton")]
    policy: String,
}

pub(crate) fn run(
    args: &BuyingArgs,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), SimulateError> {
    match args.service {
        Some(machines) => run_service(args, machines, format, out),
        None => run_job(args, format, out),
    }
}

fn run_job(args: &BuyingArgs, format: Format, out: &mut dyn Write) -> Result<(), SimulateError> {
    let chosen = policies(&args.policy, &Policy::ALL, format, out)?;
    if chosen.is_empty() {
        return Ok(());
    }
    let zones = zones(args)?;
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
        table.push(name, &figures.map_err(|error| refused(args, &error))?);
    }
    Ok(table.print(format, &JOB_PLOTS, out)?)
}

fn run_service(
    args: &BuyingArgs,
    machines: u32,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), SimulateError> {
    let chosen = policies(&args.policy, &ServicePolicy::ALL, format, out)?;
    if chosen.is_empty() {
        return Ok(());
    }
    let zones = zones(args)?;
    let service = Service {
        machines,
        available: args.available,
        on_demand_usd_per_hour: args.on_demand_usd_per_hour,
        spot_usd_per_hour: args.spot_usd_per_hour,
    };
    let mut table = Table::default();
    for (name, policy) in chosen {
        let bar = progress(name);
        let figures = simulate_service(&service, &zones, policy);
        bar.finish_and_clear();
        let figures = figures.map_err(|fault| match &fault {
            ServiceFault::Prices(error) => refused(args, error),
            ServiceFault::Mix(ServiceError::Senseless { .. }) => {
                SimulateError::Senseless(format!("`--service`, `--available`: {fault}"))
            }
            ServiceFault::Mix(ServiceError::TooLarge { .. }) => {
                SimulateError::Senseless(format!("`--service {machines}`: {fault}"))
            }
            ServiceFault::Short { zone, .. } => in_zone(args, *zone, &fault),
        })?;
        table.push(name, &figures);
    }
    Ok(table.print(format, &SERVICE_PLOTS, out)?)
}

fn zones(args: &BuyingArgs) -> Result<Vec<Availability>, SimulateError> {
    if args.availability.is_empty() {
        return Err(SimulateError::Missing {
            argument: "--availability",
        });
    }
    let files = args.availability.iter();
    files
        .map(|path| read_availability(&read(path)?).map_err(in_file(path)))
        .collect()
}

/// The error, with the file or the arguments that it is about.
fn refused(args: &BuyingArgs, error: &ScenarioError) -> SimulateError {
    let arguments = match error {
        ScenarioError::Short { zone, .. } => return in_zone(args, *zone, error),
        ScenarioError::Price {
            what: "on-demand", ..
        } => "`--on-demand-usd-per-hour`",
        ScenarioError::Price { .. } => "`--spot-usd-per-hour`",
        ScenarioError::NoWork { .. } => "`--work`",
        ScenarioError::Starts { .. } => "`--starts`",
        ScenarioError::Impossible { .. } => "`--work`, `--changeover`, `--deadline`",
        ScenarioError::TooFine { .. } => "`--work`, `--changeover`",
    };
    SimulateError::Senseless(format!("{arguments}: {error}"))
}

fn in_zone(args: &BuyingArgs, zone: usize, error: &dyn std::error::Error) -> SimulateError {
    SimulateError::Unplayable {
        path: args.availability.get(zone).cloned().unwrap_or_default(),
        problem: error.to_string(),
    }
}

//! `lepton simulate`: a trace, replayed through the policies that production uses.
//!
//! Owns: reading files, the progress bar, how figures are printed. Must not know: any
//! policy's inside.

pub(crate) mod autoscaling;
pub(crate) mod buying;
mod figures;
pub(crate) mod packing;
pub(crate) mod queueing;
pub(crate) mod transfer;

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use lepton_planner::simulate::TraceError;

use crate::failure::{Failure, with_causes};
use crate::output::{self, Format};

/// A replay to run.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Simulate {
    /// Replicas for requests that come and go.
    #[command(
        after_help = "Examples:\n  lepton simulate autoscaling --requests requests.csv --cold-start 10s --policy all\n  lepton simulate autoscaling --policy list"
    )]
    Autoscaling(autoscaling::AutoscalingArgs),
    /// Spot and on-demand machines for a job with a deadline, or for a service that must stay up.
    #[command(
        after_help = "Examples:\n  lepton simulate buying --availability zone-*.json --work 48h --deadline 52h --policy all\n  lepton simulate buying --availability zone-*.json --service 4 --available 0.99 --policy all\n  lepton simulate buying --policy list"
    )]
    Buying(buying::BuyingArgs),
    /// Tasks on machines with shared GPUs.
    #[command(
        after_help = "Examples:\n  lepton simulate packing --nodes nodes.csv --pods pods.csv --arrivals order.txt --policy all\n  lepton simulate packing --policy list"
    )]
    Packing(packing::PackingArgs),
    /// Jobs that wait for GPUs.
    #[command(
        after_help = "Examples:\n  lepton simulate queueing --jobs jobs.csv --gpus 512 --gpus-per-node 8 --policy lepton\n  lepton simulate queueing --policy list"
    )]
    Queueing(queueing::QueueingArgs),
    /// Data from one region to another.
    #[command(
        after_help = "Examples:\n  lepton simulate transfer --throughput grid.csv --egress prices.csv --seed 1 --policy all\n  lepton simulate transfer --throughput grid.csv --egress prices.csv --seed 1 --budget 120\n  lepton simulate transfer --policy list"
    )]
    Transfer(transfer::TransferArgs),
}

/// Why a replay was not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SimulateError {
    /// A file that cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("`{path}`, {source}")]
    Trace {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: TraceError,
    },
    /// A file that is too large to be read.
    #[error("`{path}` is larger than {FILE_MOST} bytes, the most that is read")]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// A file that holds what cannot be replayed.
    #[error("`{path}`, {problem}")]
    Unplayable {
        /// Which.
        path: PathBuf,
        /// Where and why.
        problem: String,
    },
    /// A policy that does not exist.
    #[error("no policy is called `{name}`: `--policy` takes `all`, `list` or some of {known}")]
    Policy {
        /// What was given.
        name: String,
        /// What exists.
        known: String,
    },
    /// An argument that is needed for a replay.
    #[error("`{argument}` is needed")]
    Missing {
        /// Which.
        argument: &'static str,
    },
    /// An argument that makes no sense.
    #[error("{0}")]
    Senseless(String),
    /// The figures cannot be written.
    #[error("the figures cannot be written")]
    Write(#[from] std::io::Error),
}

impl From<SimulateError> for Failure {
    fn from(error: SimulateError) -> Self {
        match error {
            SimulateError::Write(error) => Self::Output(error),
            SimulateError::Read { path, source } => Self::File {
                action: "read",
                path,
                source,
            },
            SimulateError::Trace { .. }
            | SimulateError::TooLarge { .. }
            | SimulateError::Unplayable { .. } => Self::invalid(with_causes(&error)),
            SimulateError::Policy { .. }
            | SimulateError::Missing { .. }
            | SimulateError::Senseless(_) => Self::usage(with_causes(&error)),
        }
    }
}

impl Simulate {
    /// Runs the replay and prints its figures to `out`.
    pub(crate) fn run(&self, format: Format, out: &mut dyn Write) -> Result<(), SimulateError> {
        match self {
            Self::Autoscaling(args) => autoscaling::run(args, format, out),
            Self::Buying(args) => buying::run(args, format, out),
            Self::Packing(args) => packing::run(args, format, out),
            Self::Queueing(args) => queueing::run(args, format, out),
            Self::Transfer(args) => transfer::run(args, format, out),
        }
    }
}

/// The policies that `text` names, of those in `known`: one, several with commas, or `all`; none,
/// after their names were printed, for `list`.
fn policies<P: Copy>(
    text: &str,
    known: &[(&'static str, P)],
    format: Format,
    out: &mut dyn Write,
) -> Result<Vec<(&'static str, P)>, SimulateError> {
    let all: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    match text {
        "list" => {
            let names = output::json(&all);
            match format {
                Format::Json => writeln!(out, "{names}")?,
                Format::Yaml => write!(out, "{}", output::json_as_yaml(&names))?,
                Format::Table | Format::Wide => writeln!(out, "{}", all.join("\n"))?,
            }
            Ok(Vec::new())
        }
        "all" => Ok(known.to_vec()),
        names => names
            .split(',')
            .map(|name| {
                let found = known
                    .iter()
                    .find(|(other, _)| other.eq_ignore_ascii_case(name));
                let found = found.copied();
                found.ok_or_else(|| SimulateError::Policy {
                    name: name.chars().take(64).collect(),
                    known: all.join(", "),
                })
            })
            .collect(),
    }
}

/// A trace is read as a whole: some hundred million lines.
const FILE_MOST: u64 = 4 << 30;

/// The text of a trace; bytes that are none are named by their line.
fn read(path: &Path) -> Result<String, SimulateError> {
    let failed = |source| SimulateError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_MOST {
        let path = path.to_owned();
        return Err(SimulateError::TooLarge { path });
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let problem = "not text in UTF-8".to_owned();
        in_file(path)(TraceError { line, problem })
    })
}

fn in_file(path: &Path) -> impl FnOnce(TraceError) -> SimulateError {
    let path = path.to_owned();
    |source| SimulateError::Trace { path, source }
}

/// A bar on the terminal, if there is one, that `name` is being replayed.
fn progress(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:18} [{bar:40}] {percent:>3} % {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(1)
        .with_style(style)
        .with_message(name.to_owned())
}

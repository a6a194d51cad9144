//! `lepton worker`: the built-in workloads, started by the server only.

use std::path::PathBuf;

use lepton_types::{DurationMs, FreeName, Name};

/// Does the work that the environment describes; started by the server
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Role {
    /// Trains a tabular model
    #[command(after_help = "Started by the server: `lepton train` asks for one.")]
    Train(Train),
    /// Prepares data
    #[command(after_help = "Started by the server: `lepton data prepare` asks for one.")]
    Prepare(Prepare),
    /// Serves a model
    #[command(after_help = "Started by the server: `lepton deploy` asks for one.")]
    Serve(Serve),
}

/// What to train.
#[derive(Debug, clap::Args)]
pub(crate) struct Train {
    /// The dataset
    #[arg(long)]
    pub(crate) dataset: Name,
    /// Its version
    #[arg(long)]
    pub(crate) dataset_version: u32,
    /// The column to predict
    #[arg(long)]
    pub(crate) target: String,
    /// The name to register the model under
    #[arg(long)]
    pub(crate) model: FreeName,
    /// What to optimise
    #[arg(long)]
    pub(crate) metric: Option<String>,
    /// How long to search
    #[arg(long, required_unless_present = "trials")]
    pub(crate) budget: Option<DurationMs>,
    /// How many trials to make
    #[arg(long, conflicts_with = "budget")]
    pub(crate) trials: Option<u32>,
    /// Where randomness starts
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// How many threads may compute
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
}

/// What a preparation may use.
#[derive(Debug, clap::Args)]
pub(crate) struct Prepare {
    /// How many threads may compute
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// How much memory there is
    #[arg(long)]
    pub(crate) memory_bytes: u64,
}

/// What to serve.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The model file; `signature.json` beside it tells what its inputs mean
    #[arg(long)]
    pub(crate) model: PathBuf,
    /// The endpoint's name
    #[arg(long)]
    pub(crate) name: String,
    /// The model's version
    #[arg(long)]
    pub(crate) version: String,
    /// ONNX Runtime's shared library
    #[arg(long)]
    pub(crate) library: PathBuf,
    /// The file among the secrets that holds what the gateway must show
    #[arg(long)]
    pub(crate) admission: String,
    /// Threads of one run
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// The largest request body
    #[arg(long)]
    pub(crate) body_bytes_max: usize,
}

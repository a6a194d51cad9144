//! `lepton worker`: the built-in workloads, started by the server only.

/// Does the work that the environment describes; started by the server
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Role {
    /// Trains a tabular model
    #[command(after_help = "Started by the server: `lepton train` asks for one.")]
    Train(Arguments),
    /// Serves a model
    #[command(after_help = "Started by the server: `lepton deploy` asks for one.")]
    Serve(Arguments),
}

/// What the server tells a worker.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub(crate) all: Vec<String>,
}

//! `lepton worker`: the built-in workloads, started by the server only.

/// Does the work that the environment describes; started by the server
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Role {
    /// Trains a tabular model
    #[command(after_help = "Started by the server: `lepton train` asks for one.")]
    Train,
    /// Serves a model
    #[command(after_help = "Started by the server: `lepton deploy` asks for one.")]
    Serve,
}

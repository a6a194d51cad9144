//! `lepton config`: the server's configuration file.

use std::path::PathBuf;

use crate::context::Context;
use crate::failure::Failure;
use crate::server::Told;

/// Checks or shows the server's configuration
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Checks a configuration file without starting anything
    #[command(after_help = "Example:\n  lepton config check lepton.toml")]
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Shows every setting with its value
    #[command(after_help = "Example:\n  lepton config show --config lepton.toml")]
    Show {
        /// The file; only the defaults where absent
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

impl Action {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        match crate::server::config(self)? {
            Told::Words(words) => ctx.print(&words),
            Told::Settings(file, json) => ctx.answer(&json, || file),
        }
    }
}

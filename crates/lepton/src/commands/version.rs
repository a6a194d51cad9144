//! `lepton version`: this binary's, and on request the server's.

use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;

/// Tells the version of this binary
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lepton version\n  lepton version --server -o json")]
pub(crate) struct Version {
    /// Asks the server for its version too
    #[arg(long)]
    server: bool,
}

#[derive(Serialize)]
struct Versions {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
}

impl Version {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let server = match self.server {
            true => Some(ctx.client()?.server_info()?.version),
            false => None,
        };
        let versions = Versions {
            client: env!("CARGO_PKG_VERSION"),
            server,
        };
        ctx.answer(&versions, || match &versions.server {
            Some(server) => format!("lepton {}\nserver {server}", versions.client),
            None => format!("lepton {}", versions.client),
        })
    }
}

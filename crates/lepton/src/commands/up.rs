//! `lepton up`: the server, in this process.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Starts Lepton here, until Ctrl-C
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton up\n  lepton up --data-dir ./state --listen 127.0.0.1:8080\n\nThe first start writes the owner's credential, which the other commands find by themselves."
)]
pub(crate) struct Up {
    /// Where everything is kept
    #[arg(
        long,
        value_name = "DIR",
        env = "LEPTON_DATA_DIR",
        hide_env_values = true
    )]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where to listen; 127.0.0.1:5110 where absent
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Where S3 is to listen; the port after the main one where absent
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub(crate) s3_listen: Option<SocketAddr>,
    /// The configuration file; `lepton config show` tells all its settings
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Allows to listen beyond this machine without TLS, as a proxy in front adds it
    #[arg(long)]
    pub(crate) behind_proxy: bool,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write it as 127.0.0.1:5110: an address of this machine and a port".to_owned())
}

//! `lepton completions`: what a shell needs to complete commands.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::context::Context;
use crate::failure::Failure;

/// Writes the completions of a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton completions bash > ~/.local/share/bash-completion/completions/lepton\n  lepton completions zsh > \"${fpath[1]}/_lepton\"\n  lepton completions fish > ~/.config/fish/completions/lepton.fish"
)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "lepton", &mut script);
        ctx.print(&String::from_utf8_lossy(&script))
    }
}

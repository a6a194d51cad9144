//! `lepton runs purge`: what is in the bin, deleted for good.

use lepton_api::Bin;
use lepton_types::DurationMs;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::count;

/// Deletes for good the runs, experiments and logged models in the bin
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton get runs --phase deleted\n  lepton runs purge --dry-run\n  lepton runs purge --older-than 7d\n  lepton runs purge --older-than 0s\n\nWhat MLflow's clients delete stays in the bin and can be restored. The server empties it by itself of what was deleted longer ago than `runs.keep_deleted`, 30 days. Series, artifacts and traces go along."
)]
pub(crate) struct Purge {
    /// Only what was deleted so long ago; what the server keeps no longer where absent
    #[arg(long, value_name = "DURATION")]
    older_than: Option<DurationMs>,
    /// Only says how much it would be
    #[arg(long)]
    dry_run: bool,
}

impl Purge {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let (bin, would) = match self.dry_run {
            true => (client.bin(self.older_than)?, "would be deleted"),
            false => (client.purge_bin(self.older_than)?, "deleted"),
        };
        ctx.answer(&bin, || format!("{would} for good: {}", told(bin)))
    }
}

fn told(bin: Bin) -> String {
    format!(
        "{}, {}, {}",
        count(bin.runs, "run"),
        count(bin.experiments, "experiment"),
        count(bin.logged_models, "logged model")
    )
}

//! `lepton cancel`: asks for a job's end.

use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;

/// Asks for a job's end
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  lepton cancel wine")]
pub(crate) struct Cancel {
    /// The job's id, or its name, which means the newest of that name
    job: String,
}

impl Cancel {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let job = client.cancel_job(&self.job).map_err(|error| {
            kinds::or_near_names(client, lepton_types::resources::Kind::Job, &self.job, error)
        })?;
        ctx.answer(&job, || {
            if job.status.phase.is_final() {
                format!("job `{}` is {}", job.metadata.name, job.status.phase)
            } else {
                format!("job `{}` is being cancelled", job.metadata.name)
            }
        })
    }
}

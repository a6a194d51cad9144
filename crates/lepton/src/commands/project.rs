//! `lepton project`: the tenants.

use lepton_api::CreateProject;
use lepton_types::Name;
use lepton_types::resources::ProjectQuota;

use crate::context::Context;
use crate::failure::Failure;

/// Makes projects: what is in one nobody sees from another
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProjectCommand {
    /// Makes a project; `get projects` lists them, `delete project` ends one that is empty
    #[command(
        after_help = "Examples:\n  lepton project create vision --description 'cameras of the halls'\n  lepton --project vision token create annotators --role editor"
    )]
    Create {
        /// Its name
        name: Name,
        /// What it is for
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
    },
}

impl ProjectCommand {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let Self::Create { name, description } = self;
        let made = ctx.client()?.create_project(&CreateProject {
            name,
            description,
            quota: ProjectQuota::default(),
        })?;
        ctx.answer(&made, || {
            format!("project `{}` is made", made.metadata.name)
        })
    }
}

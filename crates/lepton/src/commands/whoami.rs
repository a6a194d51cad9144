//! `lepton whoami`: as whom, and where.

use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;

/// Tells who you are to the server, and which server
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  lepton whoami -o json")]
pub(crate) struct Whoami {}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    who: lepton_api::WhoAmI,
    url: &'a str,
}

impl Whoami {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let who = client.whoami()?;
        let url = client.url();
        let answer = Answer { who, url };
        ctx.answer(&answer, || {
            let role = answer.who.role.map_or("workload", |role| role.as_str());
            format!(
                "{} ({role}) in project {} at {url}",
                answer.who.name, answer.who.project
            )
        })
    }
}

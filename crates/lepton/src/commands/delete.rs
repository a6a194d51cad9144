//! `lepton delete`: a resource, with all that belongs to it.

use lepton_client::{Client, ClientError};
use lepton_types::resources::{Kind, ModelSelector};

use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;

/// Deletes a resource with all that belongs to it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton delete endpoint wine\n  lepton delete model-version wine:3\n  lepton delete job wine --ignore-not-found"
)]
pub(crate) struct Delete {
    /// project, dataset, experiment, job, run, model, model-version, endpoint or reservation
    kind: String,
    /// Names or ids
    #[arg(required = true)]
    names: Vec<String>,
    /// Is content if it is gone already
    #[arg(long)]
    ignore_not_found: bool,
}

impl Delete {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let kind = kinds::kind(&self.kind)?;
        let client = ctx.client()?;
        for name in &self.names {
            match delete(client, kind, name) {
                Ok(()) => ctx.note(&format!("{kind} `{name}` is deleted")),
                Err(Failure::Client(error)) if error.is_not_found() && self.ignore_not_found => {
                    ctx.note(&format!("{kind} `{name}` is not there"));
                }
                Err(Failure::Client(error)) => {
                    return Err(kinds::or_near_names(client, kind, name, error));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

fn delete(client: &Client, kind: Kind, name: &str) -> Result<(), Failure> {
    let done: Result<(), ClientError> = match kind {
        Kind::Project => client.delete_project(name),
        Kind::Reservation => client.delete_reservation(name),
        Kind::Dataset => client.delete_dataset(&kinds::dns(name)?),
        Kind::Experiment => client.delete_experiment(&kinds::free(name)?),
        Kind::Job => client.delete_job(name),
        Kind::Run => client.delete_run(kinds::run_id(client, name)?),
        Kind::Model => client.delete_model(&kinds::free(name)?),
        Kind::Endpoint => client.delete_endpoint(&kinds::dns(name)?),
        Kind::ModelVersion => {
            let named = kinds::model_ref(name)?;
            let ModelSelector::Version(version) = named.selector else {
                return Err(Failure::usage("write which version: MODEL:VERSION"));
            };
            client.delete_model_version(&named.model, version)
        }
        Kind::Token => {
            return Err(Failure::usage(format!(
                "tokens are revoked: lepton token revoke {name}"
            )));
        }
        Kind::Pool | Kind::DatasetVersion | Kind::Attempt | Kind::Replica => {
            return Err(Failure::usage(format!(
                "a {kind} cannot be deleted by itself: it goes with what it belongs to"
            )));
        }
    };
    Ok(done?)
}

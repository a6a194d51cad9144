//! Preparations: what a job needs to be one.
//!
//! Owns: the check of a request and the versions that it means. Must not know: what a description
//! says, which is the worker's to read.

use lepton_api::{CreateJob, SubmitPrepare};
use lepton_types::Name;
use lepton_types::resources::{NamedVersion, PrepareSpec, Program};

use super::datasets::find_version;
use crate::app::App;
use crate::error::ApiError;

/// The most inputs of a preparation, and the longest description.
const INPUTS_MAX: usize = 64;
const DESCRIPTION_BYTES_MAX: usize = 256 << 10;

pub(super) async fn accept_preparation(
    app: &App,
    project: &Name,
    request: &CreateJob,
    prepare: &SubmitPrepare,
) -> Result<Program, ApiError> {
    if request.workers != 1 {
        return Err(ApiError::invalid("a preparation runs as one worker"));
    }
    if prepare.inputs.is_empty() || prepare.inputs.len() > INPUTS_MAX {
        let message = format!("a preparation has 1 to {INPUTS_MAX} inputs");
        return Err(ApiError::invalid(message));
    }
    if prepare.description.len() > DESCRIPTION_BYTES_MAX {
        let message = format!("a description has at most {DESCRIPTION_BYTES_MAX} bytes");
        return Err(ApiError::invalid(message));
    }
    let mut inputs = Vec::with_capacity(prepare.inputs.len());
    for input in &prepare.inputs {
        let wanted = input
            .version
            .map_or("latest".to_owned(), |version| version.to_string());
        let version = find_version(app, project, input.dataset.as_str(), &wanted).await?;
        inputs.push(NamedVersion {
            name: input.name.clone(),
            dataset: input.dataset.clone(),
            version: version.spec.version,
        });
    }
    Ok(Program::Prepare(PrepareSpec {
        dataset: prepare.dataset.clone(),
        inputs,
        description: prepare.description.clone(),
    }))
}

/// `wine/3, regions/1`.
pub(super) fn versions_of(inputs: &[NamedVersion]) -> String {
    let names: Vec<String> = inputs
        .iter()
        .map(|input| format!("{}/{}", input.dataset, input.version))
        .collect();
    names.join(", ")
}

//! `…/lineage`: what something came from, and what came of it.

use axum::extract::State;
use lepton_access::Access;
use lepton_api::LineageGraph;
use lepton_store::LineageQuery;
use lepton_types::Name;
use lepton_types::resources::{EndpointSpec, Kind, LineageNode, ModelRef, RunSpec};
use serde::Deserialize;

use super::{datasets, enter, find, jobs, models};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Params, Segments};
use crate::lineage::{dataset_node, endpoint_node, logged_dataset_node, model_node, run_node};

/// Whose lineage.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    /// `dataset`, `job`, `run`, `model` or `endpoint`.
    kind: Kind,
    /// `NAME` or `NAME:VERSION` of a dataset, `NAME@DIGEST` of data that a run logged, `NAME`, `NAME:VERSION` or `NAME@ALIAS` of a model, a
    /// run's id, a job's id or name, an endpoint's name.
    name: String,
}

/// What something came from and what came of it, however far, the nearest first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/lineage", tag = "lineage",
    params(("project" = String, Path), Of),
    responses((status = 200, body = LineageGraph), (status = 404, body = lepton_api::ErrorBody)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Params(of): Params<Of>,
) -> Result<axum::Json<LineageGraph>, ApiError> {
    let project = enter(&app, &caller, Access::Read, of.kind, &project).await?;
    let node = resolve(&app, &project, &of).await?;
    let ask = async |backward| {
        let query = LineageQuery {
            project: project.clone(),
            of: node.id,
            backward,
            forward: !backward,
        };
        app.store.lineage(query).await
    };
    let (upstream, downstream) = (ask(true).await?, ask(false).await?);
    let truncated = [&upstream, &downstream]
        .iter()
        .any(|edges| edges.len() >= LineageQuery::EDGES_MAX);
    Ok(axum::Json(LineageGraph {
        of: node,
        upstream,
        downstream,
        truncated,
    }))
}

async fn resolve(app: &App, project: &Name, of: &Of) -> Result<LineageNode, ApiError> {
    match of.kind {
        Kind::Dataset | Kind::DatasetVersion => {
            let (name, version) = of.name.split_once(':').unwrap_or((&of.name, "latest"));
            match datasets::find_version(app, project, name, version).await {
                Ok(version) => Ok(dataset_node(&version)),
                Err(error) => logged_dataset(app, project, &of.name).await?.ok_or(error),
            }
        }
        Kind::Model | Kind::ModelVersion => {
            let model: ModelRef = of.name.parse().map_err(ApiError::invalid)?;
            let name = model.model.as_str();
            let version = models::select_version(app, project, name, &model.selector).await?;
            Ok(model_node(&version))
        }
        Kind::Run => {
            let run = find::<RunSpec>(app, project, &of.name).await?;
            Ok(run_node(run.metadata.id.into(), &run.metadata.name))
        }
        Kind::Job => {
            let job = jobs::find_job(app, project, &of.name).await?;
            Ok(run_node(job.spec.run, &job.metadata.name))
        }
        Kind::Endpoint => {
            let endpoint = find::<EndpointSpec>(app, project, &of.name).await?;
            Ok(endpoint_node(&endpoint))
        }
        other => Err(ApiError::invalid(format!(
            "a {other} has no lineage: ask for a dataset, job, run, model or endpoint"
        ))),
    }
}

/// Data that runs logged as `NAME@DIGEST`, if there is any.
async fn logged_dataset(
    app: &App,
    project: &Name,
    named: &str,
) -> Result<Option<LineageNode>, ApiError> {
    let Some((name, digest)) = named.rsplit_once('@') else {
        return Ok(None);
    };
    let node = logged_dataset_node(project, name, digest);
    let query = LineageQuery {
        project: project.clone(),
        of: node.id,
        backward: false,
        forward: true,
    };
    let known = !app.store.lineage(query).await?.is_empty();
    Ok(known.then_some(node))
}

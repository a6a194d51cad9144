//! Experiments: groups of runs.

use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::Access;
use lepton_api::{CreateExperiment, ErrorCode, List};
use lepton_store::{Query, Transaction};
use lepton_types::resources::{Experiment, ExperimentSpec, Kind, Resource, RunSpec};
use lepton_types::{FreeName, Name};

use super::{enter, find, insert, remove};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments, list_of};

/// Lists experiments.
#[utoipa::path(get, path = "/api/v1/projects/{project}/experiments", tag = "experiments",
    params(("project" = String, Path), Paging), responses((status = 200, body = List<Experiment>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<Experiment>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Experiment, &project).await?;
    let query = paging.query(&project, &["active", "deleted"])?;
    Ok(axum::Json(list_of(
        app.store.list::<ExperimentSpec>(query).await?,
    )))
}

/// Makes an experiment.
#[utoipa::path(post, path = "/api/v1/projects/{project}/experiments", tag = "experiments",
    params(("project" = String, Path)), request_body = CreateExperiment,
    responses((status = 201, body = Experiment)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Json(request): Json<CreateExperiment>,
) -> Result<(StatusCode, axum::Json<Experiment>), ApiError> {
    let project = enter(&app, &caller, Access::Write, Kind::Experiment, &project).await?;
    let spec = ExperimentSpec {
        tags: request.tags,
        artifact_location: None,
    };
    let draft = Resource::draft(
        app.ids.next_id(),
        project,
        request.name.as_str(),
        app.now(),
        spec,
    );
    let experiment = insert(&app, draft.created_by(caller.0.label())).await?;
    Ok((StatusCode::CREATED, axum::Json(experiment)))
}

/// One experiment.
#[utoipa::path(get, path = "/api/v1/projects/{project}/experiments/{name}", tag = "experiments",
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 200, body = Experiment)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments((project, name)): Segments<(String, String)>,
) -> Result<axum::Json<Experiment>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Experiment, &project).await?;
    Ok(axum::Json(
        find::<ExperimentSpec>(&app, &project, &name).await?,
    ))
}

/// Deletes an experiment that has no runs.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/experiments/{name}", tag = "experiments",
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 204)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments((project, name)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let project = enter(&app, &caller, Access::Delete, Kind::Experiment, &project).await?;
    let experiment = find::<ExperimentSpec>(&app, &project, &name).await?;
    let runs = Query {
        group: Some(experiment.metadata.id),
        limit: 1,
        ..Query::default()
    };
    if !app.store.list::<RunSpec>(runs).await?.items.is_empty() {
        let message = format!("experiment `{name}` still has runs: delete them first");
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    remove(&app, &experiment).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The experiment of this name; made along with `transaction` if it is new.
pub(super) async fn find_or_add(
    app: &App,
    caller: &Caller,
    project: &Name,
    name: &FreeName,
    transaction: &mut Transaction,
) -> Result<Experiment, ApiError> {
    if let Some(found) = app
        .store
        .get::<ExperimentSpec>(project, name.as_str())
        .await?
    {
        return Ok(found);
    }
    let spec = ExperimentSpec::default();
    let draft = Resource::draft(
        app.ids.next_id(),
        project.clone(),
        name.as_str(),
        app.now(),
        spec,
    )
    .created_by(caller.0.label());
    transaction.create(&draft);
    Ok(draft)
}

//! Logged models that were recorded elsewhere, with their ids, times and measurements. What clients log
//! themselves comes through MLflow's face.

use std::collections::BTreeMap;

use axum::extract::State;
use lepton_access::Access;
use lepton_api::{ErrorCode, LoggedModelView, ModelMeasurement, PutLoggedModel};
use lepton_store::{LoggedModelRecord, Transaction};
use lepton_types::resources::{ExperimentSpec, Kind};
use lepton_types::tracking::{LoggedModel, LoggedModelPhase, ModelLink, ModelMetric};
use lepton_types::{Id, Name, RunId, Timestamp};

use super::{enter, find};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Segments};
use crate::mlflow::logged_models::{location, misnamed};

/// Measurements, parameters, tags and runs in one request.
const LIST_MAX: usize = 5_000;

/// The bounds that MLflow documents.
const KEY_CHARS_MAX: usize = 250;
const PARAM_CHARS_MAX: usize = 6_000;
const TAG_CHARS_MAX: usize = 8_000;
const DATASET_CHARS_MAX: usize = 500;

/// One logged model, in the bin or not.
#[utoipa::path(get, path = "/api/v1/projects/{project}/logged-models/{model}", tag = "runs",
    params(("project" = String, Path), ("model" = String, Path)),
    responses((status = 200, body = LoggedModelView)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model)): Segments<(String, String)>,
) -> Result<axum::Json<LoggedModelView>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Model, &project).await?;
    let found = found(&app, &project, parse(&model)?).await?;
    let found = found.ok_or_else(|| missing(&model))?;
    Ok(axum::Json(view_of(found)))
}

/// Brings a logged model that was recorded elsewhere under its own id, or adds to it.
#[utoipa::path(put, path = "/api/v1/projects/{project}/logged-models/{model}", tag = "runs",
    params(("project" = String, Path), ("model" = String, Path)), request_body = PutLoggedModel,
    responses((status = 200, body = LoggedModelView)))]
pub(super) async fn put(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model)): Segments<(String, String)>,
    Json(request): Json<PutLoggedModel>,
) -> Result<axum::Json<LoggedModelView>, ApiError> {
    let project = enter(&app, &caller, Access::Write, Kind::Model, &project).await?;
    if caller.is_workload() {
        let message = "a workload logs models and brings none from elsewhere";
        return Err(ApiError::new(ErrorCode::PermissionDenied, message));
    }
    let id = parse(&model)?;
    check(&request)?;
    let now = app.now();
    let mut transaction = Transaction::new();
    let (params, tags) = (pairs(&request.params), pairs(&request.tags));
    match found(&app, &project, id).await? {
        Some(_) => {
            let of = RunId::from(id);
            transaction.set_params(of, params).set_tags(of, tags);
        }
        None => {
            let experiment = request.experiment.as_str();
            let experiment = find::<ExperimentSpec>(&app, &project, experiment).await?;
            let source = request.source_run.map(|run| run.to_string());
            let created = request.created_at.unwrap_or(now);
            let model = LoggedModel {
                id,
                project: project.clone(),
                experiment: experiment.metadata.id.into(),
                name: request.name,
                model_type: request.model_type,
                source_run: source.unwrap_or_default(),
                phase: LoggedModelPhase::Pending,
                artifact_uri: location(&experiment, id),
                created_at: created,
                updated_at: created,
                deleted_at: None,
            };
            transaction
                .require_experiment(model.experiment)
                .create_logged_model(model, params, tags);
        }
    }
    transaction.require_logged_model(id, &project);
    let measured = request.metrics.into_iter();
    let measured = measured.map(|metric| measurement(id, metric, now));
    transaction.append_model_metrics(measured.collect());
    for link in request.runs {
        let way = ModelLink {
            r#use: link.r#use,
            model: id,
            step: link.step,
        };
        transaction.link_models(link.run, vec![way]);
    }
    if let Some(phase) = request.phase {
        transaction.set_logged_model_phase(id, phase, now);
    }
    if let Some(at) = request.deleted_at {
        transaction.delete_logged_model(id, at);
    }
    app.store.commit(transaction).await?;
    let found = found(&app, &project, id).await?;
    let found = found.ok_or_else(|| missing(&model))?;
    Ok(axum::Json(view_of(found)))
}

fn measurement(model: Id, metric: ModelMeasurement, now: Timestamp) -> ModelMetric {
    ModelMetric {
        model,
        run: metric.run,
        key: metric.point.key,
        step: metric.point.step,
        at: metric.point.timestamp.unwrap_or(now),
        value: metric.point.value,
        dataset_name: metric.dataset_name,
        dataset_digest: metric.dataset_digest,
    }
}

fn pairs(pairs: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let pair = |(key, value): (&String, &String)| (key.clone(), value.clone());
    pairs.iter().map(pair).collect()
}

/// Refuses what is longer than what MLflow's clients can log.
fn check(request: &PutLoggedModel) -> Result<(), ApiError> {
    if let Some(why) = misnamed(&request.name, &request.model_type) {
        return Err(ApiError::invalid(why));
    }
    let counts = [
        request.params.len(),
        request.tags.len(),
        request.metrics.len(),
        request.runs.len(),
    ];
    if counts.iter().any(|count| *count > LIST_MAX) {
        return Err(ApiError::invalid(format!(
            "a request takes {LIST_MAX} of each: send more of them in another one"
        )));
    }
    let params = request.params.iter().map(|(k, v)| (k, v, PARAM_CHARS_MAX));
    let tags = request.tags.iter().map(|(k, v)| (k, v, TAG_CHARS_MAX));
    let metrics = request
        .metrics
        .iter()
        .map(|metric| (&metric.point.key, &metric.dataset_name, DATASET_CHARS_MAX));
    let digests = request.metrics.iter();
    let digests = digests.map(|m| (&m.point.key, &m.dataset_digest, DATASET_CHARS_MAX));
    for (key, value, most) in params.chain(tags).chain(metrics).chain(digests) {
        let is_key = (1..=KEY_CHARS_MAX).contains(&key.chars().count());
        if !is_key || value.chars().count() > most {
            return Err(ApiError::invalid(format!(
                "`{}` is not taken: a key has 1 to {KEY_CHARS_MAX} characters, and its value at \
                 most {most}",
                key.chars().take(64).collect::<String>()
            )));
        }
    }
    Ok(())
}

async fn found(app: &App, project: &Name, id: Id) -> Result<Option<LoggedModelRecord>, ApiError> {
    let found = app.store.logged_model(id).await?;
    Ok(found.filter(|record| record.model.project == *project))
}

fn parse(text: &str) -> Result<Id, ApiError> {
    let id = text.strip_prefix("m-").and_then(|hex| hex.parse().ok());
    id.ok_or_else(|| missing(text))
}

fn missing(id: &str) -> ApiError {
    let message = format!("logged model `{}` not found", id.escape_debug());
    ApiError::new(ErrorCode::NotFound, message)
}

fn view_of(record: LoggedModelRecord) -> LoggedModelView {
    let model = record.model;
    LoggedModelView {
        id: format!("m-{}", model.id),
        name: model.name,
        model_type: model.model_type,
        source_run: model.source_run,
        phase: model.phase,
        artifact_uri: model.artifact_uri,
        created_at: model.created_at,
        deleted_at: model.deleted_at,
        params: record.params.into_iter().collect(),
        tags: record.tags.into_iter().collect(),
    }
}

//! What runs log: parameters, tags, and the series of metrics.

use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::Access;
use lepton_api::{ErrorCode, LogToRun, SeriesPage};
use lepton_store::{SeriesQuery, Transaction};
use lepton_types::RunId;
use lepton_types::resources::{Kind, RunSpec};
use serde::Deserialize;

use super::runs::enter_run;
use super::{enter, find};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Params, Segments};

/// The bounds that MLflow documents.
const KEY_BYTES_MAX: usize = 250;
const PARAM_BYTES_MAX: usize = 6_000;
const TAG_BYTES_MAX: usize = 8_000;
/// Points in one request; clients send up to 1,000.
const POINTS_MAX: usize = 10_000;

/// Points on one page of a series.
const PAGE_POINTS_MAX: usize = 25_000;

/// Adds to a run's record. Sending it twice changes nothing the second time.
#[utoipa::path(post, path = "/api/v1/projects/{project}/runs/{run}/log", tag = "runs",
    params(("project" = String, Path), ("run" = String, Path)), request_body = LogToRun,
    responses((status = 204), (status = 409, body = lepton_api::ErrorBody)))]
pub(super) async fn log(
    State(app): State<App>,
    caller: Caller,
    Segments((project, run)): Segments<(String, String)>,
    Json(mut request): Json<LogToRun>,
) -> Result<StatusCode, ApiError> {
    let project = enter_run(&app, &caller, &project, &run).await?;
    check(&request)?;
    let run = find::<RunSpec>(&app, &project, &run).await?;
    let (id, now) = (RunId::from(run.metadata.id), app.now());
    for point in &mut request.metrics {
        point.timestamp.get_or_insert(now);
    }
    let mut transaction = Transaction::new();
    if !request.params.is_empty() {
        transaction.set_params(id, request.params.into_iter().collect());
    }
    if !request.tags.is_empty() {
        transaction.set_tags(id, request.tags.into_iter().collect());
    }
    if !request.metrics.is_empty() {
        transaction.append_metrics(id, request.metrics);
    }
    app.store.commit(transaction).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which series, and which part of it.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub(super) struct SeriesParams {
    /// The metric.
    key: String,
    /// Points to skip.
    #[serde(default)]
    offset: u64,
    /// At most this many points; 25,000 where absent.
    limit: Option<usize>,
}

/// One metric's series, by step, then time.
#[utoipa::path(get, path = "/api/v1/projects/{project}/runs/{run}/series", tag = "runs",
    params(("project" = String, Path), ("run" = String, Path), SeriesParams),
    responses((status = 200, body = SeriesPage)))]
pub(super) async fn read(
    State(app): State<App>,
    caller: Caller,
    Segments((project, run)): Segments<(String, String)>,
    Params(wanted): Params<SeriesParams>,
) -> Result<axum::Json<SeriesPage>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Run, &project).await?;
    let run = find::<RunSpec>(&app, &project, &run).await?;
    let limit = wanted
        .limit
        .unwrap_or(PAGE_POINTS_MAX)
        .clamp(1, PAGE_POINTS_MAX);
    let query = SeriesQuery {
        run: run.metadata.id.into(),
        key: wanted.key.clone(),
        offset: wanted.offset,
        limit: limit + 1,
    };
    let mut points = app.store.series(query).await?;
    let more = points.len() > limit;
    points.truncate(limit);
    let next_offset = more.then(|| wanted.offset + limit as u64);
    Ok(axum::Json(SeriesPage {
        key: wanted.key,
        points,
        next_offset,
    }))
}

fn check(request: &LogToRun) -> Result<(), ApiError> {
    let too_long = |what: &str, key: &str, most: usize| {
        let key: String = key.chars().take(64).collect();
        Err(ApiError::invalid(format!(
            "{what} `{key}` is longer than {most} bytes"
        )))
    };
    if request.metrics.len() > POINTS_MAX {
        let message = format!(
            "one request takes {POINTS_MAX} points, {} came",
            request.metrics.len()
        );
        return Err(ApiError::new(ErrorCode::TooLarge, message));
    }
    let keys = request.params.keys().chain(request.tags.keys());
    for key in keys.chain(request.metrics.iter().map(|point| &point.key)) {
        if key.is_empty() {
            return Err(ApiError::invalid("a key is empty"));
        }
        if key.len() > KEY_BYTES_MAX {
            return too_long("the key", key, KEY_BYTES_MAX);
        }
    }
    if let Some((key, _)) = request
        .params
        .iter()
        .find(|(_, value)| value.len() > PARAM_BYTES_MAX)
    {
        return too_long("the value of parameter", key, PARAM_BYTES_MAX);
    }
    if let Some((key, _)) = request
        .tags
        .iter()
        .find(|(_, value)| value.len() > TAG_BYTES_MAX)
    {
        return too_long("the value of tag", key, TAG_BYTES_MAX);
    }
    Ok(())
}

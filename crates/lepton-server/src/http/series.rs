//! What runs log: parameters, tags, and the series of metrics.

use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::Access;
use lepton_api::{ErrorCode, LogToRun, SeriesPage};
use lepton_store::{Axis, CurveQuery, Point, PointRange, SeriesQuery, Transaction};
use lepton_types::resources::{Kind, RunSpec};
use lepton_types::{RunId, Timestamp};
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

/// One pixel has four points.
const CURVE_POINTS_MIN: usize = 4;

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
    transaction.require_run(id, &project);
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
    /// `next_page_token` of the page before.
    page_token: Option<String>,
    /// Only points of this step or a later one.
    from_step: Option<i64>,
    /// Only points of this step or an earlier one.
    to_step: Option<i64>,
    /// Only points of this time or later, in milliseconds since 1970.
    from_time: Option<i64>,
    /// Only points of this time or earlier, in milliseconds since 1970.
    to_time: Option<i64>,
    /// A curve of at most this many points instead of pages: of each of a quarter as many pixels the
    /// first, the lowest, the highest and the last. A series of no more points comes whole.
    max_points: Option<usize>,
    /// What the pixels of such a curve divide: `step` (where absent) or `time`.
    axis: Option<String>,
}

impl SeriesParams {
    fn range(&self) -> PointRange {
        PointRange {
            from_step: self.from_step,
            to_step: self.to_step,
            from_time: self.from_time.map(Timestamp::from_millis),
            to_time: self.to_time.map(Timestamp::from_millis),
        }
    }

    fn axis(&self) -> Result<Axis, ApiError> {
        match self.axis.as_deref() {
            None | Some("step") => Ok(Axis::Step),
            Some("time") => Ok(Axis::Time),
            Some(other) => {
                let other: String = other.chars().take(64).collect();
                let message = format!("`axis={other}` is not known: write `step` or `time`");
                Err(ApiError::invalid(message))
            }
        }
    }

    fn after(&self) -> Result<Option<Point>, ApiError> {
        let Some(token) = &self.page_token else {
            return Ok(None);
        };
        let place = Point::from_token(token);
        place.map(Some).ok_or_else(|| {
            ApiError::invalid("`page_token` is not one that this server gave".to_owned())
        })
    }
}

/// One metric's series, by step, then time, then value: page by page, or as a curve that keeps its
/// extremes.
#[utoipa::path(get, path = "/api/v1/projects/{project}/runs/{run}/series", tag = "runs",
    params(("project" = String, Path), ("run" = String, Path), SeriesParams),
    responses((status = 200, body = SeriesPage), (status = 400, body = lepton_api::ErrorBody)))]
pub(super) async fn read(
    State(app): State<App>,
    caller: Caller,
    Segments((project, run)): Segments<(String, String)>,
    Params(wanted): Params<SeriesParams>,
) -> Result<axum::Json<SeriesPage>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Run, &project).await?;
    let (axis, after) = (wanted.axis()?, wanted.after()?);
    let run = find::<RunSpec>(&app, &project, &run).await?.metadata.id;
    if let Some(points_max) = wanted.max_points {
        let query = CurveQuery {
            run: run.into(),
            key: wanted.key.clone(),
            range: wanted.range(),
            axis,
            points_max: points_max.clamp(CURVE_POINTS_MIN, PAGE_POINTS_MAX),
        };
        let points = app.store.curve(query).await?;
        return Ok(axum::Json(page(wanted.key, &points)));
    }
    let limit = wanted.limit.unwrap_or(PAGE_POINTS_MAX);
    let limit = limit.clamp(1, PAGE_POINTS_MAX);
    let query = SeriesQuery {
        run: run.into(),
        key: wanted.key.clone(),
        range: wanted.range(),
        after,
        offset: wanted.offset,
        limit,
    };
    let found = app.store.series(query).await?;
    let mut page = page(wanted.key, &found.points);
    if let Some(next) = found.next {
        page.next_page_token = Some(next.to_token());
        page.next_offset = wanted
            .page_token
            .is_none()
            .then(|| wanted.offset.saturating_add(limit as u64));
    }
    Ok(axum::Json(page))
}

fn page(key: String, points: &[Point]) -> SeriesPage {
    SeriesPage {
        points: points.iter().map(|point| point.of_metric(&key)).collect(),
        key,
        next_offset: None,
        next_page_token: None,
    }
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

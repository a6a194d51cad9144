//! The histories of metrics.

use axum::Json;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use lepton_access::Access;
use lepton_store::{Axis, CurveQuery, Point, PointRange, SeriesQuery};
use lepton_types::resources::{Kind, MetricPoint};
use lepton_types::{RunId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::ask::{Ask, Visitor, given, int, list, need};
use super::error::{Answer, MlflowError};
use super::pages;
use super::runs::{find, parse};
use super::wire::{MetricWire, float};
use crate::app::App;

/// Points that are read at once, which bounds the memory of an answer however long the series.
const PIECE_POINTS: usize = 25_000;

/// Points of a bulk answer, and of each run of a sampled one.
const BULK_POINTS_MAX: usize = 25_000;
const SAMPLE_POINTS_MAX: usize = 2_500;

/// Runs of a bulk request.
const BULK_RUNS_MAX: usize = 100;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct History {
    run_id: Option<String>,
    run_uuid: Option<String>,
    metric_key: Option<String>,
    page_token: Option<String>,
    #[serde(deserialize_with = "int")]
    max_results: Option<i64>,
}

#[derive(Serialize)]
struct Page {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<MetricWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// The history of a metric: one page of it if a length is asked for, else all of it.
pub(super) async fn history(
    visitor: Visitor,
    Ask(ask): Ask<History>,
) -> Result<Response, MlflowError> {
    visitor.may(Access::Read, Kind::Run)?;
    let id = match given(ask.run_id.as_ref()) {
        Some(id) => id,
        None => need(&ask.run_uuid, "run_id")?,
    };
    let key = need(&ask.metric_key, "metric_key")?;
    let run = parse(id)?;
    find(&visitor, run).await?;
    let offset = pages::offset(ask.page_token.as_deref())?;
    let limit = match ask.max_results {
        Some(limit) if limit <= 0 => {
            return Err(MlflowError::invalid(format!(
                "Invalid value {limit} for parameter 'max_results' supplied. It must be a \
                 positive integer."
            )));
        }
        Some(limit) => usize::try_from(limit)
            .unwrap_or(usize::MAX)
            .min(PIECE_POINTS),
        None => PIECE_POINTS,
    };
    let mut points = piece(&visitor.app, run, key, offset, limit + 1).await?;
    let more = points.len() > limit;
    points.truncate(limit);
    if more && ask.max_results.is_none() {
        return Ok(stream(visitor.app, run, key.to_owned(), points));
    }
    if !more && offset == 0 {
        points.sort_by(in_time);
    }
    let next = offset + limit as u64;
    let page = Page {
        metrics: points.into_iter().map(MetricWire::of).collect(),
        next_page_token: more.then(|| pages::token(next)),
    };
    Ok(Json(page).into_response())
}

/// MLflow's order. Series are kept by step, which is the same unless a script's clock or steps go
/// back; a series that fits one answer is put into this order, a longer one comes by step.
fn in_time(a: &MetricPoint, b: &MetricPoint) -> std::cmp::Ordering {
    let key = |point: &MetricPoint| (point.timestamp, point.step);
    key(a).cmp(&key(b)).then(a.value.total_cmp(&b.value))
}

async fn piece(
    app: &App,
    run: RunId,
    key: &str,
    offset: u64,
    limit: usize,
) -> Result<Vec<MetricPoint>, MlflowError> {
    let query = SeriesQuery {
        offset,
        ..SeriesQuery::new(run, key, limit)
    };
    Ok(of_metric(key, &app.store.series(query).await?.points))
}

/// Points behind one of the series, which is found without counting.
async fn piece_after(
    app: &App,
    run: RunId,
    key: &str,
    after: &MetricPoint,
) -> Result<Vec<MetricPoint>, MlflowError> {
    let at = after.timestamp.unwrap_or(Timestamp::from_millis(0));
    let query = SeriesQuery {
        after: Some(Point::new(after.step, at, after.value)),
        ..SeriesQuery::new(run, key, PIECE_POINTS)
    };
    Ok(of_metric(key, &app.store.series(query).await?.points))
}

fn of_metric(key: &str, points: &[Point]) -> Vec<MetricPoint> {
    points.iter().map(|point| point.of_metric(key)).collect()
}

/// A whole series, read and sent a piece at a time.
fn stream(app: App, run: RunId, key: String, first: Vec<MetricPoint>) -> Response {
    // One piece is read while one is sent.
    let (pieces, mut received) = mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let tasks = app.tasks.clone();
    tasks.spawn(async move {
        let mut points = first;
        let mut text = b"{\"metrics\": [".to_vec();
        let mut is_first = true;
        while let Some(last) = points.last().cloned() {
            write_points(&mut text, points, !is_first);
            is_first = false;
            if pieces.send(Ok(std::mem::take(&mut text))).await.is_err() {
                return;
            }
            points = match piece_after(&app, run, &key, &last).await {
                Ok(points) => points,
                Err(error) => {
                    // What was begun must not end as if it were whole.
                    let broken = std::io::Error::other(error.message);
                    let _receiver_left = pieces.send(Err(broken)).await;
                    return;
                }
            };
        }
        let _receiver_left = pieces.send(Ok(b"]}".to_vec())).await;
    });
    let body = futures_util::stream::poll_fn(move |context| received.poll_recv(context));
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (content_type, Body::from_stream(body)).into_response()
}

fn write_points(text: &mut Vec<u8>, points: Vec<MetricPoint>, mut after: bool) {
    for point in points {
        if std::mem::replace(&mut after, true) {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, &MetricWire::of(point))
            .expect("invariant: a point has text keys and memory takes it");
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Bulk {
    #[serde(deserialize_with = "list")]
    run_id: Vec<String>,
    #[serde(deserialize_with = "list")]
    run_ids: Vec<String>,
    metric_key: Option<String>,
    #[serde(deserialize_with = "int")]
    max_results: Option<i64>,
    #[serde(deserialize_with = "int")]
    start_step: Option<i64>,
    #[serde(deserialize_with = "int")]
    end_step: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct BulkPoints {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<BulkPoint>,
}

#[derive(Serialize)]
struct BulkPoint {
    key: String,
    #[serde(serialize_with = "float")]
    value: f64,
    timestamp: i64,
    step: i64,
    run_id: String,
}

impl BulkPoint {
    fn of(point: MetricPoint, run: RunId) -> Self {
        Self {
            key: point.key,
            value: point.value,
            timestamp: point.timestamp.map_or(0, Timestamp::as_millis),
            step: point.step,
            run_id: run.to_string(),
        }
    }
}

/// The runs that a bulk request names, each seen to be there.
async fn bulk_runs(visitor: &Visitor, named: &[String]) -> Result<Vec<RunId>, MlflowError> {
    if named.is_empty() || named.len() > BULK_RUNS_MAX {
        return Err(MlflowError::invalid(format!(
            "GetMetricHistoryBulk request must specify 1 to {BULK_RUNS_MAX} run_ids. Received {}.",
            named.len()
        )));
    }
    let mut runs = Vec::with_capacity(named.len());
    for id in named {
        let run = parse(id)?;
        find(visitor, run).await?;
        runs.push(run);
    }
    Ok(runs)
}

/// The histories of a metric in many runs, run by run, up to a bound.
pub(super) async fn bulk(visitor: Visitor, Ask(ask): Ask<Bulk>) -> Answer<BulkPoints> {
    visitor.may(Access::Read, Kind::Run)?;
    let key = need(&ask.metric_key, "metric_key")?;
    let limit = pages::limit(
        ask.max_results.map(|n| n.min(25_000)),
        BULK_POINTS_MAX,
        BULK_POINTS_MAX,
    )?;
    let mut runs = bulk_runs(&visitor, &ask.run_id).await?;
    runs.sort_unstable();
    let mut metrics: Vec<BulkPoint> = Vec::new();
    for run in runs {
        let left = limit - metrics.len();
        if left == 0 {
            break;
        }
        let mut points = piece(&visitor.app, run, key, 0, left).await?;
        points.sort_by(in_time);
        metrics.extend(points.into_iter().map(|point| BulkPoint::of(point, run)));
    }
    Ok(Json(BulkPoints { metrics }))
}

/// The histories of a metric in many runs, each thinned to a number of points; the first, the last
/// and the extremes of every stretch are among them.
pub(super) async fn bulk_interval(visitor: Visitor, Ask(ask): Ask<Bulk>) -> Answer<BulkPoints> {
    visitor.may(Access::Read, Kind::Run)?;
    let key = need(&ask.metric_key, "metric_key")?;
    let limit = pages::limit(ask.max_results, SAMPLE_POINTS_MAX, SAMPLE_POINTS_MAX)?;
    let range = match (ask.start_step, ask.end_step) {
        (None, None) => PointRange::default(),
        (Some(start), Some(end)) if start <= end => PointRange {
            from_step: Some(start),
            to_step: Some(end),
            ..PointRange::default()
        },
        (Some(start), Some(end)) => {
            return Err(MlflowError::invalid(format!(
                "end_step must be greater than start_step. Found start_step={start} and \
                 end_step={end}."
            )));
        }
        _ => {
            return Err(MlflowError::invalid(
                "If either start step or end step are specified, both must be specified.",
            ));
        }
    };
    let mut metrics = Vec::new();
    for run in bulk_runs(&visitor, &ask.run_ids).await? {
        let query = CurveQuery {
            run,
            key: key.to_owned(),
            range,
            axis: Axis::Step,
            points_max: limit,
        };
        let points = of_metric(key, &visitor.app.store.curve(query).await?);
        metrics.extend(points.into_iter().map(|point| BulkPoint::of(point, run)));
    }
    Ok(Json(BulkPoints { metrics }))
}

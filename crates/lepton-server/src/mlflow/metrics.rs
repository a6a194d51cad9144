//! The histories of metrics.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use lepton_access::Access;
use lepton_store::{Axis, CurveQuery, Point, PointRange, SeriesQuery};
use lepton_types::RunId;
use lepton_types::resources::Kind;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::ask::{Ask, Visitor, given, int, list, need};
use super::error::MlflowError;
use super::pages;
use super::runs::{find, parse};
use super::wire::float;
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
    let query = SeriesQuery {
        offset,
        ..SeriesQuery::new(run, key, limit)
    };
    let found = visitor.app.store.series(query).await?;
    let (mut points, more) = (found.points, found.next.is_some());
    let writer = PointWriter::of_metric(key);
    if more && ask.max_results.is_none() {
        return Ok(stream(visitor.app, (run, key.to_owned()), writer, points));
    }
    if !more && offset == 0 {
        points.sort_by(in_time);
    }
    let mut text = Vec::new();
    writer.write(&mut text, &points);
    let next = more.then(|| pages::token(offset.saturating_add(limit as u64)));
    Ok(page(&text, next.as_deref()))
}

/// MLflow's order. Series are kept by step, which is the same unless a script's clock or steps go
/// back; a series that fits one answer is put into this order, a longer one comes by step.
fn in_time(a: &Point, b: &Point) -> std::cmp::Ordering {
    let key = |point: &Point| (point.timestamp(), point.step());
    key(a)
        .cmp(&key(b))
        .then_with(|| a.value().total_cmp(&b.value()))
}

/// Points that are written already; as protobuf's JSON has it, no field where there are none.
fn page(points: &[u8], next: Option<&str>) -> Response {
    let mut text = Vec::with_capacity(points.len() + 128);
    if !points.is_empty() {
        text.extend_from_slice(BEGIN);
        text.extend_from_slice(points);
        text.push(b']');
    }
    if let Some(next) = next {
        text.extend_from_slice(format!(",\"next_page_token\":\"{next}\"").as_bytes());
    }
    if text.is_empty() {
        text.push(b'{');
    }
    text.push(b'}');
    json(Body::from(text))
}

const BEGIN: &[u8] = b"{\"metrics\":[";

fn json(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Writes points as JSON. Histories have millions of them, of which only the numbers differ.
struct PointWriter {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl PointWriter {
    /// For points of one metric.
    fn of_metric(key: &str) -> Self {
        let key = serde_json::Value::from(key);
        Self {
            before: format!("{{\"key\":{key},\"value\":").into_bytes(),
            after: b"}".to_vec(),
        }
    }

    /// For points of one metric of one run, each of which says so.
    fn of_run(key: &str, run: RunId) -> Self {
        Self {
            after: format!(",\"run_id\":\"{run}\"}}").into_bytes(),
            ..Self::of_metric(key)
        }
    }

    /// Appends points with commas between them, and before them if some are there already.
    fn write(&self, text: &mut Vec<u8>, points: &[Point]) {
        text.reserve(points.len() * (self.before.len() + self.after.len() + NUMBERS_BYTES));
        for point in points {
            if !matches!(text.last(), None | Some(b'[' | b',')) {
                text.push(b',');
            }
            text.extend_from_slice(&self.before);
            put(text, &WireFloat(point.value()));
            text.extend_from_slice(b",\"timestamp\":");
            put(text, &point.timestamp().as_millis());
            text.extend_from_slice(b",\"step\":");
            put(text, &point.step());
            text.extend_from_slice(&self.after);
        }
    }
}

/// What the numbers of a point take in JSON, with their names, at a guess.
const NUMBERS_BYTES: usize = 64;

#[derive(Serialize)]
#[serde(transparent)]
struct WireFloat(#[serde(serialize_with = "float")] f64);

fn put<T: Serialize>(text: &mut Vec<u8>, number: &T) {
    serde_json::to_writer(text, number).expect("invariant: memory takes a number");
}

/// A whole series, read and sent a piece at a time.
fn stream(
    app: App,
    (run, key): (RunId, String),
    writer: PointWriter,
    first: Vec<Point>,
) -> Response {
    // One piece is read while one is sent.
    let (pieces, mut received) = mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let tasks = app.tasks.clone();
    tasks.spawn(async move {
        let mut text = BEGIN.to_vec();
        writer.write(&mut text, &first);
        let mut after = first.last().copied();
        while after.is_some() {
            if pieces.send(Ok(std::mem::take(&mut text))).await.is_err() {
                return;
            }
            let query = SeriesQuery {
                after,
                ..SeriesQuery::new(run, &*key, PIECE_POINTS)
            };
            let found = match app.store.series(query).await {
                Ok(found) => found,
                Err(error) => {
                    // What was begun must not end as if it were whole.
                    let broken = std::io::Error::other(MlflowError::from(error).message);
                    let _receiver_left = pieces.send(Err(broken)).await;
                    return;
                }
            };
            // A run that is deleted meanwhile has no more points.
            if !found.points.is_empty() {
                text.push(b',');
            }
            writer.write(&mut text, &found.points);
            after = found.next;
        }
        text.extend_from_slice(b"]}");
        let _receiver_left = pieces.send(Ok(text)).await;
    });
    let body = futures_util::stream::poll_fn(move |context| received.poll_recv(context));
    json(Body::from_stream(body))
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
pub(super) async fn bulk(visitor: Visitor, Ask(ask): Ask<Bulk>) -> Result<Response, MlflowError> {
    visitor.may(Access::Read, Kind::Run)?;
    let key = need(&ask.metric_key, "metric_key")?;
    let limit = pages::limit(
        ask.max_results.map(|n| n.min(25_000)),
        BULK_POINTS_MAX,
        BULK_POINTS_MAX,
    )?;
    let mut runs = bulk_runs(&visitor, &ask.run_id).await?;
    runs.sort_unstable();
    let (mut text, mut left) = (Vec::new(), limit);
    for run in runs {
        if left == 0 {
            break;
        }
        let found = visitor.app.store.series(SeriesQuery::new(run, key, left));
        let mut points = found.await?.points;
        points.sort_by(in_time);
        left -= points.len();
        PointWriter::of_run(key, run).write(&mut text, &points);
    }
    Ok(page(&text, None))
}

/// The histories of a metric in many runs, each thinned to a number of points; the first, the last
/// and the extremes of every stretch are among them.
pub(super) async fn bulk_interval(
    visitor: Visitor,
    Ask(ask): Ask<Bulk>,
) -> Result<Response, MlflowError> {
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
    let mut text = Vec::new();
    for run in bulk_runs(&visitor, &ask.run_ids).await? {
        let query = CurveQuery {
            run,
            key: key.to_owned(),
            range,
            axis: Axis::Step,
            points_max: limit,
        };
        let points = visitor.app.store.curve(query).await?;
        PointWriter::of_run(key, run).write(&mut text, &points);
    }
    Ok(page(&text, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_types::Timestamp;

    #[test]
    fn points_are_written_as_json_with_any_key_and_value() {
        let at = Timestamp::from_millis(7);
        let points = [
            Point::new(-1, at, 0.5),
            Point::new(2, at, f64::NAN),
            Point::new(3, at, f64::NEG_INFINITY),
        ];
        let run = RunId::from(lepton_types::Id::from_bytes([1; 16]));
        let mut text = Vec::new();
        PointWriter::of_run("a \"b\" {c}", run).write(&mut text, &points[..2]);
        PointWriter::of_metric("d").write(&mut text, &points[2..]);
        let text = format!("[{}]", String::from_utf8(text).unwrap());
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let run = "01".repeat(16);
        let expected = serde_json::json!([
            {"key": "a \"b\" {c}", "value": 0.5, "timestamp": 7, "step": -1, "run_id": run},
            {"key": "a \"b\" {c}", "value": "NaN", "timestamp": 7, "step": 2, "run_id": run},
            {"key": "d", "value": "-Infinity", "timestamp": 7, "step": 3},
        ]);
        assert_eq!(read, expected);
    }
}

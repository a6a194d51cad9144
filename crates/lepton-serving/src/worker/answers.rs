//! Answering: bytes to tensors, tensors through the model, tensors to bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::failure::Failure;
use super::http::{Named, json};
use super::{Loaded, Replica};
use crate::body::{BodyLease, read_body};
use crate::engine::Output;
use crate::inputs;
use crate::metrics::{Exposition, LatencyHistogram};
use crate::oip::{HEADER_LENGTH, InferReply, InferRequest};
use crate::rows::{Predictions, RowsRequest};

/// Above this, reading or writing JSON takes longer than handing it to another thread,
/// and would hold up every other connection.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// About how many bytes an element takes when written.
const BYTES_PER_ELEMENT: usize = 10;

/// What a replica counts.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    ok: AtomicU64,
    client_errors: AtomicU64,
    refused: AtomicU64,
    server_errors: AtomicU64,
    latency: LatencyHistogram,
}

impl Metrics {
    fn count(&self, started: Instant, status: StatusCode) {
        let counter = match status {
            StatusCode::SERVICE_UNAVAILABLE => &self.refused,
            status if status.is_client_error() => &self.client_errors,
            status if status.is_server_error() => &self.server_errors,
            _ => &self.ok,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.latency.record(started.elapsed());
    }
}

/// `POST …/infer`: the Open Inference Protocol.
pub(super) async fn infer(
    State(replica): State<Arc<Replica>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let started = Instant::now();
    let answer = answer_infer(&replica, &named, &headers, body).await;
    let response = answer.unwrap_or_else(IntoResponse::into_response);
    replica.metrics.count(started, response.status());
    response
}

/// `POST …/rows`: row-oriented JSON.
pub(super) async fn rows(
    State(replica): State<Arc<Replica>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let started = Instant::now();
    let answer = answer_rows(&replica, &named, &headers, body).await;
    let response = answer.unwrap_or_else(IntoResponse::into_response);
    replica.metrics.count(started, response.status());
    response
}

async fn answer_infer(
    replica: &Arc<Replica>,
    named: &Named,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let loaded = named.find(replica)?;
    let json_length = json_length(headers)?;
    let (bytes, _lease) = take_body(replica, headers, body).await?;
    let size = bytes.len();
    let request = offload(size, move || InferRequest::parse(&bytes, json_length)).await??;
    inputs::check(&loaded.signature, &request.inputs)?;
    let InferRequest {
        id,
        inputs,
        outputs: wanted,
        binary_by_default,
    } = request;
    let outputs = loaded.batcher.infer(inputs).await?;
    let owner = Arc::clone(replica);
    let encoded = offload(written_size(&outputs), move || {
        InferReply {
            model_name: &owner.options.name,
            model_version: &owner.options.version,
            id: id.as_deref(),
            wanted: &wanted,
            binary_by_default,
        }
        .encode(&outputs)
    })
    .await??;
    let mut response = encoded.body.into_response();
    let kind = match encoded.json_length {
        Some(length) => {
            response
                .headers_mut()
                .insert(HEADER_LENGTH, HeaderValue::from(length));
            "application/octet-stream"
        }
        None => "application/json",
    };
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

async fn answer_rows(
    replica: &Arc<Replica>,
    named: &Named,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let loaded = named.find(replica)?;
    let (bytes, _lease) = take_body(replica, headers, body).await?;
    let size = bytes.len();
    let owner = Arc::clone(replica);
    let request = offload(size, move || {
        let loaded = owner.loaded.get().ok_or(Failure::Loading)?;
        Ok::<_, Failure>(RowsRequest::parse(&bytes, &loaded.signature)?)
    })
    .await??;
    let rows = request.rows;
    let outputs = if rows == 0 {
        Vec::new()
    } else {
        run_rows(loaded, request).await?
    };
    let owner = Arc::clone(replica);
    offload(written_size(&outputs), move || {
        let loaded = owner.loaded.get().ok_or(Failure::Loading)?;
        let model = (owner.options.name.as_str(), owner.options.version.as_str());
        let predictions = Predictions::new(model, &loaded.signature, &outputs, rows)?;
        Ok(json(&predictions))
    })
    .await?
}

async fn run_rows(loaded: &Loaded, request: RowsRequest) -> Result<Vec<Output>, Failure> {
    inputs::check(&loaded.signature, &request.inputs)?;
    Ok(loaded.batcher.infer(request.inputs).await?)
}

/// `GET /metrics`, as Prometheus text.
pub(super) async fn metrics(State(replica): State<Arc<Replica>>) -> Response {
    let metrics = &replica.metrics;
    let options = &replica.options;
    let labels = [
        ("model", options.name.as_str()),
        ("version", options.version.as_str()),
    ];
    let mut text = Exposition::default();
    text.metric(
        "lepton_replica_requests_total",
        "counter",
        "Requests answered, by outcome.",
    );
    for (outcome, counter) in [
        ("ok", &metrics.ok),
        ("client_error", &metrics.client_errors),
        ("refused", &metrics.refused),
        ("server_error", &metrics.server_errors),
    ] {
        let labels = [labels[0], labels[1], ("outcome", outcome)];
        let count = counter.load(Ordering::Relaxed);
        text.sample("lepton_replica_requests_total", &labels, count);
    }
    let name = "lepton_replica_request_duration_seconds";
    text.metric(name, "histogram", "From a request's head to its answer.");
    text.histogram(name, &labels, &metrics.latency.snapshot());
    if let Some(loaded) = replica.loaded.get() {
        let counts = loaded.batcher.counts();
        let waiting = u64::try_from(counts.waiting()).unwrap_or(u64::MAX);
        for (name, kind, help, value) in [
            (
                "lepton_replica_waiting",
                "gauge",
                "Requests that wait or run.",
                waiting,
            ),
            (
                "lepton_replica_runs_total",
                "counter",
                "Runs of the model.",
                counts.runs(),
            ),
            (
                "lepton_replica_stacked_requests_total",
                "counter",
                "Requests that ran together with others.",
                counts.stacked(),
            ),
        ] {
            text.metric(name, kind, help);
            text.sample(name, &labels, value);
        }
    }
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(header::CONTENT_TYPE, kind)], text.into_text()).into_response()
}

async fn take_body(
    replica: &Replica,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, BodyLease), Failure> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(Failure::Encoding {
            encoding: String::from_utf8_lossy(encoding.as_bytes())
                .chars()
                .take(40)
                .collect(),
        });
    }
    let bytes_max = replica.options.body_bytes_max;
    Ok(read_body(headers, body, bytes_max, &replica.budget).await?)
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Failure> {
    headers
        .get(HEADER_LENGTH)
        .map(|value| {
            let text = value.to_str().ok();
            text.and_then(|text| text.trim().parse().ok())
                .ok_or(Failure::HeaderLength)
        })
        .transpose()
}

fn written_size(outputs: &[Output]) -> usize {
    let elements: usize = outputs
        .iter()
        .map(|output| output.tensor.data().len())
        .sum();
    elements.saturating_mul(BYTES_PER_ELEMENT)
}

/// Runs `work` here if it is small, else where it may block.
async fn offload<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if size <= INLINE_BYTES_MAX {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Failure::Panicked)
}

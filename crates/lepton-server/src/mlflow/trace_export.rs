//! Spans as OpenTelemetry's exporters send them, MLflow's own among them.

use std::collections::BTreeMap;
use std::io::Read as _;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use lepton_access::Access;
use lepton_store::Transaction;
use lepton_types::Timestamp;
use lepton_types::resources::Kind;
use lepton_types::trace::{Trace, TraceSpan};

use super::ask::Visitor;
use super::error::{MlflowError, shown};
use super::experiments::find_active;
use super::rules::{TAG_CHARS_MAX, cut};
use super::traces::{self, NAME_TAG, add_trace, check_id};
use super::wire::Done;
use super::{otlp, otlp_json};
use crate::extract::{JSON_BYTES_MAX, read_body};

/// The longest body of spans, packed and unpacked.
const BODY_BYTES_MAX: usize = 32 << 20;

/// Spans in one transaction, about; others' writes wait for it.
const PIECE_SPANS: usize = 500;

const PROTOBUF: &str = "application/x-protobuf";

/// Reads the spans of a body.
type Reads = fn(&[u8]) -> Result<Vec<otlp::Span>, otlp::Malformed>;

/// Takes spans from an exporter of OpenTelemetry; the header names the experiment.
pub(super) async fn export(
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, MlflowError> {
    visitor.may(Access::Write, Kind::Experiment)?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let named = text("x-mlflow-experiment-id")
        .ok_or_else(|| MlflowError::invalid("the header `x-mlflow-experiment-id` is missing"))?;
    let kind = text(header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let (read, bytes_max, answer): (Reads, usize, Response) =
        match kind.split(';').next().map(str::trim) {
            // An `ExportTraceServiceResponse` in which nothing was refused has no fields.
            Some(PROTOBUF) => {
                let empty = ([(header::CONTENT_TYPE, PROTOBUF)], Vec::new());
                (otlp::spans_of, BODY_BYTES_MAX, empty.into_response())
            }
            Some("application/json") => {
                let empty = axum::Json(Done {}).into_response();
                (otlp_json::spans_of, JSON_BYTES_MAX, empty)
            }
            _ => {
                return Err(MlflowError::invalid(format!(
                    "Invalid Content-Type: {}. Expected: {PROTOBUF} or application/json",
                    shown(kind)
                )));
            }
        };
    let is_packed = match text(header::CONTENT_ENCODING.as_str()) {
        None | Some("identity") => false,
        Some("gzip") => true,
        Some(other) => {
            return Err(MlflowError::invalid(format!(
                "Unsupported Content-Encoding: {}",
                shown(other)
            )));
        }
    };
    let experiment = find_active(&visitor, named).await?;
    let body = read_body(&headers, body, bytes_max).await?;
    // Not on a thread that others wait for.
    let reading = tokio::task::spawn_blocking(move || {
        let unpacked = match is_packed {
            true => Some(unpack(&body, bytes_max)?),
            false => None,
        };
        let bytes = unpacked.as_deref().unwrap_or(&body);
        read(bytes).map_err(|error| MlflowError::invalid(error.to_string()))
    });
    let spans = reading
        .await
        .map_err(|error| crate::error::ApiError::internal(&error))??;
    if spans.is_empty() {
        return Err(MlflowError::invalid(
            "Invalid OpenTelemetry format - no spans found",
        ));
    }
    let mut by_trace: BTreeMap<String, Vec<otlp::Span>> = BTreeMap::new();
    for span in spans {
        let id = span
            .request
            .clone()
            .unwrap_or_else(|| format!("tr-{}", span.trace));
        check_id(&id)?;
        by_trace.entry(id).or_default().push(span);
    }
    // Written in pieces, so that others write in between.
    let mut piece = Transaction::new();
    let mut spans_in_piece = 0;
    for (id, spans) in by_trace {
        add_trace(&visitor, &mut piece, &experiment, gathered(&id, &spans));
        for some in spans.chunks(PIECE_SPANS) {
            let steps = some.iter().map(|span| step_of(&id, span)).collect();
            traces::add_spans(&visitor, &mut piece, &id, steps);
            spans_in_piece += some.len();
            if spans_in_piece >= PIECE_SPANS {
                visitor.app.store.commit(std::mem::take(&mut piece)).await?;
                spans_in_piece = 0;
            }
        }
    }
    visitor.app.store.commit(piece).await?;
    Ok(answer)
}

fn unpack(packed: &[u8], most: usize) -> Result<Vec<u8>, MlflowError> {
    let mut bytes = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(packed).take(most as u64 + 1);
    let read = reader.read_to_end(&mut bytes);
    match read {
        Ok(_) if bytes.len() <= most => Ok(bytes),
        Ok(_) => Err(MlflowError::invalid(
            "the body is too long once it is unpacked",
        )),
        Err(_) => Err(MlflowError::invalid("the body is no gzip")),
    }
}

/// What the spans of a trace tell of it. What is known of it already is put together with this where
/// it is written.
fn gathered(id: &str, spans: &[otlp::Span]) -> Trace {
    let first = spans.iter().map(|span| span.began_nanos).min();
    let mut trace = Trace {
        id: id.to_owned(),
        began_at: Timestamp::from_millis(first.unwrap_or_default() / 1_000_000),
        state: "IN_PROGRESS".to_owned(),
        ..Trace::empty()
    };
    if let Some(root) = spans.iter().find(|span| span.is_root) {
        let preview = |text: &Option<String>| text.clone().map(|text| cut(text, 1_000));
        trace.state = if root.failed { "ERROR" } else { "OK" }.to_owned();
        trace.took_ms = Some(root.ended_nanos.saturating_sub(root.began_nanos) / 1_000_000);
        let name = cut(root.name.clone(), TAG_CHARS_MAX);
        trace.tags.insert(NAME_TAG.to_owned(), name);
        trace.request_preview = preview(&root.inputs);
        trace.response_preview = preview(&root.outputs);
    }
    trace
}

fn step_of(trace: &str, span: &otlp::Span) -> TraceSpan {
    TraceSpan {
        trace: trace.to_owned(),
        span: span.id.clone(),
        began_nanos: span.began_nanos,
        body: span.json.to_string(),
    }
}

//! Spans as OpenTelemetry's exporters send them, MLflow's own among them.

use std::collections::BTreeMap;
use std::io::Read as _;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use lepton_access::Access;
use lepton_types::Timestamp;
use lepton_types::resources::{Experiment, Kind};
use lepton_types::trace::{Trace, TraceSpan};

use super::ask::Visitor;
use super::error::{MlflowError, shown};
use super::experiments::find_active;
use super::rules::cut;
use super::traces::{NAME_TAG, check_id, keep};
use super::wire::Done;
use super::{otlp, otlp_json};
use crate::extract::read_body;

/// The longest body of spans, packed and unpacked.
const BODY_BYTES_MAX: usize = 32 << 20;

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
    let (read, answer): (Reads, Response) = match kind.split(';').next().map(str::trim) {
        // An `ExportTraceServiceResponse` in which nothing was refused has no fields.
        Some(PROTOBUF) => {
            let empty = ([(header::CONTENT_TYPE, PROTOBUF)], Vec::new());
            (otlp::spans_of, empty.into_response())
        }
        Some("application/json") => (otlp_json::spans_of, axum::Json(Done {}).into_response()),
        _ => {
            return Err(MlflowError::invalid(format!(
                "Invalid Content-Type: {}. Expected: {PROTOBUF} or application/json",
                shown(kind)
            )));
        }
    };
    let experiment = find_active(&visitor, named).await?;
    let packed = read_body(&headers, body, BODY_BYTES_MAX).await?;
    let bytes = match text(header::CONTENT_ENCODING.as_str()) {
        None | Some("identity") => packed.to_vec(),
        Some("gzip") => unpack(&packed)?,
        Some(other) => {
            return Err(MlflowError::invalid(format!(
                "Unsupported Content-Encoding: {}",
                shown(other)
            )));
        }
    };
    let spans = read(&bytes).map_err(|error| MlflowError::invalid(error.to_string()))?;
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
    for (id, spans) in by_trace {
        take_in(&visitor, &experiment, id, spans).await?;
    }
    Ok(answer)
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, MlflowError> {
    let mut bytes = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(packed).take(BODY_BYTES_MAX as u64 + 1);
    let read = reader.read_to_end(&mut bytes);
    match read {
        Ok(_) if bytes.len() <= BODY_BYTES_MAX => Ok(bytes),
        Ok(_) => Err(MlflowError::invalid(
            "the body is too long once it is unpacked",
        )),
        Err(_) => Err(MlflowError::invalid("the body is no gzip")),
    }
}

/// Adds spans to their trace, which is made if it is new.
async fn take_in(
    visitor: &Visitor,
    experiment: &Experiment,
    id: String,
    spans: Vec<otlp::Span>,
) -> Result<(), MlflowError> {
    let first = spans.iter().map(|span| span.began_nanos).min();
    let mut trace = Trace {
        id: id.clone(),
        began_at: Timestamp::from_millis(first.unwrap_or_default() / 1_000_000),
        state: "IN_PROGRESS".to_owned(),
        ..Trace::empty()
    };
    // What is known of the trace already is put together with this where it is written.
    if let Some(root) = spans.iter().find(|span| span.is_root) {
        trace.state = if root.failed { "ERROR" } else { "OK" }.to_owned();
        trace.took_ms = Some(root.ended_nanos.saturating_sub(root.began_nanos) / 1_000_000);
        trace.tags.insert(NAME_TAG.to_owned(), root.name.clone());
        trace.request_preview = root.inputs.clone().map(|text| cut(text, 1_000));
        trace.response_preview = root.outputs.clone().map(|text| cut(text, 1_000));
    }
    let step = |span: otlp::Span| TraceSpan {
        trace: id.clone(),
        span: span.id,
        began_nanos: span.began_nanos,
        body: span.json.to_string(),
    };
    let spans = spans.into_iter().map(step).collect();
    keep(visitor, experiment, trace, spans).await
}

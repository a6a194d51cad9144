//! Traces as MLflow 2 writes them: begun, then ended.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::Path;
use lepton_access::Access;
use lepton_store::TraceChange;
use lepton_types::resources::Kind;
use lepton_types::trace::Trace;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ask::{Ask, Pair, Visitor, int, list, need, word};
use super::error::{Answer, MlflowError};
use super::experiments::{default_id, find_active};
use super::rules::check_time;
use super::trace_search::{Search, found};
use super::traces::{bounded, change, find, keep, own_tags};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Write {
    experiment_id: Option<String>,
    #[serde(deserialize_with = "int")]
    timestamp_ms: Option<i64>,
    #[serde(deserialize_with = "word")]
    status: Option<String>,
    #[serde(deserialize_with = "list")]
    request_metadata: Vec<Pair>,
    #[serde(deserialize_with = "list")]
    tags: Vec<Pair>,
}

fn map_of(pairs: Vec<Pair>) -> BTreeMap<String, String> {
    let pair = |pair: Pair| (pair.key.unwrap_or_default(), pair.value.unwrap_or_default());
    pairs.into_iter().map(pair).collect()
}

#[derive(Serialize)]
pub(super) struct One {
    trace_info: Value,
}

pub(super) async fn start(visitor: Visitor, Ask(ask): Ask<Write>) -> Answer<One> {
    visitor.may(Access::Write, Kind::Experiment)?;
    let experiment = find_active(&visitor, need(&ask.experiment_id, "experiment_id")?).await?;
    let mut trace = Trace::empty();
    trace.id = visitor.app.ids.next_id().to_string();
    trace.began_at = check_time(ask.timestamp_ms.unwrap_or_default(), "timestamp_ms")?;
    trace.state = "IN_PROGRESS".to_owned();
    trace.metadata = bounded(map_of(ask.request_metadata))?;
    trace.tags = own_tags(map_of(ask.tags))?;
    let id = trace.id.clone();
    keep(&visitor, &experiment, trace).await?;
    one(&visitor, &id).await
}

async fn one(visitor: &Visitor, id: &str) -> Answer<One> {
    let (experiment, trace) = find(visitor, id).await?;
    let experiment_id = default_id(visitor).await?.id_of(experiment.into());
    let trace_info = second(trace, &experiment_id);
    Ok(Json(One { trace_info }))
}

pub(super) async fn end(
    visitor: Visitor,
    Path(id): Path<String>,
    Ask(ask): Ask<Write>,
) -> Answer<One> {
    visitor.may(Access::Write, Kind::Experiment)?;
    let ended = ask
        .timestamp_ms
        .ok_or_else(|| MlflowError::required("timestamp_ms"))?;
    let state = match ask.status.as_deref() {
        Some("OK" | "1") => "OK",
        Some("ERROR" | "2") => "ERROR",
        Some("IN_PROGRESS" | "3") => "IN_PROGRESS",
        _ => "TRACE_STATUS_UNSPECIFIED",
    };
    let of_trace = TraceChange {
        ended_at: Some(check_time(ended, "timestamp_ms")?),
        state: Some(state.to_owned()),
        metadata: bounded(map_of(ask.request_metadata))?,
        tags: own_tags(map_of(ask.tags))?,
        ..TraceChange::default()
    };
    change(&visitor, &id, of_trace).await?;
    one(&visitor, &id).await
}

pub(super) async fn get(visitor: Visitor, Path(id): Path<String>) -> Answer<One> {
    visitor.may(Access::Read, Kind::Experiment)?;
    one(&visitor, &id).await
}

#[derive(Serialize)]
pub(super) struct Page {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    traces: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(super) async fn search(visitor: Visitor, Ask(ask): Ask<Search>) -> Answer<Page> {
    visitor.may(Access::Read, Kind::Experiment)?;
    let default = default_id(&visitor).await?;
    let (found, next_page_token) = found(&visitor, &ask, default).await?;
    let traces = found
        .into_iter()
        .map(|(id, trace)| second(trace, &default.id_of(id.into())))
        .collect();
    Ok(Json(Page {
        traces,
        next_page_token,
    }))
}

/// What clients before MLflow 3 read of a trace.
fn second(trace: Trace, experiment_id: &str) -> Value {
    let pairs = |map: BTreeMap<String, String>| -> Vec<Value> {
        let pair = |(key, value): (String, String)| json!({"key": key, "value": value});
        map.into_iter().map(pair).collect()
    };
    let mut info = json!({
        "request_id": trace.id,
        "experiment_id": experiment_id,
        "timestamp_ms": trace.began_at.as_millis(),
        "status": trace.state,
        "request_metadata": pairs(trace.metadata),
        "tags": pairs(trace.tags),
    });
    if let Some(ms) = trace.took_ms {
        info["execution_time_ms"] = ms.into();
    }
    info
}

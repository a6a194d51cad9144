//! Traces of models and agents, in the form of MLflow 3 and in that of OpenTelemetry.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use lepton_access::{Access, Principal};
use lepton_store::{TraceChange, Transaction};
use lepton_types::resources::{Experiment, Kind};
use lepton_types::trace::{Trace, TraceSpan};
use lepton_types::{Id, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ask::{Ask, Visitor, list, need};
use super::assessments::{AssessmentWire, read_all};
use super::error::{Answer, MlflowError, shown};
use super::experiments::{default_id, find_active};
use super::rules::{KEY_CHARS_MAX, TAG_CHARS_MAX, check_key, cut, in_calendar};
use super::wire::{DefaultExperiment, Done, artifact_location};

/// Traces that are read at once when they are searched or deleted.
pub(super) const PIECE: usize = 500;

/// The tags that say where the files and the spans of a trace are.
const LOCATION_TAG: &str = "mlflow.artifactLocation";
const SPANS_TAG: &str = "mlflow.trace.spansLocation";
pub(super) const NAME_TAG: &str = "mlflow.traceName";

/// Bytes of one answer that carries spans.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Tags and metadata of a trace, the length of each, of the client's own name, and of a preview.
const PAIRS_MAX: usize = 1_000;
const PREVIEW_CHARS_MAX: usize = 10_000;

/// The longest id of a trace.
const ID_BYTES_MAX: usize = 256;

/// A trace as MLflow 3 writes it.
#[derive(Debug, Serialize, Deserialize, Default)]
#[serde(default)]
pub(super) struct TraceInfo {
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_request_id: Option<String>,
    trace_location: Location,
    request_time: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    execution_duration: Value,
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_preview: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_preview: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    trace_metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    assessments: Vec<AssessmentWire>,
}

#[derive(Debug, Serialize, Deserialize, Default)]
#[serde(default)]
pub(super) struct Location {
    r#type: String,
    pub(super) mlflow_experiment: Option<InExperiment>,
}

#[derive(Debug, Serialize, Deserialize, Default)]
#[serde(default)]
pub(super) struct InExperiment {
    pub(super) experiment_id: String,
}

impl TraceInfo {
    pub(super) fn of(trace: Trace, experiment_id: String) -> Self {
        let said = trace.assessments.iter();
        Self {
            assessments: said.map(|it| AssessmentWire::of(it, &trace.id)).collect(),
            trace_id: trace.id,
            client_request_id: trace.client_request_id,
            trace_location: Location {
                r#type: "MLFLOW_EXPERIMENT".to_owned(),
                mlflow_experiment: Some(InExperiment { experiment_id }),
            },
            request_time: in_calendar(trace.began_at).to_string().into(),
            execution_duration: trace.took_ms.map_or(Value::Null, |ms| seconds(ms).into()),
            state: Some(trace.state),
            request_preview: trace.request_preview,
            response_preview: trace.response_preview,
            trace_metadata: trace.metadata,
            tags: trace.tags,
        }
    }

    fn read(self) -> Result<Trace, MlflowError> {
        let invalid = |what: &str| MlflowError::invalid(format!("Invalid {what} of a trace"));
        check_id(&self.trace_id)?;
        let text = self.request_time.as_str().unwrap_or_default();
        Ok(Trace {
            began_at: parse_time(text).ok_or_else(|| invalid("request_time"))?,
            took_ms: match &self.execution_duration {
                Value::Null => None,
                Value::String(text) => {
                    Some(parse_seconds(text).ok_or_else(|| invalid("execution_duration"))?)
                }
                _ => return Err(invalid("execution_duration")),
            },
            id: self.trace_id,
            client_request_id: self.client_request_id.map(|text| cut(text, KEY_CHARS_MAX)),
            state: self
                .state
                .map_or(Ok("STATE_UNSPECIFIED"), |state| known_state(&state))?
                .to_owned(),
            request_preview: self.request_preview.map(preview),
            response_preview: self.response_preview.map(preview),
            created_by: String::new(),
            complete: false,
            metadata: bounded(self.trace_metadata)?,
            tags: bounded(self.tags)?,
            assessments: Vec::new(),
        })
    }
}

/// Where a trace may stand, in MLflow's words and by protobuf's numbers.
fn known_state(state: &str) -> Result<&'static str, MlflowError> {
    Ok(match state {
        "STATE_UNSPECIFIED" | "0" => "STATE_UNSPECIFIED",
        "OK" | "1" => "OK",
        "ERROR" | "2" => "ERROR",
        "IN_PROGRESS" | "3" => "IN_PROGRESS",
        other => {
            return Err(MlflowError::invalid(format!(
                "Invalid state of a trace: '{}'",
                shown(other)
            )));
        }
    })
}

fn preview(text: String) -> String {
    cut(text, PREVIEW_CHARS_MAX)
}

/// Tags that a client tells of; what says where files and spans are is left out, as the server knows it.
pub(super) fn own_tags(
    mut tags: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, MlflowError> {
    tags.retain(|key, _| check_free(key).is_ok());
    bounded(tags)
}

/// Tags or metadata of a trace: so many, each cut as MLflow's store cuts it.
pub(super) fn bounded(
    pairs: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, MlflowError> {
    if pairs.len() > PAIRS_MAX {
        return Err(MlflowError::invalid(format!(
            "a trace takes {PAIRS_MAX} tags, and as many pairs of metadata"
        )));
    }
    let pair = |(key, value)| (cut(key, KEY_CHARS_MAX), cut(value, TAG_CHARS_MAX));
    Ok(pairs.into_iter().map(pair).collect())
}

pub(super) fn check_id(id: &str) -> Result<(), MlflowError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    match !id.is_empty() && id.len() <= ID_BYTES_MAX && id.chars().all(fits) {
        true => Ok(()),
        false => Err(MlflowError::invalid(format!(
            "Invalid trace id '{}'",
            shown(id)
        ))),
    }
}

/// `0.18s`, as protobuf writes a duration.
fn seconds(ms: i64) -> String {
    match (ms / 1_000, ms % 1_000) {
        (whole, 0) => format!("{whole}s"),
        (whole, part) => format!("{whole}.{:03}s", part.abs()),
    }
}

fn parse_seconds(text: &str) -> Option<i64> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    let fits = seconds.is_finite() && seconds.abs() < 1e12;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be small")]
    fits.then_some((seconds * 1_000.0).round() as i64)
}

/// `2026-11-21T06:26:46.579Z`, as protobuf writes a time.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    let stamp: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(stamp.as_millisecond()))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Start {
    trace: Option<Whole>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Whole {
    trace_info: TraceInfo,
}

/// Records a trace. What its spans brought before stays.
pub(super) async fn start(visitor: Visitor, Ask(ask): Ask<Start>) -> Result<Response, MlflowError> {
    visitor.may(Access::Write, Kind::Experiment)?;
    let mut info = ask
        .trace
        .ok_or_else(|| MlflowError::required("trace"))?
        .trace_info;
    let said = read_all(&visitor.app, std::mem::take(&mut info.assessments))?;
    let place = info.trace_location.mlflow_experiment.as_ref();
    let named = place
        .map(|place| place.experiment_id.clone())
        .unwrap_or_default();
    let experiment = find_active(&visitor, need(&Some(named), "experiment_id")?).await?;
    let mut trace = info.read()?;
    trace
        .metadata
        .insert("mlflow.trace.infoFinalized".to_owned(), "true".to_owned());
    trace.complete = true;
    trace.assessments = said;
    let id = trace.id.clone();
    keep(&visitor, &experiment, trace).await?;
    one(&visitor, &id, None).await
}

/// Writes what is told of a trace.
pub(super) async fn keep(
    visitor: &Visitor,
    experiment: &Experiment,
    trace: Trace,
) -> Result<(), MlflowError> {
    let mut transaction = Transaction::new();
    add_trace(visitor, &mut transaction, experiment, trace);
    visitor.app.store.commit(transaction).await?;
    Ok(())
}

/// Adds what is told of a trace, and where its files are. A workload tells only of its own.
pub(super) fn add_trace(
    visitor: &Visitor,
    transaction: &mut Transaction,
    experiment: &Experiment,
    mut trace: Trace,
) {
    let root = artifact_location(experiment);
    let root = root.trim_end_matches('/');
    let location = format!("{root}/traces/{}/artifacts", trace.id);
    trace.tags.insert(LOCATION_TAG.to_owned(), location);
    trace.created_by = visitor.caller.0.label();
    require_maker(visitor, transaction, &trace.id);
    transaction
        .require_experiment(experiment.metadata.id.into())
        .merge_trace(&visitor.project, experiment.metadata.id, trace);
}

/// Adds steps of a trace that is there.
pub(super) fn add_spans(
    visitor: &Visitor,
    transaction: &mut Transaction,
    id: &str,
    spans: Vec<TraceSpan>,
) {
    let kept_here = [(SPANS_TAG.to_owned(), "TRACKING_STORE".to_owned())];
    let of_trace = TraceChange {
        tags: kept_here.into(),
        ..TraceChange::default()
    };
    require_maker(visitor, transaction, id);
    transaction
        .change_trace(&visitor.project, id, of_trace)
        .put_spans(&visitor.project, spans);
}

fn require_maker(visitor: &Visitor, transaction: &mut Transaction, id: &str) {
    if let Principal::Workload { .. } = &visitor.caller.0 {
        transaction.require_trace_maker(&visitor.project, id, &visitor.caller.0.label());
    }
}

pub(super) fn missing(id: &str) -> MlflowError {
    MlflowError::missing(format!("Trace with ID '{}' not found.", shown(id)))
}

/// The trace of this id, and its experiment.
pub(super) async fn find(visitor: &Visitor, id: &str) -> Result<(Id, Trace), MlflowError> {
    let found = visitor.app.store.trace(&visitor.project, id).await?;
    found.ok_or_else(|| missing(id))
}

/// A trace, with its spans if so many bytes of them may be read.
async fn one(visitor: &Visitor, id: &str, spans_max: Option<u64>) -> Result<Response, MlflowError> {
    let default = default_id(visitor).await?;
    let mut text = "{\"trace\":".to_owned();
    write(visitor, id, spans_max, default, &mut text).await?;
    text.push('}');
    Ok(json(text))
}

fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// Writes a trace as clients read it. Spans are kept as they are written here, so none is parsed.
async fn write(
    visitor: &Visitor,
    id: &str,
    spans_max: Option<u64>,
    default: DefaultExperiment,
    text: &mut String,
) -> Result<(), MlflowError> {
    let (experiment, trace) = find(visitor, id).await?;
    let info = TraceInfo::of(trace, default.id_of(experiment.into()));
    let info = serde_json::to_string(&info).expect("invariant: texts serialise");
    text.push_str("{\"trace_info\":");
    text.push_str(&info);
    if let Some(most) = spans_max {
        let store = &visitor.app.store;
        let spans = store.spans(&visitor.project, id, most).await?;
        let spans = spans.ok_or_else(|| {
            MlflowError::invalid(format!(
                "An answer holds at most {most} bytes more of spans, and trace '{}' has more: ask \
                 for fewer traces at once",
                shown(id)
            ))
        })?;
        if !spans.is_empty() {
            text.push_str(",\"spans\":[");
            text.push_str(&spans.join(","));
            text.push(']');
        }
    }
    text.push('}');
    Ok(())
}

pub(super) async fn get_info(
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, MlflowError> {
    visitor.may(Access::Read, Kind::Experiment)?;
    one(&visitor, &id, None).await
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ById {
    trace_id: Option<String>,
    #[serde(deserialize_with = "list")]
    trace_ids: Vec<String>,
}

pub(super) async fn get(visitor: Visitor, Ask(ask): Ask<ById>) -> Result<Response, MlflowError> {
    visitor.may(Access::Read, Kind::Experiment)?;
    one(
        &visitor,
        need(&ask.trace_id, "trace_id")?,
        Some(ANSWER_BYTES_MAX),
    )
    .await
}

/// Traces with their spans, each once; those that are not there are left out.
pub(super) async fn batch_get(
    visitor: Visitor,
    Ask(ask): Ask<ById>,
) -> Result<Response, MlflowError> {
    visitor.may(Access::Read, Kind::Experiment)?;
    if ask.trace_ids.is_empty() || ask.trace_ids.len() > PIECE {
        return Err(MlflowError::invalid(format!(
            "`trace_ids` takes 1 to {PIECE} ids"
        )));
    }
    let default = default_id(&visitor).await?;
    let mut seen = BTreeSet::new();
    let mut text = "{\"traces\":[".to_owned();
    for id in ask.trace_ids.iter().filter(|id| seen.insert(id.as_str())) {
        let before = text.len();
        if !text.ends_with('[') {
            text.push(',');
        }
        let left = ANSWER_BYTES_MAX.saturating_sub(text.len() as u64);
        match write(&visitor, id, Some(left), default, &mut text).await {
            Err(error) if error.code == super::error::Code::ResourceDoesNotExist => {
                text.truncate(before);
            }
            written => written?,
        }
    }
    text.push_str("]}");
    Ok(json(text))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct TagOf {
    key: Option<String>,
    value: Option<String>,
}

/// Changes a trace as it is when it is written. A workload changes only those that it made.
pub(super) async fn change(
    visitor: &Visitor,
    id: &str,
    change: TraceChange,
) -> Result<(), MlflowError> {
    visitor.may(Access::Write, Kind::Experiment)?;
    let mut transaction = Transaction::new();
    require_maker(visitor, &mut transaction, id);
    transaction.change_trace(&visitor.project, id, change);
    visitor.app.store.commit(transaction).await?;
    Ok(())
}

pub(super) async fn set_tag(
    visitor: Visitor,
    Path(id): Path<String>,
    Ask(ask): Ask<TagOf>,
) -> Answer<Done> {
    let key = need(&ask.key, "key")?.to_owned();
    check_key(&key, "key")?;
    check_free(&key)?;
    let value = cut(ask.value.unwrap_or_default(), TAG_CHARS_MAX);
    let of_trace = TraceChange {
        tags: BTreeMap::from([(key, value)]),
        ..TraceChange::default()
    };
    change(&visitor, &id, of_trace).await?;
    Ok(Json(Done {}))
}

/// Some tags say where things are, and are the server's own.
fn check_free(key: &str) -> Result<(), MlflowError> {
    match key {
        SPANS_TAG | LOCATION_TAG => Err(MlflowError::invalid(format!(
            "Tag '{key}' is immutable and cannot be changed on a trace."
        ))),
        _ => Ok(()),
    }
}

pub(super) async fn delete_tag(
    visitor: Visitor,
    Path(id): Path<String>,
    Ask(ask): Ask<TagOf>,
) -> Answer<Done> {
    let key = need(&ask.key, "key")?.to_owned();
    check_free(&key)?;
    let of_trace = TraceChange {
        dropped_tag: Some(key),
        ..TraceChange::default()
    };
    change(&visitor, &id, of_trace).await?;
    Ok(Json(Done {}))
}

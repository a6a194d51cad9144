//! Searching traces: newest first, a piece at a time, until the page is full.

use axum::Json;
use lepton_access::Access;
use lepton_store::Test;
use lepton_types::Id;
use lepton_types::resources::Kind;
use lepton_types::trace::Trace;
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Visitor, given, int, list};
use super::error::{Answer, MlflowError, shown};
use super::experiments::{default_id, ids_of};
use super::filter::{self, Comparison, More};
use super::pages;
use super::traces::{Location, NAME_TAG, PIECE, TraceInfo};
use super::wire::DefaultExperiment;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Search {
    #[serde(deserialize_with = "list")]
    locations: Vec<Location>,
    #[serde(deserialize_with = "list")]
    pub(super) experiment_ids: Vec<String>,
    pub(super) filter: Option<String>,
    #[serde(deserialize_with = "int")]
    pub(super) max_results: Option<i64>,
    #[serde(deserialize_with = "list")]
    pub(super) order_by: Vec<String>,
    pub(super) page_token: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Page {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    traces: Vec<TraceInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(super) async fn search(visitor: Visitor, Ask(mut ask): Ask<Search>) -> Answer<Page> {
    visitor.may(Access::Read, Kind::Experiment)?;
    let places = ask
        .locations
        .iter()
        .filter_map(|place| place.mlflow_experiment.as_ref());
    ask.experiment_ids
        .extend(places.map(|place| place.experiment_id.clone()));
    let default = default_id(&visitor).await?;
    let (found, next_page_token) = found(&visitor, &ask, default).await?;
    let info = |(id, trace): (Id, Trace)| TraceInfo::of(trace, default.id_of(id.into()));
    let traces = found.into_iter().map(info).collect();
    Ok(Json(Page {
        traces,
        next_page_token,
    }))
}

/// The traces that a search asks for, and the token of the next page.
pub(super) async fn found(
    visitor: &Visitor,
    ask: &Search,
    default: DefaultExperiment,
) -> Result<(Vec<(Id, Trace)>, Option<String>), MlflowError> {
    let limit = pages::limit(ask.max_results, 100, PIECE)?;
    let offset = pages::offset(ask.page_token.as_deref())?;
    let comparisons = filter::parse(given(ask.filter.as_ref()).unwrap_or_default())?;
    for comparison in &comparisons {
        holds(comparison, &Trace::empty())?;
    }
    let order = filter::parse_order(&ask.order_by)?;
    let known = [
        "timestamp_ms",
        "timestamp",
        "request_time",
        "execution_time_ms",
        "execution_time",
        "status",
        "name",
    ];
    if let Some(by) = order.iter().find(|by| !known.contains(&by.key.as_str())) {
        let key = shown(&by.key);
        return Err(MlflowError::invalid(format!(
            "Invalid order_by key '{key}' of traces"
        )));
    }
    let experiments = ids_of(&ask.experiment_ids, default)?;
    let newest_first = order.is_empty();
    let wanted = usize::try_from(offset)
        .unwrap_or(usize::MAX)
        .saturating_add(limit + 1);
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let (store, project) = (&visitor.app.store, &visitor.project);
        let piece = store
            .traces(project, experiments.clone(), before, PIECE)
            .await?;
        before = piece
            .last()
            .map(|(_, trace)| (trace.began_at, trace.id.clone()));
        let last = piece.len() < PIECE;
        for (experiment, trace) in piece {
            let fits = comparisons
                .iter()
                .all(|c| holds(c, &trace).unwrap_or(false));
            if fits {
                all.push((experiment, trace));
            }
        }
        if last || (newest_first && all.len() >= wanted) {
            break;
        }
    }
    all.sort_by(|(_, a), (_, b)| {
        let by = |by: &filter::Order| {
            let way = match by.key.as_str() {
                "execution_time_ms" | "execution_time" => a.took_ms.cmp(&b.took_ms),
                "status" => a.state.cmp(&b.state),
                "name" => a.tags.get(NAME_TAG).cmp(&b.tags.get(NAME_TAG)),
                _ => a.began_at.cmp(&b.began_at),
            };
            if by.descending { way.reverse() } else { way }
        };
        let newest = || b.began_at.cmp(&a.began_at).then_with(|| b.id.cmp(&a.id));
        order
            .iter()
            .map(by)
            .find(|way| way.is_ne())
            .unwrap_or_else(newest)
    });
    Ok(pages::cut(all, offset, limit))
}

/// Whether a comparison holds, or why it cannot be asked.
fn holds(comparison: &Comparison, trace: &Trace) -> Result<bool, MlflowError> {
    let text = |value: Option<&str>| -> Result<bool, MlflowError> {
        let test: Test = comparison.text_test(More::Absence)?;
        Ok(test.holds_for_text(value))
    };
    #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
    let number = |value: Option<i64>| -> Result<bool, MlflowError> {
        let test = comparison.number_test()?;
        Ok(test.holds_for_number(value.map(|value| value as f64)))
    };
    let key = comparison.key.as_str();
    let metadata = |key: &str| trace.metadata.get(key).map(String::as_str);
    match (comparison.entity.as_deref(), key) {
        (Some("tag" | "tags"), key) => text(trace.tags.get(key).map(String::as_str)),
        (Some("metadata" | "request_metadata" | "trace_metadata"), key) => text(metadata(key)),
        (None | Some("attribute" | "attributes" | "attr" | "trace"), key) => match key {
            "status" | "state" => text(Some(&trace.state)),
            "name" | "trace_name" => text(trace.tags.get(NAME_TAG).map(String::as_str)),
            "request_id" | "trace_id" => text(Some(&trace.id)),
            "run_id" => text(metadata("mlflow.sourceRun")),
            "client_request_id" => text(trace.client_request_id.as_deref()),
            "timestamp" | "timestamp_ms" | "request_time" => {
                number(Some(trace.began_at.as_millis()))
            }
            "execution_time" | "execution_time_ms" | "execution_duration" => number(trace.took_ms),
            key => Err(MlflowError::invalid(format!(
                "Invalid attribute key '{}' of traces",
                shown(key)
            ))),
        },
        (Some(entity), _) => Err(MlflowError::invalid(format!(
            "Invalid entity type '{}' of traces. Valid values are tag, metadata and attribute",
            shown(entity)
        ))),
    }
}

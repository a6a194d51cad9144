//! Searching traces: newest first, a piece at a time, until the page is full.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use axum::Json;
use lepton_access::Access;
use lepton_types::resources::Kind;
use lepton_types::trace::{Trace, Verdict};
use lepton_types::{Id, Timestamp};
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Visitor, given, int, list};
use super::error::{Answer, MlflowError, shown};
use super::experiments::{default_id, ids_of};
use super::filter::{self, Comparison};

use super::pages;
use super::rules::cut;
use super::trace_filter::holds;
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
) -> Result<Traces, MlflowError> {
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
    let search = Matching {
        visitor,
        experiments: ids_of(&ask.experiment_ids, default)?,
        comparisons,
    };
    match order.is_empty() {
        true => search.newest(offset, limit).await,
        false => search.in_order(&order, offset, limit).await,
    }
}

/// A page of traces, each with its experiment, and the token of the next.
type Traces = (Vec<(Id, Trace)>, Option<String>);

/// Bytes of traces on one page; one that holds more ends early.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// How far the pages of a search by something else than time reach: what lies before a page is kept
/// in memory while it is looked for.
const ORDERED_MAX: u64 = 100_000;

/// The traces that meet a filter.
struct Matching<'a> {
    visitor: &'a Visitor,
    experiments: Vec<Id>,
    comparisons: Vec<Comparison>,
}

impl Matching<'_> {
    /// Shows them to `take`, newest first, until it says that it has enough.
    async fn each(
        &self,
        mut take: impl FnMut(Id, Trace) -> ControlFlow<()>,
    ) -> Result<(), MlflowError> {
        let (store, project) = (&self.visitor.app.store, &self.visitor.project);
        let mut before = None;
        loop {
            let experiments = self.experiments.clone();
            let piece = store.traces(project, experiments, before, PIECE).await?;
            let Some((_, last)) = piece.last() else {
                return Ok(());
            };
            before = Some((last.began_at, last.id.clone()));
            for (experiment, trace) in piece {
                let mut comparisons = self.comparisons.iter();
                let fits = comparisons.all(|c| holds(c, &trace).unwrap_or(false));
                if fits && take(experiment, trace).is_break() {
                    return Ok(());
                }
            }
        }
    }

    async fn newest(&self, offset: u64, limit: usize) -> Result<Traces, MlflowError> {
        let (mut page, mut skipped, mut bytes, mut more) = (Vec::new(), 0, 0, false);
        self.each(|experiment, trace| {
            if skipped < offset {
                skipped += 1;
                return ControlFlow::Continue(());
            }
            if page.len() == limit || bytes > PAGE_BYTES_MAX {
                more = true;
                return ControlFlow::Break(());
            }
            bytes += weight(&trace);
            page.push((experiment, trace));
            ControlFlow::Continue(())
        })
        .await?;
        let next = more.then(|| pages::token(offset + page.len() as u64));
        Ok((page, next))
    }

    /// Keeps what decides the order and no more, and reads the page by its ids.
    async fn in_order(
        &self,
        order: &[filter::Order],
        offset: u64,
        limit: usize,
    ) -> Result<Traces, MlflowError> {
        let wanted = offset.saturating_add(limit as u64 + 1);
        if wanted > ORDERED_MAX {
            return Err(MlflowError::invalid(format!(
                "a search in an order of its own reaches {ORDERED_MAX} traces: narrow it by a filter"
            )));
        }
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let mut first: Vec<Place> = Vec::new();
        self.each(|_, trace| {
            first.push(Place::of(order, &trace));
            if first.len() >= 2 * wanted {
                first.sort_unstable();
                first.truncate(wanted);
            }
            ControlFlow::Continue(())
        })
        .await?;
        first.sort_unstable();
        first.truncate(wanted);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let (mut page, mut bytes, mut next) = (Vec::new(), 0, None);
        for (at, place) in first.into_iter().enumerate().skip(from) {
            if page.len() == limit || bytes > PAGE_BYTES_MAX {
                next = Some(pages::token(at as u64));
                break;
            }
            let (store, project) = (&self.visitor.app.store, &self.visitor.project);
            // What is deleted meanwhile is left out.
            if let Some(found) = store.trace(project, &place.id.0).await? {
                bytes += weight(&found.1);
                page.push(found);
            }
        }
        Ok((page, next))
    }
}

/// Where a trace stands in an order: by what was asked for, then the newest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    keys: Vec<Key>,
    began_at: Reverse<Timestamp>,
    id: Reverse<String>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Up(Value),
    Down(Reverse<Value>),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Number(Option<i64>),
    Text(Option<String>),
}

impl Place {
    fn of(order: &[filter::Order], trace: &Trace) -> Self {
        let text = |text: Option<&String>| Value::Text(text.map(|t| cut(t.clone(), 256)));
        let key = |by: &filter::Order| {
            let value = match by.key.as_str() {
                "execution_time_ms" | "execution_time" => Value::Number(trace.took_ms),
                "status" => text(Some(&trace.state)),
                "name" => text(trace.tags.get(NAME_TAG)),
                _ => Value::Number(Some(trace.began_at.as_millis())),
            };
            match by.descending {
                true => Key::Down(Reverse(value)),
                false => Key::Up(value),
            }
        };
        Self {
            keys: order.iter().map(key).collect(),
            began_at: Reverse(trace.began_at),
            id: Reverse(trace.id.clone()),
        }
    }
}

/// What a trace takes on a page, about.
fn weight(trace: &Trace) -> usize {
    let pairs = trace.tags.iter().chain(&trace.metadata);
    let pairs: usize = pairs.map(|(key, value)| key.len() + value.len()).sum();
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let said = trace.assessments.iter().map(|said| {
        let value = match &said.verdict {
            Verdict::Feedback(value) | Verdict::Expectation(value) | Verdict::Issue(value) => value,
        };
        let pairs = said
            .metadata
            .iter()
            .map(|(key, value)| key.len() + value.len());
        value.to_string().len() + text(&said.rationale) + pairs.sum::<usize>() + 512
    });
    let said: usize = said.sum();
    pairs + said + text(&trace.request_preview) + text(&trace.response_preview) + 256
}

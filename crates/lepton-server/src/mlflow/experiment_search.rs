//! Searching experiments. There are few enough to look at each.

use axum::Json;
use lepton_access::Access;
use lepton_store::{Query, Test};
use lepton_types::Timestamp;
use lepton_types::resources::{Experiment, ExperimentSpec, Kind};
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Visitor, int, list, word};
use super::error::{Answer, MlflowError, shown};
use super::experiments::default_experiment;
use super::filter::{self, Comparison, More, Order};
use super::pages;
use super::wire::{ExperimentWire, experiment_id};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Search {
    #[serde(deserialize_with = "int")]
    max_results: Option<i64>,
    page_token: Option<String>,
    filter: Option<String>,
    #[serde(deserialize_with = "list")]
    order_by: Vec<String>,
    #[serde(deserialize_with = "word")]
    view_type: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Page {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    experiments: Vec<ExperimentWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(super) async fn search(visitor: Visitor, Ask(ask): Ask<Search>) -> Answer<Page> {
    visitor.may(Access::Read, Kind::Experiment)?;
    let limit = pages::limit(ask.max_results, 1_000, 50_000)?;
    let offset = pages::offset(ask.page_token.as_deref())?;
    let lifecycle = pages::lifecycle(ask.view_type.as_deref())?;
    let comparisons = filter::parse(ask.filter.as_deref().unwrap_or_default())?;
    for comparison in &comparisons {
        check(comparison)?;
    }
    let mut order = filter::parse_order(&ask.order_by)?;
    for by in &order {
        check_order(by)?;
    }
    if order.is_empty() {
        order = filter::parse_order(&["creation_time DESC".to_owned()])?;
    }
    if visitor.may(Access::Write, Kind::Experiment).is_ok() {
        default_experiment(&visitor).await?;
    }
    let query = Query::project(&visitor.project);
    let mut found = visitor.app.store.list_all::<ExperimentSpec>(query).await?;
    found.retain(|experiment| {
        lifecycle.includes(experiment.status.deleted_at.is_some())
            && comparisons
                .iter()
                .all(|comparison| holds(comparison, experiment))
    });
    found.sort_by(|a, b| {
        let by = |by: &Order| by_key(&by.key, a, b, by.descending);
        let ties = || b.metadata.id.cmp(&a.metadata.id);
        order
            .iter()
            .map(by)
            .find(|way| way.is_ne())
            .unwrap_or_else(ties)
    });
    let (page, next_page_token) = pages::cut(found, offset, limit);
    Ok(Json(Page {
        experiments: page.into_iter().map(ExperimentWire::of).collect(),
        next_page_token,
    }))
}

/// Refuses comparisons that experiments do not take.
fn check(comparison: &Comparison) -> Result<(), MlflowError> {
    match (comparison.entity.as_deref(), comparison.key.as_str()) {
        (Some("tag" | "tags"), _) => comparison.text_test(More::Absence).map(drop),
        (None | Some("attribute" | "attributes" | "attr"), "name") => {
            comparison.text_test(More::Nothing).map(drop)
        }
        (None | Some("attribute" | "attributes" | "attr"), "experiment_id") => {
            match comparison.text_test(More::Lists)? {
                Test::Like(_) | Test::LikeAnyCase(_) => Err(MlflowError::invalid(
                    "Invalid comparator for experiment_id: use =, !=, IN or NOT IN",
                )),
                _ => Ok(()),
            }
        }
        (
            None | Some("attribute" | "attributes" | "attr"),
            "creation_time" | "last_update_time",
        ) => comparison.whole_test().map(drop),
        _ => Err(MlflowError::invalid(format!(
            "Invalid attribute key '{}' specified. Valid keys are 'creation_time', \
             'experiment_id', 'last_update_time', 'name', and tags",
            shown(&comparison.subject())
        ))),
    }
}

fn check_order(order: &Order) -> Result<(), MlflowError> {
    let known = ["name", "experiment_id", "creation_time", "last_update_time"];
    let attribute = matches!(
        order.entity.as_deref(),
        None | Some("attribute" | "attributes")
    );
    match attribute && known.contains(&order.key.as_str()) {
        true => Ok(()),
        false => Err(MlflowError::invalid(format!(
            "Invalid attribute key '{}' specified. Valid keys are {}",
            shown(&order.key),
            known.join(", ")
        ))),
    }
}

fn updated(experiment: &Experiment) -> Timestamp {
    experiment
        .status
        .updated_at
        .unwrap_or(experiment.metadata.created_at)
}

/// Whether a comparison that [`check`] let through holds.
fn holds(comparison: &Comparison, experiment: &Experiment) -> bool {
    let text = |test: &Test, text: Option<&str>| test.holds_for_text(text);
    #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
    let number = |at: Timestamp| {
        comparison
            .number_test()
            .is_ok_and(|test| test.holds_for_number(Some(at.as_millis() as f64)))
    };
    if matches!(comparison.entity.as_deref(), Some("tag" | "tags")) {
        let tag = experiment
            .spec
            .tags
            .get(&comparison.key)
            .map(String::as_str);
        return comparison
            .text_test(More::Absence)
            .is_ok_and(|test| text(&test, tag));
    }
    let test = comparison.text_test(More::Lists);
    match comparison.key.as_str() {
        "name" => test.is_ok_and(|test| text(&test, Some(&experiment.metadata.name))),
        "experiment_id" => test.is_ok_and(|test| text(&test, Some(&experiment_id(experiment)))),
        "creation_time" => number(experiment.metadata.created_at),
        _ => number(updated(experiment)),
    }
}

fn by_key(key: &str, a: &Experiment, b: &Experiment, descending: bool) -> std::cmp::Ordering {
    let way = match key {
        "name" => a.metadata.name.cmp(&b.metadata.name),
        "experiment_id" => a.metadata.id.cmp(&b.metadata.id),
        "creation_time" => a.metadata.created_at.cmp(&b.metadata.created_at),
        _ => updated(a).cmp(&updated(b)),
    };
    if descending { way.reverse() } else { way }
}

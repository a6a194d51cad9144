//! Searching logged models.

use axum::Json;
use lepton_access::Access;
use lepton_store::{LoggedModelRecord, Test};
use lepton_types::resources::Kind;
use lepton_types::tracking::{LoggedModelPhase, ModelMetric};
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Visitor, given, int, list, need, truth};
use super::error::{Answer, MlflowError, shown};
use super::experiments::{default_id, ids_of};
use super::filter::{self, Comparison, More};
use super::pages;
use super::wire::{DefaultExperiment, LoggedModelWire, model_id};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Search {
    #[serde(deserialize_with = "list")]
    experiment_ids: Vec<String>,
    filter: Option<String>,
    #[serde(deserialize_with = "list")]
    datasets: Vec<DatasetFilter>,
    #[serde(deserialize_with = "int")]
    max_results: Option<i64>,
    #[serde(deserialize_with = "list")]
    order_by: Vec<OrderBy>,
    page_token: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DatasetFilter {
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OrderBy {
    field_name: Option<String>,
    #[serde(deserialize_with = "truth")]
    ascending: Option<bool>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Page {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<LoggedModelWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(super) async fn search(visitor: Visitor, Ask(ask): Ask<Search>) -> Answer<Page> {
    visitor.may(Access::Read, Kind::Model)?;
    if ask.experiment_ids.is_empty() {
        return Err(MlflowError::required("experiment_ids"));
    }
    let limit = pages::limit(ask.max_results, 50, 5_000)?;
    let offset = pages::offset(ask.page_token.as_deref())?;
    if ask
        .datasets
        .iter()
        .any(|data| given(data.dataset_name.as_ref()).is_none())
    {
        return Err(MlflowError::invalid(
            "`dataset_name` in the `datasets` clause must be specified.",
        ));
    }
    let comparisons = filter::parse(ask.filter.as_deref().unwrap_or_default())?;
    let conditions: Vec<Condition> = comparisons
        .iter()
        .map(Condition::of)
        .collect::<Result<_, _>>()?;
    let orders: Vec<Order<'_>> = ask
        .order_by
        .iter()
        .map(Order::of)
        .collect::<Result<_, _>>()?;
    let default = default_id(&visitor).await?;
    let experiments = ids_of(&ask.experiment_ids, default)?;
    let wanted = offset.saturating_add(limit as u64 + 1);
    if wanted > FOUND_MAX {
        return Err(MlflowError::invalid(format!(
            "a search reaches {FOUND_MAX} logged models: narrow it by a filter"
        )));
    }
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let fits = |record: &LoggedModelRecord| {
        let measured = conditions.iter().any(Condition::is_metric);
        let on = |metric: &ModelMetric| is_on(metric, &ask.datasets);
        let mut conditions = conditions.iter();
        conditions.all(|c| c.holds(record, &ask.datasets, default))
            && (measured || ask.datasets.is_empty() || record.metrics.iter().any(on))
    };
    let compare = |a: &Place, b: &Place| {
        let by = |(order, (a, b)): (&Order<'_>, (&Key, &Key))| order.compare(a, b);
        let newest = || b.created.cmp(&a.created).then(a.id.cmp(&b.id));
        let keys = a.keys.iter().zip(&b.keys);
        let ways = orders.iter().zip(keys).map(by);
        ways.into_iter()
            .find(|way| way.is_ne())
            .unwrap_or_else(newest)
    };
    let mut first: Vec<Place> = Vec::new();
    for experiment in experiments {
        let mut after = None;
        loop {
            let (store, project) = (&visitor.app.store, &visitor.project);
            let piece = store.logged_models(project, experiment, after).await?;
            let Some(last) = piece.last() else {
                break;
            };
            after = Some(last.model.id);
            let found = piece.iter().filter(|record| fits(record));
            first.extend(found.map(|record| Place::of(&orders, record)));
            if first.len() >= 2 * wanted {
                first.sort_by(compare);
                first.truncate(wanted);
            }
        }
    }
    first.sort_by(compare);
    first.truncate(wanted);
    page_of(&visitor, first, offset, limit, default).await
}

/// Reads the models of a page, which ends early if they are long.
async fn page_of(
    visitor: &Visitor,
    first: Vec<Place>,
    offset: u64,
    limit: usize,
    default: DefaultExperiment,
) -> Answer<Page> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let (mut models, mut bytes, mut next_page_token) = (Vec::new(), 0, None);
    for (at, place) in first.into_iter().enumerate().skip(from) {
        if models.len() == limit || bytes > PAGE_BYTES_MAX {
            next_page_token = Some(pages::token(at as u64));
            break;
        }
        // What is deleted meanwhile is left out.
        if let Some(record) = visitor.app.store.logged_model(place.id).await? {
            bytes += weight(&record);
            models.push(LoggedModelWire::of(record, default));
        }
    }
    Ok(Json(Page {
        models,
        next_page_token,
    }))
}

/// Bytes of models on one page, about.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// How far the pages of a search reach: what lies before a page is kept in memory while it is
/// looked for.
const FOUND_MAX: u64 = 100_000;

fn weight(record: &LoggedModelRecord) -> usize {
    let pairs = record.params.iter().chain(&record.tags);
    let pairs: usize = pairs.map(|(key, value)| key.len() + value.len()).sum();
    pairs + 256 * record.metrics.len() + 1_024
}

/// Where a model stands in an order.
struct Place {
    keys: Vec<Key>,
    created: lepton_types::Timestamp,
    id: lepton_types::Id,
}

/// What decides an order.
enum Key {
    Number(Option<f64>),
    Text(Option<String>),
}

impl Place {
    fn of(orders: &[Order<'_>], record: &LoggedModelRecord) -> Self {
        Self {
            keys: orders.iter().map(|order| order.key(record)).collect(),
            created: record.model.created_at,
            id: record.model.id,
        }
    }
}

/// Whether something was measured on one of these data; on any, where none are named.
fn is_on(metric: &ModelMetric, datasets: &[DatasetFilter]) -> bool {
    let on = |data: &DatasetFilter| {
        let digest = given(data.dataset_digest.as_ref());
        data.dataset_name.as_deref() == Some(&metric.dataset_name)
            && digest.is_none_or(|digest| digest == metric.dataset_digest)
    };
    datasets.is_empty() || datasets.iter().any(on)
}

/// Something that must hold of a logged model.
struct Condition {
    field: Field,
    test: Test,
}

/// What a logged model is searched and ordered by.
enum Field {
    Metric(String),
    Param(String),
    Tag(String),
    Text(&'static str),
    Created,
    Updated,
}

impl Field {
    fn attribute(key: &str) -> Option<Self> {
        Some(match key {
            "name" => Self::Text("name"),
            "model_id" => Self::Text("model_id"),
            "model_type" => Self::Text("model_type"),
            "status" => Self::Text("status"),
            "source_run_id" => Self::Text("source_run_id"),
            "experiment_id" => Self::Text("experiment_id"),
            "artifact_location" | "artifact_uri" => Self::Text("artifact_uri"),
            "creation_time" | "creation_timestamp" | "creation_timestamp_ms" => Self::Created,
            "last_updated_timestamp" | "last_updated_timestamp_ms" => Self::Updated,
            _ => return None,
        })
    }

    fn number(&self, record: &LoggedModelRecord) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
        let millis = |at: lepton_types::Timestamp| at.as_millis() as f64;
        match self {
            Self::Created => Some(millis(record.model.created_at)),
            Self::Updated => Some(millis(record.model.updated_at)),
            _ => None,
        }
    }

    fn text(&self, record: &LoggedModelRecord, default: DefaultExperiment) -> Option<String> {
        let model = &record.model;
        let pair = |pairs: &[(String, String)], key: &str| {
            let found = pairs.iter().find(|(known, _)| known == key);
            found.map(|(_, value)| value.clone())
        };
        match self {
            Self::Param(key) => pair(&record.params, key),
            Self::Tag(key) => pair(&record.tags, key),
            Self::Text("name") => Some(model.name.clone()),
            Self::Text("model_id") => Some(model_id(model.id)),
            Self::Text("model_type") => Some(model.model_type.clone()),
            Self::Text("source_run_id") => Some(model.source_run.clone()),
            Self::Text("experiment_id") => Some(default.id_of(model.experiment)),
            Self::Text("artifact_uri") => Some(model.artifact_uri.clone()),
            Self::Text(_) => Some(status_word(model.phase).to_owned()),
            Self::Metric(_) | Self::Created | Self::Updated => None,
        }
    }
}

/// A phase without its prefix, as people write it in filters.
fn status_word(phase: LoggedModelPhase) -> &'static str {
    phase.as_str().trim_start_matches("LOGGED_MODEL_")
}

impl Condition {
    fn of(comparison: &Comparison) -> Result<Self, MlflowError> {
        let key = comparison.key.clone();
        let (field, test) = match comparison.entity.as_deref() {
            Some("metrics") => (Field::Metric(key), comparison.number_test()?),
            Some("params") => (Field::Param(key), comparison.text_test(More::Lists)?),
            Some("tags") => (Field::Tag(key), comparison.text_test(More::Lists)?),
            None | Some("attributes") => {
                let field = Field::attribute(&key).ok_or_else(|| unknown(&key))?;
                let test = match field {
                    Field::Created | Field::Updated => comparison.number_test()?,
                    _ => comparison.text_test(More::Lists)?,
                };
                (field, test)
            }
            Some(other) => {
                return Err(MlflowError::invalid(format!(
                    "Invalid entity type: '{}'. Expected one of ['attributes', 'metrics', \
                     'params', 'tags'].",
                    shown(other)
                )));
            }
        };
        Ok(Self { field, test })
    }

    const fn is_metric(&self) -> bool {
        matches!(self.field, Field::Metric(_))
    }

    fn holds(
        &self,
        record: &LoggedModelRecord,
        datasets: &[DatasetFilter],
        default: DefaultExperiment,
    ) -> bool {
        match &self.field {
            Field::Metric(key) => record.metrics.iter().any(|metric| {
                metric.key == *key
                    && is_on(metric, datasets)
                    && self.test.holds_for_number(Some(metric.value))
            }),
            Field::Created | Field::Updated => {
                self.test.holds_for_number(self.field.number(record))
            }
            field => self
                .test
                .holds_for_text(field.text(record, default).as_deref()),
        }
    }
}

fn unknown(key: &str) -> MlflowError {
    MlflowError::invalid(format!("Invalid field name: {}", shown(key)))
}

/// How logged models are ordered. What has no value comes last either way.
struct Order<'a> {
    field: Field,
    descending: bool,
    dataset_name: Option<&'a str>,
    dataset_digest: Option<&'a str>,
}

impl<'a> Order<'a> {
    fn of(asked: &'a OrderBy) -> Result<Self, MlflowError> {
        let name = need(&asked.field_name, "field_name")?;
        let field = match name.split_once('.') {
            None => Field::attribute(name).ok_or_else(|| unknown(name))?,
            Some(("metrics", key)) => Field::Metric(key.trim_matches('`').to_owned()),
            Some(_) => {
                return Err(MlflowError::invalid(format!(
                    "Invalid order by field name: {}. Only metrics are supported.",
                    shown(name)
                )));
            }
        };
        Ok(Self {
            field,
            descending: asked.ascending == Some(false),
            dataset_name: given(asked.dataset_name.as_ref()),
            dataset_digest: given(asked.dataset_digest.as_ref()),
        })
    }

    fn key(&self, record: &LoggedModelRecord) -> Key {
        match &self.field {
            Field::Metric(key) => Key::Number(self.measured(record, key)),
            Field::Created | Field::Updated => Key::Number(self.field.number(record)),
            field => Key::Text(field.text(record, DefaultExperiment(None))),
        }
    }

    fn compare(&self, a: &Key, b: &Key) -> std::cmp::Ordering {
        match (a, b) {
            (Key::Number(a), Key::Number(b)) => absent_last(
                a.as_ref(),
                b.as_ref(),
                |a, b| a.total_cmp(b),
                self.descending,
            ),
            (Key::Text(a), Key::Text(b)) => {
                absent_last(a.as_ref(), b.as_ref(), Ord::cmp, self.descending)
            }
            // One order has keys of one kind.
            _ => std::cmp::Ordering::Equal,
        }
    }

    /// The newest measurement of a metric, on the data that the order names.
    fn measured(&self, record: &LoggedModelRecord, key: &str) -> Option<f64> {
        let fits = |metric: &&ModelMetric| {
            metric.key == key
                && self
                    .dataset_name
                    .is_none_or(|name| name == metric.dataset_name)
                && self
                    .dataset_digest
                    .is_none_or(|digest| digest == metric.dataset_digest)
        };
        let newest = record
            .metrics
            .iter()
            .filter(fits)
            .max_by_key(|metric| (metric.at, metric.step, std::cmp::Reverse(metric.run)));
        newest.map(|metric| metric.value)
    }
}

fn absent_last<T>(
    a: Option<T>,
    b: Option<T>,
    compare: impl Fn(&T, &T) -> std::cmp::Ordering,
    descending: bool,
) -> std::cmp::Ordering {
    match (a, b) {
        (Some(a), Some(b)) if descending => compare(&b, &a),
        (Some(a), Some(b)) => compare(&a, &b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}

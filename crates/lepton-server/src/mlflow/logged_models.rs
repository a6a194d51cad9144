//! Logged models: what a run made, before anybody registers it (MLflow 3).

use axum::Json;
use axum::extract::Path;
use lepton_access::Access;
use lepton_store::{LoggedModelRecord, Test, Transaction};
use lepton_types::resources::Kind;
use lepton_types::tracking::{LoggedModel, LoggedModelPhase, ModelMetric};
use lepton_types::{Id, RunId};
use serde::{Deserialize, Serialize};

use super::artifacts::{Listing, Place, children, files_at, place_of};
use super::ask::{Ask, Pair, Visitor, given, int, list, need, truth, word};
use super::error::{Answer, MlflowError, shown};
use super::experiments::{default_id, find_active, ids_of};
use super::filter::{self, Comparison, More};
use super::pages;
use super::rules::{check_key, check_logged_model_name};
use super::wire::{DefaultExperiment, Done, LoggedModelWire, artifact_location, model_id};

/// Parameters and tags of one model.
const PAIRS_MAX: usize = 1_000;

/// The id that a text says.
pub(super) fn parse(text: &str) -> Result<Id, MlflowError> {
    let id = text.strip_prefix("m-").and_then(|hex| hex.parse().ok());
    id.ok_or_else(|| missing(text))
}

fn missing(id: &str) -> MlflowError {
    MlflowError::missing(format!("Logged model with ID '{}' not found.", shown(id)))
}

/// The logged model of this id that is not in the bin.
pub(super) async fn find(visitor: &Visitor, id: &str) -> Result<LoggedModelRecord, MlflowError> {
    let found = find_any(visitor, id).await?;
    match found.model.deleted_at {
        None => Ok(found),
        Some(_) => Err(missing(id)),
    }
}

async fn find_any(visitor: &Visitor, id: &str) -> Result<LoggedModelRecord, MlflowError> {
    let found = visitor.app.store.logged_model(parse(id)?).await?;
    found
        .filter(|record| record.model.project == visitor.project)
        .ok_or_else(|| missing(id))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Create {
    experiment_id: Option<String>,
    name: Option<String>,
    model_type: Option<String>,
    source_run_id: Option<String>,
    #[serde(deserialize_with = "list")]
    params: Vec<Pair>,
    #[serde(deserialize_with = "list")]
    tags: Vec<Pair>,
}

#[derive(Serialize)]
pub(super) struct One {
    model: LoggedModelWire,
}

pub(super) async fn create(visitor: Visitor, Ask(ask): Ask<Create>) -> Answer<One> {
    visitor.may(Access::Write, Kind::Model)?;
    let named = need(&ask.experiment_id, "experiment_id")?;
    let experiment = find_active(&visitor, named).await?;
    let (id, now) = (visitor.app.ids.next_id(), visitor.app.now());
    let name = match given(ask.name.as_ref()) {
        Some(name) => name.to_owned(),
        None => format!("model-{}", &id.to_string()[24..]),
    };
    check_logged_model_name(&name)?;
    let root = artifact_location(&experiment);
    let root = root.trim_end_matches('/');
    let model = LoggedModel {
        id,
        project: visitor.project.clone(),
        experiment: experiment.metadata.id.into(),
        name,
        model_type: ask.model_type.unwrap_or_default(),
        source_run: ask.source_run_id.unwrap_or_default(),
        phase: LoggedModelPhase::Pending,
        artifact_uri: format!("{root}/models/{}/artifacts", model_id(id)),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    let (params, tags) = (pairs(&ask.params)?, pairs(&ask.tags)?);
    let mut transaction = Transaction::new();
    transaction.create_logged_model(model, params, tags);
    visitor.app.store.commit(transaction).await?;
    one(&visitor, &model_id(id)).await
}

/// Valid pairs, of which the last of each key counts.
fn pairs(pairs: &[Pair]) -> Result<Vec<(String, String)>, MlflowError> {
    if pairs.len() > PAIRS_MAX {
        return Err(MlflowError::invalid(format!(
            "a request takes {PAIRS_MAX} pairs"
        )));
    }
    let mut read = std::collections::BTreeMap::new();
    for pair in pairs {
        let key = need(&pair.key, "key")?;
        check_key(key, "key")?;
        let value = pair.value.clone().unwrap_or_default();
        read.insert(key.to_owned(), value);
    }
    Ok(read.into_iter().collect())
}

async fn one(visitor: &Visitor, id: &str) -> Answer<One> {
    let record = find_any(visitor, id).await?;
    let model = LoggedModelWire::of(record, default_id(visitor).await?);
    Ok(Json(One { model }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Get {
    #[serde(deserialize_with = "truth")]
    allow_deleted: Option<bool>,
}

pub(super) async fn get(
    visitor: Visitor,
    Path(id): Path<String>,
    Ask(ask): Ask<Get>,
) -> Answer<One> {
    visitor.may(Access::Read, Kind::Model)?;
    if ask.allow_deleted != Some(true) {
        find(&visitor, &id).await?;
    }
    one(&visitor, &id).await
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Finalize {
    #[serde(deserialize_with = "word")]
    status: Option<String>,
}

pub(super) async fn finalize(
    visitor: Visitor,
    Path(id): Path<String>,
    Ask(ask): Ask<Finalize>,
) -> Answer<One> {
    visitor.may(Access::Write, Kind::Model)?;
    let phase = match need(&ask.status, "status")? {
        "LOGGED_MODEL_PENDING" | "1" => LoggedModelPhase::Pending,
        "LOGGED_MODEL_READY" | "2" => LoggedModelPhase::Ready,
        "LOGGED_MODEL_UPLOAD_FAILED" | "3" => LoggedModelPhase::Failed,
        other => {
            return Err(MlflowError::invalid(format!(
                "Invalid value '{}' for parameter 'status' supplied.",
                shown(other)
            )));
        }
    };
    let record = find_any(&visitor, &id).await?;
    let mut transaction = Transaction::new();
    transaction.set_logged_model_phase(record.model.id, phase, visitor.app.now());
    visitor.app.store.commit(transaction).await?;
    one(&visitor, &id).await
}

pub(super) async fn delete(visitor: Visitor, Path(id): Path<String>) -> Answer<Done> {
    visitor.may(Access::Write, Kind::Model)?;
    let record = find_any(&visitor, &id).await?;
    let mut transaction = Transaction::new();
    transaction.delete_logged_model(record.model.id, visitor.app.now());
    visitor.app.store.commit(transaction).await?;
    Ok(Json(Done {}))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Pairs {
    #[serde(deserialize_with = "list")]
    tags: Vec<Pair>,
    #[serde(deserialize_with = "list")]
    params: Vec<Pair>,
}

pub(super) async fn set_tags(
    visitor: Visitor,
    Path(id): Path<String>,
    Ask(ask): Ask<Pairs>,
) -> Answer<One> {
    visitor.may(Access::Write, Kind::Model)?;
    let record = find_any(&visitor, &id).await?;
    let mut transaction = Transaction::new();
    transaction.set_tags(RunId::from(record.model.id), pairs(&ask.tags)?);
    visitor.app.store.commit(transaction).await?;
    one(&visitor, &id).await
}

pub(super) async fn delete_tag(
    visitor: Visitor,
    Path((id, key)): Path<(String, String)>,
) -> Answer<Done> {
    visitor.may(Access::Write, Kind::Model)?;
    let record = find_any(&visitor, &id).await?;
    if !record.tags.iter().any(|(known, _)| *known == key) {
        return Err(MlflowError::missing(format!(
            "No tag with key '{}' found for model with ID '{id}'.",
            shown(&key)
        )));
    }
    let mut transaction = Transaction::new();
    transaction.delete_tag(RunId::from(record.model.id), key);
    visitor.app.store.commit(transaction).await?;
    Ok(Json(Done {}))
}

pub(super) async fn log_params(
    visitor: Visitor,
    Path(id): Path<String>,
    Ask(ask): Ask<Pairs>,
) -> Answer<Done> {
    visitor.may(Access::Write, Kind::Model)?;
    let record = find_any(&visitor, &id).await?;
    let mut transaction = Transaction::new();
    transaction.set_params(RunId::from(record.model.id), pairs(&ask.params)?);
    visitor.app.store.commit(transaction).await?;
    Ok(Json(Done {}))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Files {
    artifact_directory_path: Option<String>,
}

/// What lies directly in a folder of a model, by its path in the model.
pub(super) async fn list_files(
    visitor: Visitor,
    Path(id): Path<String>,
    Ask(ask): Ask<Files>,
) -> Answer<Listing> {
    visitor.may(Access::Read, Kind::Model)?;
    let model = find(&visitor, &id).await?.model;
    let below = given(ask.artifact_directory_path.as_ref()).unwrap_or_default();
    let root = model
        .artifact_uri
        .strip_prefix("mlflow-artifacts:/")
        .unwrap_or_default();
    let folder = match below.trim_matches('/') {
        "" => root.to_owned(),
        below => format!("{root}/{below}"),
    };
    let Place::Kept(folder) = place_of(&folder)? else {
        return Err(missing(&id));
    };
    let files = files_at(&visitor, &Place::Kept(folder.clone())).await?;
    let prefix = match below.trim_matches('/') {
        "" => String::new(),
        below => format!("{below}/"),
    };
    let files = children(&files, &folder, &prefix);
    Ok(Json(Listing::of(model.artifact_uri, files)))
}

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
    let store = &visitor.app.store;
    let mut found = store.logged_models(&visitor.project, experiments).await?;
    found.retain(|record| {
        let measured = conditions.iter().any(Condition::is_metric);
        conditions
            .iter()
            .all(|c| c.holds(record, &ask.datasets, default))
            && (measured || ask.datasets.is_empty() || {
                let on = |metric: &ModelMetric| is_on(metric, &ask.datasets);
                record.metrics.iter().any(on)
            })
    });
    found.sort_by(|a, b| {
        let by = |order: &Order<'_>| order.compare(a, b);
        let newest = || {
            let created = |record: &LoggedModelRecord| record.model.created_at;
            created(b)
                .cmp(&created(a))
                .then(a.model.id.cmp(&b.model.id))
        };
        orders
            .iter()
            .map(by)
            .find(|way| way.is_ne())
            .unwrap_or_else(newest)
    });
    let (page, next_page_token) = pages::cut(found, offset, limit);
    let wire = |record| LoggedModelWire::of(record, default);
    Ok(Json(Page {
        models: page.into_iter().map(wire).collect(),
        next_page_token,
    }))
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

    fn compare(&self, a: &LoggedModelRecord, b: &LoggedModelRecord) -> std::cmp::Ordering {
        match &self.field {
            Field::Metric(key) => {
                let value = |record| self.measured(record, key);
                absent_last(value(a), value(b), f64::total_cmp, self.descending)
            }
            Field::Created | Field::Updated => {
                let value = |record| self.field.number(record);
                absent_last(value(a), value(b), f64::total_cmp, self.descending)
            }
            field => {
                let value = |record| field.text(record, DefaultExperiment(None));
                absent_last(value(a), value(b), String::cmp, self.descending)
            }
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

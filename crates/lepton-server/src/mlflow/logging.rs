//! Logging: parameters, metrics, tags. What went in and came out is `inputs`'s.
//!
//! Whether the run is there and takes more is asked in the transaction that writes, so logging
//! costs one trip to the store and nothing can come in between.

use axum::Json;
use lepton_store::Transaction;
use lepton_types::resources::{MetricPoint, RunSpec};
use lepton_types::tracking::ModelMetric;
use lepton_types::{RunId, Timestamp};
use serde::Deserialize;

use super::ask::{Ask, Pair, Visitor, float, given, int, list, need};
use super::error::{Answer, MlflowError, shown};
use super::filter::runs::RUN_NAME_TAG;
use super::inputs::{DATASET_DIGEST_CHARS_MAX, DATASET_NAME_CHARS_MAX};
use super::logged_models;
use super::rules::{PARAM_CHARS_MAX, TAG_CHARS_MAX, check_key, check_length, check_run_name, cut};
use super::runs::{enter, tags_of};
use super::wire::Done;

/// Metrics in one batch, and parameters, and tags, as MLflow has it.
const BATCH_METRICS_MAX: usize = 1_000;
const BATCH_PAIRS_MAX: usize = 100;

/// The tag that lists what 2.x clients logged as models.
const MODELS_TAG: &str = "mlflow.log-model.history";

/// Characters of that list: about a hundred models. Of more, the oldest leave it.
const MODELS_CHARS_MAX: usize = 256 << 10;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Metric {
    run_id: Option<String>,
    run_uuid: Option<String>,
    key: Option<String>,
    #[serde(deserialize_with = "float")]
    value: Option<f64>,
    #[serde(deserialize_with = "int")]
    timestamp: Option<i64>,
    #[serde(deserialize_with = "int")]
    step: Option<i64>,
    model_id: Option<String>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

impl Metric {
    /// The point, and the logged model that was measured, if one was; `path` says where in the
    /// request it was.
    fn read(
        self,
        run: RunId,
        path: &str,
    ) -> Result<(MetricPoint, Option<ModelMetric>), MlflowError> {
        let at = |field: &str| match path {
            "" => field.to_owned(),
            path => format!("{path}.{field}"),
        };
        let key = match self.key {
            Some(key) if !key.is_empty() => key,
            Some(_) | None => return Err(MlflowError::required(&at("key"))),
        };
        check_key(&key, &at("name"))?;
        let value = self
            .value
            .ok_or_else(|| MlflowError::required(&at("value")))?;
        let timestamp = self
            .timestamp
            .ok_or_else(|| MlflowError::required(&at("timestamp")))?;
        if timestamp < 0 {
            return Err(MlflowError::invalid(format!(
                "Invalid value {timestamp} for parameter '{}' supplied: metric '{key}': Timestamp \
                 must be a nonnegative long (64-bit integer)",
                at("timestamp")
            )));
        }
        let timestamp = Timestamp::from_millis(timestamp);
        let (step, value) = (self.step.unwrap_or(0), storable(value));
        let model = given(self.model_id.as_ref())
            .map(logged_models::parse)
            .transpose()?;
        let dataset_name = self.dataset_name.unwrap_or_default();
        let dataset_digest = self.dataset_digest.unwrap_or_default();
        check_length(&dataset_name, DATASET_NAME_CHARS_MAX, &at("dataset_name"))?;
        check_length(
            &dataset_digest,
            DATASET_DIGEST_CHARS_MAX,
            &at("dataset_digest"),
        )?;
        let measured = model.map(|model| ModelMetric {
            model,
            run,
            key: key.clone(),
            step,
            at: timestamp,
            value,
            dataset_name,
            dataset_digest,
        });
        let point = MetricPoint {
            key,
            step,
            timestamp: Some(timestamp),
            value,
        };
        Ok((point, measured))
    }
}

/// MLflow keeps infinities as the largest numbers there are, and clients read them so.
fn storable(value: f64) -> f64 {
    match value {
        f64::INFINITY => f64::MAX,
        f64::NEG_INFINITY => f64::MIN,
        value => value,
    }
}

/// A transaction that a run must be there for.
pub(super) fn begin(visitor: &Visitor, run: RunId) -> Transaction {
    let mut transaction = Transaction::new();
    transaction.require_run(run, &visitor.project);
    transaction
}

pub(super) async fn commit(visitor: &Visitor, transaction: Transaction) -> Answer<Done> {
    visitor.app.store.commit(transaction).await?;
    Ok(Json(Done {}))
}

fn run_of<'a>(id: &'a Option<String>, uuid: &'a Option<String>) -> Result<&'a str, MlflowError> {
    match given(id.as_ref()) {
        Some(id) => Ok(id),
        None => need(uuid, "run_id"),
    }
}

pub(super) async fn log_metric(visitor: Visitor, Ask(mut ask): Ask<Metric>) -> Answer<Done> {
    let (id, uuid) = (ask.run_id.take(), ask.run_uuid.take());
    let run = enter(&visitor, run_of(&id, &uuid)?).await?;
    let (point, measured) = ask.read(run, "")?;
    let mut transaction = begin(&visitor, run);
    transaction.append_metrics(run, vec![point]);
    if let Some(measured) = measured {
        transaction.append_model_metrics(vec![measured]);
    }
    commit(&visitor, transaction).await
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Keyed {
    run_id: Option<String>,
    run_uuid: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

pub(super) async fn log_param(visitor: Visitor, Ask(ask): Ask<Keyed>) -> Answer<Done> {
    let run = enter(&visitor, run_of(&ask.run_id, &ask.run_uuid)?).await?;
    let key = need(&ask.key, "key")?;
    check_key(key, "key")?;
    let value = cut(ask.value.unwrap_or_default(), PARAM_CHARS_MAX);
    let mut transaction = begin(&visitor, run);
    transaction.set_params(run, vec![(key.to_owned(), value)]);
    commit(&visitor, transaction).await
}

pub(super) async fn set_tag(visitor: Visitor, Ask(ask): Ask<Keyed>) -> Answer<Done> {
    let run = enter(&visitor, run_of(&ask.run_id, &ask.run_uuid)?).await?;
    let key = need(&ask.key, "key")?;
    check_key(key, "key")?;
    let value = cut(ask.value.unwrap_or_default(), TAG_CHARS_MAX);
    let mut transaction = begin(&visitor, run);
    match key {
        RUN_NAME_TAG => rename(&mut transaction, run, value)?,
        key => _ = transaction.set_tags(run, vec![(key.to_owned(), value)]),
    }
    commit(&visitor, transaction).await
}

/// The tag of a run's name is its name; an empty one changes nothing.
fn rename(transaction: &mut Transaction, run: RunId, name: String) -> Result<(), MlflowError> {
    check_run_name(&name)?;
    if !name.is_empty() {
        transaction.alter::<RunSpec>(run.id(), move |run| {
            run.metadata.name.clone_from(&name);
            Ok(())
        });
    }
    Ok(())
}

pub(super) async fn delete_tag(visitor: Visitor, Ask(ask): Ask<Keyed>) -> Answer<Done> {
    let run = enter(&visitor, run_of(&ask.run_id, &ask.run_uuid)?).await?;
    let key = need(&ask.key, "key")?;
    let mut transaction = begin(&visitor, run);
    // A run keeps its name.
    if key != RUN_NAME_TAG {
        transaction
            .require_tag(run, key)
            .delete_tag(run, key.to_owned());
    }
    commit(&visitor, transaction).await
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Batch {
    run_id: Option<String>,
    #[serde(deserialize_with = "list")]
    metrics: Vec<Metric>,
    #[serde(deserialize_with = "list")]
    params: Vec<Pair>,
    #[serde(deserialize_with = "list")]
    tags: Vec<Pair>,
}

pub(super) async fn log_batch(visitor: Visitor, Ask(ask): Ask<Batch>) -> Answer<Done> {
    let run = enter(&visitor, need(&ask.run_id, "run_id")?).await?;
    check_counts(&ask)?;
    let mut points = Vec::with_capacity(ask.metrics.len());
    let mut measured = Vec::new();
    for (at, metric) in ask.metrics.into_iter().enumerate() {
        let (point, model) = metric.read(run, &format!("metrics[{at}]"))?;
        points.push(point);
        measured.extend(model);
    }
    let params = params_of(ask.params)?;
    let (tags, name) = tags_of(&ask.tags)?;
    let mut transaction = begin(&visitor, run);
    if let Some(name) = name {
        rename(&mut transaction, run, name)?;
    }
    if !params.is_empty() {
        transaction.set_params(run, params);
    }
    if !tags.is_empty() {
        transaction.set_tags(run, tags);
    }
    if !points.is_empty() {
        transaction.append_metrics(run, points);
    }
    if !measured.is_empty() {
        transaction.append_model_metrics(measured);
    }
    commit(&visitor, transaction).await
}

fn check_counts(ask: &Batch) -> Result<(), MlflowError> {
    let total = ask.metrics.len() + ask.params.len() + ask.tags.len();
    let counts = [
        ("metrics", ask.metrics.len(), BATCH_METRICS_MAX),
        ("params", ask.params.len(), BATCH_PAIRS_MAX),
        ("tags", ask.tags.len(), BATCH_PAIRS_MAX),
        ("metrics, params, and tags", total, BATCH_METRICS_MAX),
    ];
    match counts.iter().find(|(_, count, most)| count > most) {
        None => Ok(()),
        Some((what, count, most)) => Err(MlflowError::invalid(format!(
            "A batch logging request can contain at most {most} {what}. Got {count} {what}. Please \
             split up {what} across multiple requests and try again."
        ))),
    }
}

fn params_of(pairs: Vec<Pair>) -> Result<Vec<(String, String)>, MlflowError> {
    let mut params: Vec<(String, String)> = Vec::with_capacity(pairs.len());
    for (at, pair) in pairs.into_iter().enumerate() {
        let path = format!("params[{at}].key");
        let key = need(&pair.key, &path)?;
        check_key(key, &path)?;
        if params.iter().any(|(other, _)| other == key) {
            return Err(MlflowError::invalid(format!(
                "Duplicate parameter keys have been submitted: ['{}']. Please ensure the request \
                 contains only one param value per param key.",
                shown(key)
            )));
        }
        let value = cut(pair.value.unwrap_or_default(), PARAM_CHARS_MAX);
        params.push((key.to_owned(), value));
    }
    Ok(params)
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct LogModel {
    run_id: Option<String>,
    model_json: Option<String>,
}

/// What 2.x clients say of a model that they logged: it joins a list that is kept as a tag.
pub(super) async fn log_model(visitor: Visitor, Ask(ask): Ask<LogModel>) -> Answer<Done> {
    let run = enter(&visitor, need(&ask.run_id, "run_id")?).await?;
    let text = need(&ask.model_json, "model_json")?;
    let Ok(serde_json::Value::Object(mut model)) = serde_json::from_str(text) else {
        return Err(MlflowError::invalid(
            "Malformed model info: it is not valid JSON",
        ));
    };
    let needed = ["artifact_path", "flavors", "utc_time_created", "run_id"];
    if let Some(field) = needed.iter().find(|field| !model.contains_key(**field)) {
        return Err(MlflowError::invalid(format!(
            "Model json is missing mandatory fields: {{'{field}'}}"
        )));
    }
    // What can only be read with the model's own code says nothing here.
    if let Some(flavours) = model.get_mut("flavors").and_then(|v| v.as_object_mut())
        && let Some(python) = flavours
            .get_mut("python_function")
            .and_then(|v| v.as_object_mut())
    {
        python.remove("config");
    }
    let mut transaction = begin(&visitor, run);
    transaction.add_to_tag(run, MODELS_TAG, &model.into(), MODELS_CHARS_MAX);
    commit(&visitor, transaction).await
}

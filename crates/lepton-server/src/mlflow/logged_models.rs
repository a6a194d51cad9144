//! Logged models: what a run made, before anybody registers it (MLflow 3).

use axum::Json;
use axum::extract::Path;
use lepton_access::{Access, Principal};
use lepton_store::{CommitError, Conflict, LoggedModelRecord, Transaction};
use lepton_types::resources::{Experiment, Kind};
use lepton_types::tracking::{LoggedModel, LoggedModelPhase};
use lepton_types::{Id, RunId};
use serde::{Deserialize, Serialize};

use super::artifacts::{Listing, Place, kept_children, place_of};
use super::ask::{Ask, Pair, Visitor, given, list, need, truth, word};
use super::error::{Answer, Code, MlflowError, shown};
use super::experiments::{default_id, find_active};
use super::rules::{
    PARAM_CHARS_MAX, TAG_CHARS_MAX, check_key, check_length, check_logged_model_name, cut,
};
use super::runs;
use super::wire::{Done, LoggedModelWire, artifact_location, model_id};

/// Parameters and tags of one model.
const PAIRS_MAX: usize = 1_000;

/// Characters of what kind of model it is, and of the id of the run that made it.
const TYPE_CHARS_MAX: usize = 500;
const RUN_ID_CHARS_MAX: usize = 64;

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

/// Authorises changing a logged model. A workload may change those of its own run, and of those
/// that it made.
pub(super) async fn enter(visitor: &Visitor, id: &str) -> Result<LoggedModelRecord, MlflowError> {
    visitor.may(Access::Write, Kind::Model)?;
    let record = find_any(visitor, id).await?;
    if visitor.caller.is_workload() && !is_own(visitor, &record.model.source_run).await? {
        visitor.may_touch(Access::Write, Kind::Model, record.model.id)?;
    }
    Ok(record)
}

/// Whether a workload may write to a run.
async fn is_own(visitor: &Visitor, run: &str) -> Result<bool, MlflowError> {
    match runs::enter(visitor, run).await {
        Ok(_) => Ok(true),
        Err(error) if error.code == Code::InternalError => Err(error),
        Err(_) => Ok(false),
    }
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
    let mut source_run = ask.source_run_id.unwrap_or_default();
    if let Principal::Workload { run: Some(own), .. } = &visitor.caller.0 {
        // What a workload makes belongs to its run, or to one that it made.
        match source_run.is_empty() {
            true => source_run = own.to_string(),
            false => _ = runs::enter(&visitor, &source_run).await?,
        }
    }
    let (id, now) = (visitor.app.ids.next_id(), visitor.app.now());
    let name = match given(ask.name.as_ref()) {
        Some(name) => name.to_owned(),
        None => format!("model-{}", &id.to_string()[24..]),
    };
    let model_type = ask.model_type.unwrap_or_default();
    check_words(&name, &model_type)?;
    check_length(&source_run, RUN_ID_CHARS_MAX, "source_run_id")?;
    let model = LoggedModel {
        id,
        project: visitor.project.clone(),
        experiment: experiment.metadata.id.into(),
        name,
        model_type,
        source_run,
        phase: LoggedModelPhase::Pending,
        artifact_uri: location(&experiment, id),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    let (params, tags) = (params_of(&ask.params)?, tags_of(&ask.tags)?);
    let mut transaction = Transaction::new();
    transaction
        .require_experiment(model.experiment)
        .create_logged_model(model, params, tags);
    visitor.app.store.commit(transaction).await?;
    one(&visitor, &model_id(id)).await
}

/// Where the files of a logged model of this experiment are.
pub(crate) fn location(experiment: &Experiment, id: Id) -> String {
    let root = artifact_location(experiment);
    let root = root.trim_end_matches('/');
    format!("{root}/models/{}/artifacts", model_id(id))
}

/// Refuses what no logged model can be called.
fn check_words(name: &str, model_type: &str) -> Result<(), MlflowError> {
    check_logged_model_name(name)?;
    check_length(model_type, TYPE_CHARS_MAX, "model_type")
}

/// Why a logged model cannot be called so, if it cannot.
pub(crate) fn misnamed(name: &str, model_type: &str) -> Option<String> {
    let refused = check_words(name, model_type).err();
    refused.map(|refused| refused.message)
}

/// Valid parameters, each cut as a run's is.
fn params_of(params: &[Pair]) -> Result<Vec<(String, String)>, MlflowError> {
    pairs(params, PARAM_CHARS_MAX)
}

/// Valid tags, each cut as a run's is.
fn tags_of(tags: &[Pair]) -> Result<Vec<(String, String)>, MlflowError> {
    pairs(tags, TAG_CHARS_MAX)
}

/// Valid pairs, of which the last of each key counts; values of at most `most` characters.
fn pairs(pairs: &[Pair], most: usize) -> Result<Vec<(String, String)>, MlflowError> {
    if pairs.len() > PAIRS_MAX {
        return Err(MlflowError::invalid(format!(
            "a request takes {PAIRS_MAX} pairs"
        )));
    }
    let mut read = std::collections::BTreeMap::new();
    for pair in pairs {
        let key = need(&pair.key, "key")?;
        check_key(key, "key")?;
        let value = cut(pair.value.clone().unwrap_or_default(), most);
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
    let record = enter(&visitor, &id).await?;
    let mut transaction = Transaction::new();
    transaction.set_logged_model_phase(record.model.id, phase, visitor.app.now());
    visitor.app.store.commit(transaction).await?;
    one(&visitor, &id).await
}

pub(super) async fn delete(visitor: Visitor, Path(id): Path<String>) -> Answer<Done> {
    visitor.may(Access::Delete, Kind::Model)?;
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
    let record = enter(&visitor, &id).await?;
    let mut transaction = Transaction::new();
    transaction.set_tags(RunId::from(record.model.id), tags_of(&ask.tags)?);
    visitor.app.store.commit(transaction).await?;
    one(&visitor, &id).await
}

pub(super) async fn delete_tag(
    visitor: Visitor,
    Path((id, key)): Path<(String, String)>,
) -> Answer<Done> {
    let record = enter(&visitor, &id).await?;
    let of = RunId::from(record.model.id);
    let mut transaction = Transaction::new();
    transaction
        .require_tag(of, &key)
        .delete_tag(of, key.clone());
    match visitor.app.store.commit(transaction).await {
        Ok(_) => Ok(Json(Done {})),
        Err(CommitError::Conflict(Conflict::TagMissing { .. })) => {
            Err(MlflowError::missing(format!(
                "No tag with key '{}' found for model with ID '{id}'.",
                shown(&key)
            )))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn log_params(
    visitor: Visitor,
    Path(id): Path<String>,
    Ask(ask): Ask<Pairs>,
) -> Answer<Done> {
    let record = enter(&visitor, &id).await?;
    let mut transaction = Transaction::new();
    transaction.set_params(RunId::from(record.model.id), params_of(&ask.params)?);
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
    let prefix = match below.trim_matches('/') {
        "" => String::new(),
        below => format!("{below}/"),
    };
    let files = kept_children(&visitor, &folder, &prefix).await?;
    Ok(Json(Listing::of(model.artifact_uri, files)))
}

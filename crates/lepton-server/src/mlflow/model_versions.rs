//! Versions of registered models.

use std::collections::BTreeMap;

use axum::Json;
use lepton_access::Access;
use lepton_store::{Query, Transaction};
use lepton_types::resources::{Kind, ModelSpec, ModelStage, ModelVersion, ModelVersionSpec};
use lepton_types::{AliasName, Timestamp};
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Visitor, given, int, list, need, truth};
use super::error::{Answer, MlflowError, shown};
use super::filter::registry::{IS_PROMPT_TAG, Wanted};
use super::registered_models as models;
use super::rules::{check_all_tags, check_description, check_key, check_registry_tag};
use super::wire::{Done, Tag, model_id, tags};
use super::{filter, pages};
use crate::http::models::{may_change_version, model_of, refuse_if_served};

#[derive(Serialize)]
pub(super) struct VersionWire {
    name: String,
    version: String,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_id: String,
    current_stage: &'static str,
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    run_id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    run_link: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    model_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
}

impl VersionWire {
    pub(super) fn of(version: ModelVersion) -> Self {
        let stage = version.status.stage.unwrap_or(ModelStage::None);
        let last = updated(&version).as_millis();
        let source = source_of(&version);
        let (spec, origin) = (version.spec, |o: Option<String>| o.unwrap_or_default());
        let logged = spec.origin.as_ref().and_then(|origin| origin.logged_model);
        Self {
            name: spec.model.to_string(),
            version: spec.version.to_string(),
            creation_timestamp: version.metadata.created_at.as_millis(),
            last_updated_timestamp: last,
            user_id: String::new(),
            current_stage: stage.as_str(),
            description: spec.description,
            source,
            run_id: spec.run.map(|run| run.to_string()).unwrap_or_default(),
            status: "READY",
            run_link: origin(spec.origin.and_then(|origin| origin.run_link)),
            model_id: logged.map(model_id).unwrap_or_default(),
            tags: tags(spec.tags),
            aliases: Vec::new(),
        }
    }

    /// The same, with the aliases of its model that point at it.
    pub(super) fn pointed_at_by(mut self, aliases: &BTreeMap<AliasName, u32>) -> Self {
        let here = |(_, version): &(&AliasName, &u32)| version.to_string() == self.version;
        let names = aliases
            .iter()
            .filter(here)
            .map(|(alias, _)| alias.to_string());
        self.aliases = names.collect();
        self
    }
}

/// Where a version was registered from. What was uploaded to Lepton is found under its own name.
fn source_of(version: &ModelVersion) -> String {
    match &version.spec.origin {
        Some(origin) => origin.source.clone(),
        None => own_location(version),
    }
}

/// Under which URI the proxy serves the files of an uploaded version.
pub(super) fn own_location(version: &ModelVersion) -> String {
    format!("mlflow-artifacts:/{VERSIONS}/{}", version.metadata.name)
}

/// The folder of the proxy in which uploaded versions are found. No experiment has such an id.
pub(super) const VERSIONS: &str = "model-versions";

fn updated(version: &ModelVersion) -> Timestamp {
    version
        .status
        .updated_at
        .unwrap_or(version.metadata.created_at)
}

pub(super) fn parse_stage(word: &str) -> Result<ModelStage, MlflowError> {
    let found = ModelStage::ALL
        .into_iter()
        .find(|stage| stage.as_str().eq_ignore_ascii_case(word));
    found.ok_or_else(|| {
        MlflowError::invalid(format!(
            "Invalid Model Version stage: {}. Value must be one of None, Staging, Production, \
             Archived.",
            shown(word)
        ))
    })
}

/// The version of this number.
pub(super) async fn find(
    visitor: &Visitor,
    name: &str,
    version: &str,
) -> Result<ModelVersion, MlflowError> {
    let name = models::parse_name(name)?;
    let number: u32 = version.parse().map_err(|_| {
        MlflowError::invalid(format!(
            "Parameter 'version' must be an integer, got '{}'.",
            shown(version)
        ))
    })?;
    let key = format!("{name}/{number}");
    let found = visitor
        .app
        .store
        .get::<ModelVersionSpec>(&visitor.project, &key)
        .await?;
    found.ok_or_else(|| {
        MlflowError::missing(format!(
            "Model Version (name={name}, version={number}) not found"
        ))
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Named {
    name: Option<String>,
    version: Option<String>,
    description: Option<String>,
    key: Option<String>,
    value: Option<String>,
    stage: Option<String>,
    #[serde(deserialize_with = "truth")]
    archive_existing_versions: Option<bool>,
}

impl Named {
    fn name(&self) -> Result<&str, MlflowError> {
        need(&self.name, "name")
    }

    fn version(&self) -> Result<&str, MlflowError> {
        need(&self.version, "version")
    }
}

#[derive(Serialize)]
pub(super) struct One {
    model_version: VersionWire,
}

/// One version, with the aliases that point at it.
pub(super) async fn one(visitor: &Visitor, name: &str, version: &str) -> Answer<One> {
    let version = find(visitor, name, version).await?;
    let model = model_of(&visitor.app, &version).await?;
    let model_version = VersionWire::of(version).pointed_at_by(&model.spec.aliases);
    Ok(Json(One { model_version }))
}

pub(super) async fn get(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<One> {
    visitor.may(Access::Read, Kind::ModelVersion)?;
    one(&visitor, ask.name()?, ask.version()?).await
}

/// Changes a version as it is when it is written.
async fn change(
    visitor: &Visitor,
    ask: &Named,
    alter: impl Fn(&mut ModelVersion) + Send + Sync + 'static,
) -> Result<(), MlflowError> {
    visitor.may(Access::Write, Kind::ModelVersion)?;
    let version = find(visitor, ask.name()?, ask.version()?).await?;
    may_change_version(&visitor.caller, &visitor.project, &version)?;
    let mut transaction = Transaction::new();
    transaction.alter::<ModelVersionSpec>(version.metadata.id, move |version| {
        alter(version);
        version.metadata.generation += 1;
        Ok(())
    });
    visitor.app.store.commit(transaction).await?;
    Ok(())
}

pub(super) async fn update(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<One> {
    let now = visitor.app.now();
    check_description(ask.description.as_ref())?;
    let description = ask.description.clone().unwrap_or_default();
    change(&visitor, &ask, move |version| {
        version.spec.description.clone_from(&description);
        version.status.updated_at = Some(now);
    })
    .await?;
    one(&visitor, ask.name()?, ask.version()?).await
}

pub(super) async fn set_tag(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<Done> {
    let key = need(&ask.key, "key")?.to_owned();
    let value = ask.value.clone().unwrap_or_default();
    check_registry_tag(&key, &value)?;
    let version = find(&visitor, ask.name()?, ask.version()?).await?;
    check_all_tags(&version.spec.tags, &key, &value)?;
    change(&visitor, &ask, move |version| {
        version.spec.tags.insert(key.clone(), value.clone());
    })
    .await?;
    Ok(Json(Done {}))
}

pub(super) async fn delete_tag(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<Done> {
    let key = need(&ask.key, "key")?.to_owned();
    check_key(&key, "key")?;
    change(&visitor, &ask, move |version| {
        version.spec.tags.remove(&key);
    })
    .await?;
    Ok(Json(Done {}))
}

/// Moves a version to a stage, and those that were there to the archive if that is asked for.
pub(super) async fn transition(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<One> {
    visitor.may(Access::Write, Kind::ModelVersion)?;
    let stage = parse_stage(need(&ask.stage, "stage")?)?;
    let archive = ask.archive_existing_versions == Some(true);
    if archive && !matches!(stage, ModelStage::Staging | ModelStage::Production) {
        return Err(MlflowError::invalid(format!(
            "Model version transition cannot archive existing model versions because '{stage}' is \
             not an Active stage. Valid stages are ['Staging', 'Production']"
        )));
    }
    let version = find(&visitor, ask.name()?, ask.version()?).await?;
    visitor.may_touch(Access::Write, Kind::ModelVersion, version.metadata.id)?;
    let model = model_of(&visitor.app, &version).await?;
    let (id, now) = (version.metadata.id, Some(visitor.app.now()));
    let mut transaction = Transaction::new();
    if archive {
        for other in models::versions_of(&visitor, &model).await? {
            transaction.alter::<ModelVersionSpec>(other.metadata.id, move |other| {
                if other.status.stage == Some(stage) && other.metadata.id != id {
                    other.status.stage = Some(ModelStage::Archived);
                    other.status.updated_at = now;
                }
                Ok(())
            });
        }
    }
    transaction
        .alter::<ModelVersionSpec>(id, move |version| {
            version.status.stage = Some(stage);
            version.status.updated_at = now;
            Ok(())
        })
        .alter::<ModelSpec>(model.metadata.id, move |model| {
            model.status.updated_at = now;
            Ok(())
        });
    visitor.app.store.commit(transaction).await?;
    one(&visitor, ask.name()?, ask.version()?).await
}

/// Deletes a version and the aliases that point at it, unless an endpoint serves it.
pub(super) async fn delete(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<Done> {
    visitor.may(Access::Delete, Kind::ModelVersion)?;
    let version = find(&visitor, ask.name()?, ask.version()?).await?;
    let model = model_of(&visitor.app, &version).await?;
    let number = version.spec.version;
    refuse_if_served(&visitor.app, &model, Some(number)).await?;
    let now = Some(visitor.app.now());
    let mut transaction = Transaction::new();
    transaction
        .alter::<ModelSpec>(model.metadata.id, move |model| {
            model.spec.aliases.retain(|_, pointed| *pointed != number);
            model.status.updated_at = now;
            Ok(())
        })
        .delete(&version);
    visitor.app.store.commit(transaction).await?;
    Ok(Json(Done {}))
}

#[derive(Serialize)]
pub(super) struct DownloadUri {
    artifact_uri: String,
}

pub(super) async fn download_uri(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<DownloadUri> {
    visitor.may(Access::Read, Kind::ModelVersion)?;
    let version = find(&visitor, ask.name()?, ask.version()?).await?;
    let artifact_uri = match &version.spec.origin {
        Some(origin) => origin.storage.clone(),
        None => own_location(&version),
    };
    Ok(Json(DownloadUri { artifact_uri }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Search {
    filter: Option<String>,
    #[serde(deserialize_with = "int")]
    max_results: Option<i64>,
    #[serde(deserialize_with = "list")]
    order_by: Vec<String>,
    page_token: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Page {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_versions: Vec<VersionWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// The longest page of versions, as MLflow has it.
const PAGE_MAX: usize = 200_000;

pub(super) async fn search(visitor: Visitor, Ask(ask): Ask<Search>) -> Answer<Page> {
    visitor.may(Access::Read, Kind::ModelVersion)?;
    let limit = pages::limit(ask.max_results, PAGE_MAX, PAGE_MAX)?;
    let offset = pages::offset(ask.page_token.as_deref())?;
    let attributes = ["name", "version_number", "run_id", "source_path"];
    let wanted = Wanted::read(given(ask.filter.as_ref()).unwrap_or_default(), &attributes)?;
    let order = filter::parse_order(&ask.order_by)?;
    let known = [
        "name",
        "version_number",
        "creation_timestamp",
        "last_updated_timestamp",
    ];
    if let Some(by) = order.iter().find(|by| !known.contains(&by.key.as_str())) {
        return Err(MlflowError::invalid(format!(
            "Invalid order by key '{}' specified. Valid keys are {}",
            shown(&by.key),
            known.join(", ")
        )));
    }
    let query = Query::project(&visitor.project);
    let mut found = visitor
        .app
        .store
        .list_all::<ModelVersionSpec>(query)
        .await?;
    found.retain(|version| {
        let is_prompt = version
            .spec
            .tags
            .get(IS_PROMPT_TAG)
            .is_some_and(|tag| tag == "true");
        let text = |key: &str| text_of(version, key);
        let number = |_: &str| Some(f64::from(version.spec.version));
        wanted.takes(is_prompt) && wanted.holds(text, number, &version.spec.tags)
    });
    found.sort_by(|a, b| {
        let by = |by: &filter::Order| {
            let way = by_key(&by.key, a, b);
            if by.descending { way.reverse() } else { way }
        };
        let ties = || {
            let newest = match order.is_empty() {
                true => by_key("last_updated_timestamp", b, a),
                false => std::cmp::Ordering::Equal,
            };
            newest
                .then(by_key("name", a, b))
                .then(by_key("version_number", b, a))
        };
        order
            .iter()
            .map(by)
            .find(|way| way.is_ne())
            .unwrap_or_else(ties)
    });
    let (page, next_page_token) = pages::cut(found, offset, limit);
    Ok(Json(Page {
        model_versions: page.into_iter().map(VersionWire::of).collect(),
        next_page_token,
    }))
}

fn text_of(version: &ModelVersion, key: &str) -> Option<String> {
    match key {
        "name" => Some(version.spec.model.to_string()),
        "run_id" => version.spec.run.map(|run| run.to_string()),
        _ => Some(source_of(version)),
    }
}

fn by_key(key: &str, a: &ModelVersion, b: &ModelVersion) -> std::cmp::Ordering {
    match key {
        "name" => a.spec.model.cmp(&b.spec.model),
        "version_number" => a.spec.version.cmp(&b.spec.version),
        "creation_timestamp" => a.metadata.created_at.cmp(&b.metadata.created_at),
        _ => updated(a).cmp(&updated(b)),
    }
}

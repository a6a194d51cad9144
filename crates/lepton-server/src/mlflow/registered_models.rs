//! Registered models: Lepton's models in MLflow's words.

use axum::Json;
use lepton_access::Access;
use lepton_store::{CommitError, Conflict, Query, Transaction};
use lepton_types::resources::{
    Kind, Model, ModelSpec, ModelStage, ModelVersion, ModelVersionSpec, Resource,
};
use lepton_types::{AliasName, FreeName, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::ask::{Ask, Pair, Visitor, given, int, list, need};
use super::error::{Answer, Code, MlflowError, shown};
use super::filter::registry::{IS_PROMPT_TAG, Wanted};
use super::model_versions::{self, VersionWire};
use super::rules::{check_all_tags, check_description, check_key, check_registry_tag, is_own_path};
use super::wire::{Done, Tag, tags};
use super::{filter, pages};
use crate::http::models::{model_of, pointing, refuse_if_served};

#[derive(Serialize)]
pub(super) struct ModelWire {
    name: String,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    latest_versions: Vec<VersionWire>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<AliasWire>,
}

#[derive(Serialize)]
struct AliasWire {
    alias: String,
    version: String,
}

impl ModelWire {
    /// A model with its versions, of which it shows the newest of each stage.
    fn of(model: Model, versions: Vec<ModelVersion>) -> Self {
        let alias = |(alias, version): (&AliasName, &u32)| AliasWire {
            alias: alias.to_string(),
            version: version.to_string(),
        };
        let newest = newest_of_each_stage(versions);
        Self {
            creation_timestamp: model.metadata.created_at.as_millis(),
            last_updated_timestamp: updated(&model).as_millis(),
            description: model.spec.description,
            latest_versions: newest.into_iter().map(VersionWire::of).collect(),
            aliases: model.spec.aliases.iter().map(alias).collect(),
            tags: tags(model.spec.tags),
            name: model.metadata.name,
        }
    }
}

fn newest_of_each_stage(versions: Vec<ModelVersion>) -> Vec<ModelVersion> {
    let mut newest: BTreeMap<ModelStage, ModelVersion> = BTreeMap::new();
    for version in versions {
        let stage = version.status.stage.unwrap_or(ModelStage::None);
        let older = newest
            .get(&stage)
            .is_none_or(|n| n.spec.version < version.spec.version);
        if older {
            newest.insert(stage, version);
        }
    }
    let mut newest: Vec<ModelVersion> = newest.into_values().collect();
    newest.sort_by_key(|version| version.spec.version);
    newest
}

fn updated(model: &Model) -> Timestamp {
    model.status.updated_at.unwrap_or(model.metadata.created_at)
}

/// Parses the name of a model; what MLflow refuses is refused.
pub(super) fn parse_name(name: &str) -> Result<FreeName, MlflowError> {
    if name.trim().is_empty() {
        return Err(MlflowError::required("name"));
    }
    let parsed: Result<FreeName, _> = name.parse();
    match parsed {
        Ok(parsed) if is_own_path(name) => Ok(parsed),
        Ok(_) | Err(_) => Err(MlflowError::invalid(format!(
            "Invalid model name '{}'. Names cannot contain '/' or ':', control characters, or \
             space at either end.",
            shown(name)
        ))),
    }
}

/// The model of this name.
pub(super) async fn find(visitor: &Visitor, name: &str) -> Result<Model, MlflowError> {
    let name = parse_name(name)?;
    let found = visitor
        .app
        .store
        .get::<ModelSpec>(&visitor.project, name.as_str())
        .await?;
    found.ok_or_else(|| missing(name.as_str()))
}

fn missing(name: &str) -> MlflowError {
    MlflowError::missing(format!("Registered Model with name={name} not found"))
}

/// The versions of a model, oldest first.
pub(super) async fn versions_of(
    visitor: &Visitor,
    model: &Model,
) -> Result<Vec<ModelVersion>, MlflowError> {
    let query = Query {
        owner: Some(model.metadata.id),
        ..Query::project(&visitor.project)
    };
    Ok(visitor
        .app
        .store
        .list_all::<ModelVersionSpec>(query)
        .await?)
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Create {
    name: Option<String>,
    #[serde(deserialize_with = "list")]
    tags: Vec<Pair>,
    description: Option<String>,
}

#[derive(Serialize)]
pub(super) struct One {
    registered_model: ModelWire,
}

pub(super) async fn create(visitor: Visitor, Ask(ask): Ask<Create>) -> Answer<One> {
    visitor.may(Access::Write, Kind::Model)?;
    let name = parse_name(need(&ask.name, "name")?)?;
    check_description(ask.description.as_ref())?;
    let spec = ModelSpec {
        description: ask.description.unwrap_or_default(),
        tags: tags_of(&ask.tags)?,
        ..ModelSpec::default()
    };
    let (id, now) = (visitor.app.ids.next_id(), visitor.app.now());
    let model = Resource::draft(id, visitor.project.clone(), name.as_str(), now, spec)
        .created_by(visitor.caller.0.label());
    let mut transaction = Transaction::new();
    transaction.create(&model);
    match visitor.app.store.commit(transaction).await {
        Ok(_) => Ok(Json(One {
            registered_model: ModelWire::of(model, Vec::new()),
        })),
        Err(CommitError::Conflict(Conflict::AlreadyExists { .. })) => Err(already_exists(&name)),
        Err(error) => Err(error.into()),
    }
}

fn already_exists(name: &FreeName) -> MlflowError {
    MlflowError::new(
        Code::ResourceAlreadyExists,
        format!("Registered Model (name={name}) already exists."),
    )
}

/// Tags of the registry that are valid, of which the last of each key counts.
pub(super) fn tags_of(pairs: &[Pair]) -> Result<BTreeMap<String, String>, MlflowError> {
    let mut tags = BTreeMap::new();
    for pair in pairs {
        let key = need(&pair.key, "key")?;
        let value = pair.value.clone().unwrap_or_default();
        check_registry_tag(key, &value)?;
        tags.insert(key.to_owned(), value);
    }
    check_all_tags(&tags, "", "")?;
    Ok(tags)
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Named {
    name: Option<String>,
    new_name: Option<String>,
    description: Option<String>,
    key: Option<String>,
    value: Option<String>,
    alias: Option<String>,
    version: Option<String>,
    #[serde(deserialize_with = "list")]
    stages: Vec<String>,
}

impl Named {
    fn name(&self) -> Result<&str, MlflowError> {
        need(&self.name, "name")
    }
}

async fn one(visitor: &Visitor, model: Model) -> Answer<One> {
    let versions = versions_of(visitor, &model).await?;
    let registered_model = ModelWire::of(model, versions);
    Ok(Json(One { registered_model }))
}

pub(super) async fn get(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<One> {
    visitor.may(Access::Read, Kind::Model)?;
    let model = find(&visitor, ask.name()?).await?;
    one(&visitor, model).await
}

/// Changes a model, as it is when it is written. A workload changes those that it made.
async fn change(
    visitor: &Visitor,
    name: &str,
    alter: impl Fn(&mut Model) + Send + Sync + 'static,
) -> Result<Model, MlflowError> {
    let found = find(visitor, name).await?;
    visitor.may_change(Kind::Model, &found.metadata)?;
    let id = found.metadata.id;
    let mut transaction = Transaction::new();
    transaction.alter::<ModelSpec>(id, move |model| {
        alter(model);
        model.metadata.generation += 1;
        Ok(())
    });
    visitor.app.store.commit(transaction).await?;
    let changed = visitor.app.store.get_by_id::<ModelSpec>(id).await?;
    changed.ok_or_else(|| missing(name))
}

pub(super) async fn update(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<One> {
    visitor.may(Access::Write, Kind::Model)?;
    let now = visitor.app.now();
    check_description(ask.description.as_ref())?;
    let description = ask.description.clone().unwrap_or_default();
    let model = change(&visitor, ask.name()?, move |model| {
        model.spec.description.clone_from(&description);
        model.status.updated_at = Some(now);
    })
    .await?;
    one(&visitor, model).await
}

/// Renames a model with all its versions, unless an endpoint serves it by its old name.
pub(super) async fn rename(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<One> {
    visitor.may(Access::Write, Kind::Model)?;
    let mut model = find(&visitor, ask.name()?).await?;
    visitor.may_touch(Access::Write, Kind::Model, model.metadata.id)?;
    let new = parse_name(need(&ask.new_name, "new_name")?)?;
    refuse_if_served(&visitor.app, &model, None).await?;
    let now = visitor.app.now();
    let mut transaction = Transaction::new();
    for mut version in versions_of(&visitor, &model).await? {
        version.spec.model = new.clone();
        version.metadata.name = format!("{new}/{}", version.spec.version);
        version.status.updated_at = Some(now);
        transaction.update(&version);
    }
    model.metadata.name = new.to_string();
    model.status.updated_at = Some(now);
    transaction.update(&model);
    match visitor.app.store.commit(transaction).await {
        Ok(_) => {
            let model = find(&visitor, new.as_str()).await?;
            one(&visitor, model).await
        }
        Err(CommitError::Conflict(Conflict::AlreadyExists { .. })) => Err(already_exists(&new)),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn delete(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<Done> {
    visitor.may(Access::Delete, Kind::Model)?;
    let model = find(&visitor, ask.name()?).await?;
    refuse_if_served(&visitor.app, &model, None).await?;
    let mut transaction = Transaction::new();
    transaction.delete(&model);
    visitor.app.store.commit(transaction).await?;
    Ok(Json(Done {}))
}

pub(super) async fn set_tag(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<Done> {
    visitor.may(Access::Write, Kind::Model)?;
    let key = need(&ask.key, "key")?.to_owned();
    let value = ask.value.clone().unwrap_or_default();
    check_registry_tag(&key, &value)?;
    let model = find(&visitor, ask.name()?).await?;
    check_all_tags(&model.spec.tags, &key, &value)?;
    change(&visitor, ask.name()?, move |model| {
        model.spec.tags.insert(key.clone(), value.clone());
    })
    .await?;
    Ok(Json(Done {}))
}

pub(super) async fn delete_tag(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<Done> {
    visitor.may(Access::Write, Kind::Model)?;
    let key = need(&ask.key, "key")?.to_owned();
    check_key(&key, "key")?;
    change(&visitor, ask.name()?, move |model| {
        model.spec.tags.remove(&key);
    })
    .await?;
    Ok(Json(Done {}))
}

fn parse_alias(alias: &str) -> Result<AliasName, MlflowError> {
    alias.parse().map_err(|_| {
        MlflowError::invalid(format!(
            "Invalid alias name: '{}'. Names may only contain alphanumerics, underscores (_), and \
             dashes (-); 'latest' and version numbers such as 'v1' are reserved.",
            shown(alias)
        ))
    })
}

pub(super) async fn set_alias(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<Done> {
    visitor.may(Access::Write, Kind::Model)?;
    let alias = parse_alias(need(&ask.alias, "alias")?)?;
    let name = ask.name()?;
    let version = model_versions::find(&visitor, name, need(&ask.version, "version")?).await?;
    let model = model_of(&visitor.app, &version).await?;
    let mut transaction = Transaction::new();
    transaction
        // It points at something, whatever is deleted meanwhile.
        .require_resource(Kind::ModelVersion, version.metadata.id)
        .alter::<ModelSpec>(
            model.metadata.id,
            pointing(&visitor.caller, &visitor.project, &version, alias)?,
        );
    visitor.app.store.commit(transaction).await?;
    Ok(Json(Done {}))
}

pub(super) async fn delete_alias(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<Done> {
    let model = find(&visitor, ask.name()?).await?;
    visitor.may_touch(Access::Write, Kind::Model, model.metadata.id)?;
    let alias = need(&ask.alias, "alias")?.parse::<AliasName>();
    change(&visitor, ask.name()?, move |model| {
        if let Ok(alias) = &alias {
            model.spec.aliases.remove(alias);
        }
    })
    .await?;
    Ok(Json(Done {}))
}

pub(super) async fn get_by_alias(
    visitor: Visitor,
    Ask(ask): Ask<Named>,
) -> Answer<model_versions::One> {
    visitor.may(Access::Read, Kind::Model)?;
    let alias = need(&ask.alias, "alias")?;
    let model = find(&visitor, ask.name()?).await?;
    let number = if alias.eq_ignore_ascii_case("latest") {
        let newest = versions_of(&visitor, &model).await?.pop();
        newest.map(|version| version.spec.version)
    } else {
        let alias = alias.parse::<AliasName>().ok();
        alias.and_then(|alias| model.spec.aliases.get(&alias).copied())
    };
    let number = number.ok_or_else(|| {
        MlflowError::invalid(format!(
            "Registered model alias {} not found.",
            shown(alias)
        ))
    })?;
    model_versions::one(&visitor, &model.metadata.name, &number.to_string()).await
}

#[derive(Serialize)]
pub(super) struct Versions {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_versions: Vec<VersionWire>,
}

pub(super) async fn latest_versions(visitor: Visitor, Ask(ask): Ask<Named>) -> Answer<Versions> {
    visitor.may(Access::Read, Kind::Model)?;
    let stages: Vec<ModelStage> = ask
        .stages
        .iter()
        .map(|stage| model_versions::parse_stage(stage))
        .collect::<Result<_, _>>()?;
    let model = find(&visitor, ask.name()?).await?;
    let mut newest = newest_of_each_stage(versions_of(&visitor, &model).await?);
    newest.retain(|version| {
        let stage = version.status.stage.unwrap_or(ModelStage::None);
        stages.is_empty() || stages.contains(&stage)
    });
    let wire = |version| VersionWire::of(version).pointed_at_by(&model.spec.aliases);
    let model_versions = newest.into_iter().map(wire).collect();
    Ok(Json(Versions { model_versions }))
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
    registered_models: Vec<ModelWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(super) async fn search(visitor: Visitor, Ask(ask): Ask<Search>) -> Answer<Page> {
    visitor.may(Access::Read, Kind::Model)?;
    let limit = pages::limit(ask.max_results, 100, 1_000)?;
    let offset = pages::offset(ask.page_token.as_deref())?;
    let wanted = Wanted::read(given(ask.filter.as_ref()).unwrap_or_default(), &["name"])?;
    let order = filter::parse_order(&ask.order_by)?;
    let known = ["name", "timestamp", "last_updated_timestamp"];
    if let Some(by) = order.iter().find(|by| !known.contains(&by.key.as_str())) {
        return Err(MlflowError::invalid(format!(
            "Invalid order by key '{}' specified. Valid keys are {}",
            shown(&by.key),
            known.join(", ")
        )));
    }
    let query = Query::project(&visitor.project);
    let mut found = visitor.app.store.list_all::<ModelSpec>(query).await?;
    found.retain(|model| {
        let is_prompt = model
            .spec
            .tags
            .get(IS_PROMPT_TAG)
            .is_some_and(|tag| tag == "true");
        let text = |_: &str| Some(model.metadata.name.clone());
        wanted.takes(is_prompt) && wanted.holds(text, |_| None, &model.spec.tags)
    });
    found.sort_by(|a, b| {
        let by = |by: &filter::Order| {
            let way = match by.key.as_str() {
                "name" => a.metadata.name.cmp(&b.metadata.name),
                _ => updated(a).cmp(&updated(b)),
            };
            if by.descending { way.reverse() } else { way }
        };
        let name = || a.metadata.name.cmp(&b.metadata.name);
        order
            .iter()
            .map(by)
            .find(|way| way.is_ne())
            .unwrap_or_else(name)
    });
    let (page, next_page_token) = pages::cut(found, offset, limit);
    let mut registered_models = Vec::with_capacity(page.len());
    for model in page {
        let versions = versions_of(&visitor, &model).await?;
        registered_models.push(ModelWire::of(model, versions));
    }
    Ok(Json(Page {
        registered_models,
        next_page_token,
    }))
}

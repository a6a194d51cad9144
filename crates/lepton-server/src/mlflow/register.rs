//! Registering: from where a model lies to a version of a registered model.
//!
//! The files that the source names are cited by the version, so it can be deployed, and stays
//! whole whatever becomes of the run.

use lepton_access::Access;
use lepton_store::{CommitError, Conflict, Transaction};
use lepton_types::resources::{
    FileEntry, Kind, ModelOrigin, ModelVersion, ModelVersionSpec, Resource,
};
use lepton_types::{Id, RunId};
use serde::Deserialize;

use super::artifacts::{Place, files_at, place_of};
use super::ask::{Ask, Pair, Visitor, given, list, need};
use super::error::{Answer, Code, MlflowError, shown};
use super::experiments::default_id;
use super::filter::registry::IS_PROMPT_TAG;
use super::rules::{TAG_CHARS_MAX, check_description};
use super::wire::{RunInfo, model_id};
use super::{logged_models, model_versions, registered_models as models, runs};
use crate::lineage;

/// How often it is tried again when others register at the same time.
const TRIES: u32 = 64;

/// The tag of a logged model that lists what it was registered as.
const VERSIONS_TAG: &str = "mlflow.modelVersions";

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Create {
    name: Option<String>,
    source: Option<String>,
    run_id: Option<String>,
    #[serde(deserialize_with = "list")]
    tags: Vec<Pair>,
    run_link: Option<String>,
    description: Option<String>,
    model_id: Option<String>,
}

pub(super) async fn create(visitor: Visitor, Ask(ask): Ask<Create>) -> Answer<model_versions::One> {
    visitor.may(Access::Write, Kind::ModelVersion)?;
    let name = need(&ask.name, "name")?;
    let origin = Origin::of(&visitor, &ask).await?;
    let files = files_of(&visitor, &origin.storage).await?;
    let tags = models::tags_of(&ask.tags)?;
    check_description(ask.description.as_ref())?;
    let mut tries = 0;
    loop {
        let mut model = models::find(&visitor, name).await?;
        let now = visitor.app.now();
        model.status.latest_version += 1;
        model.status.updated_at = Some(now);
        let number = model.status.latest_version;
        let spec = ModelVersionSpec {
            model: models::parse_name(name)?,
            version: number,
            files: files.clone(),
            run: origin.run,
            description: ask.description.clone().unwrap_or_default(),
            tags: tags.clone(),
            origin: Some(ModelOrigin {
                source: origin.source.clone(),
                storage: origin.storage.clone(),
                logged_model: origin.logged_model,
                run_link: given(ask.run_link.as_ref()).map(str::to_owned),
            }),
        };
        let (id, key) = (visitor.app.ids.next_id(), format!("{name}/{number}"));
        let version: ModelVersion = Resource::draft(id, visitor.project.clone(), key, now, spec)
            .created_by(visitor.caller.0.label())
            .owned_by(Kind::Model, model.metadata.id);
        let mut transaction = Transaction::new();
        transaction.update(&model).create(&version);
        let made = lineage::model_node(&version);
        let (app, project) = (&visitor.app, &visitor.project);
        lineage::made_by(app, &mut transaction, project, origin.run, made).await?;
        if let Some(logged) = origin.logged_model {
            let registered = serde_json::json!({"name": name, "version": number});
            transaction
                .require_logged_model(logged, &visitor.project)
                .add_to_tag(
                    RunId::from(logged),
                    VERSIONS_TAG,
                    &registered,
                    TAG_CHARS_MAX,
                );
        }
        match visitor.app.store.commit(transaction).await {
            Ok(_) => return model_versions::one(&visitor, name, &number.to_string()).await,
            Err(CommitError::Conflict(
                Conflict::Changed { .. } | Conflict::AlreadyExists { .. },
            )) if tries < TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Where a version comes from.
struct Origin {
    source: String,
    storage: String,
    run: Option<RunId>,
    logged_model: Option<Id>,
}

impl Origin {
    async fn of(visitor: &Visitor, ask: &Create) -> Result<Self, MlflowError> {
        let source = need(&ask.source, "source")?;
        let named_run = given(ask.run_id.as_ref());
        let named_model = given(ask.model_id.as_ref());
        // A prompt's text is in its tags, and its source names nothing.
        let is_prompt = |tag: &Pair| tag.key.as_deref() == Some(IS_PROMPT_TAG);
        if !ask.tags.iter().any(is_prompt) {
            check_source(source)?;
        }
        let mut origin = Self {
            source: source.to_owned(),
            storage: source.to_owned(),
            run: named_run.map(runs::parse).transpose()?,
            logged_model: named_model.map(logged_models::parse).transpose()?,
        };
        // Whatever the source is: a logged model that is named beside it is of this project.
        if let Some(model) = named_model {
            let found = logged_models::find(visitor, model).await;
            found.map_err(|_| elsewhere(source, "model_id"))?;
        }
        if let Some(rest) = source.strip_prefix("models:/") {
            origin.follow_model(visitor, rest).await?;
        } else if let Some(rest) = source.strip_prefix("runs:/") {
            origin.follow_run(visitor, rest).await?;
        } else if let Some(model) = origin.logged_model {
            let record = logged_models::find(visitor, &model_id(model)).await;
            let record = record.map_err(|_| elsewhere(source, "model_id"))?;
            origin.check_within(&record.model.artifact_uri, "model_id")?;
            origin.take_run(&record.model.source_run);
        } else if source.starts_with("mlflow-artifacts:") {
            let run = origin.run.ok_or_else(|| elsewhere(source, "run_id"))?;
            let run = runs::find(visitor, run)
                .await
                .map_err(|_| elsewhere(source, "run_id"))?;
            let root = RunInfo::of(&run, default_id(visitor).await?).artifact_uri;
            origin.check_within(&root, "run_id")?;
        }
        Ok(origin)
    }

    /// `models:/m-ID`, `models:/NAME/VERSION`, `models:/NAME@ALIAS`.
    async fn follow_model(&mut self, visitor: &Visitor, rest: &str) -> Result<(), MlflowError> {
        if let Ok(id) = logged_models::parse(rest) {
            if self.logged_model.is_some_and(|named| named != id) {
                return Err(elsewhere(&self.source, "model_id"));
            }
            let record = logged_models::find(visitor, rest).await?;
            self.storage = record.model.artifact_uri;
            self.logged_model = Some(id);
            self.take_run(&record.model.source_run);
            return Ok(());
        }
        let (name, version) = match (rest.rsplit_once('/'), rest.rsplit_once('@')) {
            (Some((name, version)), _) => (name.to_owned(), version.to_owned()),
            (None, Some((name, alias))) => {
                let model = models::find(visitor, name).await?;
                let alias = alias.parse::<lepton_types::AliasName>().ok();
                let number = alias.and_then(|alias| model.spec.aliases.get(&alias).copied());
                let number = number.ok_or_else(|| elsewhere(&self.source, "source"))?;
                (name.to_owned(), number.to_string())
            }
            (None, None) => return Err(elsewhere(&self.source, "source")),
        };
        let version = model_versions::find(visitor, &name, &version).await?;
        self.source = format!("models:/{name}/{}", version.spec.version);
        self.storage = match &version.spec.origin {
            Some(origin) => origin.storage.clone(),
            None => model_versions::own_location(&version),
        };
        self.run = self.run.or(version.spec.run);
        let logged = version.spec.origin.and_then(|origin| origin.logged_model);
        self.logged_model = self.logged_model.or(logged);
        Ok(())
    }

    /// `runs:/RUN/PATH`.
    async fn follow_run(&mut self, visitor: &Visitor, rest: &str) -> Result<(), MlflowError> {
        let (id, path) = rest.split_once('/').unwrap_or((rest, ""));
        let run = runs::parse(id)?;
        if self.run != Some(run) {
            return Err(elsewhere(&self.source, "run_id"));
        }
        let run = runs::find(visitor, run).await?;
        let root = RunInfo::of(&run, default_id(visitor).await?).artifact_uri;
        self.storage = format!("{root}/{path}");
        Ok(())
    }

    fn take_run(&mut self, source_run: &str) {
        self.run = self.run.or_else(|| source_run.parse().ok());
    }

    /// Refuses a source that does not lie where the record that is named keeps its files.
    fn check_within(&self, root: &str, named: &str) -> Result<(), MlflowError> {
        let rest = self.source.strip_prefix(root);
        match rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            true => Ok(()),
            false => Err(elsewhere(&self.source, named)),
        }
    }
}

fn elsewhere(source: &str, named: &str) -> MlflowError {
    MlflowError::invalid(format!(
        "Invalid model version source: '{}'. The {named} request parameter must identify the \
         resource that contains the source.",
        shown(source)
    ))
}

/// Refuses what only a client's own disk has, and what climbs out of its folder.
fn check_source(source: &str) -> Result<(), MlflowError> {
    let scheme = source.split_once(':').map(|(scheme, _)| scheme);
    let local = scheme.is_none_or(|scheme| scheme == "file" || scheme.len() == 1);
    let climbs = source.split(['/', '\\']).any(|part| part == "..");
    let long = source.len() > 2_048 || source.contains(char::is_control);
    if local || climbs || long {
        return Err(MlflowError::invalid(format!(
            "Invalid model version source: '{}'. It must be a URI that the server can reach, \
             without '..'",
            shown(source)
        )));
    }
    Ok(())
}

/// The files at a URI of the proxy, by their paths below it; none where somebody else has them.
async fn files_of(visitor: &Visitor, storage: &str) -> Result<Vec<FileEntry>, MlflowError> {
    let Some(path) = storage.strip_prefix("mlflow-artifacts:") else {
        return Ok(Vec::new());
    };
    let path = path.trim_matches('/');
    let place = place_of(path)?;
    let folder = match &place {
        Place::Run(_, folder) | Place::Kept(folder) | Place::Version(_, folder) => folder.clone(),
    };
    let mut files = match files_at(visitor, &place).await {
        Err(error) if error.code == Code::ResourceDoesNotExist => Vec::new(),
        files => files?,
    };
    for file in &mut files {
        let below = file
            .path
            .strip_prefix(folder.as_str())
            .unwrap_or(&file.path);
        let below = below.trim_start_matches('/');
        let name = || folder.rsplit('/').next().unwrap_or_default();
        // A source may be one file.
        file.path = if below.is_empty() { name() } else { below }.to_owned();
    }
    Ok(files)
}

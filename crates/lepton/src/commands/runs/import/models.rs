//! Bringing registered models: through the server's MLflow face, which has words for all of it.
//!
//! A version keeps its number: where numbers are missing at the source, ones are made here and
//! deleted. A version that was brought says so in a tag, and is passed over the next time.

use std::collections::BTreeMap;

use lepton_client::Method;
use lepton_types::resources::{Model, ModelSelector, ModelVersion};
use lepton_types::{FreeName, RunId};
use serde_json::{Value, json};

use super::registry::{Place, SourceModel, SourceVersion, place_of};
use super::source::Source;
use super::{Importing, is_refused};
use crate::failure::Failure;
use crate::progress::Progress;

/// The tag that says which version of the source it is.
const VERSION_TAG: &str = "lepton.import.version";

/// Numbers in a row that are missing at the source; more are a mistake.
const GAP_MAX: u32 = 1_000;

impl Importing<'_> {
    pub(super) fn bring_model(
        &mut self,
        source: &Source,
        model: &SourceModel,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let Ok(name) = model.name.parse::<FreeName>() else {
            self.left_out(format!(
                "model `{}`: its name cannot be used here",
                model.name
            ));
            return Ok(());
        };
        progress.say(model.name.clone());
        let wanted: Vec<&SourceVersion> = model
            .versions
            .iter()
            .filter(|version| !self.only_some || self.is_of_what_is_here(version))
            .collect();
        if wanted.is_empty() && self.only_some {
            return Ok(());
        }
        let mut here = self.make_model(&name, model)?;
        for version in wanted {
            here.status.latest_version = here.status.latest_version.max(self.bring_version(
                source,
                (&name, here.status.latest_version),
                version,
            )?);
        }
        for (alias, number) in &model.aliases {
            let is_taken = here
                .spec
                .aliases
                .keys()
                .any(|known| known.as_str() == alias);
            let is_there = || self.brought_version(&name, *number);
            if !is_taken && is_there()?.is_some() {
                let fields =
                    json!({"name": name.as_str(), "alias": alias, "version": number.to_string()});
                self.tell(
                    &Method::POST,
                    "registered-models/alias",
                    &fields,
                    &model.name,
                )?;
            }
        }
        Ok(())
    }

    /// Whether a version is of a run or of a logged model that is here.
    fn is_of_what_is_here(&self, version: &SourceVersion) -> bool {
        let logged = match place_of(&version.location) {
            Some(Place::LoggedModel(model) | Place::InLoggedModel { model, .. }) => {
                self.logged.contains_key(&model)
            }
            Some(Place::InRun { .. }) | None => false,
        };
        logged || self.runs.contains_key(&version.run)
    }

    fn make_model(&mut self, name: &FreeName, model: &SourceModel) -> Result<Model, Failure> {
        match self.client.model(name) {
            Ok(found) => return Ok(found),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let fields = json!({
            "name": name.as_str(), "description": model.description, "tags": tags_of(&model.tags),
        });
        self.tell(
            &Method::POST,
            "registered-models/create",
            &fields,
            &model.name,
        )?;
        self.brought.models += 1;
        Ok(self.client.model(name)?)
    }

    /// Brings a version, if it is not here. Returns the newest number.
    fn bring_version(
        &mut self,
        source: &Source,
        (name, latest): (&FreeName, u32),
        version: &SourceVersion,
    ) -> Result<u32, Failure> {
        let shown = format!("model `{name}` version {}", version.number);
        if version.number <= latest {
            match self.brought_version(name, version.number)? {
                // It was deleted here.
                None => {}
                Some(found) if found.spec.tags.get(VERSION_TAG) == Some(&mark(version)) => {
                    self.stage(name, version, found.status.stage.is_none())?;
                }
                Some(_) => self.left_out(format!("{shown}: another one has that number here")),
            }
            return Ok(latest);
        }
        if version.number - latest > GAP_MAX {
            self.left_out(format!("{shown}: too many numbers before it are missing"));
            return Ok(latest);
        }
        let Some(origin) = self.origin_of(source, name, version, &shown)? else {
            return Ok(latest);
        };
        for missing in latest + 1..version.number {
            let fields = json!({"name": name.as_str(), "source": "https://deleted.invalid/"});
            self.tell(&Method::POST, "model-versions/create", &fields, &shown)?;
            self.client.delete_model_version(name, missing)?;
        }
        let mut tags = version.tags.clone();
        tags.insert(VERSION_TAG.to_owned(), mark(version));
        let mut fields = json!({
            "name": name.as_str(), "description": version.description, "tags": tags_of(&tags),
        });
        for (field, value) in origin {
            fields[field] = value;
        }
        if !self.tell(&Method::POST, "model-versions/create", &fields, &shown)? {
            return Ok(latest);
        }
        self.brought.versions += 1;
        self.stage(name, version, true)?;
        Ok(version.number)
    }

    fn stage(
        &mut self,
        name: &FreeName,
        version: &SourceVersion,
        has_none: bool,
    ) -> Result<(), Failure> {
        if has_none && !matches!(version.stage.as_str(), "" | "None") {
            let number = version.number.to_string();
            let fields = json!({"name": name.as_str(), "version": number, "stage": version.stage});
            let shown = format!("model `{name}` version {number}: its stage");
            self.tell(
                &Method::POST,
                "model-versions/transition-stage",
                &fields,
                &shown,
            )?;
        }
        Ok(())
    }

    fn brought_version(
        &self,
        name: &FreeName,
        number: u32,
    ) -> Result<Option<ModelVersion>, Failure> {
        match self
            .client
            .model_version(name, &ModelSelector::Version(number))
        {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The fields that say where a version comes from. Its files lie with its run here; those that the
    /// source keeps elsewhere are put there. None if that is not possible.
    fn origin_of(
        &mut self,
        source: &Source,
        name: &FreeName,
        version: &SourceVersion,
        shown: &str,
    ) -> Result<Option<Vec<(&'static str, Value)>>, Failure> {
        let place = place_of(&version.location);
        if let Some(origin) = place
            .as_ref()
            .and_then(|place| self.with_logged_model(place))
        {
            return Ok(Some(origin));
        }
        let run = match &place {
            Some(Place::InRun { run, .. }) => run,
            _ => &version.run,
        };
        let (Some(place), Some(id)) = (&place, self.runs.get(run).copied()) else {
            let why = match place {
                Some(_) => "its run was not imported",
                None => "its files are where only their owner can read them",
            };
            self.left_out(format!("{shown}: {why}"));
            return Ok(None);
        };
        let path = match place {
            Place::InRun { path, .. } => path.clone(),
            _ => {
                let folder = format!("registered-models/{name}/{}", version.number);
                self.bring_model_files(source, place, (id, &folder), shown)?;
                folder
            }
        };
        let source = format!("runs:/{id}/{path}");
        Ok(Some(vec![
            ("source", source.trim_end_matches('/').into()),
            ("run_id", id.to_string().into()),
        ]))
    }

    /// The same for files that lie with a logged model that is here.
    fn with_logged_model(&self, place: &Place) -> Option<Vec<(&'static str, Value)>> {
        let (model, path) = match place {
            Place::LoggedModel(model) => (model, ""),
            Place::InLoggedModel { model, path, .. } => (model, path.as_str()),
            Place::InRun { .. } => return None,
        };
        let here = self.logged.get(model).filter(|_| self.artifacts)?;
        let source = match path {
            "" => format!("models:/{}", here.id),
            path => format!("{}/{path}", here.artifact_uri),
        };
        let mut origin = vec![
            ("source", source.into()),
            ("model_id", here.id.clone().into()),
        ];
        if !here.source_run.is_empty() {
            origin.push(("run_id", here.source_run.clone().into()));
        }
        Some(origin)
    }

    fn bring_model_files(
        &mut self,
        source: &Source,
        place: &Place,
        (run, folder): (RunId, &str),
        shown: &str,
    ) -> Result<(), Failure> {
        source.each_model_file(place, &mut |path, file| {
            let path = format!("{folder}/{path}");
            match self.client.put_artifact(run, &path, file, &mut |_| {}) {
                Ok(_) => self.brought.artifacts += 1,
                Err(error) if is_refused(&error) => {
                    self.left_out(format!("{shown}: file `{path}`: {error}"));
                }
                Err(error) => return Err(error.into()),
            }
            Ok(())
        })
    }

    /// Tells the MLflow face something; whether it was taken. What it refuses is left out.
    pub(super) fn tell(
        &mut self,
        method: &Method,
        path: &str,
        fields: &Value,
        shown: &str,
    ) -> Result<bool, Failure> {
        match self.client.mlflow(method, path, fields) {
            Ok(_) => Ok(true),
            Err(lepton_client::ClientError::Api(error)) if error.status == 400 => {
                self.left_out(format!("{shown}: {error}"));
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What tells a version of the source from another one of its number.
fn mark(version: &SourceVersion) -> String {
    format!("{}@{}", version.number, version.created)
}

fn tags_of(tags: &BTreeMap<String, String>) -> Vec<Value> {
    let tag = |(key, value)| json!({"key": key, "value": value});
    tags.iter().map(tag).collect()
}

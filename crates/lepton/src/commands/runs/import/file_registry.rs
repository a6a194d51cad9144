//! The model registry in MLflow's file store.
//!
//! ```text
//! mlruns/models/NAME/meta.yaml
//!                    tags/KEY              the value
//!                    aliases/ALIAS         the version
//!                    version-N/meta.yaml
//!                              tags/KEY    the value
//! mlruns/EXPERIMENT/models/MODEL/artifacts/PATH    files of logged models
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::file_store::{FileStore, Values, files_in, folders_in, read_yaml, values_in};
use super::registry::{Place, SourceModel, SourceVersion};
use crate::failure::Failure;

#[derive(Debug, Deserialize)]
struct ModelMeta {
    name: String,
    #[serde(default)]
    description: Option<String>,
}

#[derive(Debug, Deserialize)]
struct VersionMeta {
    version: yaml_serde::Value,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    run_id: Option<String>,
    #[serde(default)]
    current_stage: Option<String>,
    #[serde(default)]
    creation_timestamp: Option<i64>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    storage_location: Option<String>,
}

impl FileStore {
    /// The registered models; in words those that cannot be read.
    pub(super) fn models(&self) -> Result<Vec<Result<SourceModel, String>>, Failure> {
        let root = self.root().join("models");
        if !root.is_dir() {
            return Ok(Vec::new());
        }
        let mut folders = folders_in(&root)?;
        folders.retain(|folder| folder.join("meta.yaml").is_file());
        folders.iter().map(|folder| model_in(folder)).collect()
    }

    /// The files of a logged model.
    pub(super) fn each_model_file(
        &self,
        place: &Place,
        each: &mut dyn FnMut(&str, &Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for root in self.model_folders(place)? {
            for (path, file) in files_in(&root)? {
                each(&path, &file)?;
            }
        }
        Ok(())
    }

    /// Where the files of a logged model may be.
    fn model_folders(&self, place: &Place) -> Result<Vec<PathBuf>, Failure> {
        Ok(match place {
            Place::InRun { .. } => Vec::new(),
            Place::InLoggedModel {
                experiment,
                model,
                path,
            } => {
                let folder = self.root().join(experiment).join("models").join(model);
                vec![folder.join("artifacts").join(path)]
            }
            Place::LoggedModel(model) => folders_in(self.root())?
                .into_iter()
                .map(|experiment| experiment.join("models").join(model).join("artifacts"))
                .filter(|folder| folder.is_dir())
                .take(1)
                .collect(),
        })
    }
}

fn model_in(folder: &Path) -> Result<Result<SourceModel, String>, Failure> {
    let meta: ModelMeta = match read_yaml(&folder.join("meta.yaml"))? {
        Ok(meta) => meta,
        Err(why) => return Ok(Err(why)),
    };
    let tags: Values = values_in(folder, "tags")?;
    let aliases: Values = values_in(folder, "aliases")?;
    let (tags, aliases) = match (tags, aliases) {
        (Ok(tags), Ok(aliases)) => (tags, aliases),
        (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
    };
    let number = |(alias, text): (String, String)| Some((alias, text.trim().parse().ok()?));
    let mut model = SourceModel {
        name: meta.name,
        description: meta.description.unwrap_or_default(),
        tags,
        aliases: aliases
            .into_iter()
            .filter_map(number)
            .collect::<BTreeMap<_, _>>(),
        versions: Vec::new(),
    };
    for folder in folders_in(folder)? {
        if folder.join("meta.yaml").is_file() {
            match version_in(&folder)? {
                Ok(Some(version)) => model.versions.push(version),
                Ok(None) => {}
                Err(why) => return Ok(Err(why)),
            }
        }
    }
    model.versions.sort_by_key(|version| version.number);
    Ok(Ok(model))
}

/// A version; none if it was deleted.
fn version_in(folder: &Path) -> Result<Result<Option<SourceVersion>, String>, Failure> {
    let meta: VersionMeta = match read_yaml(&folder.join("meta.yaml"))? {
        Ok(meta) => meta,
        Err(why) => return Ok(Err(why)),
    };
    let tags = match values_in(folder, "tags")? {
        Ok(tags) => tags,
        Err(why) => return Ok(Err(why)),
    };
    let stage = meta.current_stage.unwrap_or_default();
    if stage == "Deleted_Internal" {
        return Ok(Ok(None));
    }
    let number = match &meta.version {
        yaml_serde::Value::String(text) => text.parse().ok(),
        yaml_serde::Value::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
        _ => None,
    };
    let Some(number) = number else {
        return Ok(Err(format!(
            "`{}`: its version is no number",
            folder.display()
        )));
    };
    let location = meta
        .storage_location
        .filter(|location| !location.is_empty());
    Ok(Ok(Some(SourceVersion {
        number,
        description: meta.description.unwrap_or_default(),
        run: meta.run_id.unwrap_or_default(),
        stage,
        tags,
        created: meta.creation_timestamp.unwrap_or_default(),
        location: location.or(meta.source).unwrap_or_default(),
    })))
}

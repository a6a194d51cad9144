//! The model registry of a running MLflow server.

use std::path::Path;

use serde_json::Value;

use super::registry::{Place, SourceModel, SourceVersion, pairs_of};
use super::tracking_server::integer;
use super::transport::TrackingServer;
use crate::failure::Failure;

/// Models or versions on one page.
const A_PAGE: &str = "200";

/// Folders within folders of files.
const DEPTH_MAX: usize = 64;

impl TrackingServer {
    /// The registered models; in words those that cannot be read.
    pub(super) fn models(&self) -> Result<Vec<Result<SourceModel, String>>, Failure> {
        let mut models = Vec::new();
        for model in self.all("registered-models/search", "registered_models", None)? {
            models.push(match model["name"].as_str() {
                Some(name) => Ok(self.model_of(name, &model)?),
                None => Err("a registered model: it has no name".to_owned()),
            });
        }
        Ok(models)
    }

    fn model_of(&self, name: &str, model: &Value) -> Result<SourceModel, Failure> {
        // Only what is read one by one has all aliases.
        let whole: Value = self.get("registered-models/get", &[("name", name)])?;
        let aliases = whole["registered_model"]["aliases"].as_array();
        let aliases = aliases.map(Vec::as_slice).unwrap_or_default();
        let alias = |alias: &Value| {
            let number = u32::try_from(integer(&alias["version"])?).ok()?;
            Some((alias["alias"].as_str()?.to_owned(), number))
        };
        let filter = match name.contains('\'') {
            true => format!("name=\"{name}\""),
            false => format!("name='{name}'"),
        };
        let found = self.all("model-versions/search", "model_versions", Some(&filter))?;
        let mut versions = Vec::with_capacity(found.len());
        for version in &found {
            if let Some(number) = integer(&version["version"]).and_then(|n| u32::try_from(n).ok()) {
                versions.push(self.version_of(name, number, version)?);
            }
        }
        versions.sort_by_key(|version| version.number);
        Ok(SourceModel {
            name: name.to_owned(),
            description: text(&model["description"]),
            tags: pairs_of(&model["tags"]),
            aliases: aliases.iter().filter_map(alias).collect(),
            versions,
        })
    }

    fn version_of(
        &self,
        name: &str,
        number: u32,
        version: &Value,
    ) -> Result<SourceVersion, Failure> {
        let shown = number.to_string();
        let query = [("name", name), ("version", shown.as_str())];
        let uri: Value = self.get("model-versions/get-download-uri", &query)?;
        Ok(SourceVersion {
            number,
            description: text(&version["description"]),
            run: text(&version["run_id"]),
            stage: text(&version["current_stage"]),
            tags: pairs_of(&version["tags"]),
            created: integer(&version["creation_timestamp"]).unwrap_or_default(),
            location: text(&uri["artifact_uri"]),
        })
    }

    /// All pages of a list.
    fn all(&self, path: &str, field: &str, filter: Option<&str>) -> Result<Vec<Value>, Failure> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let mut query = vec![("max_results", A_PAGE)];
            query.extend(filter.map(|filter| ("filter", filter)));
            if !token.is_empty() {
                query.push(("page_token", token.as_str()));
            }
            let mut page: Value = self.get(path, &query)?;
            if let Value::Array(found) = page[field].take() {
                all.extend(found);
            }
            match page["next_page_token"].as_str() {
                Some(next) if !next.is_empty() => token = next.to_owned(),
                _ => return Ok(all),
            }
        }
    }

    /// The files of a logged model, through the server's proxy of artifacts.
    pub(super) fn each_model_file(
        &self,
        place: &Place,
        each: &mut dyn FnMut(&str, &Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let root = match place {
            Place::InRun { .. } => return Ok(()),
            Place::InLoggedModel {
                experiment,
                model,
                path,
            } => {
                let root = format!("{experiment}/models/{model}/artifacts/{path}");
                root.trim_end_matches('/').to_owned()
            }
            Place::LoggedModel(model) => {
                let found: Value = self.get(&format!("logged-models/{model}"), &[])?;
                let uri = text(&found["model"]["info"]["artifact_uri"]);
                match uri.strip_prefix("mlflow-artifacts:") {
                    Some(path) => path.trim_matches('/').to_owned(),
                    None => return Ok(()),
                }
            }
        };
        let mut folders = vec![(String::new(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let listed = format!("{root}/{folder}");
            let answer: Value = self.proxied(listed.trim_end_matches('/'))?;
            let files = answer["files"].as_array();
            for file in files.map(Vec::as_slice).unwrap_or_default() {
                // Paths are told from the folder that was listed.
                let name = text(&file["path"]);
                let Some(name) = name.rsplit('/').next().filter(|name| is_name(name)) else {
                    continue;
                };
                let path = match folder.is_empty() {
                    true => name.to_owned(),
                    false => format!("{folder}/{name}"),
                };
                if file["is_dir"].as_bool() != Some(true) {
                    let bytes = self.proxied_file(&format!("{root}/{path}"))?;
                    each(&path, bytes.path())?;
                } else if depth < DEPTH_MAX {
                    folders.push((path, depth + 1));
                }
            }
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

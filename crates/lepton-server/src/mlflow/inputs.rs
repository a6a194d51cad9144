//! What went into a run and came out of it: data, and logged models.

use lepton_api::ErrorCode;
use lepton_types::Id;
use lepton_types::resources::{LineageNode, LineageRelation};
use lepton_types::tracking::{ModelLink, ModelUse, RunDataset};
use serde::Deserialize;

use super::ask::{Ask, Pair, Visitor, int, list, need};
use super::error::{Answer, MlflowError};
use super::logged_models;
use super::logging::{begin, commit};
use super::runs::{enter, find};
use super::wire::Done;
use crate::http::datasets::find_version;
use crate::lineage::{dataset_node, edge, logged_dataset_node, run_node};

/// Characters of the name and of the digest of data, as MLflow has it.
pub(super) const DATASET_NAME_CHARS_MAX: usize = 500;
pub(super) const DATASET_DIGEST_CHARS_MAX: usize = 36;

/// Data in one request.
const DATASETS_MAX: usize = 1_000;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Inputs {
    run_id: Option<String>,
    #[serde(deserialize_with = "list")]
    datasets: Vec<Input>,
    #[serde(deserialize_with = "list")]
    models: Vec<Model>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Input {
    #[serde(deserialize_with = "list")]
    tags: Vec<Pair>,
    dataset: Option<Dataset>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Dataset {
    name: Option<String>,
    digest: Option<String>,
    source_type: Option<String>,
    source: Option<String>,
    schema: Option<String>,
    profile: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Model {
    model_id: Option<String>,
    #[serde(deserialize_with = "int")]
    step: Option<i64>,
}

pub(super) async fn log_inputs(visitor: Visitor, Ask(ask): Ask<Inputs>) -> Answer<Done> {
    let run = enter(&visitor, need(&ask.run_id, "run_id")?).await?;
    if ask.datasets.len() + ask.models.len() > DATASETS_MAX {
        return Err(MlflowError::invalid(format!(
            "a request takes {DATASETS_MAX} inputs"
        )));
    }
    let datasets: Vec<RunDataset> = ask
        .datasets
        .into_iter()
        .map(Input::read)
        .collect::<Result<_, _>>()?;
    let links = links(&ask.models, ModelUse::Input)?;
    let found = find(&visitor, run).await?;
    let mut transaction = begin(&visitor, run);
    let (reader, now) = (run_node(run, &found.metadata.name), visitor.app.now());
    for data in &datasets {
        let node = node_of(&visitor, data).await?;
        let read = edge(node, LineageRelation::ReadBy, reader.clone(), now);
        transaction.link(&visitor.project, read);
    }
    transaction
        .link_datasets(run, found.spec.experiment, datasets)
        .link_models(run, links);
    commit(&visitor, transaction).await
}

/// What stands for data in the lineage: the version, if it was read from a dataset of this project.
async fn node_of(visitor: &Visitor, data: &RunDataset) -> Result<LineageNode, MlflowError> {
    if let Some((name, version)) = own_dataset(&data.source) {
        match find_version(&visitor.app, &visitor.project, name, version).await {
            Ok(version) => return Ok(dataset_node(&version)),
            Err(error) if error.code() == ErrorCode::Internal => return Err(error.into()),
            // It is not ours, or not any more.
            Err(_) => {}
        }
    }
    Ok(logged_dataset_node(
        &visitor.project,
        &data.name,
        &data.digest,
    ))
}

/// The name and the version in `s3://datasets/NAME/VERSION/…`, wherever a source says it.
fn own_dataset(source: &str) -> Option<(&str, &str)> {
    let (_, path) = source.split_once("s3://datasets/")?;
    let path = path.split('"').next()?;
    let (name, rest) = path.split_once('/')?;
    let version = rest.split('/').next()?;
    (!name.is_empty() && !version.is_empty()).then_some((name, version))
}

impl Input {
    fn read(self) -> Result<RunDataset, MlflowError> {
        let data = self
            .dataset
            .ok_or_else(|| MlflowError::invalid("Dataset input must have a dataset"))?;
        let long = |what: &str, text: &str, most: usize| match text.chars().count() > most {
            true => Err(MlflowError::invalid(format!(
                "'{what}' exceeds the maximum length of {most} characters"
            ))),
            false => Ok(()),
        };
        let need = |text: &Option<String>, what: &str, most: usize| {
            let text = text.clone().unwrap_or_default();
            if text.is_empty() && what != "source" {
                return Err(MlflowError::invalid(format!(
                    "Dataset {what} cannot be None"
                )));
            }
            long(what, &text, most).map(|()| text)
        };
        let tags = self.tags.into_iter().map(|tag| {
            let (key, value) = (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
            long("key", &key, 255)?;
            long("value", &value, 500)?;
            Ok((key, value))
        });
        long(
            "schema",
            data.schema.as_deref().unwrap_or_default(),
            1_048_575,
        )?;
        long(
            "profile",
            data.profile.as_deref().unwrap_or_default(),
            16_777_215,
        )?;
        Ok(RunDataset {
            name: need(&data.name, "name", DATASET_NAME_CHARS_MAX)?,
            digest: need(&data.digest, "digest", DATASET_DIGEST_CHARS_MAX)?,
            source_type: need(&data.source_type, "source_type", 36)?,
            source: need(&data.source, "source", 65_535)?,
            schema: data.schema.filter(|text| !text.is_empty()),
            profile: data.profile.filter(|text| !text.is_empty()),
            tags: tags.collect::<Result<_, MlflowError>>()?,
        })
    }
}

fn links(models: &[Model], r#use: ModelUse) -> Result<Vec<ModelLink>, MlflowError> {
    let link = |model: &Model| {
        let id: Id = logged_models::parse(need(&model.model_id, "model_id")?)?;
        Ok(ModelLink {
            r#use,
            model: id,
            step: model.step.unwrap_or(0),
        })
    };
    models.iter().map(link).collect()
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Outputs {
    run_id: Option<String>,
    #[serde(deserialize_with = "list")]
    models: Vec<Model>,
}

pub(super) async fn log_outputs(visitor: Visitor, Ask(ask): Ask<Outputs>) -> Answer<Done> {
    let run = enter(&visitor, need(&ask.run_id, "run_id")?).await?;
    if ask.models.is_empty() {
        return Err(MlflowError::required("models"));
    }
    if ask.models.len() > DATASETS_MAX {
        return Err(MlflowError::invalid(format!(
            "a request takes {DATASETS_MAX} models"
        )));
    }
    let links = links(&ask.models, ModelUse::Output)?;
    let mut transaction = begin(&visitor, run);
    transaction.link_models(run, links);
    commit(&visitor, transaction).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_below_the_bucket_of_datasets_is_a_version() {
        let uri = r#"{"uri": "s3://datasets/wine/3/wine.csv"}"#;
        assert_eq!(own_dataset(uri), Some(("wine", "3")));
        assert_eq!(own_dataset("s3://datasets/wine/3"), Some(("wine", "3")));
        assert_eq!(own_dataset(r#"{"uri": "s3://datasets/wine"}"#), None);
        assert_eq!(own_dataset("s3://other/wine/3"), None);
    }
}

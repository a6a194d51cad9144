//! Model: a registered model with numbered versions and aliases.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FileEntry, Resource, spec_of, word_enum};
use crate::ids::serde_as_text;
use crate::{AliasName, FreeName, Id, ParseNameError, RunId, Timestamp};

/// A registered model, across its versions.
pub type Model = Resource<ModelSpec, ModelStatus>;
/// One version of a model.
pub type ModelVersion = Resource<ModelVersionSpec, ModelVersionStatus>;

/// What is wanted of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// What it is.
    #[serde(default)]
    pub description: String,
    /// Names that point at versions.
    #[serde(default)]
    pub aliases: BTreeMap<AliasName, u32>,
    /// Free words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// What is of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ModelStatus {
    /// The newest version; 0 before the first. Numbers are never used again.
    pub latest_version: u32,
    /// When it or a version of it last changed; when it was made where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
}

/// What a version is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelVersionSpec {
    /// The model's name.
    pub model: FreeName,
    /// Counts from 1.
    pub version: u32,
    /// Its files; `model.onnx` is what can be served.
    pub files: Vec<FileEntry>,
    /// The run that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// What it is.
    #[serde(default)]
    pub description: String,
    /// Free words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Where it was registered from, if it was not uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ModelOrigin>,
}

/// Where a version came from that was registered rather than uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelOrigin {
    /// The URI that was registered.
    pub source: String,
    /// The URI of its files.
    pub storage: String,
    /// The logged model, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logged_model: Option<Id>,
    /// A page about the run, elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_link: Option<String>,
}

word_enum! {
    /// How far a version has come, in MLflow's words; aliases have taken its place.
    ModelStage {
        /// Nowhere yet.
        None = "None",
        /// Being tried.
        Staging = "Staging",
        /// In use.
        Production = "Production",
        /// Not in use any more.
        Archived = "Archived",
    }
}

impl ModelStage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Staging, Self::Production, Self::Archived];
}

/// What is of a version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ModelVersionStatus {
    /// How far it has come; nowhere where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<ModelStage>,
    /// When it last changed; when it was made where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
}

/// Which version of which model: `NAME`, `NAME:VERSION` or `NAME@ALIAS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// The model.
    pub model: FreeName,
    /// Which of its versions.
    pub selector: ModelSelector,
}

/// Which version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSelector {
    /// The newest when it is looked up.
    Latest,
    /// This one.
    Version(u32),
    /// What the alias points at, followed as it moves.
    Alias(AliasName),
}

/// A text that names no model version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseModelRefError {
    /// The model's name is not valid.
    #[error(transparent)]
    Name(#[from] ParseNameError),
    /// What follows `:` is not a version.
    #[error("`{text}` is not a version: write NAME:3 for version 3, or NAME@ALIAS")]
    Version {
        /// What was given.
        text: String,
    },
}

impl FromStr for ModelRef {
    type Err = ParseModelRefError;

    fn from_str(text: &str) -> Result<Self, ParseModelRefError> {
        if let Some((model, version)) = text.split_once(':') {
            let number = version.parse().ok().filter(|number| *number > 0);
            let number = number.ok_or_else(|| ParseModelRefError::Version {
                text: version.chars().take(64).collect(),
            })?;
            return Ok(Self {
                model: model.parse()?,
                selector: ModelSelector::Version(number),
            });
        }
        if let Some((model, alias)) = text.rsplit_once('@') {
            return Ok(Self {
                model: model.parse()?,
                selector: ModelSelector::Alias(alias.parse()?),
            });
        }
        Ok(Self {
            model: text.parse()?,
            selector: ModelSelector::Latest,
        })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            ModelSelector::Latest => write!(f, "{}", self.model),
            ModelSelector::Version(version) => write!(f, "{}:{version}", self.model),
            ModelSelector::Alias(alias) => write!(f, "{}@{alias}", self.model),
        }
    }
}

serde_as_text!(ModelRef, "`NAME`, `NAME:VERSION` or `NAME@ALIAS`");

spec_of!(ModelSpec, ModelStatus, Model, named: true, |_| "active");
spec_of!(ModelVersionSpec, ModelVersionStatus, ModelVersion, named: true, |_| "ready");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_round_trip_and_refuse_nonsense() {
        for text in ["wine", "wine:3", "wine@champion", "My Model:1"] {
            assert_eq!(
                text.parse::<ModelRef>().map(|r| r.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in [
            "",
            "../x",
            "wine:",
            "wine:0",
            "wine:x",
            "wine@",
            "wine@A b",
            "wine@latest",
        ] {
            assert!(text.parse::<ModelRef>().is_err(), "{text}");
        }
    }
}

//! Logged models: what runs made before anybody registers it, as MLflow 3 has them.

use std::collections::BTreeMap;

use lepton_types::resources::MetricPoint;
use lepton_types::tracking::{LoggedModelPhase, ModelUse};
use lepton_types::{FreeName, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Brings a logged model that was recorded elsewhere, or adds to it. Twice is as good as once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutLoggedModel {
    /// Its experiment, which is there.
    pub experiment: FreeName,
    /// What its script calls it.
    pub name: String,
    /// `agent`, `classifier`, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model_type: String,
    /// The run that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_run: Option<RunId>,
    /// When it was made; now where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Where it stands; a new one waits for its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<LoggedModelPhase>,
    /// When it was put in the bin, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// Written once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Set over what was there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Measurements; those that are there change nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<ModelMeasurement>,
    /// The runs that made or used it; those that are there change nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunOfModel>,
}

/// A measurement of a logged model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelMeasurement {
    /// The run that measured.
    pub run: RunId,
    /// What was measured, with its time.
    pub point: MetricPoint,
    /// On which data.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dataset_name: String,
    /// The fingerprint of that data.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dataset_digest: String,
}

/// A run that made or used a logged model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunOfModel {
    /// The run.
    pub run: RunId,
    /// Whether the model went in or came out.
    pub r#use: ModelUse,
    /// At which step.
    #[serde(default)]
    pub step: i64,
}

/// A logged model, without its measurements.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LoggedModelView {
    /// Its id in the words of MLflow: `m-` and 32 hex digits.
    pub id: String,
    /// What its script calls it.
    pub name: String,
    /// `agent`, `classifier`, or nothing.
    #[serde(default)]
    pub model_type: String,
    /// The run that made it; nothing where none did.
    #[serde(default)]
    pub source_run: String,
    /// Where it stands.
    pub phase: LoggedModelPhase,
    /// Where its files are: `mlflow-artifacts:/…`.
    pub artifact_uri: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was put in the bin, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// Its parameters.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

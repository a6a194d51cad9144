//! Experiment: a group of runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Resource, spec_of};
use crate::Timestamp;

/// A group of runs.
pub type Experiment = Resource<ExperimentSpec, ExperimentStatus>;

/// What is wanted of an experiment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentSpec {
    /// Free words.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Where its runs keep their artifacts, as a URI; in Lepton itself where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_location: Option<String>,
}

/// What is of an experiment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ExperimentStatus {
    /// When it was put in the bin, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// When it was last renamed, put in the bin or taken out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
}

spec_of!(ExperimentSpec, ExperimentStatus, Experiment, named: true, |status| {
    if status.deleted_at.is_some() { "deleted" } else { "active" }
});

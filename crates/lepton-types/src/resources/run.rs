//! Run: the record of an execution, MLflow's run.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FileEntry, Resource, spec_of, word_enum};
use crate::{ExperimentId, Timestamp};

/// The record of an execution.
pub type Run = Resource<RunSpec, RunStatus>;

/// What a run records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunSpec {
    /// Its experiment.
    pub experiment: ExperimentId,
    /// Who ran it, in the words of its client; who made the record where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where its artifacts are, as a URI; in Lepton itself where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_uri: Option<String>,
}

impl RunSpec {
    /// A run of `experiment`.
    #[must_use]
    pub const fn of(experiment: ExperimentId) -> Self {
        Self {
            experiment,
            user: None,
            artifact_uri: None,
        }
    }
}

word_enum! {
    /// Where a run stands, in MLflow's words.
    RunPhase {
        /// Its job has not started.
        Scheduled = "SCHEDULED",
        /// Under way.
        Running = "RUNNING",
        /// Ended well.
        Finished = "FINISHED",
        /// Ended badly.
        Failed = "FAILED",
        /// Was ended by somebody.
        Killed = "KILLED",
    }
}

impl RunPhase {
    /// Whether it is over.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Killed)
    }
}

/// What is of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunStatus {
    /// Where it stands.
    pub phase: RunPhase,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// When it was put in the bin, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// Its artifacts, sorted by path, where one run is asked for. They are recorded beside the run and
    /// never in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<FileEntry>,
}

impl Default for RunStatus {
    fn default() -> Self {
        Self {
            phase: RunPhase::Running,
            started_at: None,
            finished_at: None,
            deleted_at: None,
            artifacts: Vec::new(),
        }
    }
}

/// One point of a metric's series. Its identity is all of it, value included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricPoint {
    /// The metric.
    pub key: String,
    /// The step.
    #[serde(default)]
    pub step: i64,
    /// When it was measured; when it was received, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// What was measured; NaN and infinities are written `"NaN"`, `"Infinity"`, `"-Infinity"`.
    #[serde(with = "extended_float")]
    #[schema(value_type = f64)]
    pub value: f64,
}

/// Floats in JSON, with the three values that JSON has no number for as words.
mod extended_float {
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrWord {
        Number(f64),
        Word(String),
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for a reference"
    )]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            serializer.serialize_f64(*value)
        } else if value.is_nan() {
            serializer.serialize_str("NaN")
        } else if *value > 0.0 {
            serializer.serialize_str("Infinity")
        } else {
            serializer.serialize_str("-Infinity")
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match NumberOrWord::deserialize(deserializer)? {
            NumberOrWord::Number(value) => Ok(value),
            NumberOrWord::Word(word) => match word.as_str() {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                _ => Err(serde::de::Error::custom(format!(
                    "`{word}` is not a number: write a number, \"NaN\", \"Infinity\" or \"-Infinity\""
                ))),
            },
        }
    }
}

spec_of!(RunSpec, RunStatus, Run, named: false, |status| {
    if status.deleted_at.is_some() { "deleted" } else { status.phase.as_str() }
}, group: |spec| Some(spec.experiment.id()));

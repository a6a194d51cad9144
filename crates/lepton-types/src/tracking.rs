//! What training code records beside parameters, tags and metrics: the data that went into a run,
//! and the models that came out of it before anybody registered them (MLflow's logged models).

use crate::resources::{BlobDigest, word_enum};
use crate::{ExperimentId, Id, Name, RunId, Timestamp};

/// Data that went into a run, as its script describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDataset {
    /// What it is called.
    pub name: String,
    /// A fingerprint of its content, as the script computed it.
    pub digest: String,
    /// What kind of place it came from: `local`, `http`, `code`.
    pub source_type: String,
    /// Where it came from, in the words of that kind.
    pub source: String,
    /// Its columns, as JSON.
    pub schema: Option<String>,
    /// Its rows and sizes, as JSON.
    pub profile: Option<String>,
    /// What it was used for, among others.
    pub tags: Vec<(String, String)>,
}

/// Whether a model went into a run or came out of it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ModelUse {
    // stored: never renumber
    /// It went in.
    Input = 0,
    /// It came out.
    Output = 1,
}

/// A logged model that a run used or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelLink {
    /// Which way.
    pub r#use: ModelUse,
    /// The logged model.
    pub model: Id,
    /// At which step.
    pub step: i64,
}

word_enum! {
    /// Where a logged model stands, in MLflow's words.
    LoggedModelPhase {
        /// Its files are being uploaded.
        Pending = "LOGGED_MODEL_PENDING",
        /// It can be loaded.
        Ready = "LOGGED_MODEL_READY",
        /// Its files did not arrive.
        Failed = "LOGGED_MODEL_UPLOAD_FAILED",
    }
}

/// A model that a run made, before anybody registered it. Its parameters and tags are kept as
/// those of runs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedModel {
    /// Identity.
    pub id: Id,
    /// The tenant.
    pub project: Name,
    /// Its experiment.
    pub experiment: ExperimentId,
    /// What its script calls it.
    pub name: String,
    /// `agent`, `classifier`, or nothing.
    pub model_type: String,
    /// The run that made it; nothing where none did.
    pub source_run: String,
    /// Where it stands.
    pub phase: LoggedModelPhase,
    /// Where its files are: `mlflow-artifacts:/…`.
    pub artifact_uri: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was put in the bin, if it was.
    pub deleted_at: Option<Timestamp>,
}

/// A measurement of a logged model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelMetric {
    /// The logged model.
    pub model: Id,
    /// The run that measured.
    pub run: RunId,
    /// The metric.
    pub key: String,
    /// The step.
    pub step: i64,
    /// When.
    pub at: Timestamp,
    /// What was measured.
    pub value: f64,
    /// On which data; nothing where that is not told.
    pub dataset_name: String,
    /// The fingerprint of that data.
    pub dataset_digest: String,
}

/// A file that clients keep under a path of their own, beside those of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// The tenant.
    pub project: Name,
    /// Its path, relative, with `/`.
    pub path: String,
    /// The SHA-256 of its bytes.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size_bytes: u64,
}

impl LoggedModelPhase {
    /// The phase of a stored word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Pending, Self::Ready, Self::Failed]
            .into_iter()
            .find(|phase| phase.as_str() == word)
    }
}

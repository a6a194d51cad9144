//! What callers send.

use std::collections::BTreeMap;

use lepton_types::resources::{BlobDigest, ProjectQuota};
use lepton_types::resources::{FileEntry, Lineage, MetricPoint, Role, RunPhase, TrainBudget};
use lepton_types::{DurationMs, FreeName, Name, Resources, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes a project.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    /// Its name.
    pub name: Name,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// What it may store.
    #[serde(default, skip_serializing_if = "ProjectQuota::is_open")]
    pub quota: ProjectQuota,
}

/// Makes a token.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Its name, by which it is revoked.
    pub name: Name,
    /// What its holder may do.
    #[serde(default = "editor")]
    pub role: Role,
    /// The project it is good for; the caller's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// How long it works; until it is revoked where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<DurationMs>,
}

const fn editor() -> Role {
    Role::Editor
}

/// Makes a key pair for S3.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccessKey {
    /// Its name, by which it is revoked.
    pub name: Name,
    /// What its holder may do.
    #[serde(default = "editor")]
    pub role: Role,
    /// The project whose buckets its holder means; the caller's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// How long it works; until it is revoked where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<DurationMs>,
}

/// Freezes uploaded files as the next version of a dataset.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutDatasetVersion {
    /// Its files, uploaded before.
    pub files: Vec<FileEntry>,
    /// What the dataset is, if it is new.
    #[serde(default)]
    pub description: String,
    /// What they were made from, if a preparation made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
}

/// Makes an experiment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateExperiment {
    /// Its name.
    pub name: FreeName,
    /// Free words.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// Asks for an execution.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateJob {
    /// What people call it; need not be unique.
    pub name: Name,
    /// What it runs.
    pub program: SubmitProgram,
    /// How many workers start together.
    #[serde(default = "one")]
    pub workers: u32,
    /// What each worker may use; one processor and 1 GiB where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Added to each worker's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// How long one attempt may take; without end where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationMs>,
    /// How often a failed attempt is tried again.
    #[serde(default)]
    pub retries: u32,
    /// Higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// Where it is placed; `local` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    /// The experiment of its run; the job's name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<FreeName>,
    /// Free words of its users.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

const fn one() -> u32 {
    1
}

/// Asks for room on machines, promised in advance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateReservation {
    /// Its name, unique among all.
    pub name: Name,
    /// Whose jobs and endpoints may use the room.
    pub project: Name,
    /// When its window opens; now where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// When it closes.
    pub until: Timestamp,
    /// How many workers there is to be room for.
    #[serde(default = "one")]
    pub workers: u32,
    /// The room of each, on one machine.
    pub resources: Resources,
}

/// What a job runs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum SubmitProgram {
    /// Any command.
    Command {
        /// Program and arguments; no shell is in between.
        command: Vec<String>,
        /// An uploaded `tar.gz` that every worker starts in a copy of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<BlobDigest>,
    },
    /// The built-in trainer of tabular models.
    Train(SubmitTrain),
    /// The built-in preparation of data.
    Prepare(SubmitPrepare),
}

/// A preparation of data: a new version of a dataset out of versions of others.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitPrepare {
    /// The dataset that gets a version; made if it is new.
    pub dataset: Name,
    /// What it is made from.
    pub inputs: Vec<SubmitInput>,
    /// The description, in YAML.
    pub description: String,
}

/// A dataset, and the name that a description knows it by.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitInput {
    /// The name.
    pub name: String,
    /// The dataset.
    pub dataset: Name,
    /// Its version; the newest where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// A training of a tabular model.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubmitTrain {
    /// The dataset.
    pub dataset: Name,
    /// Its version; the newest where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_version: Option<u32>,
    /// The column to predict.
    pub target: String,
    /// What to optimise: accuracy, f1, roc_auc, log_loss, r2, rmse, mae; the task's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// How long to search; 60 seconds where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<TrainBudget>,
    /// The name to register the model under; the job's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<FreeName>,
    /// Where randomness starts.
    #[serde(default)]
    pub seed: u64,
}

/// Makes a run that no job owns.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRun {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its experiment, made if it is new; `Default` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<FreeName>,
    /// When it began; now where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Its id, for a run that was recorded elsewhere; a new one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RunId>,
}

/// Changes a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateRun {
    /// Where it stands now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RunPhase>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it ended, where `phase` is a final one; when it first was in one, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

/// Adds to a run's record. Sending it twice changes nothing the second time.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogToRun {
    /// Parameters; written once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Tags; written over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Points of series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricPoint>,
}

/// Registers uploaded files as the next version of a model.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutModelVersion {
    /// Its files; `model.onnx` is what can be served, `signature.json` describes it.
    pub files: Vec<FileEntry>,
    /// The run that made it. The same files of the same run give the same version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// What it is.
    #[serde(default)]
    pub description: String,
}

/// Changes a model.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateModel {
    /// What it is.
    pub description: String,
}

/// Points an alias at a version.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAlias {
    /// The version.
    pub version: u32,
}

/// Brings resources to the state that manifests describe.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// What is wanted.
    pub manifests: Vec<Manifest>,
    /// Only show the difference.
    #[serde(default)]
    pub dry_run: bool,
}

/// What is wanted of one resource.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "a mapping with `apiVersion`, `kind`, `metadata` and `spec`"
)]
pub struct Manifest {
    /// `lepton/v1`.
    pub api_version: String,
    /// `Project`, `Experiment`, `Model`, `Endpoint`, …
    pub kind: String,
    /// What it is called.
    pub metadata: ManifestMetadata,
    /// What is wanted.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub spec: serde_json::Value,
}

/// What a resource is called.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `name`")]
pub struct ManifestMetadata {
    /// Its name.
    pub name: String,
    /// Its project; the caller's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// Free words of its users.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

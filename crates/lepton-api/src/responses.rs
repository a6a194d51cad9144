//! What callers get.

use std::collections::BTreeMap;

use lepton_types::resources::{BlobDigest, Kind, LineageEdge, LineageNode, MetricPoint, Role, Run};
use lepton_types::{Id, Name, Timestamp, TokenId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Give it as `page_token` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// An upload that is on disk.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BlobInfo {
    /// The SHA-256 of its bytes.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// What is in the bin of a project, or left it for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Bin {
    /// Runs; those of jobs go with their job.
    pub runs: u64,
    /// Experiments without runs.
    pub experiments: u64,
    /// Logged models.
    pub logged_models: u64,
}

/// A token, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id.
    pub id: TokenId,
    /// Its name.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// The project it is good for; every one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// `active`, `expired` or `revoked`.
    pub phase: String,
}

/// A token just made. Its secret is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// What is kept of it.
    #[serde(flatten)]
    pub view: TokenView,
    /// The token itself.
    pub token: String,
}

/// A key pair for S3, without its secret half.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AccessKeyView {
    /// Its public half.
    pub access_key_id: String,
    /// Its name.
    pub name: Name,
    /// What its holder may do.
    pub role: Role,
    /// The project whose buckets its holder means.
    pub project: Name,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// `active`, `expired` or `revoked`.
    pub phase: String,
}

/// A key pair just made. Its secret half is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedAccessKey {
    /// What is kept of it.
    #[serde(flatten)]
    pub view: AccessKeyView,
    /// The secret half.
    pub secret_access_key: String,
}

/// With what the caller's own token reaches S3. Nothing of it is kept: it works as long as the
/// token does.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct S3Credentials {
    /// Where S3 answers.
    pub endpoint_url: String,
    /// The region to sign for.
    pub region: String,
    /// The public half of the key pair.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
}

/// Who the caller is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The token's name.
    pub name: String,
    /// What it may do; absent for a workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The project that is meant where a request names none.
    pub project: Name,
}

/// A run with its parameters, tags and newest metrics.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// Its parameters.
    pub params: BTreeMap<String, String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The newest point of each series.
    pub metrics: Vec<MetricPoint>,
}

/// Points of one series, by step, then time, then value.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SeriesPage {
    /// The metric.
    pub key: String,
    /// Points on this page.
    pub points: Vec<MetricPoint>,
    /// Give it as `offset` to get the next page; absent on the last. A token is quicker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<u64>,
    /// Give it as `page_token` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Whether something was stored or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WatchKind {
    /// It is there, new or changed.
    Put,
    /// It is gone.
    Deleted,
}

/// One line of a watch.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WatchEvent {
    /// Give the newest as `since` to go on from here.
    pub version: u64,
    /// Whether it was stored or deleted.
    pub change: WatchKind,
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: Id,
    /// Its newest state, unless it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub resource: Option<serde_json::Value>,
}

/// What `apply` does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ApplyAction {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is as wanted already.
    Unchanged,
}

/// One field that changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FieldChange {
    /// Where: `spec.replicas`.
    pub path: String,
    /// What it is; absent if it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub from: Option<serde_json::Value>,
    /// What it becomes; absent if it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub to: Option<serde_json::Value>,
}

/// What `apply` does to one resource.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AppliedItem {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub action: ApplyAction,
    /// The fields that change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<FieldChange>,
}

/// What `apply` did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ApplyReport {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Each resource, in the order given.
    pub items: Vec<AppliedItem>,
}

/// What answers here.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ServerInfo {
    /// `lepton`.
    pub name: String,
    /// The version of the binary.
    pub version: String,
}

/// What something came from, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LineageGraph {
    /// What was asked about.
    pub of: LineageNode,
    /// What it came from, and what that came from.
    pub upstream: Vec<LineageEdge>,
    /// What came of it, and what came of that.
    pub downstream: Vec<LineageEdge>,
    /// Whether there is more than is told.
    #[serde(default)]
    pub truncated: bool,
}

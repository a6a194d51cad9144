//! What operators ask and get of stored objects: quotas, usage and its price, upkeep, keys.

use lepton_types::resources::ProjectQuota;
use lepton_types::{ContentId, DataKeyId, MemoryBytes, Name, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Changes a project; what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateProject {
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it may store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<UpdateQuota>,
}

/// Changes a quota; what is absent stays, and `null` takes the bound away.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateQuota {
    /// Bytes of all that is stored.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<MemoryBytes>)]
    pub storage: Option<Option<MemoryBytes>>,
    /// Versions of objects.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<u64>)]
    pub objects: Option<Option<u64>>,
}

/// `null` is something other than nothing.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What a project stores and uses, and what that costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StorageUsage {
    /// Whose.
    pub project: Name,
    /// Bytes that are stored now.
    pub stored_bytes: u64,
    /// Versions of objects that are stored now.
    pub objects: u64,
    /// What it may store.
    #[serde(default, skip_serializing_if = "ProjectQuota::is_open")]
    pub quota: ProjectQuota,
    /// The month that all below is of: `2026-11`, in UTC.
    pub month: String,
    /// By storage class.
    pub tiers: Vec<TierUsage>,
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes of bodies that came in.
    pub received_bytes: u64,
    /// Bytes of bodies that went out.
    pub sent_bytes: u64,
    /// What it costs; absent if nothing is priced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<StorageCost>,
}

/// What a project stores of one storage class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TierUsage {
    /// The class: `STANDARD`, `STANDARD_IA`, ….
    pub tier: String,
    /// Bytes that are stored now.
    pub stored_bytes: u64,
    /// Versions of objects that are stored now.
    pub objects: u64,
    /// What was stored in the month: 2^30 bytes for 730 hours are one.
    pub gib_months: f64,
    /// What that costs; absent if the class has no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// What storage costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StorageCost {
    /// In which currency.
    pub currency: String,
    /// What is stored, of the classes that have a price.
    pub storage: f64,
    /// Requests.
    pub requests: f64,
    /// What goes out.
    pub egress: f64,
    /// All of it.
    pub total: f64,
}

/// What a pass over all objects does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpkeepWork {
    /// Reads and verifies everything, and says what cannot be read.
    Scrub,
    /// The same, and puts the replica's copy in the place of what cannot be read.
    Repair,
    /// Copies to the replica what it lacks, and deletes there what is gone here.
    Replicate,
}

/// Starts a pass over all objects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartUpkeep {
    /// What it does.
    pub work: UpkeepWork,
    /// Over whose objects; everybody's where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<Name>,
}

/// Where a pass stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpkeepPhase {
    /// Under way.
    Running,
    /// Through.
    Finished,
    /// Cut off by a failure.
    Failed,
    /// Cut off by somebody.
    Cancelled,
}

/// The newest pass over all objects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Upkeep {
    /// What it does.
    pub work: UpkeepWork,
    /// Over whose objects; everybody's where empty.
    #[serde(default)]
    pub projects: Vec<Name>,
    /// Where it stands.
    pub phase: UpkeepPhase,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Sealed contents that were read, or copied to the replica.
    pub contents: u64,
    /// The plain bytes that those read have.
    pub size_bytes: u64,
    /// How many nobody can read, as their key was destroyed on purpose; these are not damaged.
    #[serde(default)]
    pub shredded: u64,
    /// How many could not be read.
    pub damaged: u64,
    /// How many of those were restored from the replica.
    pub repaired: u64,
    /// How many were deleted from the replica.
    pub deleted: u64,
    /// What could not be read; the first of many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<UpkeepFinding>,
    /// Why it was cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A content that cannot be read.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UpkeepFinding {
    /// Whose.
    pub project: Name,
    /// Its id, which is the name of its file.
    pub content: ContentId,
    /// What is wrong with it.
    pub problem: String,
    /// Whether the replica's copy took its place.
    pub repaired: bool,
    /// What people call it: objects, or the digest of a file; some of many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affects: Vec<String>,
}

/// The keys that seal objects.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ObjectKeys {
    /// The master key that wraps data keys.
    pub master: String,
    /// Master keys that still open what they wrapped.
    #[serde(default)]
    pub retired: Vec<String>,
    /// Data keys by project.
    pub projects: Vec<ProjectKeys>,
}

/// The data keys of a project.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProjectKeys {
    /// Whose.
    pub project: Name,
    /// Its keys, oldest first. The last without a name seals what is written now, the last of a name what
    /// asks for that name.
    pub keys: Vec<DataKeyView>,
}

/// A data key, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DataKeyView {
    /// Its id.
    pub id: DataKeyId,
    /// The name that it goes by, if it seals only what asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The master key that wraps it; absent if it was shredded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped_by: Option<String>,
}

/// A new master key wraps all data keys.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RotatedKeys {
    /// The master key that wraps them now.
    pub master: String,
    /// How many projects' data keys were wrapped anew.
    pub projects: u64,
}

/// A data key was made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RenewedKey {
    /// Whose.
    pub project: Name,
    /// The name that asks for it, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// It seals what is written from now on.
    pub key: DataKeyId,
}

/// Makes a data key that seals only what asks for it by its name.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNamedKey {
    /// The name, which S3 clients give as the id of a KMS key.
    pub name: Name,
}

/// Destroys all data keys of a project, or those of a name: nobody can read what they sealed, ever.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShredKeys {
    /// The project's name again, or the key's, as a sign that it is meant.
    pub confirm: String,
}

/// Data keys were destroyed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ShreddedKeys {
    /// Whose.
    pub project: Name,
    /// The name that the keys had, if it was theirs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// How many.
    pub keys: u64,
}

//! Dataset: a sequence of frozen versions, each a manifest over files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{NamedVersion, Resource, spec_of};
use crate::ids::serde_as_text;
use crate::{Id, RunId};

/// Data, across its versions.
pub type Dataset = Resource<DatasetSpec, DatasetStatus>;
/// One frozen version of a dataset.
pub type DatasetVersion = Resource<DatasetVersionSpec, DatasetVersionStatus>;

/// The SHA-256 of some bytes, as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobDigest([u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: 64 lower-case hex digits are expected")]
pub struct ParseDigestError {
    /// The first 80 characters of what was given.
    pub text: String,
}

impl BlobDigest {
    /// From the 32 bytes of a SHA-256.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlobDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let refused = || ParseDigestError {
            text: text.chars().take(80).collect(),
        };
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 64 || !text.bytes().all(digits) {
            return Err(refused());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| refused())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refused())?;
        }
        Ok(Self(bytes))
    }
}

serde_as_text!(BlobDigest, "SHA-256 as 64 lower-case hex digits");

/// One file of a dataset, a model, a run or a code folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Relative path with `/`, never leaving the folder.
    pub path: String,
    /// The SHA-256 of its bytes.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// What is wanted of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// What it is.
    #[serde(default)]
    pub description: String,
}

/// What is of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct DatasetStatus {
    /// The newest version; 0 before the first.
    pub latest_version: u32,
}

/// One frozen version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetVersionSpec {
    /// The dataset's name.
    pub dataset: String,
    /// Counts from 1.
    pub version: u32,
    /// Its files, in the order given.
    pub files: Vec<FileEntry>,
    /// What it was made from, if a preparation made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
}

/// What a version was made from, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// The versions that it was made from.
    pub inputs: Vec<NamedVersion>,
    /// How, in YAML.
    pub description: String,
    /// The SHA-256 of what the description means, in hex.
    pub description_digest: String,
    /// The job that made it.
    pub job: Id,
    /// That job's run.
    pub run: RunId,
    /// The parts that rows were dealt to, with their rows; the first is what steps were fitted on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<DatasetPart>,
    /// What was fitted, as models repeat it: JSON.
    pub fitted: FileEntry,
    /// All rows.
    pub rows: u64,
    /// The columns, over all parts.
    pub columns: Vec<ColumnStatistics>,
}

/// A part of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetPart {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: String,
    /// Its rows.
    pub rows: u64,
}

/// What is known of a column's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnStatistics {
    /// Its name.
    pub name: String,
    /// `int`, `float`, `bool`, `text`, `date` or `timestamp`.
    pub r#type: String,
    /// Rows without a value.
    pub missing: u64,
    /// The least value, of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The greatest value, of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The mean, of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// The standard deviation, of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
}

/// What was found in a version.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct DatasetVersionStatus {
    /// Data rows, where the files are tables that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// The columns, where the files are tables that could be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnSummary>,
    /// Why no columns are known, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What is known of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnSummary {
    /// Its name.
    pub name: String,
    /// `number` or `text`.
    pub r#type: String,
    /// Rows without a value.
    pub missing: u64,
}

spec_of!(DatasetSpec, DatasetStatus, Dataset, named: true, |_| "active");
spec_of!(DatasetVersionSpec, DatasetVersionStatus, DatasetVersion, named: true, |_| "frozen");

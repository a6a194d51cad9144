//! Lineage: what came from what.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Kind, word_enum};
use crate::{Id, Timestamp};

word_enum! {
    /// How the target came from the source, or uses it.
    LineageRelation {
        /// A run read a dataset version.
        ReadBy = "read-by",
        /// A run made a dataset or model version.
        Made = "made",
        /// An endpoint serves a model version.
        ServedBy = "served-by",
    }
}

/// One thing that has a past or a future.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct LineageNode {
    /// What sort of thing it is.
    pub kind: Kind,
    /// Its id, which stays when it is renamed or deleted.
    pub id: Id,
    /// What it was called when this was recorded.
    pub name: String,
}

/// That `to` came from `from`, or uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineageEdge {
    /// Where it comes from.
    pub from: LineageNode,
    /// How.
    pub relation: LineageRelation,
    /// What came of it.
    pub to: LineageNode,
    /// When this was first so.
    pub first_at: Timestamp,
    /// When this was last so.
    pub last_at: Timestamp,
    /// Requests that an endpoint answered with the model version; 0 for other relations.
    #[serde(default)]
    pub requests: u64,
}

//! Event: something that happened to a resource, for people to read.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Kind, word_enum};
use crate::{Id, Name, Timestamp};

word_enum! {
    /// Whether somebody should look.
    EventSeverity {
        /// As it should be.
        Normal = "normal",
        /// Somebody should look.
        Warning = "warning",
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts up; a page token.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub project: Name,
    /// To what kind of thing.
    pub kind: Kind,
    /// To which.
    pub id: Id,
    /// What it is called.
    pub name: String,
    /// Whether somebody should look.
    pub severity: EventSeverity,
    /// A word for scripts: `Started`, `Failed`, …
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

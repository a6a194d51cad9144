//! Scrubbing and sweeping: rot is found and repaired, orphans go.

use lepton_types::{ContentId, Name};

use crate::error::ContentError;

/// A content that could not be read.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Whose it is.
    pub project: Name,
    /// Which.
    pub content: ContentId,
    /// What is wrong with it.
    pub error: ContentError,
    /// Whether it was restored from the replica.
    pub repaired: bool,
}

/// What a scrub did.
#[derive(Debug, Clone, Default)]
pub struct ScrubReport {
    /// How many contents were read.
    pub contents: u64,
    /// How many plain bytes they had.
    pub bytes: u64,
    /// What was wrong.
    pub findings: Vec<Finding>,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// How many contents were seen.
    pub seen: u64,
    /// How many were deleted.
    pub deleted: u64,
}

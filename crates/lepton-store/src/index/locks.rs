//! What keeps a version from being deleted.

use lepton_types::Timestamp;

use super::{IndexError, ObjectVersion, Refusal};

/// How strict a retention is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionMode {
    // stored: never renumber
    /// Who may bypass it can.
    Governance = 1,
    /// Nobody can.
    Compliance = 2,
}

/// A version that is kept until a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How strictly.
    pub mode: RetentionMode,
    /// Until when.
    pub until: Timestamp,
}

impl RetentionMode {
    pub(super) fn of_code(code: u8) -> Result<Option<Self>, IndexError> {
        match code {
            0 => Ok(None),
            1 => Ok(Some(Self::Governance)),
            2 => Ok(Some(Self::Compliance)),
            _ => Err(IndexError::Corrupt {
                what: "a retention",
            }),
        }
    }
}

impl ObjectVersion {
    /// Refuses if the version may not be deleted at `now`.
    pub(super) fn deletable(&self, now: Timestamp, bypass: bool) -> Result<(), Refusal> {
        if self.hold {
            return Err(Refusal::Locked { until: None });
        }
        match self.retention {
            Some(Retention { mode, until })
                if now < until && !(bypass && mode == RetentionMode::Governance) =>
            {
                Err(Refusal::Locked { until: Some(until) })
            }
            _ => Ok(()),
        }
    }

    /// Refuses if `wanted` would weaken what keeps the version at `now`.
    pub(super) fn may_retain(
        &self,
        wanted: Option<Retention>,
        now: Timestamp,
        bypass: bool,
    ) -> Result<(), Refusal> {
        let Some(held) = self.retention.filter(|held| now < held.until) else {
            return Ok(());
        };
        let longer = wanted.is_some_and(|wanted| wanted.until >= held.until);
        let same_mode = wanted.is_some_and(|wanted| wanted.mode == held.mode);
        let bypassed = bypass && held.mode == RetentionMode::Governance;
        match (longer && same_mode) || bypassed {
            true => Ok(()),
            false => Err(Refusal::Locked {
                until: Some(held.until),
            }),
        }
    }
}

//! What must hold of what is there, checked in the transaction that changes it.

use lepton_types::Timestamp;

use super::{ObjectVersion, Refusal};

/// What must hold of the visible version when a write or a deletion happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Its digest is this one; any if `*`.
    pub matches: Option<String>,
    /// There is none, if `*`; or its digest is another.
    pub matches_not: Option<String>,
    /// It was written at this second.
    pub modified: Option<Timestamp>,
    /// It has this length.
    pub size_bytes: Option<u64>,
}

impl Condition {
    pub(super) fn check(&self, found: Option<&ObjectVersion>) -> Result<(), Refusal> {
        let Some(found) = found.filter(|found| !found.marker) else {
            let wanted =
                self.matches.is_some() || self.modified.is_some() || self.size_bytes.is_some();
            return match wanted {
                true => Err(Refusal::NoSuchObject),
                false => Ok(()),
            };
        };
        let is = |wanted: &String| wanted == "*" || *wanted == found.etag;
        let fails = self.matches.as_ref().is_some_and(|wanted| !is(wanted))
            || self.matches_not.as_ref().is_some_and(is)
            || self.size_bytes.is_some_and(|size| size != found.size_bytes)
            || self
                .modified
                .is_some_and(|at| at.as_millis() / 1_000 != found.modified.as_millis() / 1_000);
        match fails {
            true => Err(Refusal::Precondition),
            false => Ok(()),
        }
    }
}

impl Condition {
    /// Whether a deletion may happen: what is gone already is no error, and a delete marker is
    /// something that is there.
    pub(super) fn check_deletion(&self, found: Option<&ObjectVersion>) -> Result<(), Refusal> {
        let Some(found) = found else {
            return Ok(());
        };
        let as_object = ObjectVersion {
            marker: false,
            ..found.clone()
        };
        self.check(Some(&as_object))
    }
}

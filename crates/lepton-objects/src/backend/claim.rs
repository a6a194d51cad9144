//! Whose a place is: the first index that uses a place claims it.
//!
//! Owns: that two indexes never keep contents in one place, as each deletes what it does not name.
//! Must not know: what an index is.

use std::sync::Arc;

use lepton_types::Id;

use super::{Backend, block};
use crate::error::{BackendError, OpenError};

/// What came of claiming a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It was nobody's.
    Fresh,
    /// It was ours already.
    Known,
}

impl Backend {
    /// Claims the place for `owner`.
    pub(crate) async fn claim(&self, owner: Id) -> Result<Claim, OpenError> {
        let ours = owner.to_string();
        let (found, is_fresh) = match self {
            Self::Local(local) => {
                let (local, ours) = (Arc::clone(local), ours.clone());
                block(move || local.claim(&ours))
                    .await
                    .map_err(|error| OpenError::Backend(error.into()))?
            }
            Self::Remote(remote) => {
                let claimed = remote.claim(&ours).await;
                claimed.map_err(|error| OpenError::Unreachable {
                    place: self.place(),
                    source: BackendError::Remote(Arc::new(error)),
                })?
            }
        };
        match (found == ours, is_fresh) {
            (true, true) => Ok(Claim::Fresh),
            (true, false) => Ok(Claim::Known),
            (false, _) => Err(OpenError::Claimed {
                place: self.place(),
                owner: found.chars().filter(|c| !c.is_control()).take(64).collect(),
            }),
        }
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Local(local) => local.root().display().to_string(),
            Self::Remote(remote) => remote.name().to_owned(),
        }
    }
}

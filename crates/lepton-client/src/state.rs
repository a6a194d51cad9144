//! Desired state as manifests, and the events that tell what happened.

use lepton_api::{Apply, ApplyReport, List};
use lepton_types::Id;
use lepton_types::resources::Event;
use ureq::http::Method;

use crate::Client;
use crate::error::ClientError;
use crate::retry::Repeat;
use crate::target::Target;

/// Which events a list shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Only those after this sequence number.
    pub after: Option<u64>,
    /// Only those about this resource.
    pub about: Option<Id>,
    /// Newest first.
    pub newest: bool,
    /// How many at most.
    pub limit: Option<u32>,
}

/// Every method fails with a [`ClientError`] if the server cannot be reached or says no.
#[expect(clippy::missing_errors_doc, reason = "said once, for all, above")]
impl Client {
    /// Brings resources to the state that manifests describe, or tells what that would change.
    pub fn apply(&self, request: &Apply) -> Result<ApplyReport, ClientError> {
        let target = self.in_this_project(&["apply"])?;
        self.ask(&Method::POST, &target, request, Repeat::Harmless)
    }

    /// What happened.
    pub fn events(&self, filter: &EventFilter) -> Result<List<Event>, ClientError> {
        let target = self
            .in_this_project(&["events"])?
            .maybe_query("after", filter.after)
            .maybe_query("about", filter.about)
            .maybe_query("newest", filter.newest.then_some(true))
            .maybe_query("limit", filter.limit);
        self.get(&target)
    }

    /// Deletes, whatever the server answers beside success.
    pub(crate) fn remove(&self, target: &Target) -> Result<(), ClientError> {
        self.repeated(Repeat::OnlyUnsent, || {
            self.send(Method::DELETE, target, ()).map(drop)
        })
    }
}

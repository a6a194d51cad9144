//! Jobs and their attempts.

use lepton_api::{CreateJob, List};
use lepton_types::resources::{Attempt, Job, JobPhase};
use ureq::http::Method;

use crate::Client;
use crate::error::ClientError;
use crate::pages::Page;
use crate::retry::Repeat;

/// Which jobs a list shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those that stand there.
    pub phase: Option<JobPhase>,
    /// Newest first.
    pub newest: bool,
}

/// Every method fails with a [`ClientError`] if the server cannot be reached or says no. A job is
/// meant by its id, or by its name, which means the newest of that name.
#[expect(clippy::missing_errors_doc, reason = "said once, for all, above")]
impl Client {
    /// The jobs of the project.
    pub fn jobs(&self, filter: &JobFilter, page: &Page) -> Result<List<Job>, ClientError> {
        let target = self
            .in_this_project(&["jobs"])?
            .maybe_query("name", filter.name.as_ref())
            .maybe_query("phase", filter.phase)
            .maybe_query("newest", filter.newest.then_some(true));
        self.get(&page.onto(target))
    }

    /// One job.
    pub fn job(&self, job: &str) -> Result<Job, ClientError> {
        self.get(&self.in_this_project(&["jobs", job])?)
    }

    /// Asks for an execution.
    pub fn create_job(&self, request: &CreateJob) -> Result<Job, ClientError> {
        let target = self.in_this_project(&["jobs"])?;
        self.ask(&Method::POST, &target, request, Repeat::OnlyUnsent)
    }

    /// Asks for a job's end.
    pub fn cancel_job(&self, job: &str) -> Result<Job, ClientError> {
        let target = self.in_this_project(&["jobs", job, "cancel"])?;
        self.repeated(Repeat::Harmless, || {
            self.send(Method::POST, &target, [].as_slice())?.json()
        })
    }

    /// Deletes a job, which is cancelled first if it runs.
    pub fn delete_job(&self, job: &str) -> Result<(), ClientError> {
        self.remove(&self.in_this_project(&["jobs", job])?)
    }

    /// The tries at a job.
    pub fn attempts(&self, job: &str) -> Result<List<Attempt>, ClientError> {
        self.get(&self.in_this_project(&["jobs", job, "attempts"])?)
    }
}

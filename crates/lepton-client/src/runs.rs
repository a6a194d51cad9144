//! Experiments and runs: parameters, metrics, series, artifacts.

use std::path::Path;

use lepton_api::{
    Bin, CreateExperiment, CreateRun, List, LogToRun, RunView, SeriesPage, UpdateRun,
};
use lepton_types::resources::{Experiment, FileEntry, MetricPoint, RunPhase};
use lepton_types::{DurationMs, FreeName, RunId, Timestamp};
use ureq::http::Method;

use crate::Client;
use crate::blobs::Download;
use crate::error::ClientError;
use crate::pages::Page;
use crate::retry::Repeat;
use crate::target::Target;

/// Which runs a list shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunFilter {
    /// Only those of this experiment.
    pub experiment: Option<FreeName>,
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those that stand there.
    pub phase: Option<RunPhase>,
    /// Only those in the bin; else only those that are not.
    pub deleted: bool,
    /// Only those whose newest metrics fulfil all of these: `accuracy>0.9`.
    pub metrics: Vec<String>,
    /// Newest first.
    pub newest: bool,
}

/// Only points whose step and time lie within, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeriesRange {
    /// From this step on.
    pub from_step: Option<i64>,
    /// Up to and with this step.
    pub to_step: Option<i64>,
    /// From this time on.
    pub from_time: Option<Timestamp>,
    /// Up to and with this time.
    pub to_time: Option<Timestamp>,
}

/// What a curve is drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Over {
    /// Steps.
    #[default]
    Step,
    /// Times.
    Time,
}

impl Over {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Time => "time",
        }
    }
}

/// Every method fails with a [`ClientError`] if the server cannot be reached or says no.
#[expect(clippy::missing_errors_doc, reason = "said once, for all, above")]
impl Client {
    /// The experiments of the project.
    pub fn experiments(&self, page: &Page) -> Result<List<Experiment>, ClientError> {
        self.get(&page.onto(self.in_this_project(&["experiments"])?))
    }

    /// One experiment.
    pub fn experiment(&self, name: &FreeName) -> Result<Experiment, ClientError> {
        self.get(&self.in_this_project(&["experiments", name.as_str()])?)
    }

    /// Makes an experiment.
    pub fn create_experiment(&self, request: &CreateExperiment) -> Result<Experiment, ClientError> {
        let target = self.in_this_project(&["experiments"])?;
        self.ask(&Method::POST, &target, request, Repeat::OnlyUnsent)
    }

    /// Deletes an experiment with its runs.
    pub fn delete_experiment(&self, name: &FreeName) -> Result<(), ClientError> {
        self.remove(&self.in_this_project(&["experiments", name.as_str()])?)
    }

    /// The runs of the project.
    pub fn runs(&self, filter: &RunFilter, page: &Page) -> Result<List<RunView>, ClientError> {
        let mut target = self
            .in_this_project(&["runs"])?
            .maybe_query("experiment", filter.experiment.as_ref())
            .maybe_query("name", filter.name.as_ref())
            .maybe_query("phase", filter.phase)
            .maybe_query("phase", filter.deleted.then_some("deleted"))
            .maybe_query("newest", filter.newest.then_some(true));
        for metric in &filter.metrics {
            target = target.query("metric", metric);
        }
        self.get(&page.onto(target))
    }

    /// Makes a run that no job owns. With an id of its own it is not made twice.
    pub fn create_run(&self, request: &CreateRun) -> Result<RunView, ClientError> {
        let target = self.in_this_project(&["runs"])?;
        self.ask(&Method::POST, &target, request, Repeat::OnlyUnsent)
    }

    /// One run.
    pub fn run_view(&self, run: RunId) -> Result<RunView, ClientError> {
        self.get(&self.in_this_project(&["runs", &run.to_string()])?)
    }

    /// Changes a run.
    pub fn update_run(&self, run: RunId, request: &UpdateRun) -> Result<RunView, ClientError> {
        let target = self.in_this_project(&["runs", &run.to_string()])?;
        self.ask(&Method::PATCH, &target, request, Repeat::Harmless)
    }

    /// How much has been in the bin for so long; for as long as the server keeps it where absent.
    pub fn bin(&self, older_than: Option<DurationMs>) -> Result<Bin, ClientError> {
        let target = self.in_this_project(&["bin"])?;
        self.get(&target.maybe_query("older_than", older_than))
    }

    /// Deletes for good what has been in the bin for so long; what that was.
    pub fn purge_bin(&self, older_than: Option<DurationMs>) -> Result<Bin, ClientError> {
        let target = self.in_this_project(&["bin"])?;
        self.delete(&target.maybe_query("older_than", older_than))
    }

    /// Deletes a run.
    pub fn delete_run(&self, run: RunId) -> Result<(), ClientError> {
        self.remove(&self.in_this_project(&["runs", &run.to_string()])?)
    }

    /// Adds parameters, tags and points; twice is as good as once if every point has its time.
    pub fn log_to_run(&self, run: RunId, request: &LogToRun) -> Result<(), ClientError> {
        let target = self.in_this_project(&["runs", &run.to_string(), "log"])?;
        let timed = request
            .metrics
            .iter()
            .all(|point| point.timestamp.is_some());
        let repeat = if timed {
            Repeat::Harmless
        } else {
            Repeat::OnlyUnsent
        };
        self.tell(&Method::POST, &target, request, repeat)
    }

    /// One page of a metric's series, behind `after`, the token of the page before.
    pub fn series(
        &self,
        run: RunId,
        key: &str,
        range: &SeriesRange,
        after: Option<&str>,
    ) -> Result<SeriesPage, ClientError> {
        let target = self
            .series_target(run, key, range)?
            .maybe_query("page_token", after);
        self.get(&target)
    }

    /// A metric's series as a curve of at most `max_points` points that keep its extremes; all of it
    /// where it has no more.
    pub fn curve(
        &self,
        run: RunId,
        key: &str,
        range: &SeriesRange,
        (over, max_points): (Over, u32),
    ) -> Result<Vec<MetricPoint>, ClientError> {
        let target = self
            .series_target(run, key, range)?
            .query("max_points", max_points.to_string())
            .query("axis", over.as_str());
        let page: SeriesPage = self.get(&target)?;
        Ok(page.points)
    }

    /// All pages of a metric's series, one after the other.
    pub fn series_pages(
        &self,
        run: RunId,
        key: &str,
        range: SeriesRange,
    ) -> impl Iterator<Item = Result<Vec<MetricPoint>, ClientError>> {
        let mut next = Some(None);
        std::iter::from_fn(move || {
            let after: Option<String> = next.take()?;
            let page = self.series(run, key, &range, after.as_deref());
            Some(page.map(|page| {
                next = page.next_page_token.map(Some);
                page.points
            }))
        })
    }

    fn series_target(
        &self,
        run: RunId,
        key: &str,
        range: &SeriesRange,
    ) -> Result<Target, ClientError> {
        Ok(self
            .in_this_project(&["runs", &run.to_string(), "series"])?
            .query("key", key)
            .maybe_query("from_step", range.from_step)
            .maybe_query("to_step", range.to_step)
            .maybe_query("from_time", range.from_time.map(Timestamp::as_millis))
            .maybe_query("to_time", range.to_time.map(Timestamp::as_millis)))
    }

    /// The files that a run left.
    pub fn artifacts(&self, run: RunId) -> Result<List<FileEntry>, ClientError> {
        self.get(&self.in_this_project(&["runs", &run.to_string(), "artifacts"])?)
    }

    /// The bytes of one of them.
    pub fn artifact(&self, run: RunId, path: &str) -> Result<Download, ClientError> {
        let target = self
            .in_this_project(&["runs", &run.to_string(), "artifacts"])?
            .files(path);
        self.download(&target, path)
    }

    /// Leaves a file with a run, under `path`.
    pub fn put_artifact(
        &self,
        run: RunId,
        path: &str,
        file: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<FileEntry, ClientError> {
        let target = self
            .in_this_project(&["runs", &run.to_string(), "artifacts"])?
            .files(path);
        self.put_file(&target, file, progress)
    }
}

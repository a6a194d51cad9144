//! Experiments and runs: parameters, metrics, series, artifacts.

use std::path::Path;

use lepton_api::{CreateExperiment, CreateRun, List, LogToRun, RunView, SeriesPage, UpdateRun};
use lepton_types::resources::{Experiment, FileEntry, MetricPoint, RunPhase};
use lepton_types::{FreeName, RunId};
use ureq::http::Method;

use crate::Client;
use crate::blobs::Download;
use crate::error::ClientError;
use crate::pages::Page;
use crate::retry::Repeat;

/// Which runs a list shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunFilter {
    /// Only those of this experiment.
    pub experiment: Option<FreeName>,
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those that stand there.
    pub phase: Option<RunPhase>,
    /// Only those whose newest metrics fulfil all of these: `accuracy>0.9`.
    pub metrics: Vec<String>,
    /// Newest first.
    pub newest: bool,
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
            .maybe_query("newest", filter.newest.then_some(true));
        for metric in &filter.metrics {
            target = target.query("metric", metric);
        }
        self.get(&page.onto(target))
    }

    /// Makes a run that no job owns.
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

    /// One page of a metric's series.
    pub fn series(
        &self,
        run: RunId,
        key: &str,
        offset: u64,
        limit: u32,
    ) -> Result<SeriesPage, ClientError> {
        let target = self
            .in_this_project(&["runs", &run.to_string(), "series"])?
            .query("key", key)
            .query("offset", offset.to_string())
            .query("limit", limit.to_string());
        self.get(&target)
    }

    /// A metric's series, up to `max` points.
    pub fn series_up_to(
        &self,
        run: RunId,
        key: &str,
        max: usize,
    ) -> Result<Vec<MetricPoint>, ClientError> {
        let mut points = Vec::new();
        let mut offset = 0;
        while points.len() < max {
            let page = self.series(run, key, offset, 1_000)?;
            points.extend(page.points);
            match page.next_offset {
                Some(next) if next > offset => offset = next,
                _ => break,
            }
        }
        points.truncate(max);
        Ok(points)
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

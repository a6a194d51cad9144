//! Where runs come from: a closed set of two, and what both give.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lepton_types::Timestamp;
use lepton_types::resources::{MetricPoint, RunPhase};

use super::file_store::FileStore;
use super::registry::{Place, SourceModel};
use super::tracking_server::TrackingServer;
use crate::failure::Failure;

/// A run as its source has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceRun {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) experiment: String,
    /// The experiment as the source calls it inside.
    pub(super) experiment_id: String,
    pub(super) phase: RunPhase,
    /// Whether it is in the bin there.
    pub(super) is_deleted: bool,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) params: BTreeMap<String, String>,
    pub(super) tags: BTreeMap<String, String>,
    /// The data that went into it, as MLflow's REST API writes it.
    pub(super) datasets: Vec<serde_json::Value>,
    /// The keys of its series.
    pub(super) metrics: Vec<String>,
    /// Another one as soon as anything of the run is another.
    pub(super) fingerprint: String,
}

impl SourceRun {
    /// What people know it by.
    pub(super) fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.clone())
    }
}

/// What becomes of runs in the source's bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bin {
    /// They stay there.
    Left,
    /// They come along, into the bin here.
    Brought,
}

/// What is met on the way through a source.
pub(super) enum Found {
    /// How many runs there are, as far as is known by now.
    Total(u64),
    /// An experiment, before its runs.
    Experiment(String),
    /// A run.
    Run(Box<SourceRun>),
    /// Something that cannot be read, in words.
    Unreadable(String),
}

/// Where runs come from.
pub(super) enum Source {
    Folder(FileStore),
    Server(TrackingServer),
}

impl Source {
    /// Goes through all runs of the experiments that are wanted, of all where none is named; through those in
    /// the bin only where they are wanted, too.
    pub(super) fn each_run(
        &self,
        (wanted, bin): (&BTreeSet<String>, Bin),
        each: &mut dyn FnMut(Found) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let is_wanted = |name: &str| wanted.is_empty() || wanted.contains(name);
        match self {
            Self::Folder(folder) => folder.each_run(&is_wanted, bin, each),
            Self::Server(server) => server.each_run(&is_wanted, bin, each),
        }
    }

    /// All points of one metric.
    pub(super) fn each_point(
        &self,
        run: &SourceRun,
        key: &str,
        each: &mut dyn FnMut(MetricPoint) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.each_point(run, key, each),
            Self::Server(server) => server.each_point(run, key, each),
        }
    }

    /// All artifacts: the path within the run, and a file that has the bytes.
    pub(super) fn each_artifact(
        &self,
        run: &SourceRun,
        each: &mut dyn FnMut(&str, &Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.each_artifact(run, each),
            Self::Server(server) => server.each_artifact(run, each),
        }
    }

    /// The registered models; in words those that cannot be read.
    pub(super) fn models(&self) -> Result<Vec<Result<SourceModel, String>>, Failure> {
        match self {
            Self::Folder(folder) => folder.models(),
            Self::Server(server) => server.models(),
        }
    }

    /// The files of a logged model: the path within it, and a file that has the bytes.
    pub(super) fn each_model_file(
        &self,
        place: &Place,
        each: &mut dyn FnMut(&str, &Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.each_model_file(place, each),
            Self::Server(server) => server.each_model_file(place, each),
        }
    }
}

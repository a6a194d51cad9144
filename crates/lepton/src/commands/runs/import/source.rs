//! Where runs come from: a closed set of two, and what both give.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lepton_types::Timestamp;
use lepton_types::resources::{MetricPoint, RunPhase};
use lepton_types::tracking::{LoggedModelPhase, ModelUse};
use serde_json::Value;

use super::file_store::FileStore;
use super::registry::{Place, SourceModel};
use super::transport::TrackingServer;
use crate::failure::Failure;

/// A run as its source has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceRun {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) experiment: String,
    /// Where the source keeps the experiment: its id, or its folder.
    pub(super) experiment_id: String,
    pub(super) phase: RunPhase,
    /// Whether it is in the bin there.
    pub(super) is_deleted: bool,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) params: BTreeMap<String, String>,
    pub(super) tags: BTreeMap<String, String>,
    /// The data that went into it, as MLflow's REST API writes it.
    pub(super) datasets: Vec<Value>,
    /// The logged models that it made or used.
    pub(super) models: Vec<SourceLink>,
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

/// An experiment as its source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceExperiment {
    /// Where the source keeps it: its id, or its folder.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) tags: BTreeMap<String, String>,
    /// Whether it is in the bin there.
    pub(super) is_deleted: bool,
}

/// A logged model that a run made or used, by the source's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceLink {
    pub(super) model: String,
    pub(super) r#use: ModelUse,
    pub(super) step: i64,
}

/// A logged model as its source has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceLoggedModel {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) model_type: String,
    /// The run that made it, if one did.
    pub(super) source_run: String,
    pub(super) phase: LoggedModelPhase,
    pub(super) created_at: Option<Timestamp>,
    /// Whether it is in the bin there.
    pub(super) is_deleted: bool,
    pub(super) params: BTreeMap<String, String>,
    pub(super) tags: BTreeMap<String, String>,
    /// Measurements, each with the run that measured.
    pub(super) metrics: Vec<SourceMeasurement>,
    /// Another one as soon as anything of it is another.
    pub(super) fingerprint: String,
}

/// A measurement of a logged model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceMeasurement {
    pub(super) run: String,
    pub(super) point: MetricPoint,
    pub(super) dataset_name: String,
    pub(super) dataset_digest: String,
}

/// A trace as its source has it, without its spans.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceTrace {
    pub(super) id: String,
    /// What MLflow 3 calls its info, as its REST API writes it.
    pub(super) info: Value,
    /// Another one as soon as anything of it is another.
    pub(super) fingerprint: String,
}

/// The spans of a trace, in one of two forms.
pub(super) enum Spans {
    /// As MLflow 3's REST API writes them.
    Listed(Vec<Value>),
    /// As a file that clients read.
    File(Box<dyn AsRef<Path>>),
    /// There are none, or nobody can read them.
    Nowhere,
}

/// What becomes of what is in the source's bin.
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
    Experiment(SourceExperiment),
    /// A run.
    Run(Box<SourceRun>),
    /// Something that cannot be read, in words.
    Unreadable(String),
}

/// What is met among the logged models or the traces of an experiment.
pub(super) type Each<'a, T> = &'a mut dyn FnMut(Result<T, String>) -> Result<(), Failure>;

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

    /// The logged models of an experiment; in words those that cannot be read.
    pub(super) fn each_logged_model(
        &self,
        experiment: &SourceExperiment,
        bin: Bin,
        each: Each<'_, SourceLoggedModel>,
    ) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.each_logged_model(experiment, bin, each),
            // It tells nobody of those in its bin.
            Self::Server(server) => server.each_logged_model(experiment, each),
        }
    }

    /// The traces of an experiment; in words those that cannot be read.
    pub(super) fn each_trace(
        &self,
        experiment: &SourceExperiment,
        each: Each<'_, SourceTrace>,
    ) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.each_trace(experiment, each),
            Self::Server(server) => server.each_trace(experiment, each),
        }
    }

    /// The spans of a trace.
    pub(super) fn spans(
        &self,
        experiment: &SourceExperiment,
        trace: &SourceTrace,
    ) -> Result<Spans, Failure> {
        match self {
            Self::Folder(folder) => Ok(folder.spans(experiment, trace)),
            Self::Server(server) => server.spans(trace),
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

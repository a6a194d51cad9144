//! What training code records beside parameters, tags and series: the writes and reads of it.
//!
//! The tables are in `sqlite/tracking.rs`.

use lepton_types::resources::MetricPoint;
use lepton_types::tracking::{LoggedModel, LoggedModelPhase, ModelLink, ModelMetric, RunDataset};
use lepton_types::{ExperimentId, Id, Name, RunId, Timestamp};

use crate::files::FileWrite;
use crate::search::{FoundRun, RunSink};
use crate::transaction::Write;
use crate::{Backend, Found, RunSearch, Store, StoreError, Transaction};

/// A write of this module, on its way to disk.
#[derive(Debug)]
pub(crate) enum TrackingWrite {
    Datasets {
        run: Id,
        experiment: Id,
        datasets: Vec<RunDataset>,
    },
    Models {
        run: Id,
        links: Vec<ModelLink>,
    },
    CreateModel(Box<LoggedModel>),
    ModelPhase {
        model: Id,
        phase: LoggedModelPhase,
        at: Timestamp,
    },
    DeleteModel {
        model: Id,
        at: Timestamp,
    },
    ModelMetrics(Vec<ModelMetric>),
    File(FileWrite),
}

/// A logged model with what is recorded of it.
#[derive(Debug, Clone)]
pub struct LoggedModelRecord {
    /// The model.
    pub model: LoggedModel,
    /// Its parameters, sorted by key.
    pub params: Vec<(String, String)>,
    /// Its tags, sorted by key.
    pub tags: Vec<(String, String)>,
    /// Its measurements, in the order of logging.
    pub metrics: Vec<ModelMetric>,
}

impl Transaction {
    pub(crate) fn track(&mut self, write: TrackingWrite) -> &mut Self {
        self.writes.push(Write::Tracking(write));
        self
    }

    /// Records data that went into a run; what is recorded already stays as it is.
    pub fn link_datasets(
        &mut self,
        run: RunId,
        experiment: ExperimentId,
        datasets: Vec<RunDataset>,
    ) -> &mut Self {
        self.track(TrackingWrite::Datasets {
            run: run.id(),
            experiment: experiment.id(),
            datasets,
        })
    }

    /// Records logged models that a run used or made.
    pub fn link_models(&mut self, run: RunId, links: Vec<ModelLink>) -> &mut Self {
        self.track(TrackingWrite::Models {
            run: run.id(),
            links,
        })
    }

    /// Makes a logged model.
    pub fn create_logged_model(
        &mut self,
        model: LoggedModel,
        params: Vec<(String, String)>,
        tags: Vec<(String, String)>,
    ) -> &mut Self {
        let id = RunId::from(model.id);
        self.track(TrackingWrite::CreateModel(Box::new(model)))
            .set_params(id, params)
            .set_tags(id, tags)
    }

    /// Moves a logged model on.
    pub fn set_logged_model_phase(
        &mut self,
        model: Id,
        phase: LoggedModelPhase,
        at: Timestamp,
    ) -> &mut Self {
        self.track(TrackingWrite::ModelPhase { model, phase, at })
    }

    /// Puts a logged model in the bin.
    pub fn delete_logged_model(&mut self, model: Id, at: Timestamp) -> &mut Self {
        self.track(TrackingWrite::DeleteModel { model, at })
    }

    /// Adds measurements of logged models; those that are there already change nothing.
    pub fn append_model_metrics(&mut self, metrics: Vec<ModelMetric>) -> &mut Self {
        self.track(TrackingWrite::ModelMetrics(metrics))
    }
}

impl Store {
    /// One page of the runs that `search` asks for, as records.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn search_runs(&self, search: RunSearch) -> Result<Found, StoreError> {
        self.search_runs_into(search, Vec::new()).await
    }

    /// One page of the runs that `search` asks for, told to `sink`. How many statements a run takes does
    /// not depend on how many runs there are.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn search_runs_into<S: RunSink>(
        &self,
        search: RunSearch,
        sink: S,
    ) -> Result<Found<S>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite
            .read(move |reader| reader.search_runs(&search, sink))
            .await
    }

    /// A run with all that it logged, told to `sink`; none if it is not there, or of another project.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn run_into<S: RunSink>(
        &self,
        project: &Name,
        run: RunId,
        sink: S,
    ) -> Result<Option<S>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let project = project.clone();
        sqlite
            .read(move |reader| reader.tell_run(&project, run.id(), sink))
            .await
    }

    /// Runs with all that they logged, in the order of `runs`; those that are not there are left out.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn found_runs(&self, runs: Vec<Id>) -> Result<Vec<FoundRun>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite
            .read(move |reader| Ok(reader.tell_runs(&runs, Vec::new())?.runs))
            .await
    }

    /// A logged model, in the bin or not.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn logged_model(&self, model: Id) -> Result<Option<LoggedModelRecord>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite.read(move |reader| reader.logged_model(model)).await
    }

    /// Some logged models of an experiment that are not in the bin, by their ids, those after `after`;
    /// none only where there are no more.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn logged_models(
        &self,
        project: &Name,
        experiment: Id,
        after: Option<Id>,
    ) -> Result<Vec<LoggedModelRecord>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let project = project.to_string();
        sqlite
            .read(move |reader| reader.logged_models(&project, experiment, after))
            .await
    }

    /// The newest points of many runs at once, each sorted by key, in the order of `runs`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn latest_metrics_of(
        &self,
        runs: Vec<Id>,
    ) -> Result<Vec<Vec<MetricPoint>>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite
            .read(move |reader| {
                let mut by_run = reader.latest_metrics_by_run(&runs)?;
                Ok(runs
                    .iter()
                    .map(|run| by_run.remove(run).unwrap_or_default())
                    .collect())
            })
            .await
    }
}

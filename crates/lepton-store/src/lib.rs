//! Metadata: resources, the parameters, tags and series of runs, events, and
//! the feed of changes.
//!
//! Owns: what is written, in which order, and that an acknowledged write is on
//! disk. Must not know: HTTP, who may do what, the planner, what a spec means.
//!
//! Every write is a [`Transaction`]: it happens whole or not at all. Updates are
//! compare-and-swap on `resource_version`, which is one counter for the whole
//! store, so it orders all changes; [`Store::changes`] reads them back.

mod alteration;
mod error;
mod files;
pub mod index;
mod purge;
mod query;
mod requirements;
mod search;
mod series;
mod sqlite;
mod traces;
mod tracking;
mod transaction;

use std::path::Path;

use lepton_types::resources::{Event, Kind, LineageEdge, MetricPoint, Resource, Spec};
use lepton_types::{Id, Name, RunId};
use tokio::sync::watch;

pub use error::{CommitError, Conflict, OpenError, StoreError};
pub use purge::{BinCounts, BinQuery};
pub use query::{
    Change, Comparison, CurveQuery, EventQuery, LineageQuery, MetricFilter, MetricStanding, Page,
    Query, RunRecord, SeriesPoints, SeriesQuery,
};
pub use search::{
    DatasetField, Found, FoundRun, Lifecycle, NumberField, RunClause, RunField, RunHead, RunOrder,
    RunSearch, RunSink, Test, TextField,
};
pub use series::{Axis, Point, PointRange};
pub use traces::TraceChange;
pub use tracking::LoggedModelRecord;
pub use transaction::{EventDraft, Transaction};

/// The metadata of one Lepton. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
}

/// A closed set: PostgreSQL joins it as a second variant.
#[derive(Clone)]
enum Backend {
    Sqlite(sqlite::Sqlite),
}

impl Store {
    /// Opens or makes the store in `file`, and brings its schema up to date.
    ///
    /// # Errors
    /// If the file cannot be used, or was written by a newer Lepton.
    pub fn open(file: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            backend: Backend::Sqlite(sqlite::Sqlite::open(file)?),
        })
    }

    /// Does all of `transaction` or nothing; returns once it is on disk.
    ///
    /// # Errors
    /// A conflict that left everything as it was, or a failing disk.
    pub async fn commit(&self, transaction: Transaction) -> Result<u64, CommitError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.commit(transaction).await,
        }
    }

    /// The resource of this name (or id, for kinds without unique names).
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn get<S: Spec>(
        &self,
        project: &Name,
        key: &str,
    ) -> Result<Option<Resource<S, S::Status>>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let (project, key) = (project.to_string(), key.to_owned());
        sqlite
            .read(move |reader| reader.get::<S>(&project, &key))
            .await
    }

    /// The resource of this id.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn get_by_id<S: Spec>(
        &self,
        id: Id,
    ) -> Result<Option<Resource<S, S::Status>>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite.read(move |reader| reader.get_by_id::<S>(id)).await
    }

    /// One page of resources, in the order of their making.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn list<S: Spec>(
        &self,
        query: Query,
    ) -> Result<Page<Resource<S, S::Status>>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite.read(move |reader| reader.list::<S>(&query)).await
    }

    /// All of a kind that `query` asks for, page after page.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn list_all<S: Spec>(
        &self,
        query: Query,
    ) -> Result<Vec<Resource<S, S::Status>>, StoreError> {
        let mut all = Vec::new();
        let mut query = query;
        loop {
            let page = self.list::<S>(query.clone()).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Changes after `since`, oldest first, at most `limit`: for each resource the
    /// newest state only.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn changes(&self, since: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite
            .read(move |reader| reader.changes(since, limit))
            .await
    }

    /// Tells the newest `resource_version`, and when it moves.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.subscribe(),
        }
    }

    /// Events, oldest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn events(&self, query: EventQuery) -> Result<Vec<Event>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite.read(move |reader| reader.events(&query)).await
    }

    /// The parameters of a run, sorted by key.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn params(&self, run: RunId) -> Result<Vec<(String, String)>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite
            .read(move |reader| reader.pairs(sqlite::Pairs::Params, run.id()))
            .await
    }

    /// The tags of a run, sorted by key.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn tags(&self, run: RunId) -> Result<Vec<(String, String)>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite
            .read(move |reader| reader.pairs(sqlite::Pairs::Tags, run.id()))
            .await
    }

    /// The newest point of every metric of a run, sorted by key.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn latest_metrics(&self, run: RunId) -> Result<Vec<MetricPoint>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite
            .read(move |reader| reader.latest_metrics(run.id()))
            .await
    }

    /// One page of runs with what they logged, of those that `filter` lets through.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn list_run_records(
        &self,
        query: Query,
        filter: Option<MetricFilter>,
    ) -> Result<Page<RunRecord>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite
            .read(move |reader| reader.list_run_records(&query, filter.as_ref()))
            .await
    }

    /// The newest point, the lowest and the highest value of every metric of a run, sorted by key.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn metric_standings(&self, run: RunId) -> Result<Vec<MetricStanding>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite
            .read(move |reader| reader.metric_standings(run.id()))
            .await
    }

    /// Points of one metric's series, by step, then time, then value.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn series(&self, query: SeriesQuery) -> Result<SeriesPoints, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite.read(move |reader| reader.series(&query)).await
    }

    /// A series in few points that keep its extremes: of each of `points_max / 4` pixels the
    /// first, the lowest, the highest and the last.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn curve(&self, query: CurveQuery) -> Result<Vec<Point>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite.read(move |reader| reader.curve(&query)).await
    }

    /// Merges what was appended to a run into its blocks now, instead of in the background soon.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn merge_series(&self, run: RunId) -> Result<(), StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite.merge_series(run.id()).await
    }

    /// The newest version that a dataset of this name had when it was deleted; 0 if there was none.
    /// A new one counts on from there, so that a number always means the same bytes.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn retired_number(&self, project: &Name, dataset: &str) -> Result<u32, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let (project, key) = (project.to_string(), dataset.to_owned());
        sqlite
            .read(move |reader| reader.retired_number(&project, &key))
            .await
    }

    /// What something came from and what came of it, however far; at most
    /// [`LineageQuery::EDGES_MAX`] edges, the nearest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn lineage(&self, query: LineageQuery) -> Result<Vec<LineageEdge>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite.read(move |reader| reader.lineage(&query)).await
    }

    /// How many resources of a kind stand in each phase, over all projects.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn count_by_phase(&self, kind: Kind) -> Result<Vec<(String, u64)>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        sqlite.read(move |reader| reader.count_by_phase(kind)).await
    }

    /// Waits for the writes under way and stops writing.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.close().await,
        }
    }
}

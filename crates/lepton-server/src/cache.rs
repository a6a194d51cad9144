//! The working set in memory, kept up to date from the store's feed of changes.
//!
//! Owns: what is live (jobs and attempts that are not over, endpoints, replicas, pools, reservations) and what
//! every request needs (tokens). Nothing here survives, and nothing needs to: it is read again
//! from the store at the next start.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use lepton_store::{Change, Query, Store, StoreError};
use lepton_types::Id;
use lepton_types::resources::{
    Attempt, AttemptSpec, Endpoint, EndpointSpec, Job, JobSpec, Kind, Model, ModelSpec, Pool,
    PoolSpec, Replica, ReplicaSpec, Reservation, ReservationSpec, Resource, Spec, Token, TokenSpec,
};

/// What is live. Cloning is cheap enough for a pass: values are shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    /// The store's counter that this reflects.
    pub(crate) version: u64,
    pub(crate) jobs: BTreeMap<Id, Arc<Job>>,
    pub(crate) attempts: BTreeMap<Id, Arc<Attempt>>,
    pub(crate) endpoints: BTreeMap<Id, Arc<Endpoint>>,
    pub(crate) replicas: BTreeMap<Id, Arc<Replica>>,
    pub(crate) pools: BTreeMap<Id, Arc<Pool>>,
    pub(crate) models: BTreeMap<Id, Arc<Model>>,
    pub(crate) reservations: BTreeMap<Id, Arc<Reservation>>,
    pub(crate) tokens: BTreeMap<Id, Arc<Token>>,
}

/// The working set, shared between requests and the reconciler.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    live: RwLock<Live>,
}

/// Changes that are read at once; bounds the memory of catching up.
const CHANGES_PER_READ: usize = 2_000;

impl Cache {
    /// Reads what is live at the start.
    pub(crate) async fn load(store: &Store) -> Result<Self, StoreError> {
        // Taken first: what changes while the lists are read is seen again, which is harmless.
        let version = *store.subscribe().borrow();
        let open_jobs = Query {
            phases: vec!["queued", "running", "deleting"],
            ..Query::default()
        };
        let open_attempts = Query {
            phases: vec!["starting", "running", "stopping"],
            ..Query::default()
        };
        let live = Live {
            version,
            jobs: all::<JobSpec>(store, open_jobs).await?,
            attempts: all::<AttemptSpec>(store, open_attempts).await?,
            endpoints: all::<EndpointSpec>(store, Query::default()).await?,
            replicas: all::<ReplicaSpec>(store, Query::default()).await?,
            pools: all::<PoolSpec>(store, Query::default()).await?,
            models: all::<ModelSpec>(store, Query::default()).await?,
            reservations: all::<ReservationSpec>(store, Query::default()).await?,
            tokens: all::<TokenSpec>(store, Query::default()).await?,
        };
        Ok(Self {
            live: RwLock::new(live),
        })
    }

    /// Takes in what changed since the last time; returns whether anything did.
    pub(crate) async fn refresh(&self, store: &Store) -> Result<bool, StoreError> {
        let mut changed = false;
        loop {
            let since = self.read(|live| live.version);
            let changes = store.changes(since, CHANGES_PER_READ).await?;
            if changes.is_empty() {
                return Ok(changed);
            }
            changed = true;
            let mut live = self.live.write().expect("invariant: no reader panics");
            // Somebody else may have read further in the meantime, and what is older than that
            // must not come back: a revoked token, above all.
            let known = live.version;
            for change in changes.iter().filter(|change| change.version > known) {
                live.take_in(change)?;
            }
        }
    }

    /// Looks at the working set; `look` must be quick.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Live) -> T) -> T {
        look(&self.live.read().expect("invariant: no writer panics"))
    }
}

async fn all<S: Spec>(
    store: &Store,
    query: Query,
) -> Result<BTreeMap<Id, Arc<Resource<S, S::Status>>>, StoreError> {
    let resources = store.list_all::<S>(query).await?;
    Ok(resources
        .into_iter()
        .map(|resource| (resource.metadata.id, Arc::new(resource)))
        .collect())
}

impl Live {
    fn take_in(&mut self, change: &Change) -> Result<(), StoreError> {
        match change.kind {
            Kind::Job => put::<JobSpec>(&mut self.jobs, change, |job| {
                !job.status.phase.is_final() || job.is_deleting()
            }),
            Kind::Attempt => put::<AttemptSpec>(&mut self.attempts, change, |attempt| {
                !attempt.status.phase.is_final()
            }),
            Kind::Endpoint => put::<EndpointSpec>(&mut self.endpoints, change, |_| true),
            Kind::Replica => put::<ReplicaSpec>(&mut self.replicas, change, |_| true),
            Kind::Pool => put::<PoolSpec>(&mut self.pools, change, |_| true),
            Kind::Model => put::<ModelSpec>(&mut self.models, change, |_| true),
            Kind::Token => put::<TokenSpec>(&mut self.tokens, change, |_| true),
            Kind::Reservation => put::<ReservationSpec>(&mut self.reservations, change, |_| true),
            Kind::Project
            | Kind::Dataset
            | Kind::DatasetVersion
            | Kind::Experiment
            | Kind::Run
            | Kind::ModelVersion => Ok(()),
        }?;
        self.version = self.version.max(change.version);
        Ok(())
    }
}

fn put<S: Spec>(
    map: &mut BTreeMap<Id, Arc<Resource<S, S::Status>>>,
    change: &Change,
    keep: impl FnOnce(&Resource<S, S::Status>) -> bool,
) -> Result<(), StoreError> {
    match change.decode::<S>()? {
        Some(resource) if keep(&resource) => {
            map.insert(change.id, Arc::new(resource));
        }
        Some(_) | None => {
            map.remove(&change.id);
        }
    }
    Ok(())
}

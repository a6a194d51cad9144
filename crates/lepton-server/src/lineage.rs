//! Lineage: what came from what, recorded as it happens, and how often models were asked.
//!
//! Owns: when an edge is recorded. Must not know: how edges are kept or shown.
//!
//! What a transaction makes is linked in that transaction. What is only read, and the counts of
//! requests, follow in writes of their own: counts in batches, so a server that is killed loses
//! those of the last seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lepton_access::Principal;
use lepton_store::{StoreError, Transaction};
use lepton_types::resources::{
    DatasetVersion, Endpoint, Kind, LineageEdge, LineageNode, LineageRelation, ModelVersion,
    ModelVersionSpec, Replica, RunSpec,
};
use lepton_types::{DurationMs, Id, Name, ReplicaId, RunId, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::error::Chain;

/// How often counts of requests are written.
const COUNT_EVERY: DurationMs = DurationMs::from_secs(5);

/// Readings that are remembered as recorded; then all are forgotten, which costs a write each.
const READINGS_MAX: usize = 10_000;

/// What is known of lineage between two writes.
#[derive(Default)]
pub(crate) struct Ledger {
    /// What each routed replica serves, until all that it answered is written.
    serving: Mutex<BTreeMap<ReplicaId, Serving>>,
    /// Which runs are known to have read which dataset versions.
    readings: Mutex<BTreeSet<(Id, Id)>>,
}

/// Which model version a replica serves for which endpoint.
#[derive(Clone)]
struct Serving {
    project: Name,
    endpoint: LineageNode,
    model: String,
    /// Whether the newest routes have it.
    routed: bool,
}

impl Ledger {
    /// Notes which replicas the routes have now.
    pub(crate) fn routed<'a>(&self, replicas: impl Iterator<Item = (&'a Endpoint, &'a Replica)>) {
        let mut serving = held(&self.serving);
        for known in serving.values_mut() {
            known.routed = false;
        }
        for (endpoint, replica) in replicas {
            let entry = Serving {
                project: endpoint.metadata.project.clone(),
                endpoint: endpoint_node(endpoint),
                model: format!("{}/{}", replica.spec.model, replica.spec.version),
                routed: true,
            };
            serving.insert(replica.metadata.id.into(), entry);
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An edge that is so from `at` on.
pub(crate) fn edge(
    from: LineageNode,
    relation: LineageRelation,
    to: LineageNode,
    at: Timestamp,
) -> LineageEdge {
    LineageEdge {
        from,
        relation,
        to,
        first_at: at,
        last_at: at,
        requests: 0,
    }
}

pub(crate) fn dataset_node(version: &DatasetVersion) -> LineageNode {
    LineageNode {
        kind: Kind::DatasetVersion,
        id: version.metadata.id,
        name: format!("{}:{}", version.spec.dataset, version.spec.version),
    }
}

/// Data that is known by its name and fingerprint alone: what clients of MLflow log as inputs. The same
/// data is the same node in all of a project.
pub(crate) fn logged_dataset_node(project: &Name, name: &str, digest: &str) -> LineageNode {
    let hash = Sha256::digest(format!("logged dataset\0{project}\0{name}\0{digest}"));
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    LineageNode {
        kind: Kind::DatasetVersion,
        id: Id::from_bytes(id),
        name: format!("{name}@{digest}"),
    }
}

pub(crate) fn model_node(version: &ModelVersion) -> LineageNode {
    LineageNode {
        kind: Kind::ModelVersion,
        id: version.metadata.id,
        name: format!("{}:{}", version.spec.model, version.spec.version),
    }
}

pub(crate) fn run_node(run: RunId, name: &str) -> LineageNode {
    LineageNode {
        kind: Kind::Run,
        id: run.id(),
        name: name.to_owned(),
    }
}

pub(crate) fn endpoint_node(endpoint: &Endpoint) -> LineageNode {
    LineageNode {
        kind: Kind::Endpoint,
        id: endpoint.metadata.id,
        name: endpoint.metadata.name.clone(),
    }
}

/// Links what `run` made to it, in the transaction that makes it; a run that is nowhere made nothing.
pub(crate) async fn made_by(
    app: &App,
    transaction: &mut Transaction,
    project: &Name,
    run: Option<RunId>,
    made: LineageNode,
) -> Result<(), StoreError> {
    let Some(run) = run else { return Ok(()) };
    let found = app.store.get_by_id::<RunSpec>(run.id()).await?;
    if let Some(found) = found.filter(|found| found.metadata.project == *project) {
        let from = run_node(run, &found.metadata.name);
        let made = edge(from, LineageRelation::Made, made, app.now());
        transaction.link(project, made);
    }
    Ok(())
}

/// Records that a workload reads a dataset version, once. A record that fails is made again by the
/// next reading; it is no reason to refuse this one.
pub(crate) async fn read(app: &App, reader: &Principal, version: &DatasetVersion) {
    let Principal::Workload {
        run: Some(run),
        project,
        ..
    } = reader
    else {
        return;
    };
    let key = (*run, version.metadata.id);
    {
        let mut readings = held(&app.lineage.readings);
        if readings.len() >= READINGS_MAX {
            readings.clear();
        }
        if !readings.insert(key) {
            return;
        }
    }
    if let Err(error) = record_reading(app, project, RunId::from(*run), version).await {
        held(&app.lineage.readings).remove(&key);
        tracing::warn!(error = %Chain(&error), "the reading of a dataset could not be recorded");
    }
}

async fn record_reading(
    app: &App,
    project: &Name,
    run: RunId,
    version: &DatasetVersion,
) -> Result<(), lepton_store::CommitError> {
    let Some(found) = app.store.get_by_id::<RunSpec>(run.id()).await? else {
        return Ok(());
    };
    let (from, to) = (dataset_node(version), run_node(run, &found.metadata.name));
    let mut transaction = Transaction::new();
    transaction.link(project, edge(from, LineageRelation::ReadBy, to, app.now()));
    app.store.commit(transaction).await?;
    Ok(())
}

/// Writes counts until the server stops; what came after is left to [`write_counts`].
pub(crate) async fn run(app: App) {
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(COUNT_EVERY.to_std()) => write_counts(&app).await,
        }
    }
}

/// Adds what was answered since the last call to the edges from model versions to endpoints.
pub(crate) async fn write_counts(app: &App) {
    let answered = app.gateway.take_answered();
    let mut transaction = Transaction::new();
    for (replica, requests) in &answered {
        let serving = held(&app.lineage.serving).get(replica).cloned();
        let Some(serving) = serving else { continue };
        let found = app
            .store
            .get::<ModelVersionSpec>(&serving.project, &serving.model);
        match found.await {
            Ok(Some(version)) => {
                let (from, to) = (model_node(&version), serving.endpoint);
                let served = edge(from, LineageRelation::ServedBy, to, app.now());
                transaction.link(
                    &serving.project,
                    LineageEdge {
                        requests: *requests,
                        ..served
                    },
                );
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(error = %Chain(&error), "requests could not be counted"),
        }
    }
    held(&app.lineage.serving)
        .retain(|replica, serving| serving.routed || app.gateway.in_flight(*replica) > 0);
    if let Err(error) = app.store.commit(transaction).await {
        tracing::warn!(error = %Chain(&error), "requests could not be counted");
    }
}

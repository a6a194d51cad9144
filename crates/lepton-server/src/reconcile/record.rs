//! Recording: what a plan changes about one job, endpoint or reservation, as one transaction.

use lepton_planner::workloads::{
    EndpointChange, Happening, JobChange, NewAttempt, ReservationChange, View,
};
use lepton_store::{EventDraft, StoreError, Transaction};
use lepton_types::resources::{
    Attempt, AttemptSpec, Endpoint, Job, Kind, LineageRelation, ModelVersionSpec, ReplicaSpec,
    Reservation, Resource, RunSpec, WorkerPhase, WorkerStatus,
};
use lepton_types::{Id, Name, Timestamp};

use crate::app::App;
use crate::http::set_phase;
use crate::lineage;

/// The transaction of a job's change; none if the job is gone. A new attempt takes the first of `ids`.
pub(super) async fn job(
    app: &App,
    view: &View,
    change: &JobChange,
    ids: &[Id],
) -> Result<Option<Transaction>, StoreError> {
    let Some(job) = view.jobs.get(&change.job) else {
        return Ok(None);
    };
    let mut transaction = Transaction::new();
    if change.delete {
        transaction.delete(job.as_ref());
        return Ok(Some(transaction));
    }
    let now = app.now();
    if let Some(status) = &change.status {
        transaction.update(&Job {
            status: status.clone(),
            ..job.as_ref().clone()
        });
    }
    if let Some((id, status)) = &change.attempt
        && let Some(attempt) = view.attempts.get(id)
    {
        transaction.update(&Attempt {
            status: status.clone(),
            ..attempt.as_ref().clone()
        });
    }
    if let (Some(start), Some(id)) = (&change.start, ids.first()) {
        transaction.create(&attempt(*id, job, start, now));
    }
    if let Some(phase) = change.run
        && let Some(mut run) = app.store.get_by_id::<RunSpec>(job.spec.run.id()).await?
    {
        // What a script has said of its own run stands, unless the job says that it went wrong.
        let said =
            run.status.phase.is_final() && phase == lepton_types::resources::RunPhase::Finished;
        if !said {
            set_phase(&mut run, phase, now);
            transaction.update(&run);
        }
    }
    let subject = Subject {
        kind: Kind::Job,
        id: change.job,
        resource: &job.metadata,
    };
    record_events(&mut transaction, &subject, &change.events, now);
    Ok(Some(transaction))
}

fn attempt(id: Id, job: &Job, start: &NewAttempt, now: Timestamp) -> Attempt {
    let spec = AttemptSpec {
        number: start.number,
        nodes: start.nodes.iter().map(ToString::to_string).collect(),
        resources: job.spec.resources,
        master_port: super::launch::free_port(id),
    };
    let name = format!("{}-{}", job.metadata.name, start.number);
    let mut attempt = Resource::draft(id, job.metadata.project.clone(), name, now, spec)
        .created_by("reconciler")
        .owned_by(Kind::Job, job.metadata.id);
    let worker = |rank| WorkerStatus {
        rank,
        phase: WorkerPhase::Starting,
        reason: None,
        enforcement: None,
        memory_bytes_max: None,
        logs: Vec::new(),
    };
    attempt.status.workers = (0..job.spec.workers).map(worker).collect();
    attempt
}

/// The transaction of an endpoint's change; none if the endpoint is gone. Each new replica takes one of
/// `ids`.
pub(super) async fn endpoint(
    app: &App,
    view: &View,
    change: &EndpointChange,
    ids: &[Id],
) -> Result<Option<Transaction>, StoreError> {
    let Some(endpoint) = view.endpoints.get(&change.endpoint) else {
        return Ok(None);
    };
    let mut transaction = Transaction::new();
    if change.delete {
        transaction.delete(endpoint.as_ref());
        return Ok(Some(transaction));
    }
    let now = app.now();
    if let Some(status) = &change.status {
        transaction.update(&Endpoint {
            status: status.clone(),
            ..endpoint.as_ref().clone()
        });
    }
    let changed = change.replicas.keys().chain(&change.drain);
    for id in std::collections::BTreeSet::from_iter(changed) {
        let Some(replica) = view.replicas.get(id) else {
            continue;
        };
        let mut replica = replica.as_ref().clone();
        if let Some(status) = change.replicas.get(id) {
            replica.status = status.clone();
        }
        if change.drain.contains(id) {
            replica.spec.drain_since.get_or_insert(now);
        }
        transaction.update(&replica);
    }
    for id in &change.forget {
        if let Some(replica) = view.replicas.get(id) {
            transaction.delete(replica.as_ref());
        }
    }
    for (start, id) in change.start.iter().zip(ids.iter().copied()) {
        let Ok(name) = endpoint.metadata.name.parse::<Name>() else {
            continue;
        };
        let spec = ReplicaSpec {
            endpoint: name,
            model: endpoint.spec.model.model.clone(),
            version: start.version,
            node: start.node.to_string(),
            resources: endpoint.spec.resources,
            drain_since: None,
        };
        let name = format!("{}-{}", endpoint.metadata.name, &id.to_string()[24..]);
        let replica = Resource::draft(id, endpoint.metadata.project.clone(), name, now, spec)
            .created_by("reconciler")
            .owned_by(Kind::Endpoint, endpoint.metadata.id);
        transaction.create(&replica);
        link_model(app, &mut transaction, endpoint, start.version).await?;
    }
    let subject = Subject {
        kind: Kind::Endpoint,
        id: change.endpoint,
        resource: &endpoint.metadata,
    };
    record_events(&mut transaction, &subject, &change.events, now);
    Ok(Some(transaction))
}

/// The transaction of a reservation's change; none if the reservation is gone.
pub(super) fn reservation(
    app: &App,
    view: &View,
    change: &ReservationChange,
) -> Option<Transaction> {
    let reservation = view.reservations.get(&change.reservation)?;
    let mut transaction = Transaction::new();
    if change.delete {
        transaction.delete(reservation.as_ref());
        return Some(transaction);
    }
    if let Some(status) = &change.status {
        transaction.update(&Reservation {
            status: status.clone(),
            ..reservation.as_ref().clone()
        });
    }
    let subject = Subject {
        kind: Kind::Reservation,
        id: change.reservation,
        resource: &reservation.metadata,
    };
    record_events(&mut transaction, &subject, &change.events, app.now());
    Some(transaction)
}

/// Records that an endpoint is about to serve a version.
async fn link_model(
    app: &App,
    transaction: &mut Transaction,
    endpoint: &Endpoint,
    version: u32,
) -> Result<(), StoreError> {
    let key = format!("{}/{version}", endpoint.spec.model.model);
    let project = &endpoint.metadata.project;
    if let Some(version) = app.store.get::<ModelVersionSpec>(project, &key).await? {
        let (from, to) = (
            lineage::model_node(&version),
            lineage::endpoint_node(endpoint),
        );
        let served = lineage::edge(from, LineageRelation::ServedBy, to, app.now());
        transaction.link(project, served);
    }
    Ok(())
}

/// What events are about.
struct Subject<'a> {
    kind: Kind,
    id: Id,
    resource: &'a lepton_types::resources::Meta,
}

fn record_events(
    transaction: &mut Transaction,
    subject: &Subject<'_>,
    happenings: &[Happening],
    now: Timestamp,
) {
    for happening in happenings {
        transaction.event(EventDraft {
            at: now,
            project: subject.resource.project.clone(),
            kind: subject.kind,
            id: subject.id,
            name: subject.resource.name.clone(),
            severity: happening.severity,
            reason: happening.reason.clone(),
            message: happening.message.clone(),
        });
    }
}

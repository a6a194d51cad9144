//! Endpoints: what serves.

use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::Access;
use lepton_api::{ErrorCode, List};
use lepton_planner::{PlanRng, autoscaling, workloads};
use lepton_store::{EventDraft, Query, Transaction};
use lepton_types::resources::{
    Endpoint, EndpointPhase, EndpointSpec, EventSeverity, Kind, ModelSelector, ModelVersion,
    PoolSpec, Replica, ReplicaSpec, Resource, Scaling,
};
use lepton_types::{DurationMs, Name, Timestamp};

use super::jobs::check_resources;
use super::models::select_version;
use super::{change, enter, find};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments, list_of, parse_name};

const PHASES: [&str; 5] = ["pending", "updating", "ready", "failing", "deleting"];

/// More copies than this on one pool are a mistake.
const REPLICAS_MAX: u32 = 256;

/// The file of a model version that can be served.
pub(super) const SERVABLE: &str = "model.onnx";

/// Lists endpoints.
#[utoipa::path(get, path = "/api/v1/projects/{project}/endpoints", tag = "endpoints",
    params(("project" = String, Path), Paging), responses((status = 200, body = List<Endpoint>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<Endpoint>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Endpoint, &project).await?;
    let mut page = app
        .store
        .list::<EndpointSpec>(paging.query(&project, &PHASES)?)
        .await?;
    for endpoint in &mut page.items {
        explain_waiting(&app, endpoint);
    }
    Ok(axum::Json(list_of(page)))
}

/// One endpoint.
#[utoipa::path(get, path = "/api/v1/projects/{project}/endpoints/{endpoint}", tag = "endpoints",
    params(("project" = String, Path), ("endpoint" = String, Path)), responses((status = 200, body = Endpoint)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments((project, endpoint)): Segments<(String, String)>,
) -> Result<axum::Json<Endpoint>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Endpoint, &project).await?;
    let mut endpoint = find::<EndpointSpec>(&app, &project, &endpoint).await?;
    explain_waiting(&app, &mut endpoint);
    Ok(axum::Json(endpoint))
}

/// Makes an endpoint, or changes one; changing the model replaces its replicas one by one, and
/// no request is dropped.
#[utoipa::path(put, path = "/api/v1/projects/{project}/endpoints/{endpoint}", tag = "endpoints",
    params(("project" = String, Path), ("endpoint" = String, Path)), request_body = EndpointSpec,
    responses((status = 200, body = Endpoint), (status = 201, body = Endpoint)))]
pub(super) async fn put(
    State(app): State<App>,
    caller: Caller,
    Segments((project, endpoint)): Segments<(String, String)>,
    Json(spec): Json<EndpointSpec>,
) -> Result<(StatusCode, axum::Json<Endpoint>), ApiError> {
    let project = enter(&app, &caller, Access::Write, Kind::Endpoint, &project).await?;
    let name: Name = parse_name(&endpoint)?;
    let spec = accept(&app, &project, spec).await?;
    let found = app
        .store
        .get::<EndpointSpec>(&project, name.as_str())
        .await?;
    if found.is_none() {
        let endpoint = create(&app, &caller, &project, &name, spec).await?;
        return Ok((StatusCode::CREATED, axum::Json(endpoint)));
    }
    let changed = change::<EndpointSpec>(&app, &project, name.as_str(), |endpoint| {
        if endpoint.is_deleting() {
            let message = format!("endpoint `{name}` is being deleted: wait until it is gone");
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        update(endpoint, &spec);
        Ok(())
    })
    .await?;
    Ok((StatusCode::OK, axum::Json(changed)))
}

/// Deletes an endpoint: it takes no new requests, finishes what it has, and goes.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/endpoints/{endpoint}", tag = "endpoints",
    params(("project" = String, Path), ("endpoint" = String, Path)), responses((status = 202)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments((project, endpoint)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let project = enter(&app, &caller, Access::Delete, Kind::Endpoint, &project).await?;
    let now: Timestamp = app.now();
    change::<EndpointSpec>(&app, &project, &endpoint, |endpoint| {
        endpoint.metadata.deleting_since.get_or_insert(now);
        Ok(())
    })
    .await?;
    Ok(StatusCode::ACCEPTED)
}

/// Lists the replicas of an endpoint, oldest first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/endpoints/{endpoint}/replicas", tag = "endpoints",
    params(("project" = String, Path), ("endpoint" = String, Path)), responses((status = 200, body = List<Replica>)))]
pub(super) async fn list_replicas(
    State(app): State<App>,
    caller: Caller,
    Segments((project, endpoint)): Segments<(String, String)>,
) -> Result<axum::Json<List<Replica>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Replica, &project).await?;
    let endpoint = find::<EndpointSpec>(&app, &project, &endpoint).await?;
    let query = Query {
        owner: Some(endpoint.metadata.id),
        ..Query::project(&project)
    };
    Ok(axum::Json(list_of(
        app.store.list::<ReplicaSpec>(query).await?,
    )))
}

/// Puts the last pass's reason into an endpoint that waits.
fn explain_waiting(app: &App, endpoint: &mut Endpoint) {
    if let Some(waiting) = app.waiting.load().get(&endpoint.metadata.id) {
        endpoint.status.waiting = Some(waiting.clone());
    }
}

/// Checks a spec, and fixes `latest` to the version that it means now.
pub(super) async fn accept(
    app: &App,
    project: &Name,
    mut spec: EndpointSpec,
) -> Result<EndpointSpec, ApiError> {
    if spec.replicas > REPLICAS_MAX {
        return Err(ApiError::invalid(format!(
            "`replicas` must be 0 to {REPLICAS_MAX}"
        )));
    }
    if let Some(scaling) = &spec.scaling {
        check_scaling(scaling)?;
    }
    check_resources(spec.resources)?;
    find::<PoolSpec>(app, &Name::default_project(), spec.pool.as_str()).await?;
    let model = spec.model.model.as_str();
    let version = select_version(app, project, model, &spec.model.selector).await?;
    if version.spec.servable().is_none() {
        let holds = what_it_holds(app, project, &version).await;
        let message = format!(
            "model version `{}` cannot be served: it has no `{SERVABLE}`, only {holds}",
            version.metadata.name
        );
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    if spec.model.selector == ModelSelector::Latest {
        spec.model.selector = ModelSelector::Version(version.spec.version);
    }
    Ok(spec)
}

/// Requests at once that one replica can be given: as many as may wait at all.
const CONCURRENCY_MAX: u32 = 1_000;

/// Refuses limits that contradict each other, or that nothing can keep.
fn check_scaling(scaling: &Scaling) -> Result<(), ApiError> {
    let Scaling {
        min_replicas,
        max_replicas,
        concurrency,
        late_after,
        late_per_mille,
        ..
    } = *scaling;
    if !(1..=REPLICAS_MAX).contains(&max_replicas) {
        return Err(ApiError::invalid(format!(
            "`scaling.max_replicas` must be 1 to {REPLICAS_MAX}"
        )));
    }
    if min_replicas > max_replicas {
        return Err(ApiError::invalid(format!(
            "`scaling.min_replicas` {min_replicas} is more than `scaling.max_replicas` {max_replicas}"
        )));
    }
    if !(1..=CONCURRENCY_MAX).contains(&concurrency) {
        return Err(ApiError::invalid(format!(
            "`scaling.concurrency` must be 1 to {CONCURRENCY_MAX}"
        )));
    }
    if late_after < DurationMs::from_millis(1) || late_after > DurationMs::from_secs(3_600) {
        return Err(ApiError::invalid(
            "`scaling.late_after` must be 1ms to 1h".to_owned(),
        ));
    }
    if !(1..=1_000).contains(&late_per_mille) {
        return Err(ApiError::invalid(
            "`scaling.late_per_mille` must be 1 to 1000: no finite fleet can promise that none is late"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The newest decision about how many replicas an endpoint should have: what was known, the time,
/// the seed and the plan. `lepton plan explain` takes it again.
#[utoipa::path(get, path = "/api/v1/projects/{project}/endpoints/{endpoint}/scaling", tag = "endpoints",
    params(("project" = String, Path), ("endpoint" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = lepton_api::ErrorBody)))]
pub(super) async fn scaling(
    State(app): State<App>,
    caller: Caller,
    Segments((project, endpoint)): Segments<(String, String)>,
) -> Result<axum::Json<autoscaling::Record>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Endpoint, &project).await?;
    let found = find::<EndpointSpec>(&app, &project, &endpoint).await?;
    let newest = found.spec.scaling.and_then(|_| app.scaled.load_full());
    let record = newest.and_then(|taken| {
        let rng = PlanRng::from_seed(taken.seed);
        workloads::scaling_record(&taken.view, found.metadata.id, taken.now, &rng)
    });
    record.map(axum::Json).ok_or_else(|| {
        let message = match found.spec.scaling {
            None => format!("endpoint `{endpoint}` has a fixed number of replicas"),
            Some(_) => format!("no decision about endpoint `{endpoint}` was taken since the start"),
        };
        ApiError::new(ErrorCode::NotFound, message)
    })
}

/// What a version has that cannot be served, and what it would need.
async fn what_it_holds(app: &App, project: &Name, version: &ModelVersion) -> String {
    let flavours = flavours_of(app, project, version).await;
    if !flavours.is_empty() {
        return format!(
            "MLflow's flavours {}; log the model with `mlflow.onnx.log_model` and register that \
             (skl2onnx converts scikit-learn's models, `torch.onnx.export` PyTorch's)",
            flavours.join(", ")
        );
    }
    let paths = version.spec.files.iter().map(|file| file.path.as_str());
    let listed: Vec<&str> = paths.take(8).collect();
    let listed = match listed.is_empty() {
        true => "files that are kept elsewhere".to_owned(),
        false => listed.join(", "),
    };
    format!("{listed}; export the model to ONNX and register it with `lepton model import`")
}

/// The longest description of a model that is looked into.
const MLMODEL_BYTES_MAX: u64 = 1 << 20;

/// The flavours that an MLflow model says it has; none if it is none, or cannot be read.
async fn flavours_of(app: &App, project: &Name, version: &ModelVersion) -> Vec<String> {
    let described = version
        .spec
        .files
        .iter()
        .find(|file| file.path == "MLmodel");
    let Some(file) = described.filter(|file| file.size_bytes <= MLMODEL_BYTES_MAX) else {
        return Vec::new();
    };
    let read = app.blobs.read_all(project, file.digest, MLMODEL_BYTES_MAX);
    let bytes = read.await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    // YAML of which only the keys below `flavors:` matter, each indented by two spaces.
    let below = text.lines().skip_while(|line| *line != "flavors:").skip(1);
    let below = below.take_while(|line| line.starts_with(' '));
    let keys = below.filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'));
    keys.filter(|key| !key.starts_with(' '))
        .map(str::to_owned)
        .collect()
}

/// Brings an endpoint's spec to what is wanted. Asking again, even for the same, ends a pause
/// after failures: what failed before may work now.
pub(super) fn update(endpoint: &mut Endpoint, spec: &EndpointSpec) {
    if endpoint.spec != *spec {
        endpoint.spec = spec.clone();
        endpoint.metadata.generation += 1;
        // Until the reconciler has looked at the new spec, nothing of it is ready.
        if endpoint.status.phase == EndpointPhase::Ready {
            endpoint.status.phase = EndpointPhase::Updating;
        }
    }
    endpoint.status.failures = 0;
    endpoint.status.not_before = None;
}

/// Makes an endpoint.
pub(super) async fn create(
    app: &App,
    caller: &Caller,
    project: &Name,
    name: &Name,
    spec: EndpointSpec,
) -> Result<Endpoint, ApiError> {
    let model = spec.model.clone();
    let mut endpoint = Resource::draft(
        app.ids.next_id(),
        project.clone(),
        name.as_str(),
        app.now(),
        spec,
    )
    .created_by(caller.0.label());
    let mut transaction = Transaction::new();
    transaction.create(&endpoint).event(EventDraft {
        at: app.now(),
        project: project.clone(),
        kind: Kind::Endpoint,
        id: endpoint.metadata.id,
        name: name.to_string(),
        severity: EventSeverity::Normal,
        reason: "Created".to_owned(),
        message: format!("to serve `{model}`, by {}", caller.0.label()),
    });
    endpoint.metadata.resource_version = app.store.commit(transaction).await?;
    Ok(endpoint)
}

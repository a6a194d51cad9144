//! Projects, the tenants.

use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::Access;
use lepton_api::{CreateProject, ErrorCode, List, UpdateProject};
use lepton_store::index::Usage;
use lepton_store::{Query, Transaction};
use lepton_types::Name;
use lepton_types::resources::{
    DatasetSpec, EndpointSpec, ExperimentSpec, JobSpec, Kind, ModelSpec, Project, ProjectQuota,
    ProjectSpec, ProjectStored, ReservationSpec, Resource, RunSpec, Spec, TokenSpec,
};

use super::objects::shred_project;
use super::{change, find, insert};
use crate::app::App;
use crate::auth::Caller;
use crate::datasets::{self, DatasetError};
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments, list_of, parse_name};
use crate::metering;

/// Lists projects.
#[utoipa::path(get, path = "/api/v1/projects", tag = "projects", params(Paging),
    responses((status = 200, body = List<Project>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<Project>>, ApiError> {
    caller.may_globally(Access::Read, Kind::Project)?;
    let query = paging.query(&Name::default_project(), &["active"])?;
    let mut page = app.store.list::<ProjectSpec>(query).await?;
    page.items.retain(|project| is_seen_by(&caller, project));
    let usage = app.objects.index.all_usage().await;
    let usage = usage.map_err(DatasetError::from)?;
    for project in &mut page.items {
        let stored = usage.get(&project.metadata.name);
        project.status.stored = Some(stored.map(|(usage, _)| told(usage)).unwrap_or_default());
    }
    Ok(axum::Json(list_of(page)))
}

/// Whether the caller may read a project.
pub(crate) fn is_seen_by(caller: &Caller, project: &Project) -> bool {
    parse_name(&project.metadata.name)
        .is_ok_and(|name| caller.may(Access::Read, Kind::Project, &name).is_ok())
}

/// Makes a project.
#[utoipa::path(post, path = "/api/v1/projects", tag = "projects", request_body = CreateProject,
    responses((status = 201, body = Project), (status = 409, body = lepton_api::ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<CreateProject>,
) -> Result<(StatusCode, axum::Json<Project>), ApiError> {
    caller.may_globally(Access::Administer, Kind::Project)?;
    let spec = ProjectSpec {
        description: request.description,
        quota: request.quota,
    };
    let home = Name::default_project();
    let draft = Resource::draft(
        app.ids.next_id(),
        home,
        request.name.as_str(),
        app.now(),
        spec,
    );
    let project = insert(&app, draft.created_by(caller.0.label())).await?;
    carry(&app, &request.name, &project).await?;
    let made = datasets::bucket(&app, &request.name).await;
    datasets::warn_if_failed(
        made.map(drop).map_err(Into::into),
        "a project has no bucket for drafts yet",
    );
    Ok((StatusCode::CREATED, axum::Json(project)))
}

/// One project.
#[utoipa::path(get, path = "/api/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path)), responses((status = 200, body = Project)))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
) -> Result<axum::Json<Project>, ApiError> {
    let name: Name = parse_name(&project)?;
    caller.may(Access::Read, Kind::Project, &name)?;
    let mut found = find::<ProjectSpec>(&app, &Name::default_project(), &project).await?;
    let usage = app.objects.index.usage(&name).await;
    found.status.stored = Some(told(&usage.map_err(DatasetError::from)?));
    Ok(axum::Json(found))
}

fn told(usage: &Usage) -> ProjectStored {
    ProjectStored {
        size_bytes: usage.bytes,
        objects: usage.objects,
    }
}

/// Brings a project's quota to where it is enforced.
async fn carry(app: &App, name: &Name, project: &Project) -> Result<(), ApiError> {
    let carried = metering::carry_quota(app, name, &project.spec.quota).await;
    Ok(carried.map_err(DatasetError::from)?)
}

/// Changes a project: what is absent stays. Only an owner may, as it bounds what others do.
#[utoipa::path(patch, path = "/api/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path)), request_body = UpdateProject,
    responses((status = 200, body = Project)))]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Json(request): Json<UpdateProject>,
) -> Result<axum::Json<Project>, ApiError> {
    caller.may_globally(Access::Administer, Kind::Project)?;
    let name: Name = parse_name(&project)?;
    let home = Name::default_project();
    let changed = change::<ProjectSpec>(&app, &home, &project, |project| {
        let spec = &mut project.spec;
        if let Some(description) = &request.description {
            spec.description.clone_from(description);
        }
        if let Some(quota) = &request.quota {
            spec.quota.storage = quota.storage.unwrap_or(spec.quota.storage);
            spec.quota.objects = quota.objects.unwrap_or(spec.quota.objects);
        }
        project.metadata.generation += 1;
        Ok(())
    })
    .await?;
    carry(&app, &name, &changed).await?;
    Ok(axum::Json(changed))
}

/// Deletes an empty project, with its tokens and the keys of what it stored.
#[utoipa::path(delete, path = "/api/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path)), responses((status = 204)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
) -> Result<StatusCode, ApiError> {
    caller.may_globally(Access::Administer, Kind::Project)?;
    let name: Name = parse_name(&project)?;
    if name == Name::default_project() {
        return Err(ApiError::new(
            ErrorCode::Conflict,
            "project `default` cannot be deleted",
        ));
    }
    let found = find::<ProjectSpec>(&app, &Name::default_project(), &project).await?;
    refuse_if_any::<JobSpec>(&app, &name).await?;
    refuse_if_any::<EndpointSpec>(&app, &name).await?;
    refuse_if_any::<DatasetSpec>(&app, &name).await?;
    refuse_if_any::<ModelSpec>(&app, &name).await?;
    refuse_if_any::<RunSpec>(&app, &name).await?;
    give_up_objects(&app, &name).await?;
    // What it leaves in backups and on the disk nobody can read.
    shred_project(&app, &name).await?;
    // Whoever makes a project of this name again must not find the tokens of this one good for it.
    let mut transaction = Transaction::new();
    for experiment in app
        .store
        .list_all::<ExperimentSpec>(Query::project(&name))
        .await?
    {
        transaction.delete(&experiment);
    }
    let tokens = Query::project(&Name::default_project());
    for token in app.store.list_all::<TokenSpec>(tokens).await? {
        if token.spec.scope.as_ref() == Some(&name) {
            transaction.delete(&token);
        }
    }
    // Nor does room stay promised to nobody.
    for reservation in app
        .store
        .list_all::<ReservationSpec>(Query::project(&Name::default_project()))
        .await?
    {
        if reservation.spec.project == name {
            transaction.delete(&reservation);
        }
    }
    transaction.delete(&found);
    app.store.commit(transaction).await?;
    app.cache.refresh(&app.store).await?;
    // Whoever makes it again is not bound by it.
    let open = ProjectQuota::default();
    let carried = metering::carry_quota(&app, &name, &open).await;
    carried.map_err(DatasetError::from)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn refuse_if_any<S: Spec>(app: &App, project: &Name) -> Result<(), ApiError> {
    let query = Query {
        limit: 1,
        ..Query::project(project)
    };
    if app.store.list::<S>(query).await?.items.is_empty() {
        return Ok(());
    }
    let kind = S::KIND;
    let message = format!("project `{project}` still has {kind}s: delete them first");
    Err(ApiError::new(ErrorCode::Conflict, message))
}

/// Deletes the buckets of a project, which must all be empty, and ends its key pairs.
async fn give_up_objects(app: &App, project: &Name) -> Result<(), ApiError> {
    let done = app.objects.index.delete_project(project, app.now()).await;
    match done.map_err(DatasetError::from)? {
        Ok(ended) => {
            for pair in ended {
                app.objects.forget_pair(&pair);
            }
            Ok(())
        }
        Err(bucket) => {
            let message = format!("bucket `{bucket}` still holds objects: delete them first");
            Err(ApiError::new(ErrorCode::Conflict, message))
        }
    }
}

//! Projects, the tenants.

use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::Access;
use lepton_api::{CreateProject, ErrorCode, List};
use lepton_store::index::{IndexError, Refusal};
use lepton_store::{Query, Transaction};
use lepton_types::Name;
use lepton_types::resources::{
    DatasetSpec, EndpointSpec, ExperimentSpec, JobSpec, Kind, ModelSpec, Project, ProjectSpec,
    Resource, RunSpec, Spec, TokenSpec,
};

use super::{find, insert};
use crate::app::App;
use crate::auth::Caller;
use crate::datasets::{self, DatasetError};
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments, list_of, parse_name};

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
    Ok(axum::Json(
        find::<ProjectSpec>(&app, &Name::default_project(), &project).await?,
    ))
}

/// Deletes an empty project, with its tokens.
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
    transaction.delete(&found);
    app.store.commit(transaction).await?;
    app.cache.refresh(&app.store).await?;
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

/// Deletes the buckets of a project, which must be empty, and ends its key pairs.
async fn give_up_objects(app: &App, project: &Name) -> Result<(), ApiError> {
    let index = &app.objects.index;
    loop {
        let buckets = index.buckets(project, "", "", PAGE).await;
        let buckets = buckets.map_err(DatasetError::from)?;
        if buckets.is_empty() {
            break;
        }
        for bucket in buckets {
            match index.delete_bucket(bucket.id).await {
                Err(IndexError::Refused(Refusal::BucketNotEmpty)) => {
                    let name = &bucket.name;
                    let message = format!("bucket `{name}` still holds objects: delete them first");
                    return Err(ApiError::new(ErrorCode::Conflict, message));
                }
                // Another deletion was faster.
                Ok(()) | Err(IndexError::Refused(Refusal::NoSuchBucket)) => {}
                Err(error) => return Err(DatasetError::from(error).into()),
            }
        }
    }
    let mut after = String::new();
    loop {
        let keys = index.access_keys(&after, PAGE).await;
        let keys = keys.map_err(DatasetError::from)?;
        let Some(last) = keys.last() else {
            return Ok(());
        };
        after = last.name.to_string();
        for key in keys.into_iter().filter(|key| key.project == *project) {
            let ended = index.revoke_access_key(&key.name, app.now()).await;
            app.objects
                .forget_pair(&ended.map_err(DatasetError::from)?.id);
        }
    }
}

/// Buckets or keys that are looked at at once.
const PAGE: usize = 256;

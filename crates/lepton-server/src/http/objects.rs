//! What operators do with stored objects: usage, passes over all of them, keys.

use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::Access;
use lepton_api::{
    DataKeyView, ErrorCode, List, ObjectKeys, ProjectKeys, RenewedKey, RotatedKeys, ShredKeys,
    ShreddedKeys, StartUpkeep, StorageUsage, Upkeep, UpkeepWork,
};
use lepton_store::index::{Stored, Usage};
use lepton_store::{EventDraft, Transaction};
use lepton_types::Name;
use lepton_types::resources::{EventSeverity, Kind, ProjectSpec};
use serde::Deserialize;

use super::{enter, find, require_project};
use crate::app::App;
use crate::auth::Caller;
use crate::blobs::BlobError;
use crate::datasets::DatasetError;
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments, list_of, parse_name};
use crate::metering::{month_of, statement};
use crate::object_keys::RotateError;
use crate::upkeep;

/// Which month.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Month {
    /// `2026-11`, in UTC; the current one where absent.
    month: Option<String>,
}

impl Month {
    fn of(&self, app: &App) -> Result<String, ApiError> {
        let Some(month) = &self.month else {
            return Ok(month_of(app.now()));
        };
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        match month.split_once('-') {
            Some((year, number))
                if year.len() == 4
                    && is_digits(year)
                    && number.len() == 2
                    && is_digits(number)
                    && matches!(number.parse(), Ok(1..=12_u8)) =>
            {
                Ok(month.clone())
            }
            _ => {
                let shown: String = month
                    .chars()
                    .take(16)
                    .flat_map(char::escape_debug)
                    .collect();
                let message = format!("`{shown}` is not a month: write it as 2026-11");
                Err(ApiError::invalid(message))
            }
        }
    }
}

/// What a project stores, uses and costs.
#[utoipa::path(get, path = "/api/v1/projects/{project}/usage", tag = "objects",
    params(("project" = String, Path), Month), responses((status = 200, body = StorageUsage)))]
pub(super) async fn usage(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Params(month): Params<Month>,
) -> Result<axum::Json<StorageUsage>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Project, &project).await?;
    let month = month.of(&app)?;
    let all = app.objects.index.all_usage().await;
    let mut all = all.map_err(DatasetError::from)?;
    let now = all.remove(project.as_str()).unwrap_or_default();
    Ok(axum::Json(told(&app, project, now, month).await?))
}

async fn told(
    app: &App,
    project: Name,
    now: (Usage, Vec<Stored>),
    month: String,
) -> Result<StorageUsage, ApiError> {
    let metered = app.objects.index.metered(&project, &month).await;
    let metered = metered.map_err(DatasetError::from)?;
    let prices = app.config.objects.prices.as_ref();
    Ok(statement(project, now, (month, metered), prices))
}

/// What the projects that the caller sees store, use and cost; by pages of projects.
#[utoipa::path(get, path = "/api/v1/usage", tag = "objects", params(Month, Paging),
    responses((status = 200, body = List<StorageUsage>)))]
pub(super) async fn all_usage(
    State(app): State<App>,
    caller: Caller,
    Params(month): Params<Month>,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<StorageUsage>>, ApiError> {
    caller.may_globally(Access::Read, Kind::Project)?;
    let month = month.of(&app)?;
    let query = paging.query(&Name::default_project(), &["active"])?;
    let page = app.store.list::<ProjectSpec>(query).await?;
    let all = app.objects.index.all_usage().await;
    let mut all = all.map_err(DatasetError::from)?;
    let mut items = Vec::new();
    for project in &page.items {
        let name: Name = parse_name(&project.metadata.name)?;
        if caller.may(Access::Read, Kind::Project, &name).is_ok() {
            let now = all.remove(name.as_str()).unwrap_or_default();
            items.push(told(&app, name, now, month.clone()).await?);
        }
    }
    Ok(axum::Json(List {
        items,
        next_page_token: list_of(page).next_page_token,
    }))
}

/// Who may look after these projects' objects; those of all, if none is named.
fn may_look_after(caller: &Caller, projects: &[Name]) -> Result<(), ApiError> {
    if projects.is_empty() {
        return caller.may_globally(Access::Administer, Kind::Project);
    }
    projects
        .iter()
        .try_for_each(|project| caller.may(Access::Administer, Kind::Project, project))
}

/// Starts a pass over all objects: it looks for rot, repairs it, or copies to the replica.
#[utoipa::path(post, path = "/api/v1/objects/upkeep", tag = "objects", request_body = StartUpkeep,
    responses((status = 202, body = Upkeep), (status = 409, body = lepton_api::ErrorBody)))]
pub(super) async fn start_upkeep(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<StartUpkeep>,
) -> Result<(StatusCode, axum::Json<Upkeep>), ApiError> {
    may_look_after(&caller, &request.projects)?;
    for project in &request.projects {
        require_project(&app, project).await?;
    }
    if request.work != UpkeepWork::Scrub && app.config.objects.replica.is_none() {
        let message =
            "no replica is configured: `objects.replica` in the server's configuration names one";
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    let started = upkeep::start(&app, request.work, request.projects)?;
    Ok((StatusCode::ACCEPTED, axum::Json(started)))
}

/// The newest pass over all objects since the server started.
#[utoipa::path(get, path = "/api/v1/objects/upkeep", tag = "objects",
    responses((status = 200, body = Upkeep), (status = 404, body = lepton_api::ErrorBody)))]
pub(super) async fn get_upkeep(
    State(app): State<App>,
    caller: Caller,
) -> Result<axum::Json<Upkeep>, ApiError> {
    let newest = app.passes.newest();
    let projects = newest.as_ref().map_or(&[][..], |pass| &pass.projects);
    may_look_after(&caller, projects)?;
    newest.map(axum::Json).ok_or_else(|| {
        let message = "no pass over the objects was started since the server was: \
                       `lepton objects scrub` starts one";
        ApiError::new(ErrorCode::NotFound, message)
    })
}

/// Ends the pass under way.
#[utoipa::path(delete, path = "/api/v1/objects/upkeep", tag = "objects", responses((status = 204)))]
pub(super) async fn stop_upkeep(
    State(app): State<App>,
    caller: Caller,
) -> Result<StatusCode, ApiError> {
    let newest = app.passes.newest();
    let projects = newest.as_ref().map_or(&[][..], |pass| &pass.projects);
    may_look_after(&caller, projects)?;
    app.passes.stop();
    Ok(StatusCode::NO_CONTENT)
}

/// The keys that seal objects, without their secrets.
#[utoipa::path(get, path = "/api/v1/objects/keys", tag = "objects",
    responses((status = 200, body = ObjectKeys)))]
pub(super) async fn keys(
    State(app): State<App>,
    caller: Caller,
) -> Result<axum::Json<ObjectKeys>, ApiError> {
    caller.may_globally(Access::Administer, Kind::Project)?;
    let contents = &app.objects.contents;
    let mut wrappers = contents.wrappers().into_iter();
    let mut projects = Vec::new();
    for project in contents.projects().await.map_err(BlobError::from)? {
        let kept = contents.kept_keys(&project).await;
        let keys = kept.map_err(BlobError::from)?.into_iter();
        let keys = keys.map(|key| DataKeyView {
            id: key.id,
            name: key.name,
            wrapped_by: key.wrapped_by,
        });
        projects.push(ProjectKeys {
            keys: keys.collect(),
            project,
        });
    }
    Ok(axum::Json(ObjectKeys {
        master: wrappers.next().unwrap_or_default(),
        retired: wrappers.collect(),
        projects,
    }))
}

/// Makes a new master key, or uses the newest version of the key service's, and wraps all data keys
/// with it. No object is written anew.
#[utoipa::path(post, path = "/api/v1/objects/keys/rotate", tag = "objects",
    responses((status = 200, body = RotatedKeys)))]
pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller,
) -> Result<axum::Json<RotatedKeys>, ApiError> {
    caller.may_globally(Access::Administer, Kind::Project)?;
    let contents = &app.objects.contents;
    let rotated = app.objects.keys.rotate(contents).await;
    let projects = rotated.map_err(|error| match error {
        RotateError::Content(error) => BlobError::from(error).into(),
        error => ApiError::internal(&error),
    })?;
    let master = contents.wrappers().into_iter().next().unwrap_or_default();
    let by = caller.0.label();
    tracing::info!(
        by,
        master,
        projects,
        "the master key of objects was rotated"
    );
    Ok(axum::Json(RotatedKeys {
        master,
        projects: projects as u64,
    }))
}

/// Makes a new data key, which seals what the project writes from now on.
#[utoipa::path(post, path = "/api/v1/projects/{project}/object-keys/renew", tag = "objects",
    params(("project" = String, Path)), responses((status = 200, body = RenewedKey)))]
pub(super) async fn renew(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
) -> Result<axum::Json<RenewedKey>, ApiError> {
    let project = enter(&app, &caller, Access::Administer, Kind::Project, &project).await?;
    let key = app.objects.contents.rotate(&project).await;
    let key = key.map_err(BlobError::from)?;
    tracing::info!(by = caller.0.label(), %project, %key, "a data key was made");
    Ok(axum::Json(RenewedKey {
        project,
        name: None,
        key,
    }))
}

/// Destroys all data keys of a project, here and at the replica: nobody can read what it stored,
/// ever. What it writes from then on is under a new key. Only an owner may.
#[utoipa::path(post, path = "/api/v1/projects/{project}/object-keys/shred", tag = "objects",
    params(("project" = String, Path)), request_body = ShredKeys,
    responses((status = 200, body = ShreddedKeys), (status = 400, body = lepton_api::ErrorBody)))]
pub(super) async fn shred(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Json(request): Json<ShredKeys>,
) -> Result<axum::Json<ShreddedKeys>, ApiError> {
    caller.may_globally(Access::Administer, Kind::Project)?;
    let project: Name = parse_name(&project)?;
    if request.confirm != project.as_str() {
        return Err(ApiError::invalid(format!(
            "`confirm` must be `{project}`: shredding its keys destroys all that project \
             `{project}` stores"
        )));
    }
    let by = caller.0.label();
    announce_shredding(&app, &project, &by, "all data keys").await?;
    let keys = shred_project(&app, &project).await?;
    tracing::warn!(by, %project, keys, "the data keys of a project were shredded");
    Ok(axum::Json(ShreddedKeys {
        project,
        name: None,
        keys,
    }))
}

/// Says who has keys destroyed, before it is done.
pub(super) async fn announce_shredding(
    app: &App,
    project: &Name,
    by: &str,
    keys: &str,
) -> Result<(), ApiError> {
    let home = Name::default_project();
    let found = find::<ProjectSpec>(app, &home, project.as_str()).await?;
    let mut transaction = Transaction::new();
    transaction.event(EventDraft {
        at: app.now(),
        project: project.clone(),
        kind: Kind::Project,
        id: found.metadata.id,
        name: found.metadata.name,
        severity: EventSeverity::Warning,
        reason: "ShreddingKeys".to_owned(),
        message: format!("{by} has {keys} destroyed: what they sealed is gone for good"),
    });
    app.store.commit(transaction).await?;
    Ok(())
}

/// Destroys the data keys of a project, and tells how many there were.
pub(super) async fn shred_project(app: &App, project: &Name) -> Result<u64, ApiError> {
    let contents = &app.objects.contents;
    let kept = contents.kept_keys(project).await.unwrap_or_default();
    let live = kept.iter().filter(|key| key.wrapped_by.is_some()).count();
    let shredded = contents.shred_project(project).await;
    shredded.map_err(BlobError::from)?;
    Ok(live as u64)
}

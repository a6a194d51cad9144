//! Datasets: sequences of frozen versions.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use lepton_access::Access;
use lepton_api::{List, PutDatasetVersion};
use lepton_store::{CommitError, Conflict, Query, Transaction};
use lepton_types::Name;
use lepton_types::resources::{
    Dataset, DatasetSpec, DatasetVersion, DatasetVersionSpec, Kind, Lineage, NamedVersion, Resource,
};

use super::blobs::{check_files, send_blob};
use super::{enter, find, remove};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments, list_of, parse_name};
use crate::tables;

/// Lists datasets.
#[utoipa::path(get, path = "/api/v1/projects/{project}/datasets", tag = "datasets",
    params(("project" = String, Path), Paging), responses((status = 200, body = List<Dataset>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<Dataset>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Dataset, &project).await?;
    let query = paging.query(&project, &["active"])?;
    Ok(axum::Json(list_of(
        app.store.list::<DatasetSpec>(query).await?,
    )))
}

/// One dataset.
#[utoipa::path(get, path = "/api/v1/projects/{project}/datasets/{name}", tag = "datasets",
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 200, body = Dataset)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments((project, name)): Segments<(String, String)>,
) -> Result<axum::Json<Dataset>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Dataset, &project).await?;
    Ok(axum::Json(
        find::<DatasetSpec>(&app, &project, &name).await?,
    ))
}

/// Deletes a dataset with all its versions.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/datasets/{name}", tag = "datasets",
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 204)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments((project, name)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let project = enter(&app, &caller, Access::Delete, Kind::Dataset, &project).await?;
    let dataset = find::<DatasetSpec>(&app, &project, &name).await?;
    remove(&app, &dataset).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the versions of a dataset, oldest first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/datasets/{name}/versions", tag = "datasets",
    params(("project" = String, Path), ("name" = String, Path), Paging),
    responses((status = 200, body = List<DatasetVersion>)))]
pub(super) async fn list_versions(
    State(app): State<App>,
    caller: Caller,
    Segments((project, name)): Segments<(String, String)>,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<DatasetVersion>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::DatasetVersion, &project).await?;
    let dataset = find::<DatasetSpec>(&app, &project, &name).await?;
    let query = Query {
        owner: Some(dataset.metadata.id),
        ..paging.query(&project, &["frozen"])?
    };
    Ok(axum::Json(list_of(
        app.store.list::<DatasetVersionSpec>(query).await?,
    )))
}

/// Freezes uploaded files as the next version; makes the dataset if it is new. The same files
/// as in the newest version give that version again.
#[utoipa::path(post, path = "/api/v1/projects/{project}/datasets/{name}/versions", tag = "datasets",
    params(("project" = String, Path), ("name" = String, Path)), request_body = PutDatasetVersion,
    responses((status = 201, body = DatasetVersion), (status = 400, body = lepton_api::ErrorBody)))]
pub(super) async fn put_version(
    State(app): State<App>,
    caller: Caller,
    Segments((project, name)): Segments<(String, String)>,
    Json(request): Json<PutDatasetVersion>,
) -> Result<(StatusCode, axum::Json<DatasetVersion>), ApiError> {
    let project = enter(&app, &caller, Access::Write, Kind::DatasetVersion, &project).await?;
    let name: Name = parse_name(&name)?;
    check_files(&app, &project, &request.files).await?;
    let summary = match &request.lineage {
        Some(lineage) => {
            check_files(&app, &project, std::slice::from_ref(&lineage.fitted)).await?;
            tables::of_lineage(lineage)?
        }
        None => tables::summarise(&app, &project, &request.files).await?,
    };
    let mut tries = 0;
    loop {
        let mut transaction = Transaction::new();
        let found = app
            .store
            .get::<DatasetSpec>(&project, name.as_str())
            .await?;
        let is_new = found.is_none();
        let mut dataset = found.unwrap_or_else(|| {
            let spec = DatasetSpec {
                description: request.description.clone(),
            };
            Resource::draft(
                app.ids.next_id(),
                project.clone(),
                name.as_str(),
                app.now(),
                spec,
            )
            .created_by(caller.0.label())
        });
        if !is_new {
            let newest = version_key(&name, dataset.status.latest_version);
            if let Some(newest) = app
                .store
                .get::<DatasetVersionSpec>(&project, &newest)
                .await?
                && newest.spec.files == request.files
                && newest.spec.lineage.as_ref().map(made) == request.lineage.as_ref().map(made)
            {
                return Ok((StatusCode::OK, axum::Json(newest)));
            }
        }
        dataset.status.latest_version += 1;
        let number = dataset.status.latest_version;
        let spec = DatasetVersionSpec {
            dataset: name.to_string(),
            version: number,
            files: request.files.clone(),
            lineage: request.lineage.clone(),
        };
        let key = version_key(&name, number);
        let mut version = Resource::draft(app.ids.next_id(), project.clone(), key, app.now(), spec)
            .created_by(caller.0.label())
            .owned_by(Kind::Dataset, dataset.metadata.id);
        version.status = summary.clone();
        if is_new {
            transaction.create(&dataset);
        } else {
            transaction.update(&dataset);
        }
        transaction.create(&version);
        match app.store.commit(transaction).await {
            Ok(stored) => {
                version.metadata.resource_version = stored;
                return Ok((StatusCode::CREATED, axum::Json(version)));
            }
            Err(CommitError::Conflict(
                Conflict::Changed { .. } | Conflict::AlreadyExists { .. },
            )) if tries < super::CHANGE_TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// One version: a number, or `latest`.
#[utoipa::path(get, path = "/api/v1/projects/{project}/datasets/{name}/versions/{version}", tag = "datasets",
    params(("project" = String, Path), ("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = DatasetVersion)))]
pub(super) async fn get_version(
    State(app): State<App>,
    caller: Caller,
    Segments((project, name, version)): Segments<(String, String, String)>,
) -> Result<axum::Json<DatasetVersion>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::DatasetVersion, &project).await?;
    Ok(axum::Json(
        find_version(&app, &project, &name, &version).await?,
    ))
}

/// The bytes of one file of a version.
#[utoipa::path(get, path = "/api/v1/projects/{project}/datasets/{name}/versions/{version}/files/{*path}",
    tag = "datasets",
    params(("project" = String, Path), ("name" = String, Path), ("version" = String, Path), ("path" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn get_file(
    State(app): State<App>,
    caller: Caller,
    Segments((project, name, version, path)): Segments<(String, String, String, String)>,
) -> Result<Response, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::DatasetVersion, &project).await?;
    let version = find_version(&app, &project, &name, &version).await?;
    let file = version
        .spec
        .files
        .iter()
        .find(|file| file.path == path)
        .ok_or_else(|| {
            ApiError::new(
                lepton_api::ErrorCode::NotFound,
                format!(
                    "dataset `{}` has no file of that path",
                    version.metadata.name
                ),
            )
        })?;
    send_blob(&app, &project, file.digest, Some(&file.path)).await
}

/// The version of a dataset that a number or `latest` means.
pub(super) async fn find_version(
    app: &App,
    project: &Name,
    name: &str,
    version: &str,
) -> Result<DatasetVersion, ApiError> {
    let dataset = find::<DatasetSpec>(app, project, name).await?;
    let number = match version {
        "latest" => dataset.status.latest_version,
        number => number
            .parse()
            .map_err(|_| ApiError::invalid("a version is a number, or `latest`"))?,
    };
    find::<DatasetVersionSpec>(app, project, &format!("{name}/{number}")).await
}

/// What tells one making from another; a job that is tried again makes the same.
fn made(lineage: &Lineage) -> (&[NamedVersion], &str) {
    (&lineage.inputs, &lineage.description_digest)
}

fn version_key(name: &Name, number: u32) -> String {
    format!("{name}/{number}")
}

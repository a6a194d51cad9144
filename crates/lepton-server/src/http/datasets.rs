//! Datasets: sequences of frozen versions.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use lepton_access::Access;
use lepton_api::{List, PutDatasetVersion};
use lepton_store::Query;
use lepton_types::Name;
use lepton_types::resources::{Dataset, DatasetSpec, DatasetVersion, DatasetVersionSpec, Kind};

use super::blobs::{check_files, send_blob};
use super::{enter, find, remove};
use crate::app::App;
use crate::auth::Caller;
use crate::datasets::{self, Manifest};
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments, list_of, parse_name};
use crate::lineage;

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
    let done = datasets::unmount(&app, &project, &name).await;
    datasets::warn_if_failed(done, "the objects of a deleted dataset are still there");
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
    if let Some(lineage) = &request.lineage {
        check_files(&app, &project, std::slice::from_ref(&lineage.fitted)).await?;
    }
    let manifest = Manifest {
        project,
        dataset: name,
        files: request.files,
        description: request.description,
        lineage: request.lineage,
        created_by: caller.0.label(),
    };
    answer(datasets::freeze(&app, &manifest).await?)
}

/// Freezes what was written to `s3://datasets/NAME/draft/…` as the next version, and empties the
/// draft. What is written meanwhile stays in it.
#[utoipa::path(post, path = "/api/v1/projects/{project}/datasets/{name}/commit", tag = "datasets",
    params(("project" = String, Path), ("name" = String, Path)),
    responses((status = 201, body = DatasetVersion), (status = 400, body = lepton_api::ErrorBody)))]
pub(super) async fn commit(
    State(app): State<App>,
    caller: Caller,
    Segments((project, name)): Segments<(String, String)>,
) -> Result<(StatusCode, axum::Json<DatasetVersion>), ApiError> {
    let project = enter(&app, &caller, Access::Write, Kind::DatasetVersion, &project).await?;
    let name: Name = parse_name(&name)?;
    // Long reads take turns, so that they never hold all that short ones need.
    let turn = app.long_reads.acquire().await;
    let draft = datasets::read_draft(&app, &project, &name).await?;
    check_files(&app, &project, &draft.files).await?;
    let manifest = Manifest {
        project,
        dataset: name,
        files: draft.files.clone(),
        description: String::new(),
        lineage: None,
        created_by: caller.0.label(),
    };
    drop(turn);
    let frozen = datasets::freeze(&app, &manifest).await?;
    datasets::clear_draft(&app, draft).await?;
    answer(frozen)
}

fn answer(
    (version, is_new): (DatasetVersion, bool),
) -> Result<(StatusCode, axum::Json<DatasetVersion>), ApiError> {
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok((status, axum::Json(version)))
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
    lineage::read(&app, &caller.0, &version).await;
    send_blob(&app, &project, file.digest, Some(&file.path)).await
}

/// The version of a dataset that a number or `latest` means.
pub(crate) async fn find_version(
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

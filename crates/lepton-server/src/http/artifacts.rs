//! Artifacts: files that belong to a run.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use lepton_access::Access;
use lepton_api::{ErrorCode, List};
use lepton_store::Transaction;
use lepton_types::resources::{FileEntry, Kind, RunSpec};

use super::blobs::{keep_body, send_blob};
use super::runs::{enter_run, refuse_in_bin};
use super::{enter, find};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Segments, parse_relative_path};

/// More files than this belong into an archive.
pub(crate) const ARTIFACTS_MAX: usize = 10_000;

/// Lists the artifacts of a run, by path.
#[utoipa::path(get, path = "/api/v1/projects/{project}/runs/{run}/artifacts", tag = "artifacts",
    params(("project" = String, Path), ("run" = String, Path)), responses((status = 200, body = List<FileEntry>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Segments((project, run)): Segments<(String, String)>,
) -> Result<axum::Json<List<FileEntry>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Run, &project).await?;
    let run = find::<RunSpec>(&app, &project, &run).await?;
    Ok(axum::Json(List {
        items: app.store.run_files(run.metadata.id.into(), "").await?,
        next_page_token: None,
    }))
}

/// Keeps the body as an artifact, over one of the same path.
#[utoipa::path(put, path = "/api/v1/projects/{project}/runs/{run}/artifacts/{*path}", tag = "artifacts",
    params(("project" = String, Path), ("run" = String, Path), ("path" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = FileEntry)))]
pub(super) async fn put(
    State(app): State<App>,
    caller: Caller,
    Segments((project, run, path)): Segments<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, axum::Json<FileEntry>), ApiError> {
    let project = enter_run(&app, &caller, &project, &run).await?;
    let path = parse_relative_path(&path)?.to_owned();
    let found = find::<RunSpec>(&app, &project, &run).await?;
    refuse_in_bin(&found)?;
    let blob = keep_body(&app, &project, &headers, body).await?;
    let entry = FileEntry {
        path,
        digest: blob.digest,
        size_bytes: blob.size_bytes,
    };
    let run = found.metadata.id.into();
    let mut transaction = Transaction::new();
    transaction
        .require_run(run, &project)
        .keep_run_file(run, entry.clone(), ARTIFACTS_MAX);
    app.store.commit(transaction).await?;
    Ok((StatusCode::CREATED, axum::Json(entry)))
}

/// The bytes of an artifact.
#[utoipa::path(get, path = "/api/v1/projects/{project}/runs/{run}/artifacts/{*path}", tag = "artifacts",
    params(("project" = String, Path), ("run" = String, Path), ("path" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments((project, run, path)): Segments<(String, String, String)>,
) -> Result<Response, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Run, &project).await?;
    let run = find::<RunSpec>(&app, &project, &run).await?;
    let found = app
        .store
        .run_file(run.metadata.id.into(), &path)
        .await?
        .ok_or_else(|| {
            let shown: String = path
                .chars()
                .take(128)
                .flat_map(char::escape_debug)
                .collect();
            ApiError::new(
                ErrorCode::NotFound,
                format!("the run has no artifact `{shown}`"),
            )
        })?;
    send_blob(&app, &project, found.digest, Some(&found.path)).await
}

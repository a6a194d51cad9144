//! Uploads and downloads: bytes that records cite by digest.

use crate::blobs::{BlobError, BlobSummary};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt;
use lepton_access::Access;
use lepton_api::{BlobInfo, ErrorCode};
use lepton_types::Name;
use lepton_types::resources::{BlobDigest, FileEntry, Kind};

use super::enter;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Segments, parse_name, parse_relative_path};

/// Keeps the body; records may cite it from then on. What no record cites goes after a day.
#[utoipa::path(post, path = "/api/v1/projects/{project}/blobs", tag = "blobs",
    params(("project" = String, Path)), request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = BlobInfo), (status = 413, body = lepton_api::ErrorBody)))]
pub(super) async fn upload(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, axum::Json<BlobInfo>), ApiError> {
    // Whoever may write runs may upload: workers keep models and artifacts this way.
    let project: Name = parse_name(&project)?;
    let own = match &caller.0 {
        lepton_access::Principal::Workload { run, .. } => *run,
        lepton_access::Principal::Holder { .. } => None,
    };
    match own {
        Some(run) => caller.may_touch(Access::Write, Kind::Run, &project, run)?,
        None => caller.may(Access::Write, Kind::Dataset, &project)?,
    }
    super::require_project(&app, &project).await?;
    let blob = keep_body(&app, &project, &headers, body).await?;
    let info = BlobInfo {
        digest: blob.digest,
        size_bytes: blob.size_bytes,
    };
    Ok((StatusCode::CREATED, axum::Json(info)))
}

/// The bytes of a blob of the project.
#[utoipa::path(get, path = "/api/v1/projects/{project}/blobs/{digest}", tag = "blobs",
    params(("project" = String, Path), ("digest" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn download(
    State(app): State<App>,
    caller: Caller,
    Segments((project, digest)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Dataset, &project).await?;
    let digest: BlobDigest = digest.parse().map_err(ApiError::invalid)?;
    send_blob(&app, &project, digest, None).await
}

/// Streams a body to disk, a piece at a time.
pub(crate) async fn keep_body(
    app: &App,
    project: &Name,
    headers: &HeaderMap,
    body: Body,
) -> Result<BlobSummary, ApiError> {
    let limit_bytes = app.config.limits.upload_bytes_max.as_bytes();
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if declared
        .and_then(|text| text.parse().ok())
        .is_some_and(|length: u64| length > limit_bytes)
    {
        return Err(BlobError::TooLarge { limit_bytes }.into());
    }
    let mut upload = app.blobs.begin(project, limit_bytes).await?;
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let piece =
            piece.map_err(|_| ApiError::invalid("the upload ended before it was complete"))?;
        upload.write(&piece).await?;
    }
    let kept = upload.finish().await?;
    app.meter.received(project, kept.size_bytes);
    Ok(kept)
}

/// A response with the bytes of a blob.
pub(crate) async fn send_blob(
    app: &App,
    project: &Name,
    digest: BlobDigest,
    file_name: Option<&str>,
) -> Result<Response, ApiError> {
    let (length, stream) = app.blobs.read(project, digest).await?;
    app.meter.sent(project, length);
    let content_type = file_name.map_or("application/octet-stream", content_type_of);
    Response::builder()
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONTENT_LENGTH, length)
        .header(header::ETAG, format!("\"{digest}\""))
        // What people upload must not run in the browser of whoever looks at it.
        .header(header::CONTENT_SECURITY_POLICY, "sandbox")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(Body::from_stream(stream))
        .map_err(|error| ApiError::internal(&error))
}

fn content_type_of(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("csv") => "text/csv; charset=utf-8",
        Some("txt" | "log") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Files that a record is about to cite: paths valid and distinct, bytes there, sizes true.
pub(super) async fn check_files(
    app: &App,
    project: &Name,
    files: &[FileEntry],
) -> Result<(), ApiError> {
    if files.is_empty() || files.len() > FILES_MAX {
        return Err(ApiError::invalid(format!(
            "`files` takes 1 to {FILES_MAX} files"
        )));
    }
    let mut paths = std::collections::BTreeSet::new();
    for file in files {
        parse_relative_path(&file.path)?;
        if !paths.insert(&file.path) {
            return Err(ApiError::invalid(format!(
                "`files` has `{}` twice",
                file.path
            )));
        }
    }
    let digests: Vec<BlobDigest> = files.iter().map(|file| file.digest).collect();
    let sizes = app.blobs.sizes(project, &digests).await?;
    let missing = files
        .iter()
        .find(|file| sizes.get(&file.digest) != Some(&file.size_bytes));
    match missing {
        None => Ok(()),
        Some(file) => Err(ApiError::new(
            ErrorCode::InvalidRequest,
            format!(
                "the bytes of `{}` (sha-256 {}, {} bytes) are not in this project: upload them first",
                file.path, file.digest, file.size_bytes
            ),
        )),
    }
}

/// More files than this belong into an archive or a table.
const FILES_MAX: usize = 10_000;

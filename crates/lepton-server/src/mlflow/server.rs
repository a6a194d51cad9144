//! What the server says of itself.

use axum::Json;
use axum::http::Uri;
use serde::Serialize;

use super::error::{Code, MlflowError, shown};

/// Whether the process lives. Needs no token.
pub(super) async fn health() -> &'static str {
    "OK"
}

/// What clients ask before they download.
#[derive(Serialize)]
pub(super) struct ServerInfo {
    store_type: &'static str,
    workspaces_enabled: bool,
    trace_archival_enabled: bool,
    multipart_uploads_enabled: bool,
    multipart_downloads_enabled: bool,
}

/// What this server can do. Needs no token.
pub(super) async fn info() -> Json<ServerInfo> {
    Json(ServerInfo {
        store_type: "SqlStore",
        workspaces_enabled: true,
        trace_archival_enabled: false,
        multipart_uploads_enabled: false,
        multipart_downloads_enabled: false,
    })
}

pub(super) async fn no_such_path(uri: Uri) -> MlflowError {
    let path = shown(uri.path());
    MlflowError::new(
        Code::EndpointNotFound,
        format!("Lepton has no MLflow operation at `{path}`"),
    )
}

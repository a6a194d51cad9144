//! The server itself: health, version, metrics, who the caller is.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use axum::response::{IntoResponse, Response};
use lepton_access::{Access, Principal};
use lepton_api::{ServerInfo, WhoAmI};
use lepton_types::resources::Kind;

use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::metrics;

/// Whether the process lives. Needs no token.
#[utoipa::path(get, path = "/healthz", tag = "system", security(()), responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// Whether requests are taken. Needs no token.
#[utoipa::path(get, path = "/readyz", tag = "system", security(()),
    responses((status = 200, body = String), (status = 503, body = lepton_api::ErrorBody)))]
pub(super) async fn readyz(State(app): State<App>) -> Result<&'static str, ApiError> {
    if app.stopping.is_cancelled() {
        return Err(ApiError::unavailable("the server is stopping", 1));
    }
    Ok("ready")
}

/// The version of MLflow whose API is spoken. MLflow's clients ask for it before they send spans.
const MLFLOW: &str = "3.17.2";

/// What answers here. Needs no token. MLflow's clients are told MLflow's version, as text.
#[utoipa::path(get, path = "/version", tag = "system", security(()), responses((status = 200, body = ServerInfo)))]
pub(super) async fn version(headers: HeaderMap) -> Response {
    let client = headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok());
    if client.is_some_and(|client| client.starts_with("mlflow-python-client/")) {
        return MLFLOW.into_response();
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Json(ServerInfo {
        name: "lepton".to_owned(),
        version,
    })
    .into_response()
}

/// Counters and gauges as Prometheus text.
#[utoipa::path(get, path = "/metrics", tag = "system", responses((status = 200, body = String)))]
pub(super) async fn metrics(
    State(app): State<App>,
    caller: Caller,
) -> Result<([(axum::http::HeaderName, &'static str); 1], String), ApiError> {
    caller.may_globally(Access::Read, Kind::Pool)?;
    let content_type = (
        axum::http::header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    );
    Ok(([content_type], metrics::render(&app, &caller).await?))
}

/// Who the caller is.
#[utoipa::path(get, path = "/api/v1/whoami", tag = "system", responses((status = 200, body = WhoAmI)))]
pub(super) async fn whoami(caller: Caller) -> Json<WhoAmI> {
    let role = match &caller.0 {
        Principal::Holder { role, .. } => Some(*role),
        Principal::Workload { .. } => None,
    };
    Json(WhoAmI {
        name: caller.0.label(),
        role,
        project: caller.0.home(),
    })
}

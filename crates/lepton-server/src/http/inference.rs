//! Predictions: rows of JSON, and the Open Inference Protocol v2 over HTTP.
//!
//! The gateway answers; what is here authorises and translates names. The protocol has no place
//! for a project, so there the token's counts.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use lepton_access::Access;
use lepton_api::ErrorCode;
use lepton_serving::gateway::ForwardError;
use lepton_types::Name;
use lepton_types::resources::Kind;

use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Segments, parse_name};

/// Asks an endpoint for predictions: `{"rows": [{"column": value, …}, …]}` or
/// `{"columns": […], "data": [[…], …]}`; `null` is a missing value.
#[utoipa::path(post, path = "/api/v1/projects/{project}/endpoints/{endpoint}/predict", tag = "endpoints",
    params(("project" = String, Path), ("endpoint" = String, Path)),
    request_body(content = Object, content_type = "application/json"),
    responses((status = 200, body = Object), (status = 400, body = lepton_api::ErrorBody),
        (status = 503, body = lepton_api::ErrorBody)))]
pub(super) async fn predict(
    State(app): State<App>,
    caller: Caller,
    Segments((project, endpoint)): Segments<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let project: Name = parse_name(&project)?;
    caller.may(Access::Predict, Kind::Endpoint, &project)?;
    let endpoint: Name = parse_name(&endpoint)?;
    let path = format!("/v2/models/{endpoint}/rows");
    let response = app
        .gateway
        .forward(&project, &endpoint, request, &path)
        .await;
    let response = response.map_err(|error| refusal(&error))?;
    if response.status().is_success() {
        return Ok(response);
    }
    translate(response).await
}

/// A replica speaks the inference protocol's errors; this face has its own.
async fn translate(response: Response) -> Result<Response, ApiError> {
    let code = match response.status() {
        StatusCode::NOT_FOUND => ErrorCode::NotFound,
        StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Unavailable,
        status if status.is_client_error() => ErrorCode::InvalidData,
        _ => ErrorCode::Internal,
    };
    let (parts, body) = response.into_parts();
    let body = crate::extract::read_body(&parts.headers, body, 1 << 20).await?;
    let message = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|body| body.get("error")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| "the replica gave no reason".to_owned());
    Err(ApiError::new(code, message))
}

fn refusal(error: &ForwardError) -> ApiError {
    let code = match error {
        ForwardError::NoEndpoint { .. } => ErrorCode::NotFound,
        ForwardError::TimedOut { .. } => ErrorCode::Timeout,
        ForwardError::Lost { .. } => ErrorCode::Internal,
        _ => match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
            StatusCode::SERVICE_UNAVAILABLE => {
                return ApiError::unavailable(error.to_string(), 1);
            }
            _ => ErrorCode::InvalidRequest,
        },
    };
    ApiError::new(code, error.to_string())
}

/// The protocol's routes. They are not part of `/api/v1` and its description: the protocol has
/// its own.
pub(super) fn open_inference_protocol() -> Router<App> {
    Router::new()
        .route("/v2", get(server_metadata))
        .route("/v2/health/live", get(|| async { StatusCode::OK }))
        .route("/v2/health/ready", get(server_ready))
        .route("/v2/models/{model}", get(forward_model))
        .route("/v2/models/{model}/ready", get(forward_model))
        .route("/v2/models/{model}/config", get(forward_model))
        .route("/v2/models/{model}/stats", get(forward_model))
        .route("/v2/models/{model}/infer", post(forward_model))
        .route(
            "/v2/models/{model}/versions/{version}",
            get(forward_version),
        )
        .route(
            "/v2/models/{model}/versions/{version}/ready",
            get(forward_version),
        )
        .route(
            "/v2/models/{model}/versions/{version}/infer",
            post(forward_version),
        )
}

async fn server_metadata() -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({
        "name": "lepton",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data"],
    }))
}

async fn server_ready(State(app): State<App>) -> StatusCode {
    if app.stopping.is_cancelled() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    }
}

async fn forward_model(
    State(app): State<App>,
    caller: Result<Caller, ApiError>,
    Segments(model): Segments<String>,
    request: Request,
) -> Response {
    forward(&app, caller, &model, request).await
}

async fn forward_version(
    State(app): State<App>,
    caller: Result<Caller, ApiError>,
    Segments((model, _version)): Segments<(String, String)>,
    request: Request,
) -> Response {
    forward(&app, caller, &model, request).await
}

async fn forward(
    app: &App,
    caller: Result<Caller, ApiError>,
    model: &str,
    request: Request<Body>,
) -> Response {
    let permitted = caller.and_then(|caller| {
        let project = caller.0.home();
        caller.may(Access::Predict, Kind::Endpoint, &project)?;
        Ok((project, parse_name::<Name>(model)?))
    });
    let (project, endpoint) = match permitted {
        Ok(permitted) => permitted,
        Err(error) => return in_protocol(&error),
    };
    let path = request
        .uri()
        .path_and_query()
        .map_or_else(String::new, ToString::to_string);
    match app
        .gateway
        .forward(&project, &endpoint, request, &path)
        .await
    {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

/// An error in the protocol's own form.
fn in_protocol(error: &ApiError) -> Response {
    let body = axum::Json(serde_json::json!({ "error": error.message() }));
    (error.status(), body).into_response()
}

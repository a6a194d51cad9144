//! The paths of a replica.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::answers;
use super::failure::Failure;
use super::{Loaded, Replica};
use crate::oip::{ModelMetadata, ServerMetadata};
use crate::token::REPLICA_TOKEN_HEADER;

/// The model, and perhaps the version, that a path names.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    model: String,
    version: Option<String>,
}

pub(super) fn router(replica: Arc<Replica>) -> Router {
    let model = Router::new()
        .route("/", get(model_metadata))
        .route("/ready", get(model_ready))
        .route("/infer", post(answers::infer))
        .route("/rows", post(answers::rows));
    let guarded = Router::new()
        .route("/v2", get(server_metadata))
        .route("/metrics", get(answers::metrics))
        .nest("/v2/models/{model}", model.clone())
        .nest("/v2/models/{model}/versions/{version}", model)
        .fallback(async || Failure::NoPath)
        .method_not_allowed_fallback(async || Failure::NoMethod)
        .layer(middleware::from_fn_with_state(Arc::clone(&replica), admit));
    Router::new()
        .route("/v2/health/live", get(StatusCode::OK))
        .route("/v2/health/ready", get(ready))
        .merge(guarded)
        .with_state(replica)
}

async fn admit(State(replica): State<Arc<Replica>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(REPLICA_TOKEN_HEADER);
    if given.is_some_and(|given| replica.options.token.admits(given.as_bytes())) {
        next.run(request).await
    } else {
        Failure::Token.into_response()
    }
}

async fn ready(State(replica): State<Arc<Replica>>) -> StatusCode {
    if replica.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn server_metadata() -> Response {
    json(&ServerMetadata::default())
}

async fn model_metadata(
    State(replica): State<Arc<Replica>>,
    Path(named): Path<Named>,
) -> Result<Response, Failure> {
    let loaded = named.find(&replica)?;
    let options = &replica.options;
    Ok(json(&ModelMetadata::new(
        &options.name,
        &options.version,
        &loaded.signature,
    )))
}

async fn model_ready(
    State(replica): State<Arc<Replica>>,
    Path(named): Path<Named>,
) -> Result<StatusCode, Failure> {
    named.find(&replica).map(|_| StatusCode::OK)
}

impl Named {
    /// The model, if it is the one named, and loaded.
    pub(super) fn find<'a>(&self, replica: &'a Replica) -> Result<&'a Loaded, Failure> {
        let options = &replica.options;
        if self.model != options.name {
            return Err(Failure::NoModel {
                model: self.model.chars().take(100).collect(),
            });
        }
        match &self.version {
            Some(version) if *version != options.version => Err(Failure::NoVersion {
                model: self.model.clone(),
                version: version.chars().take(100).collect(),
            }),
            _ => replica.loaded.get().ok_or(Failure::Loading),
        }
    }
}

pub(super) fn json(value: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("invariant: text keys and plain values are JSON");
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

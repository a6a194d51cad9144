//! The server in the simulation: opened, asked over its routes, crashed and opened again.

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use lepton_server::StartError;
use lepton_server::simulation::{Lab, Surroundings};
use serde_json::Value;
use tower::ServiceExt as _;

/// One life of the server.
pub(crate) struct Server {
    pub(crate) lab: Lab,
    router: Router,
}

/// What the server answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Server {
    pub(crate) async fn open(surroundings: &Surroundings) -> Result<Self, StartError> {
        let lab = Lab::open(surroundings.clone()).await?;
        let router = lab.router();
        Ok(Self { lab, router })
    }

    /// Asks at a path below the default project.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let bytes = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        self.send(method, path, "application/json", bytes).await
    }

    pub(crate) async fn upload(&self, bytes: &[u8]) -> Answer {
        let content_type = "application/octet-stream";
        self.send(Method::POST, "blobs", content_type, bytes.to_vec())
            .await
    }

    /// Why the job or endpoint at `path` waits, as a word.
    pub(crate) async fn waiting(&self, path: &str) -> Option<String> {
        let answer = self.ask(Method::GET, path, None).await;
        let reason = answer.body["status"]["waiting"]["reason"].as_str();
        reason.map(str::to_owned)
    }

    pub(crate) fn into_lab(self) -> Lab {
        self.lab
    }

    async fn send(&self, method: Method, path: &str, content: &str, bytes: Vec<u8>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/projects/default/{path}"))
            .header("authorization", format!("Bearer {}", self.lab.token()))
            .header("content-type", content)
            .body(Body::from(bytes))
            .expect("invariant: the paths of the simulation are valid");
        let Ok(answer) = self.router.clone().oneshot(request).await;
        let status = answer.status();
        let bytes = match answer.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => Default::default(),
        };
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status, body }
    }
}

//! What the integration tests share: the runtime library, the model files, a replica in
//! this process, and a plain HTTP client.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lepton_serving::token::{REPLICA_TOKEN_HEADER, ReplicaToken};
use lepton_serving::worker::{ServeError, ServeOptions, Worker};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const TOKEN: &str = "the-replicas-token";

/// ONNX Runtime's library: `ORT_DYLIB_PATH`, else where `scripts/fetch-onnxruntime` puts it.
pub(crate) fn library() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = std::env::var_os("ORT_DYLIB_PATH").map_or_else(
        || root.join(".deps/onnxruntime/libonnxruntime.so"),
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "no ONNX Runtime library at {}: run scripts/fetch-onnxruntime, or set ORT_DYLIB_PATH",
        path.display()
    );
    path
}

pub(crate) fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(format!("{name}.onnx"))
}

/// A replica in this process.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<Result<(), ServeError>>,
}

pub(crate) fn options(model_name: &str) -> ServeOptions {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    ServeOptions {
        name: model_name.to_owned(),
        ..ServeOptions::new(
            model(model_name),
            library(),
            listen,
            ReplicaToken::new(TOKEN.to_owned()),
        )
    }
}

impl Replica {
    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(options: ServeOptions) -> Self {
        let worker = Worker::bind(options).await.unwrap();
        let address = worker.address();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(worker.run(async move {
            let _ = stopped.await;
        }));
        let caller = Caller::new(address);
        while caller.get("/v2/health/ready").await.status != StatusCode::OK {
            assert!(!ended.is_finished(), "the replica ended: {:?}", ended.await);
            tokio::task::yield_now().await;
        }
        Self {
            address,
            stop,
            ended,
        }
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.address)
    }
}

/// A client of one address, with the token.
#[derive(Clone)]
pub(crate) struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Caller {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            address,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path, Bytes::new()))
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(self.request(Method::POST, path, body.into()))
            .await
    }

    pub(crate) fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(REPLICA_TOKEN_HEADER, TOKEN)
            .body(Full::new(body))
            .unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = self.client.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }
}

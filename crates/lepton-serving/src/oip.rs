//! The Open Inference Protocol, version 2, over HTTP, with Triton's binary tensors.
//!
//! Owns: the wire form of requests, responses and metadata, and its translation to and
//! from tensors. Must not know: sockets, queues, how a model runs. The gRPC form will
//! share [`InferRequest`] and [`InferReply`]; only the bytes differ.
//!
//! Sources: the protocol's `inference_rest.md`; Triton's `extension_binary_data.md`.

mod binary;
mod elements;
mod reply;
mod request;

use serde::Serialize;

use lepton_types::signature::{Signature, Task, TensorSpec};

pub use elements::DataError;
pub(crate) use elements::excerpt;
pub use reply::{EncodedReply, InferReply, UnknownOutput};
pub use request::{InferRequest, JsonError, RequestError, RequestedOutput};

/// The header that tells how many of a body's first bytes are JSON, when tensors follow.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// What a server says of itself.
#[derive(Debug, Serialize)]
pub struct ServerMetadata {
    /// The product.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The protocol's extensions that it speaks.
    pub extensions: &'static [&'static str],
}

impl Default for ServerMetadata {
    fn default() -> Self {
        Self {
            name: "lepton",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["binary_tensor_data"],
        }
    }
}

/// What a server says of a model.
#[derive(Debug, Serialize)]
pub struct ModelMetadata<'a> {
    /// The model's name.
    pub name: &'a str,
    /// The versions that are served: one.
    pub versions: [&'a str; 1],
    /// The format and its engine.
    pub platform: &'static str,
    /// What it takes.
    pub inputs: &'a [TensorSpec],
    /// What it gives.
    pub outputs: &'a [TensorSpec],
    /// What the numbers mean, where known.
    #[serde(skip_serializing_if = "Meaning::is_empty")]
    pub parameters: Meaning<'a>,
}

/// What a model's numbers mean.
#[derive(Debug, Serialize)]
pub struct Meaning<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<Task>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    classes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
}

impl Meaning<'_> {
    fn is_empty(&self) -> bool {
        self.task.is_none() && self.classes.is_empty() && self.target.is_none()
    }
}

impl<'a> ModelMetadata<'a> {
    /// The metadata of one version of a model.
    #[must_use]
    pub fn new(name: &'a str, version: &'a str, signature: &'a Signature) -> Self {
        Self {
            name,
            versions: [version],
            platform: "onnxruntime_onnx",
            inputs: &signature.inputs,
            outputs: &signature.outputs,
            parameters: Meaning {
                task: signature.task,
                classes: &signature.classes,
                target: signature.target.as_deref(),
            },
        }
    }
}

/// The body of every error: `{"error": "…"}`.
#[must_use]
pub fn error_body(message: &str) -> String {
    serde_json::json!({ "error": message }).to_string()
}

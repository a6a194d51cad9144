//! Serving: from a model file to an answered request.
//!
//! Two processes meet here. A *replica* (`worker`) loads one model into ONNX Runtime
//! (`engine`) and answers the Open Inference Protocol (`oip`) and row-oriented JSON
//! (`rows`), running requests one at a time or stacked (`batcher`). The *gateway*
//! (`gateway`) lives in the server: it holds a pushed snapshot of routes and forwards
//! each request to the least busy replica, retrying where a replica dies.
//!
//! Must not know: SQL, who is allowed to call, where a model file came from. ONNX
//! Runtime is loaded only by [`engine::Engine::load`], hence never by the gateway.

pub mod batcher;
pub mod body;
pub mod engine;
pub mod gateway;
pub mod inputs;
pub mod metrics;
pub mod oip;
pub mod rows;
pub mod tensor;
pub mod token;
pub mod worker;

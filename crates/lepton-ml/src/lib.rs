//! Built-in machine learning: data preparation, training, evaluation, export.
//!
//! Owns: turning a table into a model, its figures and its plots. Everything is
//! synchronous and deterministic where it says so. Must not know: HTTP, users,
//! Kubernetes, async, or where bytes come from.

pub mod fitted;
pub mod onnx;
pub mod plots;
pub mod tabular;

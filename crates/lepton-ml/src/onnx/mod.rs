//! Writing ONNX files, and reading what a file's inputs and outputs are.
//!
//! Owns: the wire format and a small graph builder. Must not know: what the graph is for.

mod graph;
mod proto;

pub use graph::NodeBuilder;
pub use graph::{Constant, Graph};
pub use proto::{SignatureError, signature_of};

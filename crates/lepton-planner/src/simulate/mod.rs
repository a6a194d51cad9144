//! Replays of traces through the policies.

pub mod packing;
pub mod queueing;
mod trace;

pub use trace::TraceError;

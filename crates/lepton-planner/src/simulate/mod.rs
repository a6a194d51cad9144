//! Replays of traces through the policies.

pub mod packing;
mod trace;

pub use trace::TraceError;

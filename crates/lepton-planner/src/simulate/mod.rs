//! Replays of traces through the policies.

pub mod autoscaling;
pub mod buying;
pub mod packing;
pub mod queueing;
mod trace;
pub mod transfer;

pub use trace::TraceError;

//! Replays of traces through the policies.

pub mod autoscaling;
pub mod buying;
mod trace;
pub mod transfer;

pub use trace::TraceError;

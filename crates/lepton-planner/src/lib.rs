//! Every decision that Lepton takes, as pure functions of what was seen.
//!
//! Owns: policies, their checks and their reports. Must not know: input and
//! output, async, the clock, ambient randomness, hash order.

pub mod autoscaling;
pub mod buying;
pub mod simulate;
pub mod transfer;

mod rng;

pub use rng::{PlanRng, Stream};

//! Every decision that Lepton takes, as pure functions: a view of the facts goes
//! in, a plan and its reasons come out, and a recorded view gives the same plan
//! again, byte for byte.
//!
//! Owns: who runs where and when, how much of what is bought, scaled or moved,
//! and why not. Must not know: I/O, async, the clock, ambient randomness, hash
//! order. Time and randomness are arguments; maps are ordered wherever order can
//! reach an output; solver limits are iterations, never time.

pub mod allocation;
pub mod autoscaling;
pub mod buying;
pub mod cluster;
pub mod packing;
pub mod prediction;
pub mod queueing;
pub mod simulate;
pub mod transfer;

mod rng;
pub mod workloads;

pub use rng::{PlanRng, Stream};

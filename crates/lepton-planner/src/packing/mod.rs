//! Fragmentation-aware packing of tasks onto machines with shared GPUs.
//!
//! Owns: the state of a machine, the scores of the published policies and of ours, the index
//! that finds the best machine without looking at all, and the bound. Must not know: projects,
//! queues, time, where a trace comes from.
//!
//! A decision costs no more than a few heap operations at any size of the pool, because
//! machines in the same state are alike: a state's score for a kind of task is computed once
//! ([`Pool`]).

mod bids;
mod bound;
mod fragmentation;
mod pool;
mod score;
mod state;

pub use bids::Bids;
pub use bound::{Bound, Demand, bound};
pub use fragmentation::{Typical, typical};
pub use pool::{Placed, Pool};
pub use score::{Policy, Prices};
pub use state::{GPUS_MAX, Machine, State, Task, WHOLE};

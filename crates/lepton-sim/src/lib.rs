//! The whole server, simulated: its production routes, store, planner and reconciler, on a clock
//! that jumps and an executor whose workers draw their fates from a seed.
//!
//! Owns: what happens to the server in a simulation ([`simulate`]), and the rules that must hold
//! after every step of it. Must not know: how the server decides.
//!
//! A seed repeats: the order of the steps, every fate and every fault come from it alone. What runs
//! side by side in the server (the transactions of a pass, the calls of the executor) may finish in
//! any order, so every draw about a worker depends on the worker, never on a count over all of them.

mod fates;
mod faults;
mod ledger;
mod rules;
mod server;
mod steps;
mod world;

pub use rules::Broken;
pub use steps::{Failed, Outcome, Settings, simulate};

//! The division of pools: how much of which machines for whom, with a certificate.
//!
//! Owns: the linear programs, their dual bounds, and the shadow prices in words. Must not know:
//! nodes by name, queues, time.
//!
//! An answer is never taken on the solver's word. The program and its dual are both solved, and
//! [`Division::verify`] recomputes from the problem alone that the amounts are allowed, that the
//! prices are, and how far the two values lie apart: weak duality makes that gap a bound on what
//! any other answer could gain.

mod classic;
mod division;
mod whole;

pub use classic::{
    Machines, Malleable, Move, Schedule, evenest, fewest, least_completions, least_makespan,
    max_min_rates, move_cost,
};
pub use division::{Claim, Division, DivisionError, Gap, Pool, Problem, divide};
pub use whole::{Fleet, Kind, Leaf, Load, Need, NeedError, Proof, cheapest};

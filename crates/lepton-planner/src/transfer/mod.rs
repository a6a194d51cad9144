//! Moving data between regions, and where to keep it.
//!
//! Owns: transfers over several paths at once, exact and by search, each with its distance from
//! the bound. Must not know: how bytes move, or the clock.

mod check;
mod exact;
mod fastest;
mod network;
mod placement;
mod plan;
mod routes;
mod search;
#[cfg(test)]
mod tests;

pub use check::{Finding, check};
pub use fastest::{Fastest, fastest};
pub use network::{Link, Network, NetworkFault};
pub use placement::{
    PlacementError, PlacementFinding, PlacementPlan, PlacementView, check_placement, place,
};
pub use plan::{Found, Method, Report, TransferError, TransferPlan, TransferView, plan, search};

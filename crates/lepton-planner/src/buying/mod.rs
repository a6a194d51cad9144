//! What to rent: for a job with a deadline, and for a service that must stay up.
//!
//! Owns: the choice between spot, on demand and waiting, over offers of any type and region; the
//! published rules; the optimum that knows the future; the cheapest mix for a service. Must
//! not know: how machines are rented, or the clock.

mod check;
mod history;
mod optimum;
mod policy;
mod service;
mod strategy;
#[cfg(test)]
mod tests;
mod view;

pub use check::{Finding, check};
pub use history::SpotHistory;
pub use optimum::{KnownJob, optimum_usd};
pub use policy::{Cause, JobPlan, Report, Rule, Solved, plan, plan_with, safe};
pub use service::{ServiceError, ServicePlan, ServiceView, mix};
pub use view::{JobView, Mode, Offer, Purchase};

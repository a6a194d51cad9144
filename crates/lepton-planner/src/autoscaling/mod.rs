//! How many replicas an endpoint needs: from what was observed, before it is needed.
//!
//! Owns: the published ways (Knative's, Kubernetes' HPA), a forecast with staffing by the
//! price of a late request, and the choice between them by replay of the recent past; scaling to zero; the
//! clairvoyant bound. Must not know: how replicas are started, or how requests get there.
//!
//! [`plan`] is what the endpoint reconciler and the simulator both call. It wants the least
//! replica-seconds at which at most a given share of the requests waits too long. [`check`]
//! reads the rules for itself.

mod check;
mod choice;
mod clairvoyant;
mod fleet;
mod offered;
mod plan;
mod record;
mod replay;
mod scaler;
mod service;
mod staffing;
#[cfg(test)]
mod tests;
mod view;

pub use check::{Finding, check};
pub use clairvoyant::{clairvoyant_ms, instant_ms, work_ms};
pub use fleet::{Counts, Fleet, FleetSpec};
pub use offered::{Estimate, Judgement};
pub use plan::{AutoscalePlan, Cause, Report, plan};
pub use record::{Record, Replay};
pub use replay::{Request, Series, replay};
pub use scaler::{Forecast, ForecastSetting, Hpa, Knative, Scaler, Signals};
pub use service::{ServiceCurve, ServiceTimes};
pub use view::{AutoscaleView, Memory, ScalingSpec, Second};

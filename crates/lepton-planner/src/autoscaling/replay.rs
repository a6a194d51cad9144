//! A history of requests, played through a fleet under one way to scale it.
//!
//! Owns: the order of arrivals, seconds and decisions. Must not know: where the requests
//! come from. The simulator plays traces, the choice plays the recent past.

use super::fleet::{Fleet, FleetSpec};
use super::scaler::Signals;
use super::service::ServiceCurve;

/// One request: when it arrives, and how long a slot is busy with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Milliseconds since the history began.
    pub at_ms: u64,
    /// Milliseconds in service.
    pub service_ms: u64,
}

/// Sums since the history began, one a second; index `i` covers the first `i` seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Requests arrived.
    pub arrivals: Vec<u64>,
    /// Request-milliseconds in the system.
    pub in_system_ms: Vec<u64>,
    /// Requests ended.
    pub ended: Vec<u64>,
    /// Milliseconds in service of the requests ended.
    pub ended_ms: Vec<u64>,
    /// Requests known to be late.
    pub late: Vec<u64>,
    /// Replica-milliseconds paid.
    pub paid_ms: Vec<u64>,
}

impl Series {
    fn empty(seconds: usize) -> Self {
        let start = || {
            let mut sums = Vec::with_capacity(seconds + 1);
            sums.push(0);
            sums
        };
        Self {
            arrivals: start(),
            in_system_ms: start(),
            ended: start(),
            ended_ms: start(),
            late: start(),
            paid_ms: start(),
        }
    }

    fn push(&mut self, arrivals: u64, fleet: &Fleet) {
        self.arrivals.push(arrivals);
        self.in_system_ms.push(fleet.in_system_ms());
        let (ended, ended_ms) = fleet.ended();
        self.ended.push(ended);
        self.ended_ms.push(ended_ms);
        self.late.push(fleet.late());
        self.paid_ms.push(fleet.paid_ms());
    }

    /// What a way to scale sees of this, and of the fleet, when `late_share` may be late.
    #[must_use]
    pub fn signals<'a>(
        &'a self,
        fleet: &Fleet,
        curve: &'a ServiceCurve,
        late_share: f64,
    ) -> Signals<'a> {
        let counts = fleet.counts();
        let spec = fleet.spec();
        Signals {
            now_s: self.seconds() as u64,
            arrivals: &self.arrivals,
            in_system_ms: &self.in_system_ms,
            ended: &self.ended,
            ended_ms: &self.ended_ms,
            late: &self.late,
            late_share,
            in_flight: fleet.in_system(),
            ready: counts.ready,
            starting: counts.starting,
            curve,
            slots: spec.slots,
            cold_start_s: std::time::Duration::from_millis(spec.cold_start_ms).as_secs_f64(),
            late_after_s: std::time::Duration::from_millis(spec.late_after_ms).as_secs_f64(),
        }
    }

    /// Seconds covered.
    #[must_use]
    pub fn seconds(&self) -> usize {
        self.arrivals.len() - 1
    }
}

/// Plays `requests`, in order of arrival, for `seconds`. `decide` is asked at the beginning of every
/// second, with what has happened so far, how many replicas there should be from then on.
pub fn replay(
    spec: FleetSpec,
    warm: u32,
    requests: impl Iterator<Item = Request>,
    seconds: usize,
    mut decide: impl FnMut(&mut Fleet, &Series) -> Option<u32>,
) -> Series {
    let mut fleet = Fleet::warm(spec, warm);
    let mut series = Series::empty(seconds);
    let mut requests = requests.peekable();
    let mut arrivals = 0_u64;
    for second in 0..seconds {
        if let Some(target) = decide(&mut fleet, &series) {
            fleet.scale_to(target);
        }
        let end_ms = (second as u64 + 1) * 1_000;
        while let Some(request) = requests.next_if(|request| request.at_ms < end_ms) {
            fleet.advance(request.at_ms);
            fleet.arrive(request.service_ms);
            arrivals += 1;
        }
        fleet.advance(end_ms);
        series.push(arrivals, &fleet);
    }
    series
}

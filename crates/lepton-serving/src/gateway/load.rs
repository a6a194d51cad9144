//! The load of one endpoint: what its autoscaling is decided from.
//!
//! Owns: counting arrivals, waiting and service between two readings, exactly in time. Must not
//! know: how many replicas there should be.

use std::time::Duration;

use tokio::time::Instant;

/// Service times told one by one between two readings; beyond, only their number and sum are: a
/// thousand a second say as much of the distribution as all.
const TOLD_MAX: usize = 1_000;

/// What an endpoint was asked since the last reading.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointLoad {
    /// Requests that arrived.
    pub arrivals: u64,
    /// Time that requests spent waiting or being answered, all together.
    pub in_flight_time: Duration,
    /// Requests that ended after a replica had them.
    pub ended: u64,
    /// Time that replicas had the requests that ended.
    pub service_time: Duration,
    /// How long replicas had some of them, each.
    pub services: Vec<Duration>,
    /// Requests that waited for a replica too long.
    pub late: u64,
}

/// Counts what one endpoint is asked.
#[derive(Debug, Default)]
pub(super) struct Meter {
    in_flight: u64,
    counted_until: Option<Instant>,
    since: EndpointLoad,
}

impl Meter {
    pub(super) fn begin(&mut self, now: Instant) {
        self.count(now);
        self.in_flight += 1;
        self.since.arrivals += 1;
    }

    /// A request left: it waited so long, and a replica had it for so long, if any had.
    pub(super) fn end(&mut self, now: Instant, late: bool, service: Option<Duration>) {
        self.count(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.since.late += u64::from(late);
        let Some(service) = service else { return };
        self.since.ended += 1;
        self.since.service_time += service;
        if self.since.services.len() < TOLD_MAX {
            self.since.services.push(service);
        }
    }

    /// What was counted since the last reading.
    pub(super) fn take(&mut self, now: Instant) -> EndpointLoad {
        self.count(now);
        std::mem::take(&mut self.since)
    }

    pub(super) const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    fn count(&mut self, now: Instant) {
        let since = self.counted_until.replace(now).unwrap_or(now);
        let passed = now.saturating_duration_since(since);
        let times = u32::try_from(self.in_flight).unwrap_or(u32::MAX);
        self.since.in_flight_time += passed.saturating_mul(times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_flight_is_exact_and_every_reading_begins_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut meter = Meter::default();
        meter.begin(at(0));
        meter.begin(at(2));
        meter.end(at(5), true, Some(Duration::from_secs(3)));
        assert_eq!(meter.in_flight(), 1);
        let first = meter.take(at(6));
        assert_eq!((first.arrivals, first.ended, first.late), (2, 1, 1));
        // One for two seconds, two for three, one for one.
        assert_eq!(first.in_flight_time, Duration::from_secs(9));
        assert_eq!(first.services, [Duration::from_secs(3)]);
        let second = meter.take(at(10));
        assert_eq!(second.in_flight_time, Duration::from_secs(4));
        assert_eq!((second.arrivals, second.ended), (0, 0));
        // A request that no replica had ends without a service time.
        meter.end(at(10), true, None);
        assert_eq!((meter.take(at(11)).ended, meter.in_flight()), (0, 0));
    }
}

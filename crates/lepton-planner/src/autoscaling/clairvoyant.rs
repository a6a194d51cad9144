//! What a fleet costs when the future is known and nobody may wait.
//!
//! Owns: the bound that policies are shown beside. Must not know: any policy.

use super::fleet::FleetSpec;
use super::replay::Request;

/// Replica-milliseconds that serve every request on arrival until `end_ms`, with `warm`
/// replicas given at the start.
///
/// The k-th replica is needed while more than `(k−1)·slots` requests are in service. Between
/// two needs it is kept or stopped and started again, whichever is less: a start is paid for
/// one cold start. Requests are taken to be packed perfectly, so no fleet that lets nobody
/// wait costs less.
#[must_use]
pub fn clairvoyant_ms(spec: FleetSpec, warm: u32, requests: &[Request], end_ms: u64) -> u64 {
    let slots = i64::from(spec.slots.max(1));
    let mut changes: Vec<(u64, i64)> = requests
        .iter()
        .flat_map(|request| [(request.at_ms, 1), (request.at_ms + request.service_ms, -1)])
        .filter(|(at, _)| *at < end_ms)
        .collect();
    // At one instant, ends come before arrivals.
    changes.sort_unstable();
    let (mut busy, mut needed, mut total) = (0_i64, 0_usize, 0_u64);
    // When each level was last needed; levels given warm were "needed" at the start.
    let mut last_end: Vec<Option<u64>> = vec![Some(0); warm as usize];
    let mut since: Vec<u64> = Vec::new();
    for (at, by) in changes.into_iter().chain([(end_ms, 0)]) {
        busy += by;
        let level = usize::try_from((busy + slots - 1) / slots).unwrap_or(0);
        let level = if at == end_ms { 0 } else { level };
        while needed < level {
            if last_end.len() <= needed {
                last_end.push(None);
            }
            total += last_end[needed]
                .map_or(spec.cold_start_ms, |end| (at - end).min(spec.cold_start_ms));
            since.push(at);
            needed += 1;
        }
        while needed > level {
            needed -= 1;
            total += at - since.pop().unwrap_or(at);
            last_end[needed] = Some(at);
        }
    }
    total
}

/// Replica-milliseconds in which `⌈in service / slots⌉` replicas serve every request on arrival, as if a
/// replica could start and stop at once and for nothing.
#[must_use]
pub fn instant_ms(spec: FleetSpec, requests: &[Request], end_ms: u64) -> u64 {
    let free = FleetSpec {
        cold_start_ms: 0,
        ..spec
    };
    clairvoyant_ms(free, 0, requests, end_ms)
}

/// Replica-milliseconds of work alone: no fleet that finishes by `end_ms` what had arrived
/// costs less, whoever waits.
#[must_use]
pub fn work_ms(spec: FleetSpec, requests: &[Request], end_ms: u64) -> u64 {
    let busy: u64 = requests
        .iter()
        .filter(|request| request.at_ms < end_ms)
        .map(|request| request.service_ms.min(end_ms.saturating_sub(request.at_ms)))
        .sum();
    busy / u64::from(spec.slots.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: FleetSpec = FleetSpec {
        slots: 2,
        cold_start_ms: 10_000,
        late_after_ms: 1_000,
        revive: false,
    };

    fn request(at_s: u64, service_s: u64) -> Request {
        Request {
            at_ms: at_s * 1_000,
            service_ms: service_s * 1_000,
        }
    }

    #[test]
    fn a_gap_shorter_than_a_cold_start_is_bridged() {
        let near = [request(20, 5), request(30, 5)];
        assert_eq!(clairvoyant_ms(SPEC, 0, &near, 100_000), 25_000);
        let far = [request(20, 5), request(60, 5)];
        assert_eq!(clairvoyant_ms(SPEC, 0, &far, 100_000), 30_000);
    }

    #[test]
    fn two_share_a_replica_and_the_third_needs_another() {
        let three = [request(20, 10), request(20, 10), request(25, 5)];
        assert_eq!(clairvoyant_ms(SPEC, 0, &three, 100_000), 35_000);
    }
}

//! Loads: what the endpoints that follow their load were asked, second by second.
//!
//! Owns: reading the gateway's counts every second, and an hour of them. Must not know: how many
//! replicas there should be. Nothing here survives a restart, and nothing needs to: the number
//! that was last decided is on record, and stays until enough is known again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lepton_planner::autoscaling::{AutoscalePlan, Memory, Second, ServiceTimes};
use lepton_planner::workloads::Load;
use lepton_serving::gateway::{EndpointKey, EndpointLoad};
use lepton_types::resources::Endpoint;
use lepton_types::{Id, Timestamp};

use crate::app::App;

/// How often the counts are read.
const READ_EVERY: Duration = Duration::from_secs(1);

/// The past that is kept: as much as the planner looks at.
const SECONDS_KEPT: usize = 3_600;

/// Of old seconds so many are dropped at once, so that most readings move nothing.
const SECONDS_DROPPED: usize = 300;

/// Service times counted before the older ones count half: a model that was changed is noticed
/// after as many.
const SERVICES_KEPT: u64 = 20_000;

/// A pause longer than this many seconds was no load but a machine that slept.
const PAUSE_MAX: u64 = 60;

/// What is known of every endpoint that follows its load.
#[derive(Default)]
pub(crate) struct Loads(Mutex<BTreeMap<Id, Seen>>);

struct Seen {
    observed_until: Timestamp,
    seconds: Arc<Vec<Second>>,
    service: ServiceTimes,
    memory: Memory,
}

impl Seen {
    fn new(now: Timestamp) -> Self {
        Self {
            observed_until: now,
            seconds: Arc::default(),
            service: ServiceTimes::default(),
            memory: Memory::default(),
        }
    }
}

impl Loads {
    /// What is known of `endpoint`, with the requests it has now; nothing before the first second.
    pub(crate) fn of(&self, endpoint: Id, in_flight: u64) -> Option<Load> {
        let all = self.held();
        let seen = all.get(&endpoint)?;
        Some(Load {
            observed_until: seen.observed_until,
            seconds: Arc::clone(&seen.seconds),
            service: seen.service.clone(),
            in_flight,
            memory: seen.memory.clone(),
        })
    }

    /// What the decisions of a pass leave behind for the next.
    pub(crate) fn remember(&self, decided: &BTreeMap<Id, AutoscalePlan>) {
        let mut all = self.held();
        for (endpoint, plan) in decided {
            if let Some(seen) = all.get_mut(endpoint) {
                seen.memory = plan.memory.clone();
            }
        }
    }

    /// Takes in what an endpoint was asked in the last `seconds`, until `now`.
    pub(crate) fn take_in(&self, endpoint: Id, now: Timestamp, seconds: u64, load: &EndpointLoad) {
        let mut all = self.held();
        let seen = all.entry(endpoint).or_insert_with(|| Seen::new(now));
        seen.observed_until = now;
        let past = Arc::make_mut(&mut seen.seconds);
        let seconds = seconds.clamp(1, PAUSE_MAX);
        let in_flight_ms = millis(load.in_flight_time) / seconds;
        // What came in a pause came at its end: when exactly is not known.
        let before = Second {
            in_flight_ms,
            ..Second::default()
        };
        past.extend((1..seconds).map(|_| before));
        past.push(Second {
            arrivals: small(load.arrivals),
            in_flight_ms,
            ended: small(load.ended),
            ended_ms: millis(load.service_time),
            late: small(load.late),
        });
        if past.len() >= SECONDS_KEPT + SECONDS_DROPPED {
            past.drain(..past.len() - SECONDS_KEPT);
        }
        for service in &load.services {
            seen.service.record(millis(*service));
        }
        if seen.service.total() > SERVICES_KEPT {
            seen.service.fade();
        }
    }

    fn retain(&self, endpoints: &[Arc<Endpoint>]) {
        let known = |id: &Id| endpoints.iter().any(|endpoint| endpoint.metadata.id == *id);
        self.held().retain(|id, _| known(id));
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Id, Seen>> {
        self.0.lock().expect("invariant: no holder panics")
    }
}

/// The name under which the gateway knows an endpoint.
pub(crate) fn key_of(endpoint: &Endpoint) -> Option<EndpointKey> {
    Some(EndpointKey {
        project: endpoint.metadata.project.clone(),
        endpoint: endpoint.metadata.name.parse().ok()?,
    })
}

/// Reads the gateway's counts until the server stops, and lets the reconciler look when a number
/// may change: every second while there are replicas, and at once when a request finds none.
pub(crate) async fn read(app: App) {
    let mut read_at = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = app.gateway.starved() => {
                app.nudge.notify_one();
                continue;
            }
            () = tokio::time::sleep_until(read_at + READ_EVERY) => {}
        }
        let now = tokio::time::Instant::now();
        let seconds = (now - read_at).as_secs().max(1);
        read_at = now;
        let followed: Vec<Arc<Endpoint>> = app.cache.read(|live| {
            let all = live.endpoints.values();
            all.filter(|endpoint| endpoint.spec.scaling.is_some())
                .map(Arc::clone)
                .collect()
        });
        app.loads.retain(&followed);
        let mut look = false;
        for endpoint in &followed {
            let Some(key) = key_of(endpoint) else {
                continue;
            };
            let load = app.gateway.take_load(&key).unwrap_or_default();
            look |= endpoint.wanted_replicas() > 0 || load.arrivals > 0;
            let id = endpoint.metadata.id;
            app.loads.take_in(id, app.now(), seconds, &load);
        }
        if look {
            app.nudge.notify_one();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use lepton_types::{IdSource, SystemIds};

    use super::*;

    #[test]
    fn a_pause_fills_its_seconds_and_the_past_stays_bounded() {
        let loads = Loads::default();
        let endpoint = SystemIds.next_id();
        assert!(loads.of(endpoint, 3).is_none());
        let load = EndpointLoad {
            arrivals: 4,
            in_flight_time: Duration::from_secs(6),
            ended: 2,
            service_time: Duration::from_secs(1),
            services: vec![Duration::from_millis(500); 2],
            late: 1,
        };
        let now = Timestamp::from_millis(5_000);
        loads.take_in(endpoint, now, 3, &load);
        let seen = loads.of(endpoint, 3).unwrap();
        assert_eq!((seen.seconds.len(), seen.in_flight), (3, 3));
        assert!(
            seen.seconds
                .iter()
                .all(|second| second.in_flight_ms == 2_000)
        );
        assert_eq!(seen.seconds[2].arrivals, 4);
        assert_eq!(seen.service.total(), 2);
        for _ in 0..200 {
            loads.take_in(endpoint, now, u64::MAX, &EndpointLoad::default());
        }
        let kept = loads.of(endpoint, 0).unwrap().seconds.len();
        assert!(kept < SECONDS_KEPT + SECONDS_DROPPED + 60, "{kept}");
        loads.retain(&[]);
        assert!(loads.of(endpoint, 0).is_none());
    }
}

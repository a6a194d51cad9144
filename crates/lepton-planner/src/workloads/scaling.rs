//! How many replicas the endpoints that follow their load should have.
//!
//! Owns: what the autoscaler is shown of an endpoint. Must not know: how the number is found, or
//! how replicas come and go.

use std::collections::BTreeMap;

use lepton_types::resources::{Endpoint, ReplicaPhase};
use lepton_types::{DurationMs, Id, Timestamp};

use super::View;
use crate::PlanRng;
use crate::autoscaling::{
    self, AutoscalePlan, AutoscaleView, Counts, Memory, ScalingSpec, ServiceTimes,
};

/// What a start is taken to last before the first was seen: a large model from a cold disk.
const COLD_START_UNKNOWN: DurationMs = DurationMs::from_secs(30);

/// The decisions about every endpoint of `view` that follows its load.
pub(super) fn decide(view: &View, now: Timestamp, rng: &PlanRng) -> BTreeMap<Id, AutoscalePlan> {
    let followed = view.endpoints.iter().filter_map(|(id, endpoint)| {
        let seen = view_of(view, endpoint)?;
        Some((*id, autoscaling::plan(&seen, now, rng)))
    });
    followed.collect()
}

/// The question of the number of one endpoint's replicas inside the decision about `view`, with
/// its answer, as a record that `lepton plan explain` takes again; none, if the number is fixed.
#[must_use]
pub fn scaling_record(
    view: &View,
    endpoint: Id,
    now: Timestamp,
    rng: &PlanRng,
) -> Option<autoscaling::Record> {
    let seen = view_of(view, view.endpoints.get(&endpoint)?)?;
    Some(autoscaling::Record::take(seen, now, rng))
}

/// What is known of an endpoint's load; none, if its number is fixed or it is being deleted.
pub(super) fn view_of(view: &View, endpoint: &Endpoint) -> Option<AutoscaleView> {
    let scaling = endpoint.spec.scaling?;
    if endpoint.is_deleting() {
        return None;
    }
    let id = endpoint.metadata.id;
    let version = view.versions.get(&id).copied();
    let in_phase = |phase: ReplicaPhase| {
        let found = view.replicas.values().filter(|replica| {
            replica.metadata.owner.is_some_and(|owner| owner.id == id)
                && replica.status.phase == phase
                && (phase == ReplicaPhase::Draining || Some(replica.spec.version) == version)
        });
        u32::try_from(found.count()).unwrap_or(u32::MAX)
    };
    let have = endpoint.wanted_replicas();
    let ready = in_phase(ReplicaPhase::Ready).min(have);
    let status = endpoint.status.scaling.as_ref();
    let load = view.loads.get(&id);
    Some(AutoscaleView {
        spec: ScalingSpec {
            slots_per_replica: scaling.concurrency,
            cold_start: status
                .and_then(|status| status.cold_start)
                .unwrap_or(COLD_START_UNKNOWN),
            min_replicas: scaling.min_replicas,
            max_replicas: scaling.max_replicas,
            late_after: scaling.late_after,
            late_share_ppm: scaling.late_per_mille.saturating_mul(1_000),
            revive_draining: false,
            idle_after: scaling.idle_after,
        },
        // Nothing observed is nothing recent: the number stays.
        observed_until: load.map_or(Timestamp::from_millis(0), |load| load.observed_until),
        seconds: load.map_or_else(Vec::new, |load| load.seconds.as_ref().clone()),
        service: load.map_or_else(ServiceTimes::default, |load| load.service.clone()),
        in_flight: load.map_or(0, |load| load.in_flight),
        replicas: Counts {
            ready,
            // Wanted and not there yet, for whatever reason: nothing is asked for twice.
            starting: have - ready,
            draining: in_phase(ReplicaPhase::Draining),
        },
        memory: load.map_or_else(Memory::default, |load| load.memory.clone()),
    })
}

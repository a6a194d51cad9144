//! Routes: which replicas answer for which endpoint, pushed to the gateway.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lepton_access::KeyPurpose;
use lepton_planner::workloads::View;
use lepton_serving::gateway::{Limit, Replica, Route, RouteTable};
use lepton_serving::token::ReplicaToken;
use lepton_types::Id;
use lepton_types::resources::ReplicaPhase;

use super::Reconciler;
use crate::app::App;
use crate::loads::key_of;

impl Reconciler {
    /// Publishes what the records say: a replica is in while it is ready, and out as soon as it
    /// drains.
    pub(super) fn publish_routes(&mut self, view: &View) {
        self.routes_number += 1;
        let mut table = RouteTable {
            number: self.routes_number,
            ..RouteTable::default()
        };
        for endpoint in view.endpoints.values() {
            let Some(key) = key_of(endpoint) else {
                continue;
            };
            let version = endpoint.status.version.unwrap_or(0).to_string();
            let model = endpoint.spec.model.model.to_string();
            let mut route = Route::new(model, version, Vec::new());
            route.wait_max = self.app.config.serving.queue_timeout.to_std();
            if endpoint.spec.scaling.is_none() && endpoint.spec.replicas == 0 {
                // Nothing will come that could answer.
                route.wait_max = std::time::Duration::ZERO;
            }
            if let Some(scaling) = endpoint.spec.scaling {
                route.limit = Some(Limit {
                    concurrency: scaling.concurrency,
                    late_after: scaling.late_after.to_std(),
                });
                // Who wakes an endpoint waits as long as its first replica may take to start.
                let start = view.policy.replica_start_max.to_std();
                route.wait_max = route.wait_max.max(start);
            }
            let owned = view.replicas.values().filter(|replica| {
                replica
                    .metadata
                    .owner
                    .is_some_and(|owner| owner.id == endpoint.metadata.id)
            });
            for replica in owned {
                if let (ReplicaPhase::Ready, Some(address)) =
                    (replica.status.phase, replica.status.address)
                {
                    let id = replica.metadata.id;
                    let token = admission(&self.app, id);
                    route.replicas.push(Replica {
                        id: id.into(),
                        address,
                        token,
                    });
                }
            }
            table.routes.insert(key, route);
        }
        let routed = view.endpoints.values().flat_map(|endpoint| {
            let owned = view.replicas.values().filter(|replica| {
                let owner = replica.metadata.owner;
                owner.is_some_and(|owner| owner.id == endpoint.metadata.id)
            });
            owned.map(|replica| (endpoint.as_ref(), replica.as_ref()))
        });
        self.app.lineage.routed(routed);
        self.app.gateway.publish(table);
    }
}

/// What the gateway shows to a replica; derived, so nothing is kept.
pub(super) fn admission(app: &App, replica: Id) -> ReplicaToken {
    let secret = app.key.derive(KeyPurpose::ReplicaAdmission, replica);
    ReplicaToken::new(URL_SAFE_NO_PAD.encode(secret))
}

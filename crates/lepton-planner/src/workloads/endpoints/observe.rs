//! What a replica has come to by itself: started, ready, failing, drained.

use lepton_types::resources::{
    EndpointStatus, EventSeverity, ExitReason, Kind, Replica, ReplicaPhase, ReplicaStatus,
};

use lepton_types::DurationMs;

use super::super::view::{WorkerFact, WorkerKey};
use super::super::{Effect, Happening, Report, StopCause};
use super::Advance;

impl Advance<'_> {
    /// A replica that is over on record may be seen alive again: its record was wrong.
    pub(super) fn stop_again(&mut self, replica: &Replica) {
        let key = WorkerKey {
            id: replica.metadata.id,
            rank: 0,
        };
        if let Some(WorkerFact::Starting | WorkerFact::Running { .. }) = self.view.workers.get(&key)
        {
            self.strays += 1;
            self.effects.push(Effect::Stop(key, StopCause::Unneeded));
        }
    }

    /// What a replica has come to by itself.
    pub(super) fn observe(
        &mut self,
        replica: &Replica,
        endpoint: &mut EndpointStatus,
        report: &mut Report,
    ) -> ReplicaStatus {
        let mut status = replica.status.clone();
        let key = WorkerKey {
            id: replica.metadata.id,
            rank: 0,
        };
        let health = self
            .view
            .health
            .get(&replica.metadata.id)
            .copied()
            .unwrap_or_default();
        let leaving = matches!(
            status.phase,
            ReplicaPhase::Stopping | ReplicaPhase::Draining
        );
        match self.view.workers.get(&key) {
            None if status.phase == ReplicaPhase::Starting => {
                self.effects.push(Effect::Launch(key, Kind::Replica));
            }
            None if leaving => status.phase = ReplicaPhase::Stopped,
            None => {
                let message = "the executor has no record of it any more".to_owned();
                self.fail(replica, &mut status, endpoint, ExitReason::Lost { message });
            }
            Some(WorkerFact::Starting) => {}
            Some(WorkerFact::Running {
                address,
                enforcement,
                ..
            }) => {
                status.address = *address;
                status.enforcement = Some(enforcement.clone());
                if status.phase == ReplicaPhase::Starting && health.answers {
                    status.phase = ReplicaPhase::Ready;
                    status.ready_at = Some(self.now);
                    let took = self.now.since(replica.metadata.created_at);
                    note_cold_start(endpoint, took);
                }
                let dead = status.phase == ReplicaPhase::Ready
                    && health.failures >= self.view.policy.probe_failures_max;
                let deadline = replica.metadata.created_at + self.view.policy.replica_start_max;
                let late = status.phase == ReplicaPhase::Starting && self.now >= deadline;
                if dead || late {
                    status.phase = ReplicaPhase::Stopping;
                    let message = if dead {
                        "it stopped answering"
                    } else {
                        "it did not become ready"
                    };
                    status.reason = Some(ExitReason::CouldNotStart {
                        message: message.to_owned(),
                    });
                    self.effects.push(Effect::Stop(key, StopCause::Unhealthy));
                } else if status.phase == ReplicaPhase::Starting {
                    report.wake(deadline);
                }
            }
            Some(WorkerFact::Exited { reason, .. }) => match &status.reason {
                Some(unhealthy) => {
                    let unhealthy = unhealthy.clone();
                    self.fail(replica, &mut status, endpoint, unhealthy);
                }
                None if leaving => status.phase = ReplicaPhase::Stopped,
                None => self.fail(replica, &mut status, endpoint, reason.clone()),
            },
            Some(WorkerFact::Lost { message }) => {
                let reason = ExitReason::Lost {
                    message: message.clone(),
                };
                self.fail(replica, &mut status, endpoint, reason);
            }
        }
        if status.phase == ReplicaPhase::Draining {
            self.drain(replica, &mut status, health.in_flight, report);
        } else if status.phase == ReplicaPhase::Stopping {
            self.effects.push(Effect::Stop(key, StopCause::Unneeded));
        }
        status
    }

    /// Ends a draining replica that has nothing left to do, or took too long.
    fn drain(
        &mut self,
        replica: &Replica,
        status: &mut ReplicaStatus,
        in_flight: u64,
        report: &mut Report,
    ) {
        let since = replica.spec.drain_since.unwrap_or(self.now);
        let deadline = since + self.view.policy.drain_max;
        // The routes without it are published after its draining was recorded; one pass later
        // nothing new can reach it.
        let unrouted = replica.status.phase == ReplicaPhase::Draining;
        if (unrouted && in_flight == 0) || self.now >= deadline {
            status.phase = ReplicaPhase::Stopping;
            let key = WorkerKey {
                id: replica.metadata.id,
                rank: 0,
            };
            self.effects.push(Effect::Stop(key, StopCause::Unneeded));
        } else {
            report.wake(deadline);
        }
    }

    fn fail(
        &mut self,
        replica: &Replica,
        status: &mut ReplicaStatus,
        endpoint: &mut EndpointStatus,
        reason: ExitReason,
    ) {
        let served_long = status
            .ready_at
            .is_some_and(|ready_at| self.now.since(ready_at) >= self.view.policy.stable_after);
        endpoint.failures = if served_long {
            0
        } else {
            endpoint.failures.saturating_add(1)
        };
        endpoint.not_before = (endpoint.failures > 1)
            .then(|| self.now + self.view.policy.backoff(endpoint.failures - 1));
        self.change.events.push(Happening {
            severity: EventSeverity::Warning,
            reason: "ReplicaFailed".to_owned(),
            message: format!(
                "replica {} of version {} {reason}",
                replica.metadata.id, replica.spec.version
            ),
        });
        status.phase = ReplicaPhase::Failed;
        status.reason = Some(reason);
    }
}

/// A quarter of the newest and the rest of what was known: one slow start is an accident.
fn note_cold_start(endpoint: &mut EndpointStatus, took: DurationMs) {
    if let Some(scaling) = &mut endpoint.scaling {
        let known = scaling.cold_start.unwrap_or(took).as_millis();
        let mixed = known - known / 4 + took.as_millis() / 4;
        scaling.cold_start = Some(DurationMs::from_millis(mixed));
    }
}

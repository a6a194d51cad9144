//! What an endpoint has come to, and why it waits.

use lepton_types::Timestamp;
use lepton_types::resources::{EndpointPhase, EndpointStatus, EventSeverity};

use super::super::{EndpointChange, Happening, Report};
use super::{Advance, Current};

impl Advance<'_> {
    pub(super) fn conclude(
        &mut self,
        current: &[Current<'_>],
        mut status: EndpointStatus,
        version: Option<u32>,
        report: &mut Report,
    ) {
        let (want, needed) = (self.want(), self.needed());
        let alive = current
            .iter()
            .filter(|c| !c.status.phase.is_final())
            .count();
        let ready = current.iter().filter(|c| c.is_ready()).count();
        let ready_good = current.iter().filter(|c| c.wanted && c.is_ready()).count();
        if self.endpoint.is_deleting() && alive + self.strays == 0 {
            self.change = EndpointChange {
                delete: true,
                ..EndpointChange::none(self.endpoint.metadata.id)
            };
            return;
        }
        status.ready_replicas = u32::try_from(ready_good).unwrap_or(u32::MAX);
        status.phase = if self.endpoint.is_deleting() {
            EndpointPhase::Deleting
        } else if ready_good >= needed && version.is_some() {
            EndpointPhase::Ready
        } else if ready == 0 && status.failures >= 2 {
            EndpointPhase::Failing
        } else if ready > 0 {
            EndpointPhase::Updating
        } else {
            EndpointPhase::Pending
        };
        self.forget_failures(current, want, &mut status, report);
        self.explain(&status, version, report);
        if status.phase == EndpointPhase::Ready
            && self.endpoint.status.phase != EndpointPhase::Ready
        {
            self.change.events.push(Happening {
                severity: EventSeverity::Normal,
                reason: "Ready".to_owned(),
                message: format!(
                    "{ready_good} replicas of version {} answer",
                    version.unwrap_or(0)
                ),
            });
        }
        if status != self.endpoint.status {
            self.change.status = Some(status);
        }
    }

    /// Failures count until all that is wanted has answered for a while.
    fn forget_failures(
        &self,
        current: &[Current<'_>],
        want: usize,
        status: &mut EndpointStatus,
        report: &mut Report,
    ) {
        if status.failures == 0 {
            return;
        }
        let ready = current.iter().filter(|c| c.wanted && c.is_ready());
        let times: Vec<Timestamp> = ready.filter_map(|c| c.status.ready_at).collect();
        if times.len() < want {
            return;
        }
        let stable = times
            .into_iter()
            .max()
            .map(|last| last + self.view.policy.stable_after);
        match stable {
            Some(at) if at > self.now => report.wake(at),
            _ => {
                status.failures = 0;
                status.not_before = None;
            }
        }
    }

    fn explain(&self, status: &EndpointStatus, version: Option<u32>, report: &mut Report) {
        let id = self.endpoint.metadata.id;
        if version.is_none() && !self.endpoint.is_deleting() {
            let message = format!("model `{}` has no such version", self.endpoint.spec.model);
            report.wait(id, "no-model", message);
        } else if let Some(not_before) = status.not_before.filter(|at| *at > self.now) {
            let newest = self.view.replicas.values().rev().find(|replica| {
                replica.metadata.owner.is_some_and(|owner| owner.id == id)
                    && replica.status.reason.is_some()
            });
            let last = newest.and_then(|replica| replica.status.reason.as_ref());
            let last = last.map_or_else(String::new, |reason| format!("; the last one {reason}"));
            let message = format!(
                "replicas failed {} times in a row{last}; the next one starts at {not_before}",
                status.failures
            );
            report.wait(id, "back-off", message);
        } else if !matches!(status.phase, EndpointPhase::Ready) {
            let message = format!(
                "{} of {} replicas of the wanted version answer",
                status.ready_replicas,
                self.want()
            );
            report.wait(id, "starting", message);
        }
    }
}

//! Reservations: from what is asked for to a promise, and to its end.
//!
//! Owns: when room is looked for, and when a reservation is over and forgotten. Must not know: which
//! machines are chosen, and how a promise is kept: both are [`cluster`]'s.

use lepton_types::resources::{
    EventSeverity, Reservation, ReservationPhase, ReservationSpec, ReservationStatus,
};
use lepton_types::{DurationMs, Id, Timestamp};

use super::view::View;
use super::{Happening, Report, ReservationChange};
use crate::cluster::{self, Ask, Booking, ClusterView, PromisedSeat, Selector, book};

/// How long one that is over can be looked up.
const KEPT_AFTER: DurationMs = DurationMs::from_secs(7 * 24 * 3_600);

/// Puts promises into `cluster`, makes those that are asked for, in the order of their ids, and ends those
/// whose window has closed.
pub(super) fn advance(
    view: &View,
    now: Timestamp,
    cluster: &mut ClusterView,
    report: &mut Report,
) -> Vec<ReservationChange> {
    for reservation in view.reservations.values() {
        let spec = &reservation.spec;
        if reservation.status.phase == ReservationPhase::Booked && spec.until > now {
            promise(cluster, reservation, &reservation.status.nodes);
        }
    }
    let mut changes = Vec::new();
    for (id, reservation) in &view.reservations {
        let ReservationSpec { from, until, .. } = reservation.spec;
        let is_open = until > now;
        let change = match reservation.status.phase {
            _ if until + KEPT_AFTER <= now => Some(ReservationChange::forget(*id)),
            ReservationPhase::Pending if is_open => {
                Some(look_for_room(*id, reservation, now, cluster))
            }
            ReservationPhase::Pending | ReservationPhase::Booked if !is_open => {
                Some(over(*id, reservation))
            }
            _ => None,
        };
        if is_open {
            report.wake(if from > now { from } else { until });
        }
        changes.extend(change);
    }
    changes
}

fn look_for_room(
    id: Id,
    reservation: &Reservation,
    now: Timestamp,
    cluster: &mut ClusterView,
) -> ReservationChange {
    let booking = booking_of(&reservation.spec);
    match book(cluster, now, &booking) {
        Ok(promised) => {
            let nodes: Vec<String> = promised
                .seats
                .iter()
                .map(|seat| seat.node.to_string())
                .collect();
            promise(cluster, reservation, &nodes);
            let message = format!("room is promised on {}", listed(&nodes));
            let status = ReservationStatus {
                phase: ReservationPhase::Booked,
                nodes,
                message: None,
            };
            ReservationChange::to(id, status, EventSeverity::Normal, "Booked", message)
        }
        Err(refused) => {
            let message = refused.to_string();
            let status = ReservationStatus {
                phase: ReservationPhase::Refused,
                nodes: Vec::new(),
                message: Some(message.clone()),
            };
            ReservationChange::to(id, status, EventSeverity::Warning, "Refused", message)
        }
    }
}

fn over(id: Id, reservation: &Reservation) -> ReservationChange {
    let status = ReservationStatus {
        phase: ReservationPhase::Over,
        ..reservation.status.clone()
    };
    let message = "its window has closed".to_owned();
    ReservationChange::to(id, status, EventSeverity::Normal, "Over", message)
}

fn promise(cluster: &mut ClusterView, reservation: &Reservation, nodes: &[String]) {
    let Ok(name) = reservation.metadata.name.parse() else {
        return;
    };
    let spec = &reservation.spec;
    // A machine that is not there any more can keep no promise.
    let seats = nodes.iter().filter_map(|node| {
        let node = node.parse().ok()?;
        let ask = Ask::from(spec.resources);
        Some(PromisedSeat { ask, node })
    });
    let promised = cluster::Reservation {
        project: spec.project.clone(),
        gang: None,
        from: spec.from,
        until: spec.until,
        seats: seats.collect(),
    };
    cluster.reservations.insert(name, promised);
}

fn booking_of(spec: &ReservationSpec) -> Booking {
    Booking {
        project: spec.project.clone(),
        gang: None,
        from: spec.from,
        until: spec.until,
        members: vec![Ask::from(spec.resources); spec.workers as usize],
        selector: Selector::default(),
    }
}

/// The machines by name, each once.
fn listed(nodes: &[String]) -> String {
    const LISTED_MAX: usize = 5;
    let each: std::collections::BTreeSet<&str> = nodes.iter().map(String::as_str).collect();
    let first: Vec<String> = each
        .iter()
        .take(LISTED_MAX)
        .map(|node| format!("`{node}`"))
        .collect();
    match each.len().saturating_sub(LISTED_MAX) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

impl ReservationChange {
    const fn forget(reservation: Id) -> Self {
        Self {
            reservation,
            status: None,
            delete: true,
            events: Vec::new(),
        }
    }

    fn to(
        reservation: Id,
        status: ReservationStatus,
        severity: EventSeverity,
        reason: &str,
        message: String,
    ) -> Self {
        let happening = Happening {
            severity,
            reason: reason.to_owned(),
            message,
        };
        Self {
            reservation,
            status: Some(status),
            delete: false,
            events: vec![happening],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lepton_types::resources::Resource;
    use lepton_types::{CpuMillis, MemoryBytes, Name, Resources};

    use super::super::{Change, Finding, Plan, check, plan};
    use super::*;
    use crate::PlanRng;
    use crate::cluster::Node;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn cpus(count: u64) -> Resources {
        Resources {
            cpu: CpuMillis::from_millis(count * 1_000),
            memory: MemoryBytes::from_mib(count * 1_024),
            gpus: 0,
        }
    }

    /// Workers of one processor each, from in a minute for an hour.
    fn asked(number: u8, workers: u32) -> Reservation {
        let spec = ReservationSpec {
            project: "team".parse().unwrap(),
            from: NOW + DurationMs::from_secs(60),
            until: NOW + DurationMs::from_secs(3_660),
            workers,
            resources: cpus(1),
        };
        let id = Id::from_parts(NOW, [number; 10]);
        Resource::draft(id, Name::default_project(), format!("r{number}"), NOW, spec)
    }

    fn view(reservations: impl IntoIterator<Item = Reservation>) -> View {
        let all = reservations.into_iter();
        View {
            nodes: [("here".parse().unwrap(), Node::from(cpus(4)))].into(),
            reservations: all.map(|it| (it.metadata.id, Arc::new(it))).collect(),
            ..View::default()
        }
    }

    fn decided(view: &View, now: Timestamp) -> (Vec<ReservationChange>, Report) {
        let rng = PlanRng::from_seed(1);
        let (plan, report) = plan(view, now, &rng);
        assert_eq!(check(view, &plan, now, &rng), []);
        let changes = plan.changes.into_iter().map(|change| match change {
            Change::Reservation(change) => change,
            other => panic!("{other:?}"),
        });
        (changes.collect(), report)
    }

    fn phase(change: &ReservationChange) -> ReservationPhase {
        change.status.as_ref().unwrap().phase
    }

    #[test]
    fn room_is_promised_to_the_first_and_refused_to_who_finds_none() {
        let (changes, report) = decided(&view([asked(1, 3), asked(2, 2)]), NOW);
        assert_eq!(changes[0].status.as_ref().unwrap().nodes, ["here"; 3]);
        assert_eq!(changes[0].events[0].message, "room is promised on `here`");
        assert_eq!(phase(&changes[1]), ReservationPhase::Refused);
        assert!(changes[1].events[0].message.starts_with("room for 1 of 2"));
        assert_eq!(report.wake_at, Some(NOW + DurationMs::from_secs(60)));
    }

    #[test]
    fn a_reservation_ends_with_its_window_and_is_forgotten_in_a_week() {
        let mut promised = asked(1, 3);
        promised.status.phase = ReservationPhase::Booked;
        promised.status.nodes = vec!["here".to_owned(); 3];
        let closes = promised.spec.until;
        assert_eq!(decided(&view([promised.clone()]), NOW).0, []);
        let (changes, _) = decided(&view([promised.clone()]), closes);
        assert_eq!(phase(&changes[0]), ReservationPhase::Over);
        promised.status.phase = ReservationPhase::Over;
        assert_eq!(decided(&view([promised.clone()]), closes).0, []);
        let (changes, _) = decided(&view([promised]), closes + KEPT_AFTER);
        assert!(changes[0].delete);
        // Nobody had looked for room in time: a server that was down, perhaps.
        let (changes, _) = decided(&view([asked(1, 1)]), closes);
        assert_eq!(phase(&changes[0]), ReservationPhase::Over);
    }

    #[test]
    fn the_checker_refuses_a_promise_of_more_than_there_is() {
        let mut known = asked(1, 3);
        known.status.phase = ReservationPhase::Booked;
        known.status.nodes = vec!["here".to_owned(); 3];
        let view = view([known, asked(2, 2)]);
        let promise = |nodes: &[&str]| {
            let status = ReservationStatus {
                phase: ReservationPhase::Booked,
                nodes: nodes.iter().map(ToString::to_string).collect(),
                message: None,
            };
            let id = Id::from_parts(NOW, [2; 10]);
            let change =
                ReservationChange::to(id, status, EventSeverity::Normal, "Booked", String::new());
            let plan = Plan {
                changes: vec![Change::Reservation(change)],
                ..Plan::default()
            };
            let found = check(&view, &plan, NOW, &PlanRng::from_seed(1));
            let why = found.into_iter().map(|finding| match finding {
                Finding::Promise { why, .. } => why,
                other => panic!("{other:?}"),
            });
            why.collect::<Vec<_>>()
        };
        assert_eq!(
            promise(&["here", "here"]),
            ["more would be promised of a machine than it has"]
        );
        assert_eq!(promise(&["here"]), ["it is for another number of workers"]);
        assert_eq!(
            promise(&["gone", "gone"]),
            ["more would be promised of a machine than it has"]
        );
    }
}

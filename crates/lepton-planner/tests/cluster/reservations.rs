//! Room that was promised in advance.

use super::*;

/// Two processors of one node of four, promised to project `team` from in a minute for an hour.
fn promised() -> ClusterView {
    let mut view = one_node(4);
    let booking = Booking {
        project: name("team"),
        gang: None,
        from: after(60),
        until: after(3_660),
        members: vec![Ask::from(cpus(2))],
        selector: Selector::default(),
    };
    let reservation = book(&view, NOW, &booking).unwrap();
    view.reservations.insert(name("demo"), reservation);
    view
}

#[test]
fn backfill_never_runs_into_a_promise() {
    let mut view = promised();
    let endless = pending("other", 10, vec![Ask::from(cpus(2))]);
    let mut short = pending("other", 9, vec![Ask::from(cpus(2))]);
    short.runs_at_most = Some(DurationMs::from_secs(60));
    let mut long = short.clone();
    long.submitted_at = NOW - DurationMs::from_secs(8);
    long.runs_at_most = Some(DurationMs::from_secs(61));
    for (number, it) in [endless, long.clone(), short].into_iter().enumerate() {
        view.queue.insert(gang(u8::try_from(number).unwrap()), it);
    }
    let (plan, report) = decide(&view);
    // What is not promised is anybody's, and the rest whose who will surely be gone.
    assert_eq!(plan.starts.keys().collect::<Vec<_>>(), [&gang(0), &gang(2)]);
    let alone = ClusterView {
        queue: BTreeMap::from([(gang(1), long)]),
        nodes: one_node(3).nodes,
        ..view.clone()
    };
    let (_, told) = decide(&alone);
    assert_eq!(
        told.waiting[&gang(1)].reason.to_string(),
        "the room there is, is promised to project `team` from 2023-11-14T22:14:20.000Z until \
         2023-11-14T23:14:20.000Z by reservation `demo`, and this could still run then"
    );
    assert!(matches!(
        report.waiting[&gang(1)].reason,
        Reason::Capacity { .. }
    ));
    // Its owner may begin early, and is bound by nothing of its own.
    view.queue = BTreeMap::from([(gang(5), pending("team", 0, vec![Ask::from(cpus(4))]))]);
    assert_eq!(decide(&view).0.starts.len(), 1);
}

#[test]
fn who_stands_on_a_promise_when_it_is_due_is_stopped_and_only_then() {
    let mut view = promised();
    let mut guest = pending("other", 0, vec![Ask::from(cpus(4))]);
    guest.runs_at_most = Some(DurationMs::from_secs(30));
    view.queue.insert(gang(1), guest);
    let (first, _) = decide(&view);
    let mut view = apply(&view, &first);
    view.queue
        .insert(gang(2), pending("team", 0, vec![Ask::from(cpus(2))]));
    assert!(decide(&view).0.stops.is_empty());
    // It has outlived its limit, which somebody should have kept.
    let due = after(400);
    let (plan, _) = plan(&view, due, &PlanRng::from_seed(1));
    assert_eq!(check(&view, &plan, due), []);
    assert_eq!(plan.stops[&gang(1)].cause, StopCause::Promise);
    assert!(!check(&view, &plan, NOW).is_empty(), "before its time");
}

#[test]
fn a_promise_is_only_made_of_what_is_sure() {
    let mut view = promised();
    let booking = |members, from, until| Booking {
        project: name("b"),
        gang: None,
        from: after(from),
        until: after(until),
        members: vec![Ask::from(cpus(1)); members],
        selector: Selector::default(),
    };
    assert_eq!(
        book(&view, NOW, &booking(2, 100, 200)).unwrap().seats.len(),
        2
    );
    assert_eq!(
        book(&view, NOW, &booking(4, 3_660, 4_000))
            .unwrap()
            .seats
            .len(),
        4
    );
    let refused =
        |booking: &Booking, view: &ClusterView| book(view, NOW, booking).unwrap_err().to_string();
    assert_eq!(
        refused(&booking(3, 100, 200), &view),
        "room for 2 of 3 is sure to be free then: the rest is promised, or held by what may still run"
    );
    assert!(refused(&booking(1, 200, 100), &view).contains("ends before it begins"));
    assert_eq!(
        refused(&booking(0, 100, 200), &view),
        "nothing is asked for"
    );
    let mut runs = pending("a", 0, vec![Ask::from(cpus(2))]);
    runs.runs_at_most = Some(DurationMs::from_secs(50));
    view.queue.insert(gang(1), runs);
    let mut view = apply(&view, &decide(&view).0);
    view.policy.preemption = false;
    assert!(book(&view, NOW, &booking(2, 100, 200)).is_ok());
    assert!(
        book(&view, NOW, &booking(2, 40, 45)).is_ok(),
        "of the other two"
    );
    assert!(book(&view, NOW, &booking(3, 40, 45)).is_err());
}

/// Two processors of four are held for half a minute, and two are promised from a minute on for an hour.
#[test]
fn who_waits_is_told_a_start_that_promises_allow() {
    let mut view = promised();
    let mut holds = pending("other", 0, vec![Ask::from(cpus(2))]);
    holds.predicted_duration = Some(DurationMs::from_secs(30));
    holds.runs_at_most = Some(DurationMs::from_secs(40));
    view.queue.insert(gang(1), holds);
    let held = apply(&view, &decide(&view).0);
    let told = |project: &str, most: Option<u64>| {
        let mut view = held.clone();
        let mut waits = pending(project, 0, vec![Ask::from(cpus(4))]);
        waits.runs_at_most = most.map(DurationMs::from_secs);
        view.queue.insert(gang(2), waits);
        decide(&view).1.waiting[&gang(2)].expected_start
    };
    assert_eq!(
        told("other", None),
        Some(after(3_660)),
        "once the window closes"
    );
    assert_eq!(
        told("other", Some(31)),
        Some(after(3_660)),
        "a second too long"
    );
    assert_eq!(
        told("other", Some(30)),
        Some(after(30)),
        "over when the window opens"
    );
    assert_eq!(told("team", None), Some(after(30)), "it is its own");
    // Promised room alone keeps it, and it is told until when.
    let mut view = promised();
    view.queue
        .insert(gang(2), pending("other", 0, vec![Ask::from(cpus(4))]));
    let waiting = &decide(&view).1.waiting[&gang(2)];
    assert!(matches!(waiting.reason, Reason::Promised { .. }));
    assert_eq!(waiting.expected_start, Some(after(3_660)));
}

#[test]
fn a_promise_that_its_owner_stops_using_is_still_no_room_for_others() {
    let mut view = promised();
    let mut owner = pending("team", 0, vec![Ask::from(cpus(2))]);
    owner.predicted_duration = Some(DurationMs::from_secs(100));
    view.queue.insert(gang(1), owner);
    let mut view = apply(&view, &decide(&view).0);
    let mut rest = pending("other", 0, vec![Ask::from(cpus(2))]);
    rest.predicted_duration = Some(DurationMs::from_secs(50_000));
    view.queue.insert(gang(2), rest.clone());
    let mut view = apply(&view, &decide(&view).0);
    view.queue.insert(gang(3), rest);
    let waiting = &decide(&view).1.waiting[&gang(3)];
    assert_eq!(waiting.expected_start, Some(after(3_660)), "{waiting:?}");
}

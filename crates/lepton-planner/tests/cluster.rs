//! What `cluster::plan` promises, for any view that a generator can make, and for a few
//! that a person would.
#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::collections::BTreeMap;

use lepton_planner::PlanRng;
use lepton_planner::cluster::{
    Ask, Booking, ClusterView, GangId, Node, NodeName, Occupied, PendingGang, Plan, PromisedSeat,
    Reason, Record, Reservation, RunningGang, Selector, Share, StopCause, book, check, plan,
};
use lepton_types::{CpuMillis, DurationMs, Id, MemoryBytes, Name, Resources, Timestamp};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn gang(number: u8) -> GangId {
    GangId::from(Id::from_parts(NOW, [0, 0, 0, 0, 0, 0, 0, 0, 0, number]))
}

fn cpus(count: u64) -> Resources {
    Resources {
        cpu: CpuMillis::from_millis(count * 1_000),
        memory: MemoryBytes::from_mib(count * 1_024),
        gpus: 0,
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn node_name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn pending(project: &str, waited_s: u64, members: Vec<Ask>) -> PendingGang {
    PendingGang {
        project: name(project),
        priority: 0,
        submitted_at: NOW - DurationMs::from_secs(waited_s),
        members,
        selector: Selector::default(),
        predicted_duration: None,
        runs_at_most: None,
        deadline: None,
    }
}

fn one_node(count: u64) -> ClusterView {
    ClusterView {
        nodes: BTreeMap::from([(node_name("local"), Node::from(cpus(count)))]),
        ..ClusterView::default()
    }
}

/// What the view is once the plan has been applied and nothing else has happened.
fn apply(view: &ClusterView, plan: &Plan) -> ClusterView {
    let mut after = view.clone();
    for (id, seats) in &plan.starts {
        let gang = after.queue.remove(id).unwrap();
        let members = gang.members.iter().zip(seats);
        let members = members.map(|(ask, seat)| Occupied {
            ask: *ask,
            seat: seat.clone(),
        });
        let running = RunningGang {
            project: gang.project,
            priority: gang.priority,
            preemptible: true,
            members: members.collect(),
            started_at: NOW,
            checkpointed_at: None,
            predicted_duration: gang.predicted_duration,
            runs_at_most: gang.runs_at_most,
            stopping: false,
        };
        after.running.insert(*id, running);
    }
    for id in plan.stops.keys() {
        after.running.get_mut(id).unwrap().stopping = true;
    }
    after
}

fn decide(view: &ClusterView) -> (Plan, lepton_planner::cluster::Report) {
    let (plan, report) = plan(view, NOW, &PlanRng::from_seed(1));
    assert_eq!(check(view, &plan, NOW), []);
    (plan, report)
}

#[test]
fn a_gang_starts_with_all_its_workers_or_waits_and_says_what_is_missing() {
    let mut view = one_node(4);
    let workers = vec![Ask::from(cpus(2)); 3];
    view.queue.insert(gang(1), pending("a", 0, workers));
    view.queue
        .insert(gang(2), pending("a", 0, vec![Ask::from(cpus(3))]));
    let (plan, report) = decide(&view);
    assert_eq!(plan.starts.keys().collect::<Vec<_>>(), [&gang(2)]);
    assert_eq!(
        report.waiting[&gang(1)].to_string(),
        "number 1 in the queue: larger than the pool: even were it empty, 2 of 3 workers fit, and \
         all must start together; one asks for cpu 2, memory 2Gi, node `local` comes nearest and \
         lacks cpu 2, memory 2Gi"
    );
}

#[test]
fn the_report_tells_when_and_after_whom() {
    let mut view = one_node(4);
    let mut first = pending("a", 10, vec![Ask::from(cpus(3))]);
    first.predicted_duration = Some(DurationMs::from_secs(60));
    view.queue.insert(gang(1), first);
    view.queue
        .insert(gang(2), pending("a", 5, vec![Ask::from(cpus(2))]));
    let (_, report) = decide(&view);
    let waiting = &report.waiting[&gang(2)];
    assert_eq!(
        waiting.expected_start,
        Some(NOW + DurationMs::from_secs(60))
    );
    assert_eq!(waiting.after, [gang(1)]);
    assert!(
        waiting.to_string().contains("lacks cpu 1, memory 1Gi"),
        "{waiting}"
    );
}

#[test]
fn two_projects_share_by_weight() {
    let mut view = one_node(9);
    view.projects.insert(
        name("heavy"),
        Share {
            weight: 2,
            ..Share::default()
        },
    );
    for number in 0..20 {
        let project = if number < 10 { "heavy" } else { "light" };
        view.queue
            .insert(gang(number), pending(project, 0, vec![Ask::from(cpus(1))]));
    }
    let (plan, _) = decide(&view);
    let heavy = plan.starts.keys().filter(|id| **id < gang(10)).count();
    assert_eq!((heavy, plan.starts.len()), (6, 9));
}

#[test]
fn a_quota_is_borrowed_from_and_taken_back() {
    let owns = |count| Share {
        quota: Some(cpus(count)),
        ..Share::default()
    };
    let mut view = one_node(4);
    view.projects.insert(name("owner"), owns(2));
    view.projects.insert(name("guest"), owns(2));
    for number in 0..4 {
        view.queue
            .insert(gang(number), pending("guest", 0, vec![Ask::from(cpus(1))]));
    }
    let (borrowed, _) = decide(&view);
    assert_eq!(borrowed.starts.len(), 4);
    let mut view = apply(&view, &borrowed);
    for running in view.running.values_mut() {
        running.started_at = NOW - DurationMs::from_secs(3_600);
    }
    for number in 10..14 {
        view.queue
            .insert(gang(number), pending("owner", 0, vec![Ask::from(cpus(1))]));
    }
    let (plan, report) = decide(&view);
    assert_eq!(plan.stops.len(), 2, "what was borrowed, and no more");
    assert!(
        plan.stops
            .values()
            .all(|stop| stop.cause == StopCause::Quota)
    );
    let stopping = |waiting: &&lepton_planner::cluster::Waiting| {
        matches!(waiting.reason, Reason::Stopping { .. })
    };
    assert_eq!(report.waiting.values().filter(stopping).count(), 2);
}

#[test]
fn a_project_that_may_not_borrow_is_told_its_quota() {
    let mut view = one_node(8);
    let share = Share {
        quota: Some(cpus(2)),
        may_borrow: false,
        ..Share::default()
    };
    view.projects.insert(name("a"), share);
    for number in 0..3 {
        view.queue
            .insert(gang(number), pending("a", 0, vec![Ask::from(cpus(1))]));
    }
    let (plan, report) = decide(&view);
    assert_eq!(plan.starts.len(), 2);
    assert_eq!(
        report.waiting[&gang(2)].to_string(),
        "number 1 in the queue: project `a` would exceed its quota of cpu 2, memory 2Gi: it uses \
         cpu 2, memory 2Gi, this asks for cpu 1, memory 1Gi"
    );
}

#[test]
fn a_small_gang_passes_a_large_one_only_while_it_delays_it_not() {
    let mut view = one_node(4);
    let mut running = pending("a", 0, vec![Ask::from(cpus(2))]);
    running.predicted_duration = Some(DurationMs::from_secs(100));
    view.queue.insert(gang(0), running);
    let (first, _) = decide(&view);
    let mut view = apply(&view, &first);
    view.queue
        .insert(gang(1), pending("a", 1_000, vec![Ask::from(cpus(4))]));
    let mut short = pending("a", 10, vec![Ask::from(cpus(1))]);
    short.predicted_duration = Some(DurationMs::from_secs(90));
    let mut long = short.clone();
    long.predicted_duration = Some(DurationMs::from_secs(110));
    view.queue.insert(gang(2), long);
    view.queue.insert(gang(3), short);
    let (plan, report) = decide(&view);
    assert_eq!(plan.starts.keys().collect::<Vec<_>>(), [&gang(3)]);
    assert_eq!(
        report.waiting[&gang(2)].reason,
        Reason::Reserved { by: gang(1) }
    );
    // One that has not waited long is passed by all.
    view.queue.get_mut(&gang(1)).unwrap().submitted_at = NOW - DurationMs::from_secs(20);
    assert_eq!(decide(&view).0.starts.len(), 2);
}

#[test]
fn the_least_work_is_lost_when_room_is_made() {
    let mut view = one_node(4);
    for number in 0..4 {
        view.queue
            .insert(gang(number), pending("a", 0, vec![Ask::from(cpus(1))]));
    }
    let (first, _) = decide(&view);
    let mut view = apply(&view, &first);
    for (number, running) in view.running.values_mut().enumerate() {
        running.started_at = NOW - DurationMs::from_secs(1_000 * (4 - number as u64));
    }
    view.running.get_mut(&gang(0)).unwrap().checkpointed_at = Some(NOW);
    let mut urgent = pending("b", 0, vec![Ask::from(cpus(1)); 2]);
    urgent.priority = 1;
    view.queue.insert(gang(9), urgent);
    let (plan, report) = decide(&view);
    assert_eq!(plan.stops.keys().collect::<Vec<_>>(), [&gang(0), &gang(3)]);
    assert_eq!(
        report.waiting[&gang(9)].reason,
        Reason::Stopping {
            gangs: vec![gang(0), gang(3)]
        }
    );
}

#[test]
fn parts_of_gpus_share_a_device_and_whole_ones_do_not() {
    let mut machine = Node::from(Resources {
        gpus: 2,
        ..cpus(16)
    });
    machine.gpu_model = Some("T4".to_owned());
    let mut view = ClusterView::default();
    view.nodes.insert(node_name("n"), machine);
    let part = Ask {
        resources: cpus(1),
        gpu_milli: 500,
    };
    let whole = Ask::from(Resources { gpus: 1, ..cpus(1) });
    for (number, ask) in [part, part, whole, part].into_iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        view.queue.insert(
            gang(number),
            pending("a", 10 - u64::from(number), vec![ask]),
        );
    }
    let (plan, report) = decide(&view);
    let gpus: Vec<_> = plan
        .starts
        .values()
        .map(|seats| seats[0].gpus.clone())
        .collect();
    assert_eq!(gpus, [[0], [0], [1]]);
    assert!(
        report.waiting[&gang(3)]
            .to_string()
            .contains("lacks gpus 1")
    );
}

#[test]
fn what_cannot_be_is_said_in_words() {
    let mut view = one_node(2);
    view.queue.insert(gang(0), pending("a", 0, vec![]));
    let mut labelled = pending("a", 0, vec![Ask::from(cpus(1))]);
    labelled
        .selector
        .labels
        .insert("zone".into(), "mars".into());
    labelled.selector.gpu_models.insert("H100".into());
    view.queue.insert(gang(1), labelled);
    let (_, report) = decide(&view);
    let words = |number| report.waiting[&gang(number)].reason.to_string();
    assert_eq!(words(0), "the gang has no workers");
    assert_eq!(
        words(1),
        "no node of the pool has the label `zone=mars` and gpus of model `H100` and takes new work"
    );
    let (plan, report) = decide(&ClusterView {
        nodes: BTreeMap::new(),
        ..view
    });
    assert!(plan.is_empty() && report.waiting.len() == 2);
}

#[test]
fn the_checker_refuses_what_the_planner_would_never_do() {
    let mut view = one_node(2);
    view.queue
        .insert(gang(1), pending("a", 0, vec![Ask::from(cpus(2)); 2]));
    let seat = lepton_planner::cluster::Seat {
        node: node_name("local"),
        gpus: vec![],
    };
    let mut plan = Plan::default();
    plan.starts.insert(gang(1), vec![seat.clone()]);
    let words: Vec<String> = check(&view, &plan, NOW)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        words,
        [format!("gang `{}` has 2 workers and gets 1 seats", gang(1))]
    );
    plan.starts.insert(gang(1), vec![seat.clone(), seat]);
    let words: Vec<String> = check(&view, &plan, NOW)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        words[0],
        "node `local` has not enough cpu: 4000 of 2000 would be used"
    );
}

fn after(seconds: u64) -> Timestamp {
    NOW + DurationMs::from_secs(seconds)
}

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

fn any_resources(most: u64) -> impl Strategy<Value = Resources> {
    (0..=most, 0..=most, 0..=2_u32).prop_map(|(cpu, memory, gpus)| Resources {
        cpu: CpuMillis::from_millis(cpu * 500),
        memory: MemoryBytes::from_mib(memory * 512),
        gpus,
    })
}

fn any_ask() -> impl Strategy<Value = Ask> {
    (
        any_resources(6),
        prop_oneof![3 => Just(0_u16), 1 => 1..1_200_u16],
    )
        .prop_map(|(resources, gpu_milli)| Ask {
            resources,
            gpu_milli,
        })
}

fn any_project() -> impl Strategy<Value = Name> {
    prop_oneof![Just(name("a")), Just(name("b")), Just(name("c"))]
}

fn any_node() -> impl Strategy<Value = Node> {
    (
        any_resources(16),
        0..3_u8,
        0..3_u64,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(capacity, zone, price, unschedulable)| Node {
            capacity,
            gpu_model: (zone > 0).then(|| format!("model-{zone}")),
            labels: BTreeMap::from([("zone".to_owned(), zone.to_string())]),
            price_millis_per_hour: price,
            unschedulable,
        })
}

fn any_selector() -> impl Strategy<Value = Selector> {
    (0..8_u8, prop::bool::weighted(0.2)).prop_map(|(pick, together)| Selector {
        labels: (pick == 1)
            .then(|| ("zone".to_owned(), "1".to_owned()))
            .into_iter()
            .collect(),
        gpu_models: (pick == 2)
            .then(|| "model-2".to_owned())
            .into_iter()
            .collect(),
        together: together.then(|| "zone".to_owned()),
    })
}

/// Runs of equal workers, as gangs mostly are.
fn members() -> impl Strategy<Value = Vec<Ask>> {
    let run = (any_ask(), 1..4_usize).prop_map(|(ask, count)| vec![ask; count]);
    let runs = prop::collection::vec(run, 0..3);
    (runs, any::<bool>()).prop_map(|(runs, again)| {
        let first = runs.first().filter(|_| again).cloned();
        runs.into_iter().chain(first).flatten().collect()
    })
}

fn any_pending() -> impl Strategy<Value = PendingGang> {
    let seconds = || prop::option::of((0..5_000_u64).prop_map(DurationMs::from_secs));
    (
        any_project(),
        -2..3_i32,
        -100..20_000_i64,
        members(),
        any_selector(),
        (seconds(), seconds()),
        seconds(),
    )
        .prop_map(
            |(project, priority, waited, members, selector, (predicted, most), deadline)| {
                PendingGang {
                    project,
                    priority,
                    submitted_at: Timestamp::from_millis(NOW.as_millis() - waited * 1_000),
                    members,
                    selector,
                    predicted_duration: predicted,
                    runs_at_most: most,
                    deadline: deadline.map(|after| NOW + after),
                }
            },
        )
}

fn any_running() -> impl Strategy<Value = RunningGang> {
    let worker = (any_ask(), 0..7_u8, prop::collection::vec(0..3_u16, 0..2)).prop_map(
        |(ask, node, gpus)| Occupied {
            ask,
            seat: lepton_planner::cluster::Seat {
                node: node_name(&format!("n{node}")),
                gpus,
            },
        },
    );
    (
        any_project(),
        -2..2_i32,
        any::<(bool, bool)>(),
        prop::collection::vec(worker, 1..3),
        -10..10_000_i64,
        prop::option::of(0..9_000_u64),
        prop::option::of(0..20_000_u64),
    )
        .prop_map(
            |(project, priority, (preemptible, stopping), members, ran, predicted, most)| {
                RunningGang {
                    project,
                    priority,
                    preemptible,
                    members,
                    started_at: Timestamp::from_millis(NOW.as_millis() - ran * 1_000),
                    checkpointed_at: None,
                    predicted_duration: predicted.map(DurationMs::from_secs),
                    runs_at_most: most.map(DurationMs::from_secs),
                    stopping: stopping && preemptible,
                }
            },
        )
}

fn any_share() -> impl Strategy<Value = Share> {
    let amount = || prop::option::of(any_resources(20));
    (0..4_u32, amount(), any::<bool>(), amount()).prop_map(|(weight, quota, may_borrow, limit)| {
        Share {
            weight,
            quota,
            may_borrow,
            limit,
        }
    })
}

fn any_reservation() -> impl Strategy<Value = Reservation> {
    let seat = (any_ask(), 0..8_u8).prop_map(|(ask, node)| PromisedSeat {
        ask,
        node: node_name(&format!("n{node}")),
    });
    (
        any_project(),
        prop::option::of(0..24_u8),
        -4_000..4_000_i64,
        -100..9_000_i64,
        prop::collection::vec(seat, 0..4),
    )
        .prop_map(|(project, only, from, long, seats)| {
            let at = |seconds: i64| Timestamp::from_millis(NOW.as_millis() + seconds * 1_000);
            Reservation {
                project,
                gang: only.filter(|number| number % 2 == 0).map(gang),
                from: at(from),
                until: at(from + long),
                seats,
            }
        })
}

/// Promises made by hand: more than there is, on nodes that are not there, over before they begin.
fn any_reservations() -> impl Strategy<Value = BTreeMap<Name, Reservation>> {
    let some = prop::collection::vec(any_reservation(), 1..4).prop_map(|all| {
        let named = all.into_iter().zip(0..);
        named.map(|(it, n)| (name(&format!("r{n}")), it)).collect()
    });
    prop_oneof![Just(BTreeMap::new()), some]
}

fn any_view() -> impl Strategy<Value = ClusterView> {
    (
        prop::collection::vec(any_node(), 0..7),
        prop::collection::btree_map(any_project(), any_share(), 0..4),
        prop::collection::vec(any_running(), 0..6),
        prop::collection::vec(any_pending(), 0..24),
        prop_oneof![Just(0), Just(300), Just(100_000)],
        any_reservations(),
    )
        .prop_map(
            |(nodes, projects, running, queue, run_at_least, reservations)| {
                let mut view = ClusterView {
                    projects,
                    reservations,
                    ..ClusterView::default()
                };
                view.policy.run_at_least = DurationMs::from_secs(run_at_least);
                let nodes = nodes.into_iter().zip(0..);
                view.nodes = nodes
                    .map(|(node, n)| (node_name(&format!("n{n}")), node))
                    .collect();
                view.running = running
                    .into_iter()
                    .zip(100..)
                    .map(|(g, n)| (gang(n), g))
                    .collect();
                view.queue = queue
                    .into_iter()
                    .zip(0..)
                    .map(|(g, n)| (gang(n), g))
                    .collect();
                view
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1_000)
    })]

    #[test]
    fn a_plan_is_never_refused_and_leaves_nothing_unexplained(view in any_view(), seed: u64) {
        let rng = PlanRng::from_seed(seed);
        let (decided, report) = plan(&view, NOW, &rng);
        prop_assert_eq!(check(&view, &decided, NOW), []);
        for id in view.queue.keys() {
            prop_assert!(decided.starts.contains_key(id) != report.waiting.contains_key(id));
        }
        for waiting in report.waiting.values() {
            prop_assert!(!waiting.to_string().is_empty());
        }
    }

    #[test]
    fn a_record_replays_byte_for_byte(view in any_view(), seed: u64) {
        let rng = PlanRng::from_seed(seed);
        let (record, report) = Record::take(view, NOW, &rng);
        let text = serde_json::to_string(&record).unwrap();
        let read: Record = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &record);
        let replay = read.replay();
        prop_assert!(replay.same);
        prop_assert_eq!(
            serde_json::to_string(&replay.report).unwrap(),
            serde_json::to_string(&report).unwrap()
        );
        let again: lepton_planner::cluster::Report =
            serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        prop_assert_eq!(again, report);
    }

    #[test]
    fn an_applied_plan_leaves_nothing_to_do(view in any_view(), seed: u64) {
        let rng = PlanRng::from_seed(seed);
        let (decided, _) = plan(&view, NOW, &rng);
        let (again, _) = plan(&apply(&view, &decided), NOW, &rng);
        prop_assert_eq!(again, Plan::default());
    }

    /// Whatever is started before a window opens, if hard limits are kept its owner has its room then.
    #[test]
    fn a_promise_is_kept(view in any_view(), seed: u64, wait in 1..4_000_u64, members in members()) {
        let mut view = view;
        view.running.clear();
        view.reservations.clear();
        view.policy.preemption = false;
        let owner = name("owner");
        let members: Vec<Ask> = members
            .into_iter()
            .filter(|ask| ask.gpu_milli == 0 || (ask.resources.gpus == 0 && ask.gpu_milli <= 1_000))
            .collect();
        let booking = Booking {
            project: owner.clone(),
            gang: Some(gang(200)),
            from: after(wait),
            until: after(wait + 1_000),
            members: members.clone(),
            selector: Selector::default(),
        };
        let Ok(reservation) = book(&view, NOW, &booking) else {
            return Ok(());
        };
        view.reservations.insert(name("it"), reservation);
        let rng = PlanRng::from_seed(seed);
        let (decided, _) = plan(&view, NOW, &rng);
        let mut then = apply(&view, &decided);
        let due = after(wait);
        then.running.retain(|_, gang| gang.runs_at_most.is_none_or(|most| NOW + most > due));
        then.queue = BTreeMap::from([(gang(200), PendingGang {
            project: owner,
            submitted_at: due,
            ..pending("owner", 0, members)
        })]);
        let (decided, _) = plan(&then, due, &rng);
        prop_assert_eq!(check(&then, &decided, due), []);
        prop_assert_eq!(decided.starts.len(), 1);
    }

    #[test]
    fn a_gang_that_comes_last_changes_nobody_s_start(view in any_view(), seed: u64) {
        let mut before = view;
        before.policy.preemption = false;
        // What an owner takes up is no longer owed, and may be another's room.
        before.reservations.clear();
        // Room that is kept moves as gangs start, and with it who may pass.
        before.policy.reserve_after = DurationMs::from_secs(1_000_000);
        // Whether workers that differ fit together is searched for within bounds, and what is
        // free beside them can turn the search; equal ones are placed exactly.
        for gang in before.queue.values_mut() {
            gang.members.dedup_by(|_, _| true);
        }
        let rng = PlanRng::from_seed(seed);
        let (decided, _) = plan(&before, NOW, &rng);
        let mut after = before.clone();
        let mut last = pending("z", 0, vec![Ask::from(cpus(1))]);
        last.priority = i32::MIN;
        after.queue.insert(gang(99), last);
        let (mut with, _) = plan(&after, NOW, &rng);
        with.starts.remove(&gang(99));
        prop_assert_eq!(with, decided);
    }
}

#[test]
fn two_thousand_waiting_gangs_are_decided_at_once() {
    let mut view = one_node(4);
    for number in 0..2_000_u32 {
        let mut random = [0; 10];
        random[6..].copy_from_slice(&number.to_be_bytes());
        let mut gang = pending("a", 0, vec![Ask::from(cpus(1))]);
        gang.predicted_duration = Some(DurationMs::from_secs(1));
        view.queue
            .insert(GangId::from(Id::from_parts(NOW, random)), gang);
    }
    let begun = std::time::Instant::now();
    let (plan, report) = decide(&view);
    eprintln!("2,000 gangs on one node: {:?}", begun.elapsed());
    assert_eq!((plan.starts.len(), report.waiting.len()), (4, 1_996));
    let last = report
        .waiting
        .values()
        .map(|waiting| waiting.expected_start)
        .max();
    assert_eq!(last, Some(Some(NOW + DurationMs::from_secs(499))));
}

#[test]
fn a_gang_of_sixty_four_starts_on_ten_thousand_nodes() {
    let mut view = ClusterView::default();
    for number in 0..10_000 {
        let mut machine = Node::from(Resources {
            gpus: 8,
            ..cpus(96)
        });
        machine.price_millis_per_hour = number % 3;
        view.nodes
            .insert(node_name(&format!("n{number:05}")), machine);
    }
    let worker = Ask::from(Resources {
        gpus: 8,
        ..cpus(64)
    });
    view.queue
        .insert(gang(1), pending("a", 0, vec![worker; 64]));
    let begun = std::time::Instant::now();
    let (plan, _) = plan(&view, NOW, &PlanRng::from_seed(1));
    eprintln!("64 workers on 10,000 nodes: {:?}", begun.elapsed());
    assert_eq!(plan.starts[&gang(1)].len(), 64);
    assert_eq!(check(&view, &plan, NOW), []);
    let cheap = |seat: &lepton_planner::cluster::Seat| view.nodes[&seat.node].price_millis_per_hour;
    assert!(plan.starts[&gang(1)].iter().all(|seat| cheap(seat) == 0));
}

/// A month of random arrivals, ends, faults of nodes and clocks that jump: every plan passes the
/// checker, nobody is lost, and whoever can run does in the end. `LEPTON_PLANNER_MONTHS=10000`
/// runs more.
#[test]
fn a_month_of_faults_breaks_nothing() {
    let more = std::env::var("LEPTON_PLANNER_MONTHS").ok();
    let months = more.map_or(100, |text| text.parse().expect("a number of months"));
    for seed in 0..months {
        month(seed);
    }
    eprintln!("{months} months");
}

fn month(seed: u64) {
    use rand::Rng as _;
    let rng = PlanRng::from_seed(seed);
    let mut random = rng.stream("month", 0);
    let mut view = ClusterView::default();
    for number in 0..4 {
        let machine = Node::from(Resources {
            gpus: number % 3,
            ..cpus(8)
        });
        view.nodes.insert(node_name(&format!("n{number}")), machine);
    }
    let mut now = NOW;
    let (mut asked, mut ended) = (0_u8, 0);
    for step in 0..400 {
        let jump = if random.random_bool(0.02) {
            -3_600_000
        } else {
            random.random_range(0..10_800_000)
        };
        now = Timestamp::from_millis(now.as_millis() + jump);
        if step < 150 && asked < 120 {
            let members =
                vec![Ask::from(cpus(random.random_range(1..6))); random.random_range(1..4)];
            let mut job = pending(["a", "b"][random.random_range(0..2)], 0, members);
            job.submitted_at = now;
            job.priority = random.random_range(0..3);
            view.queue.insert(gang(asked), job);
            asked += 1;
        }
        // A node is lost or comes back; what ran on a lost one ends.
        let node = node_name(&format!("n{}", random.random_range(0..4)));
        if random.random_bool(0.1) && step < 150 {
            let machine = view.nodes.get_mut(&node).unwrap();
            machine.unschedulable = !machine.unschedulable;
        } else if step == 150 {
            view.nodes
                .values_mut()
                .for_each(|machine| machine.unschedulable = false);
        }
        let (decided, report) = plan(&view, now, &rng);
        assert_eq!(check(&view, &decided, NOW), [], "seed {seed}, step {step}");
        assert_eq!(
            decided.starts.len() + report.waiting.len(),
            view.queue.len()
        );
        let mut after = apply(&view, &decided);
        for id in decided.starts.keys() {
            after.running.get_mut(id).unwrap().started_at = now;
        }
        // Those that were stopped wait again; some of the others end.
        let stopped: Vec<GangId> = after
            .running
            .iter()
            .filter(|(_, g)| g.stopping)
            .map(|(id, _)| *id)
            .collect();
        for id in stopped {
            let gone = after.running.remove(&id).unwrap();
            let members = gone.members.iter().map(|worker| worker.ask).collect();
            let mut job = pending(gone.project.as_str(), 0, members);
            (job.priority, job.submitted_at) = (gone.priority, now);
            after.queue.insert(id, job);
        }
        let before = after.running.len();
        after.running.retain(|_, _| !random.random_bool(0.3));
        ended += before - after.running.len();
        view = after;
    }
    assert!(view.queue.is_empty(), "seed {seed}: {:?}", view.queue);
    assert_eq!(
        ended + view.running.len(),
        usize::from(asked),
        "seed {seed}"
    );
}

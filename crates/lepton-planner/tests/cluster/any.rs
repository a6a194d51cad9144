//! Views that a generator makes: full, contradictory, and worse than any that was recorded.

use super::*;

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
pub(crate) fn members() -> impl Strategy<Value = Vec<Ask>> {
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

pub(crate) fn any_view() -> impl Strategy<Value = ClusterView> {
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

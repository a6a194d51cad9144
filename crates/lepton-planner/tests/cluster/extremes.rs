//! Views at the ends of what numbers can say: nodes of nothing and of everything, gangs larger than
//! any pool, clocks at both ends of time.

use super::*;

/// Small amounts, nothing, and as much as can be written down.
fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        0..20_000_u64,
        Just(i64::MAX.unsigned_abs()),
        Just(u64::MAX - 1),
        Just(u64::MAX)
    ]
}

fn resources() -> impl Strategy<Value = Resources> {
    let gpus = prop_oneof![0..4_u32, Just(17), Just(u32::MAX)];
    (extreme(), extreme(), gpus).prop_map(|(cpu, memory, gpus)| Resources {
        cpu: CpuMillis::from_millis(cpu),
        memory: MemoryBytes::from_bytes(memory),
        gpus,
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let part = prop_oneof![4 => Just(0_u16), 1 => Just(500), 1 => Just(u16::MAX)];
    (resources(), part).prop_map(|(resources, gpu_milli)| Ask {
        resources,
        gpu_milli,
    })
}

fn moment() -> impl Strategy<Value = Timestamp> {
    let millis = prop_oneof![
        Just(i64::MIN),
        Just(-1),
        Just(0),
        Just(NOW.as_millis()),
        Just(NOW.as_millis() + 1),
        Just(i64::MAX)
    ];
    millis.prop_map(Timestamp::from_millis)
}

fn duration() -> impl Strategy<Value = Option<DurationMs>> {
    prop::option::of(extreme().prop_map(DurationMs::from_millis))
}

fn any_pending() -> impl Strategy<Value = PendingGang> {
    let members = (ask(), prop_oneof![0..4_usize, Just(2_000)]);
    (
        members,
        prop_oneof![Just(i32::MIN), -1..2_i32, Just(i32::MAX)],
        moment(),
        (duration(), duration()),
        prop::option::of(moment()),
    )
        .prop_map(
            |((ask, count), priority, submitted_at, (predicted, most), deadline)| PendingGang {
                priority,
                submitted_at,
                predicted_duration: predicted,
                runs_at_most: most,
                deadline,
                ..pending("a", 0, vec![ask; count])
            },
        )
}

fn any_running() -> impl Strategy<Value = RunningGang> {
    let worker = (ask(), 0..4_u8, prop::collection::vec(any::<u16>(), 0..3));
    (
        prop::collection::vec(worker, 1..4),
        (any::<i32>(), any::<bool>(), any::<bool>()),
        (moment(), prop::option::of(moment())),
        (duration(), duration()),
    )
        .prop_map(
            |(
                workers,
                (priority, preemptible, stopping),
                (started_at, saved),
                (predicted, most),
            )| {
                let seated = workers.into_iter().map(|(ask, node, gpus)| Occupied {
                    ask,
                    seat: lepton_planner::cluster::Seat {
                        node: node_name(&format!("n{node}")),
                        gpus,
                    },
                });
                RunningGang {
                    project: name("b"),
                    priority,
                    preemptible,
                    members: seated.collect(),
                    started_at,
                    checkpointed_at: saved,
                    predicted_duration: predicted,
                    runs_at_most: most,
                    stopping: stopping && preemptible,
                }
            },
        )
}

fn any_reservation() -> impl Strategy<Value = Reservation> {
    let seats = prop::collection::vec((ask(), 0..4_u8), 0..3);
    (moment(), moment(), seats).prop_map(|(from, until, seats)| Reservation {
        project: name("c"),
        gang: None,
        from,
        until,
        seats: seats
            .into_iter()
            .map(|(ask, node)| PromisedSeat {
                ask,
                node: node_name(&format!("n{node}")),
            })
            .collect(),
    })
}

fn any_share() -> impl Strategy<Value = Share> {
    let amount = || prop::option::of(resources());
    (
        prop_oneof![Just(0), Just(1), Just(u32::MAX)],
        amount(),
        any::<bool>(),
        amount(),
    )
        .prop_map(|(weight, quota, may_borrow, limit)| Share {
            weight,
            quota,
            may_borrow,
            limit,
        })
}

fn any_view() -> impl Strategy<Value = ClusterView> {
    let node = (resources(), extreme(), any::<bool>());
    (
        prop::collection::vec(node, 0..4),
        prop::collection::vec(any_share(), 0..3),
        prop::collection::vec(any_running(), 0..8),
        prop::collection::vec(any_pending(), 0..8),
        prop::collection::vec(any_reservation(), 0..3),
        (extreme(), extreme(), extreme()),
    )
        .prop_map(
            |(nodes, shares, running, queue, reservations, (ageing, reserve, least))| {
                let mut view = ClusterView::default();
                view.policy.ageing = DurationMs::from_millis(ageing);
                view.policy.reserve_after = DurationMs::from_millis(reserve);
                view.policy.run_at_least = DurationMs::from_millis(least);
                for ((capacity, price_millis_per_hour, unschedulable), number) in
                    nodes.into_iter().zip(0..)
                {
                    let node = Node {
                        capacity,
                        price_millis_per_hour,
                        unschedulable,
                        ..Node::default()
                    };
                    view.nodes.insert(node_name(&format!("n{number}")), node);
                }
                view.projects = [name("a"), name("b"), name("c")]
                    .into_iter()
                    .zip(shares)
                    .collect();
                view.running = (100..).map(gang).zip(running).collect();
                view.queue = (0..).map(gang).zip(queue).collect();
                let named = (0..).map(|number: u8| name(&format!("r{number}")));
                view.reservations = named.zip(reservations).collect();
                view
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the numbers: a plan that the checker accepts, everybody starts or has a reason in
    /// words, and nothing overflows.
    #[test]
    fn no_number_is_too_large(view in any_view(), now in moment()) {
        let (plan, report) = plan(&view, now, &PlanRng::from_seed(1));
        prop_assert_eq!(check(&view, &plan, now), []);
        prop_assert_eq!(plan.starts.len() + report.waiting.len(), view.queue.len());
        for waiting in report.waiting.values() {
            prop_assert!(!waiting.reason.to_string().is_empty());
        }
    }
}

#[test]
fn a_node_of_nothing_takes_nobody_and_a_gang_beyond_the_pool_is_told_so() {
    let mut view = one_node(0);
    view.queue
        .insert(gang(1), pending("a", 0, vec![Ask::from(cpus(1))]));
    let (plan, report) = decide(&view);
    assert!(plan.is_empty());
    assert_eq!(
        report.waiting[&gang(1)].reason.to_string(),
        "larger than the pool: even were it empty, one asks for cpu 1, memory 1Gi, node `local` comes \
         nearest and lacks cpu 1, memory 1Gi"
    );
    let mut view = one_node(8);
    view.queue.insert(
        gang(1),
        pending("a", 0, vec![Ask::from(cpus(1)); 1_000_000]),
    );
    let (plan, report) = decide(&view);
    assert!(plan.is_empty());
    let told = report.waiting[&gang(1)].reason.to_string();
    assert!(
        told.starts_with("larger than the pool: even were it empty, 8 of 1000000 workers fit"),
        "{told}"
    );
    assert_eq!(report.waiting[&gang(1)].expected_start, None);
}

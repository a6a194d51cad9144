//! What holds for any view.

use lepton_types::{DurationMs, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::PlanRng;

fn spec() -> impl Strategy<Value = ScalingSpec> {
    (
        0..20_u32,
        0..200_000_u64,
        0..5_u32,
        0..40_u32,
        0..30_000_u32,
        any::<bool>(),
    )
        .prop_map(|(slots, cold_ms, min, max, late, revive)| ScalingSpec {
            slots_per_replica: slots,
            cold_start: DurationMs::from_millis(cold_ms),
            min_replicas: min,
            max_replicas: max,
            late_after: DurationMs::from_secs(1),
            late_share_ppm: late,
            revive_draining: revive,
            idle_after: None,
        })
}

fn second() -> impl Strategy<Value = Second> {
    (
        0..60_u32,
        0..400_000_u64,
        0..60_u32,
        0..20_000_u64,
        0..4_u32,
    )
        .prop_map(|(arrivals, in_flight_ms, ended, each_ms, late)| Second {
            arrivals,
            in_flight_ms,
            ended,
            ended_ms: u64::from(ended) * each_ms,
            late,
        })
}

fn view() -> impl Strategy<Value = AutoscaleView> {
    (
        spec(),
        prop::collection::vec(second(), 0..240),
        prop::collection::vec(1..100_000_u64, 0..40),
        0..500_u64,
        (0..40_u32, 0..10_u32, 0..10_u32),
    )
        .prop_map(
            |(spec, seconds, served, in_flight, (ready, starting, draining))| {
                let mut service = ServiceTimes::default();
                for millis in served {
                    service.record(millis);
                }
                AutoscaleView {
                    spec,
                    observed_until: Timestamp::from_millis(1_700_000_000_000),
                    seconds,
                    service,
                    in_flight,
                    replicas: Counts {
                        ready,
                        starting,
                        draining,
                    },
                    memory: Memory::default(),
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_plan_repeats_and_is_never_refused(view in view(), later_ms in -5_000..60_000_i64, seed: u64) {
        let now = Timestamp::from_millis(view.observed_until.as_millis() + later_ms);
        let rng = PlanRng::from_seed(seed);
        let first = plan(&view, now, &rng);
        prop_assert_eq!(check(&view, &first, now), vec![]);
        // A recorded view gives the same plan, byte for byte.
        let text = serde_json::to_string(&view).unwrap();
        let recorded: AutoscaleView = serde_json::from_str(&text).unwrap();
        let again = plan(&recorded, now, &rng);
        prop_assert_eq!(serde_json::to_string(&first).unwrap(), serde_json::to_string(&again).unwrap());
    }

    #[test]
    fn a_plan_that_was_applied_is_not_changed(view in view()) {
        let now = view.observed_until;
        let rng = PlanRng::from_seed(1);
        let first = plan(&view, now, &rng);
        let mut applied = view.clone();
        let have = view.replicas.ready + view.replicas.starting;
        // What the plan asks for is starting, or draining, and nothing else has happened.
        if first.replicas >= have {
            applied.replicas.starting += first.replicas - have;
        } else {
            let stopped = have - first.replicas;
            let unstarted = stopped.min(applied.replicas.starting);
            applied.replicas.starting -= unstarted;
            applied.replicas.ready -= stopped - unstarted;
            applied.replicas.draining += stopped - unstarted;
        }
        applied.memory = first.memory.clone();
        let second = plan(&applied, now, &rng);
        // Fewer ready replicas make more requests wait: the same number or more, never fewer.
        if first.replicas >= have {
            prop_assert_eq!(first.replicas, second.replicas);
        } else {
            prop_assert!(second.replicas >= first.replicas);
        }
    }

    #[test]
    fn one_request_more_moves_the_plan_by_a_replica_at_most(mut view in view()) {
        view.spec.slots_per_replica = view.spec.slots_per_replica.max(4);
        // Before there is enough past to review, the way in use is the same.
        view.seconds.truncate(100);
        let now = view.observed_until;
        let rng = PlanRng::from_seed(1);
        let before = plan(&view, now, &rng).replicas;
        view.in_flight += 1;
        let after = plan(&view, now, &rng).replicas;
        // The first request of all wakes an endpoint that was at zero.
        prop_assert!(before.abs_diff(after) <= 1 || before == 0, "{} {}", before, after);
    }
}

fn calm() -> AutoscaleView {
    AutoscaleView {
        spec: ScalingSpec {
            slots_per_replica: 8,
            cold_start: DurationMs::from_secs(10),
            min_replicas: 0,
            max_replicas: 4,
            late_after: DurationMs::from_secs(1),
            late_share_ppm: 10_000,
            revive_draining: true,
            idle_after: None,
        },
        observed_until: Timestamp::from_millis(1_700_000_000_000),
        seconds: vec![Second::default(); 60],
        service: ServiceTimes::default(),
        in_flight: 0,
        replicas: Counts {
            ready: 1,
            ..Counts::default()
        },
        memory: Memory::default(),
    }
}

#[test]
fn an_idle_endpoint_goes_to_zero_after_the_price_of_a_restart_and_comes_back_at_once() {
    let mut view = calm();
    let start = view.observed_until;
    let rng = PlanRng::from_seed(1);
    let mut stopped_after = None;
    for second in 0..400 {
        let now = start + DurationMs::from_secs(second);
        view.observed_until = now;
        let plan = plan(&view, now, &rng);
        assert_eq!(check(&view, &plan, now), vec![]);
        view.memory = plan.memory;
        if plan.replicas == 0 {
            stopped_after.get_or_insert(second);
            assert!(matches!(plan.report.cause, Cause::Idle { .. }));
        }
    }
    // A cold start of 10 s and ten of them for the request that would wait.
    assert_eq!(stopped_after, Some(110));
    view.replicas.ready = 0;
    view.in_flight = 1;
    assert_eq!(plan(&view, view.observed_until, &rng).replicas, 1);
}

#[test]
fn clocks_that_jump_and_limits_that_contradict_are_said() {
    let mut view = calm();
    let rng = PlanRng::from_seed(1);
    let early = view.observed_until - DurationMs::from_secs(5);
    let report = plan(&view, early, &rng).report;
    assert_eq!(report.cause, Cause::Blind);
    assert!(
        report.to_string().contains("a clock has jumped"),
        "{report}"
    );
    let late = view.observed_until + DurationMs::from_secs(120);
    assert!(
        plan(&view, late, &rng)
            .report
            .to_string()
            .contains("ended 2m ago")
    );
    view.spec.min_replicas = 6;
    let contradicted = plan(&view, view.observed_until, &rng);
    assert_eq!(contradicted.replicas, 6);
    assert!(
        contradicted
            .report
            .to_string()
            .contains("at most 4 replicas contradicts at least 6")
    );
}

#[test]
fn a_load_that_stays_is_met_and_one_that_grows_is_met_before_it_comes() {
    let mut view = calm();
    view.spec.max_replicas = 100;
    // Ten a second, four seconds each: forty in service, five replicas of eight without a reserve.
    view.seconds = vec![
        Second {
            arrivals: 10,
            in_flight_ms: 40_000,
            ended: 10,
            ended_ms: 40_000,
            late: 0
        };
        120
    ];
    for _ in 0..1_000 {
        view.service.record(4_000);
    }
    view.in_flight = 40;
    view.replicas.ready = 6;
    let rng = PlanRng::from_seed(1);
    let steady = plan(&view, view.observed_until, &rng).replicas;
    assert!((6..=8).contains(&steady), "{steady}");
    // Twenty seconds of three times as many: chance does not explain that.
    for second in &mut view.seconds[100..] {
        second.arrivals = 30;
    }
    let growing = plan(&view, view.observed_until, &rng).replicas;
    assert!(growing >= 13, "{growing}");
}

#[test]
fn a_check_of_its_own_refuses() {
    let view = calm();
    let now = view.observed_until;
    let good = plan(&view, now, &PlanRng::from_seed(1));
    let too_many = AutoscalePlan {
        replicas: 5,
        ..good.clone()
    };
    assert_eq!(
        check(&view, &too_many, now)[0].to_string(),
        "5 replicas are more than the 4 allowed"
    );
    let busy = AutoscaleView {
        in_flight: 3,
        ..view
    };
    let stopped = AutoscalePlan {
        replicas: 0,
        ..good
    };
    assert_eq!(
        check(&busy, &stopped, now)[0].to_string(),
        "no replica is left for 3 requests in flight"
    );
}

#[test]
fn a_start_that_takes_forever_is_weighed_too() {
    let mut view = calm();
    view.spec.cold_start = DurationMs::from_millis(u64::MAX);
    view.spec.min_replicas = 0;
    let second = |number: u32| Second {
        arrivals: u32::from(number.is_multiple_of(2)),
        ..Second::default()
    };
    view.seconds = (0..2_001).map(second).collect();
    let plan = plan(&view, view.observed_until, &PlanRng::from_seed(1));
    assert_eq!(plan.report.notes, Vec::<String>::new());
}

#[test]
fn a_review_of_long_requests_ends() {
    let mut view = calm();
    view.spec.max_replicas = u32::MAX;
    view.spec.slots_per_replica = 1;
    for _ in 0..1_000 {
        view.service.record(3_600_000);
    }
    let second = Second {
        arrivals: 15,
        in_flight_ms: 5_000_000,
        ..Second::default()
    };
    view.seconds = vec![second; 3_600];
    view.in_flight = 54_000;
    let plan = plan(&view, view.observed_until, &PlanRng::from_seed(1));
    assert!(plan.replicas >= 50_000, "{}", plan.replicas);
}

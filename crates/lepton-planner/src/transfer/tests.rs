//! What holds for any view.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::PlanRng;

/// A network of a few regions; not every pair is linked.
fn network() -> impl Strategy<Value = Network> {
    (
        3..7_usize,
        prop::collection::vec((0.05..10.0_f64, 0.0..0.2_f64, any::<bool>()), 49),
        0.0..4.0_f64,
        1..6_u32,
    )
        .prop_map(|(regions, links, usd, machines_most)| {
            let name = |region: usize| format!("region-{region}");
            let mut found = BTreeMap::new();
            for from in 0..regions {
                for to in 0..regions {
                    let (gbps, usd_per_gb, linked) = links[from * 7 + to];
                    if linked || to == (from + 1) % regions {
                        found.insert((name(from), name(to)), Link { gbps, usd_per_gb });
                    }
                }
            }
            Network::of(&found, usd, machines_most)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn transfers_repeat_keep_the_rules_and_never_beat_the_bound(network in network(), gigabytes in 1.0..5_000.0_f64, gbps in 0.1..60.0_f64) {
        let view = TransferView { from: 0, to: 2, gigabytes, seconds_most: gigabytes * 8.0 / gbps, usd_most: None, network };
        let rng = PlanRng::from_seed(1);
        let exact = plan(&view, Method::Milp, &rng);
        for (_, method) in Method::ALL {
            let found = plan(&view, method, &rng);
            prop_assert_eq!(&plan(&view, method, &rng), &found);
            if let Ok((plan, report)) = found {
                prop_assert_eq!(check(&view, &plan), vec![]);
                prop_assert!(report.bound_usd <= plan.usd * (1.0 + 1e-6));
                // What a search finds, an exact method finds too, and no dearer.
                let (best, report) = exact.as_ref().unwrap();
                prop_assert!(report.nodes >= 400 || best.usd <= plan.usd * (1.0 + 1e-5), "{} {}", best.usd, plan.usd);
            }
        }
    }

    #[test]
    fn placements_repeat_keep_the_rules_and_never_beat_the_bound(
        network in network(),
        storage in prop::collection::vec(prop::option::weighted(0.8, 0.0..0.1_f64), 7),
        reads in prop::collection::btree_map(0..3_usize, 0.0..5_000.0_f64, 0..3),
        allowed in prop::collection::btree_set(0..7_usize, 0..4),
        gbps_least in 0.0..4.0_f64,
    ) {
        let regions = network.regions.len();
        let view = PlacementView {
            storage_usd_per_gb_month: storage[..regions].to_vec(),
            home: 1,
            gigabytes: 1_000.0,
            reads_gb_per_month: reads,
            allowed,
            gbps_least,
            months: 3.0,
            usd_most_per_month: None,
            network,
        };
        let rng = PlanRng::from_seed(1);
        for (_, method) in Method::ALL {
            let found = place(&view, method, &rng);
            prop_assert_eq!(&place(&view, method, &rng), &found);
            if let Ok(plan) = found {
                prop_assert_eq!(check_placement(&view, &plan), vec![]);
                prop_assert!(plan.bound_usd_per_month <= plan.usd_per_month);
                if method == Method::Lepton {
                    prop_assert!(plan.usd_per_month <= plan.bound_usd_per_month * (1.0 + 1e-6) + 1e-6);
                }
            }
        }
    }
}

/// a → c is slow; a → b → c is fast.
pub(super) fn triangle() -> Network {
    let link = |gbps, usd_per_gb| Link { gbps, usd_per_gb };
    let name = |text: &str| text.to_owned();
    let links = BTreeMap::from([
        ((name("a"), name("b")), link(5.0, 0.02)),
        ((name("b"), name("c")), link(5.0, 0.02)),
        ((name("a"), name("c")), link(1.0, 0.01)),
    ]);
    Network::of(&links, 0.0, 2)
}

fn transfer(seconds_most: f64) -> TransferView {
    TransferView {
        network: triangle(),
        from: 0,
        to: 2,
        gigabytes: 100.0,
        seconds_most,
        usd_most: None,
    }
}

#[test]
fn a_short_time_forces_a_detour_and_a_long_one_does_not() {
    let rng = PlanRng::from_seed(1);
    // 800 Gbit: two machines move 2 Gbit/s directly, in 400 s, for a dollar.
    let (slow, report) = plan(&transfer(400.0), Method::Milp, &rng).unwrap();
    assert!((slow.usd - 1.0).abs() < 1e-6, "{}", slow.usd);
    assert!(
        report.reason.starts_with("all of it on the direct link"),
        "{}",
        report.reason
    );
    // In 200 s, 4 Gbit/s: x direct keeps x machines busy and 4 − x over b (4 − x) / 5, two in all: x = 1.5.
    let (fast, report) = plan(&transfer(200.0), Method::Milp, &rng).unwrap();
    assert!(
        (fast.usd - 100.0 * (1.5 * 0.01 + 2.5 * 0.04) / 4.0).abs() < 1e-4,
        "{}",
        fast.usd
    );
    assert!(report.gap_pct < 1e-3);
    assert!(matches!(
        plan(&transfer(10.0), Method::Milp, &rng),
        Err(TransferError::TooFast { .. })
    ));
}

#[test]
fn contradictory_limits_and_senseless_amounts_are_said() {
    let rng = PlanRng::from_seed(1);
    let error = |view: &TransferView| plan(view, Method::Milp, &rng).unwrap_err().to_string();
    let dear = TransferView {
        usd_most: Some(0.5),
        ..transfer(400.0)
    };
    assert_eq!(
        error(&dear),
        "the cheapest way found costs $1.00 where $0.50 may be spent; none costs less than $1.00"
    );
    let nothing = TransferView {
        gigabytes: -4.0,
        ..transfer(400.0)
    };
    assert_eq!(
        error(&nothing),
        "the amount of data must be a number above zero, not `-4`"
    );
    let nowhere = TransferView {
        from: 2,
        to: 0,
        ..transfer(400.0)
    };
    assert_eq!(
        error(&nowhere),
        "no link leads from `c` to `a`, even over others"
    );
    assert_eq!(
        error(&TransferView {
            to: 0,
            ..transfer(400.0)
        }),
        "the transfer has no two ends in the network"
    );
    let mut negative = transfer(400.0);
    negative.network.links[0].2.usd_per_gb = -1.0;
    assert_eq!(error(&negative), "the network cannot be planned on");
}

#[test]
fn a_check_of_its_own_refuses() {
    let view = transfer(400.0);
    let (good, _) = plan(&view, Method::Milp, &PlanRng::from_seed(1)).unwrap();
    let mut few = good.clone();
    few.machines.insert(0, 1);
    assert!(matches!(
        check(&view, &few)[0],
        Finding::Overloaded { region: 0, .. }
    ));
    let mut lost = good;
    lost.flows.push((0, 1, 1.0));
    assert!(
        check(&view, &lost)
            .iter()
            .any(|finding| matches!(finding, Finding::Unbalanced { .. }))
    );
}

#[test]
fn copies_are_kept_where_they_save_more_than_they_cost() {
    let mut view = PlacementView {
        network: triangle(),
        storage_usd_per_gb_month: vec![Some(0.01); 3],
        home: 0,
        gigabytes: 1_000.0,
        reads_gb_per_month: BTreeMap::from([(2, 100.0)]),
        allowed: BTreeSet::new(),
        gbps_least: 0.0,
        months: 1.0,
        usd_most_per_month: None,
    };
    let rng = PlanRng::from_seed(1);
    // Ten dollars to keep it at home, one to read it from there.
    let rare = place(&view, Method::Lepton, &rng).unwrap();
    assert_eq!(
        (rare.copies, rare.usd_per_month),
        (BTreeSet::from([0]), 11.0)
    );
    // Ten terabytes read would cost a hundred: moved to its reader it is ten to keep and ten to move.
    view.reads_gb_per_month.insert(2, 10_000.0);
    let often = place(&view, Method::Lepton, &rng).unwrap();
    assert_eq!(
        (often.copies, often.usd_per_month),
        (BTreeSet::from([2]), 20.0)
    );
    // If it may not leave, it is read from home all the same; if the link is too slow, that is said.
    view.allowed = BTreeSet::from([0]);
    assert_eq!(
        place(&view, Method::Lepton, &rng).unwrap().usd_per_month,
        110.0
    );
    view.gbps_least = 2.0;
    assert_eq!(
        place(&view, Method::Lepton, &rng).unwrap_err().to_string(),
        "`c` can be served by no copy that is allowed and fast enough"
    );
}

//! What holds for any view.

use lepton_types::{DurationMs, Timestamp};
use proptest::prelude::*;
use rand::Rng as _;

use super::*;
use crate::PlanRng;
use crate::simulate::buying::{Availability, Policy, Scenario, run_job, simulate};

const HOUR_MS: u64 = 3_600_000;

/// A zone whose ups and downs last from minutes to days: a month of them.
fn zone(seed: u64) -> Availability {
    let mut rng = PlanRng::from_seed(seed).stream("test zone", 0);
    let mut up = Vec::new();
    let mut state = rng.random::<bool>();
    let (up_scale, down_scale) = (
        2_f64.powf(rng.random_range(2.0..8.0)),
        2_f64.powf(rng.random_range(2.0..8.0)),
    );
    while up.len() < 13_000 {
        let scale = if state { up_scale } else { down_scale };
        let long = (scale * 8_f64.powf(rng.random_range(-1.0..1.0))).max(1.0);
        for _ in 0..usize::try_from(long as u64).unwrap() {
            up.push(state);
        }
        state = !state;
    }
    Availability {
        tick: DurationMs::from_secs(195),
        up,
    }
}

fn scenario(deadline_h: u64) -> Scenario {
    Scenario {
        work: DurationMs::from_millis(24 * HOUR_MS),
        deadline: DurationMs::from_millis(deadline_h * HOUR_MS),
        changeover: DurationMs::from_secs(720),
        on_demand_usd_per_hour: 3.0,
        spot_usd_per_hour: 1.0,
        starts: 2,
    }
}

#[test]
fn no_deadline_is_missed_and_nothing_is_cheaper_than_the_optimum_in_100_months_of_faults() {
    for seed in 0..100 {
        let zone = zone(seed);
        let scenario = scenario([25, 27, 32][usize::try_from(seed % 3).unwrap()]);
        for (name, policy) in Policy::ALL {
            let figures = simulate(
                &scenario,
                std::slice::from_ref(&zone),
                policy,
                &mut |_, _| {},
            )
            .unwrap();
            assert_eq!(figures.missed, 0, "{name}, seed {seed}");
            assert!(
                figures.cost_vs_on_demand >= figures.optimum_vs_on_demand - 1e-9,
                "{name}, seed {seed}"
            );
        }
    }
}

#[test]
fn ours_is_cheaper_than_the_published_rules_over_zones_it_has_not_seen() {
    let zones: Vec<Availability> = (200..212).map(zone).collect();
    let cost = |policy| {
        simulate(&scenario(28), &zones, policy, &mut |_, _| {})
            .unwrap()
            .cost_vs_on_demand
    };
    let ours = cost(Policy::Lepton);
    assert!(ours < cost(Policy::Greedy), "{ours}");
    assert!(ours < cost(Policy::UniformProgress), "{ours}");
}

fn offer() -> impl Strategy<Value = Offer> {
    (
        0.2..4.0_f64,
        0.0..10.0_f64,
        prop::option::of(0.0..10.0_f64),
        prop::collection::vec(any::<bool>(), 0..60),
    )
        .prop_map(|(speed, on_demand, spot, samples)| {
            let mut history = SpotHistory::default();
            for up in samples {
                history.observe(up);
            }
            Offer {
                name: "offer".to_owned(),
                speed,
                on_demand_usd_per_hour: on_demand,
                spot_usd_per_hour: spot,
                history,
            }
        })
}

fn view() -> impl Strategy<Value = JobView> {
    (
        prop::collection::vec(offer(), 0..4),
        0..40_u64,
        0..40_u64,
        0..4_000_u64,
        prop::option::of((0..4_usize, any::<bool>())),
    )
        .prop_map(|(offers, work_h, left_h, changeover_s, running)| {
            let running = running
                .filter(|(offer, spot)| {
                    offers
                        .get(*offer)
                        .is_some_and(|offer| !spot || offer.spot_is_up())
                })
                .map(|(offer, spot)| Purchase {
                    offer,
                    mode: if spot { Mode::Spot } else { Mode::OnDemand },
                });
            JobView {
                work_left: DurationMs::from_millis(work_h * HOUR_MS),
                deadline: Timestamp::from_millis(i64::try_from(left_h * HOUR_MS).unwrap()),
                changeover: DurationMs::from_secs(changeover_s),
                changeover_left: DurationMs::ZERO,
                tick: DurationMs::from_secs(300),
                running,
                offers,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_plan_repeats_and_is_never_refused(view in view()) {
        let now = Timestamp::from_millis(0);
        let first = plan(&view, now);
        prop_assert_eq!(check(&view, &first, now), vec![]);
        prop_assert_eq!(plan(&view, now), first.clone());
        // What is planned is what goes on once it runs.
        let applied = JobView { running: first.purchase, changeover_left: if first.purchase == view.running { view.changeover_left } else { view.changeover }, ..view };
        prop_assert_eq!(check(&applied, &plan(&applied, now), now), vec![]);
    }
}

#[test]
fn bad_offers_and_deadlines_are_said() {
    let mut history = SpotHistory::default();
    history.observe(true);
    let offer = |on_demand, spot| Offer {
        name: "v100 in us-east".to_owned(),
        speed: 1.0,
        on_demand_usd_per_hour: on_demand,
        spot_usd_per_hour: Some(spot),
        history: history.clone(),
    };
    let mut view = JobView {
        work_left: DurationMs::from_millis(HOUR_MS),
        deadline: Timestamp::from_millis(1_800_000),
        changeover: DurationMs::from_secs(60),
        changeover_left: DurationMs::ZERO,
        tick: DurationMs::from_secs(60),
        running: None,
        offers: vec![offer(3.0, -1.0), offer(3.0, 1.0)],
    };
    let report = plan(&view, Timestamp::from_millis(0)).report.to_string();
    assert_eq!(
        report,
        "as fast as can be: the deadline will be missed by 31m; `v100 in us-east` has no spot price that can be paid: -1"
    );
    // A clock that has jumped past the deadline.
    let late = plan(&view, Timestamp::from_millis(i64::MAX));
    assert!(matches!(late.report.cause, Cause::TooLate { .. }));
    view.offers.clear();
    assert_eq!(
        plan(&view, Timestamp::from_millis(0)).report.to_string(),
        "no offer can be bought"
    );
}

#[test]
fn spot_that_never_ends_is_taken_and_waiting_is_not_paid() {
    let zone = Availability {
        tick: DurationMs::from_secs(300),
        up: vec![true; 600],
    };
    let run = run_job(&scenario(30), &zone, &[], 0, Policy::Lepton);
    assert_eq!((run.missed, run.changeovers), (false, 1));
    assert!((run.usd - 24.2).abs() < 1e-6, "{}", run.usd);
}

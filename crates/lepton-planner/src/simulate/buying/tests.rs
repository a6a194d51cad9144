//! Files and scenarios that make no sense.

use super::*;

#[test]
fn bad_availability_is_named() {
    let error = |text: &str| read_availability(text).unwrap_err().to_string();
    assert_eq!(
        error(r#"{"metadata": {"gap_seconds": 195}, "data": [0, 1, 2]}"#),
        "line 1: sample 3 is neither 0 nor 1: `2`"
    );
    assert_eq!(
        error(r#"{"metadata": {"gap_seconds": -5}, "data": []}"#),
        "line 1: `gap_seconds` is not between a second and a day: `-5`"
    );
    assert!(error("{\n\"metadata\": 3}").starts_with("line 2: "));
}

#[test]
fn scenarios_that_make_no_sense_are_refused() {
    let zone = Availability {
        tick: DurationMs::from_secs(195),
        up: vec![true; 2_000],
    };
    let good = Scenario {
        work: DurationMs::from_secs(48 * 3_600),
        deadline: DurationMs::from_secs(52 * 3_600),
        changeover: DurationMs::from_secs(720),
        on_demand_usd_per_hour: 3.06,
        spot_usd_per_hour: 0.918,
        starts: 2,
    };
    let error = |scenario: Scenario| {
        simulate(
            &scenario,
            std::slice::from_ref(&zone),
            Policy::Lepton,
            &mut |_, _| {},
        )
        .unwrap_err()
        .to_string()
    };
    assert_eq!(
        error(Scenario {
            spot_usd_per_hour: -0.1,
            ..good
        }),
        "the spot price is not a number of zero or more: `-0.1`"
    );
    assert_eq!(
        error(Scenario {
            deadline: good.work,
            ..good
        }),
        "work of 2d and a changeover of 12m do not fit before a deadline of 2d"
    );
    assert_eq!(
        error(Scenario {
            deadline: DurationMs::from_secs(800 * 3_600),
            ..good
        }),
        "a trace of 2000 samples is shorter than the deadline, 14769 samples"
    );
}

//! Small needs whose answers are known, and every choice tried by hand.

use super::search::relaxed;
use super::*;
use proptest::prelude::*;

fn kind(name: &str, count: u32, usd_per_hour: f64, has: &[f64]) -> Kind {
    Kind {
        name: name.to_owned(),
        count,
        usd_per_hour,
        has: has.to_vec(),
    }
}

fn load(needs: &[f64], allowed: &[bool]) -> Load {
    Load {
        name: "batch".to_owned(),
        needs: needs.to_vec(),
        allowed: allowed.to_vec(),
    }
}

#[test]
fn parts_of_machines_cannot_be_had() {
    // Two large for 10 hold 8; the relaxation takes one and a quarter of them.
    let need = Need {
        kinds: vec![
            kind("large", 9, 10.0, &[4.0]),
            kind("small", 9, 3.0, &[1.0]),
        ],
        loads: vec![load(&[5.0], &[true, true])],
    };
    let fleet = cheapest(&need).unwrap();
    assert_eq!(fleet.machines, [1, 1]);
    let proof = fleet.verify(&need);
    assert!(proof.complete && proof.overstep < 1e-6, "{proof:?}");
    assert!(proof.gap_usd_per_hour < 1e-3, "{proof:?}");
    assert_eq!(
        fleet.in_words(&need),
        ["a hundredth less of `batch` would save 0.12 dollars an hour"]
    );
    // A proof that forgets a box, or whose prices are too low, proves less.
    let mut forgot = fleet.clone();
    forgot.proof.pop();
    assert!(!forgot.verify(&need).complete || fleet.proof.len() == 1);
    let mut cheap = fleet;
    for leaf in &mut cheap.proof {
        leaf.prices = vec![vec![0.0]; 2];
    }
    assert!(cheap.verify(&need).gap_usd_per_hour > 1.0);
}

#[test]
fn what_cannot_be_held_is_said() {
    let words = |kinds: Vec<Kind>, loads: Vec<Load>| {
        cheapest(&Need { kinds, loads }).unwrap_err().to_string()
    };
    let one = || vec![kind("a", 1, 1.0, &[1.0])];
    let too_few = "not even all the machines that can be had suffice";
    assert_eq!(words(one(), vec![load(&[2.0], &[true])]), too_few);
    assert_eq!(words(one(), vec![load(&[1.0], &[false])]), too_few);
    assert_eq!(
        words(one(), vec![load(&[1.0, 2.0], &[true])]),
        "`batch` gives 2 amounts where 1 are expected"
    );
    assert_eq!(
        words(vec![kind("a", 1, -1.0, &[1.0])], vec![]),
        "`a` has an amount of -1, and must have numbers that are not negative"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn nothing_that_can_be_tried_is_cheaper(
        kinds in prop::collection::vec((0..4_u32, 1..9_u8, 0..5_u8, 0..5_u8), 1..4),
        loads in prop::collection::vec((0..7_u8, 0..7_u8, 0..8_u8), 1..3),
    ) {
        let need = Need {
            kinds: kinds
                .iter()
                .map(|(n, usd, a, b)| kind("k", *n, f64::from(*usd), &[f64::from(*a), f64::from(*b)]))
                .collect(),
            loads: loads
                .iter()
                .map(|(a, b, yes)| {
                    let allowed: Vec<bool> = (0..kinds.len()).map(|k| yes >> k & 1 == 1).collect();
                    load(&[f64::from(*a), f64::from(*b)], &allowed)
                })
                .collect(),
        };
        // Every choice, by hand.
        let mut choices = vec![Vec::new()];
        for (count, ..) in &kinds {
            choices = choices
                .into_iter()
                .flat_map(|choice| (0..=*count).map(move |n| [&choice[..], &[n]].concat()))
                .collect();
        }
        let suffices = |choice: &Vec<u32>| {
            let within: Vec<(u32, u32)> = choice.iter().map(|n| (*n, *n)).collect();
            relaxed(&need, &within).is_some()
        };
        let least = choices
            .iter()
            .filter(|choice| suffices(choice))
            .map(|choice| need.cost(choice))
            .min_by(f64::total_cmp);
        match (cheapest(&need), least) {
            (Ok(fleet), Some(least)) => {
                prop_assert!((fleet.usd_per_hour - least).abs() < 1e-6, "{fleet:?} {least}");
                let proof = fleet.verify(&need);
                prop_assert!(proof.complete && proof.overstep < 1e-6, "{proof:?}");
                prop_assert!(proof.gap_usd_per_hour < 1e-3 * (1.0 + least), "{proof:?} {fleet:?}");
            }
            (Err(NeedError::Infeasible), None) => {}
            (found, least) => prop_assert!(false, "{found:?} {least:?}"),
        }
    }
}

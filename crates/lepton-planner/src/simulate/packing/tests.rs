//! Replays of small pools, and lines that make no sense.

use super::*;
use rand::Rng as _;

/// A small pool and a mix that fills it badly if it is not watched.
fn trace(seed: u64) -> Trace {
    let mut random = PlanRng::from_seed(seed).stream("trace", 0);
    let machine = |gpus| Machine {
        cpu_milli: 96_000,
        memory_mib: 400_000,
        gpus,
        model: 0,
    };
    let task = |gpu_milli| Task {
        cpu_milli: 4_000,
        memory_mib: 8_192,
        gpus: 1,
        gpu_milli,
        models: 0,
    };
    let tasks: Vec<Task> = [700, 700, 300, 500, 400, 1_000].map(task).to_vec();
    let arrivals = (0..600)
        .map(|_| random.random_range(0..tasks.len()))
        .collect();
    let machines: Vec<Machine> = (0..40)
        .map(|number| machine([8, 4, 2][number % 3]))
        .collect();
    Trace {
        ranks: (0..40).collect(),
        machines,
        tasks,
        arrivals,
    }
}

fn at_100(trace: &Trace, policy: Policy) -> f64 {
    trace
        .replay(policy, &PlanRng::from_seed(1), |_| {})
        .allocated_pct[&100]
}

#[test]
fn nothing_exceeds_the_bound_and_ours_is_no_worse_than_the_published() {
    let mut means: BTreeMap<&str, f64> = BTreeMap::new();
    for seed in 0..10 {
        let trace = trace(seed);
        let (bound, certificate) = trace.bound_at_100().unwrap();
        assert!(certificate.violation < 1e-3, "{certificate:?}");
        for policy in Policy::ALL {
            let allocated = at_100(&trace, policy);
            // The last percent of arrivals may stand for half a percent more than the bound's.
            assert!(
                allocated <= bound + 0.5,
                "seed {seed}: {allocated} of {bound}"
            );
            *means.entry(policy.name()).or_default() += allocated / 10.0;
        }
    }
    let best = means.values().copied().fold(0.0, f64::max);
    assert!(means["lepton"] > best - 0.5, "{means:?}");
}

#[test]
fn a_replay_repeats() {
    let trace = trace(7);
    for policy in Policy::ALL {
        let replay = || trace.replay(policy, &PlanRng::from_seed(3), |_| {});
        assert_eq!(replay(), replay());
    }
}

#[test]
fn bad_lines_are_named() {
    let machines = |text: &str| {
        let header = "sn,cpu_milli,memory_mib,gpu,model\n";
        parse_machines(&format!("{header}{text}"), &mut Models::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        machines("a,1,1,1,T4\nb,x,1,1,T4"),
        "line 3: `cpu_milli` is not a whole number: `x`"
    );
    assert_eq!(machines("a,0,1,1,T4"), "line 2: the node has no processors");
    assert_eq!(machines("a,1,1,99,T4"), "line 2: `gpu` is 99, more than 16");
    assert_eq!(
        machines("a,-1,1,1,T4"),
        "line 2: `cpu_milli` is negative: `-1`"
    );
    assert_eq!(machines("a,1"), "line 2: the field `gpu` is missing");
    assert_eq!(machines(""), "line 2: there are no nodes");
    let tasks = |text: &str| {
        let header = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n";
        parse_tasks(&format!("{header}{text}"), &mut Models::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        tasks("p,1,1,2,500"),
        "line 2: a part of more than one gpu is asked for"
    );
    assert_eq!(
        tasks("p,1,1,0,500"),
        "line 2: `num_gpu` and `gpu_milli` contradict each other"
    );
    let arrivals = |text| parse_arrivals(text, 2, 1).unwrap_err().to_string();
    assert_eq!(
        arrivals("nodeperm 0 0\npods 0"),
        "line 1: the node 0 stands twice"
    );
    assert_eq!(
        arrivals("nodeperm 0 1\npods 5"),
        "line 2: the index 5 is not under 1"
    );
    assert_eq!(
        arrivals("nodeperm 0 1"),
        "line 2: the line is missing: a label and numbers"
    );
    assert!(arrivals("nodeperm 0 1\npods").starts_with("line 2: nothing arrives"));
    assert_eq!(
        machines("a,1,1,1,T4\na,1,1,1,T4"),
        "line 3: the node `a` stands twice"
    );
    assert_eq!(tasks("p,1,1,1,500,"), "line 2: 6 fields where 5 belong");
}

#[test]
fn what_nothing_can_be_measured_on_is_said() {
    let trace = trace(1);
    let mut without = trace.clone();
    without
        .machines
        .iter_mut()
        .for_each(|machine| machine.gpus = 0);
    assert_eq!(without.validate(), Err(TraceFault::NoGpus));
    assert_eq!(without.never_fit(), 600);
    let mut idle = trace.clone();
    idle.arrivals.clear();
    assert_eq!(idle.validate(), Err(TraceFault::NothingAsked));
    assert_eq!((trace.validate(), trace.never_fit()), (Ok(()), 0));
    assert!(matches!(
        trace.replicated(u32::MAX),
        Err(TraceFault::TooLarge { .. })
    ));
    let twice = trace.replicated(2).unwrap();
    assert_eq!((twice.machines.len(), twice.arrivals.len()), (80, 1_200));
}

//! Replays of small pools, and logs that make no sense.

use super::*;
use crate::PlanRng;
use crate::queueing::Policy;
use rand::Rng as _;

const SETTING: Setting = Setting {
    gpus: 16,
    gpus_per_node: 8,
    checkpoint_s: 60.0,
};

/// Two groups: one whose jobs are short, one whose jobs are long; more than there is room for.
fn log(seed: u64) -> Vec<Job> {
    let mut random = PlanRng::from_seed(seed).stream("log", 0);
    let mut submit_s = 0.0;
    let job = |_: usize| {
        submit_s += random.random_range(0.0..120.0);
        let long = random.random_bool(0.2);
        let spread: f64 = random.random_range(0.5..2.0);
        Job {
            submit_s,
            duration_s: spread * if long { 4_000.0 } else { 300.0 },
            gpus: [1, 1, 2, 4, 8, 16][random.random_range(0..6)],
            virtual_cluster: if long { "long" } else { "short" }.to_owned(),
            line: 1,
        }
    };
    (0..600).map(job).collect()
}

#[test]
fn ours_learns_who_is_short_and_comes_near_the_oracle() {
    let means: Vec<f64> = Policy::ALL
        .into_iter()
        .map(|policy| {
            replay(&log(1), &SETTING, policy, |_| {})
                .unwrap()
                .jct_mean_s
        })
        .collect();
    let [fifo, backfill, attained, oracle, ours] = means[..] else {
        panic!()
    };
    assert!(oracle < ours && ours < 1.5 * oracle, "{means:?}");
    assert!(
        ours < attained && attained < fifo && backfill < fifo,
        "{means:?}"
    );
}

#[test]
fn a_lone_job_waits_for_nothing_and_the_first_comes_first() {
    let job = |submit_s, duration_s, gpus| Job {
        submit_s,
        duration_s,
        gpus,
        virtual_cluster: "a".to_owned(),
        line: 1,
    };
    let outcome = |jobs: &[Job], policy| replay(jobs, &SETTING, policy, |_| {}).unwrap();
    for policy in Policy::ALL {
        let lone = outcome(&[job(5.0, 100.0, 16)], policy);
        assert_eq!(
            (lone.jct_mean_s, lone.wait_mean_s, lone.makespan_s),
            (100.0, 0.0, 100.0)
        );
    }
    // 16, then 16: the second waits for the first; a job of 12 leaves no room for one of 8.
    let jobs = [job(0.0, 100.0, 16), job(0.0, 50.0, 12), job(1.0, 10.0, 8)];
    assert_eq!(outcome(&jobs, Policy::Fifo).makespan_s, 160.0);
    // The oracle lets the shortest go first, once the first has run its least time.
    assert_eq!(outcome(&jobs, Policy::ShortestRemaining).makespan_s, 160.0);
}

#[test]
fn a_stop_costs_a_checkpoint_and_loses_no_work() {
    let jobs = |long, short| {
        let job = |submit_s, duration_s| Job {
            submit_s,
            duration_s,
            gpus: 16,
            virtual_cluster: "a".to_owned(),
            line: 1,
        };
        [job(0.0, long), job(500.0, short)]
    };
    let outcome = replay(
        &jobs(1_000.0, 10.0),
        &SETTING,
        Policy::ShortestRemaining,
        |_| {},
    );
    let outcome = outcome.unwrap();
    assert_eq!(
        (outcome.preemptions, outcome.makespan_s),
        (1, 1_000.0 + 10.0 + 60.0)
    );
}

#[test]
fn contradictions_are_said() {
    let empty = Setting {
        gpus_per_node: 0,
        ..SETTING
    };
    let words = |setting: &Setting, jobs: &[Job]| {
        replay(jobs, setting, Policy::Fifo, |_| {})
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        words(&empty, &log(1)),
        "the pool has no gpus: `16` in nodes of `0`; both must be above zero"
    );
    let mut jobs = log(1);
    jobs[2].gpus = 17;
    assert_eq!(
        words(&SETTING, &jobs),
        "line 1: the job asks for 17 gpus, and the pool has 16"
    );
    let bad = |row: &str| {
        let text = format!("submit_s,duration_s,gpus,virtual_cluster\n0,1,1,a\n{row}");
        parse_jobs(&text).unwrap_err().to_string()
    };
    let many = Setting {
        gpus: u32::MAX,
        gpus_per_node: 1,
        ..SETTING
    };
    assert!(words(&many, &log(1)).contains("more than 100000 nodes"));
    assert_eq!(
        bad("0,1,0,a"),
        "line 3: `gpus` is not between 1 and 4294967295: `0`"
    );
    assert_eq!(bad("0,1,-4,a"), "line 3: `gpus` is negative: `-4`");
    assert_eq!(bad("0,1,1,a,"), "line 3: 5 fields where 4 belong");
    assert_eq!(
        bad("0,1e300,1,a"),
        "line 3: `duration_s` is more than 10000000000: `1e300`"
    );
    assert_eq!(
        bad("9,1,1,a\n2.5,1,1,a"),
        "line 4: the clock goes back by 6.5 s: sort the jobs by `submit_s`"
    );
    assert_eq!(
        parse_jobs("\u{1b}[31m").unwrap_err().to_string(),
        "line 1: the header `submit_s,duration_s,gpus,virtual_cluster` is expected, not `\\u{1b}[31m`"
    );
    assert_eq!(bad("0,-1,1,a"), "line 3: `duration_s` is negative: `-1`");
    assert_eq!(
        bad("NaN,1,1,a"),
        "line 3: `submit_s` is not a number: `NaN`"
    );
    assert_eq!(
        bad("0,1,1"),
        "line 3: the field `virtual_cluster` is missing"
    );
}

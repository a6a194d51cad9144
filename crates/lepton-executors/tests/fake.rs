//! The executor of the simulation keeps the promises that all executors keep, and repeats itself.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "its steps are functions shared by tests"
)]

mod suite;

use std::collections::BTreeMap;
use std::sync::Arc;

use lepton_executors::{
    Executor, ExitOutcome, FakeConfig, FakeExecutor, FakeScript, Observation, Program, WorkloadId,
    WorkloadSpec,
};
use lepton_types::{DurationMs, Id, ManualClock, Timestamp};
use proptest::prelude::*;
use suite::{Behaviour, Ground};

struct Fake {
    clock: Arc<ManualClock>,
    executor: FakeExecutor,
}

impl Fake {
    fn new(config: FakeConfig) -> Self {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_millis(1_000)));
        let executor = FakeExecutor::scripted(config, clock.clone(), script);
        Self { clock, executor }
    }
}

/// Reads what [`Fake::program`] wrote.
fn script(spec: &WorkloadSpec) -> Option<FakeScript> {
    let Program::Command(words) = &spec.program else {
        return None;
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (runs_for, outcome, stubborn) = match words.as_slice() {
        ["exit", code] => (Some(10), ExitOutcome::Code(code.parse().ok()?), false),
        ["until-asked"] => (None, ExitOutcome::Code(0), false),
        ["stubborn"] => (None, ExitOutcome::Code(0), true),
        ["missing"] => (
            None,
            ExitOutcome::CouldNotStart("command `x` not found".into()),
            false,
        ),
        _ => return None,
    };
    Some(FakeScript {
        starts_after: DurationMs::from_millis(20),
        runs_for: runs_for.map(DurationMs::from_millis),
        outcome,
        lost_after: None,
        stubborn,
        stdout: b"hello\n".to_vec(),
        files: BTreeMap::new(),
    })
}

impl Ground for Fake {
    fn executor(&self) -> &dyn Executor {
        &self.executor
    }

    fn program(&self, behaviour: Behaviour) -> Program {
        let text = match behaviour {
            Behaviour::Exit(code) => format!("exit {code}"),
            Behaviour::UntilAsked => "until-asked".to_owned(),
            Behaviour::Stubborn => "stubborn".to_owned(),
            Behaviour::Missing => "missing".to_owned(),
        };
        Program::Command(text.split(' ').map(str::to_owned).collect())
    }

    fn until(&self, id: WorkloadId, wanted: &dyn Fn(&Observation) -> bool) -> Observation {
        for _ in 0..10_000 {
            let seen = self.executor.observe().unwrap().remove(&id);
            if let Some(seen) = seen.filter(|seen| wanted(seen)) {
                return seen;
            }
            self.clock.advance(DurationMs::from_millis(1));
        }
        panic!("{id} never got there");
    }
}

#[test]
fn it_keeps_every_promise_of_the_seam() {
    for (name, promise) in suite::ALL {
        println!("{name}");
        promise(&Fake::new(FakeConfig::default()));
    }
}

/// Starts workers until each start is acknowledged, and watches them to their ends.
fn history(config: FakeConfig, count: u32) -> Vec<BTreeMap<WorkloadId, Observation>> {
    let fake = Fake::new(config);
    for rank in 0..count {
        let attempt = Id::from_parts(Timestamp::from_millis(5), [7; 10]);
        let spec = WorkloadSpec {
            id: WorkloadId { attempt, rank },
            ..suite::spec(Program::Builtin(Vec::new()))
        };
        while fake.executor.start(&spec).is_err() {}
    }
    assert!(fake.executor.starts().values().all(|starts| *starts == 1));
    let mut seen = Vec::new();
    while let Some(next) = fake.executor.next_change() {
        let now = lepton_types::Clock::now(&*fake.clock);
        fake.clock.advance(next.since(now));
        seen.extend(fake.executor.observe());
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_seed_repeats_and_ends_do_not_change(seed: u64, count in 1_u32..20) {
        let config = FakeConfig { seed, failing: 200, lost: 200, unavailable: 200, ..FakeConfig::default() };
        let first = history(config.clone(), count);
        prop_assert_eq!(&first, &history(config, count));
        for pair in first.windows(2) {
            for (id, before) in pair[0].iter().filter(|(_, seen)| seen.is_final()) {
                prop_assert_eq!(&pair[1][id], before);
            }
        }
    }
}

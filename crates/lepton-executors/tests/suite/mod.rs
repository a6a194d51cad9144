//! What every executor must do, whatever it runs workers on. Each function is one promise of the
//! seam; a `Ground` gives it workers that behave in a known way.

use std::collections::BTreeMap;

use lepton_executors::{
    Executor, ExitOutcome, LogStream, Observation, Program, ReadError, RemoveError, StopReason,
    WorkloadId, WorkloadSpec,
};
use lepton_types::{DurationMs, Id, IdSource, Resources, SystemIds};

/// What a worker does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    /// Prints `hello` and a newline, then returns the code.
    Exit(i32),
    /// Runs until it is asked to stop, and then stops.
    UntilAsked,
    /// Runs on when it is asked to stop.
    Stubborn,
    /// Names a command that does not exist.
    Missing,
}

/// An executor under test.
pub(crate) trait Ground {
    /// The executor.
    fn executor(&self) -> &dyn Executor;
    /// A program that behaves so.
    fn program(&self, behaviour: Behaviour) -> Program;
    /// Lets time pass until the worker is seen as wanted; panics if that never happens.
    fn until(&self, id: WorkloadId, wanted: &dyn Fn(&Observation) -> bool) -> Observation;
}

/// A specification with nothing special in it.
pub(crate) fn spec(program: Program) -> WorkloadSpec {
    WorkloadSpec {
        id: WorkloadId {
            attempt: fresh_id(),
            rank: 0,
        },
        project: "default".parse().unwrap(),
        name: "conformance".to_owned(),
        program,
        inputs: Vec::new(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        resources: Resources::ZERO,
        timeout: None,
        grace: DurationMs::from_millis(200),
        ports: Vec::new(),
        log_bytes_max: 1 << 20,
    }
}

fn fresh_id() -> Id {
    SystemIds.next_id()
}

/// The outcome of a worker once it has one.
pub(crate) fn outcome(ground: &dyn Ground, id: WorkloadId) -> ExitOutcome {
    match ground.until(id, &Observation::is_final) {
        Observation::Exited { outcome, .. } => outcome,
        other => panic!("{id} was to exit, but is {other:?}"),
    }
}

/// A promise of the seam.
pub(crate) type Promise = fn(&dyn Ground);

/// Every promise, by name.
pub(crate) const ALL: [(&str, Promise); 9] = [
    ("codes_are_true", codes_are_true),
    (
        "a_second_start_changes_nothing",
        a_second_start_changes_nothing,
    ),
    ("stopping_tells_the_reason", stopping_tells_the_reason),
    ("stubborn_workers_are_killed", stubborn_workers_are_killed),
    ("timeouts_end_workers", timeouts_end_workers),
    (
        "missing_commands_could_not_start",
        missing_commands_could_not_start,
    ),
    ("logs_are_read_by_cursor", logs_are_read_by_cursor),
    ("only_the_ended_are_removed", only_the_ended_are_removed),
    ("ports_are_distinct", ports_are_distinct),
];

fn start(ground: &dyn Ground, behaviour: Behaviour) -> WorkloadId {
    let spec = spec(ground.program(behaviour));
    ground.executor().start(&spec).unwrap();
    spec.id
}

fn running(ground: &dyn Ground, id: WorkloadId) -> Observation {
    ground.until(id, &|seen| matches!(seen, Observation::Running { .. }))
}

fn codes_are_true(ground: &dyn Ground) {
    for code in [0, 1, 42, 255] {
        let id = start(ground, Behaviour::Exit(code));
        assert_eq!(outcome(ground, id), ExitOutcome::Code(code));
    }
}

fn a_second_start_changes_nothing(ground: &dyn Ground) {
    let spec = spec(ground.program(Behaviour::UntilAsked));
    ground.executor().start(&spec).unwrap();
    let first = running(ground, spec.id);
    ground.executor().start(&spec).unwrap();
    assert_eq!(running(ground, spec.id), first);
    ground
        .executor()
        .stop(spec.id, StopReason::Unneeded)
        .unwrap();
    outcome(ground, spec.id);
    ground.executor().start(&spec).unwrap();
    assert!(ground.executor().observe().unwrap()[&spec.id].is_final());
}

fn stopping_tells_the_reason(ground: &dyn Ground) {
    let id = start(ground, Behaviour::UntilAsked);
    running(ground, id);
    ground.executor().stop(id, StopReason::Preempted).unwrap();
    ground.executor().stop(id, StopReason::Cancelled).unwrap();
    assert_eq!(
        outcome(ground, id),
        ExitOutcome::Stopped(StopReason::Preempted)
    );
    ground.executor().stop(id, StopReason::Cancelled).unwrap();
    assert_eq!(
        outcome(ground, id),
        ExitOutcome::Stopped(StopReason::Preempted)
    );
    let nobody = WorkloadId {
        attempt: fresh_id(),
        rank: 7,
    };
    ground
        .executor()
        .stop(nobody, StopReason::Cancelled)
        .unwrap();
}

fn stubborn_workers_are_killed(ground: &dyn Ground) {
    let id = start(ground, Behaviour::Stubborn);
    running(ground, id);
    ground.executor().stop(id, StopReason::Cancelled).unwrap();
    assert_eq!(
        outcome(ground, id),
        ExitOutcome::Stopped(StopReason::Cancelled)
    );
}

fn timeouts_end_workers(ground: &dyn Ground) {
    let after = DurationMs::from_millis(300);
    let spec = WorkloadSpec {
        timeout: Some(after),
        ..spec(ground.program(Behaviour::UntilAsked))
    };
    ground.executor().start(&spec).unwrap();
    assert_eq!(outcome(ground, spec.id), ExitOutcome::TimedOut { after });
}

fn missing_commands_could_not_start(ground: &dyn Ground) {
    let id = start(ground, Behaviour::Missing);
    match outcome(ground, id) {
        ExitOutcome::CouldNotStart(why) => assert!(why.contains("not found"), "{why}"),
        other => panic!("{other:?}"),
    }
}

fn logs_are_read_by_cursor(ground: &dyn Ground) {
    let id = start(ground, Behaviour::Exit(0));
    outcome(ground, id);
    let executor = ground.executor();
    let head = executor.read_log(id, LogStream::Stdout, 0, 2).unwrap();
    assert_eq!(
        (head.bytes.as_slice(), head.next, head.end),
        (&b"he"[..], 2, false)
    );
    let rest = executor
        .read_log(id, LogStream::Stdout, head.next, 100)
        .unwrap();
    assert_eq!(
        (rest.bytes.as_slice(), rest.next, rest.end),
        (&b"llo\n"[..], 6, true)
    );
    assert!(!rest.truncated);
    let empty = executor.read_log(id, LogStream::Stderr, 0, 100).unwrap();
    assert!(empty.bytes.is_empty() && empty.end);
    let nobody = WorkloadId {
        attempt: fresh_id(),
        rank: 0,
    };
    let unknown = executor.read_log(nobody, LogStream::Stdout, 0, 1);
    assert!(matches!(unknown, Err(ReadError::UnknownWorkload { .. })));
}

fn only_the_ended_are_removed(ground: &dyn Ground) {
    let id = start(ground, Behaviour::UntilAsked);
    running(ground, id);
    let executor = ground.executor();
    assert!(matches!(
        executor.remove(id),
        Err(RemoveError::StillRunning { .. })
    ));
    executor.stop(id, StopReason::Unneeded).unwrap();
    outcome(ground, id);
    executor.remove(id).unwrap();
    executor.remove(id).unwrap();
    assert!(!executor.observe().unwrap().contains_key(&id));
}

fn ports_are_distinct(ground: &dyn Ground) {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let spec = WorkloadSpec {
            ports: vec!["http".to_owned(), "metrics".to_owned()],
            ..spec(ground.program(Behaviour::UntilAsked))
        };
        ground.executor().start(&spec).unwrap();
        let Observation::Running { addresses, .. } = running(ground, spec.id) else {
            unreachable!("running() returns what runs")
        };
        assert_eq!(addresses.len(), 2);
        for address in addresses.values() {
            assert!(seen.insert(*address), "{address} twice");
        }
    }
    let ids: Vec<_> = ground.executor().observe().unwrap().into_keys().collect();
    for id in ids {
        ground.executor().stop(id, StopReason::Unneeded).unwrap();
        ground.until(id, &Observation::is_final);
    }
}

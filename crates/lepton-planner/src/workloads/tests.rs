//! Lifecycles, step by step, and the rules that hold whatever is seen.

use std::sync::Arc;

use lepton_types::resources::{
    Attempt, AttemptPhase, AttemptSpec, CommandSpec, Endpoint, EndpointPhase, EndpointSpec,
    ExitReason, Job, JobPhase, JobSpec, Kind, Program, Replica, ReplicaPhase, ReplicaSpec,
    Resource, RunPhase, Scaling, ScalingStatus, WorkerPhase, WorkerStatus,
};
use lepton_types::{CpuMillis, DurationMs, Id, MemoryBytes, Name, Resources, Timestamp};

use super::*;
use crate::autoscaling::{Memory, Second, ServiceTimes};
use crate::cluster::Node;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn id(number: u8) -> Id {
    Id::from_parts(Timestamp::from_millis(i64::from(number)), [number; 10])
}

fn cpus(count: u64) -> Resources {
    Resources {
        cpu: CpuMillis::from_millis(count * 1_000),
        memory: MemoryBytes::from_mib(count * 64),
        gpus: 0,
    }
}

fn job(number: u8, workers: u32, retries: u32) -> Job {
    let spec = JobSpec {
        program: Program::Command(CommandSpec {
            command: vec!["true".to_owned()],
            code: None,
        }),
        workers,
        resources: cpus(1),
        env: BTreeMap::new(),
        timeout: None,
        retries,
        priority: 0,
        pool: "local".parse().unwrap(),
        experiment: "e".parse().unwrap(),
        run: id(200).into(),
        cancel_requested_at: None,
        cancel_requested_by: None,
    };
    Resource::draft(id(number), Name::default_project(), "job", NOW, spec)
}

fn attempt(number: u8, job: &Job) -> Attempt {
    let spec = AttemptSpec {
        number: 1,
        nodes: vec!["here".to_owned(); job.spec.workers as usize],
        resources: cpus(1),
        master_port: 20_000,
    };
    let mut attempt = Resource::draft(id(number), Name::default_project(), "a", NOW, spec)
        .owned_by(Kind::Job, job.metadata.id);
    attempt.status.workers = (0..job.spec.workers)
        .map(|rank| WorkerStatus {
            rank,
            phase: WorkerPhase::Starting,
            reason: None,
            enforcement: None,
            memory_bytes_max: None,
            logs: Vec::new(),
        })
        .collect();
    attempt
}

fn view(cpus_here: u64) -> View {
    let node = Node::from(cpus(cpus_here));
    View {
        nodes: [("here".parse().unwrap(), node)].into(),
        ..View::default()
    }
}

fn with_job(mut view: View, job: Job, attempt: Option<Attempt>) -> View {
    if let Some(attempt) = attempt {
        view.attempts.insert(attempt.metadata.id, Arc::new(attempt));
    }
    view.jobs.insert(job.metadata.id, Arc::new(job));
    view
}

fn running() -> WorkerFact {
    WorkerFact::Running {
        since: NOW,
        address: None,
        enforcement: "none".to_owned(),
    }
}

fn exited(code: i32) -> WorkerFact {
    WorkerFact::Exited {
        reason: ExitReason::Exited { code },
        started_at: Some(NOW),
        finished_at: NOW,
        memory_bytes_max: None,
    }
}

fn decide(view: &View) -> (Plan, Report) {
    let decided = plan(view, NOW, &PlanRng::from_seed(1));
    assert_eq!(check(view, &decided.0, NOW, &PlanRng::from_seed(1)), []);
    decided
}

fn only_job(plan: &Plan) -> &JobChange {
    match plan.changes.as_slice() {
        [Change::Job(change)] => change,
        other => panic!("one job's change is expected, not {other:?}"),
    }
}

#[test]
fn a_job_with_room_gets_an_attempt_and_one_without_gets_a_reason() {
    let view = with_job(with_job(view(2), job(1, 2, 0), None), job(2, 1, 0), None);
    let (plan, report) = decide(&view);
    let change = only_job(&plan);
    assert_eq!(
        (change.job, change.start.as_ref().map(|s| s.nodes.len())),
        (id(1), Some(2))
    );
    assert_eq!(change.run, Some(RunPhase::Running));
    assert!(
        plan.effects.is_empty(),
        "nothing starts before it is recorded"
    );
    assert_eq!(report.waiting[&id(2)].reason, "no-room");
}

#[test]
fn a_gang_larger_than_the_pool_is_told_so() {
    let (plan, report) = decide(&with_job(view(2), job(1, 3, 0), None));
    assert!(plan.changes.is_empty());
    assert_eq!(report.waiting[&id(1)].reason, "too-large");
}

#[test]
fn recorded_workers_are_launched_once() {
    let job = job(1, 2, 0);
    let mut view = with_job(view(4), job.clone(), Some(attempt(9, &job)));
    let (key0, key1) = (
        WorkerKey { id: id(9), rank: 0 },
        WorkerKey { id: id(9), rank: 1 },
    );
    let (plan, _) = decide(&view);
    let launches = [
        Effect::Launch(key0, Kind::Attempt),
        Effect::Launch(key1, Kind::Attempt),
    ];
    assert_eq!(plan.effects, launches);

    view.workers.insert(key0, WorkerFact::Starting);
    let (plan, _) = decide(&view);
    assert_eq!(plan.effects, [Effect::Launch(key1, Kind::Attempt)]);
}

#[test]
fn when_one_worker_fails_the_others_are_stopped_and_the_first_cause_is_kept() {
    let mut job = job(1, 2, 0);
    job.status.attempts = 1;
    let mut recorded = attempt(9, &job);
    recorded.status.phase = AttemptPhase::Running;
    recorded
        .status
        .workers
        .iter_mut()
        .for_each(|worker| worker.phase = WorkerPhase::Running);
    let mut view = with_job(view(4), job, Some(recorded));
    let keys = [0, 1].map(|rank| WorkerKey { id: id(9), rank });
    view.workers = [(keys[0], running()), (keys[1], exited(3))].into();
    let (plan, _) = decide(&view);
    assert_eq!(plan.effects, [Effect::Stop(keys[0], StopCause::GangFailed)]);

    let gang = WorkerFact::Exited {
        reason: ExitReason::GangFailed { rank: 1 },
        started_at: Some(NOW),
        finished_at: NOW,
        memory_bytes_max: None,
    };
    view.workers.insert(keys[0], gang);
    let (plan, _) = decide(&view);
    let change = only_job(&plan);
    let status = change.status.as_ref().unwrap();
    assert_eq!(status.phase, JobPhase::Failed);
    assert_eq!(status.reason, Some(ExitReason::Exited { code: 3 }));
    assert_eq!(change.run, Some(RunPhase::Failed));
}

#[test]
fn a_failed_attempt_is_retried_after_a_pause_as_often_as_allowed() {
    let mut tried = job(1, 1, 1);
    tried.status.phase = JobPhase::Running;
    tried.status.attempts = 1;
    let mut view = with_job(view(4), tried.clone(), Some(attempt(9, &tried)));
    view.workers = [(WorkerKey { id: id(9), rank: 0 }, exited(1))].into();
    let (plan, _) = decide(&view);
    let status = only_job(&plan).status.clone().unwrap();
    assert_eq!(status.phase, JobPhase::Queued);
    assert!(status.not_before.unwrap() > NOW);

    let mut waiting = tried.clone();
    waiting.status = status;
    let (plan, report) = decide(&with_job(self::view(4), waiting, None));
    assert!(plan.changes.is_empty());
    assert_eq!(report.waiting[&id(1)].reason, "back-off");
    assert!(report.wake_at.is_some());

    tried.status.attempts = 2;
    let mut view = with_job(self::view(4), tried.clone(), Some(attempt(9, &tried)));
    view.workers = [(WorkerKey { id: id(9), rank: 0 }, exited(1))].into();
    let (plan, _) = decide(&view);
    assert_eq!(
        only_job(&plan).status.as_ref().unwrap().phase,
        JobPhase::Failed
    );
}

#[test]
fn cancelling_stops_what_runs_and_ends_what_waits() {
    let mut job = job(1, 1, 5);
    job.spec.cancel_requested_at = Some(NOW);
    let (plan, _) = decide(&with_job(view(4), job.clone(), None));
    assert_eq!(
        only_job(&plan).status.as_ref().unwrap().phase,
        JobPhase::Cancelled
    );

    job.status.phase = JobPhase::Running;
    let mut recorded = attempt(9, &job);
    recorded.status.workers[0].phase = WorkerPhase::Running;
    let mut view = with_job(view(4), job, Some(recorded));
    let key = WorkerKey { id: id(9), rank: 0 };
    view.workers = [(key, running())].into();
    let (plan, _) = decide(&view);
    assert_eq!(plan.effects, [Effect::Stop(key, StopCause::Cancelled)]);

    // It ended by itself, well, before the signal: that is what counts.
    view.workers = [(key, exited(0))].into();
    let (plan, _) = decide(&view);
    assert_eq!(
        only_job(&plan).status.as_ref().unwrap().phase,
        JobPhase::Succeeded
    );
}

#[test]
fn a_worker_that_vanished_is_lost_and_a_stranger_is_ended_and_dropped() {
    let mut job = job(1, 1, 0);
    job.status.attempts = 1;
    let mut recorded = attempt(9, &job);
    recorded.status.workers[0].phase = WorkerPhase::Running;
    let mut view = with_job(view(4), job, Some(recorded));
    let (alive, dead) = (
        WorkerKey {
            id: id(50),
            rank: 0,
        },
        WorkerKey {
            id: id(51),
            rank: 0,
        },
    );
    view.workers = [(alive, running()), (dead, exited(0))].into();
    let (plan, _) = decide(&view);
    let (_, status) = only_job(&plan).attempt.clone().unwrap();
    assert_eq!(status.phase, AttemptPhase::Lost);
    assert!(
        plan.effects
            .contains(&Effect::Stop(alive, StopCause::Unneeded))
    );
    assert!(plan.effects.contains(&Effect::Forget(dead)));
}

fn endpoint(number: u8, replicas: u32) -> Endpoint {
    let spec = EndpointSpec {
        model: "m:1".parse().unwrap(),
        replicas,
        scaling: None,
        resources: cpus(1),
        pool: "local".parse().unwrap(),
    };
    Resource::draft(id(number), Name::default_project(), "e", NOW, spec)
}

fn replica(number: u8, endpoint: &Endpoint, version: u32, phase: ReplicaPhase) -> Replica {
    let spec = ReplicaSpec {
        endpoint: "e".parse().unwrap(),
        model: "m".parse().unwrap(),
        version,
        node: "here".to_owned(),
        resources: cpus(1),
        drain_since: None,
    };
    let mut replica = Resource::draft(id(number), Name::default_project(), "r", NOW, spec)
        .owned_by(Kind::Endpoint, endpoint.metadata.id);
    replica.status.phase = phase;
    replica.status.enforcement = Some("none".to_owned());
    replica
}

fn serving(endpoint: &Endpoint, version: u32, replicas: Vec<Replica>) -> View {
    let mut view = view(8);
    view.endpoints
        .insert(endpoint.metadata.id, Arc::new(endpoint.clone()));
    view.versions.insert(endpoint.metadata.id, version);
    for replica in replicas {
        let id = replica.metadata.id;
        view.workers.insert(WorkerKey { id, rank: 0 }, running());
        let answers = replica.status.phase != ReplicaPhase::Starting;
        view.health.insert(
            id,
            Health {
                answers,
                ..Health::default()
            },
        );
        view.replicas.insert(id, Arc::new(replica));
    }
    view
}

fn only_endpoint(plan: &Plan) -> &EndpointChange {
    match plan.changes.as_slice() {
        [Change::Endpoint(change)] => change,
        other => panic!("one endpoint's change is expected, not {other:?}"),
    }
}

#[test]
fn a_new_endpoint_gets_its_replicas_and_becomes_ready_when_they_answer() {
    let made = endpoint(1, 2);
    let (plan, _) = decide(&serving(&made, 1, Vec::new()));
    assert_eq!(only_endpoint(&plan).start.len(), 2);

    let starting = |number| replica(number, &made, 1, ReplicaPhase::Starting);
    let mut view = serving(&made, 1, vec![starting(11), starting(12)]);
    for health in view.health.values_mut() {
        health.answers = true;
    }
    let (plan, _) = decide(&view);
    let change = only_endpoint(&plan);
    assert!(
        change
            .replicas
            .values()
            .all(|status| status.phase == ReplicaPhase::Ready)
    );
    assert_eq!(change.status.as_ref().unwrap().phase, EndpointPhase::Ready);
}

#[test]
fn a_redeploy_starts_the_new_before_it_drains_the_old() {
    let made = endpoint(1, 2);
    let old = |number| replica(number, &made, 1, ReplicaPhase::Ready);
    let (plan, _) = decide(&serving(&made, 2, vec![old(11), old(12)]));
    let change = only_endpoint(&plan);
    assert_eq!((change.start.len(), change.drain.len()), (2, 0));

    let fresh = replica(13, &made, 2, ReplicaPhase::Ready);
    let (plan, _) = decide(&serving(&made, 2, vec![old(11), old(12), fresh.clone()]));
    assert_eq!(
        only_endpoint(&plan).drain.len(),
        1,
        "one is ready beyond the two wanted"
    );

    let second = replica(14, &made, 2, ReplicaPhase::Ready);
    let view = serving(&made, 2, vec![old(11), old(12), fresh, second]);
    assert_eq!(only_endpoint(&decide(&view).0).drain.len(), 2);
}

#[test]
fn a_draining_replica_ends_when_it_has_nothing_left_to_do() {
    let made = endpoint(1, 0);
    let mut leaving = replica(11, &made, 1, ReplicaPhase::Draining);
    leaving.spec.drain_since = Some(NOW);
    let mut view = serving(&made, 1, vec![leaving]);
    let key = WorkerKey {
        id: id(11),
        rank: 0,
    };
    view.health.get_mut(&id(11)).unwrap().in_flight = 1;
    assert_eq!(decide(&view).0.effects, []);
    view.health.get_mut(&id(11)).unwrap().in_flight = 0;
    assert_eq!(
        decide(&view).0.effects,
        [Effect::Stop(key, StopCause::Unneeded)]
    );
}

#[test]
fn failing_replicas_are_replaced_with_growing_pauses() {
    let made = endpoint(1, 1);
    let mut view = serving(
        &made,
        1,
        vec![replica(11, &made, 1, ReplicaPhase::Starting)],
    );
    view.workers = [(
        WorkerKey {
            id: id(11),
            rank: 0,
        },
        exited(1),
    )]
    .into();
    let (plan, _) = decide(&view);
    let status = only_endpoint(&plan).status.clone().unwrap();
    assert_eq!(
        (status.failures, status.not_before),
        (1, None),
        "the first is replaced at once"
    );

    let mut again = made.clone();
    again.status = status;
    let mut view = serving(
        &again,
        1,
        vec![replica(12, &again, 1, ReplicaPhase::Starting)],
    );
    view.workers = [(
        WorkerKey {
            id: id(12),
            rank: 0,
        },
        exited(1),
    )]
    .into();
    let (plan, report) = decide(&view);
    let status = only_endpoint(&plan).status.clone().unwrap();
    assert_eq!(status.phase, EndpointPhase::Failing);
    assert_eq!(status.not_before, Some(NOW + DurationMs::from_secs(1)));
    assert_eq!(report.waiting[&id(1)].reason, "back-off");
}

#[test]
fn a_deleted_endpoint_goes_when_nothing_of_it_runs() {
    let mut gone = endpoint(1, 2);
    gone.metadata.deleting_since = Some(NOW);
    let ready = replica(11, &gone, 1, ReplicaPhase::Ready);
    let (plan, _) = decide(&serving(&gone, 1, vec![ready]));
    assert_eq!(only_endpoint(&plan).drain, [id(11)]);
    let (plan, _) = decide(&serving(&gone, 1, Vec::new()));
    assert!(only_endpoint(&plan).delete);
}

#[test]
fn the_same_view_gives_the_same_plan_also_after_a_round_trip() {
    let made = endpoint(1, 2);
    let mut view = serving(&made, 2, vec![replica(11, &made, 1, ReplicaPhase::Ready)]);
    view = with_job(view, job(30, 1, 0), None);
    let text = serde_json::to_string(&view).unwrap();
    let read: View = serde_json::from_str(&text).unwrap();
    assert_eq!(decide(&view), decide(&read));
}

#[test]
fn the_question_of_room_is_recorded_as_it_was_answered() {
    let view = with_job(with_job(view(2), job(1, 2, 0), None), job(2, 1, 0), None);
    let (plan, _) = decide(&view);
    let record = placement_record(&view, NOW, &PlanRng::from_seed(1));
    assert_eq!(record.plan, plan.placement);
    let replay = record.replay();
    assert!(replay.same && replay.findings.is_empty());
}

fn following(min: u32, max: u32) -> Endpoint {
    let mut made = endpoint(1, 1);
    made.spec.scaling = Some(Scaling::between(min, max));
    made
}

/// So many requests a second of four seconds each, for three minutes, known long enough.
fn load(per_second: u32) -> Load {
    let second = Second {
        arrivals: per_second,
        in_flight_ms: u64::from(per_second) * 4_000,
        ended: per_second,
        ended_ms: u64::from(per_second) * 4_000,
        late: 0,
    };
    let mut service = ServiceTimes::default();
    for _ in 0..per_second * 180 {
        service.record(4_000);
    }
    Load {
        observed_until: NOW,
        seconds: Arc::new(vec![second; 180]),
        service,
        in_flight: u64::from(per_second) * 4,
        memory: Memory {
            first_seen: Some(NOW - DurationMs::from_secs(180)),
            last_busy: Some(NOW - DurationMs::from_secs(180)),
            ..Memory::default()
        },
    }
}

#[test]
fn an_endpoint_that_follows_its_load_begins_with_one_and_grows_with_it() {
    let made = following(0, 8);
    let view = serving(&made, 1, Vec::new());
    let (plan, _) = decide(&view);
    let change = only_endpoint(&plan);
    assert_eq!(change.start.len(), 1);
    let status = change.status.as_ref().unwrap().scaling.as_ref().unwrap();
    assert_eq!((status.wanted, status.cold_start), (1, None));

    let mut made = following(0, 8);
    made.status = change.status.clone().unwrap();
    let ready = replica(11, &made, 1, ReplicaPhase::Ready);
    let mut view = serving(&made, 1, vec![ready]);
    view.loads.insert(id(1), load(5));
    let (plan, _) = decide(&view);
    let change = only_endpoint(&plan);
    // Twenty in service need three of eight, and a reserve.
    let wanted = plan.scaling[&id(1)].replicas;
    assert!((3..=5).contains(&wanted), "{wanted}");
    assert_eq!(change.start.len(), wanted as usize - 1);
    assert_eq!(change.events[0].reason, "Scaled");
    let status = change.status.as_ref().unwrap();
    // One answers: the endpoint is what was asked for, however many the load wants.
    assert_eq!(status.phase, EndpointPhase::Ready);
}

#[test]
fn without_a_request_for_long_the_last_replica_drains_and_one_request_brings_it_back() {
    let mut made = following(0, 8);
    made.status.scaling = Some(ScalingStatus {
        wanted: 1,
        since: NOW,
        why: "before".to_owned(),
        cold_start: Some(DurationMs::from_secs(2)),
    });
    let last = replica(11, &made, 1, ReplicaPhase::Ready);
    let mut view = serving(&made, 1, vec![last]);
    view.loads.insert(id(1), load(0));
    let (plan, _) = decide(&view);
    assert_eq!(only_endpoint(&plan).drain, [id(11)]);

    made.status = only_endpoint(&plan).status.clone().unwrap();
    assert_eq!(made.status.phase, EndpointPhase::Ready);
    let mut asleep = serving(&made, 1, Vec::new());
    asleep.loads.insert(id(1), load(0));
    assert!(decide(&asleep).0.changes.is_empty(), "it stays asleep");
    asleep.loads.get_mut(&id(1)).unwrap().in_flight = 1;
    let (plan, _) = decide(&asleep);
    assert_eq!(only_endpoint(&plan).start.len(), 1);
}

#[test]
fn what_is_not_known_changes_no_number_and_a_redeploy_keeps_it() {
    let mut made = following(0, 8);
    made.status.scaling = Some(ScalingStatus {
        wanted: 3,
        since: NOW,
        why: "before".to_owned(),
        cold_start: None,
    });
    // As after a restart: nothing was observed yet.
    let old = |number| replica(number, &made, 1, ReplicaPhase::Ready);
    let view = serving(&made, 1, vec![old(11), old(12), old(13)]);
    let (plan, _) = decide(&view);
    assert_eq!(plan.scaling[&id(1)].replicas, 3);
    // A new version is started as often before one of the old drains.
    let view = serving(&made, 2, vec![old(11), old(12), old(13)]);
    let (plan, _) = decide(&view);
    let change = only_endpoint(&plan);
    assert_eq!((change.start.len(), change.drain.len()), (3, 0));
}

#[test]
fn a_checker_of_its_own_refuses_numbers_and_drains_that_break_a_rule() {
    let made = following(1, 2);
    let ready = replica(11, &made, 1, ReplicaPhase::Ready);
    let mut view = serving(&made, 1, vec![ready]);
    view.loads.insert(id(1), load(1));
    let (mut plan, _) = decide(&view);
    plan.scaling.get_mut(&id(1)).unwrap().replicas = 3;
    let findings = check(&view, &plan, NOW, &PlanRng::from_seed(1));
    assert_eq!(
        findings[0].to_string(),
        format!(
            "endpoint `{}`: 3 replicas are more than the 2 allowed",
            id(1)
        )
    );
    let fixed = serving(
        &endpoint(1, 1),
        1,
        vec![replica(11, &made, 1, ReplicaPhase::Ready)],
    );
    let drained = Plan {
        changes: vec![Change::Endpoint(EndpointChange {
            drain: vec![id(11)],
            ..EndpointChange::none(id(1))
        })],
        ..Plan::default()
    };
    assert_eq!(
        check(&fixed, &drained, NOW, &PlanRng::from_seed(1)),
        [Finding::DrainedBelow {
            endpoint: id(1),
            left: 0,
            wanted: 1
        }]
    );
}

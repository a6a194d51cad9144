//! The rules of lifecycles, for any view: also where records and workers contradict each other.
#![allow(clippy::unwrap_used, reason = "its steps are functions")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lepton_planner::PlanRng;
use lepton_planner::autoscaling::{Memory, Record, Second, ServiceTimes};
use lepton_planner::cluster::Node;
use lepton_planner::workloads::{
    Change, Effect, EndpointChange, Health, JobChange, Load, Plan, ReservationChange, View,
    WorkerFact, WorkerKey, check, plan, scaling_record,
};
use lepton_types::resources::{
    Attempt, AttemptPhase, AttemptSpec, CommandSpec, Endpoint, EndpointSpec, ExitReason, Job,
    JobPhase, JobSpec, Kind, Program, Replica, ReplicaPhase, ReplicaSpec, ReservationPhase,
    ReservationSpec, ReservationStatus, Resource, Scaling, ScalingStatus, WorkerPhase,
    WorkerStatus,
};
use lepton_types::{CpuMillis, DurationMs, Id, MemoryBytes, Name, Resources, Timestamp};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

/// Passes after which an unchanging world has nothing left to do.
const IDLE_WITHIN: usize = 16;

fn id(number: u64) -> Id {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Id::from_parts(Timestamp::from_millis(number as i64), random)
}

fn cpus(count: u64) -> Resources {
    Resources {
        cpu: CpuMillis::from_millis(count * 1_000),
        memory: MemoryBytes::from_mib(count * 64),
        gpus: 0,
    }
}

/// What one job is like; its workers' records and facts where it has an attempt.
#[derive(Debug, Clone)]
struct DrawnJob {
    workers: u32,
    retries: u32,
    cancelled: bool,
    deleting: bool,
    waits: Option<bool>,
    attempt: Option<(AttemptPhase, Vec<(u8, u8)>)>,
}

fn drawn_job() -> impl Strategy<Value = DrawnJob> {
    let phase = prop_oneof![
        Just(AttemptPhase::Starting),
        Just(AttemptPhase::Running),
        Just(AttemptPhase::Stopping)
    ];
    let attempt = proptest::option::of((phase, proptest::collection::vec((0_u8..4, 0_u8..6), 4)));
    let rest = (1_u32..=4, 0_u32..3, any::<bool>(), any::<bool>());
    (rest, proptest::option::of(any::<bool>()), attempt).prop_map(
        |((workers, retries, cancelled, deleting), waits, attempt)| DrawnJob {
            workers,
            retries,
            // Deleting a job that is not over asks for its end first.
            cancelled: cancelled || deleting,
            deleting,
            waits,
            attempt,
        },
    )
}

#[derive(Debug, Clone)]
struct DrawnEndpoint {
    wanted: u32,
    deleting: bool,
    version: Option<u32>,
    failures: u32,
    replicas: Vec<(ReplicaPhase, u32, u8, bool, u32)>,
    /// Limits of a number that follows the load, what was wanted last, and what was observed:
    /// how long ago, requests a second, requests now.
    follows: Option<(u32, u32, Option<u32>, u64, u32, u64)>,
}

fn drawn_endpoint() -> impl Strategy<Value = DrawnEndpoint> {
    let phase = prop_oneof![
        Just(ReplicaPhase::Starting),
        Just(ReplicaPhase::Ready),
        Just(ReplicaPhase::Draining),
        Just(ReplicaPhase::Stopping),
        Just(ReplicaPhase::Failed)
    ];
    let replica = (phase, 1_u32..=2, 0_u8..6, any::<bool>(), 0_u32..5);
    let version = prop_oneof![4 => Just(Some(1)), 4 => Just(Some(2)), 1 => Just(None)];
    let replicas = proptest::collection::vec(replica, 0..6);
    let known = proptest::option::of(0_u32..9);
    let follows = (0_u32..3, 0_u32..6, known, 0_u64..60, 0_u32..30, 0_u64..60);
    let follows = proptest::option::of(follows);
    (
        0_u32..4,
        any::<bool>(),
        version,
        0_u32..3,
        replicas,
        follows,
    )
        .prop_map(
            |(wanted, deleting, version, failures, replicas, follows)| DrawnEndpoint {
                wanted,
                deleting,
                version,
                failures,
                replicas,
                follows,
            },
        )
}

fn fact(number: u8) -> Option<WorkerFact> {
    let exited = |code| WorkerFact::Exited {
        reason: ExitReason::Exited { code },
        started_at: Some(NOW),
        finished_at: NOW,
        memory_bytes_max: None,
    };
    match number {
        0 => None,
        1 => Some(WorkerFact::Starting),
        2 => Some(WorkerFact::Running {
            since: NOW,
            address: None,
            enforcement: "none".to_owned(),
        }),
        3 => Some(exited(0)),
        4 => Some(exited(1)),
        _ => Some(WorkerFact::Lost {
            message: "gone".to_owned(),
        }),
    }
}

fn worker(rank: u32, number: u8) -> WorkerStatus {
    let (phase, reason) = match number {
        0 => (WorkerPhase::Starting, None),
        1 => (WorkerPhase::Running, None),
        2 => (WorkerPhase::Exited, Some(ExitReason::Exited { code: 0 })),
        _ => (WorkerPhase::Exited, Some(ExitReason::Exited { code: 1 })),
    };
    WorkerStatus {
        rank,
        phase,
        reason,
        enforcement: None,
        memory_bytes_max: None,
        logs: Vec::new(),
    }
}

fn add_job(view: &mut View, number: u64, drawn: &DrawnJob) {
    let spec = JobSpec {
        program: Program::Command(CommandSpec {
            command: vec!["true".to_owned()],
            code: None,
        }),
        workers: drawn.workers,
        resources: cpus(1),
        env: BTreeMap::new(),
        timeout: None,
        retries: drawn.retries,
        priority: 0,
        pool: "local".parse().unwrap(),
        experiment: "e".parse().unwrap(),
        run: id(number + 500).into(),
        cancel_requested_at: drawn.cancelled.then_some(NOW),
        cancel_requested_by: None,
    };
    let mut job: Job = Resource::draft(id(number), Name::default_project(), "job", NOW, spec);
    job.metadata.deleting_since = drawn.deleting.then_some(NOW);
    if let Some((phase, workers)) = &drawn.attempt {
        job.status.phase = JobPhase::Running;
        job.status.attempts = 1;
        let mut attempt = new_attempt(
            &job,
            id(number + 100),
            vec!["here".into(); drawn.workers as usize],
        );
        attempt.status.phase = *phase;
        attempt.status.workers.clear();
        for (rank, (status, seen)) in (0..drawn.workers).zip(workers) {
            // An attempt runs once each of its workers did.
            let least = u8::from(*phase == AttemptPhase::Running);
            let status = worker(rank, (*status).max(least));
            attempt.status.workers.push(status);
            let key = WorkerKey {
                id: attempt.metadata.id,
                rank,
            };
            view.workers.extend(fact(*seen).map(|fact| (key, fact)));
        }
        view.attempts.insert(attempt.metadata.id, Arc::new(attempt));
    } else if let Some(later) = drawn.waits {
        job.status.attempts = 1;
        let pause = DurationMs::from_secs(if later { 60 } else { 0 });
        job.status.not_before = Some(NOW + pause);
    }
    view.jobs.insert(job.metadata.id, Arc::new(job));
}

fn new_attempt(job: &Job, id: Id, nodes: Vec<String>) -> Attempt {
    let spec = AttemptSpec {
        number: job.status.attempts,
        nodes,
        resources: job.spec.resources,
        master_port: 20_000,
    };
    let mut attempt = Resource::draft(id, Name::default_project(), "a", NOW, spec)
        .owned_by(Kind::Job, job.metadata.id);
    attempt.status.workers = (0..job.spec.workers).map(|rank| worker(rank, 0)).collect();
    attempt
}

fn add_endpoint(view: &mut View, number: u64, drawn: &DrawnEndpoint) {
    let spec = EndpointSpec {
        model: "m@live".parse().unwrap(),
        replicas: drawn.wanted,
        // Limits that contradict each other are refused at the door, and survived here.
        scaling: drawn
            .follows
            .map(|(min, max, ..)| Scaling::between(min, max)),
        resources: cpus(1),
        pool: "local".parse().unwrap(),
    };
    let mut endpoint: Endpoint =
        Resource::draft(id(number), Name::default_project(), "endpoint", NOW, spec);
    endpoint.metadata.deleting_since = drawn.deleting.then_some(NOW);
    endpoint.status.failures = drawn.failures;
    if let Some((_, _, known, ago_s, rate, in_flight)) = drawn.follows {
        endpoint.status.scaling = known.map(|wanted| ScalingStatus {
            wanted,
            since: NOW,
            why: "before".to_owned(),
            cold_start: None,
        });
        let second = Second {
            arrivals: rate,
            in_flight_ms: u64::from(rate) * 2_000,
            ended: rate,
            ended_ms: u64::from(rate) * 2_000,
            late: 0,
        };
        let load = Load {
            observed_until: NOW - DurationMs::from_secs(ago_s),
            seconds: Arc::new(vec![second; 90]),
            service: ServiceTimes::default(),
            in_flight,
            memory: Memory::default(),
        };
        view.loads.insert(endpoint.metadata.id, load);
    }
    for (rank, (phase, version, seen, answers, failures)) in (1..).zip(&drawn.replicas) {
        let id = id(number + 100 * rank);
        let mut replica = new_replica(&endpoint, id, *version, "here".to_owned());
        replica.status.phase = *phase;
        if *phase == ReplicaPhase::Draining {
            replica.spec.drain_since = Some(NOW);
        }
        let key = WorkerKey { id, rank: 0 };
        view.workers.extend(fact(*seen).map(|fact| (key, fact)));
        let health = Health {
            answers: *answers,
            failures: *failures,
            in_flight: 0,
        };
        view.health.insert(id, health);
        view.replicas.insert(id, Arc::new(replica));
    }
    view.versions
        .extend(drawn.version.map(|version| (endpoint.metadata.id, version)));
    view.endpoints
        .insert(endpoint.metadata.id, Arc::new(endpoint));
}

fn new_replica(endpoint: &Endpoint, id: Id, version: u32, node: String) -> Replica {
    let spec = ReplicaSpec {
        endpoint: endpoint.metadata.name.parse().unwrap(),
        model: "m".parse().unwrap(),
        version,
        node,
        resources: endpoint.spec.resources,
        drain_since: None,
    };
    Resource::draft(id, Name::default_project(), "r", NOW, spec)
        .owned_by(Kind::Endpoint, endpoint.metadata.id)
}

/// Promised on machines that are there and not, asked for, refused, over and long over.
fn drawn_reservation() -> impl Strategy<Value = (ReservationSpec, ReservationStatus)> {
    let phase = prop::sample::select(vec![
        ReservationPhase::Pending,
        ReservationPhase::Booked,
        ReservationPhase::Refused,
        ReservationPhase::Over,
    ]);
    let node = prop::sample::select(vec!["here", "gone"]);
    let window = (-900_000_i64..4_000, 0_u64..900_000);
    (window, any::<bool>(), 0_u32..4, phase, node).prop_map(
        |((from, lasts), own, workers, phase, node)| {
            let from = Timestamp::from_millis(NOW.as_millis() + from * 1_000);
            let project = if own { "default" } else { "other" };
            let spec = ReservationSpec {
                project: project.parse().unwrap(),
                from,
                until: from + DurationMs::from_secs(lasts),
                workers,
                resources: cpus(1),
            };
            let promised = usize::from(phase == ReservationPhase::Booked) * workers as usize;
            let status = ReservationStatus {
                phase,
                nodes: vec![node.to_owned(); promised],
                message: None,
            };
            (spec, status)
        },
    )
}

fn drawn_view() -> impl Strategy<Value = View> {
    let jobs = proptest::collection::vec(drawn_job(), 0..6);
    let endpoints = proptest::collection::vec(drawn_endpoint(), 0..4);
    let reservations = proptest::collection::vec(drawn_reservation(), 0..3);
    (jobs, endpoints, reservations, 0_u64..30).prop_map(|(jobs, endpoints, reservations, room)| {
        let mut view = View::default();
        view.nodes
            .insert("here".parse().unwrap(), Node::from(cpus(room)));
        for (number, job) in (1..).zip(&jobs) {
            add_job(&mut view, number, job);
        }
        for (number, endpoint) in (10_000..).step_by(1_000).zip(&endpoints) {
            add_endpoint(&mut view, number, endpoint);
        }
        for (number, (spec, status)) in (90_000..).zip(reservations) {
            let name = format!("r{number}");
            let home = Name::default_project();
            let mut drawn = Resource::draft(id(number), home, name, NOW, spec);
            drawn.status = status;
            view.reservations.insert(id(number), Arc::new(drawn));
        }
        view
    })
}

/// The world after a plan was carried out in full, when workers do at once what they are asked to.
fn carry_out(view: &mut View, plan: Plan, ids: &mut u64) {
    for (id, scaled) in plan.scaling {
        view.loads
            .entry(id)
            .and_modify(|load| load.memory = scaled.memory);
    }
    for change in plan.changes {
        match change {
            Change::Job(change) => apply_job(view, change, ids),
            Change::Endpoint(change) => apply_endpoint(view, change, ids),
            Change::Reservation(change) => apply_reservation(view, &change),
        }
    }
    for effect in plan.effects {
        match effect {
            Effect::Launch(key, _) => {
                view.workers.insert(key, fact(2).unwrap());
                let health = view.health.entry(key.id).or_default();
                health.answers = true;
            }
            Effect::Stop(key, _) => {
                if let Some(WorkerFact::Starting | WorkerFact::Running { .. }) =
                    view.workers.get(&key)
                {
                    view.workers.insert(key, fact(4).unwrap());
                }
            }
            Effect::Forget(key) => {
                view.workers.remove(&key);
            }
        }
    }
}

fn apply_job(view: &mut View, change: JobChange, ids: &mut u64) {
    if change.delete {
        view.jobs.remove(&change.job);
        return;
    }
    let mut job = view.jobs[&change.job].as_ref().clone();
    if let Some(status) = change.status {
        job.status = status;
    }
    if let Some((id, status)) = change.attempt {
        if status.phase.is_final() {
            view.attempts.remove(&id);
        } else {
            Arc::make_mut(view.attempts.get_mut(&id).unwrap()).status = status;
        }
    }
    if let Some(start) = change.start {
        *ids += 1;
        let nodes = start.nodes.iter().map(ToString::to_string).collect();
        let attempt = new_attempt(&job, id(*ids), nodes);
        view.attempts.insert(attempt.metadata.id, Arc::new(attempt));
    }
    if job.status.phase.is_final() && !job.is_deleting() {
        view.jobs.remove(&change.job);
    } else {
        view.jobs.insert(change.job, Arc::new(job));
    }
}

fn apply_endpoint(view: &mut View, change: EndpointChange, ids: &mut u64) {
    if change.delete {
        view.endpoints.remove(&change.endpoint);
        view.replicas
            .retain(|_, r| r.metadata.owner.unwrap().id != change.endpoint);
        return;
    }
    let endpoint = Arc::make_mut(view.endpoints.get_mut(&change.endpoint).unwrap());
    if let Some(status) = change.status {
        endpoint.status = status;
    }
    for (id, status) in change.replicas {
        Arc::make_mut(view.replicas.get_mut(&id).unwrap()).status = status;
    }
    for id in change.drain {
        Arc::make_mut(view.replicas.get_mut(&id).unwrap())
            .spec
            .drain_since = Some(NOW);
    }
    for id in change.forget {
        view.replicas.remove(&id);
    }
    for start in change.start {
        *ids += 1;
        let replica = new_replica(endpoint, id(*ids), start.version, start.node.to_string());
        view.replicas.insert(replica.metadata.id, Arc::new(replica));
    }
}

fn apply_reservation(view: &mut View, change: &ReservationChange) {
    if change.delete {
        view.reservations.remove(&change.reservation);
    } else if let Some(status) = &change.status {
        let known = view.reservations.get_mut(&change.reservation).unwrap();
        Arc::make_mut(known).status = status.clone();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_plan_breaks_a_rule_and_equal_views_give_equal_plans(view in drawn_view(), seed: u64) {
        let (decided, report) = plan(&view, NOW, &PlanRng::from_seed(seed));
        prop_assert_eq!(check(&view, &decided, NOW, &PlanRng::from_seed(seed)), []);
        prop_assert_eq!((decided, report), plan(&view, NOW, &PlanRng::from_seed(seed)));
    }

    #[test]
    fn a_number_that_follows_the_load_stays_within_its_limits(view in drawn_view(), seed: u64) {
        let (decided, _) = plan(&view, NOW, &PlanRng::from_seed(seed));
        for (id, scaled) in &decided.scaling {
            let limits = view.endpoints[id].spec.scaling.unwrap();
            let most = limits.max_replicas.max(limits.min_replicas);
            prop_assert!((limits.min_replicas..=most).contains(&scaled.replicas));
            // What was decided is what is on record, and a record replays byte for byte.
            let rng = PlanRng::from_seed(seed);
            let record = scaling_record(&view, *id, NOW, &rng).unwrap();
            prop_assert_eq!(&record.plan, scaled);
            let text = serde_json::to_string(&record).unwrap();
            let read: Record = serde_json::from_str(&text).unwrap();
            let replay = read.replay();
            prop_assert!(replay.same && replay.findings.is_empty());
        }
        for change in &decided.changes {
            let Change::Endpoint(change) = change else { continue };
            let Some(scaled) = decided.scaling.get(&change.endpoint) else { continue };
            prop_assert!(change.start.len() <= scaled.replicas as usize);
        }
    }

    #[test]
    fn no_worker_is_launched_and_stopped_by_one_plan(view in drawn_view()) {
        let (decided, _) = plan(&view, NOW, &PlanRng::from_seed(1));
        let stopped: BTreeSet<WorkerKey> = decided.effects.iter().filter_map(|effect| match effect {
            Effect::Stop(key, _) => Some(*key),
            Effect::Launch(..) | Effect::Forget(_) => None,
        }).collect();
        for effect in &decided.effects {
            if let Effect::Launch(key, _) = effect {
                prop_assert!(!stopped.contains(key), "{:?} is launched and stopped", key);
            }
        }
    }

    #[test]
    fn carried_out_in_full_nothing_is_left_to_do(mut view in drawn_view()) {
        let mut ids = 1_000_000;
        let mut launched = BTreeSet::new();
        for _ in 0..IDLE_WITHIN {
            let (decided, _) = plan(&view, NOW, &PlanRng::from_seed(1));
            prop_assert_eq!(check(&view, &decided, NOW, &PlanRng::from_seed(1)), []);
            for effect in &decided.effects {
                if let Effect::Launch(key, _) = effect {
                    prop_assert!(launched.insert(*key), "{:?} is launched twice", key);
                }
            }
            if decided.changes.is_empty() && decided.effects.is_empty() {
                return Ok(());
            }
            carry_out(&mut view, decided, &mut ids);
        }
        let (left, _) = plan(&view, NOW, &PlanRng::from_seed(1));
        prop_assert!(false, "there is always something to do: {:?}", left);
    }
}

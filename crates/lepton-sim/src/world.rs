//! The world of one simulation: the server, what it stands on, and what it promised.

use std::sync::Arc;

use http::Method;
use lepton_executors::{FakeConfig, FakeExecutor, Observation, WorkloadId};
use lepton_server::simulation::{CutOff, Surroundings};
use lepton_types::resources::{EndpointPhase, Node};
use lepton_types::{
    Clock as _, CpuMillis, DurationMs, ManualClock, MemoryBytes, Resources, Timestamp,
};
use tempfile::TempDir;

use crate::fates::{Fates, SeededIds, Stream};
use crate::faults::{FaultyExecutor, Weather};
use crate::ledger::Ledger;
use crate::rules::{self, Broken, LastRead, hold};
use crate::server::Server;
use crate::steps::{Outcome, Settings};

/// Passes without time passing after which a server goes in circles. Starting and ending all that
/// a simulation holds takes fewer than ten.
const IDLE_WITHIN: u32 = 40;

/// Rounds of passes and time after which what is left will never settle: hours of simulated time.
const SETTLED_WITHIN: u32 = 500;

pub(crate) struct World {
    pub(crate) step: u32,
    pub(crate) stream: Stream,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) executor: Arc<FaultyExecutor>,
    pub(crate) ledger: Ledger,
    pub(crate) outcome: Outcome,
    records: LastRead,
    fates: Fates,
    surroundings: Surroundings,
    server: Option<Server>,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn open(seed: u64, settings: &Settings) -> Result<Self, Broken> {
        let failed = |error: std::io::Error| Broken(format!("no scratch folder: {error}"));
        let folder = match &settings.scratch {
            Some(scratch) => TempDir::new_in(scratch),
            None => TempDir::new(),
        };
        let folder = folder.map_err(failed)?;
        let onnxruntime = folder.path().join("libonnxruntime.so");
        std::fs::write(&onnxruntime, b"").map_err(failed)?;
        let start = Timestamp::from_millis(1_700_000_000_000);
        let clock = Arc::new(ManualClock::starting_at(start));
        let fates = Fates::new(seed);
        let config = FakeConfig {
            seed,
            ..FakeConfig::default()
        };
        let scripts = fates.clone();
        let fake =
            FakeExecutor::scripted(config, clock.clone(), move |spec| Some(scripts.of(spec)));
        let executor = FaultyExecutor::new(seed, fake);
        let surroundings = Surroundings {
            data_dir: folder.path().join("data"),
            onnxruntime,
            nodes: vec![node("first", 4), node("second", 3)],
            clock: clock.clone(),
            ids: Arc::new(SeededIds::new(seed, clock.clone())),
            content_ids: Arc::new(SeededIds::new(!seed, clock.clone())),
            executor: executor.clone(),
        };
        let mut world = Self {
            step: 0,
            stream: Stream::new(seed, "steps"),
            clock,
            executor,
            ledger: Ledger::default(),
            outcome: Outcome::default(),
            records: LastRead::default(),
            fates,
            surroundings,
            server: None,
            _folder: folder,
        };
        world.reopen().await?;
        Ok(world)
    }

    pub(crate) fn tell(&mut self, line: &str) {
        let now = self.clock.now();
        let step = self.step;
        self.outcome.story.push(format!("{step:>4} {now} {line}"));
    }

    pub(crate) fn server(&self) -> Result<&Server, Broken> {
        let none = || Broken("the server is not open".to_owned());
        self.server.as_ref().ok_or_else(none)
    }

    async fn reopen(&mut self) -> Result<(), Broken> {
        let opened = Server::open(&self.surroundings).await;
        self.server = Some(opened.map_err(|e| Broken(format!("the server does not open: {e}")))?);
        Ok(())
    }

    pub(crate) async fn crash(&mut self) -> Result<(), Broken> {
        self.tell("the server is gone, and comes back");
        self.outcome.crashes += 1;
        if let Some(server) = self.server.take() {
            server.into_lab().crash().await;
        }
        self.reopen().await
    }

    pub(crate) async fn crash_within_pass(&mut self, cut: CutOff<'_>) -> Result<(), Broken> {
        self.tell("the server is gone within a pass, and comes back");
        self.outcome.crashes += 1;
        if let Some(server) = self.server.take() {
            // A pass that fails in an outage leaves less behind, which is a crash as well.
            let _failed = server.into_lab().crash_within_pass(cut).await;
        }
        self.reopen().await
    }

    /// One pass; a pass that fails because the executor does is no broken rule.
    pub(crate) async fn pass(&mut self) -> Result<(), Broken> {
        self.try_pass().await.map(|_| ())
    }

    /// Whether it did something, and how long until time alone changes something.
    async fn try_pass(&mut self) -> Result<Option<(bool, DurationMs)>, Broken> {
        self.outcome.passes += 1;
        let Some(server) = &mut self.server else {
            return Ok(None);
        };
        match server.lab.pass().await {
            Ok(passed) => {
                hold!(
                    passed.findings.is_empty(),
                    "the planner broke its own rules: {:?}",
                    passed.findings
                );
                let records = self.records.read(&server.lab).await?;
                rules::check_routes(records, &mut self.ledger, &server.lab)?;
                self.tell(&format!("a pass that acted: {}", passed.acted));
                Ok(Some((passed.acted, passed.next_in)))
            }
            Err(error) => {
                self.tell(&format!("a pass failed: {error}"));
                Ok(None)
            }
        }
    }

    /// Passes until one finds nothing to do. Answers how long to wait then.
    pub(crate) async fn pass_until_idle(&mut self) -> Result<(), Broken> {
        self.until_idle().await.map(|_| ())
    }

    async fn until_idle(&mut self) -> Result<DurationMs, Broken> {
        for _ in 0..IDLE_WITHIN {
            self.probe();
            let passed = self.try_pass().await?;
            self.check().await?;
            match passed {
                Some((true, _)) => {}
                Some((false, next_in)) => return Ok(next_in),
                None => return Ok(DurationMs::from_secs(1)),
            }
        }
        Err(Broken(
            "the passes find something to do without end".to_owned(),
        ))
    }

    /// Probes every replica once.
    pub(crate) fn probe(&self) {
        let Some(server) = &self.server else { return };
        let truth = self.executor.truth();
        let now = self.clock.now();
        server.lab.probe(|id| {
            let worker = WorkloadId {
                attempt: id,
                rank: 0,
            };
            match truth.get(&worker)? {
                Observation::Running { since, .. } => {
                    Some(self.fates.answers(worker, now.since(*since)))
                }
                Observation::Exited { .. } | Observation::Lost { .. } => Some(false),
                Observation::Starting => None,
            }
        });
    }

    pub(crate) async fn check(&mut self) -> Result<(), Broken> {
        let Some(server) = &self.server else {
            return Ok(());
        };
        let records = self.records.read(&server.lab).await?;
        let nodes = &self.surroundings.nodes;
        rules::check(records, &mut self.ledger, &self.executor, nodes)
    }

    /// Nothing breaks any more: everything must come to its end.
    pub(crate) async fn settle(&mut self) -> Result<(), Broken> {
        self.tell("no more faults");
        self.executor.set_weather(Weather::Fair);
        self.fates.end_faults();
        // Endpoints keep their room, so that a job may wait for it.
        self.settle_but_for(&["too-large", "no-room", "reserved"])
            .await?;
        self.tell("no more endpoints");
        let server = self.server()?;
        for (name, promise) in &self.ledger.endpoints {
            if !promise.deleted {
                let path = format!("endpoints/{name}");
                server.ask(Method::DELETE, &path, None).await;
            }
        }
        for promise in self.ledger.endpoints.values_mut() {
            promise.deleted = true;
        }
        self.settle_but_for(&["too-large"]).await
    }

    /// Until nothing is under way but what waits for one of these reasons.
    async fn settle_but_for(&mut self, reasons: &[&str]) -> Result<(), Broken> {
        let mut open = Vec::new();
        for _ in 0..SETTLED_WITHIN {
            let next_in = self.until_idle().await?;
            open = self.unsettled(reasons).await?;
            if open.is_empty() {
                return Ok(());
            }
            let now = self.clock.now();
            let change = self.executor.fake.next_change().map(|at| at.since(now));
            let pause = change.map_or(next_in, |change| change.min(next_in));
            self.clock.advance(pause.max(DurationMs::from_millis(1)));
            self.executor.fake.tick();
        }
        Err(Broken(format!("never settled: {}", open.join("; "))))
    }

    async fn unsettled(&mut self, reasons: &[&str]) -> Result<Vec<String>, Broken> {
        let Some(server) = &self.server else {
            return Ok(Vec::new());
        };
        let records = self.records.read(&server.lab).await?;
        let mut open = Vec::new();
        for (id, job) in &records.jobs {
            if job.status.phase.is_final() && !job.is_deleting() {
                continue;
            }
            let waits = server.waiting(&format!("jobs/{id}")).await;
            let may_wait = waits.as_deref().is_some_and(|why| reasons.contains(&why));
            if !may_wait {
                open.push(format!("job {id} has {} ({waits:?})", job.status.phase));
            }
        }
        for endpoint in records.endpoints.values() {
            let ready = endpoint.status.phase == EndpointPhase::Ready;
            let waits = server
                .waiting(&format!("endpoints/{}", endpoint.metadata.name))
                .await;
            let has_reason = !endpoint.is_deleting()
                && waits.as_deref().is_some_and(|why| reasons.contains(&why));
            if !ready && !has_reason {
                let (name, phase) = (&endpoint.metadata.name, endpoint.status.phase);
                open.push(format!("endpoint {name} is {phase} ({waits:?})"));
            }
        }
        let recorded = |id| records.replicas.contains_key(&id);
        for (worker, seen) in self.executor.truth() {
            if !recorded(worker.attempt) {
                open.push(format!("worker {worker} is still there: {seen:?}"));
            }
        }
        Ok(open)
    }
}

fn node(name: &str, processors: u64) -> Node {
    Node {
        name: name.to_owned(),
        capacity: Resources {
            cpu: CpuMillis::from_millis(processors * 1_000),
            memory: MemoryBytes::from_mib(8 << 10),
            gpus: 0,
        },
    }
}

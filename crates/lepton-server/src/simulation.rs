//! The server under simulation: everything but the port, the timers and the machine.
//!
//! Owns: opening the production parts on a data directory with the caller's time, ids and executor,
//! making passes one at a time, and ending in the middle of one. Must not know: what is simulated,
//! and which rules must hold.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use lepton_executors::Executor;
use lepton_planner::workloads::{Finding, Health};
use lepton_serving::gateway::EndpointLoad;
use lepton_store::Store;
use lepton_types::resources::Node;
use lepton_types::{Clock, DurationMs, Id, IdSource};

use crate::app::App;
use crate::config::Config;
use crate::data_dir;
use crate::http;
use crate::reconcile::{Decision, PassError, Reconciler};
use crate::start_error::StartError;
use crate::startup::{self, Sources};

/// What the server is given instead of a machine. Whatever of it outlives a crash is the caller's.
#[derive(Clone)]
pub struct Surroundings {
    /// Where the server keeps everything.
    pub data_dir: PathBuf,
    /// A file that stands for ONNX Runtime's library; it must exist for replicas to start.
    pub onnxruntime: PathBuf,
    /// The machines of the local pool.
    pub nodes: Vec<Node>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where new ids come from.
    pub ids: Arc<dyn IdSource>,
    /// Where the ids of sealed bytes come from: how many are drawn is not settled by what is asked.
    pub content_ids: Arc<dyn IdSource>,
    /// What runs the workers.
    pub executor: Arc<dyn Executor>,
}

/// A server that does nothing by itself.
pub struct Lab {
    app: App,
    reconciler: Reconciler,
    token: String,
}

/// What a pass came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Pass {
    /// Whether something was done, so that another pass may find more to do.
    pub acted: bool,
    /// How long until time alone changes something.
    pub next_in: DurationMs,
    /// Rules that the planner broke.
    pub findings: Vec<Finding>,
}

/// A pass that could not be made or finished; the next one repairs what it left.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PassFailed(#[from] PassError);

/// How much of a pass is carried out before the server is gone. Each change is one transaction and
/// each effect one call of the executor, and many are under way at once, so that any of them may be
/// done and any not; but no effect comes before the last change.
pub enum CutOff<'a> {
    /// Those changes for whose number this is true, and no effect.
    Changes(&'a mut dyn FnMut(usize) -> bool),
    /// Every change, and those effects for whose number this is true.
    Effects(&'a mut dyn FnMut(usize) -> bool),
}

impl Lab {
    /// Opens a server as `lepton up` does, without port and tasks.
    ///
    /// # Errors
    /// The first thing that keeps it from opening.
    pub async fn open(surroundings: Surroundings) -> Result<Self, StartError> {
        let mut config = Config {
            data_dir: surroundings.data_dir,
            ..Config::default()
        };
        config.serving.onnxruntime = Some(surroundings.onnxruntime);
        data_dir::prepare(&config.data_dir).map_err(|source| StartError::DataDir {
            data_dir: config.data_dir.clone(),
            source,
        })?;
        let sources = Sources {
            clock: surroundings.clock,
            ids: surroundings.ids,
            content_ids: surroundings.content_ids,
        };
        let app = startup::open(config, surroundings.executor, sources).await?;
        startup::bootstrap(&app, surroundings.nodes).await?;
        let token = startup::owner_credential(&app).await?.token;
        app.cache.refresh(&app.store).await?;
        let reconciler = Reconciler::new(app.clone());
        Ok(Self {
            app,
            reconciler,
            token,
        })
    }

    /// The routes, as the port would serve them.
    pub fn router(&self) -> Router {
        http::router(self.app.clone())
    }

    /// The owner's token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What is recorded.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.app.store
    }

    /// Makes one pass of the reconciler.
    ///
    /// # Errors
    /// If the store or the executor cannot be asked.
    pub async fn pass(&mut self) -> Result<Pass, PassFailed> {
        let decision = self.reconciler.decide().await?;
        let findings = decision.findings.clone();
        let passed = self.reconciler.fulfil(decision).await?;
        Ok(Pass {
            acted: passed.acted,
            next_in: passed.next_in,
            findings,
        })
    }

    /// Tells the server what a probe of each replica that is not over says; `None` where the probe
    /// has no address to ask.
    pub fn probe(&self, answers: impl Fn(Id) -> Option<bool>) {
        let open: Vec<Id> = self.app.cache.read(|live| {
            let open = live
                .replicas
                .values()
                .filter(|replica| !replica.status.phase.is_final());
            open.map(|replica| replica.metadata.id).collect()
        });
        let mut health = self.app.health.lock().expect("invariant: no holder panics");
        health.retain(|id, _| open.contains(id));
        for id in open {
            let known: &mut Health = health.entry(id).or_default();
            if let Some(answers) = answers(id) {
                known.take_in(answers);
            }
        }
    }

    /// Tells the server that an endpoint which follows its load was asked so many times a second
    /// until now, and that each request took `service`.
    pub fn ask(&self, endpoint: Id, seconds: u64, per_second: u64, service: DurationMs) {
        let load = EndpointLoad {
            arrivals: per_second,
            in_flight_time: service.to_std() * u32::try_from(per_second).unwrap_or(u32::MAX),
            ended: per_second,
            service_time: service.to_std() * u32::try_from(per_second).unwrap_or(u32::MAX),
            services: vec![service.to_std(); usize::try_from(per_second).unwrap_or(0)],
            late: 0,
        };
        for _ in 0..seconds {
            self.app.loads.take_in(endpoint, self.app.now(), 1, &load);
        }
    }

    /// Whether new requests reach this replica.
    #[must_use]
    pub fn is_routed(&self, replica: Id) -> bool {
        // Nobody sends requests here, so what is not drained is routed.
        !self.app.gateway.drained(replica.into())
    }

    /// The server is gone, between two passes.
    pub async fn crash(self) {
        // What was acknowledged is on the disk; waiting for the writer only frees its file.
        self.app.store.close().await;
    }

    /// The server is gone, in the middle of a pass.
    ///
    /// # Errors
    /// If the pass fails before the cut; the server is gone all the same.
    pub async fn crash_within_pass(mut self, cut: CutOff<'_>) -> Result<(), PassFailed> {
        let outcome = match self.reconciler.decide().await {
            Ok(mut decision) => {
                cut.apply(&mut decision);
                self.reconciler.fulfil(decision).await.map(|_| ())
            }
            Err(error) => Err(error),
        };
        self.crash().await;
        Ok(outcome?)
    }
}

impl CutOff<'_> {
    fn apply(self, decision: &mut Decision) {
        let mut number = 0;
        let mut count = |keep: &mut dyn FnMut(usize) -> bool| {
            number += 1;
            keep(number - 1)
        };
        match self {
            Self::Changes(keep) => {
                decision.plan.changes.retain(|_| count(keep));
                decision.plan.effects.clear();
            }
            Self::Effects(keep) => decision.plan.effects.retain(|_| count(keep)),
        }
    }
}

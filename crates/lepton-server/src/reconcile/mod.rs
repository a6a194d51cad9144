//! The reconciler: gathers a view, lets the planner decide, checks, and carries it out.
//!
//! Owns: the loop. It takes no input: a nudge, a change of the store, a worker's end or a timer
//! wakes it, it reads state, it acts. Must not know: why anything is decided.

mod carry_out;
mod gather;
mod launch;
mod probes;
mod record;
mod routes;
mod seal;

use std::collections::BTreeMap;
use std::sync::Arc;

use lepton_planner::PlanRng;
use lepton_planner::workloads::{self, Finding, Plan, Report, View, WorkerFact, WorkerKey};
use lepton_types::{DurationMs, Timestamp};

use crate::app::{App, Taken};
use crate::error::Chain;

pub(crate) use probes::probe_replicas;

/// A pass is made at least this often, in case that a nudge was lost.
const PASS_EVERY: DurationMs = DurationMs::from_secs(5);

/// The pause after a pass that failed: long enough not to spin on a full disk.
const PAUSE_AFTER_FAILURE: DurationMs = DurationMs::from_secs(1);

/// What the reconciler remembers between passes. Nothing of it needs to survive.
pub(crate) struct Reconciler {
    app: App,
    /// Workers that can never start, and why.
    unstartable: BTreeMap<WorkerKey, String>,
    /// Workers that cannot start now, and why.
    delayed: BTreeMap<WorkerKey, String>,
    routes_number: u64,
}

/// A pass could not be made or finished; the next one repairs what it left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    #[error(transparent)]
    Store(#[from] lepton_store::StoreError),
    #[error(transparent)]
    Observe(#[from] lepton_executors::ObserveError),
    #[error("a task of the pass ended early")]
    Task(#[from] tokio::task::JoinError),
}

/// What a pass came to.
pub(crate) struct Passed {
    /// Whether something was done, so that another pass may find more to do.
    pub(crate) acted: bool,
    /// How long until time alone changes something.
    pub(crate) next_in: DurationMs,
}

/// What a pass decided, and from what.
pub(crate) struct Decision {
    now: Timestamp,
    view: View,
    pub(crate) plan: Plan,
    report: Report,
    /// Rules that the planner broke; then the plan is empty.
    pub(crate) findings: Vec<Finding>,
}

impl Reconciler {
    pub(crate) fn new(app: App) -> Self {
        let (unstartable, delayed) = (BTreeMap::new(), BTreeMap::new());
        Self {
            app,
            unstartable,
            delayed,
            routes_number: 0,
        }
    }

    /// Makes passes until the server stops.
    pub(crate) async fn run(mut self) {
        let app = self.app.clone();
        let mut versions = app.store.subscribe();
        loop {
            let pause = match self.pass().await {
                // Who stops starts nothing more, however much waits.
                Ok(Passed { acted: true, .. }) if !app.stopping.is_cancelled() => continue,
                Ok(passed) => passed.next_in,
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "a pass of the reconciler failed");
                    PAUSE_AFTER_FAILURE
                }
            };
            let seen = app.cache.read(|live| live.version);
            tokio::select! {
                () = app.stopping.cancelled() => return,
                () = app.nudge.notified() => {}
                _closed = versions.wait_for(|version| *version > seen) => {}
                () = tokio::time::sleep(pause.to_std()) => {}
            }
            if app.stopping.is_cancelled() {
                return;
            }
        }
    }

    /// One pass: gather, plan, check, carry out, report.
    pub(crate) async fn pass(&mut self) -> Result<Passed, PassError> {
        let decision = self.decide().await?;
        self.fulfil(decision).await
    }

    /// The first half of a pass, which changes nothing but the routes.
    pub(crate) async fn decide(&mut self) -> Result<Decision, PassError> {
        let app = self.app.clone();
        app.cache.refresh(&app.store).await?;
        let mut view = gather::gather(&app, &self.unstartable).await?;
        self.unstartable.retain(|key, _| {
            view.attempts.contains_key(&key.id) || view.replicas.contains_key(&key.id)
        });
        app.inputs.release(|worker| {
            let key = WorkerKey {
                id: worker.attempt,
                rank: worker.rank,
            };
            let recorded =
                view.attempts.contains_key(&key.id) || view.replicas.contains_key(&key.id);
            recorded && matches!(view.workers.get(&key), None | Some(WorkerFact::Starting))
        });
        self.publish_routes(&view);
        // Counted after the routes are out: a draining replica without requests gets no more.
        gather::count_requests(&app, &mut view);
        let now = app.now();
        // The seed is the store's counter: the same state gives the same jitter on every replica.
        let rng = PlanRng::from_seed(app.cache.read(|live| live.version));
        let (mut plan, report) = workloads::plan(&view, now, &rng);
        let findings = workloads::check(&view, &plan, now, &rng);
        if !findings.is_empty() {
            for finding in &findings {
                tracing::error!(%finding, "the planner's decision breaks a rule and is not carried out");
            }
            plan = workloads::Plan::default();
        }
        app.loads.remember(&plan.scaling);
        if !plan.placement.is_empty() || !plan.scaling.is_empty() {
            let seed = rng.seed();
            let taken = Arc::new(Taken {
                view: view.clone(),
                now,
                seed,
            });
            if !plan.scaling.is_empty() {
                app.scaled.store(Some(Arc::clone(&taken)));
            }
            if !plan.placement.is_empty() {
                app.decision.store(Some(taken));
            }
        }
        Ok(Decision {
            now,
            view,
            plan,
            report,
            findings,
        })
    }

    /// The second half: what was decided is recorded, then done.
    pub(crate) async fn fulfil(&mut self, decision: Decision) -> Result<Passed, PassError> {
        let Decision {
            now,
            view,
            plan,
            mut report,
            ..
        } = decision;
        let acted = self.carry_out(&view, plan, &mut report).await?;
        let wake_at = report.wake_at;
        self.app.waiting.store(report.waiting.into());
        let next_in = wake_at.map_or(PASS_EVERY, |at| at.since(now).min(PASS_EVERY));
        Ok(Passed { acted, next_in })
    }
}

//! Carrying out: what a plan records first, what it does to workers after.

use crate::blobs::BlobError;
use futures_util::StreamExt as _;
use lepton_executors::{StartError, StopReason, WorkloadId};
use lepton_planner::workloads::{Change, Effect, Plan, Report, StopCause, View, WorkerKey};
use lepton_store::{CommitError, Transaction};
use lepton_types::resources::{Kind, Waiting};
use lepton_types::{DurationMs, Id};

use super::launch::{self, LaunchError};
use super::{PassError, Reconciler, record, seal};
use crate::app::App;
use crate::error::Chain;

/// Transactions under way at once: enough to share a sync of the disk.
const CHANGES_AT_ONCE: usize = 64;

/// Workers that are started or ended at once; each costs a few syncs.
const EFFECTS_AT_ONCE: usize = 8;

/// Workers started or ended in one pass: a large gang must not keep routes and replicas waiting.
const EFFECTS_PER_PASS: usize = 64;

/// When something that could not start is tried again.
const RETRY_START: DurationMs = DurationMs::from_secs(1);

/// How an effect ended.
enum Done {
    /// It was carried out.
    Yes,
    /// It was carried out before.
    Already,
    /// The worker can never start.
    Never(WorkerKey, String),
    /// The worker cannot start now.
    Later(WorkerKey, String),
}

impl Reconciler {
    /// Returns whether anything was done.
    pub(super) async fn carry_out(
        &mut self,
        view: &View,
        plan: Plan,
        report: &mut Report,
    ) -> Result<bool, PassError> {
        let app = self.app.clone();
        let changed = !plan.changes.is_empty();
        // Ids are given in the plan's order, whatever each change waits for afterwards.
        let changes: Vec<_> = plan
            .changes
            .into_iter()
            .map(|change| (new_ids(&app, &change), change))
            .collect();
        let changes = futures_util::stream::iter(changes)
            .map(|(ids, change)| commit(&app, view, change, ids))
            .buffered(CHANGES_AT_ONCE);
        let outcomes: Vec<Result<(), PassError>> = changes.collect().await;
        outcomes.into_iter().collect::<Result<(), _>>()?;
        if changed {
            app.cache.refresh(&app.store).await?;
        }

        let mut acted = changed;
        let mut effects = plan.effects;
        if effects.len() > EFFECTS_PER_PASS {
            // Ends before starts; what is cut off is decided again by the next pass.
            effects.sort_by_key(|effect| matches!(effect, Effect::Launch(..)));
            effects.truncate(EFFECTS_PER_PASS);
            acted = true;
        }
        let effects = futures_util::stream::iter(effects)
            .map(|effect| perform(&app, effect))
            .buffered(EFFECTS_AT_ONCE);
        let outcomes: Vec<Result<Done, PassError>> = effects.collect().await;
        self.delayed.clear();
        let mut failed = None;
        for outcome in outcomes {
            match outcome {
                Ok(Done::Yes) => acted = true,
                Ok(Done::Already) => {}
                Ok(Done::Never(key, message)) => {
                    self.unstartable.insert(key, message);
                    acted = true;
                }
                Ok(Done::Later(key, message)) => {
                    self.delayed.insert(key, message);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.explain_delays(view, report);
        Ok(acted)
    }

    fn explain_delays(&self, view: &View, report: &mut Report) {
        for (key, message) in &self.delayed {
            let owner = view
                .attempts
                .get(&key.id)
                .map(|attempt| attempt.metadata.owner);
            let owner = owner.or_else(|| view.replicas.get(&key.id).map(|r| r.metadata.owner));
            let Some(Some(owner)) = owner else { continue };
            let waiting = Waiting {
                reason: "cannot-start".to_owned(),
                message: message.clone(),
            };
            report.waiting.insert(owner.id, waiting);
            let again = self.app.now() + RETRY_START;
            report.wake_at = Some(report.wake_at.map_or(again, |known| known.min(again)));
        }
    }
}

/// One for each record that a change makes.
fn new_ids(app: &App, change: &Change) -> Vec<Id> {
    let count = match change {
        Change::Job(change) => usize::from(change.start.is_some()),
        Change::Endpoint(change) => change.start.len(),
        Change::Reservation(_) => 0,
    };
    std::iter::repeat_with(|| app.ids.next_id())
        .take(count)
        .collect()
}

/// `ids` are those of [`new_ids`].
async fn commit(app: &App, view: &View, change: Change, ids: Vec<Id>) -> Result<(), PassError> {
    let transaction: Option<Transaction> = match change {
        Change::Job(mut change) => {
            if let Some((id, status)) = &mut change.attempt
                && status.phase.is_final()
                && let Some(attempt) = view.attempts.get(id)
            {
                seal::seal_logs(app, attempt, status).await?;
            }
            record::job(app, view, &change, &ids).await?
        }
        Change::Endpoint(change) => record::endpoint(app, view, &change, &ids).await?,
        Change::Reservation(change) => record::reservation(app, view, &change),
    };
    let Some(transaction) = transaction else {
        return Ok(());
    };
    match app.store.commit(transaction).await {
        Ok(_) => Ok(()),
        // Somebody else changed it; the next pass decides anew.
        Err(CommitError::Conflict(conflict)) => {
            tracing::debug!(%conflict, "a decision was overtaken");
            Ok(())
        }
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}

async fn perform(app: &App, effect: Effect) -> Result<Done, PassError> {
    match effect {
        Effect::Launch(key, kind) => start(app, key, kind).await,
        Effect::Stop(key, cause) => {
            let reason = match cause {
                StopCause::Cancelled => StopReason::Cancelled,
                StopCause::GangFailed => StopReason::GangFailed,
                StopCause::Unneeded => StopReason::Unneeded,
                StopCause::Unhealthy => StopReason::Unhealthy,
            };
            let stopped = app
                .with_executor(move |executor| executor.stop(id_of(key), reason))
                .await?;
            if let Err(error) = stopped {
                tracing::warn!(worker = %id_of(key), error = %Chain(&error), "a worker could not be stopped");
            }
            Ok(Done::Already)
        }
        Effect::Forget(key) => {
            let removed = app
                .with_executor(move |executor| executor.remove(id_of(key)))
                .await?;
            if let Err(error) = removed {
                tracing::warn!(worker = %id_of(key), error = %Chain(&error), "a worker could not be dropped");
                return Ok(Done::Already);
            }
            Ok(Done::Yes)
        }
    }
}

async fn start(app: &App, key: WorkerKey, kind: Kind) -> Result<Done, PassError> {
    let spec = match kind {
        Kind::Attempt => launch::of_attempt(app, key).await,
        _ => launch::of_replica(app, key).await,
    };
    let spec = match spec {
        Ok(spec) => spec,
        Err(LaunchError::Gone) => return Ok(Done::Already),
        Err(LaunchError::Store(error)) => return Err(error.into()),
        Err(LaunchError::Impossible(message)) => return Ok(Done::Never(key, message)),
        Err(
            error @ LaunchError::Input(
                BlobError::NotFound { .. } | BlobError::Damaged(_) | BlobError::Shredded,
            ),
        ) => {
            return Ok(Done::Never(key, Chain(&error).to_string()));
        }
        Err(error @ LaunchError::Input(_)) => {
            tracing::warn!(worker = %id_of(key), error = %Chain(&error), "a worker could not be started yet");
            return Ok(Done::Later(key, Chain(&error).to_string()));
        }
    };
    let started = app
        .with_executor(move |executor| executor.start(&spec))
        .await?;
    Ok(match started {
        Ok(()) => Done::Yes,
        Err(error @ (StartError::Invalid(_) | StartError::InputMissing(_))) => {
            Done::Never(key, Chain(&error).to_string())
        }
        Err(
            error @ (StartError::NoPort { .. }
            | StartError::OtherProject { .. }
            | StartError::Storage(_)
            | StartError::Shim(_)
            | StartError::Unavailable),
        ) => {
            tracing::warn!(worker = %id_of(key), error = %Chain(&error), "a worker could not be started yet");
            Done::Later(key, Chain(&error).to_string())
        }
    })
}

fn id_of(key: WorkerKey) -> WorkloadId {
    let attempt: Id = key.id;
    WorkloadId {
        attempt,
        rank: key.rank,
    }
}

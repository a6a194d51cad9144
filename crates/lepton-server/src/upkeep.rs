//! Passes over all objects that operators start: looking for rot, repairing it, copying to the
//! replica. And the pass over the replica that is made by itself.
//!
//! Owns: that there is one at a time, and what the newest one found. Must not know: how contents
//! are verified.

use std::sync::{Arc, Mutex, PoisonError};

use lepton_api::{ErrorCode, Upkeep, UpkeepFinding, UpkeepPhase, UpkeepWork};
use lepton_objects::{Damage, IndexedContents, Progress, UpkeepError};
use lepton_store::index::IndexError;
use lepton_types::Name;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::blobs::BlobError;
use crate::error::{ApiError, Chain};

/// What is kept of what a pass found; the rest is only counted.
const FINDINGS_MAX: usize = 100;
/// Of how many it is looked up what they are to people: each takes a look at every object.
const NAMED_MAX: usize = 20;
/// Names told of one content.
const NAMES_MAX: usize = 10;

/// The newest pass.
#[derive(Default)]
pub(crate) struct Passes(Mutex<Option<Pass>>);

struct Pass {
    told: Upkeep,
    progress: Arc<Progress>,
    stop: CancellationToken,
}

type PassError = UpkeepError<IndexError>;

impl Passes {
    fn with<T>(&self, work: impl FnOnce(&mut Option<Pass>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest pass, as it stands.
    pub(crate) fn newest(&self) -> Option<Upkeep> {
        self.with(|newest| {
            let pass = newest.as_ref()?;
            let mut told = pass.told.clone();
            if told.phase == UpkeepPhase::Running && told.work != UpkeepWork::Replicate {
                (told.contents, told.size_bytes) = pass.progress.so_far();
            }
            Some(told)
        })
    }

    /// Ends the pass under way, if there is one.
    pub(crate) fn stop(&self) {
        self.with(|newest| {
            if let Some(pass) = newest {
                pass.stop.cancel();
            }
        });
    }

    fn note(&self, change: impl FnOnce(&mut Upkeep)) {
        self.with(|newest| newest.as_mut().map(|pass| change(&mut pass.told)));
    }
}

/// Begins a pass over these projects, or all; refused while another is under way.
pub(crate) fn start(app: &App, work: UpkeepWork, projects: Vec<Name>) -> Result<Upkeep, ApiError> {
    let (progress, stop) = (Arc::new(Progress::default()), app.stopping.child_token());
    let told = Upkeep {
        work,
        projects: projects.clone(),
        phase: UpkeepPhase::Running,
        started_at: app.now(),
        finished_at: None,
        contents: 0,
        size_bytes: 0,
        shredded: 0,
        damaged: 0,
        repaired: 0,
        deleted: 0,
        findings: Vec::new(),
        error: None,
    };
    let pass = Pass {
        told: told.clone(),
        progress: Arc::clone(&progress),
        stop: stop.clone(),
    };
    app.passes.with(|newest| {
        let is_running = |pass: &Pass| pass.told.phase == UpkeepPhase::Running;
        if newest.as_ref().is_some_and(is_running) {
            let message = "a pass over the objects is under way: wait for it, or stop it with \
                           `lepton objects scrub --stop`";
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        *newest = Some(pass);
        Ok(())
    })?;
    let running = app.clone();
    app.tasks.spawn(async move {
        let done = tokio::select! {
            () = stop.cancelled() => None,
            done = run(&running, work, projects, &progress) => Some(done),
        };
        let now = running.now();
        running.passes.note(|told| {
            told.finished_at = Some(now);
            if work != UpkeepWork::Replicate {
                (told.contents, told.size_bytes) = progress.so_far();
            }
            match done {
                None => told.phase = UpkeepPhase::Cancelled,
                Some(Ok(())) => told.phase = UpkeepPhase::Finished,
                Some(Err(error)) => {
                    tracing::error!(error = %Chain(&error), "a pass over the objects was cut off");
                    told.phase = UpkeepPhase::Failed;
                    told.error = Some(error.to_string());
                }
            }
        });
    });
    Ok(told)
}

async fn run(
    app: &App,
    work: UpkeepWork,
    projects: Vec<Name>,
    progress: &Progress,
) -> Result<(), PassError> {
    let contents = &app.objects.contents;
    let projects = match projects.is_empty() {
        true => contents.projects().await?,
        false => projects,
    };
    let rows = IndexedContents::new(app.objects.index.clone());
    for project in projects {
        let damage = match work {
            UpkeepWork::Replicate => {
                let report = contents.replicate(&project, &rows).await?;
                app.passes.note(|told| {
                    told.contents += report.copied;
                    told.damaged += report.unreadable;
                    told.deleted += report.deleted;
                });
                continue;
            }
            UpkeepWork::Scrub => Damage::Report,
            UpkeepWork::Repair => Damage::Repair,
        };
        let report = contents.scrub(&project, &rows, damage, progress).await?;
        let mut findings = Vec::new();
        for finding in report.findings.into_iter().take(FINDINGS_MAX) {
            let index = &app.objects.index;
            let affects = match findings.len() < NAMED_MAX {
                true => index
                    .known_as(&project, finding.content, NAMES_MAX)
                    .await
                    .map_err(UpkeepError::Index)?,
                false => Vec::new(),
            };
            findings.push(UpkeepFinding {
                project: finding.project,
                content: finding.content,
                problem: finding.error.to_string(),
                repaired: finding.is_repaired,
                affects,
            });
        }
        app.passes.note(|told| {
            told.shredded += report.shredded;
            told.damaged += report.damaged;
            told.repaired += report.repaired;
            told.findings.append(&mut findings);
            told.findings.truncate(FINDINGS_MAX);
        });
    }
    Ok(())
}

/// Keeps the replica up to date until the server stops.
pub(crate) async fn follow(app: App) {
    if app.config.objects.replica.is_none() {
        return;
    }
    let every = app.config.objects.replicate_every.to_std();
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let pass = async {
            let rows = IndexedContents::new(app.objects.index.clone());
            let projects = app
                .objects
                .contents
                .projects()
                .await
                .map_err(BlobError::from);
            for project in projects.map_err(|error| error.to_string())? {
                let done = app.objects.contents.replicate(&project, &rows).await;
                done.map_err(|error| Chain(&error).to_string())?;
            }
            Ok::<_, String>(())
        };
        tokio::select! {
            () = app.stopping.cancelled() => return,
            done = pass => if let Err(error) = done {
                tracing::warn!(error, "the replica could not be brought up to date and will be tried again");
            }
        }
    }
}

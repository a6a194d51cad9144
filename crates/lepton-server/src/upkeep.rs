//! Passes over all objects that operators start: looking for rot, repairing it, copying to the
//! replica. And the pass over the replica that is made by itself.
//!
//! Owns: that there is one at a time, what the newest one found, and that one that a restart cut off goes on where it
//! was. Must not know: how contents are verified.

use std::sync::{Arc, Mutex, PoisonError};

use lepton_api::{ErrorCode, Upkeep, UpkeepFinding, UpkeepPhase, UpkeepWork};
use lepton_objects::{Damage, IndexedContents, Progress, ScrubReport, UpkeepError};
use lepton_store::index::IndexError;
use lepton_types::{ContentId, DurationMs, Name, Timestamp};
use serde::{Deserialize, Serialize};
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

/// Between two notes of how far a pass has come; what a crash takes away is read once more.
const NOTED_EVERY: DurationMs = DurationMs::from_secs(10);
/// What the note is called in the index.
const NOTE: &str = "upkeep";

/// How far a pass has come, as it is noted. stored: fields are added with a default, never renamed.
#[derive(Clone, Serialize, Deserialize)]
struct Course {
    told: Upkeep,
    /// The projects that are not done, the one under way first; none before it is known which there are.
    left: Option<Vec<Name>>,
    /// The last content of the first of them that was read.
    after: Option<ContentId>,
}

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
    let told = Upkeep {
        work,
        projects,
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
    begin(
        app,
        Course {
            told: told.clone(),
            left: None,
            after: None,
        },
    )?;
    Ok(told)
}

/// Goes on with a pass that an earlier process did not end.
pub(crate) async fn resume(app: App) {
    let noted = match app.objects.index.note(NOTE).await {
        Ok(noted) => noted,
        Err(error) => {
            tracing::warn!(%error, "whether a pass over the objects was cut off cannot be read");
            return;
        }
    };
    let Some(noted) = noted else {
        return;
    };
    match serde_json::from_str::<Course>(&noted) {
        Ok(course) => {
            tracing::info!(
                contents = course.told.contents,
                "a pass over the objects goes on"
            );
            // Refused only if an operator was faster, who wants another.
            let _ = begin(&app, course);
        }
        Err(error) => {
            tracing::warn!(%error, "a pass over the objects was cut off, and where is not understood");
        }
    }
}

fn begin(app: &App, course: Course) -> Result<(), ApiError> {
    let told = &course.told;
    let progress = Arc::new(Progress::going_on(told.contents, told.size_bytes));
    let (work, stop) = (told.work, app.stopping.child_token());
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
            done = run(&running, course, &progress) => Some(done),
        };
        if running.stopping.is_cancelled() {
            // It goes on at the next start.
            return;
        }
        if let Err(error) = running.objects.index.set_note(NOTE, None).await {
            tracing::warn!(%error, "a pass over the objects has ended and will begin again at the next start");
        }
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
    Ok(())
}

async fn run(app: &App, mut course: Course, progress: &Progress) -> Result<(), PassError> {
    let contents = &app.objects.contents;
    let mut left = match course.left.take() {
        Some(left) => left,
        None if course.told.projects.is_empty() => contents.projects().await?,
        None => course.told.projects.clone(),
    };
    let rows = IndexedContents::new(app.objects.index.clone());
    let mut noted_at = note_course(app, &mut course, &left, None).await?;
    while let Some(project) = left.first().cloned() {
        let damage = match course.told.work {
            UpkeepWork::Replicate => None,
            UpkeepWork::Scrub => Some(Damage::Report),
            UpkeepWork::Repair => Some(Damage::Repair),
        };
        course.after = match damage {
            None => {
                let report = contents.replicate(&project, &rows).await?;
                course.told.contents += report.copied;
                course.told.damaged += report.unreadable;
                course.told.deleted += report.deleted;
                None
            }
            Some(damage) => {
                let page = contents.scrub_page(&project, &rows, course.after, damage, progress);
                let (report, after) = page.await?;
                (course.told.contents, course.told.size_bytes) = progress.so_far();
                take_in(app, report, &mut course.told).await?;
                after
            }
        };
        if course.after.is_none() {
            left.remove(0);
        }
        let told = course.told.clone();
        app.passes.note(|shown| *shown = told);
        noted_at = note_course(app, &mut course, &left, Some(noted_at)).await?;
    }
    Ok(())
}

/// Notes how far a pass has come, unless that was done a moment ago; when it was done last.
async fn note_course(
    app: &App,
    course: &mut Course,
    left: &[Name],
    noted_at: Option<Timestamp>,
) -> Result<Timestamp, PassError> {
    let now = app.now();
    if let Some(noted_at) = noted_at.filter(|at| now < *at + NOTED_EVERY) {
        return Ok(noted_at);
    }
    course.left = Some(left.to_vec());
    let note = serde_json::to_string(course).expect("invariant: a course has text keys");
    let noted = app.objects.index.set_note(NOTE, Some(note)).await;
    noted.map_err(UpkeepError::Index)?;
    Ok(now)
}

/// Adds what a page of a scrub found, with what it is to people.
async fn take_in(app: &App, report: ScrubReport, told: &mut Upkeep) -> Result<(), PassError> {
    told.shredded += report.shredded;
    told.damaged += report.damaged;
    told.repaired += report.repaired;
    for finding in report.findings {
        let found = told.findings.len();
        if found == FINDINGS_MAX {
            return Ok(());
        }
        let index = &app.objects.index;
        let affects = match found < NAMED_MAX {
            true => index
                .known_as(&finding.project, finding.content, NAMES_MAX)
                .await
                .map_err(UpkeepError::Index)?,
            false => Vec::new(),
        };
        told.findings.push(UpkeepFinding {
            project: finding.project,
            content: finding.content,
            problem: finding.error.to_string(),
            repaired: finding.is_repaired,
            affects,
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

//! Staying with a job until it is over: what it waits for, how far it is, how it
//! ended. The job does not need anybody to stay.

use lepton_api::RunView;
use lepton_client::{Client, LogQuery, RetryPolicy};
use lepton_types::resources::{ExitReason, Job, JobPhase, Program, TrainBudget};
use lepton_types::{DurationMs, JobId};

use crate::commands::logs;
use crate::context::Context;
use crate::failure::Failure;
use crate::gang_log;
use crate::output::{Tone, number, paint, took};
use crate::progress::Progress;
use crate::waiting::{self, Look};

/// How somebody stays with a job.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Stay {
    /// Waits until it is over; the exit status tells how it went
    #[arg(long)]
    pub(crate) wait: bool,
    /// Gives up waiting after so long; the job goes on
    #[arg(long, value_name = "DURATION")]
    pub(crate) wait_timeout: Option<DurationMs>,
}

/// Shows what the job's workers write, to the end.
pub(crate) fn follow_log(ctx: &Context, client: &Client, job: &Job) -> Result<(), Failure> {
    let id = job.metadata.id.to_string();
    // The job outlives a restart of the server, and so does whoever follows it.
    let client = &client.with_retry(RetryPolicy::patient());
    until_started(ctx, client, job)?;
    match job.spec.workers {
        0 | 1 => logs::copy(ctx, client.follow_job_log(&id, LogQuery::default())?),
        workers => gang_log::follow(ctx, client, &id, workers, &LogQuery::default()),
    }
}

/// Until there can be output: says what the job waits for, as nothing else would.
fn until_started(ctx: &Context, client: &Client, job: &Job) -> Result<(), Failure> {
    let id = job.metadata.id.to_string();
    let name = &job.metadata.name;
    let mut told = String::new();
    waiting::until(&format!("job `{name}`"), None, || {
        let job = client.job(&id)?;
        let state = state(&job);
        if job.status.phase != JobPhase::Queued {
            return Ok(Look::Done(()));
        }
        // That it is queued tells nothing; why does.
        if job.status.waiting.is_some() && state != told {
            ctx.note(&format!("job {name}: {state}"));
            told.clone_from(&state);
        }
        Ok(Look::NotYet(state))
    })
}

/// Waits until the job is over.
pub(crate) fn until_over(
    ctx: &Context,
    client: &Client,
    job: &Job,
    limit: Option<DurationMs>,
) -> Result<Job, Failure> {
    let id = JobId::from(job.metadata.id).to_string();
    let progress = bar(ctx, job);
    let mut told = String::new();
    let over = waiting::until(&format!("job `{}`", job.metadata.name), limit, || {
        let job = client.job(&id)?;
        if job.status.phase.is_final() {
            return Ok(Look::Done(job));
        }
        let state = state(&job);
        if ctx.progress {
            show(ctx, client, &job, &progress, &state);
        } else if state != told {
            ctx.note(&format!("job {}: {state}", job.metadata.name));
            told.clone_from(&state);
        }
        Ok(Look::NotYet(state))
    })?;
    drop(progress);
    if over.status.phase == JobPhase::Succeeded {
        ctx.note(&ending(&over));
    }
    Ok(over)
}

/// The failure that a job's end is, if it is one.
pub(crate) fn verdict(job: &Job) -> Result<(), Failure> {
    let status = &job.status;
    let name = &job.metadata.name;
    let why = status.reason.as_ref();
    let why = why.map(|reason| format!(": {reason}")).unwrap_or_default();
    let hint = match status.reason {
        // What never started wrote nothing.
        None | Some(ExitReason::CouldNotStart { .. } | ExitReason::Lost { .. }) => String::new(),
        Some(_) => format!("; `lepton logs {name}` shows what it wrote"),
    };
    let ended = match status.phase {
        JobPhase::Failed => format!("failed{}{why}{hint}", length(job)),
        JobPhase::Cancelled => format!("was cancelled{why}"),
        JobPhase::Queued | JobPhase::Running | JobPhase::Succeeded => return Ok(()),
    };
    Err(Failure::JobEnded {
        job: name.clone(),
        ended,
    })
}

/// What Ctrl-C says: nobody who stays is needed.
pub(crate) fn farewell(job: &Job) -> String {
    let name = &job.metadata.name;
    format!(
        "job `{name}` goes on: `lepton logs {name} -f` follows it, `lepton cancel {name}` ends it"
    )
}

fn state(job: &Job) -> String {
    match (&job.status.waiting, job.status.phase) {
        (Some(waiting), JobPhase::Queued) => format!("queued: {}", waiting.message),
        (_, JobPhase::Running) if job.status.attempts > 1 => {
            format!("running, attempt {}", job.status.attempts)
        }
        (_, phase) => phase.to_string(),
    }
}

fn ending(job: &Job) -> String {
    let phase = job.status.phase.as_str();
    let phase = paint(phase, Tone::of_phase(phase));
    format!("job {} {phase}{}", job.metadata.name, length(job))
}

fn length(job: &Job) -> String {
    match (job.status.started_at, job.status.finished_at) {
        (Some(start), Some(end)) => format!(" after {}", took(end.since(start))),
        _ => String::new(),
    }
}

/// A training has a known length; anything else has not.
fn bar(ctx: &Context, job: &Job) -> Progress {
    let name = job.metadata.name.as_str();
    match &job.spec.program {
        Program::Train(train) => match train.budget {
            TrainBudget::Trials(trials) => Progress::of_steps(ctx, name, u64::from(trials)),
            TrainBudget::Time(time) => Progress::of_percent(ctx, name, time.as_millis()),
        },
        Program::Prepare(_) | Program::Command(_) => Progress::of_waiting(ctx, name),
    }
}

fn show(ctx: &Context, client: &Client, job: &Job, progress: &Progress, state: &str) {
    let name = &job.metadata.name;
    let Program::Train(train) = &job.spec.program else {
        progress.say(format!("{name}: {state}"));
        return;
    };
    // A look that fails leaves the bar as it is; the next one may not.
    let Ok(view) = client.run_view(job.spec.run) else {
        return;
    };
    match (train.budget, job.status.started_at) {
        (TrainBudget::Trials(_), _) => progress.set(trials(&view)),
        (TrainBudget::Time(_), Some(start)) => progress.set(ctx.now().since(start).as_millis()),
        (TrainBudget::Time(_), None) => {}
    }
    let best = best(&view)
        .map(|best| format!(", {best}"))
        .unwrap_or_default();
    let count = match trials(&view) {
        0 => String::new(),
        count => format!(", {count} trials"),
    };
    progress.say(format!("{name}: {state}{count}{best}"));
}

/// The trainer's series of the search are called so.
pub(crate) const SEARCH_PREFIX: &str = "search/";
const BEST_PREFIX: &str = "search/best_";

/// Trials so far: the search's series count them from 0.
fn trials(view: &RunView) -> u64 {
    let steps = view
        .metrics
        .iter()
        .filter(|point| point.key.starts_with(SEARCH_PREFIX));
    steps
        .map(|point| u64::try_from(point.step + 1).unwrap_or(0))
        .max()
        .unwrap_or(0)
}

fn best(view: &RunView) -> Option<String> {
    let point = view
        .metrics
        .iter()
        .find(|point| point.key.starts_with(BEST_PREFIX))?;
    let metric = point.key.strip_prefix(BEST_PREFIX)?;
    Some(format!("best {metric} {}", number(point.value)))
}

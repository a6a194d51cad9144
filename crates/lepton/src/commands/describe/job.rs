//! A job: what it runs, where it stands, and what became of each try.

use lepton_client::Client;
use lepton_types::resources::{Attempt, Job, Kind, Program, TrainBudget, WorkerStatus};

use super::{events, identity, phase, waiting};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Cell, Page, Table, bytes, count, shell_words, took};

/// More workers than this fill the screen with the same.
const WORKERS_SHOWN: usize = 16;

pub(super) fn page(ctx: &Context, client: &Client, job: &Job) -> Result<Page, Failure> {
    let mut page = Page::new(ctx.columns);
    let (spec, status) = (&job.spec, &job.status);
    identity(&mut page, ctx, Kind::Job, &job.metadata);
    phase(&mut page, status.phase.as_str());
    waiting(&mut page, status.waiting.as_ref());
    page.maybe("Reason", status.reason.as_ref());
    if let Some(at) = status.not_before.filter(|at| *at > ctx.now()) {
        page.fact("Tried again", format!("in {}", took(at.since(ctx.now()))));
    }
    if let Some(start) = status.started_at {
        let end = status.finished_at.unwrap_or_else(|| ctx.now());
        page.fact("Took", took(end.since(start)));
    }
    program(&mut page, &spec.program);
    page.fact(
        "Workers",
        format!("{}, each {}", spec.workers, spec.resources),
    )
    .fact("Pool", spec.pool.as_str())
    .fact("Priority", spec.priority.to_string())
    .maybe("Timeout", spec.timeout)
    .fact(
        "Attempts",
        format!("{} of {}", status.attempts, spec.retries.saturating_add(1)),
    )
    .fact("Experiment", spec.experiment.as_str())
    .fact(
        "Run",
        format!("{} (`lepton describe run {}`)", spec.run, spec.run),
    );
    if !spec.env.is_empty() {
        page.heading("Environment");
        for (key, value) in &spec.env {
            page.line(&format!("{key}={}", value.escape_debug()));
        }
    }
    let attempts = client.attempts(&job.metadata.id.to_string())?.items;
    for attempt in &attempts {
        self::attempt(&mut page, ctx, attempt);
    }
    events(&mut page, ctx, client, &job.metadata)?;
    Ok(page)
}

fn program(page: &mut Page, program: &Program) {
    match program {
        Program::Command(command) => {
            page.fact("Command", shell_words(&command.command))
                .maybe("Code", command.code);
        }
        Program::Train(train) => {
            let budget = match train.budget {
                TrainBudget::Time(time) => time.to_string(),
                TrainBudget::Trials(trials) => count(trials.into(), "trial"),
            };
            page.fact(
                "Trains",
                format!(
                    "`{}` from {}:{}",
                    train.target, train.dataset, train.dataset_version
                ),
            )
            .maybe("Metric", train.metric.as_ref())
            .fact("Budget", budget)
            .fact("Model", train.model.as_str())
            .fact("Seed", train.seed.to_string());
        }
        Program::Prepare(prepare) => {
            page.fact("Prepares", prepare.dataset.as_str());
            for input in &prepare.inputs {
                page.fact(
                    &format!("From {}", input.name),
                    format!("{}:{}", input.dataset, input.version),
                );
            }
        }
    }
}

fn attempt(page: &mut Page, ctx: &Context, attempt: &Attempt) {
    let status = &attempt.status;
    let length = status.started_at.map(|start| {
        let end = status.finished_at.unwrap_or_else(|| ctx.now());
        format!(", {}", took(end.since(start)))
    });
    let reason = status.reason.as_ref().map(|reason| format!(", {reason}"));
    page.heading(&format!(
        "Attempt {}: {}{}{}",
        attempt.spec.number,
        status.phase,
        length.unwrap_or_default(),
        reason.unwrap_or_default()
    ));
    let mut table = Table::new(
        vec![
            "WORKER",
            "PHASE",
            "NODE",
            "MEMORY MAX",
            "LIMITS BY",
            "REASON",
        ],
        "no worker has started",
    );
    for worker in status.workers.iter().take(WORKERS_SHOWN) {
        let node = attempt.spec.nodes.get(worker.rank as usize);
        table.push(row(worker, node.map_or("", String::as_str)));
    }
    page.table(&table);
    if status.workers.len() > WORKERS_SHOWN {
        page.line(&format!(
            "and {} more",
            status.workers.len() - WORKERS_SHOWN
        ));
    }
}

fn row(worker: &WorkerStatus, node: &str) -> Vec<Cell> {
    vec![
        worker.rank.to_string().into(),
        Cell::phase(worker.phase.as_str()),
        node.into(),
        Cell::maybe(worker.memory_bytes_max.map(bytes)),
        Cell::maybe(worker.enforcement.as_ref()),
        worker
            .reason
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
            .into(),
    ]
}

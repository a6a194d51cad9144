//! Jobs: executions asked for.

use std::collections::BTreeMap;

use crate::blobs::BlobError;
use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::Access;
use lepton_api::{CreateJob, ErrorCode, List, SubmitProgram};
use lepton_store::{CommitError, Conflict, EventDraft, Query, Transaction};
use lepton_types::resources::{
    Attempt, AttemptSpec, CommandSpec, EndpointSpec, EventSeverity, Job, JobSpec, Kind,
    LineageRelation, PoolSpec, Program, Resource, RunPhase, RunSpec, TrainBudget,
};
use lepton_types::{CpuMillis, DurationMs, Id, MemoryBytes, Name, Resources, RunId, Timestamp};

use super::datasets::find_version;
use super::preparations::{accept_preparation, versions_of};
use super::{change, enter, experiments, find, remove, training};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments, list_of, parse_name};
use crate::lineage::{dataset_node, edge, run_node};

const PHASES: [&str; 6] = [
    "queued",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "deleting",
];

/// Gangs beyond this do not fit one machine, nor a reasonable one elsewhere.
pub(super) const WORKERS_MAX: u32 = 1_024;

/// What a worker gets that does not ask: one processor, 1 GiB.
const DEFAULT_RESOURCES: Resources = Resources {
    cpu: CpuMillis::from_millis(1_000),
    memory: MemoryBytes::from_mib(1_024),
    gpus: 0,
};

/// Lists jobs.
#[utoipa::path(get, path = "/api/v1/projects/{project}/jobs", tag = "jobs",
    params(("project" = String, Path), Paging), responses((status = 200, body = List<Job>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<Job>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Job, &project).await?;
    let mut page = app
        .store
        .list::<JobSpec>(paging.query(&project, &PHASES)?)
        .await?;
    for job in &mut page.items {
        explain_waiting(&app, job);
    }
    Ok(axum::Json(list_of(page)))
}

/// Asks for an execution.
#[utoipa::path(post, path = "/api/v1/projects/{project}/jobs", tag = "jobs",
    params(("project" = String, Path)), request_body = CreateJob,
    responses((status = 201, body = Job), (status = 400, body = lepton_api::ErrorBody)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Json(request): Json<CreateJob>,
) -> Result<(StatusCode, axum::Json<Job>), ApiError> {
    let project = enter(&app, &caller, Access::Write, Kind::Job, &project).await?;
    check_request(&app, &project, &request)?;
    let pool = request
        .pool
        .clone()
        .unwrap_or_else(EndpointSpec::default_pool);
    find::<PoolSpec>(&app, &Name::default_project(), pool.as_str()).await?;
    let program = accept_program(&app, &project, &request).await?;
    let mut tries = 0;
    loop {
        let mut transaction = Transaction::new();
        let job = draft(
            &app,
            &caller,
            &project,
            &request,
            &pool,
            program.clone(),
            &mut transaction,
        )
        .await?;
        match app.store.commit(transaction).await {
            Ok(_) => {
                let stored = find::<JobSpec>(&app, &project, &job.metadata.id.to_string()).await?;
                return Ok((StatusCode::CREATED, axum::Json(stored)));
            }
            // Somebody else made the experiment in between.
            Err(CommitError::Conflict(Conflict::AlreadyExists { .. }))
                if tries < super::CHANGE_TRIES =>
            {
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// One job, by id, or the newest of a name.
#[utoipa::path(get, path = "/api/v1/projects/{project}/jobs/{job}", tag = "jobs",
    params(("project" = String, Path), ("job" = String, Path)), responses((status = 200, body = Job)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments((project, job)): Segments<(String, String)>,
) -> Result<axum::Json<Job>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Job, &project).await?;
    let mut job = find_job(&app, &project, &job).await?;
    explain_waiting(&app, &mut job);
    Ok(axum::Json(job))
}

/// Deletes a job with its run and attempts. One that is not over is cancelled first, and goes
/// when nothing of it runs any more.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/jobs/{job}", tag = "jobs",
    params(("project" = String, Path), ("job" = String, Path)), responses((status = 202), (status = 204)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments((project, job)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let project = enter(&app, &caller, Access::Delete, Kind::Job, &project).await?;
    let job = find_job(&app, &project, &job).await?;
    if job.status.phase.is_final() {
        remove(&app, &job).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let now = app.now();
    let key = job.metadata.id.to_string();
    change::<JobSpec>(&app, &project, &key, |job| {
        job.metadata.deleting_since.get_or_insert(now);
        ask_for_end(&mut job.spec, now, &caller);
        Ok(())
    })
    .await?;
    Ok(StatusCode::ACCEPTED)
}

/// The first who asks is the one who is named.
fn ask_for_end(job: &mut JobSpec, now: Timestamp, caller: &Caller) {
    if job.cancel_requested_at.is_none() {
        job.cancel_requested_at = Some(now);
        job.cancel_requested_by = Some(caller.0.label());
    }
}

/// Asks for the end of a job.
#[utoipa::path(post, path = "/api/v1/projects/{project}/jobs/{job}/cancel", tag = "jobs",
    params(("project" = String, Path), ("job" = String, Path)),
    responses((status = 200, body = Job), (status = 409, body = lepton_api::ErrorBody)))]
pub(super) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Segments((project, job)): Segments<(String, String)>,
) -> Result<axum::Json<Job>, ApiError> {
    let project = enter(&app, &caller, Access::Write, Kind::Job, &project).await?;
    let job = find_job(&app, &project, &job).await?;
    let now = app.now();
    let cancelled = change::<JobSpec>(&app, &project, &job.metadata.id.to_string(), |job| {
        if job.status.phase.is_final() && job.spec.cancel_requested_at.is_none() {
            let message = format!("the job is over already: it has {}", job.status.phase);
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        ask_for_end(&mut job.spec, now, &caller);
        Ok(())
    })
    .await?;
    Ok(axum::Json(cancelled))
}

/// Lists the attempts of a job, oldest first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/jobs/{job}/attempts", tag = "jobs",
    params(("project" = String, Path), ("job" = String, Path)), responses((status = 200, body = List<Attempt>)))]
pub(super) async fn list_attempts(
    State(app): State<App>,
    caller: Caller,
    Segments((project, job)): Segments<(String, String)>,
) -> Result<axum::Json<List<Attempt>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Attempt, &project).await?;
    let job = find_job(&app, &project, &job).await?;
    let query = Query {
        owner: Some(job.metadata.id),
        ..Query::project(&project)
    };
    Ok(axum::Json(list_of(
        app.store.list::<AttemptSpec>(query).await?,
    )))
}

/// The job of this id, or the newest of this name.
pub(super) async fn find_job(app: &App, project: &Name, key: &str) -> Result<Job, ApiError> {
    if key.parse::<Id>().is_ok() {
        return find::<JobSpec>(app, project, key).await;
    }
    let name: Name = parse_name(key)?;
    let newest = Query {
        name: Some(name.to_string()),
        newest_first: true,
        limit: 1,
        ..Query::project(project)
    };
    let found = app.store.list::<JobSpec>(newest).await?.items.pop();
    found.ok_or_else(|| ApiError::not_found(Kind::Job, name))
}

/// Puts the last pass's reason into a job that waits.
fn explain_waiting(app: &App, job: &mut Job) {
    if !job.status.phase.is_final() {
        job.status.waiting = app.waiting.load().get(&job.metadata.id).cloned();
    }
}

fn check_request(app: &App, project: &Name, request: &CreateJob) -> Result<(), ApiError> {
    if request.workers == 0 || request.workers > WORKERS_MAX {
        return Err(ApiError::invalid(format!(
            "`workers` must be 1 to {WORKERS_MAX}"
        )));
    }
    if let Some(resources) = request.resources {
        check_resources(resources)?;
    }
    if request.timeout == Some(DurationMs::ZERO) {
        return Err(ApiError::invalid("`timeout` must not be zero"));
    }
    for name in request.env.keys() {
        let valid = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !valid {
            let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
            return Err(ApiError::invalid(format!(
                "`{shown}` is not a name of an environment variable"
            )));
        }
    }
    if request.env.values().any(|value| value.contains('\0')) {
        return Err(ApiError::invalid("a value in `env` has a NUL character"));
    }
    let most = app.config.limits.open_jobs_max;
    let open = app.cache.read(|live| {
        live.jobs
            .values()
            .filter(|job| job.metadata.project == *project)
            .count()
    });
    if u32::try_from(open).unwrap_or(u32::MAX) >= most {
        let message = format!("project `{project}` has {open} open jobs, and {most} are allowed");
        return Err(ApiError::new(ErrorCode::Overloaded, message));
    }
    Ok(())
}

/// Refuses a share of nothing: it would take no room in the pool, and be held to no limit.
pub(super) fn check_resources(resources: Resources) -> Result<(), ApiError> {
    if resources.cpu.as_millis() == 0 {
        return Err(ApiError::invalid("`resources.cpu` must not be zero"));
    }
    if resources.memory.as_bytes() == 0 {
        return Err(ApiError::invalid("`resources.memory` must not be zero"));
    }
    Ok(())
}

async fn accept_program(
    app: &App,
    project: &Name,
    request: &CreateJob,
) -> Result<Program, ApiError> {
    match &request.program {
        SubmitProgram::Command { command, code } => {
            if command.first().is_none_or(String::is_empty) {
                return Err(ApiError::invalid(
                    "`command` is empty: name a program to run",
                ));
            }
            if command.iter().any(|part| part.contains('\0')) {
                return Err(ApiError::invalid("`command` has a NUL character"));
            }
            if let Some(digest) = *code {
                let sizes = app.blobs.sizes(project, &[digest]).await?;
                sizes.get(&digest).ok_or(BlobError::NotFound { digest })?;
            }
            Ok(Program::Command(CommandSpec {
                command: command.clone(),
                code: *code,
            }))
        }
        SubmitProgram::Train(train) => {
            training::accept_training(app, project, request, train).await
        }
        SubmitProgram::Prepare(prepare) => accept_preparation(app, project, request, prepare).await,
    }
}

/// Puts a job, its run and, if it is new, its experiment into `transaction`.
async fn draft(
    app: &App,
    caller: &Caller,
    project: &Name,
    request: &CreateJob,
    pool: &Name,
    program: Program,
    transaction: &mut Transaction,
) -> Result<Job, ApiError> {
    let by = caller.0.label();
    let name = request
        .experiment
        .clone()
        .unwrap_or_else(|| request.name.clone().into());
    let experiment = experiments::find_or_add(app, caller, project, &name, transaction).await?;
    let (id, run_id, now) = (app.ids.next_id(), RunId::from(app.ids.next_id()), app.now());
    let mut run = Resource::draft(
        run_id.id(),
        project.clone(),
        request.name.as_str(),
        now,
        RunSpec::of(experiment.metadata.id.into()),
    )
    .created_by(by.clone())
    .owned_by(Kind::Job, id);
    run.status.phase = RunPhase::Scheduled;
    let spec = JobSpec {
        program,
        workers: request.workers,
        resources: request.resources.unwrap_or(DEFAULT_RESOURCES),
        env: request.env.clone(),
        timeout: request.timeout,
        retries: request.retries,
        priority: request.priority,
        pool: pool.clone(),
        experiment: name,
        run: run_id,
        cancel_requested_at: None,
        cancel_requested_by: None,
    };
    let params = params_of(&spec.program);
    let mut job =
        Resource::draft(id, project.clone(), request.name.as_str(), now, spec).created_by(by);
    job.metadata.labels = request.labels.clone();
    transaction
        .require_experiment(run.spec.experiment)
        .create(&job)
        .create(&run);
    for (dataset, number) in datasets_of(&job.spec.program) {
        let version = find_version(app, project, dataset, &number.to_string()).await?;
        let (from, to) = (dataset_node(&version), run_node(run_id, &run.metadata.name));
        transaction.link(project, edge(from, LineageRelation::ReadBy, to, now));
    }
    if !params.is_empty() {
        transaction.set_params(run_id, params.into_iter().collect());
    }
    transaction.event(EventDraft {
        at: now,
        project: project.clone(),
        kind: Kind::Job,
        id,
        name: job.metadata.name.clone(),
        severity: EventSeverity::Normal,
        reason: "Queued".to_owned(),
        message: format!(
            "{} by {}",
            describe(&job.spec.program),
            job.metadata.created_by
        ),
    });
    Ok(job)
}

/// The dataset versions that a program will read, as far as its description tells.
fn datasets_of(program: &Program) -> Vec<(&str, u32)> {
    match program {
        Program::Command(_) => Vec::new(),
        Program::Train(train) => vec![(train.dataset.as_str(), train.dataset_version)],
        Program::Prepare(prepare) => {
            let named = prepare.inputs.iter();
            named
                .map(|input| (input.dataset.as_str(), input.version))
                .collect()
        }
    }
}

fn describe(program: &Program) -> String {
    match program {
        Program::Command(command) => {
            let line: String = command.command.join(" ").chars().take(120).collect();
            format!("`{line}` asked for")
        }
        Program::Train(train) => format!(
            "training on `{}/{}` for `{}` asked for",
            train.dataset, train.dataset_version, train.target
        ),
        Program::Prepare(prepare) => format!(
            "preparing `{}` from {} asked for",
            prepare.dataset,
            versions_of(&prepare.inputs)
        ),
    }
}

/// What a training is known by in comparisons.
fn params_of(program: &Program) -> BTreeMap<String, String> {
    let train = match program {
        Program::Train(train) => train,
        Program::Prepare(prepare) => {
            let inputs = ("inputs".to_owned(), versions_of(&prepare.inputs));
            return BTreeMap::from([("output".to_owned(), prepare.dataset.to_string()), inputs]);
        }
        Program::Command(_) => return BTreeMap::new(),
    };
    let budget = match train.budget {
        TrainBudget::Time(time) => time.to_string(),
        TrainBudget::Trials(trials) => format!("{trials} trials"),
    };
    let pairs = [
        (
            "dataset",
            format!("{}/{}", train.dataset, train.dataset_version),
        ),
        ("target", train.target.clone()),
        ("budget", budget),
        ("seed", train.seed.to_string()),
    ];
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_nothing_is_refused() {
        assert!(check_resources(DEFAULT_RESOURCES).is_ok());
        let (cpu, memory) = (CpuMillis::from_millis(0), MemoryBytes::from_mib(0));
        for bad in [
            Resources {
                cpu,
                ..DEFAULT_RESOURCES
            },
            Resources {
                memory,
                ..DEFAULT_RESOURCES
            },
        ] {
            assert!(check_resources(bad).is_err(), "{bad:?}");
        }
    }
}

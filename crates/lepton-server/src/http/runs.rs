//! Runs: the records of executions.

use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::Access;
use lepton_api::{CreateRun, ErrorCode, List, RunView, UpdateRun};
use lepton_store::{CommitError, Conflict, Transaction};
use lepton_types::resources::{
    ExperimentSpec, Kind, MetricPoint, Resource, Run, RunPhase, RunSpec,
};
use lepton_types::{FreeName, Id, Name, RunId};
use serde::Deserialize;

use super::{change, enter, experiments, find, remove};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments};

const PHASES: [&str; 6] = [
    "SCHEDULED",
    "RUNNING",
    "FINISHED",
    "FAILED",
    "KILLED",
    "deleted",
];

/// The experiment of runs that name none, as MLflow calls it.
const DEFAULT_EXPERIMENT: &str = "Default";

/// What runs are filtered by, beside what all lists are.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
pub(super) struct RunFilter {
    /// Only those of this experiment.
    experiment: Option<String>,
    /// Only those whose newest value of a metric compares so: `accuracy>0.9`, `loss<=0.1`.
    metric: Option<String>,
}

/// Lists runs with their parameters, tags and newest metrics.
#[utoipa::path(get, path = "/api/v1/projects/{project}/runs", tag = "runs",
    params(("project" = String, Path), Paging, RunFilter), responses((status = 200, body = List<RunView>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Params(paging): Params<Paging>,
    Params(filter): Params<RunFilter>,
) -> Result<axum::Json<List<RunView>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Run, &project).await?;
    let bound = filter
        .metric
        .as_deref()
        .map(MetricBound::parse)
        .transpose()?;
    let mut query = paging.query(&project, &PHASES)?;
    if query.phases.is_empty() {
        // What is in the bin is shown to who asks for it.
        query.phases = PHASES
            .into_iter()
            .filter(|phase| *phase != "deleted")
            .collect();
    }
    if let Some(name) = &filter.experiment {
        query.group = Some(
            find::<ExperimentSpec>(&app, &project, name)
                .await?
                .metadata
                .id,
        );
    }
    let views = app
        .store
        .list_run_records(query, bound.map(MetricBound::into_store))
        .await?;
    let items = views.items.into_iter().map(view_of).collect();
    Ok(axum::Json(List {
        items,
        next_page_token: views.next.map(|id| id.to_string()),
    }))
}

fn view_of(record: lepton_store::RunRecord) -> RunView {
    RunView {
        run: record.run,
        params: record.params.into_iter().collect(),
        tags: record.tags.into_iter().collect(),
        metrics: record.metrics,
    }
}

/// Makes a run that no job owns.
#[utoipa::path(post, path = "/api/v1/projects/{project}/runs", tag = "runs",
    params(("project" = String, Path)), request_body = CreateRun, responses((status = 201, body = RunView)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Json(request): Json<CreateRun>,
) -> Result<(StatusCode, axum::Json<RunView>), ApiError> {
    let project = enter(&app, &caller, Access::Write, Kind::Run, &project).await?;
    check_name(request.name.as_deref())?;
    let name = request.name.clone().unwrap_or_default();
    let default = || DEFAULT_EXPERIMENT.parse().expect("invariant: a valid name");
    let experiment: FreeName = request.experiment.clone().unwrap_or_else(default);
    let mut tries = 0;
    loop {
        let mut transaction = Transaction::new();
        let group =
            experiments::find_or_add(&app, &caller, &project, &experiment, &mut transaction)
                .await?;
        let id = request.id.map_or_else(|| app.ids.next_id(), RunId::id);
        let spec = RunSpec::of(group.metadata.id.into());
        let name = if name.is_empty() {
            format!("run-{}", &id.to_string()[24..])
        } else {
            name.clone()
        };
        let mut run = Resource::draft(id, project.clone(), name, app.now(), spec)
            .created_by(caller.0.label());
        run.status.started_at = Some(request.started_at.unwrap_or_else(|| app.now()));
        transaction
            .require_experiment(run.spec.experiment)
            .create(&run);
        match app.store.commit(transaction).await {
            Ok(version) => {
                run.metadata.resource_version = version;
                let (params, tags, metrics) = Default::default();
                let view = RunView {
                    run,
                    params,
                    tags,
                    metrics,
                };
                return Ok((StatusCode::CREATED, axum::Json(view)));
            }
            // A run of that id, or an experiment that somebody else made meanwhile.
            Err(CommitError::Conflict(Conflict::AlreadyExists { kind, .. }))
                if kind != Kind::Run && tries < super::CHANGE_TRIES =>
            {
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// One run.
#[utoipa::path(get, path = "/api/v1/projects/{project}/runs/{run}", tag = "runs",
    params(("project" = String, Path), ("run" = String, Path)), responses((status = 200, body = RunView)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments((project, run)): Segments<(String, String)>,
) -> Result<axum::Json<RunView>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Run, &project).await?;
    let run = find::<RunSpec>(&app, &project, &run).await?;
    Ok(axum::Json(view(&app, run).await?))
}

/// Changes where a run stands, or its name.
#[utoipa::path(patch, path = "/api/v1/projects/{project}/runs/{run}", tag = "runs",
    params(("project" = String, Path), ("run" = String, Path)), request_body = UpdateRun,
    responses((status = 200, body = RunView)))]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Segments((project, run)): Segments<(String, String)>,
    Json(request): Json<UpdateRun>,
) -> Result<axum::Json<RunView>, ApiError> {
    let project = enter_run(&app, &caller, &project, &run).await?;
    check_name(request.name.as_deref())?;
    let now = app.now();
    let run = change::<RunSpec>(&app, &project, &run, |run| {
        refuse_in_bin(run)?;
        if let Some(phase) = request.phase {
            set_phase(run, phase, now);
            if phase.is_final() && request.finished_at.is_some() {
                run.status.finished_at = request.finished_at;
            }
        }
        if let Some(name) = &request.name {
            run.metadata.name.clone_from(name);
        }
        Ok(())
    })
    .await?;
    Ok(axum::Json(view(&app, run).await?))
}

/// Deletes a run with its series and artifacts. A job's run goes with its job.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/runs/{run}", tag = "runs",
    params(("project" = String, Path), ("run" = String, Path)), responses((status = 204)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments((project, run)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let project = enter(&app, &caller, Access::Delete, Kind::Run, &project).await?;
    let run = find::<RunSpec>(&app, &project, &run).await?;
    if let Some(owner) = run.metadata.owner {
        let message = format!("the run belongs to job `{}`: delete that one", owner.id);
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    remove(&app, &run).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check_name(name: Option<&str>) -> Result<(), ApiError> {
    match name {
        Some(name) if name.is_empty() || name.len() > 250 || name.contains(char::is_control) => {
            Err(ApiError::new(
                ErrorCode::InvalidName,
                "the name of a run has 1 to 250 bytes and no control characters",
            ))
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses to change a run that is in the bin.
pub(super) fn refuse_in_bin(run: &Run) -> Result<(), ApiError> {
    match run.status.deleted_at {
        None => Ok(()),
        Some(_) => Err(CommitError::from(Conflict::RunDeleted {
            run: run.metadata.id,
        })
        .into()),
    }
}

/// Moves a run on, with the time of it.
pub(crate) fn set_phase(run: &mut Run, phase: RunPhase, now: lepton_types::Timestamp) {
    run.status.phase = phase;
    if phase.is_final() {
        run.status.finished_at.get_or_insert(now);
    } else {
        run.status.finished_at = None;
        if phase == RunPhase::Running {
            run.status.started_at.get_or_insert(now);
        }
    }
}

/// Parses the project of a path, and authorises changing this run.
pub(super) async fn enter_run(
    app: &App,
    caller: &Caller,
    project: &str,
    run: &str,
) -> Result<Name, ApiError> {
    let name: Name = crate::extract::parse_name(project)?;
    match run.parse::<Id>() {
        Ok(id) => caller.may_touch(Access::Write, Kind::Run, &name, id)?,
        Err(_) => return Err(ApiError::not_found(Kind::Run, run.escape_debug())),
    }
    super::require_project(app, &name).await?;
    Ok(name)
}

async fn view(app: &App, mut run: Run) -> Result<RunView, ApiError> {
    let id = RunId::from(run.metadata.id);
    run.status.artifacts = app.store.run_files(id, "").await?;
    let params = app.store.params(id).await?.into_iter().collect();
    let tags = app.store.tags(id).await?.into_iter().collect();
    let metrics: Vec<MetricPoint> = app.store.latest_metrics(id).await?;
    Ok(RunView {
        run,
        params,
        tags,
        metrics,
    })
}

/// A comparison of a metric's newest value with a number.
struct MetricBound {
    key: String,
    comparison: lepton_store::Comparison,
    value: f64,
}

impl MetricBound {
    fn parse(text: &str) -> Result<Self, ApiError> {
        use lepton_store::Comparison;
        const SIGNS: [(&str, Comparison); 6] = [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            ("!=", Comparison::Differs),
            (">", Comparison::Above),
            ("<", Comparison::Below),
            ("=", Comparison::Equals),
        ];
        let refuse = || {
            ApiError::invalid(format!(
                "`metric={text}` is not a comparison: write `accuracy>0.9`"
            ))
        };
        let (at, sign, comparison) = SIGNS
            .iter()
            .filter_map(|(sign, comparison)| text.find(sign).map(|at| (at, *sign, *comparison)))
            .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())))
            .ok_or_else(refuse)?;
        let key = text[..at].trim().to_owned();
        let value = text[at + sign.len()..]
            .trim()
            .parse()
            .map_err(|_| refuse())?;
        if key.is_empty() {
            Err(refuse())
        } else {
            Ok(Self {
                key,
                comparison,
                value,
            })
        }
    }

    fn into_store(self) -> lepton_store::MetricFilter {
        let Self {
            key,
            comparison,
            value,
        } = self;
        lepton_store::MetricFilter {
            key,
            comparison,
            value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_store::Comparison;

    #[test]
    fn names_of_runs_are_printable() {
        for good in [None, Some("a run"), Some("模型")] {
            assert!(check_name(good).is_ok(), "{good:?}");
        }
        for bad in ["", "\u{1b}[31m", &"x".repeat(251)] {
            assert!(check_name(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_on_metrics_parse() {
        let bound = MetricBound::parse("val/acc >= 0.5").ok().unwrap();
        assert_eq!((bound.key.as_str(), bound.value), ("val/acc", 0.5));
        assert_eq!(bound.comparison, Comparison::AtLeast);
        for bad in ["acc", ">1", "acc>", "acc>x"] {
            assert!(MetricBound::parse(bad).is_err(), "{bad}");
        }
    }
}

//! Runs: made, read, moved to the bin and back, searched.

use axum::Json;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use lepton_access::{Access, Principal};
use lepton_store::{
    RunClause, RunField, RunHead, RunSearch, RunSink as _, Test, TextField, Transaction,
};
use lepton_types::resources::{Kind, Resource, Run, RunPhase, RunSpec};
use lepton_types::{RunId, Timestamp};
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Pair, Visitor, given, int, list, need, word};
use super::error::{Answer, MlflowError, shown};
use super::experiments::{default_id, find_active, ids_of};
use super::filter::runs::{RUN_NAME_TAG, clauses, orders};
use super::pages;
use super::rules::{TAG_CHARS_MAX, check_key, check_run_name, check_time, cut};
use super::run_wire::RunsText;
use super::wire::{DefaultExperiment, Done, RunInfo, artifact_location};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Create {
    experiment_id: Option<String>,
    user_id: Option<String>,
    run_name: Option<String>,
    #[serde(deserialize_with = "int")]
    start_time: Option<i64>,
    #[serde(deserialize_with = "list")]
    tags: Vec<Pair>,
}

/// Tells of one run.
fn one(text: RunsText) -> Response {
    json_text(text.ended("}"))
}

fn json_text(text: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

/// More tags than this are data.
const TAGS_MAX: usize = 1_000;

pub(super) async fn create(
    visitor: Visitor,
    Ask(ask): Ask<Create>,
) -> Result<Response, MlflowError> {
    visitor.may(Access::Write, Kind::Run)?;
    let named = given(ask.experiment_id.as_ref()).unwrap_or("0");
    let experiment = find_active(&visitor, named).await?;
    let (mut tags, tagged_name) = tags_of(&ask.tags)?;
    let name = match (given(ask.run_name.as_ref()), tagged_name) {
        (Some(name), Some(tagged)) if name != tagged => {
            return Err(MlflowError::invalid(format!(
                "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with \
                 different values (run_name='{}', mlflow.runName='{}').",
                shown(name),
                shown(&tagged)
            )));
        }
        (Some(name), _) => Some(name.to_owned()),
        (None, tagged) => tagged,
    };
    check_run_name(name.as_deref().unwrap_or_default())?;
    let (id, now) = (visitor.app.ids.next_id(), visitor.app.now());
    let mut spec = RunSpec::of(experiment.metadata.id.into());
    spec.user = Some(cut(ask.user_id.unwrap_or_default(), 256));
    if experiment.spec.artifact_location.is_some() {
        let root = artifact_location(&experiment);
        let root = root.trim_end_matches('/');
        spec.artifact_uri = Some(format!("{root}/{id}/artifacts"));
    }
    let name = name.unwrap_or_else(|| format!("run-{}", &id.to_string()[24..]));
    let mut run = Resource::draft(id, visitor.project.clone(), name, now, spec)
        .created_by(visitor.caller.0.label());
    let started = check_time(ask.start_time.unwrap_or_default(), "start_time")?;
    run.status.started_at = Some(started);
    let mut transaction = Transaction::new();
    transaction
        .require_experiment(run.spec.experiment)
        .create(&run)
        .set_tags(RunId::from(id), tags.clone());
    visitor.app.store.commit(transaction).await?;
    let default = DefaultExperiment((named == "0").then_some(experiment.metadata.id));
    let mut text = RunsText::new("{\"run\":", default);
    text.head(RunHead::of(&run));
    tags.sort_unstable();
    for (key, value) in &tags {
        text.tag(key, value);
    }
    text.end();
    Ok(one(text))
}

/// Tags that are valid, and the name among them.
type Tags = (Vec<(String, String)>, Option<String>);

/// Reads the tags of a request.
pub(super) fn tags_of(pairs: &[Pair]) -> Result<Tags, MlflowError> {
    if pairs.len() > TAGS_MAX {
        return Err(MlflowError::invalid(format!(
            "a run takes {TAGS_MAX} tags at once"
        )));
    }
    let mut tags = Vec::with_capacity(pairs.len());
    let mut name = None;
    for (at, pair) in pairs.iter().enumerate() {
        let path = format!("tags[{at}].key");
        let key = need(&pair.key, &path)?;
        check_key(key, &path)?;
        let value = pair.value.clone().unwrap_or_default();
        if key == RUN_NAME_TAG {
            name = Some(value).filter(|value| !value.is_empty());
        } else {
            tags.push((key.to_owned(), cut(value, TAG_CHARS_MAX)));
        }
    }
    Ok((tags, name))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ById {
    run_id: Option<String>,
    run_uuid: Option<String>,
}

impl ById {
    pub(super) fn of(run_id: Option<String>, run_uuid: Option<String>) -> Self {
        Self { run_id, run_uuid }
    }

    pub(super) fn id(&self) -> Result<&str, MlflowError> {
        match given(self.run_id.as_ref()) {
            Some(id) => Ok(id),
            None => need(&self.run_uuid, "run_id"),
        }
    }
}

pub(super) async fn get(visitor: Visitor, Ask(ask): Ask<ById>) -> Result<Response, MlflowError> {
    visitor.may(Access::Read, Kind::Run)?;
    let id = parse(ask.id()?)?;
    let text = RunsText::new("{\"run\":", default_id(&visitor).await?);
    let store = &visitor.app.store;
    match store.run_into(&visitor.project, id, text).await? {
        Some(text) => Ok(one(text)),
        None => Err(missing(&id.to_string())),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Update {
    run_id: Option<String>,
    run_uuid: Option<String>,
    #[serde(deserialize_with = "word")]
    status: Option<String>,
    #[serde(deserialize_with = "int")]
    end_time: Option<i64>,
    run_name: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Updated {
    run_info: RunInfo,
}

pub(super) async fn update(visitor: Visitor, Ask(ask): Ask<Update>) -> Answer<Updated> {
    let by = ById::of(ask.run_id, ask.run_uuid);
    let id = enter(&visitor, by.id()?).await?;
    let phase = ask.status.as_deref().map(parse_status).transpose()?;
    let ended = ask
        .end_time
        .map(|at| check_time(at, "end_time"))
        .transpose()?;
    let name = given(ask.run_name.as_ref()).map(str::to_owned);
    check_run_name(name.as_deref().unwrap_or_default())?;
    let mut transaction = Transaction::new();
    transaction
        .require_run(id, &visitor.project)
        .alter::<RunSpec>(id.id(), move |run| {
            if let Some(phase) = phase {
                run.status.phase = phase;
            }
            run.status.finished_at = ended.or(run.status.finished_at);
            if let Some(name) = &name {
                run.metadata.name.clone_from(name);
            }
            Ok(())
        });
    visitor.app.store.commit(transaction).await?;
    let run = find(&visitor, id).await?;
    let run_info = RunInfo::of(&run, default_id(&visitor).await?);
    Ok(Json(Updated { run_info }))
}

fn parse_status(word: &str) -> Result<RunPhase, MlflowError> {
    Ok(match word {
        "RUNNING" | "1" => RunPhase::Running,
        "SCHEDULED" | "2" => RunPhase::Scheduled,
        "FINISHED" | "3" => RunPhase::Finished,
        "FAILED" | "4" => RunPhase::Failed,
        "KILLED" | "5" => RunPhase::Killed,
        other => {
            return Err(MlflowError::invalid(format!(
                "Invalid value '{}' for parameter 'status' supplied.",
                shown(other)
            )));
        }
    })
}

pub(super) async fn delete(visitor: Visitor, Ask(ask): Ask<ById>) -> Answer<Done> {
    let now = visitor.app.now();
    move_to_bin(&visitor, ask.id()?, Some(now)).await
}

pub(super) async fn restore(visitor: Visitor, Ask(ask): Ask<ById>) -> Answer<Done> {
    move_to_bin(&visitor, ask.id()?, None).await
}

/// Puts a run into the bin, or takes it out.
async fn move_to_bin(visitor: &Visitor, id: &str, at: Option<Timestamp>) -> Answer<Done> {
    let id = enter(visitor, id).await?;
    find(visitor, id).await?;
    let mut transaction = Transaction::new();
    transaction.alter::<RunSpec>(id.id(), move |run| {
        run.status.deleted_at = at;
        Ok(())
    });
    visitor.app.store.commit(transaction).await?;
    Ok(Json(Done {}))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Search {
    #[serde(deserialize_with = "list")]
    experiment_ids: Vec<String>,
    filter: Option<String>,
    #[serde(deserialize_with = "word")]
    run_view_type: Option<String>,
    #[serde(deserialize_with = "int")]
    max_results: Option<i64>,
    #[serde(deserialize_with = "list")]
    order_by: Vec<String>,
    page_token: Option<String>,
}

pub(super) async fn search(
    visitor: Visitor,
    Ask(ask): Ask<Search>,
) -> Result<Response, MlflowError> {
    visitor.may(Access::Read, Kind::Run)?;
    let limit = pages::limit(ask.max_results, 1_000, RunSearch::LIMIT_MAX)?;
    let offset = pages::offset(ask.page_token.as_deref())?;
    let lifecycle = pages::lifecycle(ask.run_view_type.as_deref())?;
    let mut clauses = clauses(ask.filter.as_deref().unwrap_or_default())?;
    let order = orders(&ask.order_by)?;
    let default = default_id(&visitor).await?;
    for clause in &mut clauses {
        name_default(clause, default);
    }
    let experiments = ids_of(&ask.experiment_ids, default)?;
    let search = RunSearch {
        project: visitor.project.clone(),
        experiments,
        lifecycle,
        clauses,
        order,
        offset,
        limit,
    };
    let text = RunsText::new("{\"runs\":[", default);
    let found = visitor.app.store.search_runs_into(search, text).await?;
    let end = match (found.count, found.more) {
        // As protobuf has it, an empty list is not said.
        (0, false) => return Ok(json_text(b"{}".to_vec())),
        (_, false) => "]}".to_owned(),
        (count, true) => {
            // A page may end before its limit.
            let next = pages::token(offset.saturating_add(count as u64));
            format!("],\"next_page_token\":{}}}", serde_json::Value::from(next))
        }
    };
    Ok(json_text(found.runs.ended(&end)))
}

/// Artifacts of the experiment `0` are told by that id, and kept by its own.
fn name_default(clause: &mut RunClause, default: DefaultExperiment) {
    let (RunField::Text(TextField::ArtifactUri), Some(id)) = (&clause.field, default.0) else {
        return;
    };
    if let Test::Is(text) | Test::IsNot(text) | Test::Like(text) | Test::LikeAnyCase(text) =
        &mut clause.test
        && let Some(rest) = text.strip_prefix("mlflow-artifacts:/0/")
    {
        *text = format!("mlflow-artifacts:/{id}/{rest}");
    }
}

/// The id that a text says; what is no id is no run.
pub(super) fn parse(id: &str) -> Result<RunId, MlflowError> {
    id.parse().map_err(|_| missing(id))
}

fn missing(id: &str) -> MlflowError {
    MlflowError::missing(format!("Run with id={} not found", shown(id)))
}

/// The run of this id in the visitor's project, in the bin or not.
pub(super) async fn find(visitor: &Visitor, id: RunId) -> Result<Run, MlflowError> {
    let found = visitor.app.store.get_by_id::<RunSpec>(id.id()).await?;
    found
        .filter(|run| run.metadata.project == visitor.project)
        .ok_or_else(|| missing(&id.to_string()))
}

/// Authorises changing a run. A workload may change its own, and those that it made.
pub(super) async fn enter(visitor: &Visitor, id: &str) -> Result<RunId, MlflowError> {
    let id = parse(id)?;
    if let Principal::Workload { run: own, .. } = &visitor.caller.0
        && *own != Some(id.id())
        && find(visitor, id).await?.metadata.created_by == visitor.caller.0.label()
    {
        visitor.may(Access::Write, Kind::Run)?;
        return Ok(id);
    }
    visitor.may_touch(Access::Write, Kind::Run, id.id())?;
    Ok(id)
}

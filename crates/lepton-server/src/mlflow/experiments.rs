//! Experiments, which group runs. The one called `Default` is always there, under the id `0`.

use axum::Json;
use lepton_access::Access;
use lepton_store::{CommitError, Conflict, Transaction};
use lepton_types::Id;
use lepton_types::resources::{Experiment, ExperimentSpec, Kind, Resource, RunSpec};
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Pair, Visitor, given, list, need};
use super::error::{Answer, Code, MlflowError, shown};
use super::rules::{check_all_tags, check_experiment_name, check_experiment_tag, check_key};
use super::wire::{DEFAULT_EXPERIMENT, DefaultExperiment, Done, ExperimentWire, experiment_id};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Create {
    name: Option<String>,
    artifact_location: Option<String>,
    #[serde(deserialize_with = "list")]
    tags: Vec<Pair>,
}

#[derive(Serialize)]
pub(super) struct Created {
    experiment_id: String,
}

pub(super) async fn create(visitor: Visitor, Ask(ask): Ask<Create>) -> Answer<Created> {
    let name = need(&ask.name, "name")?;
    visitor.may(Access::Write, Kind::Experiment)?;
    check_experiment_name(name)?;
    let mut spec = ExperimentSpec {
        artifact_location: given(ask.artifact_location.as_ref()).map(str::to_owned),
        ..ExperimentSpec::default()
    };
    if let Some(location) = &spec.artifact_location {
        check_location(location)?;
    }
    for tag in &ask.tags {
        let (key, value) = (
            need(&tag.key, "key")?,
            tag.value.as_deref().unwrap_or_default(),
        );
        check_experiment_tag(key, value)?;
        spec.tags.insert(key.to_owned(), value.to_owned());
    }
    check_all_tags(&spec.tags, "", "")?;
    let experiment = draft(&visitor, name, spec);
    let mut transaction = Transaction::new();
    transaction.create(&experiment);
    match visitor.app.store.commit(transaction).await {
        Ok(_) => Ok(Json(Created {
            experiment_id: experiment_id(&experiment),
        })),
        Err(CommitError::Conflict(Conflict::AlreadyExists { .. })) => Err(MlflowError::new(
            Code::ResourceAlreadyExists,
            format!("Experiment(name={}) already exists.", shown(name)),
        )),
        Err(error) => Err(error.into()),
    }
}

fn draft(visitor: &Visitor, name: &str, spec: ExperimentSpec) -> Experiment {
    let (id, now) = (visitor.app.ids.next_id(), visitor.app.now());
    Resource::draft(id, visitor.project.clone(), name, now, spec)
        .created_by(visitor.caller.0.label())
}

/// Refuses places that only a client's own disk has, or that lead back to runs.
fn check_location(location: &str) -> Result<(), MlflowError> {
    let scheme = location.split_once(':').map(|(scheme, _)| scheme);
    let bad = location.len() > 2_048
        || location.contains(char::is_control)
        || location.split(['/', '\\']).any(|part| part == "..")
        || matches!(scheme, Some("runs" | "models"));
    match bad {
        true => Err(MlflowError::invalid(format!(
            "Invalid artifact_location: '{}'",
            shown(location)
        ))),
        false => Ok(()),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ById {
    experiment_id: Option<String>,
}

#[derive(Serialize)]
pub(super) struct One {
    experiment: ExperimentWire,
}

pub(super) async fn get(visitor: Visitor, Ask(ask): Ask<ById>) -> Answer<One> {
    let id = need(&ask.experiment_id, "experiment_id")?;
    visitor.may(Access::Read, Kind::Experiment)?;
    let found = match id {
        "0" => shown_default(&visitor).await?,
        id => find(&visitor, id).await?,
    };
    let experiment = ExperimentWire::of(found);
    Ok(Json(One { experiment }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ByName {
    experiment_name: Option<String>,
}

pub(super) async fn get_by_name(visitor: Visitor, Ask(ask): Ask<ByName>) -> Answer<One> {
    let name = need(&ask.experiment_name, "experiment_name")?;
    visitor.may(Access::Read, Kind::Experiment)?;
    let found = match name {
        DEFAULT_EXPERIMENT => Some(shown_default(&visitor).await?),
        name => {
            visitor
                .app
                .store
                .get::<ExperimentSpec>(&visitor.project, name)
                .await?
        }
    };
    let experiment = found.ok_or_else(|| {
        MlflowError::missing(format!(
            "Could not find experiment with name '{}'",
            shown(name)
        ))
    })?;
    let experiment = ExperimentWire::of(experiment);
    Ok(Json(One { experiment }))
}

pub(super) async fn delete(visitor: Visitor, Ask(ask): Ask<ById>) -> Answer<Done> {
    let id = need(&ask.experiment_id, "experiment_id")?;
    visitor.may(Access::Delete, Kind::Experiment)?;
    move_to_bin(&visitor, id, true).await
}

pub(super) async fn restore(visitor: Visitor, Ask(ask): Ask<ById>) -> Answer<Done> {
    let id = need(&ask.experiment_id, "experiment_id")?;
    let experiment = find(&visitor, id).await?;
    visitor.may_change(Kind::Experiment, &experiment.metadata)?;
    move_to_bin(&visitor, id, false).await
}

/// Puts an experiment with its runs into the bin, or takes it out: all at once.
async fn move_to_bin(visitor: &Visitor, id: &str, deleted: bool) -> Answer<Done> {
    let experiment = find(visitor, id).await?;
    if experiment.status.deleted_at.is_some() == deleted {
        let is = if deleted { "deleted" } else { "active" };
        return Err(MlflowError::new(
            Code::ResourceDoesNotExist,
            format!("Experiment with id={} is already {is}", shown(id)),
        ));
    }
    let now = visitor.app.now();
    let at = deleted.then_some(now);
    let mut transaction = Transaction::new();
    transaction.alter_group::<RunSpec>(experiment.metadata.id, move |run| {
        run.status.deleted_at = at;
        Ok(())
    });
    alter(visitor, transaction, &experiment, move |experiment| {
        experiment.status.deleted_at = at;
        experiment.status.updated_at = Some(now);
    })
    .await
}

/// Does `transaction`, and changes an experiment in it.
async fn alter(
    visitor: &Visitor,
    mut transaction: Transaction,
    experiment: &Experiment,
    change: impl Fn(&mut Experiment) + Send + Sync + 'static,
) -> Answer<Done> {
    transaction.alter::<ExperimentSpec>(experiment.metadata.id, move |experiment| {
        change(experiment);
        Ok(())
    });
    visitor.app.store.commit(transaction).await?;
    Ok(Json(Done {}))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Update {
    experiment_id: Option<String>,
    new_name: Option<String>,
}

pub(super) async fn update(visitor: Visitor, Ask(ask): Ask<Update>) -> Answer<Done> {
    let id = need(&ask.experiment_id, "experiment_id")?;
    let name = need(&ask.new_name, "new_name")?;
    visitor.may(Access::Write, Kind::Experiment)?;
    check_experiment_name(name)?;
    let experiment = find(&visitor, id).await?;
    visitor.may_change(Kind::Experiment, &experiment.metadata)?;
    if experiment.status.deleted_at.is_some() {
        let message = "Cannot rename a non-active experiment.";
        return Err(MlflowError::new(Code::InvalidState, message));
    }
    // The id `0` means whatever bears that name.
    let default = [experiment.metadata.name.as_str(), name].contains(&DEFAULT_EXPERIMENT);
    if default && experiment.metadata.name != name {
        return Err(MlflowError::invalid(format!(
            "Experiment '{DEFAULT_EXPERIMENT}' keeps its name, and no other one takes it"
        )));
    }
    let (name, now) = (name.to_owned(), visitor.app.now());
    alter(
        &visitor,
        Transaction::new(),
        &experiment,
        move |experiment| {
            experiment.metadata.name.clone_from(&name);
            experiment.status.updated_at = Some(now);
        },
    )
    .await
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct TagOf {
    experiment_id: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

pub(super) async fn set_tag(visitor: Visitor, Ask(ask): Ask<TagOf>) -> Answer<Done> {
    let id = need(&ask.experiment_id, "experiment_id")?;
    let key = need(&ask.key, "key")?;
    let value = ask.value.as_deref().unwrap_or_default();
    visitor.may(Access::Write, Kind::Experiment)?;
    check_experiment_tag(key, value)?;
    let experiment = find_active(&visitor, id).await?;
    check_all_tags(&experiment.spec.tags, key, value)?;
    let (key, value) = (key.to_owned(), value.to_owned());
    let mut transaction = Transaction::new();
    transaction.require_experiment(experiment.metadata.id.into());
    alter(&visitor, transaction, &experiment, move |experiment| {
        experiment.spec.tags.insert(key.clone(), value.clone());
    })
    .await
}

pub(super) async fn delete_tag(visitor: Visitor, Ask(ask): Ask<TagOf>) -> Answer<Done> {
    let id = need(&ask.experiment_id, "experiment_id")?;
    let key = need(&ask.key, "key")?;
    visitor.may(Access::Write, Kind::Experiment)?;
    check_key(key, "key")?;
    let experiment = find_active(&visitor, id).await?;
    visitor.may_change(Kind::Experiment, &experiment.metadata)?;
    if !experiment.spec.tags.contains_key(key) {
        return Err(MlflowError::missing(format!(
            "No tag with name: {} in experiment with id {id}",
            shown(key)
        )));
    }
    let key = key.to_owned();
    alter(
        &visitor,
        Transaction::new(),
        &experiment,
        move |experiment| {
            experiment.spec.tags.remove(&key);
        },
    )
    .await
}

/// The experiment of this id, in the bin or not.
pub(super) async fn find(visitor: &Visitor, id: &str) -> Result<Experiment, MlflowError> {
    let missing = || MlflowError::missing(format!("No Experiment with id={} exists", shown(id)));
    if id == "0" {
        return default_experiment(visitor).await;
    }
    let parsed: Id = match id.parse() {
        Ok(parsed) => parsed,
        Err(_) if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) => {
            return Err(missing());
        }
        Err(_) => {
            return Err(MlflowError::invalid(format!(
                "Invalid experiment ID: '{}'",
                shown(id)
            )));
        }
    };
    let found = visitor
        .app
        .store
        .get_by_id::<ExperimentSpec>(parsed)
        .await?;
    found
        .filter(|experiment| experiment.metadata.project == visitor.project)
        .ok_or_else(missing)
}

/// The experiment of this id, which must not be in the bin.
pub(super) async fn find_active(visitor: &Visitor, id: &str) -> Result<Experiment, MlflowError> {
    let experiment = find(visitor, id).await?;
    match experiment.status.deleted_at {
        None => Ok(experiment),
        Some(_) => Err(MlflowError::invalid(format!(
            "The experiment {} must be in the 'active' state. Current state is deleted.",
            shown(id)
        ))),
    }
}

/// The experiment that MLflow knows as `0`. Who may make none is shown what it will be.
async fn shown_default(visitor: &Visitor) -> Result<Experiment, MlflowError> {
    let (store, project) = (&visitor.app.store, &visitor.project);
    let found = store
        .get::<ExperimentSpec>(project, DEFAULT_EXPERIMENT)
        .await?;
    match found {
        Some(found) => Ok(found),
        None if visitor.may(Access::Write, Kind::Experiment).is_ok() => {
            default_experiment(visitor).await
        }
        None => Ok(draft(
            visitor,
            DEFAULT_EXPERIMENT,
            ExperimentSpec::default(),
        )),
    }
}

/// The experiment that MLflow knows as `0`; made if it is not there yet.
pub(super) async fn default_experiment(visitor: &Visitor) -> Result<Experiment, MlflowError> {
    let store = &visitor.app.store;
    loop {
        let found = store
            .get::<ExperimentSpec>(&visitor.project, DEFAULT_EXPERIMENT)
            .await?;
        if let Some(found) = found {
            return Ok(found);
        }
        let draft = draft(visitor, DEFAULT_EXPERIMENT, ExperimentSpec::default());
        let mut transaction = Transaction::new();
        transaction.create(&draft.created_by("lepton"));
        match store.commit(transaction).await {
            // Somebody else was faster, which is as good; read what is there now.
            Ok(_) | Err(CommitError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Which experiment MLflow knows as `0`, if there is one yet.
pub(super) async fn default_id(visitor: &Visitor) -> Result<DefaultExperiment, MlflowError> {
    let found = visitor
        .app
        .store
        .get::<ExperimentSpec>(&visitor.project, DEFAULT_EXPERIMENT)
        .await?;
    Ok(DefaultExperiment(found.map(|found| found.metadata.id)))
}

/// The ids of experiments that a search names; those that are not there are left out.
pub(super) fn ids_of(named: &[String], default: DefaultExperiment) -> Result<Vec<Id>, MlflowError> {
    let mut ids = Vec::with_capacity(named.len());
    for id in named {
        match id.parse::<Id>() {
            Ok(id) => ids.push(id),
            Err(_) if id == "0" => ids.extend(default.0),
            Err(_) if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) => {}
            Err(_) => {
                return Err(MlflowError::invalid(format!(
                    "Invalid experiment ID: '{}'",
                    shown(id)
                )));
            }
        }
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > EXPERIMENTS_MAX {
        return Err(MlflowError::invalid(format!(
            "a search takes {EXPERIMENTS_MAX} experiments"
        )));
    }
    Ok(ids)
}

/// Experiments in one search: what one statement takes.
const EXPERIMENTS_MAX: usize = 10_000;

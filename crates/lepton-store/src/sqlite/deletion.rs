//! What goes along with a project, an experiment or a logged model that is really deleted.
//!
//! A name is not an identity: whoever makes a project of the same name again must find nothing of
//! what was there. So whatever is found by the name of its project goes in the transaction that
//! deletes it, and a test holds the list below against the tables.

use lepton_types::Id;
use rusqlite::{Connection, OptionalExtension, params};

use super::files::drop_kept;
use super::series_writer;
use super::traces;
use crate::{CommitError, Conflict};

/// Tables whose rows are found by the name of their project, beside `resources`, which must be
/// empty by then, and `tombstones`, which hold ids alone and are what watchers learn it from.
const BY_PROJECT: [&str; 6] = [
    "lineage",
    "retired_numbers",
    "events",
    "traces",
    "trace_spans",
    "kept_files",
];

/// Forgets all of a project whose resources are gone; a conflict if some are not.
pub(super) fn forget_project(connection: &Connection, project: &str) -> Result<(), CommitError> {
    let left: Option<u8> = connection
        .prepare_cached("SELECT kind FROM resources WHERE project = ?1 LIMIT 1")?
        .query_row([project], |row| row.get(0))
        .optional()?;
    if left.is_some() {
        return Err(Conflict::ProjectInUse {
            project: project.to_owned(),
        }
        .into());
    }
    drop_models(connection, "project = ?1", project)?;
    for table in BY_PROJECT {
        connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE project = ?1"))?
            .execute([project])?;
    }
    Ok(())
}

/// Forgets what clients kept of an experiment: its logged models, its data, its traces, and the files of
/// all of them. `project` is the experiment's.
pub(super) fn forget_experiment(
    connection: &Connection,
    experiment: Id,
    project: &str,
) -> Result<(), rusqlite::Error> {
    forget_some(connection, (experiment, project), usize::MAX)?;
    for table in ["datasets", "run_datasets"] {
        connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE experiment = ?1"))?
            .execute([experiment.to_bytes()])?;
    }
    Ok(())
}

/// Forgets at most `most` logged models and as many traces of an experiment; whether that was not all.
pub(super) fn forget_some(
    connection: &Connection,
    (experiment, project): (Id, &str),
    most: usize,
) -> Result<bool, rusqlite::Error> {
    let (id, limit) = (
        experiment.to_bytes(),
        i64::try_from(most).unwrap_or(i64::MAX),
    );
    let models: Vec<[u8; 16]> = connection
        .prepare_cached("SELECT id FROM logged_models WHERE experiment = ?1 LIMIT ?2")?
        .query_map(params![id, limit], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for model in &models {
        drop_logged_model(connection, Id::from_bytes(*model), project)?;
    }
    let traces: Vec<String> = connection
        .prepare_cached("SELECT id FROM traces WHERE experiment = ?1 AND project = ?2 LIMIT ?3")?
        .query_map(params![id, project, limit], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for trace in &traces {
        traces::delete(connection, project, trace)?;
    }
    Ok(models.len() == most || traces.len() == most)
}

/// Deletes a logged model with its files.
pub(super) fn drop_logged_model(
    connection: &Connection,
    model: Id,
    project: &str,
) -> Result<(), rusqlite::Error> {
    let place: Option<String> = connection
        .prepare_cached("SELECT artifact_uri FROM logged_models WHERE id = ?1")?
        .query_row([model.to_bytes()], |row| row.get(0))
        .optional()?;
    if let Some(path) = place
        .as_deref()
        .and_then(|place| place.strip_prefix("mlflow-artifacts:/"))
    {
        drop_kept(connection, project, path)?;
    }
    drop_models(connection, "id = ?1", model.to_bytes())
}

/// Deletes the logged models that `which` names, with all that hangs on them.
fn drop_models(
    connection: &Connection,
    which: &str,
    argument: impl rusqlite::ToSql,
) -> Result<(), rusqlite::Error> {
    for (table, column) in [
        ("run_params", "run"),
        ("run_tags", "run"),
        ("model_metrics", "model"),
        ("run_models", "model"),
    ] {
        connection
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE {column} IN (SELECT id FROM logged_models WHERE {which})"
            ))?
            .execute(params![argument])?;
    }
    connection
        .prepare_cached(&format!("DELETE FROM logged_models WHERE {which}"))?
        .execute(params![argument])?;
    Ok(())
}

/// Forgets what hangs on a resource that is deleted.
pub(super) fn forget_record(connection: &Connection, id: Id) -> Result<(), rusqlite::Error> {
    series_writer::drop_series(connection, id)?;
    for table in ["run_params", "run_tags"] {
        connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE run = ?1"))?
            .execute([id.to_bytes()])?;
    }
    Ok(())
}

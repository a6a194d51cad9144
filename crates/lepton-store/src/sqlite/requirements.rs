//! What must be there for a write: asked in the transaction that writes, so that nothing comes in
//! between. Whatever hangs on a record (parameters, tags, points, files) is refused without it.

use lepton_types::resources::Kind;
use lepton_types::{Id, Name};
use rusqlite::{Connection, OptionalExtension, params};

use crate::requirements::Requirement;
use crate::{CommitError, Conflict};

pub(super) fn require(
    connection: &Connection,
    requirement: &Requirement,
) -> Result<(), CommitError> {
    match requirement {
        Requirement::Run { run, project } => require_run(connection, *run, project),
        Requirement::Tag { of, key } => require_tag(connection, *of, key),
        Requirement::LoggedModel { model, project } => {
            require_logged_model(connection, *model, project)
        }
        Requirement::Resource { kind, id } => require_resource(connection, *kind, *id),
        Requirement::Experiment { experiment } => require_experiment(connection, *experiment),
    }
}

/// A run or a logged model: what has parameters, tags and points.
pub(super) fn require_record(connection: &Connection, id: Id) -> Result<(), CommitError> {
    let there = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM run_index WHERE run = ?1)
                 OR EXISTS (SELECT 1 FROM logged_models WHERE id = ?1)",
        )?
        .query_row([id.to_bytes()], |row| row.get(0))?;
    match there {
        true => Ok(()),
        false => Err(Conflict::RunMissing { run: id }.into()),
    }
}

/// A conflict if a logged model has this id: tags and parameters of both are found by it, so whoever made
/// a run of the id of another tenant's model would see them.
pub(super) fn require_free_of_model(connection: &Connection, id: Id) -> Result<(), CommitError> {
    let is_taken = connection
        .prepare_cached("SELECT 1 FROM logged_models WHERE id = ?1")?
        .exists([id.to_bytes()])?;
    match is_taken {
        true => Err(Conflict::AlreadyExists {
            kind: Kind::Run,
            name: id.to_string(),
        }
        .into()),
        false => Ok(()),
    }
}

/// A conflict if any record has this id, which a logged model is to have.
pub(super) fn require_free_for_model(connection: &Connection, id: Id) -> Result<(), CommitError> {
    let is_taken = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM resources WHERE id = ?1)
                 OR EXISTS (SELECT 1 FROM logged_models WHERE id = ?1)",
        )?
        .query_row([id.to_bytes()], |row| row.get(0))?;
    match is_taken {
        true => Err(Conflict::LoggedModelExists { model: id }.into()),
        false => Ok(()),
    }
}

/// A logged model in the project of a run.
pub(super) fn require_model_of_run(
    connection: &Connection,
    model: Id,
    run: Id,
) -> Result<(), CommitError> {
    let there = connection
        .prepare_cached(
            "SELECT 1 FROM logged_models JOIN run_index USING (project) WHERE id = ?1 AND run = ?2",
        )?
        .exists(params![model.to_bytes(), run.to_bytes()])?;
    match there {
        true => Ok(()),
        false => Err(Conflict::LoggedModelMissing { model }.into()),
    }
}

/// Refuses to write into a project that is gone: whoever makes one of its name again must not find
/// it there. The default one never goes.
pub(super) fn require_project(connection: &Connection, project: &str) -> Result<(), CommitError> {
    if project == Name::default_project().as_str() {
        return Ok(());
    }
    let there = connection
        .prepare_cached("SELECT 1 FROM resources WHERE kind = ?1 AND project = ?2 AND key = ?3")?
        .exists(params![
            Kind::Project.code(),
            Name::default_project().as_str(),
            project
        ])?;
    match there {
        true => Ok(()),
        false => Err(Conflict::ProjectMissing {
            project: project.to_owned(),
        }
        .into()),
    }
}

fn require_run(connection: &Connection, run: Id, project: &str) -> Result<(), CommitError> {
    let found: Option<(String, bool)> = connection
        .prepare_cached("SELECT project, deleted FROM run_index WHERE run = ?1")?
        .query_row([run.to_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match found {
        Some((home, false)) if home == project => Ok(()),
        Some((home, true)) if home == project => Err(Conflict::RunDeleted { run }.into()),
        Some(_) | None => Err(Conflict::RunMissing { run }.into()),
    }
}

fn require_logged_model(
    connection: &Connection,
    model: Id,
    project: &str,
) -> Result<(), CommitError> {
    let there = connection
        .prepare_cached("SELECT 1 FROM logged_models WHERE id = ?1 AND project = ?2")?
        .exists(params![model.to_bytes(), project])?;
    match there {
        true => Ok(()),
        false => Err(Conflict::LoggedModelMissing { model }.into()),
    }
}

fn require_tag(connection: &Connection, of: Id, key: &str) -> Result<(), CommitError> {
    let there = connection
        .prepare_cached("SELECT 1 FROM run_tags WHERE run = ?1 AND key = ?2")?
        .exists(params![of.to_bytes(), key])?;
    let key = key.chars().take(64).collect();
    match there {
        true => Ok(()),
        false => Err(Conflict::TagMissing { run: of, key }.into()),
    }
}

fn require_resource(connection: &Connection, kind: Kind, id: Id) -> Result<(), CommitError> {
    let there = connection
        .prepare_cached("SELECT 1 FROM resources WHERE id = ?1 AND kind = ?2")?
        .exists(params![id.to_bytes(), kind.code()])?;
    match there {
        true => Ok(()),
        false => Err(Conflict::Missing { kind, id }.into()),
    }
}

fn require_experiment(connection: &Connection, experiment: Id) -> Result<(), CommitError> {
    let kind = Kind::Experiment;
    let phase: Option<String> = connection
        .prepare_cached("SELECT phase FROM resources WHERE id = ?1 AND kind = ?2")?
        .query_row(params![experiment.to_bytes(), kind.code()], |row| {
            row.get(0)
        })
        .optional()?;
    match phase.as_deref() {
        Some("deleted") => Err(Conflict::InBin {
            kind,
            id: experiment,
        }
        .into()),
        Some(_) => Ok(()),
        None => Err(Conflict::Missing {
            kind,
            id: experiment,
        }
        .into()),
    }
}

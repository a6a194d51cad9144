//! What each write of a transaction does to the tables.

use lepton_types::Id;
use lepton_types::resources::Kind;
use rusqlite::{Connection, OptionalExtension, params};

use super::alteration::alter;
use super::deletion;
use super::lineage;
use super::pairs::{add_to_tag, set_params, set_tags};
use super::purge::purge;
use super::requirements::{require, require_free_of_model, require_project, require_record};
use super::series_writer;
use super::traces;
use super::tracking;
use crate::transaction::{EventDraft, Row, Write};
use crate::{CommitError, Conflict, Transaction};

/// Does all writes of a transaction. `version` is the store's counter, and `appended` the runs that got
/// points.
pub(super) fn apply(
    connection: &Connection,
    transaction: &Transaction,
    version: &mut u64,
    appended: &mut Vec<(Id, u64)>,
) -> Result<(), CommitError> {
    for write in &transaction.writes {
        match write {
            Write::Create(row) => create(connection, row, next(version))?,
            Write::Update(row) => update(connection, row, next(version))?,
            Write::Delete {
                kind,
                id,
                name,
                expected,
            } => {
                let found: Option<u64> = connection
                    .prepare_cached("SELECT version FROM resources WHERE id = ?1")?
                    .query_row([id.to_bytes()], |row| row.get(0))
                    .optional()?;
                if found != Some(*expected) {
                    return Err(Conflict::Changed {
                        kind: *kind,
                        name: name.clone(),
                    }
                    .into());
                }
                delete_owned(connection, *id, version)?;
                if *kind == Kind::Project {
                    deletion::forget_project(connection, name)?;
                }
            }
            Write::Alter(alteration) => alter(connection, alteration, version)?,
            Write::Require(requirement) => require(connection, requirement)?,
            Write::Event(event) => record_event(connection, event)?,
            Write::Params { run, pairs } => {
                require_record(connection, *run)?;
                set_params(connection, *run, pairs)?;
            }
            Write::Tags { run, pairs } => {
                require_record(connection, *run)?;
                set_tags(connection, *run, pairs)?;
            }
            Write::AddToTag {
                of,
                key,
                value,
                chars_max,
            } => {
                require_record(connection, *of)?;
                add_to_tag(connection, *of, (key, value), *chars_max)?;
            }
            Write::DeleteTag { run, key } => {
                connection
                    .prepare_cached("DELETE FROM run_tags WHERE run = ?1 AND key = ?2")?
                    .execute(params![run.to_bytes(), key])?;
            }
            Write::Metrics { run, points } => {
                require_record(connection, *run)?;
                appended.push((*run, series_writer::append(connection, *run, points)?));
            }
            Write::Lineage { project, edge } => lineage::record(connection, project, edge)?,
            Write::Tracking(write) => tracking::apply(connection, write)?,
            Write::Trace(write) => traces::apply(connection, write)?,
            Write::Purge { what, ids, until } => {
                purge(connection, (*what, ids.as_slice()), *until, version)?;
            }
        }
    }
    Ok(())
}

pub(super) fn next(version: &mut u64) -> u64 {
    *version += 1;
    *version
}

fn create(connection: &Connection, row: &Row, version: u64) -> Result<(), CommitError> {
    require_project(connection, &row.project)?;
    if row.kind == Kind::Run {
        require_free_of_model(connection, row.id)?;
    }
    let inserted = connection
        .prepare_cached(
            "INSERT INTO resources (id, kind, project, key, name, owner, grp, phase, version, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            row.id.to_bytes(),
            row.kind.code(),
            row.project,
            row.key,
            row.name,
            row.owner.map(Id::to_bytes),
            row.group.map(Id::to_bytes),
            row.phase,
            version,
            row.json,
        ])?;
    if inserted == 1 {
        return Ok(());
    }
    Err(Conflict::AlreadyExists {
        kind: row.kind,
        name: row.name.clone(),
    }
    .into())
}

pub(super) fn update(connection: &Connection, row: &Row, version: u64) -> Result<(), CommitError> {
    let updated = connection
        .prepare_cached(
            "UPDATE OR IGNORE resources SET key = ?1, name = ?2, owner = ?3, grp = ?4, phase = ?5,
             version = ?6, body = ?7 WHERE id = ?8 AND version = ?9",
        )?
        .execute(params![
            row.key,
            row.name,
            row.owner.map(Id::to_bytes),
            row.group.map(Id::to_bytes),
            row.phase,
            version,
            row.json,
            row.id.to_bytes(),
            row.expected,
        ])?;
    if updated == 1 {
        return Ok(());
    }
    let found: Option<u64> = connection
        .prepare_cached("SELECT version FROM resources WHERE id = ?1")?
        .query_row([row.id.to_bytes()], |found| found.get(0))
        .optional()?;
    let (kind, name) = (row.kind, row.name.clone());
    Err(match found {
        Some(found) if found == row.expected => Conflict::AlreadyExists { kind, name },
        _ => Conflict::Changed { kind, name },
    }
    .into())
}

/// Deletes `id` and, breadth first, whatever it owns.
pub(super) fn delete_owned(
    connection: &Connection,
    id: Id,
    version: &mut u64,
) -> Result<(), CommitError> {
    let mut waiting = vec![id];
    while let Some(id) = waiting.pop() {
        let owned: Vec<[u8; 16]> = connection
            .prepare_cached("SELECT id FROM resources WHERE owner = ?1")?
            .query_map([id.to_bytes()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        waiting.extend(owned.into_iter().map(Id::from_bytes));
        connection
            .prepare_cached(
                "INSERT INTO tombstones (version, kind, project, id)
                 SELECT ?1, kind, project, id FROM resources WHERE id = ?2",
            )?
            .execute(params![next(version), id.to_bytes()])?;
        lineage::retire_number(connection, id)?;
        deletion::forget_record(connection, id)?;
        let experiment: Option<String> = connection
            .prepare_cached("SELECT project FROM resources WHERE id = ?1 AND kind = ?2")?
            .query_row(params![id.to_bytes(), Kind::Experiment.code()], |row| {
                row.get(0)
            })
            .optional()?;
        if let Some(project) = experiment {
            deletion::forget_experiment(connection, id, &project)?;
        }
        connection
            .prepare_cached("DELETE FROM resources WHERE id = ?1")?
            .execute([id.to_bytes()])?;
    }
    Ok(())
}

fn record_event(connection: &Connection, event: &EventDraft) -> Result<(), CommitError> {
    connection
        .prepare_cached(
            "INSERT INTO events (at, project, kind, id, name, severity, reason, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            event.at.as_millis(),
            event.project.as_str(),
            event.kind.code(),
            event.id.to_bytes(),
            event.name,
            event.severity.as_str(),
            event.reason,
            event.message,
        ])?;
    Ok(())
}

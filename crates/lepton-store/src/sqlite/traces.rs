//! What calls of models and agents did.
//!
//! | table | key | holds |
//! |---|---|---|
//! | `traces` | `project, id` | one row a trace; `body` is its JSON |
//! | `trace_spans` | `project, trace, span` | its steps; `body` is what clients read |

use lepton_types::trace::Trace;
use lepton_types::{Id, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::files::drop_kept;
use super::reader::Reader;
use super::requirements::require_project;
use crate::traces::{AssessmentChange, TraceChange, TraceWrite};
use crate::{CommitError, Conflict, StoreError};

/// From schema 3 to schema 4.
pub(super) const SCHEMA: &str = r"
CREATE TABLE traces (
    project TEXT NOT NULL, id TEXT NOT NULL, experiment BLOB NOT NULL, began INTEGER NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (project, id)
) WITHOUT ROWID;
CREATE INDEX traces_began ON traces (experiment, began DESC, id DESC);
CREATE TABLE trace_spans (
    project TEXT NOT NULL, trace TEXT NOT NULL, span TEXT NOT NULL, began INTEGER NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (project, trace, span)
) WITHOUT ROWID;
";

pub(super) fn apply(connection: &Connection, write: &TraceWrite) -> Result<(), CommitError> {
    match write {
        TraceWrite::Put {
            project,
            experiment,
            trace,
        } => {
            require_project(connection, project)?;
            let known = Reader::new(connection).trace(project, &trace.id)?;
            let trace = match known {
                Some((_, known)) => Trace::merged(known, trace.as_ref().clone()),
                None => trace.as_ref().clone(),
            };
            put(connection, project, *experiment, &trace)?;
        }
        TraceWrite::Spans { project, spans } => {
            require_project(connection, project)?;
            let mut insert = connection.prepare_cached(
                "INSERT OR REPLACE INTO trace_spans (project, trace, span, began, body)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for span in spans {
                let (trace, id) = (&span.trace, &span.span);
                insert.execute(params![project, trace, id, span.began_nanos, span.body])?;
            }
        }
        TraceWrite::Change {
            project,
            id,
            change,
        } => {
            let missing = || Conflict::TraceMissing { trace: id.clone() };
            let found = Reader::new(connection).trace(project, id)?;
            let (experiment, mut trace) = found.ok_or_else(missing)?;
            alter(&mut trace, change)?;
            put(connection, project, experiment, &trace)?;
        }
        TraceWrite::RequireMaker { project, id, maker } => {
            let known = Reader::new(connection).trace(project, id)?;
            if known.is_some_and(|(_, trace)| trace.created_by != *maker) {
                return Err(Conflict::TraceOfOther { trace: id.clone() }.into());
            }
        }
        TraceWrite::Delete { project, id } => {
            delete(connection, project, id)?;
        }
    }
    Ok(())
}

/// Deletes a trace with its steps and its files.
pub(super) fn delete(
    connection: &Connection,
    project: &str,
    id: &str,
) -> Result<(), rusqlite::Error> {
    let place: Option<String> = connection
        .prepare_cached(&format!(
            "SELECT body ->> '{LOCATION}' FROM traces WHERE project = ?1 AND id = ?2"
        ))?
        .query_row(params![project, id], |row| row.get(0))
        .optional()?
        .flatten();
    // Nobody else's files lie in a folder of this name, whatever else the place may say.
    if let Some(path) = place
        .as_deref()
        .and_then(|place| place.strip_prefix("mlflow-artifacts:/"))
        .filter(|path| path.ends_with(&format!("traces/{id}/artifacts")))
    {
        drop_kept(connection, project, path)?;
    }
    connection
        .prepare_cached("DELETE FROM traces WHERE project = ?1 AND id = ?2")?
        .execute(params![project, id])?;
    connection
        .prepare_cached("DELETE FROM trace_spans WHERE project = ?1 AND trace = ?2")?
        .execute(params![project, id])?;
    Ok(())
}

/// Where the JSON of a trace says that its files are.
const LOCATION: &str = r#"$.tags."mlflow.artifactLocation""#;

/// Bytes of the JSON of a trace. It is read and written whole, and many of them at once.
const TRACE_BYTES_MAX: usize = 4 << 20;

fn alter(trace: &mut Trace, change: &TraceChange) -> Result<(), Conflict> {
    if let Some(at) = change.ended_at {
        let began = trace.began_at.as_millis();
        trace.took_ms = Some(at.as_millis().saturating_sub(began));
    }
    if let Some(state) = &change.state {
        trace.state.clone_from(state);
    }
    trace.metadata.extend(change.metadata.clone());
    trace.tags.extend(change.tags.clone());
    if let Some(change) = &change.assessed {
        assess(trace, change)?;
    }
    match &change.dropped_tag {
        Some(key) if trace.tags.remove(key).is_none() => Err(Conflict::TraceTagMissing {
            trace: trace.id.clone(),
            key: key.chars().take(64).collect(),
        }),
        Some(_) | None => Ok(()),
    }
}

fn assess(trace: &mut Trace, change: &AssessmentChange) -> Result<(), Conflict> {
    let missing = |trace: &Trace, id: &str| Conflict::AssessmentMissing {
        trace: trace.id.clone(),
        id: id.chars().take(64).collect(),
    };
    let most = match change {
        AssessmentChange::Add {
            assessment,
            bytes_max,
        } => {
            let overridden = assessment.overrides.clone().unwrap_or_default();
            if !trace.assess(assessment.as_ref().clone()) {
                return Err(missing(trace, &overridden));
            }
            *bytes_max
        }
        AssessmentChange::Alter {
            id,
            at,
            name,
            verdict,
            rationale,
            metadata,
            bytes_max,
        } => {
            let altered = trace.reassess(id, |known| {
                if let Some(verdict) = verdict {
                    if !verdict.is_like(&known.verdict) {
                        return false;
                    }
                    known.verdict = verdict.clone();
                }
                if let Some(name) = name {
                    known.name.clone_from(name);
                }
                if rationale.is_some() {
                    known.rationale.clone_from(rationale);
                }
                known.metadata.extend(metadata.clone());
                known.updated_at = *at;
                true
            });
            if !altered.ok_or_else(|| missing(trace, id))? {
                return Err(Conflict::AssessmentOfOtherKind);
            }
            *bytes_max
        }
        AssessmentChange::TakeBack { id } => {
            trace.take_back(id);
            usize::MAX
        }
    };
    let text = serde_json::to_string(&trace.assessments).expect("invariant: texts serialise");
    match text.len() <= most {
        true => Ok(()),
        false => Err(Conflict::TooManyAssessments),
    }
}

fn put(
    connection: &Connection,
    project: &str,
    experiment: Id,
    trace: &Trace,
) -> Result<(), CommitError> {
    let body = serde_json::to_string(trace).expect("invariant: texts serialise");
    if body.len() > TRACE_BYTES_MAX {
        return Err(Conflict::TraceTooLong {
            trace: trace.id.clone(),
            most: TRACE_BYTES_MAX,
        }
        .into());
    }
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO traces (project, id, experiment, began, body)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            project,
            trace.id,
            experiment.to_bytes(),
            trace.began_at.as_millis(),
            body,
        ])?;
    Ok(())
}

impl Reader<'_> {
    pub(crate) fn trace(&self, project: &str, id: &str) -> Result<Option<(Id, Trace)>, StoreError> {
        let found = self
            .connection()
            .prepare_cached("SELECT experiment, body FROM traces WHERE project = ?1 AND id = ?2")?
            .query_row(params![project, id], trace_of)
            .optional()?;
        Ok(found.flatten())
    }

    pub(crate) fn spans(
        &self,
        project: &str,
        trace: &str,
        bytes_max: u64,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let bytes: u64 = self
            .connection()
            .prepare_cached(
                "SELECT COALESCE(SUM(octet_length(body) + 1), 0) FROM trace_spans
                 WHERE project = ?1 AND trace = ?2",
            )?
            .query_row(params![project, trace], |row| row.get(0))?;
        if bytes > bytes_max {
            return Ok(None);
        }
        let mut statement = self.connection().prepare_cached(
            "SELECT body FROM trace_spans WHERE project = ?1 AND trace = ?2 ORDER BY began, span",
        )?;
        let rows = statement.query_map(params![project, trace], |row| row.get(0))?;
        Ok(Some(rows.collect::<Result<_, _>>()?))
    }

    pub(crate) fn traces(
        &self,
        project: &str,
        experiments: &[Id],
        before: Option<&(Timestamp, String)>,
        limit: usize,
    ) -> Result<Vec<(Id, Trace)>, StoreError> {
        let marks = vec!["?"; experiments.len()].join(",");
        let mut sql = format!(
            "SELECT experiment, body FROM traces WHERE experiment IN ({marks}) AND project = ?"
        );
        let ids = experiments
            .iter()
            .map(|id| Value::from(id.to_bytes().to_vec()));
        let mut arguments: Vec<Value> = ids.collect();
        arguments.push(project.to_owned().into());
        if let Some((at, id)) = before {
            sql.push_str(" AND (began, id) < (?, ?)");
            arguments.extend([at.as_millis().into(), id.clone().into()]);
        }
        sql.push_str(" ORDER BY began DESC, id DESC LIMIT ?");
        arguments.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
        let mut statement = self.connection().prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(arguments))?;
        let (mut traces, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            bytes += row.get_ref(1)?.as_bytes().map_or(0, <[u8]>::len);
            traces.extend(trace_of(row)?);
            if bytes > PIECE_BYTES_MAX && !traces.is_empty() {
                break;
            }
        }
        Ok(traces)
    }
}

/// Bytes of traces that are read at once.
const PIECE_BYTES_MAX: usize = 8 << 20;

/// None for a row that does not read back.
fn trace_of(row: &Row<'_>) -> rusqlite::Result<Option<(Id, Trace)>> {
    let body: String = row.get(1)?;
    let trace = serde_json::from_str(&body).ok();
    let experiment = Id::from_bytes(row.get(0)?);
    Ok(trace.map(|trace| (experiment, trace)))
}

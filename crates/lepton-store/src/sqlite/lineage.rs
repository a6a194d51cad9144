//! Lineage on disk: edges by source, and by target.

use std::collections::{BTreeSet, VecDeque};

use lepton_types::resources::{Kind, LineageEdge, LineageNode, LineageRelation};
use lepton_types::{Id, Timestamp};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::Reader;
use crate::{LineageQuery, StoreError};

const RELATIONS: [LineageRelation; 3] = [
    LineageRelation::ReadBy,
    LineageRelation::Made,
    LineageRelation::ServedBy,
];

const FORWARD: &str =
    "SELECT source, source_kind, source_name, relation, target, target_kind, target_name,
            first_at, last_at, requests
     FROM lineage WHERE project = ?1 AND source = ?2 ORDER BY last_at DESC, target LIMIT ?3";
const BACKWARD: &str =
    "SELECT source, source_kind, source_name, relation, target, target_kind, target_name,
            first_at, last_at, requests
     FROM lineage WHERE project = ?1 AND target = ?2 ORDER BY last_at DESC, source LIMIT ?3";

pub(super) const SCHEMA: &str = r"
CREATE TABLE lineage (
    project TEXT NOT NULL,
    source BLOB NOT NULL,
    relation TEXT NOT NULL,
    target BLOB NOT NULL,
    source_kind INTEGER NOT NULL,
    source_name TEXT NOT NULL,
    target_kind INTEGER NOT NULL,
    target_name TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (source, relation, target)
) WITHOUT ROWID;
CREATE INDEX lineage_target ON lineage (target, relation, source);
CREATE TABLE retired_numbers (
    project TEXT NOT NULL, key TEXT NOT NULL, latest INTEGER NOT NULL, PRIMARY KEY (project, key)
) WITHOUT ROWID;
";

pub(super) fn record(
    connection: &Connection,
    project: &str,
    edge: &LineageEdge,
) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT INTO lineage (project, source, relation, target, source_kind, source_name,
                                  target_kind, target_name, first_at, last_at, requests)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (source, relation, target) DO UPDATE
             SET last_at = CASE WHEN excluded.requests = 0 AND excluded.relation = ?12 THEN last_at
                           ELSE MAX(last_at, excluded.last_at) END,
                 requests = requests + excluded.requests",
        )?
        .execute(params![
            project,
            edge.from.id.to_bytes(),
            edge.relation.as_str(),
            edge.to.id.to_bytes(),
            edge.from.kind.code(),
            edge.from.name,
            edge.to.kind.code(),
            edge.to.name,
            edge.first_at.as_millis(),
            edge.last_at.as_millis(),
            i64::try_from(edge.requests).unwrap_or(i64::MAX),
            // To be ready to answer is not to be asked.
            LineageRelation::ServedBy.as_str(),
        ])?;
    Ok(())
}

/// Remembers the newest version of a dataset that is about to be deleted; nothing of other kinds.
pub(super) fn retire_number(connection: &Connection, id: Id) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT INTO retired_numbers (project, key, latest)
             SELECT project, key, json_extract(body, '$.status.latest_version')
             FROM resources WHERE id = ?1 AND kind = ?2
             ON CONFLICT (project, key) DO UPDATE SET latest = excluded.latest",
        )?
        .execute(params![id.to_bytes(), Kind::Dataset.code()])?;
    Ok(())
}

impl Reader<'_> {
    /// Breadth first, so that what is near is told where there is more than the bound.
    pub(crate) fn lineage(&self, query: &LineageQuery) -> Result<Vec<LineageEdge>, StoreError> {
        let mut edges = Vec::new();
        if query.backward {
            self.walk(query, BACKWARD, |edge| edge.from.id, &mut edges)?;
        }
        if query.forward {
            self.walk(query, FORWARD, |edge| edge.to.id, &mut edges)?;
        }
        Ok(edges)
    }

    fn walk(
        &self,
        query: &LineageQuery,
        sql: &str,
        next: impl Fn(&LineageEdge) -> Id,
        edges: &mut Vec<LineageEdge>,
    ) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut seen = BTreeSet::from([query.of]);
        let mut waiting = VecDeque::from([query.of]);
        while let Some(id) = waiting.pop_front() {
            let room = LineageQuery::EDGES_MAX.saturating_sub(edges.len());
            let limit = i64::try_from(room).unwrap_or(i64::MAX);
            let found = statement
                .query_map(
                    params![query.project.as_str(), id.to_bytes(), limit],
                    edge_of,
                )?
                .collect::<Result<Vec<LineageEdge>, _>>()?;
            for edge in found {
                if seen.insert(next(&edge)) {
                    waiting.push_back(next(&edge));
                }
                edges.push(edge);
            }
        }
        Ok(())
    }
}

fn edge_of(row: &Row<'_>) -> Result<LineageEdge, rusqlite::Error> {
    let node = |at: usize| -> Result<LineageNode, rusqlite::Error> {
        Ok(LineageNode {
            id: Id::from_bytes(row.get(at)?),
            kind: Kind::from_code(row.get(at + 1)?).ok_or_else(|| unknown(at + 1, "kind"))?,
            name: row.get(at + 2)?,
        })
    };
    let word: String = row.get(3)?;
    let relation = RELATIONS.into_iter().find(|known| known.as_str() == word);
    let requests: i64 = row.get(9)?;
    Ok(LineageEdge {
        from: node(0)?,
        relation: relation.ok_or_else(|| unknown(3, "relation"))?,
        to: node(4)?,
        first_at: Timestamp::from_millis(row.get(7)?),
        last_at: Timestamp::from_millis(row.get(8)?),
        requests: requests.unsigned_abs(),
    })
}

/// A code that only a damaged store holds: a newer one is refused when it is opened.
fn unknown(column: usize, what: &'static str) -> rusqlite::Error {
    let cause = format!("unknown {what}").into();
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, cause)
}

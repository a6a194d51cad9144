//! Reads: SQL to values.

use lepton_types::resources::{Event, EventSeverity, Kind, MetricPoint, Resource, RunSpec, Spec};
use lepton_types::{Id, Name, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::decode;
use crate::{Change, EventQuery, MetricFilter, Page, Query, RunRecord, SeriesQuery, StoreError};

pub(crate) struct Reader<'a> {
    pub(super) connection: &'a Connection,
}

/// Two tables of the same shape.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pairs {
    Params,
    Tags,
}

impl<'a> Reader<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    pub(super) fn connection(&self) -> &'a Connection {
        self.connection
    }

    pub(crate) fn get<S: Spec>(
        &self,
        project: &str,
        key: &str,
    ) -> Result<Option<Resource<S, S::Status>>, StoreError> {
        self.connection
            .prepare_cached(
                "SELECT body, version FROM resources WHERE kind = ?1 AND project = ?2 AND key = ?3",
            )?
            .query_row(params![S::KIND.code(), project, key], body_and_version)
            .optional()?
            .map(|(body, version)| decode::<S>(&body, version))
            .transpose()
    }

    pub(crate) fn get_by_id<S: Spec>(
        &self,
        id: Id,
    ) -> Result<Option<Resource<S, S::Status>>, StoreError> {
        self.connection
            .prepare_cached("SELECT body, version FROM resources WHERE id = ?1 AND kind = ?2")?
            .query_row(params![id.to_bytes(), S::KIND.code()], body_and_version)
            .optional()?
            .map(|(body, version)| decode::<S>(&body, version))
            .transpose()
    }

    pub(crate) fn list<S: Spec>(
        &self,
        query: &Query,
    ) -> Result<Page<Resource<S, S::Status>>, StoreError> {
        self.list_where::<S>(query, None)
    }

    pub(crate) fn list_run_records(
        &self,
        query: &Query,
        filter: Option<&MetricFilter>,
    ) -> Result<Page<RunRecord>, StoreError> {
        let page = self.list_where::<RunSpec>(query, filter)?;
        let ids: Vec<Id> = page.items.iter().map(|run| run.metadata.id).collect();
        let mut params = self.pairs_by_run("run_params", &ids)?;
        let mut tags = self.pairs_by_run("run_tags", &ids)?;
        let mut metrics = self.latest_metrics_by_run(&ids)?;
        let mut items = Vec::with_capacity(page.items.len());
        for run in page.items {
            let id = run.metadata.id;
            items.push(RunRecord {
                params: params.remove(&id).unwrap_or_default(),
                tags: tags.remove(&id).unwrap_or_default(),
                metrics: metrics.remove(&id).unwrap_or_default(),
                run,
            });
        }
        Ok(Page {
            items,
            next: page.next,
        })
    }

    fn list_where<S: Spec>(
        &self,
        query: &Query,
        filter: Option<&MetricFilter>,
    ) -> Result<Page<Resource<S, S::Status>>, StoreError> {
        let size = query.page_size();
        let (sql, arguments) = list_sql(S::KIND, query, filter, size + 1);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(arguments), body_and_version)?;
        let mut items = Vec::new();
        for row in rows {
            let (body, version) = row?;
            items.push(decode::<S>(&body, version)?);
        }
        let more = items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| more).map(|last| last.metadata.id);
        Ok(Page { items, next })
    }

    pub(crate) fn changes(&self, since: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT version, kind, project, id, body FROM (
               SELECT * FROM (SELECT version, kind, project, id, body FROM resources
                              WHERE version > ?1 ORDER BY version LIMIT ?2)
               UNION ALL
               SELECT * FROM (SELECT version, kind, project, id, NULL FROM tombstones
                              WHERE version > ?1 ORDER BY version LIMIT ?2))
             ORDER BY version LIMIT ?2",
        )?;
        let rows = statement.query_map(params![within_sqlite(since), limit], |row| {
            let id: [u8; 16] = row.get(3)?;
            Ok((
                row.get(0)?,
                row.get::<_, u8>(1)?,
                row.get::<_, String>(2)?,
                id,
                row.get(4)?,
            ))
        })?;
        let mut changes = Vec::new();
        for row in rows {
            let (version, kind, project, id, resource) = row?;
            let (Some(kind), Ok(project)) = (Kind::from_code(kind), project.parse::<Name>()) else {
                // A newer replica may write kinds that are not known here.
                continue;
            };
            changes.push(Change {
                version,
                kind,
                id: Id::from_bytes(id),
                project,
                resource,
            });
        }
        Ok(changes)
    }

    pub(crate) fn retired_number(&self, project: &str, key: &str) -> Result<u32, StoreError> {
        let latest = self
            .connection
            .prepare_cached("SELECT latest FROM retired_numbers WHERE project = ?1 AND key = ?2")?
            .query_row([project, key], |row| row.get(0))
            .optional()?;
        Ok(latest.unwrap_or(0))
    }

    pub(crate) fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        let mut sql = "SELECT sequence, at, project, kind, id, name, severity, reason, message
                       FROM events WHERE sequence > ?"
            .to_owned();
        let mut arguments = vec![Value::from(within_sqlite(query.after))];
        if let Some(project) = &query.project {
            sql.push_str(" AND project = ?");
            arguments.push(project.to_string().into());
        }
        if let Some(about) = query.about {
            sql.push_str(" AND id = ?");
            arguments.push(about.to_bytes().to_vec().into());
        }
        sql.push_str(if query.newest {
            " ORDER BY sequence DESC"
        } else {
            " ORDER BY sequence"
        });
        sql.push_str(" LIMIT ?");
        let limit = query.limit.clamp(1, Query::LIMIT_MAX);
        arguments.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(arguments), event_of)?;
        let mut events: Vec<Event> = rows
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?;
        if query.newest {
            events.reverse();
        }
        Ok(events)
    }

    pub(crate) fn pairs(&self, pairs: Pairs, run: Id) -> Result<Vec<(String, String)>, StoreError> {
        let sql = match pairs {
            Pairs::Params => "SELECT key, value FROM run_params WHERE run = ?1 ORDER BY key",
            Pairs::Tags => "SELECT key, value FROM run_tags WHERE run = ?1 ORDER BY key",
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([run.to_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn latest_metrics(&self, run: Id) -> Result<Vec<MetricPoint>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT key, step, at, value FROM metric_latest WHERE run = ?1 ORDER BY key",
        )?;
        let rows = statement.query_map([run.to_bytes()], point_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn series(&self, query: &SeriesQuery) -> Result<Vec<MetricPoint>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT key, step, at, value FROM metric_points WHERE run = ?1 AND key = ?2
             ORDER BY step, at LIMIT ?3 OFFSET ?4",
        )?;
        let arguments = params![
            query.run.id().to_bytes(),
            query.key,
            query.limit,
            within_sqlite(query.offset)
        ];
        let rows = statement.query_map(arguments, point_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn count_by_phase(&self, kind: Kind) -> Result<Vec<(String, u64)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT phase, COUNT(*) FROM resources WHERE kind = ?1 GROUP BY phase ORDER BY phase",
        )?;
        let rows = statement.query_map([kind.code()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Builds the narrowest query: each filter adds one equality that an index serves.
fn list_sql(
    kind: Kind,
    query: &Query,
    filter: Option<&MetricFilter>,
    limit: usize,
) -> (String, Vec<Value>) {
    let mut sql = "SELECT body, version FROM resources WHERE kind = ?".to_owned();
    let mut arguments = vec![Value::from(i64::from(kind.code()))];
    let mut equal = |column: &str, value: Option<Value>| {
        if let Some(value) = value {
            sql.push_str(&format!(" AND {column} = ?"));
            arguments.push(value);
        }
    };
    equal(
        "project",
        query
            .project
            .as_ref()
            .map(|project| project.to_string().into()),
    );
    equal("name", query.name.clone().map(Value::from));
    equal(
        "owner",
        query.owner.map(|owner| owner.to_bytes().to_vec().into()),
    );
    equal(
        "grp",
        query.group.map(|group| group.to_bytes().to_vec().into()),
    );
    if !query.phases.is_empty() {
        let marks = vec!["?"; query.phases.len()].join(", ");
        sql.push_str(&format!(" AND phase IN ({marks})"));
        arguments.extend(
            query
                .phases
                .iter()
                .map(|phase| Value::from((*phase).to_owned())),
        );
    }
    if let Some(filter) = filter {
        sql.push_str(&format!(
            " AND EXISTS (SELECT 1 FROM metric_latest
              WHERE run = resources.id AND metric_latest.key = ? AND number {} ?)",
            filter.comparison.sql()
        ));
        arguments.extend([filter.key.clone().into(), filter.value.into()]);
    }
    if let Some(after) = query.after {
        sql.push_str(if query.newest_first {
            " AND id < ?"
        } else {
            " AND id > ?"
        });
        arguments.push(after.to_bytes().to_vec().into());
    }
    sql.push_str(if query.newest_first {
        " ORDER BY id DESC"
    } else {
        " ORDER BY id"
    });
    sql.push_str(" LIMIT ?");
    arguments.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    (sql, arguments)
}

/// SQLite counts in 63 bits; nothing is beyond them.
fn within_sqlite(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn body_and_version(row: &Row<'_>) -> rusqlite::Result<(String, u64)> {
    Ok((row.get(0)?, row.get(1)?))
}

pub(super) fn point_of(row: &Row<'_>) -> rusqlite::Result<MetricPoint> {
    let bits: i64 = row.get(3)?;
    Ok(MetricPoint {
        key: row.get(0)?,
        step: row.get(1)?,
        timestamp: Some(Timestamp::from_millis(row.get(2)?)),
        value: f64::from_bits(bits.cast_unsigned()),
    })
}

/// None for an event about a kind that is not known here.
fn event_of(row: &Row<'_>) -> rusqlite::Result<Option<Event>> {
    let (Some(kind), Ok(project)) = (
        Kind::from_code(row.get(3)?),
        row.get::<_, String>(2)?.parse::<Name>(),
    ) else {
        return Ok(None);
    };
    let severity: String = row.get(6)?;
    Ok(Some(Event {
        sequence: row.get(0)?,
        at: Timestamp::from_millis(row.get(1)?),
        project,
        kind,
        id: Id::from_bytes(row.get(4)?),
        name: row.get(5)?,
        severity: if severity == EventSeverity::Warning.as_str() {
            EventSeverity::Warning
        } else {
            EventSeverity::Normal
        },
        reason: row.get(7)?,
        message: row.get(8)?,
    }))
}

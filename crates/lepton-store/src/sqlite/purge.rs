//! What is in the bin, and deleting it for good.

use lepton_types::{Id, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::deletion::{drop_logged_model, forget_some};
use super::reader::Reader;
use super::writes::delete_owned;
use crate::purge::{BinQuery, Binned};
use crate::{CommitError, StoreError};

/// Which rows are in the bin and may leave it: `id` is their key, `?1` the time.
const fn rows(what: Binned) -> &'static str {
    match what {
        // The run of a job goes with its job.
        Binned::Runs => {
            "resources WHERE kind = 8 AND phase = 'deleted' AND owner IS NULL
             AND body ->> '$.status.deleted_at' <= ?1"
        }
        // A run that was restored, or is a job's, keeps its experiment.
        Binned::Experiments => {
            "resources WHERE kind = 5 AND phase = 'deleted'
             AND body ->> '$.status.deleted_at' <= ?1
             AND NOT EXISTS (SELECT 1 FROM run_index WHERE experiment = resources.id)"
        }
        Binned::LoggedModels => "logged_models WHERE deleted <= ?1",
    }
}

impl Reader<'_> {
    pub(crate) fn count_binned(&self, what: Binned, query: &BinQuery) -> Result<u64, StoreError> {
        let rows = rows(what);
        let sql = format!("SELECT COUNT(*) FROM {rows} AND project = ?2");
        let mut statement = self.connection().prepare_cached(&sql)?;
        let arguments = params![query.until.as_millis(), query.project.as_str()];
        Ok(statement.query_row(arguments, |row| row.get(0))?)
    }

    pub(crate) fn binned(
        &self,
        what: Binned,
        query: &BinQuery,
        after: Option<Id>,
        limit: usize,
    ) -> Result<Vec<Id>, StoreError> {
        let rows = rows(what);
        let sql =
            format!("SELECT id FROM {rows} AND project = ?2 AND id > ?3 ORDER BY id LIMIT ?4");
        let mut statement = self.connection().prepare_cached(&sql)?;
        let after = after.map_or([0; 16], Id::to_bytes);
        let arguments = params![
            query.until.as_millis(),
            query.project.as_str(),
            after,
            limit
        ];
        let ids = statement.query_map(arguments, |row| Ok(Id::from_bytes(row.get(0)?)))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }
}

/// Deletes those that are still in the bin, up to the first that one transaction is too little for.
pub(super) fn purge(
    connection: &Connection,
    (what, ids): (Binned, &[Id]),
    until: Timestamp,
    version: &mut u64,
) -> Result<(), CommitError> {
    let rows = rows(what);
    let sql = format!("SELECT project FROM {rows} AND id = ?2");
    for id in ids {
        let project: Option<String> = connection
            .prepare_cached(&sql)?
            .query_row(params![until.as_millis(), id.to_bytes()], |row| row.get(0))
            .optional()?;
        let Some(project) = project else {
            continue;
        };
        match what {
            Binned::Runs => delete_owned(connection, *id, version)?,
            // One with more stays until the rest is gone as well.
            Binned::Experiments if forget_some(connection, (*id, &project), PIECE)? => {
                return Ok(());
            }
            Binned::Experiments => delete_owned(connection, *id, version)?,
            Binned::LoggedModels => drop_logged_model(connection, *id, &project)?,
        }
    }
    Ok(())
}

/// Logged models, and traces, of an experiment that go in one transaction: others wait for it.
const PIECE: usize = 500;

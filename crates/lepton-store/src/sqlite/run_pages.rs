//! Reading whole runs, one after the other, with statements that are prepared once.

use lepton_types::tracking::{ModelLink, ModelUse, RunDataset};
use lepton_types::{Id, Name, Timestamp};
use rusqlite::{CachedStatement, OptionalExtension, Row, params};

use super::reader::Reader;
use crate::search::RunSink;
use crate::{Found, RunHead, StoreError};

/// Texts on one page, whose runs may have thousands of long ones each. A page that holds more ends early.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// What a line of a page takes beside its texts, about.
const LINE_BYTES: usize = 64;

/// A run without what it logged; the last two say whether there is more to ask for.
const HEAD: &str = "
    SELECT project, experiment, name, status, user, artifact_uri, started, finished, deleted,
           EXISTS (SELECT 1 FROM run_datasets d WHERE d.run = r.run),
           EXISTS (SELECT 1 FROM run_models m WHERE m.run = r.run)
    FROM run_index r WHERE run = ?1";

const DATASETS: &str = "
    SELECT name, digest, source_type, source, schema, profile, tags
    FROM run_datasets JOIN datasets USING (experiment, name, digest) WHERE run = ?1 ORDER BY position";

/// What runs are read with.
struct Statements<'c> {
    head: CachedStatement<'c>,
    metrics: CachedStatement<'c>,
    params: CachedStatement<'c>,
    tags: CachedStatement<'c>,
    datasets: CachedStatement<'c>,
    models: CachedStatement<'c>,
}

impl Reader<'_> {
    /// Tells of runs one after the other, as many as fit a page; those that are not there are left out.
    pub(crate) fn tell_runs<S: RunSink>(
        &self,
        ids: &[Id],
        mut sink: S,
    ) -> Result<Found<S>, StoreError> {
        let prepare = |sql| self.connection().prepare_cached(sql);
        let mut statements = Statements {
            head: prepare(HEAD)?,
            metrics: prepare(
                "SELECT key, step, at, value FROM metric_latest WHERE run = ?1 ORDER BY key",
            )?,
            params: prepare("SELECT key, value FROM run_params WHERE run = ?1 ORDER BY key")?,
            tags: prepare("SELECT key, value FROM run_tags WHERE run = ?1 ORDER BY key")?,
            datasets: prepare(DATASETS)?,
            models: prepare(
                "SELECT way, model, step FROM run_models WHERE run = ?1 ORDER BY position",
            )?,
        };
        let (mut count, mut bytes, mut more) = (0, 0, false);
        for id in ids {
            if bytes > PAGE_BYTES_MAX {
                more = true;
                break;
            }
            if let Some(length) = statements.tell(*id, &mut sink)? {
                bytes += length;
                count += 1;
            }
        }
        Ok(Found {
            runs: sink,
            count,
            more,
        })
    }
}

impl Reader<'_> {
    /// Tells of one run of a project, if it is there.
    pub(crate) fn tell_run<S: RunSink>(
        &self,
        project: &Name,
        id: Id,
        sink: S,
    ) -> Result<Option<S>, StoreError> {
        let _snapshot = self.connection().unchecked_transaction()?;
        let is_there = self
            .connection()
            .prepare_cached("SELECT 1 FROM run_index WHERE run = ?1 AND project = ?2")?
            .exists(params![id.to_bytes(), project.as_str()])?;
        match is_there {
            true => Ok(Some(self.tell_runs(&[id], sink)?.runs)),
            false => Ok(None),
        }
    }
}

impl Statements<'_> {
    /// Tells of a run, if it is there; how long its texts are, about.
    fn tell(&mut self, id: Id, sink: &mut impl RunSink) -> Result<Option<usize>, StoreError> {
        let key = id.to_bytes();
        let head = self.head.query_row([key], |row| {
            Ok((head_of(id, row)?, row.get(9)?, row.get(10)?))
        });
        let Some((head, has_datasets, has_models)) = head.optional()? else {
            return Ok(None);
        };
        sink.head(head);
        let mut bytes = 1_024;
        let mut rows = self.metrics.query([key])?;
        while let Some(row) = rows.next()? {
            let (at, bits): (i64, i64) = (row.get(2)?, row.get(3)?);
            let value = f64::from_bits(bits.cast_unsigned());
            let key = text(row, 0)?;
            bytes += LINE_BYTES + key.len();
            sink.metric(key, value, Timestamp::from_millis(at), row.get(1)?);
        }
        let mut rows = self.params.query([key])?;
        while let Some(row) = rows.next()? {
            let (key, value) = (text(row, 0)?, text(row, 1)?);
            bytes += LINE_BYTES + key.len() + value.len();
            sink.param(key, value);
        }
        let mut rows = self.tags.query([key])?;
        while let Some(row) = rows.next()? {
            let (key, value) = (text(row, 0)?, text(row, 1)?);
            bytes += LINE_BYTES + key.len() + value.len();
            sink.tag(key, value);
        }
        if has_datasets {
            bytes += tell_datasets(&mut self.datasets, id, sink)?;
        }
        if has_models {
            let mut rows = self.models.query([key])?;
            while let Some(row) = rows.next()? {
                bytes += LINE_BYTES;
                sink.model(link_of(row)?);
            }
        }
        sink.end();
        Ok(Some(bytes))
    }
}

fn tell_datasets(
    statement: &mut CachedStatement<'_>,
    id: Id,
    sink: &mut impl RunSink,
) -> Result<usize, StoreError> {
    let mut bytes = 0;
    let mut rows = statement.query([id.to_bytes()])?;
    while let Some(row) = rows.next()? {
        let data = dataset_of(row)?;
        let long = [&data.schema, &data.profile].into_iter().flatten();
        bytes += data.source.len() + long.map(String::len).sum::<usize>() + 256;
        sink.dataset(data);
    }
    Ok(bytes)
}

/// A text where it lies.
fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str, rusqlite::Error> {
    Ok(row.get_ref(column)?.as_str()?)
}

fn head_of(id: Id, row: &Row<'_>) -> rusqlite::Result<RunHead> {
    let finished: Option<i64> = row.get(7)?;
    Ok(RunHead {
        id,
        project: row.get(0)?,
        experiment: Id::from_bytes(row.get(1)?).into(),
        name: row.get(2)?,
        phase: row.get(3)?,
        user: row.get(4)?,
        artifact_uri: row.get(5)?,
        started_at: Timestamp::from_millis(row.get(6)?),
        finished_at: finished.map(Timestamp::from_millis),
        is_deleted: row.get(8)?,
    })
}

fn dataset_of(row: &Row<'_>) -> rusqlite::Result<RunDataset> {
    let tags: String = row.get(6)?;
    Ok(RunDataset {
        name: row.get(0)?,
        digest: row.get(1)?,
        source_type: row.get(2)?,
        source: row.get(3)?,
        schema: row.get(4)?,
        profile: row.get(5)?,
        tags: serde_json::from_str(&tags).unwrap_or_default(),
    })
}

fn link_of(row: &Row<'_>) -> rusqlite::Result<ModelLink> {
    Ok(ModelLink {
        r#use: match row.get::<_, u8>(0)? {
            0 => ModelUse::Input,
            _ => ModelUse::Output,
        },
        model: Id::from_bytes(row.get(1)?),
        step: row.get(2)?,
    })
}

//! Reading of many runs at once: a handful of statements, however many runs there are.

use std::collections::HashMap;

use lepton_types::Id;
use lepton_types::resources::MetricPoint;
use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

use super::reader::{Reader, point_of};
use crate::StoreError;

/// Ids that one statement takes: enough to make it worth it, and always as many, so that it is
/// prepared once.
const BATCH: usize = 128;

impl Reader<'_> {
    /// Parameters or tags of many at once, each sorted by key.
    pub(super) fn pairs_by_run(
        &self,
        table: &str,
        runs: &[Id],
    ) -> Result<HashMap<Id, Vec<(String, String)>>, StoreError> {
        let mut pairs: HashMap<Id, Vec<(String, String)>> = HashMap::new();
        self.for_each_of(
            runs,
            &format!("SELECT run, key, value FROM {table} WHERE run IN ("),
            ") ORDER BY run, key",
            |row| {
                let run = Id::from_bytes(row.get(0)?);
                pairs
                    .entry(run)
                    .or_default()
                    .push((row.get(1)?, row.get(2)?));
                Ok(())
            },
        )?;
        Ok(pairs)
    }

    /// The newest points of many runs at once, each sorted by key.
    pub(crate) fn latest_metrics_by_run(
        &self,
        runs: &[Id],
    ) -> Result<HashMap<Id, Vec<MetricPoint>>, StoreError> {
        let mut points: HashMap<Id, Vec<MetricPoint>> = HashMap::new();
        self.for_each_of(
            runs,
            "SELECT key, step, at, value, run FROM metric_latest WHERE run IN (",
            ") ORDER BY run, key",
            |row| {
                let run = Id::from_bytes(row.get(4)?);
                points.entry(run).or_default().push(point_of(row)?);
                Ok(())
            },
        )?;
        Ok(points)
    }

    /// Runs a query with `head IDS tail` for all ids, some at a time.
    pub(super) fn for_each_of(
        &self,
        ids: &[Id],
        head: &str,
        tail: &str,
        mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        for batch in ids.chunks(BATCH) {
            let places = if batch.len() == 1 { 1 } else { BATCH };
            let marks = vec!["?"; places].join(",");
            let sql = format!("{head}{marks}{tail}");
            let mut statement = self.connection().prepare_cached(&sql)?;
            let last = batch.last().expect("invariant: chunks are not empty");
            let filled = batch.iter().chain(std::iter::repeat(last)).take(places);
            let arguments = filled.map(|id| Value::from(id.to_bytes().to_vec()));
            let mut rows = statement.query(params_from_iter(arguments))?;
            while let Some(row) = rows.next()? {
                take(row)?;
            }
        }
        Ok(())
    }
}

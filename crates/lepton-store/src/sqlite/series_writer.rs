//! Writes of series: appends, and what a merge puts in the place of what.

use std::collections::{BTreeMap, BTreeSet};

use lepton_types::resources::MetricPoint;
use lepton_types::{Id, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::series::{Block, Point, Standing, encode_batch};

/// The tables; `schema.rs` says what is in them.
pub(super) const SCHEMA: &str = r"
DROP TABLE metric_latest;
CREATE TABLE metric_latest (
    run BLOB NOT NULL, key TEXT NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL,
    value INTEGER NOT NULL, number REAL, lowest REAL, highest REAL, series INTEGER NOT NULL,
    PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE metric_series (
    series INTEGER PRIMARY KEY AUTOINCREMENT, run BLOB NOT NULL, dropped INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX metric_series_dropped ON metric_series (series) WHERE dropped = 1;
CREATE TABLE metric_batches (
    run BLOB NOT NULL, batch INTEGER NOT NULL, points INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (run, batch)
) WITHOUT ROWID;
CREATE TABLE metric_blocks (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL,
    first_step INTEGER NOT NULL, first_at INTEGER NOT NULL, first_rank INTEGER NOT NULL,
    last_step INTEGER NOT NULL, last_at INTEGER NOT NULL, last_rank INTEGER NOT NULL,
    points INTEGER NOT NULL, from_at INTEGER NOT NULL, to_at INTEGER NOT NULL,
    summary BLOB NOT NULL, body BLOB NOT NULL
);
CREATE UNIQUE INDEX metric_blocks_first
    ON metric_blocks (series, first_step, first_at, first_rank);
";

/// A step of a merge or of a clean-up; each leaves every series as it was, whatever comes after it.
#[derive(Debug)]
pub(super) enum Upkeep {
    /// Blocks take the place of others that hold no point more, and batches that are in blocks go.
    Merge {
        replacements: Vec<Replacement>,
        /// Of these runs, up to these.
        dropped: Vec<(Id, i64)>,
    },
    /// Deletes some blocks of a series that was dropped, and what is known of it with the last.
    Reclaim { series: i64 },
}

/// Blocks of one series for others of it.
#[derive(Debug, Default)]
pub(super) struct Replacement {
    pub(super) series: i64,
    pub(super) removed: Vec<i64>,
    pub(super) added: Vec<Block>,
}

/// Blocks that one step of a clean-up deletes; about 10 MB.
const RECLAIMED_MAX: usize = 256;

/// Writes points down as one batch, and what their series have come to. Returns how many there were.
pub(super) fn append(
    connection: &Connection,
    run: Id,
    points: &[MetricPoint],
) -> Result<u64, rusqlite::Error> {
    let mut by_key: BTreeMap<&str, BTreeSet<Point>> = BTreeMap::new();
    for point in points {
        let at = point.timestamp.unwrap_or(Timestamp::from_millis(0));
        let place = by_key.entry(&point.key).or_default();
        place.insert(Point::new(point.step, at, point.value));
    }
    if by_key.is_empty() {
        return Ok(0);
    }
    let mut groups = Vec::with_capacity(by_key.len());
    let mut count = 0;
    for (key, points) in by_key {
        let series = note_standing(connection, run, key, &points)?;
        count += points.len() as u64;
        groups.push((series, points.into_iter().collect()));
    }
    connection
        .prepare_cached(
            "INSERT INTO metric_batches (run, batch, points, body)
             VALUES (?1, (SELECT COALESCE(MAX(batch), 0) + 1 FROM metric_batches WHERE run = ?1), ?2, ?3)",
        )?
        .execute(params![run.to_bytes(), count, encode_batch(&groups)])?;
    Ok(count)
}

/// Brings the latest point and the extremes of a series up to date; returns its number.
fn note_standing(
    connection: &Connection,
    run: Id,
    key: &str,
    points: &BTreeSet<Point>,
) -> Result<i64, rusqlite::Error> {
    let mut points = points.iter().copied();
    let first = points.next().expect("invariant: a key came with a point");
    let found = connection
        .prepare_cached(
            "SELECT series, step, at, value, lowest, highest FROM metric_latest
             WHERE run = ?1 AND key = ?2",
        )?
        .query_row(params![run.to_bytes(), key], |row| {
            Ok((row.get(0)?, standing_of(row, 1)?))
        })
        .optional()?;
    let Some((series, mut standing)) = found else {
        let mut standing = Standing::of(first);
        for point in points {
            standing.absorb(point);
        }
        return make_series(connection, run, key, &standing);
    };
    let mut changed = standing.absorb(first);
    for point in points {
        changed |= standing.absorb(point);
    }
    if changed {
        put_standing(connection, run, key, series, &standing)?;
    }
    Ok(series)
}

/// Makes a series that is not there; returns its number.
pub(super) fn make_series(
    connection: &Connection,
    run: Id,
    key: &str,
    standing: &Standing,
) -> Result<i64, rusqlite::Error> {
    connection
        .prepare_cached("INSERT INTO metric_series (run) VALUES (?1)")?
        .execute([run.to_bytes()])?;
    let series = connection.last_insert_rowid();
    put_standing(connection, run, key, series, standing)?;
    Ok(series)
}

pub(super) fn put_standing(
    connection: &Connection,
    run: Id,
    key: &str,
    series: i64,
    standing: &Standing,
) -> Result<(), rusqlite::Error> {
    let latest = standing.latest;
    let (lowest, highest) = standing.extremes.unzip();
    connection
        .prepare_cached(
            "INSERT INTO metric_latest
             (run, key, step, at, value, number, lowest, highest, series)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (run, key) DO UPDATE SET step = ?3, at = ?4, value = ?5, number = ?6,
               lowest = ?7, highest = ?8, series = ?9",
        )?
        .execute(params![
            run.to_bytes(),
            key,
            latest.step,
            latest.at,
            latest.value().to_bits().cast_signed(),
            // SQLite has no NaN: it is kept as null, which compares with nothing.
            latest.value(),
            lowest,
            highest,
            series,
        ])?;
    Ok(())
}

/// Step, time, value, lowest and highest from the column `first` on.
pub(super) fn standing_of(
    row: &rusqlite::Row<'_>,
    first: usize,
) -> Result<Standing, rusqlite::Error> {
    let bits: i64 = row.get(first + 2)?;
    let at = Timestamp::from_millis(row.get(first + 1)?);
    let (lowest, highest): (Option<f64>, Option<f64>) = (row.get(first + 3)?, row.get(first + 4)?);
    Ok(Standing {
        latest: Point::new(row.get(first)?, at, f64::from_bits(bits.cast_unsigned())),
        extremes: lowest.zip(highest),
    })
}

/// Lets go of the series of a run that is deleted; their points go in the background. A run that is made
/// again under the same id has series of its own.
pub(super) fn drop_series(connection: &Connection, run: Id) -> Result<(), rusqlite::Error> {
    let run = run.to_bytes();
    connection
        .prepare_cached(
            "UPDATE metric_series SET dropped = 1
             WHERE series IN (SELECT series FROM metric_latest WHERE run = ?1)",
        )?
        .execute([run])?;
    connection
        .prepare_cached("DELETE FROM metric_latest WHERE run = ?1")?
        .execute([run])?;
    Ok(())
}

/// Does one step; whether there is more of the same to do.
pub(super) fn keep_up(connection: &Connection, step: &Upkeep) -> Result<bool, rusqlite::Error> {
    match step {
        Upkeep::Merge {
            replacements,
            dropped,
        } => {
            for replacement in replacements {
                replace(connection, replacement)?;
            }
            for (run, last) in dropped {
                connection
                    .prepare_cached("DELETE FROM metric_batches WHERE run = ?1 AND batch <= ?2")?
                    .execute(params![run.to_bytes(), last])?;
            }
            Ok(false)
        }
        Upkeep::Reclaim { series } => reclaim(connection, *series),
    }
}

fn replace(connection: &Connection, replacement: &Replacement) -> Result<(), rusqlite::Error> {
    let mut delete = connection.prepare_cached("DELETE FROM metric_blocks WHERE id = ?1")?;
    for id in &replacement.removed {
        delete.execute([id])?;
    }
    for block in &replacement.added {
        insert_block(connection, replacement.series, block)?;
    }
    Ok(())
}

/// Stores a block; one of a series that was dropped meanwhile is not.
pub(super) fn insert_block(
    connection: &Connection,
    series: i64,
    block: &Block,
) -> Result<(), rusqlite::Error> {
    let whole = &block.whole;
    connection
        .prepare_cached(
            "INSERT INTO metric_blocks (series, first_step, first_at, first_rank, last_step, last_at,
               last_rank, points, from_at, to_at, summary, body)
             SELECT series, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12
             FROM metric_series WHERE series = ?1 AND dropped = 0",
        )?
        .execute(params![
            series,
            whole.first.step,
            whole.first.at,
            whole.first.rank,
            whole.last.step,
            whole.last.at,
            whole.last.rank,
            whole.points,
            whole.times.0,
            whole.times.1,
            block.summary,
            block.body,
        ])?;
    Ok(())
}

fn reclaim(connection: &Connection, series: i64) -> Result<bool, rusqlite::Error> {
    let deleted = connection
        .prepare_cached(
            "DELETE FROM metric_blocks WHERE id IN
             (SELECT id FROM metric_blocks WHERE series = ?1 LIMIT ?2)",
        )?
        .execute(params![series, RECLAIMED_MAX])?;
    if deleted == RECLAIMED_MAX {
        return Ok(true);
    }
    connection
        .prepare_cached("DELETE FROM metric_series WHERE series = ?1 AND dropped = 1")?
        .execute([series])?;
    Ok(false)
}

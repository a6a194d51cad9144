//! Reads of series: blocks and batches to points.

use std::collections::VecDeque;

use lepton_types::Id;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::reader::Reader;
use super::series_writer::standing_of;
use crate::series::{
    Axis, Blocks, Extent, Point, PointRange, Scan, Summary, decode_block, decode_summaries, draw,
    points_of, scan,
};
use crate::{CurveQuery, MetricStanding, SeriesPoints, SeriesQuery, StoreError};

/// Extents that are read ahead; a million points' worth.
const EXTENTS_AHEAD: usize = 64;

/// A series of up to so many times the points that a curve may have is read whole first: that many
/// are decoded in no time, and points that wait twice are not counted twice.
const READ_WHOLE_TIMES: u64 = 4;

impl Reader<'_> {
    pub(crate) fn metric_standings(&self, run: Id) -> Result<Vec<MetricStanding>, StoreError> {
        let mut statement = self.connection().prepare_cached(
            "SELECT key, step, at, value, lowest, highest FROM metric_latest
             WHERE run = ?1 ORDER BY key",
        )?;
        let rows = statement.query_map([run.to_bytes()], |row| {
            let standing = standing_of(row, 1)?;
            let (lowest, highest) = standing.extremes.unzip();
            Ok(MetricStanding {
                key: row.get(0)?,
                latest: standing.latest,
                lowest,
                highest,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn series(&self, query: &SeriesQuery) -> Result<SeriesPoints, StoreError> {
        self.in_snapshot(|connection| {
            let Some(series) = series_number(connection, query.run.id(), &query.key)? else {
                return Ok(SeriesPoints::default());
            };
            let fresh = fresh_points(connection, query.run.id(), series, &query.range)?;
            let wanted = Scan {
                range: query.range,
                after: query.after,
                offset: query.offset,
                limit: query.limit.saturating_add(1),
            };
            let start = query.range.start(query.after);
            let mut blocks = StoredBlocks::from_start(connection, series, start)?;
            let mut points = scan(&mut blocks, &fresh, &wanted)?;
            let more = points.len() > query.limit;
            points.truncate(query.limit);
            let next = points.last().copied().filter(|_| more);
            Ok(SeriesPoints { points, next })
        })
    }

    pub(crate) fn curve(&self, query: &CurveQuery) -> Result<Vec<Point>, StoreError> {
        self.in_snapshot(|connection| {
            let Some(series) = series_number(connection, query.run.id(), &query.key)? else {
                return Ok(Vec::new());
            };
            let range = query.range;
            let fresh = fresh_points(connection, query.run.id(), series, &range)?;
            let (stored, ends) = stored_ends(connection, series, query)?;
            let mut blocks = StoredBlocks::from_start(connection, series, range.start(None))?;
            let whole_max = (query.points_max as u64).saturating_mul(READ_WHOLE_TIMES);
            if stored.saturating_add(fresh.len() as u64) > whole_max {
                let ends = widened(query.axis, ends, &fresh);
                let canvas = (query.axis, ends);
                return draw(&mut blocks, &fresh, &range, canvas, query.points_max);
            }
            let everything = Scan {
                range,
                after: None,
                offset: 0,
                limit: usize::MAX,
            };
            let points = scan(&mut blocks, &fresh, &everything)?;
            if points.len() <= query.points_max {
                return Ok(points);
            }
            let canvas = (query.axis, widened(query.axis, None, &points));
            draw(&mut NoBlocks, &points, &range, canvas, query.points_max)
        })
    }

    /// Several statements that see one state: a merge may move points between two of them.
    fn in_snapshot<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let snapshot = self.connection().unchecked_transaction()?;
        read(&snapshot)
    }
}

/// What a curve without stored points is drawn from.
struct NoBlocks;

impl Blocks for NoBlocks {
    type Error = StoreError;

    fn next(&mut self) -> Result<Option<Extent>, StoreError> {
        Ok(None)
    }

    fn points(&mut self, _: &Extent) -> Result<Vec<Point>, StoreError> {
        Err(StoreError::CorruptSeries)
    }

    fn summaries(&mut self, _: &Extent) -> Result<(Summary, Vec<Summary>), StoreError> {
        Err(StoreError::CorruptSeries)
    }
}

fn series_number(
    connection: &Connection,
    run: Id,
    key: &str,
) -> Result<Option<i64>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT series FROM metric_latest WHERE run = ?1 AND key = ?2")?
        .query_row(params![run.to_bytes(), key], |row| row.get(0))
        .optional()
}

/// The points of a series that are not in its blocks, or not only there, sorted.
fn fresh_points(
    connection: &Connection,
    run: Id,
    series: i64,
    range: &PointRange,
) -> Result<Vec<Point>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT body FROM metric_batches WHERE run = ?1 ORDER BY batch")?;
    let mut rows = statement.query([run.to_bytes()])?;
    let mut points = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row
            .get_ref(0)?
            .as_blob()
            .map_err(|_| StoreError::CorruptSeries)?;
        points.extend(points_of(series, body)?);
    }
    points.retain(|point| range.holds(*point));
    points.sort_unstable();
    points.dedup();
    Ok(points)
}

/// How many points the blocks hold that touch the range, and where on the axis they lie, cut to
/// the range.
fn stored_ends(
    connection: &Connection,
    series: i64,
    query: &CurveQuery,
) -> Result<(u64, Option<(i64, i64)>), rusqlite::Error> {
    let (steps, times) = (query.range.steps(), query.range.times());
    connection
        .prepare_cached(
            "SELECT COALESCE(SUM(points), 0), MIN(first_step), MAX(last_step), MIN(from_at), MAX(to_at)
             FROM metric_blocks WHERE series = ?1
             AND last_step >= ?2 AND first_step <= ?3 AND to_at >= ?4 AND from_at <= ?5",
        )?
        .query_row(params![series, steps.0, steps.1, times.0, times.1], |row| {
            let (low, high, limits) = match query.axis {
                Axis::Step => (row.get(1)?, row.get(2)?, steps),
                Axis::Time => (row.get(3)?, row.get(4)?, times),
            };
            let ends = Option::zip(low, high);
            let cut = |(low, high): (i64, i64)| (low.max(limits.0), high.min(limits.1));
            Ok((row.get(0)?, ends.map(cut)))
        })
}

/// The ends of an axis that also holds `points`.
fn widened(axis: Axis, ends: Option<(i64, i64)>, points: &[Point]) -> (i64, i64) {
    let places = points.iter().map(|point| axis.of(*point));
    let ends = places.fold(ends, |ends, place| {
        let (low, high) = ends.unwrap_or((place, place));
        Some((low.min(place), high.max(place)))
    });
    ends.unwrap_or((0, 0))
}

/// The stored blocks of a series, in order, read a few ahead.
pub(super) struct StoredBlocks<'c> {
    connection: &'c Connection,
    series: i64,
    /// The first point of the block that is read next, or anything before it.
    next: Option<Point>,
    ahead: VecDeque<Extent>,
}

const EXTENT: &str = "id, first_step, first_at, first_rank, last_step, last_at, last_rank, points, \
                      from_at, to_at";

impl<'c> StoredBlocks<'c> {
    /// From the block in which `start` lies.
    fn from_start(
        connection: &'c Connection,
        series: i64,
        start: std::ops::Bound<Point>,
    ) -> Result<Self, rusqlite::Error> {
        let start = match start {
            std::ops::Bound::Included(start) | std::ops::Bound::Excluded(start) => start,
            std::ops::Bound::Unbounded => Point::MIN,
        };
        let before = connection
            .prepare_cached(
                "SELECT first_step, first_at, first_rank FROM metric_blocks
                 WHERE series = ?1 AND (first_step, first_at, first_rank) <= (?2, ?3, ?4)
                 ORDER BY first_step DESC, first_at DESC, first_rank DESC LIMIT 1",
            )?
            .query_row(params![series, start.step, start.at, start.rank], |row| {
                point_at(row, 0)
            })
            .optional()?;
        Ok(Self {
            connection,
            series,
            next: Some(before.unwrap_or(start)),
            ahead: VecDeque::new(),
        })
    }

    fn read_ahead(&mut self) -> Result<(), rusqlite::Error> {
        let Some(from) = self.next.take() else {
            return Ok(());
        };
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {EXTENT} FROM metric_blocks
             WHERE series = ?1 AND (first_step, first_at, first_rank) >= (?2, ?3, ?4)
             ORDER BY first_step, first_at, first_rank LIMIT ?5"
        ))?;
        let arguments = params![
            self.series,
            from.step,
            from.at,
            from.rank,
            EXTENTS_AHEAD + 1
        ];
        for extent in statement.query_map(arguments, extent_of)? {
            self.ahead.push_back(extent?);
        }
        if self.ahead.len() > EXTENTS_AHEAD {
            self.next = self.ahead.pop_back().map(|extent| extent.first);
        }
        Ok(())
    }
}

impl Blocks for StoredBlocks<'_> {
    type Error = StoreError;

    fn next(&mut self) -> Result<Option<Extent>, StoreError> {
        if self.ahead.is_empty() {
            self.read_ahead()?;
        }
        Ok(self.ahead.pop_front())
    }

    fn points(&mut self, extent: &Extent) -> Result<Vec<Point>, StoreError> {
        block_points(self.connection, extent)
    }

    fn summaries(&mut self, extent: &Extent) -> Result<(Summary, Vec<Summary>), StoreError> {
        let bytes: Vec<u8> = self
            .connection
            .prepare_cached("SELECT summary FROM metric_blocks WHERE id = ?1")?
            .query_row([extent.id], |row| row.get(0))?;
        Ok(decode_summaries(&bytes)?)
    }
}

pub(super) fn block_points(
    connection: &Connection,
    extent: &Extent,
) -> Result<Vec<Point>, StoreError> {
    let body: Vec<u8> = connection
        .prepare_cached("SELECT body FROM metric_blocks WHERE id = ?1")?
        .query_row([extent.id], |row| row.get(0))?;
    Ok(decode_block(&body, extent.points)?)
}

/// The end of a series, back to a block for which `is_enough`, in order.
pub(super) fn last_extents(
    connection: &Connection,
    series: i64,
    is_enough: impl Fn(&Extent) -> bool,
) -> Result<Vec<Extent>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {EXTENT} FROM metric_blocks WHERE series = ?1
         ORDER BY first_step DESC, first_at DESC, first_rank DESC"
    ))?;
    let mut rows = statement.query([series])?;
    let mut extents = Vec::new();
    while let Some(row) = rows.next()? {
        let extent = extent_of(row)?;
        extents.push(extent);
        if is_enough(&extent) {
            break;
        }
    }
    extents.reverse();
    Ok(extents)
}

fn extent_of(row: &Row<'_>) -> Result<Extent, rusqlite::Error> {
    Ok(Extent {
        id: row.get(0)?,
        first: point_at(row, 1)?,
        last: point_at(row, 4)?,
        points: row.get(7)?,
        times: (row.get(8)?, row.get(9)?),
    })
}

fn point_at(row: &Row<'_>, column: usize) -> Result<Point, rusqlite::Error> {
    Ok(Point {
        step: row.get(column)?,
        at: row.get(column + 1)?,
        rank: row.get(column + 2)?,
    })
}

//! Points that were stored as rows, up to schema 3, into blocks.

use lepton_types::{Id, Timestamp};
use rusqlite::{Connection, Row};

use super::series_writer::{insert_block, make_series, put_standing};
use crate::series::{BLOCK_POINTS, Block, Point, Standing, split};

/// Moves all points into blocks, one series after the other, with a few blocks in memory.
pub(super) fn into_blocks(connection: &Connection) -> Result<(), rusqlite::Error> {
    let mut statement = connection.prepare(
        "SELECT run, key, step, at, value FROM metric_points ORDER BY run, key, step, at",
    )?;
    let mut rows = statement.query([])?;
    let mut current: Option<Series> = None;
    while let Some(row) = rows.next()? {
        let (run, key, point) = point_of(row)?;
        let mut series = match current.take() {
            Some(series) if series.run == run && series.key == key => series,
            finished => {
                if let Some(finished) = finished {
                    finished.finish(connection)?;
                }
                Series::begin(connection, run, key, point)?
            }
        };
        series.push(connection, point)?;
        current = Some(series);
    }
    if let Some(last) = current {
        last.finish(connection)?;
    }
    drop(rows);
    drop(statement);
    connection.execute_batch("DROP TABLE metric_points")
}

struct Series {
    run: Id,
    key: String,
    number: i64,
    standing: Standing,
    points: Vec<Point>,
}

impl Series {
    fn begin(
        connection: &Connection,
        run: Id,
        key: String,
        first: Point,
    ) -> Result<Self, rusqlite::Error> {
        let standing = Standing::of(first);
        Ok(Self {
            number: make_series(connection, run, &key, &standing)?,
            run,
            key,
            standing,
            points: Vec::new(),
        })
    }

    /// Takes the next point by step and time; those of one step and time come in any order.
    fn push(&mut self, connection: &Connection, point: Point) -> Result<(), rusqlite::Error> {
        let moves_on = self
            .points
            .last()
            .is_some_and(|last| (last.step, last.at) < (point.step, point.at));
        if moves_on && self.points.len() >= 2 * BLOCK_POINTS {
            self.write(connection)?;
        }
        self.standing.absorb(point);
        self.points.push(point);
        Ok(())
    }

    fn write(&mut self, connection: &Connection) -> Result<(), rusqlite::Error> {
        self.points.sort_unstable();
        self.points.dedup();
        for block in split(&self.points, true).filter_map(Block::encode) {
            insert_block(connection, self.number, &block)?;
        }
        self.points.clear();
        Ok(())
    }

    fn finish(mut self, connection: &Connection) -> Result<(), rusqlite::Error> {
        self.write(connection)?;
        put_standing(connection, self.run, &self.key, self.number, &self.standing)
    }
}

fn point_of(row: &Row<'_>) -> Result<(Id, String, Point), rusqlite::Error> {
    let bits: i64 = row.get(4)?;
    let at = Timestamp::from_millis(row.get(3)?);
    let point = Point::new(row.get(2)?, at, f64::from_bits(bits.cast_unsigned()));
    Ok((Id::from_bytes(row.get(0)?), row.get(1)?, point))
}

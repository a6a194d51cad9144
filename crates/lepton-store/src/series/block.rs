//! Blocks: many sorted points of one series, compressed by column, and their summaries.
//!
//! ```text
//! body    = 0 point*                              packed as in a batch: small blocks
//!         | 1 length:varint steps length:varint times values     each column a pco stream
//! summary = count:varint element*                 of the block, then of each chunk of it
//! element = points:varint lowest:0|1 length:varint point{2|4} time:varint time:varint
//! ```

use pco::standalone;
use pco::{ChunkConfig, data_types::Number};

use super::batch::{decode_points, encode_points, put_varint, take_length, take_varint};
use super::point::Point;

/// Stored bytes do not read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored points cannot be read back")]
pub struct Corrupt;

/// Points that one summary tells of: so few that a chunk is narrower than a pixel of any series that
/// is slow to decode, so many that summaries stay a tenth of a byte a point.
pub(crate) const CHUNK_POINTS: usize = 512;

/// Stored: never renumber.
const PACKED: u8 = 0;
/// Stored: never renumber.
const COLUMNS: u8 = 1;

/// Below this the streams' headers cost more than they save, and the packing is always kept.
const COLUMNS_POINTS_MIN: usize = 32;

/// Of pco's 0 to 12. On series of losses 6 is within a tenth of the size of 8 at half the time, and it
/// is the lowest that tries every order of differences.
const LEVEL: usize = 6;

/// Where a block lies, without its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Its row.
    pub(crate) id: i64,
    pub(crate) first: Point,
    pub(crate) last: Point,
    pub(crate) points: u64,
    /// The earliest and the latest time.
    pub(crate) times: (i64, i64),
}

/// What is told of points without decoding them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) points: u64,
    pub(crate) first: Point,
    pub(crate) last: Point,
    /// The points of the lowest and the highest value; none if all are NaN.
    pub(crate) extremes: Option<(Point, Point)>,
    pub(crate) times: (i64, i64),
}

/// A block on its way to disk.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) whole: Summary,
    pub(crate) summary: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Summary {
    /// Of sorted points; none of none.
    pub(crate) fn of(points: &[Point]) -> Option<Self> {
        let (first, last) = (*points.first()?, *points.last()?);
        let mut times = (first.at, first.at);
        let mut extremes: Option<(Point, Point)> = None;
        for point in points {
            times = (times.0.min(point.at), times.1.max(point.at));
            if point.is_nan() {
                continue;
            }
            let (lowest, highest) = extremes.get_or_insert((*point, *point));
            // The first of equals is kept, so that the answer does not hang on the cut into chunks.
            if point.rank < lowest.rank {
                *lowest = *point;
            }
            if point.rank > highest.rank {
                *highest = *point;
            }
        }
        Some(Self {
            points: points.len() as u64,
            first,
            last,
            extremes,
            times,
        })
    }

    /// The points that it names.
    pub(crate) fn named(&self) -> impl Iterator<Item = Point> {
        let (lowest, highest) = self.extremes.unzip();
        [Some(self.first), lowest, highest, Some(self.last)]
            .into_iter()
            .flatten()
    }
}

impl Block {
    /// Packs sorted points; none of none.
    pub(crate) fn encode(points: &[Point]) -> Option<Self> {
        let whole = Summary::of(points)?;
        let chunks: Vec<Summary> = match points.len() > CHUNK_POINTS {
            true => points
                .chunks(CHUNK_POINTS)
                .filter_map(Summary::of)
                .collect(),
            false => Vec::new(),
        };
        Some(Self {
            whole,
            summary: encode_summaries(&whole, &chunks),
            body: encode_body(points),
        })
    }
}

/// The points of a block, which must be `count`.
pub(crate) fn decode_block(body: &[u8], count: u64) -> Result<Vec<Point>, Corrupt> {
    let count = usize::try_from(count).map_err(|_| Corrupt)?;
    let (codec, mut rest) = body.split_first().ok_or(Corrupt)?;
    match *codec {
        PACKED => decode_points(rest, count),
        COLUMNS => {
            let steps = take_column::<i64>(&mut rest, count)?;
            let times = take_column::<i64>(&mut rest, count)?;
            let values = decode_column::<f64>(rest, count)?;
            let columns = steps.into_iter().zip(times).zip(values);
            Ok(columns
                .map(|((step, at), value)| Point::of_parts(step, at, value))
                .collect())
        }
        _ => Err(Corrupt),
    }
}

/// The summary of a block and those of its chunks; no chunks of a small block.
pub(crate) fn decode_summaries(mut bytes: &[u8]) -> Result<(Summary, Vec<Summary>), Corrupt> {
    let count = take_length(&mut bytes)?;
    let whole = take_summary(&mut bytes)?;
    let mut chunks = Vec::new();
    for _ in 1..count {
        chunks.push(take_summary(&mut bytes)?);
    }
    Ok((whole, chunks))
}

fn encode_body(points: &[Point]) -> Vec<u8> {
    let mut packed = vec![PACKED];
    encode_points(points, &mut packed);
    if points.len() < COLUMNS_POINTS_MIN {
        return packed;
    }
    match encode_columns(points) {
        Some(columns) if columns.len() < packed.len() => columns,
        _ => packed,
    }
}

fn encode_columns(points: &[Point]) -> Option<Vec<u8>> {
    let steps: Vec<i64> = points.iter().map(|point| point.step).collect();
    let times: Vec<i64> = points.iter().map(|point| point.at).collect();
    let values: Vec<f64> = points.iter().map(|point| point.value()).collect();
    let mut out = vec![COLUMNS];
    for column in [encode_column(&steps)?, encode_column(&times)?] {
        put_varint(&mut out, column.len() as u64);
        out.extend_from_slice(&column);
    }
    out.extend_from_slice(&encode_column(&values)?);
    Some(out)
}

fn encode_column<T: Number>(numbers: &[T]) -> Option<Vec<u8>> {
    let config = ChunkConfig::default().with_compression_level(LEVEL);
    standalone::simple_compress(numbers, &config).ok()
}

fn take_column<T: Number + Default>(bytes: &mut &[u8], count: usize) -> Result<Vec<T>, Corrupt> {
    let length = take_length(bytes)?;
    let (column, rest) = bytes.split_at_checked(length).ok_or(Corrupt)?;
    *bytes = rest;
    decode_column(column, count)
}

fn decode_column<T: Number + Default>(bytes: &[u8], count: usize) -> Result<Vec<T>, Corrupt> {
    if count > super::merge::BLOCK_POINTS {
        return Err(Corrupt);
    }
    let mut numbers = vec![T::default(); count];
    let progress = standalone::simple_decompress_into(bytes, &mut numbers).map_err(|_| Corrupt)?;
    match progress.n_processed == count && progress.finished {
        true => Ok(numbers),
        false => Err(Corrupt),
    }
}

fn encode_summaries(whole: &Summary, chunks: &[Summary]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, 1 + chunks.len() as u64);
    for summary in std::iter::once(whole).chain(chunks) {
        put_varint(&mut out, summary.points);
        out.push(u8::from(summary.extremes.is_some()));
        let mut body = Vec::new();
        let named: Vec<Point> = summary.named().collect();
        encode_points(&named, &mut body);
        put_varint(&mut out, body.len() as u64);
        out.extend_from_slice(&body);
        // Both times are at or around those of the points: nearly always one byte each.
        put_varint(&mut out, summary.first.at.abs_diff(summary.times.0));
        put_varint(&mut out, summary.times.0.abs_diff(summary.times.1));
    }
    out
}

fn take_summary(bytes: &mut &[u8]) -> Result<Summary, Corrupt> {
    let points = take_varint(bytes)?;
    let (has_extremes, rest) = bytes.split_first().ok_or(Corrupt)?;
    *bytes = rest;
    let length = take_length(bytes)?;
    let (body, rest) = bytes.split_at_checked(length).ok_or(Corrupt)?;
    *bytes = rest;
    let named = decode_points(body, if *has_extremes == 1 { 4 } else { 2 })?;
    let extremes = (*has_extremes == 1).then(|| (named[1], named[2]));
    let (first, last) = (named[0], named[named.len() - 1]);
    let earliest = first.at.wrapping_sub_unsigned(take_varint(bytes)?);
    let latest = earliest.wrapping_add_unsigned(take_varint(bytes)?);
    Ok(Summary {
        points,
        first,
        last,
        extremes,
        times: (earliest, latest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::model::{points, smooth};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_and_summaries_come_back(points in points(1_300)) {
            let Some(block) = Block::encode(&points) else {
                prop_assert!(points.is_empty());
                return Ok(());
            };
            prop_assert_eq!(decode_block(&block.body, points.len() as u64).unwrap(), points.clone());
            let (whole, chunks) = decode_summaries(&block.summary).unwrap();
            prop_assert_eq!(whole, block.whole);
            prop_assert_eq!(Some(whole), Summary::of(&points));
            if points.len() > CHUNK_POINTS {
                let expected: Vec<_> = points.chunks(CHUNK_POINTS).filter_map(Summary::of).collect();
                prop_assert_eq!(chunks, expected);
            }
        }

        #[test]
        fn broken_bytes_are_an_error_and_never_a_panic(
            points in points(60), place: prop::sample::Index, to: u8, count in 0_u64..100,
        ) {
            if let Some(block) = Block::encode(&points) {
                for mut bytes in [block.body, block.summary] {
                    let place = place.index(bytes.len());
                    bytes[place] = to;
                    let _any = (decode_block(&bytes, count), decode_summaries(&bytes));
                }
            }
        }
    }

    #[test]
    fn smooth_series_take_less_than_two_bytes_a_point() {
        let points = smooth(super::super::merge::BLOCK_POINTS);
        let block = Block::encode(&points).unwrap();
        let bytes = block.body.len() + block.summary.len();
        assert!(bytes < 2 * points.len(), "{bytes} bytes");
    }
}

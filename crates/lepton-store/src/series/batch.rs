//! The codec of a fresh batch: what one append brought to one run, packed fast rather than small.
//!
//! ```text
//! batch  = group*                       one group a series
//! group  = series:varint  points:varint  length:varint  point*
//! point  = step:delta  time:delta  value:xor
//! ```
//! A delta is the zigzag varint of the difference to the point before (to zero, first). An xor is
//! one byte, the counts of zero bytes before and behind, and the bytes between.

use super::block::Corrupt;
use super::point::Point;

/// Packs groups of (series, sorted points).
pub(crate) fn encode_batch(groups: &[(i64, Vec<Point>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut body = Vec::new();
    for (series, points) in groups {
        body.clear();
        encode_points(points, &mut body);
        put_varint(&mut out, series.cast_unsigned());
        put_varint(&mut out, points.len() as u64);
        put_varint(&mut out, body.len() as u64);
        out.extend_from_slice(&body);
    }
    out
}

/// All groups of a batch.
pub(crate) fn decode_batch(mut bytes: &[u8]) -> Result<Vec<(i64, Vec<Point>)>, Corrupt> {
    let mut groups = Vec::new();
    while let Some(group) = next_group(&mut bytes)? {
        groups.push((group.series, decode_points(group.body, group.count)?));
    }
    Ok(groups)
}

/// The points of one series in a batch; the other groups are stepped over.
pub(crate) fn points_of(series: i64, mut bytes: &[u8]) -> Result<Vec<Point>, Corrupt> {
    let mut points = Vec::new();
    while let Some(group) = next_group(&mut bytes)? {
        if group.series == series {
            points.extend(decode_points(group.body, group.count)?);
        }
    }
    Ok(points)
}

struct Group<'a> {
    series: i64,
    count: usize,
    body: &'a [u8],
}

fn next_group<'a>(bytes: &mut &'a [u8]) -> Result<Option<Group<'a>>, Corrupt> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let series = take_varint(bytes)?.cast_signed();
    let count = take_length(bytes)?;
    let length = take_length(bytes)?;
    let (body, rest) = bytes.split_at_checked(length).ok_or(Corrupt)?;
    *bytes = rest;
    Ok(Some(Group {
        series,
        count,
        body,
    }))
}

/// Packs points, each by what it differs in from the one before.
pub(super) fn encode_points(points: &[Point], out: &mut Vec<u8>) {
    let mut before = ORIGIN;
    for point in points {
        put_varint(out, zigzag(point.step.wrapping_sub(before.step)));
        put_varint(out, zigzag(point.at.wrapping_sub(before.at)));
        put_xor(out, (point.rank ^ before.rank).cast_unsigned());
        before = *point;
    }
}

/// Unpacks exactly `count` points, which must be all that is there.
pub(super) fn decode_points(mut bytes: &[u8], count: usize) -> Result<Vec<Point>, Corrupt> {
    // A point has three bytes at least, so a broken count asks for no more room than there is.
    if count > bytes.len() / POINT_BYTES_MIN {
        return Err(Corrupt);
    }
    let mut points = Vec::with_capacity(count);
    let mut before = ORIGIN;
    for _ in 0..count {
        let point = Point {
            step: before.step.wrapping_add(unzigzag(take_varint(&mut bytes)?)),
            at: before.at.wrapping_add(unzigzag(take_varint(&mut bytes)?)),
            rank: before.rank ^ take_xor(&mut bytes)?.cast_signed(),
        };
        points.push(point);
        before = point;
    }
    match bytes.is_empty() {
        true => Ok(points),
        false => Err(Corrupt),
    }
}

const ORIGIN: Point = Point {
    step: 0,
    at: 0,
    rank: 0,
};

const POINT_BYTES_MIN: usize = 3;

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u64, Corrupt> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(bytes)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Corrupt)
}

pub(super) fn take_length(bytes: &mut &[u8]) -> Result<usize, Corrupt> {
    usize::try_from(take_varint(bytes)?).map_err(|_| Corrupt)
}

fn take_byte(bytes: &mut &[u8]) -> Result<u8, Corrupt> {
    let (byte, rest) = bytes.split_first().ok_or(Corrupt)?;
    *bytes = rest;
    Ok(*byte)
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn put_xor(out: &mut Vec<u8>, number: u64) {
    let leading = (number.leading_zeros() / 8) as usize;
    let trailing = if number == 0 {
        0
    } else {
        (number.trailing_zeros() / 8) as usize
    };
    out.push((leading << 4 | trailing) as u8);
    out.extend_from_slice(&number.to_be_bytes()[leading..8 - trailing]);
}

fn take_xor(bytes: &mut &[u8]) -> Result<u64, Corrupt> {
    let header = take_byte(bytes)?;
    let (leading, trailing) = (usize::from(header >> 4), usize::from(header & 15));
    if leading + trailing > 8 {
        return Err(Corrupt);
    }
    let (middle, rest) = bytes
        .split_at_checked(8 - leading - trailing)
        .ok_or(Corrupt)?;
    *bytes = rest;
    let mut whole = [0; 8];
    whole[leading..8 - trailing].copy_from_slice(middle);
    Ok(u64::from_be_bytes(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::model::points;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_come_back(groups in prop::collection::vec((any::<i64>(), points(40)), 0..5)) {
            let bytes = encode_batch(&groups);
            prop_assert_eq!(&decode_batch(&bytes).unwrap(), &groups);
            for (series, _) in &groups {
                let expected: Vec<Point> = groups
                    .iter()
                    .filter(|(other, _)| other == series)
                    .flat_map(|(_, points)| points.clone())
                    .collect();
                prop_assert_eq!(points_of(*series, &bytes).unwrap(), expected);
            }
        }

        #[test]
        fn broken_bytes_are_an_error_or_points_but_never_a_panic(bytes: Vec<u8>) {
            let _any = decode_batch(&bytes);
        }
    }
}

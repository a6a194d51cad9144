//! Dealing rows to parts, by what stands in them.
//!
//! Owns: the hash of a row's values, which depends on neither the row's place nor the number of
//! threads, and is the same in every version. Must not know: parts' names.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};

use crate::strata::{Bounds, Places};

/// Writes a row's values one after the other, so that different rows give different bytes.
pub(crate) fn spell(columns: &[&ArrayRef], row: usize, bytes: &mut Vec<u8>) {
    bytes.clear();
    for column in columns {
        if column.is_null(row) {
            bytes.push(0);
            continue;
        }
        match column.data_type() {
            DataType::Int64 => {
                bytes.push(1);
                bytes.extend(column.as_primitive::<Int64Type>().value(row).to_le_bytes());
            }
            DataType::Float64 => {
                let value = column.as_primitive::<Float64Type>().value(row) + 0.0;
                bytes.push(2);
                bytes.extend(value.to_bits().to_le_bytes());
            }
            DataType::Boolean => bytes.extend([3, u8::from(column.as_boolean().value(row))]),
            DataType::Date32 => {
                bytes.push(4);
                bytes.extend(column.as_primitive::<Date32Type>().value(row).to_le_bytes());
            }
            DataType::Timestamp(..) => {
                bytes.push(5);
                bytes.extend(
                    column
                        .as_primitive::<TimestampMicrosecondType>()
                        .value(row)
                        .to_le_bytes(),
                );
            }
            _ => {
                let text = column.as_string::<i32>().value(row).as_bytes();
                bytes.push(6);
                bytes.extend((text.len() as u64).to_le_bytes());
                bytes.extend(text);
            }
        }
    }
}

/// FNV-1a over the bytes, then the finaliser of SplitMix64, so that every bit counts.
fn hash(bytes: &[u8], seed: u64) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// The place of a row between 0 and 1.
fn place(columns: &[&ArrayRef], row: usize, seed: u64, bytes: &mut Vec<u8>) -> f64 {
    spell(columns, row, bytes);
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let place = (hash(bytes, seed) >> 11) as f64 / (1_u64 << 53) as f64;
    place
}

/// The first part whose upper bound is above the place.
fn part(place: f64, bounds: &[f64]) -> u8 {
    let found = bounds.iter().position(|bound| place < *bound);
    u8::try_from(found.unwrap_or(bounds.len() - 1)).expect("invariant: parts are few")
}

/// The part of each row.
pub(crate) fn deal(columns: &[&ArrayRef], rows: usize, bounds: &[f64], seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let part = |row| part(place(columns, row, seed, &mut bytes), bounds);
    (0..rows).map(part).collect()
}

/// The places of rows, by the stratum that stands in these columns.
pub(crate) fn places(
    strata: &[&ArrayRef],
    columns: &[&ArrayRef],
    rows: usize,
    seed: u64,
) -> Places {
    let (mut bytes, mut places) = (Vec::new(), Places::new());
    for row in 0..rows {
        let place = place(columns, row, seed, &mut bytes);
        spell(strata, row, &mut bytes);
        match places.get_mut(&bytes) {
            Some(known) => known.push(place),
            None => drop(places.insert(bytes.clone(), vec![place])),
        }
    }
    places
}

/// The part of each row, by the bounds of its stratum.
pub(crate) fn deal_strata(
    strata: &[&ArrayRef],
    columns: &[&ArrayRef],
    rows: usize,
    bounds: &Bounds,
    seed: u64,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let part = |row| {
        let place = place(columns, row, seed, &mut bytes);
        spell(strata, row, &mut bytes);
        let bounds = bounds.get(&bytes);
        part(
            place,
            bounds.expect("invariant: an earlier pass met every stratum"),
        )
    };
    (0..rows).map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn parts_have_their_shares_and_never_move() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20_000));
        let parts = deal(&[&numbers], 20_000, &[0.7, 0.9, 1.0], 3);
        let count = |part| parts.iter().filter(|p| **p == part).count();
        assert!((13_700..14_300).contains(&count(0)), "{}", count(0));
        assert!((3_800..4_200).contains(&count(1)), "{}", count(1));
        let later = numbers.slice(500, 10);
        assert_eq!(deal(&[&later], 10, &[0.7, 0.9, 1.0], 3), parts[500..510]);
        assert_ne!(deal(&[&numbers], 20_000, &[0.7, 0.9, 1.0], 4), parts);
    }

    #[test]
    fn texts_are_told_apart_from_their_neighbours() {
        let left: ArrayRef = Arc::new(StringArray::from(vec!["ab", "a"]));
        let right: ArrayRef = Arc::new(StringArray::from(vec!["c", "bc"]));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        spell(&[&left, &right], 0, &mut a);
        spell(&[&left, &right], 1, &mut b);
        assert_ne!(a, b);
    }
}

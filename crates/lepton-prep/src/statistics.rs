//! What is known of a column's values.
//!
//! Owns: counts, extremes, means and deviations, and how those of pieces are put together.
//! Must not know: what they are for.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use serde::{Deserialize, Serialize};

/// What is known of a part of the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartStatistics {
    /// Its name; empty where nothing is split.
    pub name: String,
    /// Its rows.
    pub rows: u64,
}

/// Moments of numbers, put together in order (Chan, Golub and LeVeque 1983).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moments {
    pub(crate) count: u64,
    pub(crate) missing: u64,
    pub(crate) mean: f64,
    /// The sum of squared distances from the mean.
    pub(crate) spread: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            count: 0,
            missing: 0,
            mean: 0.0,
            spread: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
impl Moments {
    /// Of the values of an iterator that can be walked twice; NaN is missing.
    pub(crate) fn of(values: impl Iterator<Item = f64> + Clone, rows: usize) -> Self {
        let (mut count, mut sum) = (0_u64, 0.0);
        let mut moments = Self::default();
        for value in values.clone() {
            count += 1;
            sum += value;
            moments.min = moments.min.min(value);
            moments.max = moments.max.max(value);
        }
        moments.count = count;
        moments.missing = rows as u64 - count;
        if count > 0 {
            let mean = sum / count as f64;
            moments.mean = mean;
            moments.spread = values.map(|value| (value - mean) * (value - mean)).sum();
        }
        moments
    }

    /// Of both.
    pub(crate) fn and(self, other: Self) -> Self {
        let missing = self.missing + other.missing;
        if self.count == 0 || other.count == 0 {
            let one = if self.count == 0 { other } else { self };
            return Self { missing, ..one };
        }
        let count = self.count + other.count;
        let distance = other.mean - self.mean;
        let share = other.count as f64 / count as f64;
        Self {
            count,
            missing,
            mean: self.mean + distance * share,
            spread: self.spread + other.spread + distance * distance * share * self.count as f64,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// The same once missing values are filled.
    pub(crate) fn filled(self, value: f64) -> Self {
        let filled = Self {
            count: self.missing,
            mean: value,
            min: value,
            max: value,
            ..Self::default()
        };
        let base = Self { missing: 0, ..self };
        if self.missing == 0 {
            base
        } else {
            base.and(filled)
        }
    }

    pub(crate) fn deviation(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            (self.spread / self.count as f64).sqrt()
        }
    }
}

/// The numbers of a column that are there, or nothing if it holds none.
pub(crate) fn numbers(array: &ArrayRef) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Float64 => Some(array.clone()),
        DataType::Int64 | DataType::Boolean => cast(array, &DataType::Float64).ok(),
        _ => None,
    }
}

/// The values of a column of 64-bit floats, missing ones and NaN left out.
pub(crate) fn present(array: &ArrayRef) -> impl Iterator<Item = f64> + Clone + '_ {
    let array = array.as_primitive::<Float64Type>();
    let all_there = array.null_count() == 0;
    let values = array.values().iter().copied().enumerate();
    values
        .filter(move |(row, value)| !value.is_nan() && (all_there || array.is_valid(*row)))
        .map(|(_, value)| value)
}

/// The moments of a column; of other columns than numbers only what is missing.
pub(crate) fn moments(array: &ArrayRef) -> Moments {
    match numbers(array) {
        Some(numbers) => Moments::of(present(&numbers), array.len()),
        None => Moments {
            count: 0,
            missing: array.null_count() as u64,
            ..Moments::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_together_are_the_whole(values in prop::collection::vec(-100.0..100.0_f64, 1..60), cut in 0..60_usize, fill in -5.0..5.0_f64) {
            let cut = cut.min(values.len());
            let part = |values: &[f64]| Moments::of(values.iter().copied(), values.len() + 2);
            let together = part(&values[..cut]).and(part(&values[cut..])).filled(fill);
            let mut filled = values.clone();
            filled.extend([fill; 4]);
            let whole = Moments::of(filled.iter().copied(), filled.len());
            prop_assert_eq!((together.count, together.missing, together.min, together.max), (whole.count, 0, whole.min, whole.max));
            prop_assert!((together.mean - whole.mean).abs() < 1e-9);
            prop_assert!((together.deviation() - whole.deviation()).abs() < 1e-9);
        }
    }
}

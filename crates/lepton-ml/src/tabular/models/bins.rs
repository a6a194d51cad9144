//! Features as small integers: where values are cut, and which bin each falls into.
//!
//! Owns: the cuts. Must not know: what grows on them.

use super::super::prepare::Matrix;

/// The bin of a missing value.
pub(super) const MISSING: u8 = u8::MAX;
/// The most cuts of a feature, so that bins fit a byte beside the missing one.
const CUTS_MAX: usize = 253;

/// Features as small integers, by column.
pub(super) struct Bins {
    pub(super) rows: usize,
    pub(super) codes: Vec<u8>,
    /// Each feature's cuts, ascending; bin b holds the values above cut b-1 and not above
    /// cut b.
    pub(super) cuts: Vec<Vec<f32>>,
    /// Where each feature's part of a histogram begins.
    pub(super) starts: Vec<usize>,
    /// How long a histogram is.
    pub(super) slots: usize,
}

impl Bins {
    pub(super) fn new(features: &Matrix, rows: usize) -> Self {
        let width = features.width;
        let (mut codes, mut cuts, mut starts) =
            (Vec::with_capacity(rows * width), Vec::new(), Vec::new());
        let mut slots = 0;
        for feature in 0..width {
            let column = || (0..rows).map(|row| features.values[row * width + feature]);
            let own = cuts_of(column().filter(|v| !v.is_nan()).collect());
            codes.extend(column().map(|value| {
                match u8::try_from(own.partition_point(|cut| *cut < value)) {
                    Ok(bin) if !value.is_nan() => bin,
                    _ => MISSING,
                }
            }));
            starts.push(slots);
            // One more for values above all cuts, one for missing ones.
            slots += own.len() + 2;
            cuts.push(own);
        }
        Self {
            rows,
            codes,
            cuts,
            starts,
            slots,
        }
    }

    pub(super) fn column(&self, feature: usize) -> &[u8] {
        &self.codes[feature * self.rows..(feature + 1) * self.rows]
    }
}

/// Cuts half-way between neighbouring values, or between quantiles where there are many.
fn cuts_of(mut values: Vec<f32>) -> Vec<f32> {
    values.sort_by(f32::total_cmp);
    let mut distinct = values.clone();
    distinct.dedup();
    if distinct.len() <= CUTS_MAX + 1 {
        return distinct
            .windows(2)
            .map(|pair| between(pair[0], pair[1]))
            .collect();
    }
    let mut cuts: Vec<f32> = (1..=CUTS_MAX)
        .map(|i| {
            let low = values[i * values.len() / (CUTS_MAX + 1)];
            let above = distinct.partition_point(|v| *v <= low);
            distinct.get(above).map_or(low, |high| between(low, *high))
        })
        .collect();
    cuts.dedup();
    cuts
}

/// A number that is not below `low` and below `high`, in 32 bits.
pub(super) fn between(low: f32, high: f32) -> f32 {
    let middle = low / 2.0 + high / 2.0;
    if middle >= low && middle < high {
        middle
    } else {
        low
    }
}

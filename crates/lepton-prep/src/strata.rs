//! Stratified splits: where the parts of each stratum end.
//!
//! Owns: how many rows a stratum has and how their places lie, and the bounds that give every part
//! its share of it. Must not know: how a row finds its place.

use std::collections::HashMap;

use crate::error::StepFault;

/// The most strata; what has more values names rows, not kinds of them.
const STRATA_MAX: usize = 1_024;

/// Places of a stratum that are kept as they are. Up to so many, its parts are exact to the row.
const EXACT_MAX: usize = 1 << 13;

/// Beyond, places are counted in as many steps, so that parts are exact to an 8,192th of the stratum.
const STEPS: usize = 1 << 13;

/// The places of a piece's rows, by stratum.
pub(crate) type Places = HashMap<Vec<u8>, Vec<f64>>;

/// By stratum, the upper bounds of its parts.
pub(crate) type Bounds = HashMap<Vec<u8>, Vec<f64>>;

/// Rows of one stratum so far.
#[derive(Debug)]
enum Seen {
    Exact(Vec<f64>),
    Counted(Vec<u64>),
}

/// All strata so far.
#[derive(Debug, Default)]
pub(crate) struct Strata(HashMap<Vec<u8>, Seen>);

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "places are within 0 and 1, steps are few"
)]
fn step_of(place: f64) -> usize {
    ((place * STEPS as f64) as usize).min(STEPS - 1)
}

impl Seen {
    fn add(&mut self, places: &[f64]) {
        match self {
            Self::Exact(all) if all.len() + places.len() <= EXACT_MAX => all.extend(places),
            Self::Exact(all) => {
                let mut counts = vec![0; STEPS];
                for place in all.iter().chain(places) {
                    counts[step_of(*place)] += 1;
                }
                *self = Self::Counted(counts);
            }
            Self::Counted(counts) => places.iter().for_each(|place| counts[step_of(*place)] += 1),
        }
    }

    /// The place below which the nearest number of rows to a share lies.
    fn bound(&self, share: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
        let wanted = |rows: u64| (rows as f64 * share).round();
        match self {
            Self::Exact(sorted) => {
                let wanted = wanted(sorted.len() as u64);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "at most the number of rows"
                )]
                sorted
                    .get(wanted as usize)
                    .copied()
                    .unwrap_or(f64::INFINITY)
            }
            Self::Counted(counts) => {
                let wanted = wanted(counts.iter().sum());
                let (mut below, mut step) = (0.0, 0);
                #[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
                while step < STEPS && below + counts[step] as f64 / 2.0 <= wanted {
                    below += counts[step] as f64;
                    step += 1;
                }
                #[expect(clippy::cast_precision_loss, reason = "steps are few")]
                match step {
                    STEPS => f64::INFINITY,
                    step => step as f64 / STEPS as f64,
                }
            }
        }
    }
}

impl Strata {
    /// Adds the rows of another piece.
    pub(crate) fn add(&mut self, places: Places) -> Result<(), StepFault> {
        for (stratum, places) in places {
            let seen = self.0.entry(stratum);
            seen.or_insert_with(|| Seen::Exact(Vec::new())).add(&places);
        }
        match self.0.len() > STRATA_MAX {
            true => Err(StepFault::TooManyStrata { limit: STRATA_MAX }),
            false => Ok(()),
        }
    }

    /// The bounds of parts with these shares, added up.
    pub(crate) fn bounds(self, shares: &[f64]) -> Bounds {
        let of = |(stratum, mut seen): (Vec<u8>, Seen)| {
            if let Seen::Exact(places) = &mut seen {
                places.sort_by(f64::total_cmp);
            }
            let (_, inner) = shares.split_last().expect("invariant: a split has parts");
            let inner = inner.iter().map(|share| seen.bound(*share));
            (stratum, inner.chain([f64::INFINITY]).collect())
        };
        self.0.into_iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(places: &[f64], shares: &[f64]) -> Vec<usize> {
        let mut strata = Strata::default();
        for piece in places.chunks(1_000) {
            let stratum = b"s".to_vec();
            strata
                .add(Places::from([(stratum, piece.to_vec())]))
                .unwrap();
        }
        let bounds = &strata.bounds(shares)[&b"s".to_vec()];
        let mut counts = vec![0; shares.len()];
        for place in places {
            counts[bounds.iter().position(|bound| place < bound).unwrap()] += 1;
        }
        counts
    }

    /// Spread evenly, out of order.
    fn places(rows: usize) -> Vec<f64> {
        let golden = 0.618_033_988_749_894_9;
        (0..rows).map(|row| (row as f64 * golden).fract()).collect()
    }

    #[test]
    fn small_strata_are_dealt_to_the_nearest_row() {
        let shares = [0.8, 0.9, 1.0];
        for (rows, expected) in [
            (1, [1, 0, 0]),
            (3, [2, 1, 0]),
            (10, [8, 1, 1]),
            (25, [20, 3, 2]),
        ] {
            assert_eq!(counts(&places(rows), &shares), expected, "{rows}");
        }
    }

    #[test]
    fn large_strata_are_dealt_to_an_8_192th() {
        let rows = 100_000;
        let found = counts(&places(rows), &[0.7, 1.0]);
        assert!(found[0].abs_diff(70_000) <= rows / STEPS + 1, "{found:?}");
    }

    #[test]
    fn pieces_may_come_in_any_order() {
        let forwards = places(9_000);
        let backwards: Vec<f64> = forwards.iter().rev().copied().collect();
        assert_eq!(
            counts(&forwards, &[0.5, 1.0]),
            counts(&backwards, &[0.5, 1.0])
        );
    }
}

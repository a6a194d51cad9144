//! Merging: which blocks new points fall into, and what takes their place.
//!
//! Blocks of a series are sorted and disjoint. Points behind the last block make new ones there, and
//! pull in small blocks before them, as long as those are not more than twice as large: sizes fall
//! geometrically towards the end, so in a series that only grows each point is rewritten a few times,
//! and a large block never. Points between rewrite the one block that they fall into.

use std::ops::Range;

use super::block::Extent;
use super::point::Point;

/// Points in a large block: 20 to 50 KB of it, and 0.2 ms to read one back.
pub(crate) const BLOCK_POINTS: usize = 16_384;

/// A block of more points is not pulled in by points behind it.
const PULLED_POINTS_MAX: u64 = BLOCK_POINTS as u64 / 2;

/// Blocks that go, and the new points that are merged with them into what takes their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewrite {
    /// Of the blocks that were given.
    pub(crate) replaced: Range<usize>,
    /// Of the points that were given.
    pub(crate) points: Range<usize>,
    /// Whether it is the end of the series, where more will come.
    pub(crate) at_end: bool,
}

/// Whether no point from `first` on can make anything before this block change.
pub(crate) fn is_settled(extent: &Extent, first: Point) -> bool {
    extent.first <= first && extent.points > PULLED_POINTS_MAX
}

/// What merging sorted, distinct `points` into `extents` rewrites. The extents are the sorted end of
/// a series, from a block that [`is_settled`] on, or all of it.
pub(crate) fn plan(extents: &[Extent], points: &[Point]) -> Vec<Rewrite> {
    let count = extents.len();
    // `cuts[i]..cuts[i + 1]` are the points that fall into block i, or behind it and before the next.
    let mut cuts: Vec<usize> = extents
        .iter()
        .map(|extent| points.partition_point(|point| *point < extent.first))
        .collect();
    if let Some(first) = cuts.first_mut() {
        *first = 0;
    }
    let behind = extents.last().map_or(0, |last| {
        points.partition_point(|point| *point <= last.last)
    });
    cuts.push(behind);

    let mut end = count;
    if behind < points.len() {
        let mut gathered = (points.len() - behind) as u64;
        while let Some(before) = end.checked_sub(1)
            && extents[before].points <= PULLED_POINTS_MAX
            && extents[before].points <= 2 * gathered
        {
            gathered += extents[before].points + (cuts[end] - cuts[before]) as u64;
            end = before;
        }
    }
    let mut rewrites: Vec<Rewrite> = (0..end)
        .filter(|block| cuts[*block] < cuts[*block + 1])
        .map(|block| Rewrite {
            replaced: block..block + 1,
            points: cuts[block]..cuts[block + 1],
            at_end: false,
        })
        .collect();
    if behind < points.len() {
        rewrites.push(Rewrite {
            replaced: end..count,
            points: cuts[end]..points.len(),
            at_end: true,
        });
    }
    rewrites
}

/// The union of two sorted lists of distinct points.
pub(crate) fn merge(stored: &[Point], fresh: &[Point]) -> Vec<Point> {
    let mut merged = Vec::with_capacity(stored.len() + fresh.len());
    let (mut left, mut right) = (stored, fresh);
    while let ([first, left_rest @ ..], [second, right_rest @ ..]) = (left, right) {
        merged.push(*first.min(second));
        if first <= second {
            left = left_rest;
        }
        if second <= first {
            right = right_rest;
        }
    }
    merged.extend_from_slice(left);
    merged.extend_from_slice(right);
    merged
}

/// Cuts merged points into blocks: full ones with the rest last where more will come, else even ones,
/// which leave room for what else falls between.
pub(crate) fn split(points: &[Point], at_end: bool) -> impl Iterator<Item = &[Point]> {
    let size = match at_end {
        true => BLOCK_POINTS,
        false => points
            .len()
            .div_ceil(points.len().div_ceil(BLOCK_POINTS).max(1)),
    };
    points.chunks(size.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::model::points;
    use proptest::prelude::*;

    fn extent(id: i64, first: i64, last: i64, points: u64) -> Extent {
        let at = |step| Point::of_parts(step, step, 0.0);
        Extent {
            id,
            first: at(first),
            last: at(last),
            points,
            times: (first, last),
        }
    }

    #[test]
    fn a_growing_series_never_rewrites_a_large_block() {
        let extents = [
            extent(1, 0, 99, 16_000),
            extent(2, 100, 199, 400),
            extent(3, 200, 299, 90),
        ];
        let fresh: Vec<Point> = (300..350)
            .map(|step| Point::of_parts(step, step, 0.0))
            .collect();
        let expected = Rewrite {
            replaced: 2..3,
            points: 0..50,
            at_end: true,
        };
        assert_eq!(plan(&extents, &fresh), [expected]);
    }

    #[test]
    fn points_between_rewrite_the_one_block_that_they_fall_into() {
        let extents = [extent(1, 0, 99, 16_000), extent(2, 200, 299, 16_000)];
        let fresh: Vec<Point> = [-5, 50, 150, 250]
            .map(|step| Point::of_parts(step, step, 1.0))
            .to_vec();
        let expected = [
            Rewrite {
                replaced: 0..1,
                points: 0..3,
                at_end: false,
            },
            Rewrite {
                replaced: 1..2,
                points: 3..4,
                at_end: false,
            },
        ];
        assert_eq!(plan(&extents, &fresh), expected);
    }

    proptest! {
        #[test]
        fn merging_is_the_union(left in points(50), right in points(50)) {
            let union: Vec<Point> = left
                .iter()
                .chain(&right)
                .copied()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect();
            prop_assert_eq!(merge(&left, &right), union);
        }
    }
}

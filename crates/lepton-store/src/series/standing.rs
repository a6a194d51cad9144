//! What is kept of a series beside its points, for lists, search and sorting.

use super::point::Point;

/// The newest point of a series, and its extremes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standing {
    /// Of the greatest step, then time, then value.
    pub(crate) latest: Point,
    /// The lowest and the highest value that is a number; none if there is none.
    pub(crate) extremes: Option<(f64, f64)>,
}

impl Standing {
    /// Of a series of one point.
    pub(crate) fn of(point: Point) -> Self {
        let value = point.value();
        Self {
            latest: point,
            extremes: (!value.is_nan()).then_some((value, value)),
        }
    }

    /// Takes in one more; whether anything changed. Neither order nor repetition matters.
    pub(crate) fn absorb(&mut self, point: Point) -> bool {
        let before = *self;
        if recency(point) > recency(self.latest) {
            self.latest = point;
        }
        let value = point.value();
        if !value.is_nan() {
            let (lowest, highest) = self.extremes.unwrap_or((value, value));
            self.extremes = Some((lowest.min(value), highest.max(value)));
        }
        *self != before
    }
}

/// MLflow stores NaN as zero beside a mark, so at one step and time it compares as zero.
fn recency(point: Point) -> (i64, i64, i64, Point) {
    let rank = if point.is_nan() { 0 } else { point.rank };
    (point.step, point.at, rank, point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::model::points;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(points in points(30), again in 0_usize..30) {
            let mut points = points;
            let standing = |points: &[Point]| {
                let mut all = points.iter();
                let mut standing = all.next().map(|point| Standing::of(*point))?;
                for point in all {
                    standing.absorb(*point);
                }
                Some(standing)
            };
            let expected = standing(&points);
            points.reverse();
            points.extend_from_within(..again.min(points.len()));
            prop_assert_eq!(standing(&points), expected);
            if let Some(expected) = expected {
                let numbers = || points.iter().map(|point| point.value()).filter(|v| !v.is_nan());
                prop_assert_eq!(expected.extremes.map(|e| e.0), numbers().reduce(f64::min));
                prop_assert_eq!(expected.extremes.map(|e| e.1), numbers().reduce(f64::max));
            }
        }
    }
}

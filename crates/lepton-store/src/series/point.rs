//! A point of a series, and the one order that all of the engine keeps.

use lepton_types::Timestamp;
use lepton_types::resources::MetricPoint;

/// One point of a series. Ordered by step, then time, then value; its identity is all three.
///
/// All NaNs are one value, above every number; `-0.0` is below `0.0` and another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    pub(crate) step: i64,
    pub(crate) at: i64,
    /// The value's bits, turned so that integers compare as the floats do.
    pub(crate) rank: i64,
}

impl Point {
    /// Before every point.
    pub(crate) const MIN: Self = Self {
        step: i64::MIN,
        at: i64::MIN,
        rank: i64::MIN,
    };

    /// A point.
    #[must_use]
    pub fn new(step: i64, at: Timestamp, value: f64) -> Self {
        Self {
            step,
            at: at.as_millis(),
            rank: rank_of(value),
        }
    }

    pub(crate) fn of_parts(step: i64, at: i64, value: f64) -> Self {
        Self::new(step, Timestamp::from_millis(at), value)
    }

    pub(crate) const fn is_nan(self) -> bool {
        self.rank == NAN_RANK
    }

    /// Its step.
    #[must_use]
    pub const fn step(self) -> i64 {
        self.step
    }

    /// When it was measured.
    #[must_use]
    pub const fn timestamp(self) -> Timestamp {
        Timestamp::from_millis(self.at)
    }

    /// What was measured.
    #[must_use]
    pub fn value(self) -> f64 {
        f64::from_bits(turn(self.rank).cast_unsigned())
    }

    /// As a point of the metric `key`.
    #[must_use]
    pub fn of_metric(self, key: &str) -> MetricPoint {
        MetricPoint {
            key: key.to_owned(),
            step: self.step,
            timestamp: Some(self.timestamp()),
            value: self.value(),
        }
    }

    /// Its place in the series as a word for page tokens.
    #[must_use]
    pub fn to_token(self) -> String {
        format!("{:x}.{:x}.{:x}", self.step, self.at, self.rank)
    }

    /// The place that [`Point::to_token`] wrote.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        let mut parts = token
            .split('.')
            .map(|part| u64::from_str_radix(part, 16).map(u64::cast_signed));
        let mut part = || parts.next()?.ok();
        let point = Self {
            step: part()?,
            at: part()?,
            rank: part()?,
        };
        parts.next().is_none().then_some(point)
    }
}

/// An integer that orders as [`f64::total_cmp`] does, with one NaN, the positive quiet one.
fn rank_of(value: f64) -> i64 {
    let value = if value.is_nan() { f64::NAN } else { value };
    turn(value.to_bits().cast_signed())
}

const NAN_RANK: i64 = turn(f64::NAN.to_bits().cast_signed());

/// Turns the order of negative floats around; its own inverse.
const fn turn(bits: i64) -> i64 {
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_keep_their_bits_and_order(a: f64, b: f64) {
            let at = Timestamp::from_millis(0);
            let (first, second) = (Point::new(0, at, a), Point::new(0, at, b));
            prop_assert_eq!(first.value().to_bits(), a.to_bits());
            prop_assert_eq!(first.cmp(&second), a.total_cmp(&b));
        }

        #[test]
        fn tokens_come_back(step: i64, at: i64, rank: i64) {
            let point = Point { step, at, rank };
            prop_assert_eq!(Point::from_token(&point.to_token()), Some(point));
        }
    }

    #[test]
    fn all_nans_are_one_point_above_all_numbers() {
        let at = Timestamp::from_millis(7);
        let one = Point::new(1, at, f64::NAN);
        let negative = Point::new(1, at, f64::from_bits(0xfff8_0000_0000_0001));
        assert_eq!(one, negative);
        assert!(one.value().is_nan() && one > Point::new(1, at, f64::INFINITY));
    }

    #[test]
    fn a_foreign_token_is_none() {
        for token in ["", "1", "1.2", "1.2.3.4", "x.y.z", "-1.2.3"] {
            assert_eq!(Point::from_token(token), None, "{token}");
        }
    }
}

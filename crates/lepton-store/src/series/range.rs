//! Which points of a series are meant.

use std::ops::Bound;

use lepton_types::Timestamp;

use super::block::Summary;
use super::point::Point;

/// What a curve is drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Axis {
    /// Steps.
    #[default]
    Step,
    /// Times.
    Time,
}

impl Axis {
    pub(crate) const fn of(self, point: Point) -> i64 {
        match self {
            Self::Step => point.step,
            Self::Time => point.at,
        }
    }
}

/// Only points whose step and time lie within, ends included. All where nothing is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PointRange {
    /// From this step on.
    pub from_step: Option<i64>,
    /// Up to and with this step.
    pub to_step: Option<i64>,
    /// From this time on.
    pub from_time: Option<Timestamp>,
    /// Up to and with this time.
    pub to_time: Option<Timestamp>,
}

impl PointRange {
    pub(crate) fn steps(&self) -> (i64, i64) {
        (
            self.from_step.unwrap_or(i64::MIN),
            self.to_step.unwrap_or(i64::MAX),
        )
    }

    pub(crate) fn times(&self) -> (i64, i64) {
        (
            self.from_time.map_or(i64::MIN, Timestamp::as_millis),
            self.to_time.map_or(i64::MAX, Timestamp::as_millis),
        )
    }

    pub(crate) fn holds(&self, point: Point) -> bool {
        let (steps, times) = (self.steps(), self.times());
        (steps.0..=steps.1).contains(&point.step) && (times.0..=times.1).contains(&point.at)
    }

    /// Whether a block of these steps and times may hold points of it.
    pub(crate) fn touches(&self, steps: (i64, i64), times: (i64, i64)) -> bool {
        let (own_steps, own_times) = (self.steps(), self.times());
        steps.0 <= own_steps.1
            && own_steps.0 <= steps.1
            && times.0 <= own_times.1
            && own_times.0 <= times.1
    }

    /// Whether all that is summed up lies within.
    pub(crate) fn covers(&self, summary: &Summary) -> bool {
        let (steps, times) = (self.steps(), self.times());
        steps.0 <= summary.first.step
            && summary.last.step <= steps.1
            && times.0 <= summary.times.0
            && summary.times.1 <= times.1
    }

    /// The place where reading begins.
    pub(crate) fn start(&self, after: Option<Point>) -> Bound<Point> {
        let first = Point {
            step: self.steps().0,
            ..Point::MIN
        };
        match after {
            Some(after) if after >= first => Bound::Excluded(after),
            _ => Bound::Included(first),
        }
    }
}

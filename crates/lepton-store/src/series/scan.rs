//! Reading a series in order: the union of its blocks and of what is not merged yet.

use std::ops::Bound;

use super::block::{Extent, Summary};
use super::point::Point;
use super::range::PointRange;

/// The blocks of one series, in order. The store's and a test's.
pub(crate) trait Blocks {
    /// Why it cannot be read.
    type Error;

    /// The next block, if there is one.
    fn next(&mut self) -> Result<Option<Extent>, Self::Error>;

    /// The points of a block.
    fn points(&mut self, extent: &Extent) -> Result<Vec<Point>, Self::Error>;

    /// The summaries of a block and of its chunks.
    fn summaries(&mut self, extent: &Extent) -> Result<(Summary, Vec<Summary>), Self::Error>;
}

/// Which points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan {
    pub(crate) range: PointRange,
    pub(crate) after: Option<Point>,
    pub(crate) offset: u64,
    pub(crate) limit: usize,
}

/// The points that `wanted` asks for. `fresh` is sorted and distinct; `blocks` may leave out those that
/// lie before the beginning.
pub(crate) fn scan<B: Blocks>(
    blocks: &mut B,
    fresh: &[Point],
    wanted: &Scan,
) -> Result<Vec<Point>, B::Error> {
    let start = wanted.range.start(wanted.after);
    let mut page = Page {
        wanted,
        start,
        skip: wanted.offset,
        points: Vec::new(),
    };
    let mut fresh = fresh;
    while !page.is_full() {
        let Some(extent) = blocks.next()? else {
            page.take_all(fresh);
            break;
        };
        let (before, rest) = fresh.split_at(fresh.partition_point(|p| *p < extent.first));
        let (within, behind) = rest.split_at(rest.partition_point(|p| *p <= extent.last));
        page.take_all(before);
        fresh = behind;
        if page.is_full() || extent.first.step > wanted.range.steps().1 {
            page.take_all(within);
            if !page.is_full() {
                page.take_all(behind);
            }
            break;
        }
        if within.is_empty() && page.skips(&extent) {
            continue;
        }
        let stored = blocks.points(&extent)?;
        page.take_all(&super::merge::merge(&stored, within));
    }
    Ok(page.points)
}

struct Page<'a> {
    wanted: &'a Scan,
    start: Bound<Point>,
    skip: u64,
    points: Vec<Point>,
}

impl Page<'_> {
    fn is_full(&self) -> bool {
        self.points.len() >= self.wanted.limit
    }

    fn holds(&self, point: Point) -> bool {
        let begun = match self.start {
            Bound::Included(start) => point >= start,
            Bound::Excluded(start) => point > start,
            Bound::Unbounded => true,
        };
        begun && self.wanted.range.holds(point)
    }

    fn take_all(&mut self, points: &[Point]) {
        for point in points {
            if !self.holds(*point) {
                continue;
            }
            if self.skip > 0 {
                self.skip -= 1;
            } else if self.is_full() {
                return;
            } else {
                self.points.push(*point);
            }
        }
    }

    /// Whether a block can be stepped over without reading it.
    fn skips(&mut self, extent: &Extent) -> bool {
        let range = &self.wanted.range;
        if !range.touches((extent.first.step, extent.last.step), extent.times) {
            return true;
        }
        let whole = self.holds(extent.first)
            && self.holds(extent.last)
            && (range.times().0..=range.times().1).contains(&extent.times.0)
            && (range.times().0..=range.times().1).contains(&extent.times.1);
        if whole && extent.points <= self.skip {
            self.skip -= extent.points;
            return true;
        }
        false
    }
}

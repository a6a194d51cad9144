//! Down-sampling: a curve of few points that keeps the extremes.
//!
//! The axis is cut into pixels of one width. Of each pixel the first, lowest, highest and last point
//! are kept, so no peak is lost. A chunk of points that is no wider than a pixel counts as
//! a whole towards the pixel in which it begins, and its summary is all that is read of it; what
//! is wider is decoded, and each of its points counts where it lies.

use super::block::{CHUNK_POINTS, Summary};
use super::point::Point;
use super::range::{Axis, PointRange};
use super::scan::Blocks;

/// Points that stand for one pixel.
const PIXEL_POINTS: usize = 4;

/// Draws what `range` holds over `ends` of `axis`, of at most `points_max` points or four, in order.
/// `ends` must hold every point of the range. Points that come twice change nothing.
pub(crate) fn draw<B: Blocks>(
    blocks: &mut B,
    fresh: &[Point],
    range: &PointRange,
    (axis, ends): (Axis, (i64, i64)),
    points_max: usize,
) -> Result<Vec<Point>, B::Error> {
    let mut canvas = Canvas::new(axis, ends, points_max);
    while let Some(extent) = blocks.next()? {
        if !range.touches((extent.first.step, extent.last.step), extent.times) {
            continue;
        }
        let (whole, chunks) = blocks.summaries(&extent)?;
        if range.covers(&whole) && canvas.fits(&whole) {
            canvas.add_summary(&whole);
            continue;
        }
        let mut points = None;
        for (number, chunk) in chunks.iter().enumerate() {
            if range.covers(chunk) && canvas.fits(chunk) {
                canvas.add_summary(chunk);
            } else if range.touches((chunk.first.step, chunk.last.step), chunk.times) {
                let points = match &points {
                    Some(points) => points,
                    None => points.insert(blocks.points(&extent)?),
                };
                let begin = (number * CHUNK_POINTS).min(points.len());
                let end = (begin + CHUNK_POINTS).min(points.len());
                canvas.add_points(&points[begin..end], range);
            }
        }
        if chunks.is_empty() {
            canvas.add_points(&blocks.points(&extent)?, range);
        }
    }
    canvas.add_points(fresh, range);
    Ok(canvas.finish())
}

struct Canvas {
    axis: Axis,
    low: i64,
    /// Of one pixel, in units of the axis; at least 1.
    width: u64,
    pixels: Vec<Option<Pixel>>,
}

#[derive(Debug, Clone, Copy)]
struct Pixel {
    first: Point,
    last: Point,
    extremes: Option<(Point, Point)>,
}

impl Canvas {
    fn new(axis: Axis, (low, high): (i64, i64), points_max: usize) -> Self {
        let pixels = (points_max / PIXEL_POINTS).max(1);
        let width = (high.max(low).abs_diff(low) / pixels as u64).saturating_add(1);
        Self {
            axis,
            low,
            width,
            pixels: vec![None; pixels],
        }
    }

    fn pixel(&mut self, point: Point) -> &mut Option<Pixel> {
        let away = self.axis.of(point).max(self.low).abs_diff(self.low);
        let number = usize::try_from(away / self.width).unwrap_or(usize::MAX);
        let number = number.min(self.pixels.len() - 1);
        &mut self.pixels[number]
    }

    /// Whether all that is summed up lies within the width of a pixel.
    fn fits(&self, summary: &Summary) -> bool {
        let (low, high) = match self.axis {
            Axis::Step => (summary.first.step, summary.last.step),
            Axis::Time => summary.times,
        };
        high.abs_diff(low) < self.width
    }

    fn add_summary(&mut self, summary: &Summary) {
        let pixel = self.pixel(summary.first);
        for point in summary.named() {
            Pixel::absorb(pixel, point);
        }
    }

    fn add_points(&mut self, points: &[Point], range: &PointRange) {
        for point in points.iter().filter(|point| range.holds(**point)) {
            Pixel::absorb(self.pixel(*point), *point);
        }
    }

    fn finish(self) -> Vec<Point> {
        let mut points: Vec<Point> = self
            .pixels
            .into_iter()
            .flatten()
            .flat_map(|pixel| {
                let (lowest, highest) = pixel.extremes.unzip();
                [Some(pixel.first), lowest, highest, Some(pixel.last)]
            })
            .flatten()
            .collect();
        points.sort_unstable();
        points.dedup();
        points
    }
}

impl Pixel {
    fn absorb(slot: &mut Option<Self>, point: Point) {
        let pixel = slot.get_or_insert(Self {
            first: point,
            last: point,
            extremes: None,
        });
        pixel.first = pixel.first.min(point);
        pixel.last = pixel.last.max(point);
        if point.is_nan() {
            return;
        }
        let (lowest, highest) = pixel.extremes.get_or_insert((point, point));
        // Of equal values the earliest is kept, whatever order they come in.
        if (point.rank, point) < (lowest.rank, *lowest) {
            *lowest = point;
        }
        if point.rank > highest.rank || (point.rank == highest.rank && point < *highest) {
            *highest = point;
        }
    }
}

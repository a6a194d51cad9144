//! The kinds of charts.
//!
//! Owns: layout. Must not know: what the numbers mean.

use super::Plot;
use super::axis::Axis;
use super::canvas::{Anchor, COLOURS, Canvas, shorten};

/// A named line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Shown in the legend.
    pub name: String,
    /// In drawing order.
    pub points: Vec<(f64, f64)>,
}

/// Lines over two axes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lines {
    /// Above all.
    pub title: String,
    /// Below and to the left.
    pub labels: (String, String),
    /// At most eight are told apart; the others are grey.
    pub series: Vec<Series>,
    /// Both axes from 0 to 1, with the diagonal.
    pub unit_square: bool,
    /// A dot on each point.
    pub dots: bool,
}

/// A cloud of points.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Points {
    /// Above all.
    pub title: String,
    /// Below and to the left.
    pub labels: (String, String),
    /// The points.
    pub points: Vec<(f64, f64)>,
    /// Where perfection lies.
    pub guide: Guide,
}

/// A dashed line to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guide {
    /// x = y.
    #[default]
    Diagonal,
    /// y = 0.
    Zero,
}

/// Horizontal bars, the first on top.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bars {
    /// Above all.
    pub title: String,
    /// Below.
    pub label: String,
    /// Names and lengths.
    pub bars: Vec<(String, f64)>,
}

/// A square of counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Heat {
    /// Above all.
    pub title: String,
    /// Below and to the left.
    pub labels: (String, String),
    /// Names of rows and columns.
    pub names: Vec<String>,
    /// Rows of counts.
    pub counts: Vec<Vec<u64>>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 52.0;
/// Room for a legend, where there is more than one line.
const LEGEND: f64 = 150.0;

/// One document of several pictures, one below the other.
#[must_use]
pub fn stack(plots: &[Plot]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">",
        height = HEIGHT * plots.len() as f64,
    );
    for (row, plot) in plots.iter().enumerate() {
        let place = format!("<svg y=\"{}\" ", HEIGHT * row as f64);
        svg.push_str(&plot.svg.replacen("<svg ", &place, 1));
    }
    svg.push_str("</svg>");
    svg
}

impl Lines {
    /// Draws them.
    #[must_use]
    pub fn draw(&self, name: &str) -> Plot {
        let mut canvas = Canvas::new(WIDTH, HEIGHT, &self.title);
        let legend = if self.series.len() > 1 { LEGEND } else { 0.0 };
        let right = WIDTH - RIGHT - legend;
        let all = || self.series.iter().flat_map(|s| s.points.iter().copied());
        let (x, y) = if self.unit_square {
            (
                Axis::exactly(0.0, 1.0, LEFT, right),
                Axis::exactly(0.0, 1.0, HEIGHT - BOTTOM, TOP),
            )
        } else {
            (
                Axis::covering(all().map(|p| p.0), LEFT, right),
                Axis::covering(all().map(|p| p.1), HEIGHT - BOTTOM, TOP),
            )
        };
        frame(&mut canvas, x, y, &self.labels);
        if self.unit_square {
            canvas.line("guide", (x.at(0.0), y.at(0.0)), (x.at(1.0), y.at(1.0)));
        }
        for (at, series) in self.series.iter().enumerate() {
            let colour = COLOURS[at.min(COLOURS.len() - 1)];
            let points: Vec<_> = series
                .points
                .iter()
                .map(|p| (x.at(p.0), y.at(p.1)))
                .collect();
            canvas.path(&points, colour);
            if self.dots {
                points
                    .iter()
                    .for_each(|point| canvas.dot(*point, 3.5, colour, 1.0));
            }
        }
        if self.series.len() > 1 {
            self.legend(&mut canvas, right + 14.0);
        }
        Plot {
            name: name.to_owned(),
            title: self.title.clone(),
            svg: canvas.finish(),
        }
    }

    fn legend(&self, canvas: &mut Canvas, left: f64) {
        let mut top = TOP + 8.0;
        // As many as fit the height.
        for (at, series) in self.series.iter().enumerate().take(17) {
            canvas.rect(
                (left, top - 4.0),
                (14.0, 4.0),
                COLOURS[at.min(COLOURS.len() - 1)],
                1.0,
            );
            canvas.text(
                (left + 20.0, top + 2.0),
                Anchor::Start,
                &shorten(&series.name, 19),
            );
            top += 19.0;
        }
    }
}

impl Points {
    /// Draws them.
    #[must_use]
    pub fn draw(&self, name: &str) -> Plot {
        let mut canvas = Canvas::new(WIDTH, HEIGHT, &self.title);
        let xs = || self.points.iter().map(|p| p.0);
        let ys = || self.points.iter().map(|p| p.1);
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let (x, y) = match self.guide {
            Guide::Diagonal => (
                Axis::covering(xs().chain(ys()), LEFT, right),
                Axis::covering(xs().chain(ys()), bottom, TOP),
            ),
            Guide::Zero => (
                Axis::covering(xs(), LEFT, right),
                Axis::covering(ys().chain([0.0]), bottom, TOP),
            ),
        };
        frame(&mut canvas, x, y, &self.labels);
        let (low, high) = x.ends();
        let ends = match self.guide {
            Guide::Diagonal => (low, high),
            Guide::Zero => (0.0, 0.0),
        };
        let opacity = if self.points.len() > 500 { 0.35 } else { 0.6 };
        for point in &self.points {
            canvas.dot((x.at(point.0), y.at(point.1)), 3.0, COLOURS[0], opacity);
        }
        canvas.line(
            "guide",
            (x.at(low), y.at(ends.0)),
            (x.at(high), y.at(ends.1)),
        );
        Plot {
            name: name.to_owned(),
            title: self.title.clone(),
            svg: canvas.finish(),
        }
    }
}

impl Bars {
    /// Draws them.
    #[must_use]
    pub fn draw(&self, name: &str) -> Plot {
        const ROW: f64 = 22.0;
        #[expect(clippy::cast_precision_loss, reason = "a few bars")]
        let height = TOP + ROW * self.bars.len() as f64 + BOTTOM;
        let mut canvas = Canvas::new(WIDTH, height, &self.title);
        let left = 190.0;
        let values = self.bars.iter().map(|b| b.1).chain([0.0]);
        let x = Axis::covering(values, left, WIDTH - 74.0);
        for (value, text) in x.ticks() {
            canvas.line(
                "grid",
                (x.at(value), TOP - 6.0),
                (x.at(value), height - BOTTOM),
            );
            canvas.text((x.at(value), height - BOTTOM + 18.0), Anchor::Middle, &text);
        }
        let mut top = TOP;
        for (name, value) in &self.bars {
            let (from, to) = (x.at(value.min(0.0)), x.at(value.max(0.0)));
            canvas.rect(
                (from, top),
                ((to - from).max(0.5), ROW - 6.0),
                COLOURS[0],
                0.9,
            );
            canvas.text((left - 8.0, top + 12.0), Anchor::End, &shorten(name, 26));
            canvas.text((to + 6.0, top + 12.0), Anchor::Start, &figure(*value));
            top += ROW;
        }
        canvas.line("axis", (x.at(0.0), TOP - 6.0), (x.at(0.0), height - BOTTOM));
        canvas.text(
            (f64::midpoint(left, WIDTH - 74.0), height - 14.0),
            Anchor::Middle,
            &self.label,
        );
        Plot {
            name: name.to_owned(),
            title: self.title.clone(),
            svg: canvas.finish(),
        }
    }
}

impl Heat {
    /// Draws it.
    #[must_use]
    pub fn draw(&self, name: &str) -> Plot {
        #[expect(clippy::cast_precision_loss, reason = "a few classes")]
        let count = self.names.len().max(1) as f64;
        let cell = (400.0 / count).clamp(16.0, 84.0);
        let (left, side) = (130.0, cell * count);
        let (width, height) = ((left + side + 40.0).max(360.0), TOP + side + 110.0);
        let mut canvas = Canvas::new(width, height, &self.title);
        for (row, (name, counts)) in self.names.iter().zip(&self.counts).enumerate() {
            let total: u64 = counts.iter().sum();
            #[expect(clippy::cast_precision_loss, reason = "a few classes")]
            let offset = |at: usize| at as f64 * cell;
            let y = TOP + offset(row);
            canvas.text(
                (left - 8.0, y + cell / 2.0 + 4.0),
                Anchor::End,
                &shorten(name, 14),
            );
            canvas.slanted(
                (left + offset(row) + cell / 2.0 + 4.0, TOP + side + 16.0),
                &shorten(name, 14),
            );
            for (column, &value) in counts.iter().enumerate() {
                #[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
                let share = value as f64 / total.max(1) as f64;
                let colour = if row == column {
                    COLOURS[0]
                } else {
                    COLOURS[1]
                };
                let x = left + offset(column);
                canvas.rect(
                    (x + 1.0, y + 1.0),
                    (cell - 2.0, cell - 2.0),
                    colour,
                    0.06 + 0.94 * share,
                );
                if cell >= 24.0 && (value > 0 || cell >= 40.0) {
                    let at = (x + cell / 2.0, y + cell / 2.0 + 4.0);
                    if share > 0.55 {
                        canvas.text_on_mark(at, &value.to_string());
                    } else {
                        canvas.text(at, Anchor::Middle, &value.to_string());
                    }
                }
            }
        }
        canvas.text(
            (left + side / 2.0, height - 14.0),
            Anchor::Middle,
            &self.labels.0,
        );
        canvas.upright((22.0, TOP + side / 2.0), &self.labels.1);
        Plot {
            name: name.to_owned(),
            title: self.title.clone(),
            svg: canvas.finish(),
        }
    }
}

/// Grid, axes, ticks and labels.
fn frame(canvas: &mut Canvas, x: Axis, y: Axis, labels: &(String, String)) {
    let (x_low, x_high) = x.ends();
    let (y_low, y_high) = y.ends();
    let (left, right) = (x.at(x_low), x.at(x_high));
    let (bottom, top) = (y.at(y_low), y.at(y_high));
    for (value, text) in x.ticks() {
        canvas.line("grid", (x.at(value), top), (x.at(value), bottom));
        canvas.text((x.at(value), bottom + 18.0), Anchor::Middle, &text);
    }
    for (value, text) in y.ticks() {
        canvas.line("grid", (left, y.at(value)), (right, y.at(value)));
        canvas.text((left - 8.0, y.at(value) + 4.0), Anchor::End, &text);
    }
    canvas.line("axis", (left, bottom), (right, bottom));
    canvas.line("axis", (left, top), (left, bottom));
    canvas.text(
        (f64::midpoint(left, right), bottom + 40.0),
        Anchor::Middle,
        &labels.0,
    );
    canvas.upright((18.0, f64::midpoint(top, bottom)), &labels.1);
}

/// Three significant digits.
fn figure(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 {
        format!("{value:.1e}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_stacked_into_one_document() {
        let plot = Lines::default().draw("a");
        let svg = stack(&[plot.clone(), plot]);
        assert_eq!(svg.matches("<svg").count(), 3);
        assert_eq!(svg.matches("</svg>").count(), 3);
        assert!(svg.contains("height=\"840\"") && svg.contains("<svg y=\"420\""));
    }

    /// Every chart of awkward data is well-formed: tags balance, no NaN reaches a coordinate.
    #[test]
    fn awkward_data_still_draw() {
        let labels = ("x".to_owned(), "y".to_owned());
        let nothing = Series {
            name: "<none>".into(),
            points: Vec::new(),
        };
        let one = Series {
            name: "one".into(),
            points: vec![(1.0, 1.0)],
        };
        let plots = [
            Lines {
                labels: labels.clone(),
                series: vec![nothing, one],
                ..Lines::default()
            }
            .draw("a"),
            Points {
                labels: labels.clone(),
                points: vec![(2.0, 2.0)],
                ..Points::default()
            }
            .draw("b"),
            Points {
                labels: labels.clone(),
                guide: Guide::Zero,
                ..Points::default()
            }
            .draw("c"),
            Bars {
                bars: vec![("<&>".into(), 0.0), ("b".into(), -1e-9)],
                ..Bars::default()
            }
            .draw("d"),
            Heat {
                labels,
                names: vec!["a\"<b".into(), "c".into()],
                counts: vec![vec![0, 0], vec![1, 9]],
                ..Heat::default()
            }
            .draw("e"),
        ];
        for plot in plots {
            assert!(
                !plot.svg.contains("NaN") && !plot.svg.contains("inf"),
                "{}",
                plot.svg
            );
            for tag in ["text", "title", "style", "svg"] {
                let opened = plot.svg.matches(&format!("<{tag}")).count();
                assert_eq!(
                    opened,
                    plot.svg.matches(&format!("</{tag}>")).count(),
                    "{tag}"
                );
            }
            assert!(!plot.svg.contains("<none>") && !plot.svg.contains("<&>"));
        }
    }
}

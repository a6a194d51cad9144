//! Curves on a terminal, in Braille: two by four dots a character.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::number;
use super::table::one_line;

/// A named curve. Points that are not finite leave a gap.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Red,
];

/// The bits of a character's dots, by row, then column (Unicode 16, chapter 21.1).
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// Columns of the axis on the left: its label and the line.
const MARGIN: usize = 12;

/// Draws curves into `columns` by `rows` characters, with the ends of both axes and, where there
/// are several, a legend.
pub(crate) fn braille(curves: &[Curve], columns: usize, rows: usize) -> String {
    let width = columns.saturating_sub(MARGIN).max(10);
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let (Some(x), Some(y)) = (ends(all().map(|p| p.0)), ends(all().map(|p| p.1))) else {
        return "nothing to draw\n".to_owned();
    };
    let mut canvas = Canvas::new(width, rows);
    for (number, curve) in curves.iter().enumerate() {
        let mut before = None;
        for point in &curve.points {
            let place = (point.0.is_finite() && point.1.is_finite())
                .then(|| canvas.place(share(point.0, x), share(point.1, y)));
            if let Some(place) = place {
                canvas.line(before.unwrap_or(place), place, number);
            }
            before = place;
        }
    }
    let mut text = String::new();
    canvas.write(&mut text, y);
    let (low, high) = (number(x.0), number(x.1));
    let gap = width.saturating_sub(low.len() + high.len());
    writeln!(text, "{:MARGIN$}{low}{:gap$}{high}", "", "").expect("invariant: a String takes text");
    if curves.len() > 1 {
        for (number, curve) in curves.iter().enumerate() {
            let style = style_of(number);
            let name = one_line(&curve.name);
            writeln!(text, "{:MARGIN$}{style}⣿{style:#} {name}", "")
                .expect("invariant: a String takes text");
        }
    }
    text
}

fn style_of(number: usize) -> Style {
    COLOURS[number % COLOURS.len()].on_default()
}

/// The lowest and the highest of the numbers that are finite.
fn ends(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    numbers
        .filter(|number| number.is_finite())
        .map(|number| (number, number))
        .reduce(|(low, high), (number, _)| (low.min(number), high.max(number)))
}

fn share(value: f64, (low, high): (f64, f64)) -> f64 {
    // Halved first: the whole range of floats has no width that is a float.
    let width = high / 2.0 - low / 2.0;
    match width > 0.0 {
        true => (value / 2.0 - low / 2.0) / width,
        false => 0.5,
    }
}

struct Canvas {
    width: usize,
    rows: usize,
    cells: Vec<(u8, usize)>,
}

impl Canvas {
    fn new(width: usize, rows: usize) -> Self {
        Self {
            width,
            rows,
            cells: vec![(0, 0); width * rows],
        }
    }

    /// The dot of a place, from the left and from below.
    fn place(&self, right: f64, up: f64) -> (i64, i64) {
        let (last_x, last_y) = ((self.width * 2 - 1) as f64, (self.rows * 4 - 1) as f64);
        (
            (right * last_x).round() as i64,
            ((1.0 - up) * last_y).round() as i64,
        )
    }

    /// Sets the dots between two places, ends included (Bresenham 1965).
    fn line(&mut self, from: (i64, i64), to: (i64, i64), curve: usize) {
        let (dx, dy) = ((to.0 - from.0).abs(), -(to.1 - from.1).abs());
        let (step_x, step_y) = ((to.0 - from.0).signum(), (to.1 - from.1).signum());
        let (mut x, mut y) = from;
        let mut error = dx + dy;
        loop {
            self.dot(x, y, curve);
            if (x, y) == to {
                return;
            }
            let twice = 2 * error;
            if twice >= dy {
                error += dy;
                x += step_x;
            }
            if twice <= dx {
                error += dx;
                y += step_y;
            }
        }
    }

    fn dot(&mut self, x: i64, y: i64, curve: usize) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
            return;
        };
        if let Some(cell) = self.cells.get_mut(y / 4 * self.width + x / 2) {
            cell.0 |= DOTS[y % 4][x % 2];
            cell.1 = curve;
        }
    }

    fn write(&self, text: &mut String, (low, high): (f64, f64)) {
        for (row, cells) in self.cells.chunks(self.width).enumerate() {
            let label = match row {
                0 => number(high),
                row if row + 1 == self.rows => number(low),
                _ => String::new(),
            };
            write!(text, "{label:>width$} ┤", width = MARGIN - 2)
                .expect("invariant: a String takes text");
            for (bits, curve) in cells {
                let dots = char::from_u32(0x2800 + u32::from(*bits)).unwrap_or(' ');
                if *bits == 0 {
                    text.push(' ');
                } else {
                    let style = style_of(*curve);
                    write!(text, "{style}{dots}{style:#}").expect("invariant: a String takes text");
                }
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(curves: &[Curve], columns: usize, rows: usize) -> String {
        anstream::adapter::strip_str(&braille(curves, columns, rows)).to_string()
    }

    #[test]
    fn a_line_rises_from_corner_to_corner() {
        let curve = Curve {
            name: "loss".to_owned(),
            points: vec![(0.0, 0.0), (10.0, 1.0)],
        };
        insta::assert_snapshot!(plain(&[curve], 22, 3), @r"
        1 ┤      ⢀⡠⠔⠊
          ┤   ⢀⠤⠒⠁
        0 ┤⡠⠔⠊⠁
           0       10
        ");
    }

    #[test]
    fn several_have_a_legend_and_what_is_not_finite_a_gap() {
        let curves = [
            Curve {
                name: "a\u{1b}[2J".to_owned(),
                points: vec![(0.0, 2.0), (1.0, f64::NAN), (2.0, 2.0)],
            },
            Curve {
                name: "b".to_owned(),
                points: vec![(0.0, 1.0), (2.0, f64::INFINITY)],
            },
        ];
        insta::assert_snapshot!(plain(&curves, 22, 2), @r"
        2 ┤⠁        ⠈
        1 ┤⡀
           0        2
           ⣿ a [2J
           ⣿ b
        ");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert_eq!(plain(&[], 80, 5), "nothing to draw\n");
    }

    #[test]
    fn the_widest_of_ranges_is_drawn() {
        let curve = Curve {
            name: String::new(),
            points: vec![(-f64::MAX, f64::MAX), (f64::MAX, -f64::MAX)],
        };
        let drawn = plain(&[curve], 30, 4);
        assert_eq!(drawn.lines().count(), 5);
        // From the upper left to the lower right: a dot in every row.
        let is_dot = |c: char| ('\u{2801}'..='\u{28ff}').contains(&c);
        assert!(
            drawn.lines().take(4).all(|row| row.contains(is_dot)),
            "{drawn}"
        );
    }
}

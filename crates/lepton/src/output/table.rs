//! Aligned columns with a little colour.

use std::borrow::Cow;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What a text tells at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Under way.
    Busy,
    /// Somebody should look.
    Bad,
    /// Of less interest.
    Faint,
    /// A heading.
    Strong,
}

impl Tone {
    const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Busy => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Faint => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
        }
    }

    /// The tone of a lifecycle's word.
    pub(crate) fn of_phase(phase: &str) -> Self {
        match phase.to_ascii_lowercase().as_str() {
            "succeeded" | "ready" | "finished" | "active" | "frozen" | "stopped" | "create"
            | "booked" => Self::Good,
            "failed" | "failing" | "lost" | "revoked" | "expired" | "killed" | "refused" => {
                Self::Bad
            }
            "unchanged" | "cancelled" | "over" => Self::Faint,
            _ => Self::Busy,
        }
    }
}

/// The text in its tone; the stream takes the colour out where nobody sees it.
pub(crate) fn paint(text: &str, tone: Tone) -> String {
    let style = tone.style();
    format!("{style}{text}{style:#}")
}

/// One field of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A lifecycle's word in its tone.
    pub(crate) fn phase(word: &str) -> Self {
        Self {
            text: word.to_ascii_lowercase(),
            tone: Tone::of_phase(word),
        }
    }

    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }

    pub(crate) fn maybe(text: Option<impl ToString>) -> Self {
        text.map_or_else(
            || Self::toned("-", Tone::Faint),
            |text| Self::from(text.to_string()),
        )
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self {
            text,
            tone: Tone::Plain,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

/// Headed columns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Table {
    headers: Vec<Cow<'static, str>>,
    rows: Vec<Vec<Cell>>,
    empty: String,
    at_least: Vec<usize>,
}

impl Table {
    /// `empty` is said where there are no rows.
    pub(crate) fn new<H: Into<Cow<'static, str>>>(
        headers: Vec<H>,
        empty: impl Into<String>,
    ) -> Self {
        Self {
            headers: headers.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            empty: empty.into(),
            at_least: Vec::new(),
        }
    }

    /// Makes the columns as wide as those of `other`, which stands above it.
    pub(crate) fn below(mut self, other: &Self) -> Self {
        self.at_least = other.widths();
        self
    }

    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Lines of at most `columns` characters: the last column gives way first, down to
    /// [`LAST_LEAST`].
    pub(crate) fn render(&self, columns: usize) -> String {
        if self.rows.is_empty() {
            return self.empty.clone();
        }
        let widths = self.widths();
        let mut text = String::new();
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|header| Cell::toned(header.clone(), Tone::Strong))
            .collect();
        line(&mut text, &headers, &widths, columns);
        for row in &self.rows {
            line(&mut text, row, &widths, columns);
        }
        text
    }

    /// Only the rows, for those that follow a table shown before.
    pub(crate) fn render_rows(&self, columns: usize) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.rows {
            line(&mut text, row, &widths, columns);
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headers.iter().map(|header| header.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        for (width, least) in widths.iter_mut().zip(&self.at_least) {
            *width = (*width).max(*least);
        }
        widths
    }
}

/// What the last column keeps on a narrow terminal, which then breaks the line: a reason that is cut
/// after a word tells nothing.
const LAST_LEAST: usize = 60;

fn line(text: &mut String, cells: &[Cell], widths: &[usize], columns: usize) {
    let mut used = 0;
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let last = index + 1 == cells.len();
        let room = match columns.saturating_sub(used) {
            room if last => room.max(LAST_LEAST),
            room => room,
        };
        let shown = shorten(&one_line(&cell.text), room);
        let style = cell.tone.style();
        write!(text, "{style}{shown}{style:#}").expect("invariant: a String takes all text");
        if !last {
            let fill = width.saturating_sub(shown.width()) + 2;
            text.extend(std::iter::repeat_n(' ', fill));
        }
        used += width + 2;
    }
    while text.ends_with(' ') {
        text.pop();
    }
    text.push('\n');
}

/// Nothing that a server sends moves the cursor.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn shorten(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut width = 0;
    for c in text.chars() {
        let next = c.width().unwrap_or(0);
        if width + next + 1 > room {
            break;
        }
        kept.push(c);
        width += next;
    }
    if room > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(table: &Table, columns: usize) -> String {
        anstream::adapter::strip_str(&table.render(columns)).to_string()
    }

    #[test]
    fn columns_align_and_the_last_gives_way() {
        let mut table = Table::new(vec!["NAME", "PHASE", "WAITING"], "none");
        table.push(vec!["a".into(), Cell::phase("ready"), "".into()]);
        table.push(vec![
            "日本語".into(),
            Cell::phase("queued"),
            "waits for\nroom in `local`".into(),
        ]);
        insta::assert_snapshot!(plain(&table, 40), @r"
        NAME    PHASE   WAITING
        a       ready
        日本語  queued  waits for room in `local`
        ");
        table.push(vec![
            "b".into(),
            Cell::phase("queued"),
            "x".repeat(80).into(),
        ]);
        let told = |columns| plain(&table, columns).lines().last().unwrap().to_owned();
        assert_eq!(told(100), format!("b       queued  {}", "x".repeat(80)));
        assert_eq!(told(80), format!("b       queued  {}…", "x".repeat(63)));
        assert_eq!(told(24), format!("b       queued  {}…", "x".repeat(59)));
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(
            Table::new(vec!["NAME"], "no jobs yet").render(80),
            "no jobs yet"
        );
    }
}

//! A page about one thing: facts, tables and lists under headings.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr as _;

use super::table::one_line;
use super::{Table, Tone, paint};

/// A page about one thing.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
    facts: Vec<(String, String)>,
    columns: usize,
}

impl Page {
    /// Lines of at most `columns` characters, where that can be helped.
    pub(crate) fn new(columns: usize) -> Self {
        Self {
            columns,
            ..Self::default()
        }
    }

    /// A line of the form `Key: value`; neighbours align.
    pub(crate) fn fact(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        self.facts.push((key.to_owned(), value.into()));
        self
    }

    /// The same, if there is a value.
    pub(crate) fn maybe(&mut self, key: &str, value: Option<impl ToString>) -> &mut Self {
        if let Some(value) = value {
            self.fact(key, value.to_string());
        }
        self
    }

    /// Begins another part.
    pub(crate) fn heading(&mut self, title: &str) -> &mut Self {
        self.settle();
        let title = paint(title, Tone::Strong);
        let _ = write!(self.text, "\n{title}\n");
        self
    }

    /// A table, indented.
    pub(crate) fn table(&mut self, table: &Table) -> &mut Self {
        self.settle();
        for line in table.render(self.columns.saturating_sub(2)).lines() {
            let _ = writeln!(self.text, "  {line}");
        }
        self
    }

    /// A line, indented.
    pub(crate) fn line(&mut self, line: &str) -> &mut Self {
        self.settle();
        let _ = writeln!(self.text, "  {line}");
        self
    }

    /// All of it.
    pub(crate) fn finish(mut self) -> String {
        self.settle();
        self.text
    }

    fn settle(&mut self) {
        let width = self
            .facts
            .iter()
            .map(|(key, _)| key.width())
            .max()
            .unwrap_or(0);
        for (key, value) in self.facts.drain(..) {
            let fill = " ".repeat(width - key.width());
            let _ = writeln!(
                self.text,
                "{}{fill}  {}",
                paint(&key, Tone::Faint),
                one_line_but_styles(&value)
            );
        }
    }
}

/// Nothing that a server sends moves the cursor; the colours that we added stay.
fn one_line_but_styles(text: &str) -> String {
    text.split('\u{1b}')
        .map(one_line)
        .collect::<Vec<_>>()
        .join("\u{1b}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_align_under_their_heading() {
        let mut page = Page::new(80);
        page.fact("Name", "wine")
            .fact("Phase", "ready")
            .maybe("Gone", None::<u8>);
        page.heading("Files").line("model.onnx");
        let plain = anstream::adapter::strip_str(&page.finish()).to_string();
        insta::assert_snapshot!(plain, @r"
        Name   wine
        Phase  ready

        Files
          model.onnx
        ");
    }
}

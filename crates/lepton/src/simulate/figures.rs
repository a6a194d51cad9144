//! How figures are printed: as JSON under their names, or as a table with bars below it.
//!
//! Owns: columns and bars. Must not know: what the figures mean.

use std::io::{self, Write};

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::output::{self, Format};

/// Width of a bar of the greatest value.
const BAR: f64 = 40.0;

/// Figures of several policies, printed together.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

/// What is drawn beside the figures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plot {
    /// The field whose value is a bar.
    bar: &'static str,
    /// The field that no policy can pass, a line through the bars.
    bound: Option<&'static str>,
}

/// A policy's figures, in the order in which they were declared: the most important first.
#[derive(Debug, Clone, Default)]
struct Row(Vec<(String, Value)>);

impl Row {
    fn number(&self, name: &str) -> f64 {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.and_then(|(_, value)| value.as_f64()).unwrap_or(0.0)
    }

    fn policy(&self) -> &str {
        let first = self.0.first().and_then(|(_, value)| value.as_str());
        first.unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("figures by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut row = Row::default();
                while let Some(field) = map.next_entry()? {
                    row.0.push(field);
                }
                Ok(row)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Table {
    pub(super) fn push(&mut self, policy: &str, figures: &impl Serialize) {
        let text = serde_json::to_string(figures).expect("invariant: figures are plain fields");
        let mut row: Row = serde_json::from_str(&text).expect("invariant: they are named");
        let name = ("policy".to_owned(), Value::String(policy.to_owned()));
        row.0.insert(0, name);
        self.rows.push(row);
    }

    /// Prints all; below a table the fields of `plots` are drawn.
    pub(super) fn print(
        &self,
        format: Format,
        plots: &[Plot],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match format {
            Format::Json => writeln!(out, "{}", self.json()),
            Format::Yaml => write!(out, "{}", output::json_as_yaml(&self.json())),
            Format::Table | Format::Wide => {
                self.text(out)?;
                plots.iter().try_for_each(|plot| self.draw(plot, out))
            }
        }
    }

    /// One policy's figures, or a list of several's.
    fn json(&self) -> String {
        match &self.rows[..] {
            [one] => output::json(one),
            all => output::json(&all),
        }
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(first) = self.rows.first() else {
            return Ok(());
        };
        let names = first.0.iter().map(|(name, _)| name.clone());
        let mut lines: Vec<Vec<String>> = vec![names.collect()];
        for row in &self.rows {
            lines.push(row.0.iter().map(|(_, value)| shown(value)).collect());
        }
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|column| {
                let cells = lines.iter().filter_map(|line| line.get(column));
                cells.map(|text| text.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for line in &lines {
            let cells = line.iter().zip(&widths).zip(&first.0);
            let cells = cells.map(|((text, width), (_, value))| match value.is_string() {
                true => format!("{text:<width$}"),
                false => format!("{text:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn draw(&self, plot: &Plot, out: &mut dyn Write) -> io::Result<()> {
        let drawn = [Some(plot.bar), plot.bound].into_iter().flatten();
        let drawn = drawn.flat_map(|name| self.rows.iter().map(move |row| row.number(name)));
        let most = drawn.fold(f64::MIN_POSITIVE, f64::max);
        let names = self.rows.iter().map(Row::policy);
        let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
        writeln!(out, "\n{}", plot.legend())?;
        for row in &self.rows {
            let bound = plot.bound.map(|bound| row.number(bound) / most);
            let bar = drawn_bar(row.number(plot.bar) / most, bound);
            writeln!(out, "{:width$}  {bar}", row.policy())?;
        }
        Ok(())
    }
}

impl Plot {
    /// A bar for each policy.
    pub(super) const fn of(bar: &'static str) -> Self {
        Self { bar, bound: None }
    }

    /// A bar for each policy, with a line at the bound.
    pub(super) const fn beside(bar: &'static str, bound: &'static str) -> Self {
        let bound = Some(bound);
        Self { bar, bound }
    }

    fn legend(&self) -> String {
        match self.bound {
            None => self.bar.to_owned(),
            Some(bound) => format!("{} (│ {bound})", self.bar),
        }
    }
}

/// A bar of a `share` of the width, and a line at that of the `bound`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and eighths of the width of a bar"
)]
fn drawn_bar(share: f64, bound: Option<f64>) -> String {
    let eighths = (8.0 * BAR * share).clamp(0.0, 8.0 * BAR).round() as usize;
    let last = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    let mut bar: Vec<char> = "█"
        .repeat(eighths / 8)
        .chars()
        .chain(last.chars())
        .collect();
    if let Some(bound) = bound.filter(|bound| *bound > 0.0) {
        let at = (BAR * bound).clamp(0.0, BAR).round() as usize;
        if bar.len() <= at {
            bar.resize(at + 1, ' ');
        }
        bar[at] = '│';
    }
    bar.into_iter().collect()
}

/// Of large numbers no fractions, of none a dash.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            None => number.to_string(),
            Some(x) if x.abs() >= 1e15 => format!("{x:.3e}"),
            Some(x) if x.abs() >= 1e4 => format!("{x:.0}"),
            Some(x) => format!("{x:.3}"),
        },
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Figures {
        zulu: f64,
        alpha: u32,
        least: Option<f64>,
    }

    #[test]
    fn the_first_figures_come_first_and_the_bound_is_a_line() {
        let mut table = Table::default();
        for (name, zulu) in [("ours", 12_345.6), ("other", 24_691.2)] {
            let least = Some(10_288.0);
            table.push(
                name,
                &Figures {
                    zulu,
                    alpha: 7,
                    least,
                },
            );
        }
        let print = |format, bound| {
            let mut out = Vec::new();
            let plot = Plot { bar: "zulu", bound };
            table.print(format, &[plot], &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        // A half of forty characters, and a line at five twelfths.
        let bar = |rest: usize| format!("{}│{}", "█".repeat(17), "█".repeat(rest));
        let lines = [
            "policy   zulu  alpha  least".to_owned(),
            "ours    12346      7  10288".to_owned(),
            "other   24691      7  10288".to_owned(),
            String::new(),
            "zulu (│ least)".to_owned(),
            format!("ours   {}", bar(2)),
            format!("other  {}", bar(22)),
        ];
        assert_eq!(print(Format::Table, Some("least")), lines.join("\n") + "\n");
        let json = print(Format::Json, None);
        let order = ["policy", "zulu", "alpha", "least"].map(|name| json.find(name).unwrap());
        assert!(order.is_sorted(), "{json}");
        assert_eq!(shown(&serde_json::json!(1e300)), "1.000e300");
        assert_eq!(shown(&Value::Null), "–");
    }
}

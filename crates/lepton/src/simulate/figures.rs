//! How figures are printed: as JSON under their names, or as a table with bars.
//!
//! Owns: columns and bars. Must not know: what the figures mean.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::output::{self, Format};

/// Width of a bar of the greatest value.
const BAR: f64 = 30.0;

/// Figures of several policies, printed together.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<(String, Map<String, Value>)>,
}

impl Table {
    pub(super) fn push(&mut self, policy: &str, figures: &impl Serialize) {
        let value = serde_json::to_value(figures).expect("invariant: figures are plain fields");
        let Value::Object(fields) = value else { return };
        self.rows.push((policy.to_owned(), fields));
    }

    /// Prints all; in a table the field `bar` is drawn.
    pub(super) fn print(&self, format: Format, bar: &str, out: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Json => writeln!(out, "{}", output::json(&self.value())),
            Format::Yaml => write!(
                out,
                "{}",
                output::json_as_yaml(&output::json(&self.value()))
            ),
            Format::Table | Format::Wide => self.text(bar, out),
        }
    }

    /// One policy's figures, or a list of several's.
    fn value(&self) -> Value {
        let mut objects: Vec<Value> = self
            .rows
            .iter()
            .map(|(policy, fields)| {
                let mut fields = fields.clone();
                fields.insert("policy".to_owned(), Value::String(policy.clone()));
                Value::Object(fields)
            })
            .collect();
        if objects.len() == 1 {
            objects.remove(0)
        } else {
            Value::Array(objects)
        }
    }

    fn text(&self, bar: &str, out: &mut dyn Write) -> io::Result<()> {
        let Some((_, first)) = self.rows.first() else {
            return Ok(());
        };
        let number =
            |fields: &Map<String, Value>| fields.get(bar).and_then(Value::as_f64).unwrap_or(0.0);
        let most = self
            .rows
            .iter()
            .map(|(_, fields)| number(fields))
            .fold(f64::MIN_POSITIVE, f64::max);
        let mut lines = vec![
            std::iter::once("policy".to_owned())
                .chain(first.keys().cloned())
                .collect::<Vec<_>>(),
        ];
        for (policy, fields) in &self.rows {
            lines.push(
                std::iter::once(policy.clone())
                    .chain(fields.values().map(shown))
                    .collect(),
            );
        }
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|column| {
                lines
                    .iter()
                    .filter_map(|line| line.get(column))
                    .map(|text| text.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (index, line) in lines.iter().enumerate() {
            for (text, width) in line.iter().zip(&widths) {
                write!(out, "{text:<width$}  ")?;
            }
            let length = index
                .checked_sub(1)
                .map_or(0.0, |row| BAR * number(&self.rows[row].1) / most);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the width of a bar"
            )]
            writeln!(out, "{}", "█".repeat(length.max(0.0).round() as usize))?;
        }
        Ok(())
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => number
            .as_f64()
            .filter(|_| number.is_f64())
            .map_or_else(|| number.to_string(), |x| format!("{x:.3}")),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

//! A table in memory, by columns.
//!
//! Owns: columns of numbers or text, with missing values. Must not know: file
//! formats, or what the columns are for.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A table: named columns of one length.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frame {
    names: Vec<String>,
    columns: Vec<Column>,
    rows: usize,
}

/// The values of one column.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Numbers; a missing value is NaN.
    Number(Vec<f64>),
    /// Texts, each distinct one stored once.
    Text(TextColumn),
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Numbers.
    Number,
    /// Texts.
    Text,
}

/// Texts as codes into the distinct values, in order of first appearance.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TextColumn {
    codes: Vec<u32>,
    values: Vec<String>,
}

/// Collects a [`TextColumn`].
#[derive(Debug, Default)]
pub struct TextBuilder {
    column: TextColumn,
    index: HashMap<String, u32>,
    bytes: usize,
}

/// The code of a missing text.
const MISSING: u32 = u32::MAX;

/// No column has the name asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no column `{name}`{}", hint(nearest))]
pub struct UnknownColumn {
    /// The name asked for.
    pub name: String,
    /// The most similar name that exists.
    pub nearest: Option<String>,
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map_or_else(String::new, |name| format!(": did you mean `{name}`?"))
}

/// Two columns share a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two columns are called `{name}`")]
pub struct DuplicateColumn {
    /// The name.
    pub name: String,
}

impl Frame {
    /// A table of these columns.
    ///
    /// # Errors
    /// Fails if two columns share a name.
    ///
    /// # Panics
    /// If the columns differ in length.
    pub fn new(columns: Vec<(String, Column)>) -> Result<Self, DuplicateColumn> {
        let mut seen = std::collections::HashSet::new();
        if let Some((name, _)) = columns.iter().find(|(name, _)| !seen.insert(name.as_str())) {
            return Err(DuplicateColumn { name: name.clone() });
        }
        let rows = columns.first().map_or(0, |(_, column)| column.len());
        assert!(
            columns.iter().all(|(_, column)| column.len() == rows),
            "columns of one length"
        );
        let (names, columns) = columns.into_iter().unzip();
        Ok(Self {
            names,
            columns,
            rows,
        })
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The names of the columns, in order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Names and columns, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Column)> {
        self.names.iter().map(String::as_str).zip(&self.columns)
    }

    /// The column of that name.
    ///
    /// # Errors
    /// Fails if there is none, and names the most similar one.
    pub fn column(&self, name: &str) -> Result<&Column, UnknownColumn> {
        match self.names.iter().position(|n| n == name) {
            Some(at) => Ok(&self.columns[at]),
            None => Err(UnknownColumn {
                name: name.to_owned(),
                nearest: self.nearest(name),
            }),
        }
    }

    fn nearest(&self, name: &str) -> Option<String> {
        // Beyond a third of the name, a suggestion is noise.
        let far = (name.chars().count() / 3).max(1);
        self.names
            .iter()
            .map(|other| {
                (
                    edit_distance(&name.to_lowercase(), &other.to_lowercase()),
                    other,
                )
            })
            .filter(|(distance, _)| *distance <= far)
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, other)| other.clone())
    }

    /// The rows at these positions, in this order.
    #[must_use]
    pub fn take(&self, rows: &[usize]) -> Self {
        Self {
            names: self.names.clone(),
            columns: self
                .columns
                .iter()
                .map(|column| column.take(rows))
                .collect(),
            rows: rows.len(),
        }
    }

    /// The same table with another column of that name, which must exist and have the
    /// same length.
    pub(crate) fn with_column(&self, name: &str, column: Column) -> Self {
        debug_assert_eq!(column.len(), self.rows);
        let mut frame = self.clone();
        if let Some(at) = frame.names.iter().position(|n| n == name) {
            frame.columns[at] = column;
        }
        frame
    }
}

impl Column {
    /// How many values there are, missing ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Number(values) => values.len(),
            Self::Text(text) => text.codes.len(),
        }
    }

    /// Whether there are no values at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the values are.
    #[must_use]
    pub fn column_type(&self) -> ColumnType {
        match self {
            Self::Number(_) => ColumnType::Number,
            Self::Text(_) => ColumnType::Text,
        }
    }

    /// Whether the value of that row is missing.
    #[must_use]
    pub fn is_missing(&self, row: usize) -> bool {
        match self {
            Self::Number(values) => values[row].is_nan(),
            Self::Text(text) => text.codes[row] == MISSING,
        }
    }

    /// The values at these positions, in this order.
    #[must_use]
    pub fn take(&self, rows: &[usize]) -> Self {
        match self {
            Self::Number(values) => Self::Number(rows.iter().map(|&r| values[r]).collect()),
            Self::Text(text) => Self::Text(TextColumn {
                codes: rows.iter().map(|&r| text.codes[r]).collect(),
                values: text.values.clone(),
            }),
        }
    }

    /// The value of that row as a person would write it; `None` if it is missing.
    #[must_use]
    pub fn text(&self, row: usize) -> Option<String> {
        match self {
            Self::Number(values) => (!values[row].is_nan()).then(|| values[row].to_string()),
            Self::Text(text) => text.get(row).map(str::to_owned),
        }
    }

    /// The same column as texts.
    #[must_use]
    pub fn to_text(&self) -> TextColumn {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(_) => {
                let mut builder = TextBuilder::default();
                for row in 0..self.len() {
                    builder.push(self.text(row).as_deref());
                }
                builder.finish()
            }
        }
    }
}

impl TextColumn {
    /// The value of that row, unless it is missing.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&str> {
        self.values
            .get(self.codes[row] as usize)
            .map(String::as_str)
    }

    /// Each row's code: a position in [`Self::values`], or past its end if missing.
    #[must_use]
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// The distinct values, some of which may no longer occur.
    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.values
    }
}

impl<'a> FromIterator<Option<&'a str>> for TextColumn {
    fn from_iter<I: IntoIterator<Item = Option<&'a str>>>(texts: I) -> Self {
        let mut builder = TextBuilder::default();
        for text in texts {
            builder.push(text);
        }
        builder.finish()
    }
}

impl TextBuilder {
    /// Adds a value; an empty text counts as missing.
    pub fn push(&mut self, text: Option<&str>) {
        let code = match text {
            None | Some("") => MISSING,
            Some(text) => match self.index.get(text) {
                Some(&code) => code,
                None => {
                    let code = u32::try_from(self.column.values.len())
                        .expect("invariant: fewer rows than 2^32, as the readers bound cells");
                    self.bytes += 2 * text.len();
                    self.column.values.push(text.to_owned());
                    self.index.insert(text.to_owned(), code);
                    code
                }
            },
        };
        self.column.codes.push(code);
    }

    /// About how much memory the distinct values take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The column.
    #[must_use]
    pub fn finish(self) -> TextColumn {
        self.column
    }
}

/// Insertions, deletions and substitutions between two texts (Levenshtein 1966), on
/// the first 64 characters of each.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let colours = [Some("red"), None, Some("blue"), Some("red")]
            .into_iter()
            .collect();
        Frame::new(vec![
            ("size".into(), Column::Number(vec![1.0, f64::NAN, 3.0, 4.5])),
            ("colour".into(), Column::Text(colours)),
        ])
        .unwrap()
    }

    #[test]
    fn an_unknown_column_names_the_nearest() {
        let error = frame().column("color").unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no column `color`: did you mean `colour`?"
        );
        let error = frame().column("price").unwrap_err();
        assert_eq!(error.to_string(), "there is no column `price`");
    }

    #[test]
    fn taking_rows_keeps_missing_values() {
        let taken = frame().take(&[3, 1]);
        assert_eq!(taken.rows(), 2);
        let colour = taken.column("colour").unwrap();
        assert_eq!(
            (colour.text(0).as_deref(), colour.text(1)),
            (Some("red"), None)
        );
        let size = taken.column("size").unwrap();
        assert_eq!(
            (size.text(0).as_deref(), size.is_missing(1)),
            (Some("4.5"), true)
        );
    }

    #[test]
    fn two_columns_of_one_name_are_refused() {
        let column = Column::Number(vec![1.0]);
        let error = Frame::new(vec![("a".into(), column.clone()), ("a".into(), column)]);
        assert_eq!(error.unwrap_err().to_string(), "two columns are called `a`");
    }

    #[test]
    fn edit_distance_of_published_pairs() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}

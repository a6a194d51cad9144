//! What a table holds, told in one reading and in memory for a single row.
//!
//! Owns: counts. Must not know: values, beyond whether they are numbers or missing.

use super::read::{ReadError, ReadFault};
use super::{ColumnType, Source, csv, parquet};

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// Rows, without headers.
    pub rows: u64,
    /// Columns, in order.
    pub columns: Vec<ColumnSummary>,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSummary {
    /// Its name.
    pub name: String,
    /// Numbers, or text where any value is no number.
    pub column_type: ColumnType,
    /// Rows without a value.
    pub missing: u64,
}

/// Tells what the tables in `sources` hold, taken as one.
///
/// # Errors
/// The first place where a file is not a table, or not like the first one.
pub fn summarise(sources: &[Source]) -> Result<TableSummary, ReadError> {
    let Some(first) = sources.first() else {
        let (file, fault) = ("data".to_owned(), ReadFault::NoSource);
        return Err(ReadError {
            file,
            line: None,
            fault,
        });
    };
    match first.is_parquet() {
        Err(error) => Err(ReadFault::Io(error).at(first, None)),
        Ok(true) => parquet::summarise(sources),
        Ok(false) => csv::summarise(sources),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_counted_and_broken_ones_named_by_line() {
        let source = |text: &'static str| [Source::bytes("t.csv", text)];
        let summary = summarise(&source("a,b\n1,x\n,y\n3,\n")).unwrap();
        assert_eq!(summary.rows, 3);
        let told: Vec<_> = summary
            .columns
            .iter()
            .map(|c| (c.name.as_str(), c.column_type, c.missing))
            .collect();
        assert_eq!(
            told,
            [("a", ColumnType::Number, 1), ("b", ColumnType::Text, 1)]
        );
        let ragged = summarise(&source("a,b\n1,2\n3\n")).unwrap_err();
        assert_eq!(ragged.line, Some(3));
    }
}

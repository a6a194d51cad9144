//! Reading tables from files.
//!
//! Owns: what a source is, the bounds on what is read, and the errors that say where
//! a file is wrong. Must not know: how either format is parsed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{ColumnType, DuplicateColumn, Frame};
use super::remote::{Cursor, ReadAt};
use super::{csv, parquet};

/// Where a table's bytes are. CSV is read twice: once for the types, once for the
/// values.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file.
    Path(PathBuf),
    /// A file that people know under another name.
    Stored {
        /// What to call it in messages.
        name: String,
        /// Where it is.
        path: PathBuf,
    },
    /// Bytes that are kept elsewhere, and what to call them in messages.
    Remote {
        /// A file name.
        name: String,
        /// The bytes.
        file: Arc<dyn ReadAt>,
    },
    /// Bytes in memory, and what to call them in messages.
    Bytes {
        /// A file name.
        name: String,
        /// The content.
        data: Bytes,
    },
}

/// How to read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Columns whose type is known already, as when rows are read for a model that
    /// exists; the others' types are inferred.
    pub types: BTreeMap<String, ColumnType>,
    /// What is refused for its size.
    pub limits: ReadLimits,
}

/// What is refused for its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// The longest CSV record, in bytes.
    pub record_bytes: usize,
    /// The most columns.
    pub columns: usize,
    /// The most values, rows times columns; each takes four or eight bytes.
    pub cells: usize,
    /// The most memory for distinct texts of one column, in bytes.
    pub text_bytes: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            // 10,000 columns of 400 characters; a longer line is a broken file.
            record_bytes: 4 << 20,
            columns: 10_000,
            // At most 1.6 GB of numbers.
            cells: 200_000_000,
            text_bytes: 256 << 20,
        }
    }
}

/// A file that cannot be read as a table, and where it is wrong.
#[derive(Debug, thiserror::Error)]
pub struct ReadError {
    /// The file's name.
    pub file: String,
    /// The line, counted from 1, if there is one to blame.
    pub line: Option<u64>,
    /// What is wrong.
    #[source]
    pub fault: ReadFault,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "`{}`, line {line}: {}", self.file, self.fault),
            None => write!(f, "`{}`: {}", self.file, self.fault),
        }
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// No byte, or nothing but white space.
    #[error("the file is empty")]
    Empty,
    /// A header and nothing else.
    #[error("the file has a header but no rows")]
    NoRows,
    /// A row with more or fewer fields than the header.
    #[error("{found} fields where the header has {expected}")]
    Ragged {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Bytes that are no text.
    #[error("not UTF-8 at byte {offset} of the line: save the file as UTF-8")]
    NotUtf8 {
        /// Where in the record, counted from 0.
        offset: usize,
    },
    /// A record past [`ReadLimits::record_bytes`].
    #[error("longer than {limit} bytes: is a quote left open, or is this no CSV file?")]
    RecordTooLong {
        /// The bound.
        limit: usize,
    },
    /// More than [`ReadLimits::columns`].
    #[error("more than {limit} columns")]
    TooManyColumns {
        /// The bound.
        limit: usize,
    },
    /// More than [`ReadLimits::cells`].
    #[error("more than {limit} values")]
    TooManyCells {
        /// The bound.
        limit: usize,
    },
    /// More than [`ReadLimits::text_bytes`].
    #[error("column `{column}` has more than {limit} bytes of distinct texts")]
    TooMuchText {
        /// Which column.
        column: String,
        /// The bound.
        limit: usize,
    },
    /// A text where a number is asked for.
    #[error("column `{column}` must be a number, but is `{value}`")]
    NotANumber {
        /// Which column.
        column: String,
        /// The first 64 characters of the value.
        value: String,
    },
    /// Two columns of one name.
    #[error(transparent)]
    Duplicate(#[from] DuplicateColumn),
    /// Several files of different columns.
    #[error("the columns differ from those of `{first}`: {difference}")]
    HeaderMismatch {
        /// The first file.
        first: String,
        /// The first column that differs.
        difference: String,
    },
    /// A Parquet column that is no flat number, text or truth value.
    #[error("column `{column}` is {kind}, which is not supported: store it as numbers or text")]
    UnsupportedColumn {
        /// Which column.
        column: String,
        /// What it is.
        kind: &'static str,
    },
    /// A broken Parquet file.
    #[error("not a readable Parquet file: {0}")]
    Parquet(String),
    /// No file given.
    #[error("no file given")]
    NoSource,
    /// The bytes could not be had.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl ReadFault {
    pub(super) fn at(self, source: &Source, line: Option<u64>) -> ReadError {
        ReadError {
            file: source.name(),
            line,
            fault: self,
        }
    }
}

impl Source {
    /// Bytes in memory under a file name.
    #[must_use]
    pub fn bytes(name: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self::Bytes {
            name: name.into(),
            data: data.into(),
        }
    }

    /// What to call it in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Stored { name, .. } | Self::Remote { name, .. } | Self::Bytes { name, .. } => {
                name.clone()
            }
        }
    }

    pub(super) fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Path(path) | Self::Stored { path, .. } => Box::new(File::open(path)?),
            Self::Remote { file, .. } => Box::new(Cursor::ahead(file, 0)),
            Self::Bytes { data, .. } => Box::new(&data[..]),
        })
    }

    pub(super) fn is_parquet(&self) -> io::Result<bool> {
        let mut magic = [0; 4];
        let mut file = self.open()?;
        let mut filled = 0;
        while filled < magic.len() {
            match file.read(&mut magic[filled..])? {
                0 => return Ok(false),
                count => filled += count,
            }
        }
        Ok(&magic == b"PAR1")
    }
}

/// Reads CSV or Parquet files, told apart by their first bytes, as one table: the
/// rows of the first, then those of the second, and so on.
///
/// CSV: the first record names the columns; the separator (`,`, `;`, tab or `|`) is the
/// most frequent in it. Missing values are empty fields and `NA`, `N/A`, `NaN`, `null`,
/// `None`, `#N/A` and `?`. A column all of whose values are numbers holds numbers. Memory
/// is bounded by [`ReadLimits`] whatever the file holds.
///
/// # Errors
/// Fails with the file and, where there is one, the line that is wrong.
pub fn read(sources: &[Source], options: &ReadOptions) -> Result<Frame, ReadError> {
    let Some(first) = sources.first() else {
        return Err(ReadError {
            file: "data".into(),
            line: None,
            fault: ReadFault::NoSource,
        });
    };
    let mut formats = Vec::with_capacity(sources.len());
    for source in sources {
        formats.push(
            source
                .is_parquet()
                .map_err(|e| ReadFault::Io(e).at(source, None))?,
        );
    }
    match formats.iter().position(|&parquet| parquet != formats[0]) {
        Some(other) => {
            let difference = "one is CSV, the other Parquet".to_owned();
            let fault = ReadFault::HeaderMismatch {
                first: first.name(),
                difference,
            };
            Err(fault.at(&sources[other], None))
        }
        None if formats[0] => parquet::read(sources, options),
        None => csv::read(sources, options),
    }
}

/// Checks a further file's columns against the first file's.
pub(super) fn same_columns(
    first: (&Source, &[String]),
    other: (&Source, &[String]),
) -> Result<(), ReadError> {
    if first.1 == other.1 {
        return Ok(());
    }
    let at = first
        .1
        .iter()
        .zip(other.1)
        .take_while(|(a, b)| a == b)
        .count();
    let difference = match (first.1.get(at), other.1.get(at)) {
        (Some(a), Some(b)) => format!("`{b}` where `{a}` is expected"),
        (Some(a), None) => format!("`{a}` is not there"),
        (None, Some(b)) => format!("`{b}` is one too many"),
        (None, None) => "their order differs".to_owned(),
    };
    Err(ReadFault::HeaderMismatch {
        first: first.0.name(),
        difference,
    }
    .at(other.0, Some(1)))
}

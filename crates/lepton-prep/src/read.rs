//! Inputs: files of one format as tables, cut into pieces that are decoded apart.
//!
//! Owns: formats, columns and their types, where pieces begin and end. Must not know: steps.

mod cells;
mod csv;
mod json;
mod parquet;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

pub(crate) use cells::parse_text;

use crate::error::{PrepError, ReadFault, excerpt};

/// A piece of text files has about this many bytes: large enough to be worth a turn, small enough
/// that a few a thread fit any memory. Output depends on it: changing it changes row groups.
pub(crate) const PIECE_BYTES: usize = 8 << 20;
/// The longest record; a longer one is a broken file.
const RECORD_BYTES_MAX: usize = 4 << 20;
/// The most columns.
const COLUMNS_MAX: usize = 10_000;

/// An input, by the name that the description knows it by.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its files, in order, of one format and the same columns.
    pub files: Vec<InputFile>,
}

/// A file of an input.
#[derive(Debug, Clone)]
pub struct InputFile {
    /// What people know it by; its ending says the format.
    pub name: String,
    /// Where its bytes are.
    pub path: PathBuf,
}

/// How texts are understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextRules {
    /// Whether white space around texts goes.
    pub(crate) trim: bool,
    /// Texts that mean that there is no value.
    pub(crate) nulls: Vec<String>,
}

impl Default for TextRules {
    /// What the trainer takes for missing as well.
    fn default() -> Self {
        let nulls = ["", "NA", "N/A", "NaN", "null", "None", "#N/A", "?"];
        Self {
            trim: false,
            nulls: nulls.map(str::to_owned).to_vec(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Json,
    Parquet,
}

/// An input whose columns are known.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) schema: SchemaRef,
    /// All files' bytes.
    pub(crate) bytes: u64,
    rules: TextRules,
    format: Format,
    files: Vec<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    name: String,
    path: PathBuf,
    /// CSV: where the rows begin, and the separator.
    body: u64,
    separator: u8,
    parquet: Option<parquet::Groups>,
}

/// A part of a file that is decoded at once.
#[derive(Debug)]
pub(crate) struct Piece {
    file: usize,
    part: Part,
}

#[derive(Debug)]
enum Part {
    /// Whole records, and where in the file they begin.
    Text { offset: u64, bytes: Vec<u8> },
    /// Rows of a row group.
    Rows(parquet::Rows),
}

impl Piece {
    /// How much of the input it is, for progress.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.part {
            Part::Text { bytes, .. } => bytes.len() as u64,
            Part::Rows(rows) => rows.bytes,
        }
    }
}

impl OpenFile {
    fn wrong(&self, fault: ReadFault) -> PrepError {
        wrong(&self.name, fault)
    }
}

fn wrong(file: &str, fault: ReadFault) -> PrepError {
    PrepError::Read {
        file: file.to_owned(),
        line: None,
        fault,
    }
}

fn unreadable(file: &str) -> impl Fn(std::io::Error) -> PrepError + '_ {
    move |error| wrong(file, ReadFault::Io(error.to_string()))
}

impl Table {
    /// Finds out the columns. Types that are `declared` are taken; those of other text columns are
    /// guessed from the first piece.
    pub(crate) fn open(
        input: &Input,
        rules: TextRules,
        declared: &BTreeMap<String, DataType>,
    ) -> Result<Self, PrepError> {
        let format = format_of(input)?;
        let mut table = Self {
            name: input.name.clone(),
            schema: Arc::new(Schema::empty()),
            bytes: 0,
            rules,
            format,
            files: Vec::new(),
        };
        let mut names: Vec<String> = Vec::new();
        for file in &input.files {
            let size = std::fs::metadata(&file.path).map_err(unreadable(&file.name))?;
            table.bytes += size.len();
            let mut open = OpenFile {
                name: file.name.clone(),
                path: file.path.clone(),
                body: 0,
                separator: b',',
                parquet: None,
            };
            let found = match format {
                Format::Csv => csv::header(&mut open)?,
                Format::Json => Vec::new(),
                Format::Parquet => {
                    let groups = parquet::Groups::open(&open)?;
                    let names = groups.schema.fields().iter().map(|f| f.name().clone());
                    let names = names.collect();
                    if let Some(first) = table.files.first() {
                        groups.same_types(first)?;
                    }
                    open.parquet = Some(groups);
                    names
                }
            };
            check_names(&open, &found)?;
            if let Some(first) = table.files.first() {
                same_columns((&first.name, &names), &open, &found)?;
            } else {
                names = found;
            }
            table.files.push(open);
        }
        let fields: Vec<Field> = match format {
            Format::Csv => csv::guess(&table, &names, declared)?,
            Format::Json => json::guess(&table, declared)?,
            Format::Parquet => {
                let groups = table.files.iter().find_map(|file| file.parquet.as_ref());
                let groups = groups.expect("invariant: an input has a file");
                groups
                    .schema
                    .fields()
                    .iter()
                    .map(|f| f.as_ref().clone())
                    .collect()
            }
        };
        table.schema = Arc::new(Schema::new(fields));
        Ok(table)
    }

    /// The pieces, in order, of which only these columns will be wanted.
    pub(crate) fn pieces(
        &self,
        columns: &[usize],
    ) -> impl FnMut() -> Option<Result<Piece, PrepError>> + Send + use<'_> {
        let columns = columns.to_vec();
        let mut file = 0;
        let mut cutter: Option<csv::Cutter> = None;
        let mut groups: Option<std::vec::IntoIter<parquet::Rows>> = None;
        move || loop {
            let open = self.files.get(file)?;
            let part = match self.format {
                Format::Parquet => {
                    let groups = groups.get_or_insert_with(|| {
                        let all = open.parquet.as_ref().map(|all| all.cut(&columns));
                        all.unwrap_or_default().into_iter()
                    });
                    groups.next().map(|rows| Ok(Part::Rows(rows)))
                }
                format => {
                    if cutter.is_none() {
                        match csv::Cutter::open(open, format == Format::Csv) {
                            Ok(opened) => cutter = Some(opened),
                            Err(error) => return Some(Err(error)),
                        }
                    }
                    let cutter = cutter.as_mut().expect("invariant: opened just above");
                    cutter.next(open).transpose()
                }
            };
            match part {
                Some(part) => return Some(part.map(|part| Piece { file, part })),
                None => {
                    file += 1;
                    cutter = None;
                    groups = None;
                }
            }
        }
    }

    /// These columns of a piece.
    pub(crate) fn decode(
        &self,
        piece: &Piece,
        columns: &[usize],
    ) -> Result<RecordBatch, PrepError> {
        let file = &self.files[piece.file];
        match &piece.part {
            Part::Rows(rows) => parquet::decode(self, file, rows, columns),
            Part::Text { offset, bytes } => {
                let decoded = match self.format {
                    Format::Csv => csv::decode(self, file.separator, bytes, columns),
                    _ => json::decode(self, bytes, columns),
                };
                decoded.map_err(|(at, fault)| PrepError::Read {
                    file: file.name.clone(),
                    line: csv::line_of(file, offset + at as u64),
                    fault,
                })
            }
        }
    }

    /// The same without rows.
    pub(crate) fn outline(&self) -> Self {
        Self {
            name: self.name.clone(),
            schema: Arc::clone(&self.schema),
            bytes: 0,
            rules: self.rules.clone(),
            format: self.format,
            files: Vec::new(),
        }
    }

    /// Whether its files are texts, which are cleaned while they are read.
    pub(crate) fn is_text(&self) -> bool {
        self.format != Format::Parquet
    }

    /// The columns' schema alone.
    pub(crate) fn projected(&self, columns: &[usize]) -> SchemaRef {
        let fields: Vec<_> = columns
            .iter()
            .map(|&c| self.schema.field(c).clone())
            .collect();
        Arc::new(Schema::new(fields))
    }
}

fn format_of(input: &Input) -> Result<Format, PrepError> {
    let mut found: Option<Format> = None;
    for file in &input.files {
        let ending = file.name.rsplit('.').next().unwrap_or_default();
        let format = match ending.to_ascii_lowercase().as_str() {
            "csv" | "tsv" => Format::Csv,
            "json" | "jsonl" | "ndjson" => Format::Json,
            "parquet" => Format::Parquet,
            _ => return Err(wrong(&file.name, ReadFault::UnknownFormat)),
        };
        if found.is_some_and(|first| first != format) {
            let first = input.files[0].name.clone();
            let difference = "the formats differ".to_owned();
            return Err(wrong(
                &file.name,
                ReadFault::HeaderMismatch { first, difference },
            ));
        }
        found = Some(format);
    }
    found.ok_or_else(|| wrong(&input.name, ReadFault::Empty))
}

fn check_names(file: &OpenFile, names: &[String]) -> Result<(), PrepError> {
    if names.len() > COLUMNS_MAX {
        return Err(file.wrong(ReadFault::TooManyColumns { limit: COLUMNS_MAX }));
    }
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(twice) => Err(file.wrong(ReadFault::DuplicateColumn {
            column: excerpt(twice),
        })),
        None => Ok(()),
    }
}

fn same_columns(
    (first, expected): (&str, &[String]),
    file: &OpenFile,
    found: &[String],
) -> Result<(), PrepError> {
    if expected == found {
        return Ok(());
    }
    let at = expected
        .iter()
        .zip(found)
        .take_while(|(a, b)| a == b)
        .count();
    let difference = match (expected.get(at), found.get(at)) {
        (Some(a), Some(b)) => format!("`{}` where `{}` is expected", excerpt(b), excerpt(a)),
        (Some(a), None) => format!("`{}` is not there", excerpt(a)),
        (None, Some(b)) => format!("`{}` is one too many", excerpt(b)),
        (None, None) => "their order differs".to_owned(),
    };
    Err(file.wrong(ReadFault::HeaderMismatch {
        first: first.to_owned(),
        difference,
    }))
}

/// The type of a word in a description.
pub(crate) fn type_of(word: &str) -> Option<DataType> {
    Some(match word {
        "int" | "integer" => DataType::Int64,
        "float" | "number" => DataType::Float64,
        "bool" | "boolean" => DataType::Boolean,
        "text" | "string" => DataType::Utf8,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => return None,
    })
}

/// The word for a type that columns have here.
pub(crate) fn word_of(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int64 => "int",
        DataType::Float64 => "float",
        DataType::Boolean => "bool",
        DataType::Date32 => "date",
        DataType::Timestamp(..) => "timestamp",
        _ => "text",
    }
}

/// The few types that columns have here, or nothing for those that they cannot have.
pub(crate) fn canonical(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => DataType::Int64,
        DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => DataType::Float64,
        DataType::Boolean => DataType::Boolean,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            DataType::Utf8
        }
        DataType::Dictionary(_, values) => return canonical(values),
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => return None,
    })
}

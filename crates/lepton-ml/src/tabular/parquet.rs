//! Parquet to a frame, column by column.
//!
//! Owns: which Parquet types become numbers and which texts. Must not know: what the
//! columns are for. Reads without Arrow, which would triple the build.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::frame::{Column, ColumnType, Frame, TextBuilder};
use super::read::{ReadError, ReadFault, ReadLimits, ReadOptions, Source, same_columns};
use super::summary::{ColumnSummary, TableSummary};

/// Values decoded at a time.
const BATCH_ROWS: usize = 8_192;

pub(super) fn read(sources: &[Source], options: &ReadOptions) -> Result<Frame, ReadError> {
    let mut tables: Vec<Table> = Vec::with_capacity(sources.len());
    let mut rows = 0_usize;
    for source in sources {
        let table = open(source, options.limits, &mut rows).map_err(|f| f.at(source, None))?;
        if let Some(first) = tables.first() {
            same_columns((&sources[0], &first.names), (source, &table.names))?;
        }
        tables.push(table);
    }
    if rows == 0 {
        return Err(ReadFault::NoRows.at(&sources[0], None));
    }
    let mut columns = Vec::new();
    for (at, name) in tables[0].names.clone().into_iter().enumerate() {
        let texts = tables
            .iter()
            .any(|t| t.kinds[at] == Kind::Text || t.kinds[at] == Kind::Truth);
        let wanted = match (options.types.get(&name), texts) {
            (Some(ColumnType::Text), _) | (None, true) => ColumnType::Text,
            (Some(ColumnType::Number), _) | (None, false) => ColumnType::Number,
        };
        let mut sink = Sink::new(&name, wanted, options.limits);
        for (table, source) in tables.iter().zip(sources) {
            table
                .read_column(at, &mut sink)
                .map_err(|fault| fault.at(source, None))?;
        }
        let column = sink.finish();
        columns.push((name, column));
    }
    Frame::new(columns).map_err(|e| ReadFault::Duplicate(e).at(&sources[0], None))
}

/// Tells what the files hold from their footers; values without statistics count as present.
pub(super) fn summarise(sources: &[Source]) -> Result<TableSummary, ReadError> {
    let mut rows = 0;
    let mut columns: Vec<ColumnSummary> = Vec::new();
    let mut first_names = Vec::new();
    for source in sources {
        let limits = ReadLimits {
            cells: usize::MAX,
            ..ReadLimits::default()
        };
        let table = open(source, limits, &mut rows).map_err(|fault| fault.at(source, None))?;
        if columns.is_empty() {
            first_names.clone_from(&table.names);
            columns.extend(table.names.iter().map(|name| ColumnSummary {
                name: name.clone(),
                column_type: ColumnType::Number,
                missing: 0,
            }));
        }
        same_columns((&sources[0], &first_names), (source, &table.names))?;
        for (at, column) in columns.iter_mut().enumerate() {
            if matches!(table.kinds[at], Kind::Text | Kind::Truth) {
                column.column_type = ColumnType::Text;
            }
            let groups = table.reader.metadata().row_groups();
            let missing = groups
                .iter()
                .filter_map(|group| group.column(at).statistics()?.null_count_opt());
            column.missing += missing.sum::<u64>();
        }
    }
    if rows == 0 {
        return Err(ReadFault::NoRows.at(&sources[0], None));
    }
    Ok(TableSummary {
        rows: rows as u64,
        columns,
    })
}

struct Table {
    reader: Box<dyn FileReader>,
    names: Vec<String>,
    kinds: Vec<Kind>,
}

/// What a column's physical values mean.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Multiplied by this.
    Number(f64),
    Truth,
    Text,
}

fn open(source: &Source, limits: ReadLimits, rows: &mut usize) -> Result<Table, ReadFault> {
    let reader: Box<dyn FileReader> = match source {
        Source::Path(path) | Source::Stored { path, .. } => Box::new(reader(File::open(path)?)?),
        Source::Bytes { data, .. } => Box::new(reader(data.clone())?),
    };
    let metadata = reader.metadata().file_metadata();
    let schema = metadata.schema_descr();
    if schema.num_columns() > limits.columns {
        return Err(ReadFault::TooManyColumns {
            limit: limits.columns,
        });
    }
    *rows = rows.saturating_add(usize::try_from(metadata.num_rows()).unwrap_or(0));
    if rows.saturating_mul(schema.num_columns()) > limits.cells {
        return Err(ReadFault::TooManyCells {
            limit: limits.cells,
        });
    }
    let names = schema.columns().iter().map(|c| c.path().string()).collect();
    let kinds = schema
        .columns()
        .iter()
        .map(kind)
        .collect::<Result<_, _>>()?;
    Ok(Table {
        reader,
        names,
        kinds,
    })
}

fn reader<R: ChunkReader + 'static>(input: R) -> Result<SerializedFileReader<R>, ReadFault> {
    SerializedFileReader::new(input).map_err(broken)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that `map_err` wants"
)]
fn broken(error: ParquetError) -> ReadFault {
    ReadFault::Parquet(error.to_string())
}

fn kind(column: &Arc<ColumnDescriptor>) -> Result<Kind, ReadFault> {
    let unsupported = |kind: &str| {
        Err(ReadFault::UnsupportedColumn {
            column: column.path().string(),
            kind: kind.to_owned(),
        })
    };
    if column.max_rep_level() > 0 || column.path().parts().len() > 1 {
        return unsupported("nested");
    }
    let decimal = matches!(column.logical_type_ref(), Some(LogicalType::Decimal { .. }))
        || column.converted_type() == ConvertedType::DECIMAL;
    match column.physical_type() {
        Physical::BOOLEAN => Ok(Kind::Truth),
        Physical::INT32 | Physical::INT64 if decimal => {
            Ok(Kind::Number(10_f64.powi(-column.type_scale())))
        }
        Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE => {
            Ok(Kind::Number(1.0))
        }
        Physical::BYTE_ARRAY if decimal => unsupported("a decimal of any width"),
        Physical::BYTE_ARRAY => Ok(Kind::Text),
        Physical::INT96 => unsupported("an INT96 time"),
        Physical::FIXED_LEN_BYTE_ARRAY => unsupported("fixed-length bytes"),
    }
}

impl Table {
    fn read_column(&self, at: usize, sink: &mut Sink<'_>) -> Result<(), ReadFault> {
        let Kind::Number(scale) = self.kinds[at] else {
            return self.read_texts(at, sink);
        };
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group).map_err(broken)?;
            #[expect(clippy::cast_precision_loss, reason = "numbers of a frame are f64")]
            match group.get_column_reader(at).map_err(broken)? {
                ColumnReader::Int32ColumnReader(reader) => {
                    each(reader, |v| sink.number(v.map(|v| f64::from(*v) * scale)))
                }
                ColumnReader::Int64ColumnReader(reader) => {
                    each(reader, |v| sink.number(v.map(|v| *v as f64 * scale)))
                }
                ColumnReader::FloatColumnReader(reader) => {
                    each(reader, |v| sink.number(v.map(|v| f64::from(*v))))
                }
                ColumnReader::DoubleColumnReader(reader) => {
                    each(reader, |v| sink.number(v.copied()))
                }
                _ => Ok(()),
            }?;
        }
        Ok(())
    }

    fn read_texts(&self, at: usize, sink: &mut Sink<'_>) -> Result<(), ReadFault> {
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group).map_err(broken)?;
            match group.get_column_reader(at).map_err(broken)? {
                ColumnReader::BoolColumnReader(reader) => each(reader, |v| {
                    sink.text(v.map(|v| if *v { "true" } else { "false" }))
                }),
                ColumnReader::ByteArrayColumnReader(reader) => {
                    each(reader, |v: Option<&ByteArray>| {
                        let text = v.map(|v| v.as_utf8()).transpose();
                        sink.text(text.map_err(|_| ReadFault::NotUtf8 { offset: 0 })?)
                    })
                }
                _ => Ok(()),
            }?;
        }
        Ok(())
    }
}

/// Calls `use_value` for each row of a flat column, with `None` for a null.
fn each<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    mut use_value: impl FnMut(Option<&T::T>) -> Result<(), ReadFault>,
) -> Result<(), ReadFault> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    loop {
        levels.clear();
        values.clear();
        let (records, present, _) = reader
            .read_records(BATCH_ROWS, Some(&mut levels), None, &mut values)
            .map_err(broken)?;
        if records == 0 {
            return Ok(());
        }
        let mut next = values.iter();
        for row in 0..records {
            let there = present == records || levels.get(row).is_some_and(|level| *level > 0);
            use_value(if there { next.next() } else { None })?;
        }
    }
}

/// Where the values of one column go.
struct Sink<'a> {
    name: &'a str,
    limits: ReadLimits,
    values: Values,
}

enum Values {
    Number(Vec<f64>),
    Text(TextBuilder),
}

impl<'a> Sink<'a> {
    fn new(name: &'a str, wanted: ColumnType, limits: ReadLimits) -> Self {
        let values = match wanted {
            ColumnType::Number => Values::Number(Vec::new()),
            ColumnType::Text => Values::Text(TextBuilder::default()),
        };
        Self {
            name,
            limits,
            values,
        }
    }

    fn number(&mut self, value: Option<f64>) -> Result<(), ReadFault> {
        match &mut self.values {
            Values::Number(values) => values.push(value.unwrap_or(f64::NAN)),
            Values::Text(texts) => {
                let text = value.filter(|v| !v.is_nan()).map(|v| v.to_string());
                texts.push(text.as_deref());
            }
        }
        Ok(())
    }

    fn text(&mut self, value: Option<&str>) -> Result<(), ReadFault> {
        match &mut self.values {
            Values::Number(_) if value.is_some_and(|v| !v.is_empty()) => {
                let value = value.unwrap_or_default().chars().take(64).collect();
                Err(ReadFault::NotANumber {
                    column: self.name.to_owned(),
                    value,
                })
            }
            Values::Number(values) => {
                values.push(f64::NAN);
                Ok(())
            }
            Values::Text(texts) => {
                texts.push(value);
                let limit = self.limits.text_bytes;
                if texts.bytes() > limit {
                    return Err(ReadFault::TooMuchText {
                        column: self.name.to_owned(),
                        limit,
                    });
                }
                Ok(())
            }
        }
    }

    fn finish(self) -> Column {
        match self.values {
            Values::Number(values) => Column::Number(values),
            Values::Text(texts) => Column::Text(texts.finish()),
        }
    }
}

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
use super::remote::Pages;
use super::summary::{ColumnSummary, TableSummary};

/// A count of days or microseconds since 1970 would pass for a number and be served as one.
const DATE: &str = "a date";
const TIME: &str = "a time";
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
        for (table, source) in tables.iter().zip(sources) {
            if let Kind::Unsupported(kind) = table.kinds[at] {
                let column = name.clone();
                return Err(ReadFault::UnsupportedColumn { column, kind }.at(source, None));
            }
        }
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
/// Columns that cannot be read are told as text: a table may be kept for other uses.
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
            if !matches!(table.kinds[at], Kind::Number(_)) {
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
    /// Divided by this: 1999 / 100 is the 19.99 that CSV has, 1999 · 0.01 is not.
    Number(f64),
    Truth,
    Text,
    /// What it is instead, for the message.
    Unsupported(&'static str),
}

fn open(source: &Source, limits: ReadLimits, rows: &mut usize) -> Result<Table, ReadFault> {
    let reader: Box<dyn FileReader> = match source {
        Source::Path(path) | Source::Stored { path, .. } => Box::new(reader(File::open(path)?)?),
        Source::Remote { file, .. } => Box::new(reader(Pages(Arc::clone(file)))?),
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
    let kinds = schema.columns().iter().map(|c| kind(c)).collect();
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

fn kind(column: &ColumnDescriptor) -> Kind {
    if column.max_rep_level() > 0 || column.path().parts().len() > 1 {
        return Kind::Unsupported("nested");
    }
    let converted = column.converted_type();
    let decimal = match column.logical_type_ref() {
        Some(LogicalType::Date) => return Kind::Unsupported(DATE),
        Some(LogicalType::Time { .. } | LogicalType::Timestamp { .. }) => {
            return Kind::Unsupported(TIME);
        }
        logical => {
            matches!(logical, Some(LogicalType::Decimal { .. }))
                || converted == ConvertedType::DECIMAL
        }
    };
    match converted {
        ConvertedType::DATE => return Kind::Unsupported(DATE),
        ConvertedType::TIME_MILLIS
        | ConvertedType::TIME_MICROS
        | ConvertedType::TIMESTAMP_MILLIS
        | ConvertedType::TIMESTAMP_MICROS => return Kind::Unsupported(TIME),
        _ => {}
    }
    match column.physical_type() {
        Physical::BOOLEAN => Kind::Truth,
        Physical::INT32 | Physical::INT64 if decimal => {
            Kind::Number(10_f64.powi(column.type_scale()))
        }
        Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE => Kind::Number(1.0),
        Physical::BYTE_ARRAY if decimal => Kind::Unsupported("a decimal of any width"),
        Physical::BYTE_ARRAY => Kind::Text,
        Physical::INT96 => Kind::Unsupported(TIME),
        Physical::FIXED_LEN_BYTE_ARRAY => Kind::Unsupported("fixed-length bytes"),
    }
}

impl Table {
    fn read_column(&self, at: usize, sink: &mut Sink<'_>) -> Result<(), ReadFault> {
        let Kind::Number(divisor) = self.kinds[at] else {
            return self.read_texts(at, sink);
        };
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group).map_err(broken)?;
            #[expect(clippy::cast_precision_loss, reason = "numbers of a frame are f64")]
            match group.get_column_reader(at).map_err(broken)? {
                ColumnReader::Int32ColumnReader(reader) => {
                    each(reader, |v| sink.number(v.map(|v| f64::from(*v) / divisor)))
                }
                ColumnReader::Int64ColumnReader(reader) => {
                    each(reader, |v| sink.number(v.map(|v| *v as f64 / divisor)))
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

#[cfg(test)]
mod tests {
    use super::super::ReadAt;
    use std::sync::Arc;

    use parquet::basic::{Compression, ZstdLevel};
    use parquet::data_type::{BoolType, ByteArrayType, DoubleType, Int32Type, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
    use parquet::schema::parser::parse_message_type;

    use super::*;

    type Group<'a, 'b> = SerializedRowGroupWriter<'a, &'b mut Vec<u8>>;

    /// A file of one row group for each of `groups`.
    fn file(
        schema: &str,
        compression: Compression,
        groups: &[&dyn Fn(&mut Group<'_, '_>)],
    ) -> Source {
        let mut bytes = Vec::new();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = WriterProperties::builder().set_compression(compression);
        let properties = Arc::new(properties.build());
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
        for write in groups {
            let mut group = writer.next_row_group().unwrap();
            write(&mut group);
            group.close().unwrap();
        }
        writer.close().unwrap();
        Source::bytes("t.parquet", bytes)
    }

    /// Writes the next column; `present` tells for each row whether it has a value.
    fn column<T: DataType>(group: &mut Group<'_, '_>, values: &[T::T], present: Option<&[i16]>) {
        let mut column = group.next_column().unwrap().unwrap();
        let writer = column.typed::<T>();
        writer.write_batch(values, present, None).unwrap();
        column.close().unwrap();
    }

    const MIXED: &str = "message t {
        required int64 id; optional double size; optional binary place (UTF8);
        optional boolean sold; required int32 price (DECIMAL(9, 2)); }";

    fn mixed(compression: Compression) -> Source {
        file(
            MIXED,
            compression,
            &[
                &|group| {
                    column::<Int64Type>(group, &[1, 2, 3], None);
                    column::<DoubleType>(group, &[0.5, 2.5], Some(&[1, 0, 1]));
                    column::<ByteArrayType>(group, &["Zürich".into()], Some(&[0, 1, 0]));
                    column::<BoolType>(group, &[true, false], Some(&[1, 1, 0]));
                    column::<Int32Type>(group, &[1999, -50, 7], None);
                },
                &|group| {
                    column::<Int64Type>(group, &[4], None);
                    column::<DoubleType>(group, &[], Some(&[0]));
                    column::<ByteArrayType>(group, &["Bern".into()], Some(&[1]));
                    column::<BoolType>(group, &[], Some(&[0]));
                    column::<Int32Type>(group, &[0], None);
                },
            ],
        )
    }

    fn numbers(frame: &Frame, name: &str) -> Vec<Option<f64>> {
        match frame.column(name).unwrap() {
            Column::Number(values) => values.iter().map(|v| (!v.is_nan()).then_some(*v)).collect(),
            Column::Text(_) => panic!("{name} is text"),
        }
    }

    fn texts(frame: &Frame, name: &str) -> Vec<Option<String>> {
        let column = frame.column(name).unwrap();
        assert_eq!(column.column_type(), ColumnType::Text);
        (0..frame.rows()).map(|row| column.text(row)).collect()
    }

    #[test]
    fn numbers_texts_and_nulls_of_several_row_groups_whatever_the_compression() {
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::LZ4_RAW,
            Compression::ZSTD(ZstdLevel::default()),
        ] {
            let source = [mixed(compression)];
            let frame = super::super::read(&source, &ReadOptions::default()).unwrap();
            let some = |values: [f64; 4]| values.map(Some).to_vec();
            assert_eq!(numbers(&frame, "id"), some([1.0, 2.0, 3.0, 4.0]));
            let size = [Some(0.5), None, Some(2.5), None];
            assert_eq!(numbers(&frame, "size"), size);
            assert_eq!(numbers(&frame, "price"), some([19.99, -0.5, 0.07, 0.0]));
            let place = [None, Some("Zürich"), None, Some("Bern")];
            assert_eq!(texts(&frame, "place"), place.map(|p| p.map(str::to_owned)));
            let sold = [Some("true"), Some("false"), None, None];
            assert_eq!(texts(&frame, "sold"), sold.map(|s| s.map(str::to_owned)));
            let summary = summarise(&source).unwrap();
            let missing: Vec<u64> = summary.columns.iter().map(|c| c.missing).collect();
            assert_eq!((summary.rows, missing), (4, vec![0, 2, 2, 2, 0]));
        }
    }

    #[test]
    fn several_files_are_one_table_if_their_columns_agree() {
        let two = [mixed(Compression::SNAPPY), mixed(Compression::UNCOMPRESSED)];
        let frame = read(&two, &ReadOptions::default()).unwrap();
        assert_eq!((frame.rows(), numbers(&frame, "id")[7]), (8, Some(4.0)));
        let other = file(
            "message t { required int64 key; }",
            Compression::SNAPPY,
            &[&|group| column::<Int64Type>(group, &[1], None)],
        );
        let refusal = read(&[two[0].clone(), other], &ReadOptions::default());
        assert!(refusal.unwrap_err().to_string().contains("`key`"));
    }

    #[test]
    fn a_known_type_is_kept_to() {
        let known = |name: &str, column_type| ReadOptions {
            types: [(name.to_owned(), column_type)].into(),
            ..ReadOptions::default()
        };
        let source = [mixed(Compression::SNAPPY)];
        let frame = read(&source, &known("id", ColumnType::Text)).unwrap();
        assert_eq!(texts(&frame, "id")[2].as_deref(), Some("3"));
        let refusal = read(&source, &known("place", ColumnType::Number)).unwrap_err();
        let told = "`t.parquet`: column `place` must be a number, but is `Zürich`";
        assert_eq!(refusal.to_string(), told);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_may_still_be_kept() {
        let cases = [
            ("required int32 c (DATE)", "a date"),
            ("required int64 c (TIMESTAMP(MICROS, true))", "a time"),
            ("required int64 c (TIMESTAMP_MILLIS)", "a time"),
            ("required int32 c (TIME(MILLIS, true))", "a time"),
            ("repeated int32 c", "nested"),
        ];
        for (field, kind) in cases {
            let wide = field.contains("int64");
            let source = [file(
                &format!("message t {{ {field}; }}"),
                Compression::SNAPPY,
                &[&|group| {
                    let repeated = field.contains("repeated");
                    let levels = repeated.then_some(&[1_i16][..]);
                    let mut column = group.next_column().unwrap().unwrap();
                    let written = if wide {
                        column.typed::<Int64Type>().write_batch(&[9], None, None)
                    } else {
                        let first = repeated.then_some(&[0_i16][..]);
                        column.typed::<Int32Type>().write_batch(&[9], levels, first)
                    };
                    written.unwrap();
                    column.close().unwrap();
                }],
            )];
            let refusal = read(&source, &ReadOptions::default()).unwrap_err();
            let told = format!(
                "`t.parquet`: column `c` is {kind}, which is not supported: store it as numbers or text"
            );
            assert_eq!(refusal.to_string(), told);
            assert_eq!(summarise(&source).unwrap().rows, 1);
        }
    }

    #[derive(Debug)]
    struct Held(bytes::Bytes);

    impl ReadAt for Held {
        fn length(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
            // As little as is allowed, to catch whoever counts on more.
            let from = usize::try_from(offset).unwrap().min(self.0.len());
            let count = buffer.len().min(7).min(self.0.len() - from);
            buffer[..count].copy_from_slice(&self.0[from..from + count]);
            Ok(count)
        }
    }

    #[test]
    fn a_file_that_is_read_by_position_is_the_same_table() {
        let Source::Bytes { data, .. } = mixed(Compression::SNAPPY) else {
            unreachable!()
        };
        for data in [data, "a,b\n1,x\n2,\n".into()] {
            let whole = Source::bytes("t", data.clone());
            let remote = Source::Remote {
                name: "t".into(),
                file: Arc::new(Held(data)),
            };
            let read = |source| super::super::read(&[source], &ReadOptions::default()).unwrap();
            // As text, in which one NaN is like another.
            assert_eq!(format!("{:?}", read(whole)), format!("{:?}", read(remote)));
        }
    }

    #[test]
    fn broken_and_empty_files_are_refused_in_words() {
        let refusal = |source| {
            let refused = super::super::read(&[source], &ReadOptions::default());
            refused.unwrap_err().to_string()
        };
        let Source::Bytes { data, .. } = mixed(Compression::SNAPPY) else {
            unreachable!()
        };
        let cut = Source::bytes("cut.parquet", data.slice(..data.len() - 9));
        assert!(refusal(cut).starts_with("`cut.parquet`: not a readable Parquet file"));
        // A footer that points past the end, in a file that is read by position.
        let cut: Arc<dyn ReadAt> = Arc::new(Held(data.slice(data.len() / 2..)));
        let name = "far.parquet".to_owned();
        assert!(refusal(Source::Remote { name, file: cut }).starts_with("`far.parquet`"));
        let none = file(MIXED, Compression::SNAPPY, &[]);
        assert!(refusal(none).contains("no rows"));
    }
}

//! Files of the output: rows encoded by whoever has them, appended in order.
//!
//! Owns: formats, row groups, which rows are encoded together. Must not know: steps.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::csv::WriterBuilder;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::json::LineDelimitedWriter;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::Compression;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use crate::description::Format;
use crate::error::PrepError;

/// Fewer rows wait for more, so that a filter that leaves little makes no crumbs.
const GROUP_ROWS_MIN: usize = 16 << 10;

/// What a piece leaves for a file.
pub(crate) enum Ready {
    /// Encoded already.
    Group {
        chunks: Vec<ArrowColumnChunk>,
        rows: usize,
    },
    /// Text, ready to append.
    Text { bytes: Vec<u8>, rows: usize },
    /// Too few rows to encode alone.
    Rows(RecordBatch),
}

/// Encodes rows; shared by all threads.
pub(crate) struct Encoder {
    format: Format,
    schema: SchemaRef,
    factory: Option<ArrowRowGroupWriterFactory>,
}

/// Appends what is ready to a file.
pub(crate) struct Appender {
    path: PathBuf,
    encoder: Arc<Encoder>,
    sink: Sink,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    rows: u64,
}

enum Sink {
    Parquet(SerializedFileWriter<BufWriter<File>>),
    Text(BufWriter<File>),
}

fn unwritable(
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> PrepError {
    PrepError::Write {
        path: path.to_owned(),
        source: std::io::Error::other(error),
    }
}

fn properties(schema: &SchemaRef) -> WriterPropertiesPtr {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(format!("lepton {}", env!("CARGO_PKG_VERSION")))
        .set_dictionary_enabled(true);
    // Numbers hardly repeat, but zeros and ones of a category do.
    for field in schema.fields() {
        let numbers = matches!(field.data_type(), DataType::Int64 | DataType::Float64);
        if numbers && !field.name().contains('=') {
            let column = ColumnPath::new(vec![field.name().clone()]);
            builder = builder.set_column_dictionary_enabled(column, false);
        }
    }
    Arc::new(builder.build())
}

/// Makes a file.
pub(crate) fn create(
    path: PathBuf,
    format: Format,
    schema: &SchemaRef,
) -> Result<Appender, PrepError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
    }
    let file = File::create(&path).map_err(|error| unwritable(&path, error))?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let (sink, factory) = match format {
        Format::Parquet => {
            let converted = ArrowSchemaConverter::new()
                .convert(schema)
                .map_err(|error| unwritable(&path, error))?;
            let writer =
                SerializedFileWriter::new(file, converted.root_schema_ptr(), properties(schema));
            let writer = writer.map_err(|error| unwritable(&path, error))?;
            let factory = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(schema));
            (Sink::Parquet(writer), Some(factory))
        }
        Format::Csv => {
            let header = RecordBatch::new_empty(Arc::clone(schema));
            let header = csv(&header, true).map_err(|error| unwritable(&path, error))?;
            file.write_all(&header)
                .map_err(|error| unwritable(&path, error))?;
            (Sink::Text(file), None)
        }
        Format::Jsonl => (Sink::Text(file), None),
    };
    Ok(Appender {
        encoder: Arc::new(Encoder {
            format,
            schema: Arc::clone(schema),
            factory,
        }),
        path,
        sink,
        waiting: Vec::new(),
        waiting_rows: 0,
        rows: 0,
    })
}

fn csv(batch: &RecordBatch, header: bool) -> Result<Vec<u8>, datafusion::arrow::error::ArrowError> {
    let mut bytes = Vec::new();
    WriterBuilder::new()
        .with_header(header)
        .build(&mut bytes)
        .write(batch)?;
    Ok(bytes)
}

impl Encoder {
    /// Encodes a piece's rows, if they are enough.
    pub(crate) fn ready(&self, batch: RecordBatch) -> Result<Ready, PrepError> {
        if self.format == Format::Parquet && batch.num_rows() < GROUP_ROWS_MIN {
            return Ok(Ready::Rows(batch));
        }
        self.encode(&batch)
    }

    fn encode(&self, batch: &RecordBatch) -> Result<Ready, PrepError> {
        let rows = batch.num_rows();
        let failed = |error: String| unwritable(Path::new("output"), error);
        match (self.format, &self.factory) {
            (Format::Parquet, Some(factory)) => {
                let mut writers = factory
                    .create_column_writers(0)
                    .map_err(|error| failed(error.to_string()))?;
                for (at, writer) in writers.iter_mut().enumerate() {
                    let leaves = compute_leaves(self.schema.field(at), batch.column(at));
                    for leaf in leaves.map_err(|error| failed(error.to_string()))? {
                        writer
                            .write(&leaf)
                            .map_err(|error| failed(error.to_string()))?;
                    }
                }
                let chunks = writers
                    .into_iter()
                    .map(|writer| writer.close().map_err(|error| failed(error.to_string())));
                let chunks = chunks.collect::<Result<_, _>>()?;
                Ok(Ready::Group { chunks, rows })
            }
            (Format::Csv, _) => {
                let bytes = csv(batch, false).map_err(|error| failed(error.to_string()))?;
                Ok(Ready::Text { bytes, rows })
            }
            _ => {
                let mut bytes = Vec::new();
                let mut writer = LineDelimitedWriter::new(&mut bytes);
                writer
                    .write(batch)
                    .and_then(|()| writer.finish())
                    .map_err(|error| failed(error.to_string()))?;
                Ok(Ready::Text { bytes, rows })
            }
        }
    }
}

impl Appender {
    pub(crate) fn encoder(&self) -> Arc<Encoder> {
        Arc::clone(&self.encoder)
    }

    /// Appends the next piece.
    pub(crate) fn append(&mut self, ready: Ready) -> Result<(), PrepError> {
        match ready {
            Ready::Rows(batch) => {
                self.waiting_rows += batch.num_rows();
                if batch.num_rows() > 0 {
                    self.waiting.push(batch);
                }
                if self.waiting_rows >= GROUP_ROWS_MIN {
                    self.flush()
                } else {
                    Ok(())
                }
            }
            ready => {
                self.flush()?;
                self.write(ready)
            }
        }
    }

    fn flush(&mut self) -> Result<(), PrepError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_rows = 0;
        if waiting.is_empty() {
            return Ok(());
        }
        let batch = concat_batches(&self.encoder.schema, &waiting)
            .map_err(|error| unwritable(&self.path, error))?;
        let ready = self.encoder.encode(&batch)?;
        self.write(ready)
    }

    fn write(&mut self, ready: Ready) -> Result<(), PrepError> {
        let path = &self.path;
        match (&mut self.sink, ready) {
            (Sink::Parquet(writer), Ready::Group { chunks, rows }) => {
                let append = || {
                    let mut group = writer.next_row_group()?;
                    for chunk in chunks {
                        chunk.append_to_row_group(&mut group)?;
                    }
                    group.close().map(drop)
                };
                append().map_err(|error| unwritable(path, error))?;
                self.rows += rows as u64;
            }
            (Sink::Text(file), Ready::Text { bytes, rows }) => {
                file.write_all(&bytes)
                    .map_err(|error| unwritable(path, error))?;
                self.rows += rows as u64;
            }
            _ => unreachable!("an encoder makes what its file takes"),
        }
        Ok(())
    }

    /// Ends the file; gives its rows and bytes.
    pub(crate) fn finish(mut self) -> Result<(u64, u64), PrepError> {
        self.flush()?;
        let path = &self.path;
        match self.sink {
            Sink::Parquet(writer) => {
                let mut inner = writer
                    .into_inner()
                    .map_err(|error| unwritable(path, error))?;
                inner.flush().map_err(|error| unwritable(path, error))?;
            }
            Sink::Text(mut file) => file.flush().map_err(|error| unwritable(path, error))?,
        }
        let size = std::fs::metadata(path).map_err(|error| unwritable(path, error))?;
        Ok((self.rows, size.len()))
    }
}

//! Runs as four Parquet tables, which other tools join by `run_id`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use lepton_api::RunView;
use lepton_types::resources::MetricPoint;
use lepton_types::{RunId, Timestamp};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::export::{Part, unwritable};
use crate::failure::Failure;

const RUNS: &str = "message runs {
    required binary run_id (STRING); required binary name (STRING);
    required binary experiment_id (STRING); required binary phase (STRING);
    optional int64 started_at (TIMESTAMP(MILLIS, true));
    optional int64 finished_at (TIMESTAMP(MILLIS, true)); }";
const PAIRS: &str = "message pairs {
    required binary run_id (STRING); required binary key (STRING); required binary value (STRING); }";
const METRICS: &str = "message metrics {
    required binary run_id (STRING); required binary key (STRING); required int64 step;
    required int64 timestamp (TIMESTAMP(MILLIS, true)); required double value; }";

/// Rows that are gathered before they are written: 10 MB of points.
const GROUP_ROWS: usize = 131_072;

/// The tables of an export, under way.
pub(super) struct Tables {
    runs: Table<[Column; 6]>,
    params: Table<[Column; 3]>,
    tags: Table<[Column; 3]>,
    metrics: Table<[Column; 5]>,
}

impl Tables {
    /// Begins the tables in a folder, which is made.
    pub(super) fn create(folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).map_err(|source| unwritable(folder, source))?;
        let (text, number) = (Column::text, Column::number);
        Ok(Self {
            runs: Table::create(
                &folder.join("runs.parquet"),
                RUNS,
                [
                    text(),
                    text(),
                    text(),
                    text(),
                    Column::Maybe(Vec::new()),
                    Column::Maybe(Vec::new()),
                ],
            )?,
            params: Table::create(
                &folder.join("params.parquet"),
                PAIRS,
                [text(), text(), text()],
            )?,
            tags: Table::create(
                &folder.join("tags.parquet"),
                PAIRS,
                [text(), text(), text()],
            )?,
            metrics: Table::create(
                &folder.join("metrics.parquet"),
                METRICS,
                [
                    text(),
                    text(),
                    number(),
                    number(),
                    Column::Floats(Vec::new()),
                ],
            )?,
        })
    }

    /// A run, its parameters and tags.
    pub(super) fn add_run(&mut self, view: &RunView) -> Result<(), Failure> {
        let (run, id) = (&view.run, view.run.metadata.id.to_string());
        let [ids, names, experiments, phases, starts, ends] = &mut self.runs.columns;
        ids.push_text(&id);
        names.push_text(&run.metadata.name);
        experiments.push_text(&run.spec.experiment.to_string());
        phases.push_text(run.status.phase.as_str());
        starts.push_maybe(run.status.started_at.map(Timestamp::as_millis));
        ends.push_maybe(run.status.finished_at.map(Timestamp::as_millis));
        self.runs.row_is_whole()?;
        for (table, pairs) in [
            (&mut self.params, &view.params),
            (&mut self.tags, &view.tags),
        ] {
            for (key, value) in pairs {
                let texts = [id.as_str(), key.as_str(), value.as_str()];
                for (column, text) in table.columns.iter_mut().zip(texts) {
                    column.push_text(text);
                }
                table.row_is_whole()?;
            }
        }
        Ok(())
    }

    /// Points of a run.
    pub(super) fn add_points(&mut self, run: RunId, points: &[MetricPoint]) -> Result<(), Failure> {
        let run = ByteArray::from(run.to_string().as_str());
        let mut key = ByteArray::from("");
        for point in points {
            if key.data() != point.key.as_bytes() {
                key = ByteArray::from(point.key.as_str());
            }
            let [runs, keys, steps, times, values] = &mut self.metrics.columns;
            runs.push_bytes(run.clone());
            keys.push_bytes(key.clone());
            steps.push_number(point.step);
            times.push_number(point.timestamp.map_or(0, Timestamp::as_millis));
            values.push_float(point.value);
            self.metrics.row_is_whole()?;
        }
        Ok(())
    }

    /// Writes what is left; only then do the files have their names.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.runs.finish()?;
        self.params.finish()?;
        self.tags.finish()?;
        self.metrics.finish()
    }
}

/// One file, and the rows that are not in it yet.
struct Table<C> {
    part: Part,
    writer: SerializedFileWriter<File>,
    columns: C,
    rows: usize,
}

impl<const N: usize> Table<[Column; N]> {
    fn create(file: &Path, schema: &str, columns: [Column; N]) -> Result<Self, Failure> {
        let schema = parse_message_type(schema).expect("invariant: the schemas above are valid");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let (part, opened) = Part::create(file)?;
        let writer = SerializedFileWriter::new(opened, Arc::new(schema), Arc::new(properties));
        Ok(Self {
            writer: writer.map_err(|error| broken(file, error))?,
            part,
            columns,
            rows: 0,
        })
    }

    fn row_is_whole(&mut self) -> Result<(), Failure> {
        self.rows += 1;
        if self.rows < GROUP_ROWS {
            return Ok(());
        }
        self.write_rows()
            .map_err(|error| broken(&self.part.file, error))
    }

    fn write_rows(&mut self) -> Result<(), ParquetError> {
        if std::mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            column.write(&mut group)?;
        }
        group.close()?;
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        let written = self.write_rows();
        written.map_err(|error| broken(&self.part.file, error))?;
        self.writer
            .close()
            .map_err(|error| broken(&self.part.file, error))?;
        self.part.keep()
    }
}

/// Values of a column that are not written yet.
enum Column {
    Texts(Vec<ByteArray>),
    Numbers(Vec<i64>),
    Maybe(Vec<Option<i64>>),
    Floats(Vec<f64>),
}

impl Column {
    const fn text() -> Self {
        Self::Texts(Vec::new())
    }

    const fn number() -> Self {
        Self::Numbers(Vec::new())
    }

    fn push_text(&mut self, text: &str) {
        self.push_bytes(ByteArray::from(text));
    }

    fn push_bytes(&mut self, bytes: ByteArray) {
        if let Self::Texts(texts) = self {
            texts.push(bytes);
        }
    }

    fn push_number(&mut self, number: i64) {
        if let Self::Numbers(numbers) = self {
            numbers.push(number);
        }
    }

    fn push_maybe(&mut self, number: Option<i64>) {
        if let Self::Maybe(numbers) = self {
            numbers.push(number);
        }
    }

    fn push_float(&mut self, number: f64) {
        if let Self::Floats(numbers) = self {
            numbers.push(number);
        }
    }

    /// Writes the values as the next column of a row group, and forgets them.
    fn write(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, File>,
    ) -> Result<(), ParquetError> {
        match self {
            Self::Texts(texts) => {
                write::<ByteArrayType>(group, texts, None)?;
                texts.clear();
            }
            Self::Numbers(numbers) => {
                write::<Int64Type>(group, numbers, None)?;
                numbers.clear();
            }
            Self::Floats(numbers) => {
                write::<DoubleType>(group, numbers, None)?;
                numbers.clear();
            }
            Self::Maybe(numbers) => {
                let there: Vec<i16> = numbers.iter().map(|n| i16::from(n.is_some())).collect();
                let values: Vec<i64> = numbers.iter().copied().flatten().collect();
                write::<Int64Type>(group, &values, Some(&there))?;
                numbers.clear();
            }
        }
        Ok(())
    }
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    there: Option<&[i16]>,
) -> Result<(), ParquetError> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, there, None)?;
        column.close()?;
    }
    Ok(())
}

fn broken(file: &Path, error: ParquetError) -> Failure {
    unwritable(file, std::io::Error::other(error))
}

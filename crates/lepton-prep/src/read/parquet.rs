//! Parquet: row groups, cut where they are large.
//!
//! Owns: which rows are decoded at once. Must not know: other formats.

use std::fs::File;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions, RecordBatchReader as _};
use datafusion::arrow::compute::{CastOptions, cast_with_options, concat_batches};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::{OpenFile, Table, canonical, unreadable};
use crate::error::{PrepError, ReadFault};

/// Rows that are decoded at once take about this many bytes.
const ROWS_BYTES: u64 = 32 << 20;

/// A file's row groups.
#[derive(Debug)]
pub(super) struct Groups {
    /// With the types that columns have here.
    pub(super) schema: SchemaRef,
    metadata: ArrowReaderMetadata,
}

/// Some rows of a row group.
#[derive(Debug)]
pub(super) struct Rows {
    group: usize,
    first: usize,
    count: usize,
    pub(super) bytes: u64,
}

fn broken(file: &OpenFile) -> impl Fn(parquet::errors::ParquetError) -> PrepError + '_ {
    |error| file.wrong(ReadFault::Parquet(error.to_string()))
}

impl Groups {
    pub(super) fn open(file: &OpenFile) -> Result<Self, PrepError> {
        let handle = File::open(&file.path).map_err(unreadable(&file.name))?;
        let metadata =
            ArrowReaderMetadata::load(&handle, ArrowReaderOptions::new()).map_err(broken(file))?;
        let fields = metadata.schema().fields().iter().map(|field| {
            let data_type = canonical(field.data_type()).ok_or_else(|| {
                file.wrong(ReadFault::Unsupported {
                    column: field.name().clone(),
                    kind: field.data_type().to_string(),
                })
            })?;
            Ok(Field::new(field.name(), data_type, true))
        });
        let fields: Vec<Field> = fields.collect::<Result<_, PrepError>>()?;
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            metadata,
        })
    }

    /// Further files have the first one's types.
    pub(super) fn same_types(&self, first: &OpenFile) -> Result<(), PrepError> {
        let expected = first.parquet.as_ref().map(|groups| &groups.schema);
        match expected {
            Some(expected) if *expected != self.schema => {
                Err(first.wrong(ReadFault::HeaderMismatch {
                    first: first.name.clone(),
                    difference: "a further file has other columns or types".to_owned(),
                }))
            }
            _ => Ok(()),
        }
    }

    /// What to decode at once, if only these columns are wanted.
    pub(super) fn cut(&self, columns: &[usize]) -> Vec<Rows> {
        let mut all = Vec::new();
        for (group, facts) in self.metadata.metadata().row_groups().iter().enumerate() {
            let rows = usize::try_from(facts.num_rows()).unwrap_or(0);
            let size = |column: &usize| {
                facts
                    .columns()
                    .get(*column)
                    .map_or(0, |c| u64::try_from(c.uncompressed_size()).unwrap_or(0))
            };
            // Dictionaries hide what decoded values take: never less than eight bytes each.
            let wide: u64 = columns
                .iter()
                .map(size)
                .sum::<u64>()
                .max(8 * (columns.len() * rows) as u64);
            let parts = usize::try_from(wide.div_ceil(ROWS_BYTES))
                .unwrap_or(1)
                .max(1);
            let step = rows.div_ceil(parts).max(1);
            let compressed = u64::try_from(facts.compressed_size()).unwrap_or(0);
            for first in (0..rows).step_by(step) {
                all.push(Rows {
                    group,
                    first,
                    count: step.min(rows - first),
                    bytes: compressed / parts as u64,
                });
            }
        }
        all
    }
}

pub(super) fn decode(
    table: &Table,
    file: &OpenFile,
    rows: &Rows,
    columns: &[usize],
) -> Result<RecordBatch, PrepError> {
    let groups = file
        .parquet
        .as_ref()
        .expect("invariant: Parquet files are opened with their groups");
    let handle = File::open(&file.path).map_err(unreadable(&file.name))?;
    let builder =
        ParquetRecordBatchReaderBuilder::new_with_metadata(handle, groups.metadata.clone());
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
    let reader = builder
        .with_projection(mask)
        .with_row_groups(vec![rows.group])
        .with_offset(rows.first)
        .with_limit(rows.count)
        .with_batch_size(rows.count.max(1))
        .build()
        .map_err(broken(file))?;
    let wrong = |error: datafusion::arrow::error::ArrowError| {
        file.wrong(ReadFault::Parquet(error.to_string()))
    };
    let found = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let batch = concat_batches(&found, &batches).map_err(wrong)?;
    let schema = table.projected(columns);
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    // The reader gives columns in the file's order, whatever the order asked for.
    let arrays = schema.fields().iter().map(|field| {
        let at = batch.schema_ref().index_of(field.name()).map_err(wrong)?;
        cast_with_options(batch.column(at), field.data_type(), &strict).map_err(wrong)
    });
    let arrays = arrays.collect::<Result<Vec<_>, PrepError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.count));
    RecordBatch::try_new_with_options(schema, arrays, &options).map_err(wrong)
}

//! The last pass: what comes out, dealt to parts and written.
//!
//! Owns: the parts' files and the statistics of what is in them. Must not know: how steps work.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{SchemaRef, UInt8Type};
use lepton_types::resources::ColumnStatistics;

use super::{Outcome, OutputFile, Passes};
use crate::description::Format;
use crate::error::{DescriptionError, PrepError, StepFault};
use crate::output::{self, Appender};
use crate::plan::{PART, Placed};
use crate::read::word_of;
use crate::rows::{Chain, Known};
use crate::statistics::{Moments, PartStatistics, moments};
use crate::translate;

impl<'a> Passes<'a> {
    /// The last pass: all operations, written.
    pub(super) fn write(&mut self, known: &Known, folder: &Path) -> Result<Outcome, PrepError> {
        let ops: &'a [Placed] = &self.prepared.ops;
        let wanted: BTreeSet<String> = self
            .prepared
            .schema
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        let columns = self.columns(ops, Some(wanted.clone()));
        let chain = Chain::bind(self.prepared, known, ops, self.source.projected(&columns))?;
        let spread = chain.spread();
        let schema = Arc::clone(&spread.schema);
        check_names(&schema)?;
        let parts = self.prepared.parts();
        let format = self.prepared.preparation.output.format;
        let paths: Vec<String> = parts.iter().map(|part| file_name(part, format)).collect();
        let create = |path: &String| output::create(folder.join(path), format, &schema);
        let mut appenders = paths
            .iter()
            .map(create)
            .collect::<Result<Vec<Appender>, _>>()?;
        let encoders: Vec<_> = appenders.iter().map(Appender::encoder).collect();
        let mut all = vec![Moments::default(); schema.fields().len()];
        let look = |_, batch: &RecordBatch| {
            let rows = spread.run(batch).map_err(unplaced)?;
            let found: Vec<Moments> = rows.columns().iter().map(moments).collect();
            let dealt = deal(batch, &rows, encoders.len())?;
            let ready = dealt
                .into_iter()
                .zip(&encoders)
                .map(|(rows, encoder)| encoder.ready(rows));
            Ok((ready.collect::<Result<Vec<_>, _>>()?, found))
        };
        self.pass(known, ops, Some(wanted), look, |(ready, found)| {
            for (appender, ready) in appenders.iter_mut().zip(ready) {
                appender.append(ready)?;
            }
            all.iter_mut()
                .zip(found)
                .for_each(|(all, found)| *all = all.and(found));
            Ok(())
        })?;
        let (mut files, mut counted) = (Vec::new(), Vec::new());
        for ((appender, path), part) in appenders.into_iter().zip(paths).zip(parts) {
            let (rows, bytes) = appender.finish()?;
            files.push(OutputFile { path, rows, bytes });
            counted.push(PartStatistics { name: part, rows });
        }
        if files.iter().all(|file| file.rows == 0) {
            return Err(PrepError::NoRows);
        }
        Ok(Outcome {
            columns: statistics(&schema, &all),
            parts: counted,
            fitted: translate::transform(self.prepared, known),
            passes: self.count,
            files,
        })
    }
}

fn unplaced(fault: StepFault) -> PrepError {
    DescriptionError::at(0, "output", fault).into()
}

fn file_name(part: &str, format: Format) -> String {
    let stem = if part.is_empty() { "data" } else { part };
    format!("{stem}.{}", format.extension())
}

fn check_names(schema: &SchemaRef) -> Result<(), PrepError> {
    let mut seen = BTreeSet::new();
    let twice = schema
        .fields()
        .iter()
        .find(|field| !seen.insert(field.name().as_str()));
    twice.map_or(Ok(()), |field| {
        let column = field.name().clone();
        Err(unplaced(StepFault::DuplicateColumn { column }))
    })
}

/// The rows of the first part; all where nothing is split.
pub(super) fn fitted_on(batch: &RecordBatch) -> Result<RecordBatch, PrepError> {
    rows_of(batch, batch, 0)
}

fn rows_of(dealt: &RecordBatch, rows: &RecordBatch, part: u8) -> Result<RecordBatch, PrepError> {
    let Some(parts) = dealt.column_by_name(PART) else {
        return Ok(rows.clone());
    };
    let parts = parts.as_primitive::<UInt8Type>();
    let stays: BooleanArray = parts.values().iter().map(|p| Some(*p == part)).collect();
    debug_assert_eq!(stays.len(), rows.num_rows());
    filter_record_batch(rows, &stays)
        .map_err(|error| unplaced(StepFault::Evaluation(error.to_string())))
}

fn deal(
    batch: &RecordBatch,
    rows: &RecordBatch,
    parts: usize,
) -> Result<Vec<RecordBatch>, PrepError> {
    (0_u8..)
        .take(parts)
        .map(|part| rows_of(batch, rows, part))
        .collect()
}

fn statistics(schema: &SchemaRef, all: &[Moments]) -> Vec<ColumnStatistics> {
    let columns = schema.fields().iter().zip(all).map(|(field, moments)| {
        let there = |value: f64| (moments.count > 0 && value.is_finite()).then_some(value);
        ColumnStatistics {
            name: field.name().clone(),
            r#type: word_of(field.data_type()).to_owned(),
            missing: moments.missing,
            min: there(moments.min),
            max: there(moments.max),
            mean: there(moments.mean),
            deviation: there(moments.deviation()),
        }
    });
    columns.collect()
}

//! Joining: the other input in memory, looked up by its keys.
//!
//! Owns: the lookup and the order of its matches, which is the other input's. Must not know:
//! how inputs are read.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, filter_record_batch, take};
use datafusion::arrow::datatypes::{Schema, SchemaRef};

use crate::description::JoinKind;
use crate::error::StepFault;
use crate::split::spell;

/// A piece may grow to this many rows; far more rows than any piece has.
const ROWS_MAX: u64 = 4 << 20;

/// The other side of a join.
#[derive(Debug)]
pub(crate) struct Lookup {
    name: String,
    rows: RecordBatch,
    places: HashMap<Box<[u8]>, Vec<u32>>,
    /// The columns that are added.
    added: Vec<usize>,
}

impl Lookup {
    /// Reads in the other side, in order.
    pub(crate) fn new(
        name: &str,
        schema: &SchemaRef,
        batches: &[RecordBatch],
        on: &[String],
    ) -> Result<Self, StepFault> {
        let failed =
            |error: datafusion::arrow::error::ArrowError| StepFault::Evaluation(error.to_string());
        let rows = concat_batches(schema, batches).map_err(failed)?;
        let keys = columns(&rows, on);
        let mut places: HashMap<Box<[u8]>, Vec<u32>> = HashMap::new();
        let mut bytes = Vec::new();
        for row in 0..rows.num_rows() {
            // Nothing equals a missing value.
            if keys.iter().any(|key| key.is_null(row)) {
                continue;
            }
            spell(&keys, row, &mut bytes);
            let row = u32::try_from(row)
                .map_err(|_| StepFault::Rule("the other input has too many rows"))?;
            match places.get_mut(bytes.as_slice()) {
                Some(rows) => rows.push(row),
                None => {
                    places.insert(bytes.as_slice().into(), vec![row]);
                }
            }
        }
        let fields = schema.fields().iter().enumerate();
        let added = fields
            .filter(|(_, field)| !on.contains(field.name()))
            .map(|(at, _)| at)
            .collect();
        Ok(Self {
            name: name.to_owned(),
            rows,
            places,
            added,
        })
    }

    /// The columns of a join's result.
    pub(crate) fn schema(&self, left: &SchemaRef, kind: JoinKind) -> SchemaRef {
        if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            return Arc::clone(left);
        }
        let right = self.rows.schema();
        let more = self
            .added
            .iter()
            .map(|at| Arc::new(right.field(*at).clone()));
        Arc::new(Schema::new(
            left.fields()
                .iter()
                .cloned()
                .chain(more)
                .collect::<Vec<_>>(),
        ))
    }

    /// Joins a piece, in its own order.
    pub(crate) fn join(
        &self,
        left: &RecordBatch,
        on: &[String],
        kind: JoinKind,
    ) -> Result<RecordBatch, StepFault> {
        let failed =
            |error: datafusion::arrow::error::ArrowError| StepFault::Evaluation(error.to_string());
        let keys = columns(left, on);
        let mut bytes = Vec::new();
        let mut partners = |row: usize| -> &[u32] {
            if keys.iter().any(|key| key.is_null(row)) {
                return &[];
            }
            spell(&keys, row, &mut bytes);
            self.places.get(bytes.as_slice()).map_or(&[], Vec::as_slice)
        };
        if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            let wanted = kind == JoinKind::Semi;
            let stays: BooleanArray = (0..left.num_rows())
                .map(|row| Some(partners(row).is_empty() != wanted))
                .collect();
            return filter_record_batch(left, &stays).map_err(failed);
        }
        let matches: u64 = (0..left.num_rows())
            .map(|row| partners(row).len() as u64)
            .sum();
        if matches > ROWS_MAX {
            return Err(StepFault::JoinExplodes {
                with: self.name.clone(),
                rows: left.num_rows(),
                matches,
            });
        }
        let (mut from_left, mut from_right) = (Vec::new(), Vec::new());
        for (row, left_row) in (0..left.num_rows()).zip(0_u32..) {
            let found = partners(row);
            if found.is_empty() && kind == JoinKind::Left {
                from_left.push(left_row);
                from_right.push(None);
            }
            for place in found {
                from_left.push(left_row);
                from_right.push(Some(*place));
            }
        }
        let (from_left, from_right) = (UInt32Array::from(from_left), UInt32Array::from(from_right));
        let lefts = left
            .columns()
            .iter()
            .map(|column| take(column, &from_left, None));
        let rights = self
            .added
            .iter()
            .map(|at| take(self.rows.column(*at), &from_right, None));
        let arrays = lefts
            .chain(rights)
            .collect::<Result<Vec<ArrayRef>, _>>()
            .map_err(failed)?;
        RecordBatch::try_new(self.schema(left.schema_ref(), kind), arrays).map_err(failed)
    }
}

fn columns<'a>(batch: &'a RecordBatch, names: &[String]) -> Vec<&'a ArrayRef> {
    let found = names.iter().map(|name| batch.column_by_name(name));
    found
        .map(|column| column.expect("invariant: the plan has checked the keys"))
        .collect()
}

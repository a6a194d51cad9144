//! Columns of values: coded, filled, cast, cleaned, spread.
//!
//! Owns: what becomes of each value. Must not know: plans.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, RecordBatchOptions,
    StringArray, UInt8Array,
};
use datafusion::arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};

use crate::description::{Constant, EncodeMethod, Unseen};
use crate::error::{StepFault, excerpt};
use crate::fit::{Fitted, Values};
use crate::plan::PART;
use crate::read::{TextRules, parse_text, word_of};
use crate::statistics::numbers;

/// What a value becomes, by text or by the bits of the number.
#[derive(Debug)]
pub(super) struct Lookups {
    texts: HashMap<String, f64>,
    numbers: HashMap<u64, f64>,
    unseen: Option<f64>,
    pub(super) must_be_known: bool,
}

/// From columns of categories to columns of zeros and ones; the part is left out.
#[derive(Debug)]
pub(crate) struct Spread {
    pub(crate) schema: SchemaRef,
    pub(super) sources: Vec<(usize, Option<Places>)>,
}

/// The place of each category.
#[derive(Debug)]
pub(super) struct Places {
    lookups: Lookups,
    count: usize,
}

impl Places {
    pub(super) fn new(values: &Values) -> Self {
        let fitted = Fitted::Categories {
            values: values.clone(),
            counts: Vec::new(),
            rows: 0,
        };
        Self {
            lookups: Lookups::new(&fitted, EncodeMethod::Ordinal, Unseen::Ignore),
            count: values.len(),
        }
    }
}

impl Spread {
    pub(crate) fn run(&self, batch: &RecordBatch) -> Result<RecordBatch, StepFault> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (at, places) in &self.sources {
            let Some(places) = places else {
                arrays.push(Arc::clone(batch.column(*at)));
                continue;
            };
            let codes = places.lookups.apply(batch.column(*at), "")?;
            for place in (0_u32..).take(places.count).map(f64::from) {
                let ones = codes
                    .iter()
                    .map(|code| f64::from(u8::from(code == Some(place))));
                arrays.push(Arc::new(Float64Array::from_iter_values(ones)));
            }
        }
        whole(Arc::clone(&self.schema), arrays, batch.num_rows())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "categories and rows are fewer than 2^53"
)]
impl Lookups {
    pub(super) fn new(fitted: &Fitted, method: EncodeMethod, unseen: Unseen) -> Self {
        let mut lookups = Self {
            texts: HashMap::new(),
            numbers: HashMap::new(),
            unseen: (method == EncodeMethod::Frequency).then_some(0.0),
            must_be_known: unseen == Unseen::Error,
        };
        let Fitted::Categories {
            values,
            counts,
            rows,
        } = fitted
        else {
            return lookups;
        };
        let code = |at: usize| match method {
            EncodeMethod::Frequency => counts[at] as f64 / *rows as f64,
            _ => at as f64,
        };
        match values {
            Values::Texts(texts) => {
                lookups.texts = texts
                    .iter()
                    .enumerate()
                    .map(|(at, text)| (text.clone(), code(at)))
                    .collect();
            }
            Values::Numbers(all) => {
                lookups.numbers = all
                    .iter()
                    .enumerate()
                    .map(|(at, n)| (crate::quantile::key_of(*n), code(at)))
                    .collect();
            }
        }
        lookups
    }

    pub(super) fn apply(&self, array: &ArrayRef, column: &str) -> Result<Float64Array, StepFault> {
        let unknown = |value: String| {
            if self.must_be_known {
                Err(StepFault::Unseen {
                    column: excerpt(column),
                    value: excerpt(&value),
                })
            } else {
                Ok(self.unseen)
            }
        };
        if let Some(numbers) = numbers(array) {
            let numbers = numbers.as_primitive::<Float64Type>();
            let codes = numbers
                .iter()
                .map(|value| match value.filter(|value| !value.is_nan()) {
                    None => Ok(self.unseen),
                    Some(value) => match self.numbers.get(&crate::quantile::key_of(value)) {
                        Some(code) => Ok(Some(*code)),
                        None => unknown(value.to_string()),
                    },
                });
            return codes.collect();
        }
        let codes = array.as_string::<i32>().iter().map(|value| match value {
            None => Ok(self.unseen),
            Some(value) => match self.texts.get(value) {
                Some(code) => Ok(Some(*code)),
                None => unknown(value.to_owned()),
            },
        });
        codes.collect()
    }
}

pub(super) fn whole(
    schema: SchemaRef,
    arrays: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, StepFault> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, arrays, &options)
        .map_err(|error| StepFault::Evaluation(error.to_string()))
}

pub(super) fn replace(
    batch: &RecordBatch,
    at: usize,
    array: ArrayRef,
) -> Result<RecordBatch, StepFault> {
    let mut fields: Vec<Field> = batch
        .schema_ref()
        .fields()
        .iter()
        .map(|f| f.as_ref().clone())
        .collect();
    fields[at] = Field::new(fields[at].name(), array.data_type().clone(), true);
    let mut arrays = batch.columns().to_vec();
    arrays[at] = array;
    whole(Arc::new(Schema::new(fields)), arrays, batch.num_rows())
}

pub(super) fn append(
    batch: &RecordBatch,
    field: Field,
    array: ArrayRef,
) -> Result<RecordBatch, StepFault> {
    let fields = batch
        .schema_ref()
        .fields()
        .iter()
        .cloned()
        .chain([Arc::new(field)]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays = batch.columns().iter().cloned().chain([array]).collect();
    whole(schema, arrays, batch.num_rows())
}

/// Adds the column of parts.
pub(super) fn with_parts(batch: &RecordBatch, parts: Vec<u8>) -> Result<RecordBatch, StepFault> {
    let field = Field::new(PART, DataType::UInt8, false);
    append(batch, field, Arc::new(UInt8Array::from(parts)))
}

/// Keeps the rows for which it is true; an unknown one goes.
pub(crate) fn keep(batch: &RecordBatch, stays: &BooleanArray) -> Result<RecordBatch, StepFault> {
    if stays.null_count() == 0 && stays.true_count() == batch.num_rows() {
        return Ok(batch.clone());
    }
    filter_record_batch(batch, stays).map_err(|error| StepFault::Evaluation(error.to_string()))
}

pub(super) fn clean_texts(texts: &StringArray, rules: &TextRules) -> ArrayRef {
    let cleaned = texts.iter().map(|text| {
        let trimmed = text?.trim();
        let missing = rules.nulls.iter().any(|null| null == trimmed);
        (!missing).then_some(if rules.trim { trimmed } else { text? })
    });
    Arc::new(cleaned.collect::<StringArray>())
}

pub(super) fn complete(batch: &RecordBatch, share: f64) -> BooleanArray {
    let columns: Vec<&ArrayRef> = batch
        .columns()
        .iter()
        .zip(batch.schema_ref().fields())
        .filter(|(_, field)| field.name() != PART)
        .map(|(column, _)| column)
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "columns are few")]
    let stays = (0..batch.num_rows()).map(|row| {
        let missing = columns.iter().filter(|column| column.is_null(row)).count();
        Some(missing as f64 <= share * columns.len() as f64)
    });
    stays.collect()
}

pub(super) fn floats(array: &ArrayRef) -> Result<Float64Array, StepFault> {
    let array =
        numbers(array).ok_or_else(|| StepFault::Evaluation("numbers are needed".to_owned()))?;
    let array = array.as_primitive::<Float64Type>();
    // NaN is missing in everything that is fitted, as it is to a model.
    if array.values().iter().any(|value| value.is_nan()) {
        return Ok(array
            .iter()
            .map(|value| value.filter(|value| !value.is_nan()))
            .collect());
    }
    Ok(array.clone())
}

pub(super) fn fill(array: &ArrayRef, constant: &Constant) -> Result<ArrayRef, StepFault> {
    Ok(match constant {
        Constant::Number(number) => {
            let filled = floats(array)?;
            if filled.null_count() == 0 {
                return Ok(Arc::new(filled));
            }
            Arc::new(Float64Array::from_iter_values(
                filled.iter().map(|value| value.unwrap_or(*number)),
            ))
        }
        Constant::Text(text) => {
            let texts = array.as_string::<i32>();
            Arc::new(StringArray::from_iter_values(
                texts.iter().map(|value| value.unwrap_or(text)),
            ))
        }
    })
}

/// Casts every value, or says which one cannot be.
pub(super) fn strictly(
    array: &ArrayRef,
    data_type: &DataType,
    column: &str,
) -> Result<ArrayRef, StepFault> {
    let wrong = |value: String| StepFault::Cast {
        column: excerpt(column),
        value: excerpt(&value),
        wanted: word_of(data_type).to_owned(),
    };
    if let Some(texts) = array.as_string_opt::<i32>() {
        return parse_text(texts, data_type).map_err(|row| wrong(texts.value(row).to_owned()));
    }
    let lenient = cast_with_options(array, data_type, &CastOptions::default());
    let cast = lenient.map_err(|_| wrong(format!("any {}", word_of(array.data_type()))))?;
    let whole_only = *array.data_type() == DataType::Float64 && *data_type == DataType::Int64;
    let lost = |row: usize| {
        array.is_valid(row)
            && (cast.is_null(row)
                || whole_only && array.as_primitive::<Float64Type>().value(row).fract() != 0.0)
    };
    match (0..array.len()).find(|row| lost(*row)) {
        Some(row) => {
            let shown = cast_with_options(
                &array.slice(row, 1),
                &DataType::Utf8,
                &CastOptions::default(),
            );
            Err(wrong(
                shown
                    .map(|shown| shown.as_string::<i32>().value(0).to_owned())
                    .unwrap_or_default(),
            ))
        }
        None => Ok(cast),
    }
}

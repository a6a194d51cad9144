//! A model's outputs as one prediction a row.

use lepton_types::signature::{Signature, Task};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use crate::engine::Output;
use crate::tensor::TensorData;

/// An output that has not one entry a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("output `{output}` has no entry for each of the {rows} rows: use the inference protocol")]
pub struct NotPerRow {
    /// The output.
    pub output: String,
    /// How many rows were asked about.
    pub rows: usize,
}

/// A response to rows. A model that says what its outputs mean answers `label` and
/// `probabilities`, or `prediction`; any other keeps its outputs' names.
#[derive(Debug, Serialize)]
pub struct Predictions<'a> {
    predictions: Rows<'a>,
    model: &'a str,
    version: &'a str,
}

impl<'a> Predictions<'a> {
    /// What the outputs of a run say of each row.
    ///
    /// # Errors
    /// An output has not one entry a row.
    pub fn new(
        (model, version): (&'a str, &'a str),
        signature: &'a Signature,
        outputs: &'a [Output],
        rows: usize,
    ) -> Result<Self, NotPerRow> {
        let mut fields: Vec<Field<'a>> = Vec::with_capacity(outputs.len());
        for output in outputs {
            let mut field = Field::new(output, signature, rows)?;
            let key = match (signature.task, &field.form) {
                (Some(Task::Classification), Form::Scalar) => "label",
                (Some(Task::Classification), Form::ByName(_)) => "probabilities",
                (Some(Task::Regression), Form::Scalar) => "prediction",
                _ => field.key,
            };
            // The first of its kind has the well-known key, a second keeps its own.
            if fields.iter().all(|other| other.key != key) {
                field.key = key;
            }
            fields.push(field);
        }
        Ok(Self {
            predictions: Rows { fields, rows },
            model,
            version,
        })
    }
}

#[derive(Debug)]
struct Rows<'a> {
    fields: Vec<Field<'a>>,
    rows: usize,
}

#[derive(Debug)]
struct Field<'a> {
    key: &'a str,
    data: &'a TensorData,
    /// Elements a row.
    width: usize,
    form: Form<'a>,
}

#[derive(Debug)]
enum Form<'a> {
    /// The one element.
    Scalar,
    /// An array of the elements.
    List,
    /// An object, the elements under these names.
    ByName(&'a [String]),
}

impl<'a> Field<'a> {
    fn new(output: &'a Output, signature: &'a Signature, rows: usize) -> Result<Self, NotPerRow> {
        let shape = output.tensor.shape();
        if shape.first() != Some(&rows) {
            return Err(NotPerRow {
                output: output.name.clone(),
                rows,
            });
        }
        let width = shape[1..].iter().product();
        let data = output.tensor.data();
        let floats = matches!(data, TensorData::Fp32(_) | TensorData::Fp64(_));
        let form = match &output.columns {
            Some(columns) => Form::ByName(columns),
            None if width > 1 && floats && signature.classes.len() == width => {
                Form::ByName(&signature.classes)
            }
            None if width == 1 && shape.len() <= 2 => Form::Scalar,
            None => Form::List,
        };
        Ok(Self {
            key: &output.name,
            data,
            width,
            form,
        })
    }
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.rows))?;
        for row in 0..self.rows {
            seq.serialize_element(&Row {
                fields: &self.fields,
                row,
            })?;
        }
        seq.end()
    }
}

struct Row<'a> {
    fields: &'a [Field<'a>],
    row: usize,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for field in self.fields {
            map.serialize_entry(
                field.key,
                &Entry {
                    field,
                    row: self.row,
                },
            )?;
        }
        map.end()
    }
}

struct Entry<'a> {
    field: &'a Field<'a>,
    row: usize,
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Field {
            data, width, form, ..
        } = self.field;
        let start = self.row * width;
        let elements = (start..start + width).map(|at| Element { data, at });
        match form {
            Form::Scalar => Element { data, at: start }.serialize(serializer),
            Form::List => serializer.collect_seq(elements),
            Form::ByName(names) => serializer.collect_map(names.iter().zip(elements)),
        }
    }
}

struct Element<'a> {
    data: &'a TensorData,
    at: usize,
}

impl Serialize for Element<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let at = self.at;
        match self.data {
            TensorData::Bool(values) => values[at].serialize(serializer),
            TensorData::Uint8(values) => values[at].serialize(serializer),
            TensorData::Uint16(values) => values[at].serialize(serializer),
            TensorData::Uint32(values) => values[at].serialize(serializer),
            TensorData::Uint64(values) => values[at].serialize(serializer),
            TensorData::Int8(values) => values[at].serialize(serializer),
            TensorData::Int16(values) => values[at].serialize(serializer),
            TensorData::Int32(values) => values[at].serialize(serializer),
            TensorData::Int64(values) => values[at].serialize(serializer),
            TensorData::Fp16(values) => values[at].to_f32().serialize(serializer),
            TensorData::Bf16(values) => values[at].to_f32().serialize(serializer),
            TensorData::Fp32(values) => values[at].serialize(serializer),
            TensorData::Fp64(values) => values[at].serialize(serializer),
            TensorData::Bytes(values) => values[at].serialize(serializer),
        }
    }
}

//! Tensors to the runtime's values and back.
//!
//! Owns: which element types cross, and how scikit-learn's `ZipMap` (a sequence of maps
//! from class to probability) becomes a tensor with named columns.

use lepton_types::signature::Datatype;
use ort::session::SessionInputValue;
use ort::value::{
    DynMap, DynSequence, DynValue, Shape, Tensor as RuntimeTensor, TensorElementType, ValueType,
};

use super::{InferError, Output, shortened};
use crate::tensor::{Tensor, TensorData};

/// The protocol's name of a runtime's element type, where it has one.
pub(super) const fn datatype(element: TensorElementType) -> Option<Datatype> {
    Some(match element {
        TensorElementType::Bool => Datatype::Bool,
        TensorElementType::Uint8 => Datatype::Uint8,
        TensorElementType::Uint16 => Datatype::Uint16,
        TensorElementType::Uint32 => Datatype::Uint32,
        TensorElementType::Uint64 => Datatype::Uint64,
        TensorElementType::Int8 => Datatype::Int8,
        TensorElementType::Int16 => Datatype::Int16,
        TensorElementType::Int32 => Datatype::Int32,
        TensorElementType::Int64 => Datatype::Int64,
        TensorElementType::Float16 => Datatype::Fp16,
        TensorElementType::Bfloat16 => Datatype::Bf16,
        TensorElementType::Float32 => Datatype::Fp32,
        TensorElementType::Float64 => Datatype::Fp64,
        TensorElementType::String => Datatype::Bytes,
        _ => return None,
    })
}

/// A tensor as the runtime takes it.
pub(super) fn to_runtime(
    name: &str,
    tensor: Tensor,
) -> Result<SessionInputValue<'static>, InferError> {
    let (shape, data) = tensor.into_parts();
    macro_rules! numbers {
        ($values:expr) => {
            RuntimeTensor::from_array((shape, $values)).map(SessionInputValue::from)
        };
    }
    let value = match data {
        TensorData::Bool(values) => numbers!(values),
        TensorData::Uint8(values) => numbers!(values),
        TensorData::Uint16(values) => numbers!(values),
        TensorData::Uint32(values) => numbers!(values),
        TensorData::Uint64(values) => numbers!(values),
        TensorData::Int8(values) => numbers!(values),
        TensorData::Int16(values) => numbers!(values),
        TensorData::Int32(values) => numbers!(values),
        TensorData::Int64(values) => numbers!(values),
        TensorData::Fp16(values) => numbers!(values),
        TensorData::Bf16(values) => numbers!(values),
        TensorData::Fp32(values) => numbers!(values),
        TensorData::Fp64(values) => numbers!(values),
        TensorData::Bytes(values) => {
            if let Some(at) = values.iter().position(|text| text.contains('\0')) {
                return Err(InferError::NulInText {
                    input: name.to_owned(),
                    at,
                });
            }
            RuntimeTensor::from_string_array((shape, values.as_slice()))
                .map(SessionInputValue::from)
        }
    };
    value.map_err(|error| failed(&error))
}

/// A runtime's value as a tensor.
pub(super) fn from_runtime(
    name: &str,
    value: DynValue,
    classes: &[String],
) -> Result<Output, InferError> {
    let output = |tensor, columns| Output {
        name: name.to_owned(),
        tensor,
        columns,
    };
    match value.dtype() {
        ValueType::Tensor { ty, .. } => Ok(output(tensor(*ty, &value)?, None)),
        ValueType::Sequence(_) => {
            let sequence: DynSequence = value.downcast().map_err(|error| failed(&error))?;
            let maps: Vec<DynMap> = sequence
                .try_extract_sequence()
                .map_err(|error| failed(&error))?;
            let (tensor, columns) = unzip(&maps, classes)?;
            Ok(output(tensor, Some(columns)))
        }
        ValueType::Map { .. } => {
            let map: DynMap = value.downcast().map_err(|error| failed(&error))?;
            let (tensor, columns) = unzip(&[map], classes)?;
            Ok(output(tensor, Some(columns)))
        }
        ValueType::Optional(_) => Err(unexpected("an optional value")),
    }
}

fn tensor(element: TensorElementType, value: &DynValue) -> Result<Tensor, InferError> {
    macro_rules! numbers {
        ($variant:ident) => {{
            let (shape, values) = value.try_extract_tensor().map_err(|error| failed(&error))?;
            (lengths(shape)?, TensorData::$variant(values.to_vec()))
        }};
    }
    let (shape, data) = match datatype(element) {
        Some(Datatype::Bool) => numbers!(Bool),
        Some(Datatype::Uint8) => numbers!(Uint8),
        Some(Datatype::Uint16) => numbers!(Uint16),
        Some(Datatype::Uint32) => numbers!(Uint32),
        Some(Datatype::Uint64) => numbers!(Uint64),
        Some(Datatype::Int8) => numbers!(Int8),
        Some(Datatype::Int16) => numbers!(Int16),
        Some(Datatype::Int32) => numbers!(Int32),
        Some(Datatype::Int64) => numbers!(Int64),
        Some(Datatype::Fp16) => numbers!(Fp16),
        Some(Datatype::Bf16) => numbers!(Bf16),
        Some(Datatype::Fp32) => numbers!(Fp32),
        Some(Datatype::Fp64) => numbers!(Fp64),
        Some(Datatype::Bytes) => {
            let (shape, texts) = value
                .try_extract_strings()
                .map_err(|error| failed(&error))?;
            (lengths(shape)?, TensorData::Bytes(texts))
        }
        None => return Err(unexpected(&format!("a tensor of {element}"))),
    };
    Tensor::new(shape, data).map_err(|error| InferError::Failed {
        reason: error.to_string(),
    })
}

/// Rows of class → value as a tensor `[rows, classes]`, its columns in the order of
/// `classes` where those are the same classes, else in the maps' own order.
fn unzip(maps: &[DynMap], classes: &[String]) -> Result<(Tensor, Vec<String>), InferError> {
    let rows = maps.iter().map(pairs).collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<String> = match rows.first() {
        Some(first) if !same_names(first, classes) => {
            first.iter().map(|(name, _)| name.clone()).collect()
        }
        _ => classes.to_vec(),
    };
    let mut values = Vec::with_capacity(rows.len() * columns.len());
    for row in &rows {
        if row.len() != columns.len() {
            return Err(unexpected("maps of different classes"));
        }
        for (at, column) in columns.iter().enumerate() {
            // Nearly always in order already.
            let found = match &row[at] {
                (name, value) if name == column => Some(*value),
                _ => row
                    .iter()
                    .find(|(name, _)| name == column)
                    .map(|(_, value)| *value),
            };
            values.push(found.ok_or_else(|| unexpected("maps of different classes"))?);
        }
    }
    let shape = vec![rows.len(), columns.len()];
    let tensor = Tensor::new(shape, TensorData::Fp32(values))
        .expect("invariant: one value was pushed for each row and column");
    Ok((tensor, columns))
}

fn pairs(map: &DynMap) -> Result<Vec<(String, f32)>, InferError> {
    let ValueType::Map { key, value } = map.dtype() else {
        return Err(unexpected("a sequence of something else than maps"));
    };
    match (key, value) {
        (TensorElementType::String, TensorElementType::Float32) => map
            .try_extract_key_values::<String, f32>()
            .map_err(|error| failed(&error)),
        (TensorElementType::Int64, TensorElementType::Float32) => {
            let pairs = map
                .try_extract_key_values::<i64, f32>()
                .map_err(|error| failed(&error))?;
            let named = pairs
                .into_iter()
                .map(|(key, value)| (key.to_string(), value));
            Ok(named.collect())
        }
        _ => Err(unexpected(&format!("a map from {key} to {value}"))),
    }
}

fn same_names(row: &[(String, f32)], classes: &[String]) -> bool {
    row.len() == classes.len()
        && classes
            .iter()
            .all(|class| row.iter().any(|(name, _)| name == class))
}

fn lengths(shape: &Shape) -> Result<Vec<usize>, InferError> {
    shape
        .iter()
        .map(|&length| usize::try_from(length))
        .collect::<Result<_, _>>()
        .map_err(|_| unexpected("a tensor of unknown length"))
}

fn unexpected(what: &str) -> InferError {
    InferError::Failed {
        reason: format!("it gave {what}"),
    }
}

fn failed(error: &ort::Error) -> InferError {
    InferError::Failed {
        reason: shortened(error.message()),
    }
}

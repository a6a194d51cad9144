//! A tensor's elements as JSON: flat or nested, typed by the tensor's datatype.
//!
//! Owns: which JSON values an element type takes. `null` is a missing value: NaN for
//! floats, the empty text for `BYTES`; the other types have none. The text is read once,
//! straight into the typed vector, so memory is the body and the tensor, nothing between.

use std::fmt;

use half::{bf16, f16};
use lepton_types::signature::Datatype;
use serde::de::{self, DeserializeSeed, Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::tensor::{Shape, Tensor, TensorData, element_count};

/// The deepest nesting that is read; no model of the field has more axes.
const DEPTH_MAX: usize = 16;

/// The most of an offending value that an error repeats.
const VALUE_CHARS_MAX: usize = 40;

/// Room reserved before the elements are seen; beyond it vectors grow as they fill, so
/// a large shape with little data costs nothing.
const RESERVED_ELEMENTS_MAX: usize = 1 << 16;

/// Why the elements of a tensor cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DataError {
    /// Not an array.
    #[error("data must be an array")]
    NotAnArray,
    /// An element of another type.
    #[error("expects {expected}, got {got} at element {at}")]
    Element {
        /// The tensor's type.
        expected: Datatype,
        /// The value, in words.
        got: String,
        /// Which element, row by row.
        at: usize,
    },
    /// Arrays nested beyond any use.
    #[error("data is nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// Rows of different lengths, or numbers beside arrays.
    #[error("nested data is ragged: every array of one depth must have the same length")]
    Ragged,
    /// Nested, but not as the shape says.
    #[error("data is nested as {nested}, the shape says {shape}")]
    Nesting {
        /// The nesting found.
        nested: Shape,
        /// The shape given.
        shape: Shape,
    },
    /// Too many or too few elements.
    #[error("shape {shape} holds {expected} elements, got {got}")]
    Count {
        /// The shape given.
        shape: Shape,
        /// The product of its lengths.
        expected: usize,
        /// How many elements came.
        got: usize,
    },
}

/// Reads the elements of a tensor.
pub(super) fn read(
    data: &RawValue,
    datatype: Datatype,
    shape: Vec<usize>,
) -> Result<Tensor, DataError> {
    let reserved = element_count(&shape)
        .unwrap_or(0)
        .min(RESERVED_ELEMENTS_MAX);
    let mut sink = Sink {
        data: TensorData::with_capacity(datatype, reserved),
        lengths: Vec::new(),
        leaf_depth: None,
        error: None,
    };
    let mut json = serde_json::Deserializer::from_str(data.get());
    if !data.get().starts_with('[') {
        return Err(DataError::NotAnArray);
    }
    if json
        .deserialize_any(Level {
            sink: &mut sink,
            depth: 0,
        })
        .is_err()
    {
        // The text was scanned as valid JSON before, so every failure is one of ours, or
        // a number out of range for 64 bits, which the reader finds itself.
        let at = sink.data.len();
        return Err(sink.error.unwrap_or_else(|| DataError::Element {
            expected: datatype,
            got: "a number out of range".to_owned(),
            at,
        }));
    }
    sink.into_tensor(shape)
}

struct Sink {
    data: TensorData,
    /// The length of the arrays at each depth, once one has ended.
    lengths: Vec<Option<usize>>,
    leaf_depth: Option<usize>,
    error: Option<DataError>,
}

impl Sink {
    fn into_tensor(self, shape: Vec<usize>) -> Result<Tensor, DataError> {
        let expected = element_count(&shape).unwrap_or(usize::MAX);
        let nested = self.lengths.len() > 1;
        if nested {
            let lengths: Vec<usize> = self.lengths.into_iter().flatten().collect();
            // An empty array ends the nesting early; the count below judges it.
            if lengths != shape && !lengths.contains(&0) {
                return Err(DataError::Nesting {
                    nested: Shape::of(&lengths),
                    shape: Shape::of(&shape),
                });
            }
        }
        let got = self.data.len();
        Tensor::new(shape, self.data).map_err(|mismatch| DataError::Count {
            shape: mismatch.shape,
            expected,
            got,
        })
    }

    fn fail<E: de::Error>(&mut self, error: DataError) -> E {
        self.error = Some(error);
        E::custom("see the sink")
    }

    fn refuse<E: de::Error>(&mut self, got: String) -> E {
        let error = DataError::Element {
            expected: self.data.datatype(),
            got,
            at: self.data.len(),
        };
        self.fail(error)
    }

    fn leaf<E: de::Error>(&mut self, depth: usize) -> Result<(), E> {
        if *self.leaf_depth.get_or_insert(depth) == depth {
            Ok(())
        } else {
            Err(self.fail(DataError::Ragged))
        }
    }

    fn end_of_array<E: de::Error>(&mut self, depth: usize, length: usize) -> Result<(), E> {
        if self.lengths.len() <= depth {
            self.lengths.resize(depth + 1, None);
        }
        if *self.lengths[depth].get_or_insert(length) == length {
            Ok(())
        } else {
            Err(self.fail(DataError::Ragged))
        }
    }

    fn push_integer(&mut self, value: i128) -> bool {
        macro_rules! fit {
            ($values:expr) => {
                value.try_into().map(|value| $values.push(value)).is_ok()
            };
        }
        match &mut self.data {
            TensorData::Uint8(values) => fit!(values),
            TensorData::Uint16(values) => fit!(values),
            TensorData::Uint32(values) => fit!(values),
            TensorData::Uint64(values) => fit!(values),
            TensorData::Int8(values) => fit!(values),
            TensorData::Int16(values) => fit!(values),
            TensorData::Int32(values) => fit!(values),
            TensorData::Int64(values) => fit!(values),
            // Integers of JSON are at most 64 bits here; the nearest float is meant.
            #[expect(clippy::cast_precision_loss, reason = "the nearest float is meant")]
            _ => self.push_float(value as f64),
        }
    }

    fn push_float(&mut self, value: f64) -> bool {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to be finite after"
        )]
        let single = value as f32;
        match &mut self.data {
            TensorData::Fp64(values) => values.push(value),
            TensorData::Fp32(values) if single.is_finite() => values.push(single),
            TensorData::Fp16(values) if f16::from_f64(value).is_finite() => {
                values.push(f16::from_f64(value));
            }
            TensorData::Bf16(values) if bf16::from_f64(value).is_finite() => {
                values.push(bf16::from_f64(value));
            }
            _ => return false,
        }
        true
    }

    fn push_missing(&mut self) -> bool {
        match &mut self.data {
            TensorData::Fp16(values) => values.push(f16::NAN),
            TensorData::Bf16(values) => values.push(bf16::NAN),
            TensorData::Fp32(values) => values.push(f32::NAN),
            TensorData::Fp64(values) => values.push(f64::NAN),
            TensorData::Bytes(values) => values.push(String::new()),
            _ => return false,
        }
        true
    }
}

/// One value at some depth: an element, or an array of more.
struct Level<'a> {
    sink: &'a mut Sink,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an element of type {}", self.sink.data.datatype())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.depth >= DEPTH_MAX {
            return Err(self.sink.fail(DataError::TooDeep));
        }
        let mut length = 0;
        while seq
            .next_element_seed(Level {
                sink: self.sink,
                depth: self.depth + 1,
            })?
            .is_some()
        {
            length += 1;
        }
        self.sink.end_of_array(self.depth, length)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.sink.refuse("an object".to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.sink.leaf(self.depth)?;
        match &mut self.sink.data {
            TensorData::Bool(values) => {
                values.push(value);
                Ok(())
            }
            _ => Err(self.sink.refuse(format!("`{value}`"))),
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.sink.leaf(self.depth)?;
        if self.sink.push_integer(value.into()) {
            return Ok(());
        }
        Err(self.sink.refuse(format!("`{value}`")))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.sink.leaf(self.depth)?;
        if self.sink.push_integer(value.into()) {
            return Ok(());
        }
        Err(self.sink.refuse(format!("`{value}`")))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.sink.leaf(self.depth)?;
        if self.sink.push_float(value) {
            return Ok(());
        }
        Err(self.sink.refuse(format!("`{value:?}`")))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<(), E> {
        self.sink.leaf(self.depth)?;
        match &mut self.sink.data {
            TensorData::Bytes(values) => {
                values.push(value);
                Ok(())
            }
            _ => Err(self.sink.refuse(format!("the text `{}`", excerpt(&value)))),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.sink.leaf(self.depth)?;
        if self.sink.push_missing() {
            return Ok(());
        }
        Err(self.sink.refuse("null".to_owned()))
    }
}

/// The beginning of a text, for an error.
pub(crate) fn excerpt(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(VALUE_CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(VALUE_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, datatype: Datatype, shape: &[usize]) -> Result<Tensor, DataError> {
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        read(&raw, datatype, shape.to_vec())
    }

    fn message(text: &str, datatype: Datatype, shape: &[usize]) -> String {
        parse(text, datatype, shape).unwrap_err().to_string()
    }

    #[test]
    fn flat_and_nested_data_are_the_same_tensor() {
        let flat = parse("[1,2,3,4.5]", Datatype::Fp32, &[2, 2]).unwrap();
        let nested = parse("[[1,2],[3,4.5]]", Datatype::Fp32, &[2, 2]).unwrap();
        assert_eq!(flat, nested);
        assert_eq!(flat.data(), &TensorData::Fp32(vec![1.0, 2.0, 3.0, 4.5]));
        assert!(parse("[]", Datatype::Bytes, &[0, 3]).is_ok());
        assert!(parse("[[]]", Datatype::Fp32, &[1, 0]).is_ok());
    }

    #[test]
    fn null_is_missing_where_a_type_can_miss() {
        let tensor = parse("[null]", Datatype::Fp64, &[1]).unwrap();
        let TensorData::Fp64(values) = tensor.data() else {
            panic!("{tensor:?}")
        };
        assert!(values[0].is_nan());
        let texts = parse(r#"["a",null]"#, Datatype::Bytes, &[2]).unwrap();
        let expected = TensorData::Bytes(vec!["a".to_owned(), String::new()]);
        assert_eq!(texts.data(), &expected);
        assert_eq!(
            message("[1,null]", Datatype::Int64, &[2]),
            "expects INT64, got null at element 1"
        );
    }

    #[test]
    fn wrong_elements_are_named_with_their_place() {
        let cases = [
            (
                "[1.5]",
                Datatype::Int64,
                "expects INT64, got `1.5` at element 0",
            ),
            (
                "[1,300]",
                Datatype::Uint8,
                "expects UINT8, got `300` at element 1",
            ),
            (
                "[-1]",
                Datatype::Uint64,
                "expects UINT64, got `-1` at element 0",
            ),
            (
                "[\"x\"]",
                Datatype::Fp32,
                "expects FP32, got the text `x` at element 0",
            ),
            (
                "[1e39]",
                Datatype::Fp32,
                "expects FP32, got `1e39` at element 0",
            ),
            (
                "[1e999]",
                Datatype::Fp64,
                "expects FP64, got a number out of range at element 0",
            ),
            (
                "[1]",
                Datatype::Bytes,
                "expects BYTES, got `1` at element 0",
            ),
            ("[1]", Datatype::Bool, "expects BOOL, got `1` at element 0"),
            (
                "[{}]",
                Datatype::Fp32,
                "expects FP32, got an object at element 0",
            ),
            ("{}", Datatype::Fp32, "data must be an array"),
            ("3", Datatype::Fp32, "data must be an array"),
        ];
        for (text, datatype, expected) in cases {
            assert_eq!(message(text, datatype, &[1]), expected, "{text}");
        }
    }

    #[test]
    fn shapes_must_agree_with_the_data() {
        assert_eq!(
            message("[1,2,3]", Datatype::Fp32, &[2, 2]),
            "shape [2,2] holds 4 elements, got 3"
        );
        assert_eq!(
            message("[[1,2],[3,4]]", Datatype::Fp32, &[4, 1]),
            "data is nested as [2,2], the shape says [4,1]"
        );
        assert_eq!(
            parse("[[1,2],[3]]", Datatype::Fp32, &[3]),
            Err(DataError::Ragged)
        );
        assert_eq!(
            parse("[1,[2]]", Datatype::Fp32, &[2]),
            Err(DataError::Ragged)
        );
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(parse(&deep, Datatype::Fp32, &[1]), Err(DataError::TooDeep));
        let vast = message("[1]", Datatype::Fp32, &[usize::MAX, 2]);
        assert!(vast.contains("got 1"), "{vast}");
    }
}

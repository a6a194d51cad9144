//! One value of a row, and which element types take it.
//!
//! More forgiving than the inference protocol, since rows come from people: a number may
//! be written as text (CSV has nothing else), a category as a number. What is not finite
//! is refused, for a model never saw it. A missing value is `null`, an empty text or, as
//! Lepton's trainer reads tables, one of the usual spellings (`NA`, `?`, …).

use std::borrow::Cow;
use std::fmt;

use half::{bf16, f16};
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::oip::excerpt;
use crate::tensor::TensorData;

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    /// A missing value.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// What no column takes, in words.
    Nested(&'static str),
}

impl<'de: 'a, 'a> Deserialize<'de> for Cell<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Cell<'de>, E> {
        Ok(Cell::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Cell<'de>, E> {
        Ok(Cell::Integer(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Cell<'de>, E> {
        Ok(Cell::Integer(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Cell<'de>, E> {
        Ok(Cell::Float(value))
    }

    fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Cell<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Cell::Nested("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Cell::Nested("an object"))
    }
}

/// How the texts of a `BYTES` column are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Texts {
    /// Every character counts: nothing is known of the model's training.
    Verbatim,
    /// As Lepton's trainer reads tables: trimmed, missing values in their usual spellings.
    AsTrained,
}

/// Appends the value to a column.
///
/// # Errors
/// The value in words, where the column's type does not take it.
pub(super) fn push(column: &mut TensorData, cell: Cell<'_>, texts: Texts) -> Result<(), String> {
    macro_rules! whole {
        ($values:expr) => {
            integer(&cell)
                .and_then(|value| value.try_into().ok())
                .map(|value| $values.push(value))
        };
    }
    let taken = match column {
        TensorData::Fp64(values) => float(&cell).map(|value| values.push(value)),
        TensorData::Fp32(values) => float(&cell)
            .and_then(single)
            .map(|value| values.push(value)),
        TensorData::Fp16(values) => float(&cell)
            .map(|value| (value, f16::from_f64(value)))
            .filter(|(value, half)| value.is_nan() || half.is_finite())
            .map(|(_, half)| values.push(half)),
        TensorData::Bf16(values) => float(&cell)
            .map(|value| (value, bf16::from_f64(value)))
            .filter(|(value, half)| value.is_nan() || half.is_finite())
            .map(|(_, half)| values.push(half)),
        TensorData::Uint8(values) => whole!(values),
        TensorData::Uint16(values) => whole!(values),
        TensorData::Uint32(values) => whole!(values),
        TensorData::Uint64(values) => whole!(values),
        TensorData::Int8(values) => whole!(values),
        TensorData::Int16(values) => whole!(values),
        TensorData::Int32(values) => whole!(values),
        TensorData::Int64(values) => whole!(values),
        TensorData::Bool(values) => truth(&cell).map(|value| values.push(value)),
        TensorData::Bytes(values) => {
            return text(cell, texts).map(|value| values.push(value));
        }
    };
    taken.ok_or_else(|| in_words(&cell))
}

fn single(value: f64) -> Option<f32> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be finite after"
    )]
    let single = value as f32;
    (value.is_nan() || single.is_finite()).then_some(single)
}

#[expect(clippy::cast_precision_loss, reason = "the nearest float is meant")]
fn float(cell: &Cell<'_>) -> Option<f64> {
    match cell {
        Cell::Null => Some(f64::NAN),
        Cell::Integer(value) => Some(*value as f64),
        Cell::Float(value) => Some(*value),
        Cell::Text(text) if is_missing(text.trim()) => Some(f64::NAN),
        Cell::Text(text) => text
            .trim()
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite()),
        Cell::Bool(_) | Cell::Nested(_) => None,
    }
}

fn integer(cell: &Cell<'_>) -> Option<i128> {
    match cell {
        Cell::Integer(value) => Some(*value),
        #[expect(clippy::cast_possible_truncation, reason = "2^53 bounds it")]
        Cell::Float(value) if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => {
            Some(*value as i128)
        }
        Cell::Text(text) => text.trim().parse().ok(),
        Cell::Null | Cell::Bool(_) | Cell::Float(_) | Cell::Nested(_) => None,
    }
}

fn truth(cell: &Cell<'_>) -> Option<bool> {
    match cell {
        Cell::Bool(value) => Some(*value),
        Cell::Integer(0) => Some(false),
        Cell::Integer(1) => Some(true),
        Cell::Text(text) if text.trim().eq_ignore_ascii_case("true") => Some(true),
        Cell::Text(text) if text.trim().eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn text(cell: Cell<'_>, texts: Texts) -> Result<String, String> {
    match cell {
        Cell::Null => Ok(String::new()),
        Cell::Bool(value) => Ok(value.to_string()),
        Cell::Integer(value) => Ok(value.to_string()),
        Cell::Float(value) => Ok(value.to_string()),
        Cell::Text(text) if texts == Texts::Verbatim => Ok(text.into_owned()),
        Cell::Text(text) if is_missing(text.trim()) => Ok(String::new()),
        Cell::Text(text) => Ok(text.trim().to_owned()),
        Cell::Nested(what) => Err(what.to_owned()),
    }
}

/// The spellings of a missing value that Lepton's reader of tables knows.
fn is_missing(text: &str) -> bool {
    const SPELLINGS: [&str; 6] = ["na", "n/a", "nan", "null", "none", "#n/a"];
    text.is_empty() || text == "?" || SPELLINGS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn in_words(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => "null, and this type has no missing value".to_owned(),
        Cell::Bool(value) => format!("`{value}`"),
        Cell::Integer(value) => format!("`{value}`"),
        Cell::Float(value) => format!("`{value:?}`"),
        Cell::Text(text) => format!("the text `{}`", excerpt(text)),
        Cell::Nested(what) => (*what).to_owned(),
    }
}

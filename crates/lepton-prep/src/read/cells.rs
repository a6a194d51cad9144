//! Cells: from text to typed columns.
//!
//! Owns: what counts as a number, a date, a truth value, a missing value. Must not know: how
//! cells are found in a file.

use std::sync::Arc;

use datafusion::arrow::array::BooleanBufferBuilder;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::kernels::cast_utils::Parser;
use datafusion::arrow::datatypes::{DataType, Date32Type, TimestampMicrosecondType};

use super::{TextRules, word_of};
use crate::error::{ReadFault, excerpt};

/// A column under construction.
pub(super) struct Cells {
    values: Values,
    present: Vec<bool>,
    missing: usize,
}

enum Values {
    Int(Vec<i64>),
    Float(Vec<f64>),
    Bool(Vec<bool>),
    Text { ends: Vec<i32>, bytes: Vec<u8> },
    Date(Vec<i32>),
    Time(Vec<i64>),
}

impl Cells {
    pub(super) fn new(data_type: &DataType, rows: usize) -> Self {
        let values = match data_type {
            DataType::Int64 => Values::Int(Vec::with_capacity(rows)),
            DataType::Float64 => Values::Float(Vec::with_capacity(rows)),
            DataType::Boolean => Values::Bool(Vec::with_capacity(rows)),
            DataType::Date32 => Values::Date(Vec::with_capacity(rows)),
            DataType::Timestamp(..) => Values::Time(Vec::with_capacity(rows)),
            _ => {
                let mut ends = Vec::with_capacity(rows + 1);
                ends.push(0);
                Values::Text {
                    ends,
                    bytes: Vec::new(),
                }
            }
        };
        Self {
            values,
            present: Vec::with_capacity(rows),
            missing: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.present.len()
    }

    pub(super) fn push_missing(&mut self) {
        self.present.push(false);
        self.missing += 1;
        match &mut self.values {
            Values::Int(values) | Values::Time(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Bool(values) => values.push(false),
            Values::Date(values) => values.push(0),
            Values::Text { ends, bytes } => ends.push(end(bytes)),
        }
    }

    /// Takes a cell as it stands in the file.
    pub(super) fn push(&mut self, cell: &[u8], rules: &TextRules) -> Result<(), CellFault> {
        let trimmed = cell.trim_ascii();
        let taken = match &mut self.values {
            Values::Float(values) => float(trimmed).map(|value| values.push(value)),
            Values::Int(values) => int(trimmed).map(|value| values.push(value)),
            Values::Bool(values) => truth(trimmed).map(|value| values.push(value)),
            Values::Date(values) => date(trimmed).map(|value| values.push(value)),
            Values::Time(values) => time(trimmed).map(|value| values.push(value)),
            Values::Text { ends, bytes } => {
                let text = if rules.trim { trimmed } else { cell };
                if is_missing(trimmed, rules) {
                    None
                } else {
                    if !text.is_ascii() {
                        std::str::from_utf8(text).map_err(|_| CellFault::NotUtf8)?;
                    }
                    bytes.extend_from_slice(text);
                    ends.push(end(bytes));
                    Some(())
                }
            }
        };
        match taken {
            Some(()) => self.present.push(true),
            None if is_missing(trimmed, rules) => self.push_missing(),
            None => return Err(CellFault::Value),
        }
        Ok(())
    }

    pub(super) fn push_int(&mut self, value: i64) -> Result<(), CellFault> {
        match &mut self.values {
            Values::Int(values) => values.push(value),
            #[expect(
                clippy::cast_precision_loss,
                reason = "the column is one of 64-bit floats"
            )]
            Values::Float(values) => values.push(value as f64),
            Values::Text { .. } => return self.push_text(&value.to_string()),
            Values::Bool(values) if value == 0 || value == 1 => values.push(value == 1),
            _ => return Err(CellFault::Value),
        }
        self.present.push(true);
        Ok(())
    }

    pub(super) fn push_float(&mut self, value: f64) -> Result<(), CellFault> {
        match &mut self.values {
            Values::Float(values) => values.push(value),
            Values::Text { .. } => return self.push_text(&value.to_string()),
            _ => return Err(CellFault::Value),
        }
        self.present.push(true);
        Ok(())
    }

    pub(super) fn push_bool(&mut self, value: bool) -> Result<(), CellFault> {
        match &mut self.values {
            Values::Bool(values) => values.push(value),
            Values::Text { .. } => return self.push_text(if value { "true" } else { "false" }),
            _ => return Err(CellFault::Value),
        }
        self.present.push(true);
        Ok(())
    }

    fn push_text(&mut self, text: &str) -> Result<(), CellFault> {
        let rules = TextRules {
            trim: false,
            nulls: Vec::new(),
        };
        self.push(text.as_bytes(), &rules)
    }

    /// The column.
    pub(super) fn finish(self) -> ArrayRef {
        let nulls = (self.missing > 0).then(|| NullBuffer::from(self.present));
        match self.values {
            Values::Int(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Values::Float(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Values::Date(values) => Arc::new(Date32Array::new(values.into(), nulls)),
            Values::Time(values) => Arc::new(TimestampMicrosecondArray::new(values.into(), nulls)),
            Values::Bool(values) => {
                let mut bits = BooleanBufferBuilder::new(values.len());
                bits.append_slice(&values);
                let bits: BooleanBuffer = bits.finish();
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Values::Text { ends, bytes } => Arc::new(StringArray::new(
                OffsetBuffer::new(ends.into()),
                bytes.into(),
                nulls,
            )),
        }
    }
}

fn end(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).expect("invariant: a piece is far below 2 GiB")
}

/// What is wrong with a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellFault {
    Value,
    NotUtf8,
}

impl CellFault {
    pub(super) fn of(self, column: &str, data_type: &DataType, cell: &[u8]) -> ReadFault {
        match self {
            Self::NotUtf8 => ReadFault::NotUtf8,
            Self::Value => ReadFault::Value {
                column: excerpt(column),
                wanted: word_of(data_type),
                value: excerpt(&String::from_utf8_lossy(cell)),
            },
        }
    }
}

fn is_missing(trimmed: &[u8], rules: &TextRules) -> bool {
    rules.nulls.iter().any(|null| null.as_bytes() == trimmed)
}

/// A text as a column's value, as the readers take it.
pub(crate) fn parse_text(texts: &StringArray, data_type: &DataType) -> Result<ArrayRef, usize> {
    use datafusion::arrow::array::Array as _;
    let rules = TextRules {
        trim: false,
        nulls: Vec::new(),
    };
    let mut cells = Cells::new(data_type, texts.len());
    for row in 0..texts.len() {
        if texts.is_null(row) {
            cells.push_missing();
        } else if cells.push(texts.value(row).as_bytes(), &rules).is_err() {
            return Err(row);
        }
    }
    Ok(cells.finish())
}

pub(super) fn int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut value: u64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if negative {
        0_i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    }
}

/// Powers of ten that 64-bit floats hold exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Up to 15 digits and a small exponent are one exact division away (Clinger 1990); the rest is
/// the standard library's. NaN is no number.
pub(super) fn float(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    if (1..=16).contains(&digits.len()) {
        let (mut mantissa, mut point) = (0_u64, None);
        let mut plain = true;
        for (at, byte) in digits.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit <= 9 {
                mantissa = mantissa * 10 + u64::from(digit);
            } else if *byte == b'.' && point.is_none() {
                point = Some(at);
            } else {
                plain = false;
                break;
            }
        }
        let count = digits.len() - usize::from(point.is_some());
        if plain && (1..=15).contains(&count) {
            let behind = point.map_or(0, |at| digits.len() - at - 1);
            #[expect(clippy::cast_precision_loss, reason = "15 digits are below 2^53")]
            let value = mantissa as f64 / TENS[behind];
            return Some(if negative { -value } else { value });
        }
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!value.is_nan()).then_some(value)
}

fn truth(text: &[u8]) -> Option<bool> {
    let is = |words: &[&str]| {
        words
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word.as_bytes()))
    };
    if is(&["true", "t", "yes", "y", "1"]) {
        Some(true)
    } else if is(&["false", "f", "no", "n", "0"]) {
        Some(false)
    } else {
        None
    }
}

fn date(text: &[u8]) -> Option<i32> {
    Date32Type::parse(std::str::from_utf8(text).ok()?)
}

fn time(text: &[u8]) -> Option<i64> {
    TimestampMicrosecondType::parse(std::str::from_utf8(text).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn floats_are_the_standard_librarys(text in "-?[0-9]{0,12}(\\.[0-9]{0,9})?(e-?[0-9]{1,2})?") {
            let expected = text.parse::<f64>().ok().map(f64::to_bits);
            prop_assert_eq!(float(text.as_bytes()).map(f64::to_bits), expected, "{}", text);
        }

        #[test]
        fn whole_numbers_are_the_standard_librarys(value: i64, junk in "[-+0-9a]{0,22}") {
            prop_assert_eq!(int(value.to_string().as_bytes()), Some(value));
            prop_assert_eq!(int(junk.as_bytes()), junk.parse::<i64>().ok().filter(|_| junk.trim_start_matches(['-', '+']).len() <= 19));
        }
    }
}

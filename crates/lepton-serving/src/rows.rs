//! Row-oriented JSON: what a spreadsheet, a form or a command line has in its hands.
//!
//! Owns: turning rows into a model's inputs and its outputs into predictions, one a row.
//! Must not know: sockets, queues, how a model runs.
//!
//! A request is `{"rows":[{"age":31,"colour":"red"}, …]}` or
//! `{"columns":["age","colour"],"data":[[31,"red"], …]}`. A model that takes one `[N]` or
//! `[N,1]` input a column gets them by name; a foreign model that takes one `[N,k]` tensor
//! gets the columns in the order of `columns`, or of the first row's keys. `null` is a
//! missing value, an absent column is a mistake.

mod cells;
mod columns;
mod predictions;

use std::borrow::Cow;
use std::fmt;

use lepton_types::signature::Datatype;
use lepton_types::signature::Signature;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::inputs::suggest;
use crate::oip::JsonError;
use crate::tensor::NamedTensor;

use cells::Cell;
use columns::Columns;
pub use predictions::{NotPerRow, Predictions};

/// Rows as a model takes them.
#[derive(Debug, Clone, PartialEq)]
pub struct RowsRequest {
    /// The model's inputs.
    pub inputs: Vec<NamedTensor>,
    /// How many rows there are.
    pub rows: usize,
}

/// Why rows cannot be given to a model.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// Not JSON, or JSON of another form.
    #[error("the request is no valid rows request: {0}")]
    Json(#[from] JsonError),
    /// Neither form, or both at once.
    #[error("give either `rows`, or `columns` and `data`")]
    Form,
    /// The model's inputs are no columns.
    #[error("the model does not take rows ({why}): use the inference protocol")]
    NotTabular {
        /// Which input, and why.
        why: String,
    },
    /// A column that the model has no input for.
    #[error(
        "{place} has column `{column}`, which the model does not take: {}",
        suggest(column, known)
    )]
    UnknownColumn {
        /// Where.
        place: Place,
        /// The column given.
        column: String,
        /// The columns that the model takes.
        known: Vec<String>,
    },
    /// A column that is not there.
    #[error("{place} has no column `{column}`: give null where a value is missing")]
    AbsentColumn {
        /// Where.
        place: Place,
        /// The column wanted.
        column: String,
    },
    /// A column that is there twice.
    #[error("{place} has column `{column}` twice")]
    DuplicateColumn {
        /// Where.
        place: Place,
        /// The column.
        column: String,
    },
    /// Another number of columns than a foreign model's tensor has.
    #[error("the model takes {expected} columns in order, {place} has {got}")]
    Width {
        /// Where.
        place: Place,
        /// How many the model takes.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// Another number of values than `columns` has names.
    #[error("{place} has {got} values, `columns` names {expected}")]
    RowLength {
        /// Where.
        place: Place,
        /// How many are named.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// A value that a column cannot take.
    #[error("{place}, column `{column}` expects {expected}, got {got}")]
    Cell {
        /// Where.
        place: Place,
        /// The column.
        column: String,
        /// What the model takes.
        expected: Datatype,
        /// The value, in words.
        got: String,
    },
    /// Something else than a row.
    #[error("{place} is {got}, {expected} is expected")]
    Row {
        /// Where.
        place: Place,
        /// What came.
        got: &'static str,
        /// What should have come.
        expected: &'static str,
    },
}

/// Where in a request something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The list of column names.
    Header,
    /// A row, counted from 1.
    Row(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("`columns`"),
            Self::Row(number) => write!(f, "row {number}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(default, borrow)]
    rows: Option<&'a RawValue>,
    #[serde(default)]
    columns: Option<Vec<String>>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

impl RowsRequest {
    /// Reads rows for a model of that signature.
    ///
    /// # Errors
    /// The first thing that is wrong, with its row and column.
    pub fn parse(body: &[u8], signature: &Signature) -> Result<Self, RowsError> {
        let wire: Wire<'_> =
            serde_json::from_slice(body).map_err(|error| JsonError::new(&error, body))?;
        let mut columns = Columns::new(signature)?;
        let text = match (wire.rows, wire.columns, wire.data) {
            (Some(rows), None, None) => rows,
            (None, Some(names), Some(data)) => {
                columns.set_header(names)?;
                data
            }
            _ => return Err(RowsError::Form),
        };
        let mut failure = None;
        let read = serde_json::Deserializer::from_str(text.get()).deserialize_seq(AllRows {
            columns: &mut columns,
            failure: &mut failure,
        });
        match (failure, read) {
            (Some(failure), _) => Err(failure),
            (None, Err(error)) => Err(JsonError::new(&error, text.get().as_bytes()).into()),
            (None, Ok(())) => Ok(columns.finish()),
        }
    }
}

/// The outer array. Failures leave through `failure`, since serde's own are only text.
struct AllRows<'a, 'm> {
    columns: &'a mut Columns<'m>,
    failure: &'a mut Option<RowsError>,
}

impl<'de> Visitor<'de> for AllRows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq
            .next_element_seed(OneRow {
                columns: self.columns,
                failure: self.failure,
            })?
            .is_some()
        {}
        Ok(())
    }
}

struct OneRow<'a, 'm> {
    columns: &'a mut Columns<'m>,
    failure: &'a mut Option<RowsError>,
}

impl OneRow<'_, '_> {
    fn done<E: de::Error>(self, result: Result<(), RowsError>) -> Result<(), E> {
        result.map_err(|error| {
            *self.failure = Some(error);
            E::custom("see the failure")
        })
    }

    fn not_a_row<E: de::Error>(self, got: &'static str) -> Result<(), E> {
        let error = RowsError::Row {
            place: self.columns.place(),
            got,
            expected: if self.columns.has_header() {
                "an array of values"
            } else {
                "an object from column to value"
            },
        };
        self.done(Err(error))
    }
}

impl<'de> DeserializeSeed<'de> for OneRow<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneRow<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.columns.has_header() {
            return self.not_a_row("an object");
        }
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            let cell = map.next_value::<Cell<'_>>()?;
            if let Err(error) = self.columns.push_named(&name, cell) {
                return self.done(Err(error));
            }
        }
        let ended = self.columns.end_row();
        self.done(ended)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if !self.columns.has_header() {
            return self.not_a_row("an array");
        }
        while let Some(cell) = seq.next_element::<Cell<'_>>()? {
            if let Err(error) = self.columns.push_next(cell) {
                return self.done(Err(error));
            }
        }
        let ended = self.columns.end_row();
        self.done(ended)
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.not_a_row("null")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.not_a_row("a truth value")
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.not_a_row("a number")
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.not_a_row("a number")
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.not_a_row("a number")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.not_a_row("a text")
    }
}

#[cfg(test)]
mod tests;

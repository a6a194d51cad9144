//! JSON lines: one object a line.
//!
//! Owns: keys, and how values become cells. Must not know: where pieces are cut.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::cells::{CellFault, Cells};
use super::csv::Cutter;
use super::{COLUMNS_MAX, Part, Table, TextRules};
use crate::error::{PrepError, ReadFault, excerpt};

/// The columns and types: every key of the first piece, in order of appearance.
pub(super) fn guess(
    table: &Table,
    declared: &BTreeMap<String, DataType>,
) -> Result<Vec<Field>, PrepError> {
    let file = &table.files[0];
    let mut names: Vec<String> = Vec::new();
    let mut kinds: HashMap<String, Option<DataType>> = HashMap::new();
    let sample = Cutter::open(file, false)?.next(file)?;
    let Some(Part::Text { bytes, .. }) = &sample else {
        return Err(file.wrong(ReadFault::Empty));
    };
    for line in bytes.split(|byte| *byte == b'\n') {
        // Broken lines are found when the rows are read.
        let Ok(object) = serde_json::from_slice::<crate::Named<serde_json::Value>>(line) else {
            continue;
        };
        for (name, value) in object.0 {
            let kind = kind_of(&value, &table.rules);
            if let Some(known) = kinds.get_mut(&name) {
                *known = widest(known.take(), kind);
                continue;
            }
            if names.len() == COLUMNS_MAX {
                return Err(file.wrong(ReadFault::TooManyColumns { limit: COLUMNS_MAX }));
            }
            names.push(name.clone());
            kinds.insert(name, kind);
        }
    }
    if names.is_empty() {
        let fault = ReadFault::Json("its first lines are none".to_owned());
        return Err(file.wrong(fault));
    }
    let fields = names.iter().map(|name| {
        let guessed = kinds.remove(name).flatten().unwrap_or(DataType::Utf8);
        Field::new(name, declared.get(name).cloned().unwrap_or(guessed), true)
    });
    Ok(fields.collect())
}

fn kind_of(value: &serde_json::Value, rules: &TextRules) -> Option<DataType> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::Bool(_) => Some(DataType::Boolean),
        serde_json::Value::Number(number) if number.is_i64() => Some(DataType::Int64),
        serde_json::Value::Number(_) => Some(DataType::Float64),
        serde_json::Value::String(text) if rules.nulls.iter().any(|null| null == text) => None,
        _ => Some(DataType::Utf8),
    }
}

fn widest(a: Option<DataType>, b: Option<DataType>) -> Option<DataType> {
    match (a, b) {
        (None, kind) | (kind, None) => kind,
        (Some(a), Some(b)) if a == b => Some(a),
        (Some(DataType::Int64 | DataType::Float64), Some(DataType::Int64 | DataType::Float64)) => {
            Some(DataType::Float64)
        }
        _ => Some(DataType::Utf8),
    }
}

/// These columns of whole lines.
pub(super) fn decode(
    table: &Table,
    bytes: &[u8],
    columns: &[usize],
) -> Result<RecordBatch, (usize, ReadFault)> {
    let rows = memchr::memchr_iter(b'\n', bytes).count() + 1;
    let mut row = Row {
        places: HashMap::new(),
        cells: Vec::with_capacity(columns.len()),
        rules: &table.rules,
        rows: 0,
        fault: None,
    };
    for (at, &column) in columns.iter().enumerate() {
        let field = table.schema.field(column);
        row.places.insert(field.name(), (at, field.data_type()));
        row.cells.push(Cells::new(field.data_type(), rows));
    }
    let mut start = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        let at = start;
        start += line.len() + 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut reader = serde_json::Deserializer::from_slice(line);
        let read = reader.deserialize_map(&mut row).and_then(|()| reader.end());
        if let Some(fault) = row.fault.take() {
            return Err((at, fault));
        }
        if let Err(error) = read {
            return Err((at, ReadFault::Json(excerpt(&error.to_string()))));
        }
        row.rows += 1;
        let rows = row.rows;
        for cells in row.cells.iter_mut().filter(|cells| cells.len() < rows) {
            cells.push_missing();
        }
    }
    let options =
        datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(row.rows));
    let arrays = row.cells.into_iter().map(Cells::finish).collect();
    let batch = RecordBatch::try_new_with_options(table.projected(columns), arrays, &options);
    Ok(batch.expect("invariant: the cells have the schema's types and one length"))
}

/// Takes one object's values into the cells.
struct Row<'a> {
    places: HashMap<&'a str, (usize, &'a DataType)>,
    cells: Vec<Cells>,
    rules: &'a TextRules,
    rows: usize,
    fault: Option<ReadFault>,
}

impl<'de> Visitor<'de> for &mut Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let Some(&(at, data_type)) = self.places.get(key.as_ref()) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if self.cells[at].len() > self.rows {
                return Err(serde::de::Error::custom(format!(
                    "`{}` is there twice",
                    excerpt(&key)
                )));
            }
            let cell = Cell {
                cells: &mut self.cells[at],
                rules: self.rules,
            };
            if let Err((fault, shown)) = map.next_value_seed(cell)? {
                self.fault = Some(match fault {
                    Refused::Cell(fault) => fault.of(&key, data_type, shown.as_bytes()),
                    Refused::Nested(kind) => ReadFault::Nested {
                        column: excerpt(&key),
                        kind,
                    },
                });
                return Err(serde::de::Error::custom("a value does not fit"));
            }
        }
        Ok(())
    }
}

enum Refused {
    Cell(CellFault),
    Nested(&'static str),
}

struct Cell<'a> {
    cells: &'a mut Cells,
    rules: &'a TextRules,
}

type Taken = Result<(), (Refused, String)>;

fn taken(result: Result<(), CellFault>, shown: impl FnOnce() -> String) -> Taken {
    result.map_err(|fault| (Refused::Cell(fault), shown()))
}

impl<'de> DeserializeSeed<'de> for Cell<'_> {
    type Value = Taken;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Taken, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_> {
    type Value = Taken;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Taken, E> {
        self.cells.push_missing();
        Ok(Ok(()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Taken, E> {
        Ok(taken(self.cells.push_bool(value), || value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Taken, E> {
        Ok(taken(self.cells.push_int(value), || value.to_string()))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "beyond 63 bits a number is a float"
    )]
    fn visit_u64<E>(self, value: u64) -> Result<Taken, E> {
        let pushed = match i64::try_from(value) {
            Ok(value) => self.cells.push_int(value),
            Err(_) => self.cells.push_float(value as f64),
        };
        Ok(taken(pushed, || value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Taken, E> {
        Ok(taken(self.cells.push_float(value), || value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Taken, E> {
        Ok(taken(self.cells.push(value.as_bytes(), self.rules), || {
            value.to_owned()
        }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Taken, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Err((Refused::Nested("a list"), String::new())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Taken, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Err((Refused::Nested("an object"), String::new())))
    }
}

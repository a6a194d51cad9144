//! Rows of data on their way to an endpoint, and its predictions on their way
//! out: CSV and JSON, a batch at a time, in the form and order they came in.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, Write};
use std::path::Path;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::commands::data::unreadable;
use crate::failure::Failure;
use crate::output::count;

/// How rows are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The first line names the columns.
    Csv,
    /// One array of objects.
    JsonArray,
    /// One object after the other.
    JsonLines,
}

/// Rows as an endpoint takes them.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Batch {
    /// Lines of a table.
    Table {
        columns: Vec<String>,
        data: Vec<Vec<String>>,
    },
    /// Objects.
    Objects { rows: Vec<Row> },
}

impl Batch {
    /// How many rows it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Table { data, .. } => data.len(),
            Self::Objects { rows } => rows.len(),
        }
    }
}

/// One object with its keys in the order they came in, and its values untouched.
#[derive(Debug)]
pub(crate) struct Row(Vec<(String, Box<RawValue>)>);

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowVisitor;

        impl<'de> Visitor<'de> for RowVisitor {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object: one row, with its columns as keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Row(fields))
            }
        }

        deserializer.deserialize_map(RowVisitor)
    }
}

/// How rows are read.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    /// What the source is called.
    pub(crate) name: &'a str,
    /// How many rows go into a batch.
    pub(crate) batch: usize,
    /// Columns to leave out.
    pub(crate) drop: &'a [String],
}

/// Tells the form from the file's name, else from its first character.
pub(crate) fn form_of(name: &str, source: &mut dyn BufRead) -> Result<Form, Failure> {
    let first = first_character(name, source)?;
    let by_name = |ending: &str| name.to_ascii_lowercase().ends_with(ending);
    Ok(match first {
        None => return Err(Failure::invalid(format!("`{name}` is empty"))),
        Some(b'[') if !by_name(".csv") => Form::JsonArray,
        Some(b'{') if !by_name(".csv") => Form::JsonLines,
        Some(_) if by_name(".json") || by_name(".jsonl") || by_name(".ndjson") => {
            return Err(Failure::invalid(format!(
                "`{name}` is not JSON rows: write an array of objects, or one object a line"
            )));
        }
        Some(_) => Form::Csv,
    })
}

/// The first character that is not blank; blanks and a byte order mark before it are taken away.
fn first_character(name: &str, source: &mut dyn BufRead) -> Result<Option<u8>, Failure> {
    loop {
        let buffer = source.fill_buf().map_err(unreadable(Path::new(name)))?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let mark: &[u8] = "\u{feff}".as_bytes();
        if buffer.starts_with(mark) {
            source.consume(mark.len());
            continue;
        }
        match buffer.iter().position(|byte| !byte.is_ascii_whitespace()) {
            Some(at) => {
                let first = buffer[at];
                source.consume(at);
                return Ok(Some(first));
            }
            None => {
                let length = buffer.len();
                source.consume(length);
            }
        }
    }
}

/// Gives the rows of `source` to `each`, a batch at a time.
pub(crate) fn for_each_batch(
    source: &mut dyn BufRead,
    form: Form,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Batch) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match form {
        Form::Csv => csv_batches(source, reading, each),
        Form::JsonArray | Form::JsonLines => json_batches(source, form, reading, each),
    }
}

fn csv_batches(
    source: &mut dyn BufRead,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Batch) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let bad = |error: csv::Error| Failure::invalid(format!("`{}`{}", reading.name, told(&error)));
    let head = source
        .fill_buf()
        .map_err(unreadable(Path::new(reading.name)))?;
    // As trainings find it out.
    let separator = lepton_ml::tabular::separator(head);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .from_reader(source);
    let headers = reader.headers().map_err(bad)?.clone();
    let dropped: BTreeSet<_> = reading.drop.iter().map(String::as_str).collect();
    if let Some(absent) = dropped
        .iter()
        .find(|name| !headers.iter().any(|header| header == **name))
    {
        return Err(no_such_column(
            reading.name,
            absent,
            &headers.iter().collect::<Vec<_>>(),
        ));
    }
    let kept: Vec<bool> = headers.iter().map(|name| !dropped.contains(name)).collect();
    let keep = |record: &csv::StringRecord| -> Vec<String> {
        let fields = record.iter().zip(&kept);
        fields
            .filter(|(_, kept)| **kept)
            .map(|(field, _)| field.to_owned())
            .collect()
    };
    let columns = keep(&headers);
    let mut data = Vec::with_capacity(reading.batch);
    for record in reader.records() {
        data.push(keep(&record.map_err(bad)?));
        if data.len() == reading.batch {
            let columns = columns.clone();
            each(Batch::Table {
                columns,
                data: std::mem::take(&mut data),
            })?;
        }
    }
    if data.is_empty() {
        return Ok(());
    }
    each(Batch::Table { columns, data })
}

/// What is wrong in a CSV, in words, with its line.
fn told(error: &csv::Error) -> String {
    let line = |at: &Option<csv::Position>| {
        at.as_ref()
            .map_or_else(String::new, |at| format!(", line {}", at.line()))
    };
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => format!(
            "{}: {} where the header has {expected_len}",
            line(pos),
            count(*len, "field")
        ),
        csv::ErrorKind::Utf8 { pos, .. } => {
            format!("{}: not UTF-8: save the file as UTF-8", line(pos))
        }
        _ => format!(": {error}"),
    }
}

fn no_such_column(name: &str, absent: &str, known: &[&str]) -> Failure {
    Failure::invalid(format!(
        "`{name}` has no column `{absent}` to drop: it has {}",
        known
            .iter()
            .take(20)
            .map(|column| format!("`{column}`"))
            .collect::<Vec<_>>()
            .join(", ")
    ))
}

fn json_batches(
    source: &mut dyn BufRead,
    form: Form,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Batch) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut collector = Collector {
        rows: Vec::new(),
        reading,
        each,
        failure: None,
    };
    let mut json = serde_json::Deserializer::from_reader(source);
    let outcome = match form {
        Form::JsonArray => (&mut collector)
            .deserialize(&mut json)
            .and_then(|()| json.end()),
        _ => json.into_iter::<Row>().try_for_each(|row| {
            collector
                .take(row?)
                .map_err(|()| serde::de::Error::custom("stopped"))
        }),
    };
    if let Some(failure) = collector.failure {
        return Err(failure);
    }
    outcome.map_err(|error| Failure::invalid(format!("`{}`: {error}", reading.name)))?;
    collector.give()
}

/// Takes rows one by one and gives them on a batch at a time.
struct Collector<'a> {
    rows: Vec<Row>,
    reading: &'a Reading<'a>,
    each: &'a mut dyn FnMut(Batch) -> Result<(), Failure>,
    failure: Option<Failure>,
}

impl Collector<'_> {
    /// `Err` says to stop; the reason is in `failure`.
    fn take(&mut self, mut row: Row) -> Result<(), ()> {
        row.0.retain(|(key, _)| !self.reading.drop.contains(key));
        self.rows.push(row);
        if self.rows.len() < self.reading.batch {
            return Ok(());
        }
        self.give().map_err(|failure| self.failure = Some(failure))
    }

    fn give(&mut self) -> Result<(), Failure> {
        if self.rows.is_empty() {
            return Ok(());
        }
        (self.each)(Batch::Objects {
            rows: std::mem::take(&mut self.rows),
        })
    }
}

impl<'de> DeserializeSeed<'de> for &mut Collector<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Collector<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(row) = seq.next_element()? {
            self.take(row)
                .map_err(|()| serde::de::Error::custom("stopped"))?;
        }
        Ok(())
    }
}

/// Writes predictions as they come, in one form.
pub(crate) struct PredictionWriter<W: Write> {
    out: W,
    form: Form,
    columns: Option<Vec<String>>,
    written: u64,
}

impl<W: Write> PredictionWriter<W> {
    pub(crate) fn new(out: W, form: Form) -> Self {
        Self {
            out,
            form,
            columns: None,
            written: 0,
        }
    }

    pub(crate) fn write(&mut self, predictions: &[Value]) -> Result<(), Failure> {
        for prediction in predictions {
            match self.form {
                Form::Csv => self.write_csv(prediction)?,
                Form::JsonLines => writeln!(self.out, "{prediction}")?,
                Form::JsonArray => {
                    let before = if self.written == 0 { "[\n  " } else { ",\n  " };
                    write!(self.out, "{before}{prediction}")?;
                }
            }
            self.written += 1;
        }
        self.out.flush()?;
        Ok(())
    }

    /// Ends what was begun; gives the number of predictions.
    pub(crate) fn finish(mut self) -> Result<u64, Failure> {
        if self.form == Form::JsonArray {
            let end = if self.written == 0 { "[]" } else { "\n]" };
            writeln!(self.out, "{end}")?;
        }
        self.out.flush()?;
        Ok(self.written)
    }

    fn write_csv(&mut self, prediction: &Value) -> Result<(), Failure> {
        let mut fields = Vec::new();
        flatten("", prediction, &mut fields);
        let columns: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
        let known = match &self.columns {
            Some(known) => known,
            None => {
                write_record(&mut self.out, &columns)?;
                self.columns.insert(columns)
            }
        };
        let values: Vec<String> = known
            .iter()
            .map(|column| {
                let found = fields.iter().find(|(name, _)| name == column);
                found.map(|(_, value)| value.clone()).unwrap_or_default()
            })
            .collect();
        write_record(&mut self.out, &values)
    }
}

fn write_record<W: Write>(out: &mut W, fields: &[String]) -> Result<(), Failure> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    let broken = |error: csv::Error| Failure::Output(std::io::Error::other(error));
    writer.write_record(fields).map_err(broken)?;
    let line = writer
        .into_inner()
        .map_err(|error| Failure::Output(std::io::Error::other(error.to_string())))?;
    out.write_all(&line)?;
    Ok(())
}

/// `{"label": "a", "probabilities": {"a": 0.9}}` is `label` and `probabilities.a`.
fn flatten(path: &str, value: &Value, into: &mut Vec<(String, String)>) {
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&below(key), value, into);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                flatten(&below(&index.to_string()), value, into);
            }
        }
        leaf => {
            let text = match leaf {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let name = if path.is_empty() { "prediction" } else { path };
            into.push((name.to_owned(), text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(text: &str, name: &str, drop: &[&str], batch: usize) -> Result<Vec<String>, String> {
        let mut source = text.as_bytes();
        let drop: Vec<_> = drop.iter().map(ToString::to_string).collect();
        let reading = Reading {
            name,
            batch,
            drop: &drop,
        };
        let mut seen = Vec::new();
        form_of(name, &mut source)
            .and_then(|form| {
                for_each_batch(&mut source, form, &reading, &mut |batch| {
                    seen.push(serde_json::to_string(&batch).unwrap());
                    Ok(())
                })
            })
            .map(|()| seen)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn csv_goes_in_batches_without_what_is_dropped() {
        let text = "\u{feff}a,y,b\n1,0,x\n2,1,\n3,0,\"z,w\"\n";
        assert_eq!(
            batches(text, "r.csv", &["y"], 2).unwrap(),
            [
                r#"{"columns":["a","b"],"data":[["1","x"],["2",""]]}"#,
                r#"{"columns":["a","b"],"data":[["3","z,w"]]}"#
            ]
        );
        let error = batches(text, "r.csv", &["z"], 2).unwrap_err();
        insta::assert_snapshot!(error, @"`r.csv` has no column `z` to drop: it has `a`, `y`, `b`");
    }

    #[test]
    fn the_separator_is_found_out() {
        for text in ["a;b\n1;2\n", "a\tb\n1\t2\n", "a|b\n1|2\n", "\"a\",b\n1,2\n"] {
            assert_eq!(
                batches(text, "r.csv", &[], 2).unwrap(),
                [r#"{"columns":["a","b"],"data":[["1","2"]]}"#]
            );
        }
        let one = batches("\"a;b\"\n1\n", "r.csv", &[], 2).unwrap();
        assert_eq!(one, [r#"{"columns":["a;b"],"data":[["1"]]}"#]);
    }

    #[test]
    fn json_keeps_its_order_and_its_numbers() {
        let array = r#" [{"b": 1.50, "a": null}, {"b": 2, "a": "x"}, {"b": 1e3, "a": "y"}] "#;
        let lines =
            "{\"b\": 1.50, \"a\": null}\n{\"b\": 2, \"a\": \"x\"}\n{\"b\": 1e3, \"a\": \"y\"}\n";
        let expected = [
            r#"{"rows":[{"b":1.50,"a":null},{"b":2,"a":"x"}]}"#,
            r#"{"rows":[{"b":1e3,"a":"y"}]}"#,
        ];
        assert_eq!(batches(array, "-", &[], 2).unwrap(), expected);
        assert_eq!(batches(lines, "-", &[], 2).unwrap(), expected);
    }

    #[test]
    fn what_is_no_rows_says_so() {
        insta::assert_snapshot!(batches("", "-", &[], 2).unwrap_err(), @"`-` is empty");
        insta::assert_snapshot!(batches("[1]", "-", &[], 2).unwrap_err(), @"`-`: invalid type: integer `1`, expected an object: one row, with its columns as keys at line 1 column 3");
        insta::assert_snapshot!(batches("a,b\n1\n", "r.csv", &[], 2).unwrap_err(), @"`r.csv`, line 2: 1 field where the header has 2");
        insta::assert_snapshot!(batches("a,b\n1,2\n", "r.json", &[], 2).unwrap_err(), @"`r.json` is not JSON rows: write an array of objects, or one object a line");
    }

    fn written(form: Form, predictions: &[Value]) -> String {
        let mut out = Vec::new();
        let mut writer = PredictionWriter::new(&mut out, form);
        for one in predictions {
            writer.write(std::slice::from_ref(one)).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn predictions_come_out_in_each_form() {
        let classes = [
            serde_json::json!({"label": "a", "probabilities": {"a": 0.9, "b": 0.1}}),
            serde_json::json!({"label": "b", "probabilities": {"a": 0.2, "b": 0.8}}),
        ];
        insta::assert_snapshot!(written(Form::Csv, &classes), @r"
        label,probabilities.a,probabilities.b
        a,0.9,0.1
        b,0.2,0.8
        ");
        insta::assert_snapshot!(written(Form::JsonArray, &classes), @r#"
        [
          {"label":"a","probabilities":{"a":0.9,"b":0.1}},
          {"label":"b","probabilities":{"a":0.2,"b":0.8}}
        ]
        "#);
        insta::assert_snapshot!(written(Form::JsonLines, &classes[..1]), @r#"{"label":"a","probabilities":{"a":0.9,"b":0.1}}"#);
        assert_eq!(written(Form::JsonArray, &[]), "[]\n");
    }
}

//! CSV to a frame, in bounded memory.
//!
//! Owns: records, separators, the spelling of missing values, type inference. Must
//! not know: what the columns are for.

use std::collections::HashSet;
use std::io::Read;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::frame::{Column, ColumnType, DuplicateColumn, Frame, TextBuilder};
use super::read::{ReadError, ReadFault, ReadLimits, ReadOptions, Source, same_columns};
use super::summary::{ColumnSummary, TableSummary};

/// Bytes read from a file at a time.
const CHUNK_BYTES: usize = 64 << 10;

pub(super) fn read(sources: &[Source], options: &ReadOptions) -> Result<Frame, ReadError> {
    let survey = survey(sources, options)?;
    let mut builders: Vec<Builder> = survey
        .names
        .iter()
        .zip(&survey.text)
        .map(|(name, &text)| match options.types.get(name) {
            Some(ColumnType::Number) => Builder::Number(Vec::with_capacity(survey.rows)),
            Some(ColumnType::Text) => Builder::Text(TextBuilder::default()),
            None if text => Builder::Text(TextBuilder::default()),
            None => Builder::Number(Vec::with_capacity(survey.rows)),
        })
        .collect();
    for source in sources {
        let mut records = Records::open(source, options.limits)?;
        records.next()?;
        while records.next()? {
            for (at, builder) in builders.iter_mut().enumerate() {
                let fault = builder.push(records.field(at), &survey.names[at], options.limits);
                fault.map_err(|fault| fault.at(source, Some(records.line)))?;
            }
        }
    }
    let columns = survey
        .names
        .into_iter()
        .zip(builders.into_iter().map(Builder::finish))
        .collect();
    Frame::new(columns).map_err(|e| ReadFault::Duplicate(e).at(&sources[0], Some(1)))
}

/// Tells what the files hold, a record at a time.
pub(super) fn summarise(sources: &[Source]) -> Result<TableSummary, ReadError> {
    let limits = ReadLimits {
        cells: usize::MAX,
        ..ReadLimits::default()
    };
    let survey = survey(
        sources,
        &ReadOptions {
            limits,
            ..ReadOptions::default()
        },
    )?;
    let columns = survey
        .names
        .into_iter()
        .zip(survey.text)
        .zip(survey.missing);
    let columns = columns.map(|((name, text), missing)| ColumnSummary {
        name,
        column_type: if text {
            ColumnType::Text
        } else {
            ColumnType::Number
        },
        missing,
    });
    Ok(TableSummary {
        rows: survey.rows as u64,
        columns: columns.collect(),
    })
}

/// What a first reading tells.
struct Survey {
    names: Vec<String>,
    /// Which columns hold a value that is no number.
    text: Vec<bool>,
    /// How many rows have no value, by column.
    missing: Vec<u64>,
    rows: usize,
}

fn survey(sources: &[Source], options: &ReadOptions) -> Result<Survey, ReadError> {
    let mut survey = Survey {
        names: Vec::new(),
        text: Vec::new(),
        missing: Vec::new(),
        rows: 0,
    };
    for (index, source) in sources.iter().enumerate() {
        let mut records = Records::open(source, options.limits)?;
        if !records.next()? {
            return Err(ReadFault::Empty.at(source, None));
        }
        let names = header(&records).map_err(|fault| fault.at(source, Some(1)))?;
        if index == 0 {
            survey.text = vec![false; names.len()];
            survey.missing = vec![0; names.len()];
            survey.names = names;
        } else {
            same_columns((&sources[0], &survey.names), (source, &names))?;
        }
        let before = survey.rows;
        while records.next()? {
            records.check_width(survey.names.len())?;
            survey.rows += 1;
            if survey.rows.saturating_mul(survey.names.len()) > options.limits.cells {
                let fault = ReadFault::TooManyCells {
                    limit: options.limits.cells,
                };
                return Err(fault.at(source, Some(records.line)));
            }
            for (at, (text, missing)) in survey.text.iter_mut().zip(&mut survey.missing).enumerate()
            {
                match cell(records.field(at)) {
                    Cell::Missing => *missing += 1,
                    Cell::Text(_) => *text = true,
                    Cell::Number(_) => {}
                }
            }
        }
        if survey.rows == before && sources.len() == 1 {
            return Err(ReadFault::NoRows.at(source, None));
        }
    }
    if survey.rows == 0 {
        return Err(ReadFault::NoRows.at(&sources[0], None));
    }
    Ok(survey)
}

/// The columns' names; a column without one is called by its position, from 1.
fn header(records: &Records<'_>) -> Result<Vec<String>, ReadFault> {
    if records.fields() > records.limits.columns {
        return Err(ReadFault::TooManyColumns {
            limit: records.limits.columns,
        });
    }
    let names: Vec<String> = (0..records.fields())
        .map(|at| match records.field(at).trim() {
            "" => format!("column_{}", at + 1),
            name => name.to_owned(),
        })
        .collect();
    if names.len() == 1 && records.field(0).trim().is_empty() {
        return Err(ReadFault::Empty);
    }
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(DuplicateColumn { name: name.clone() }.into()),
        None => Ok(names),
    }
}

/// What a field says.
#[derive(Debug, PartialEq)]
enum Cell<'a> {
    Missing,
    Number(f64),
    Text(&'a str),
}

/// Reads one field. Numbers are written as Rust's `f64` reads them, `inf` included:
/// whether an infinite value may be used is for the trainer to say.
fn cell(field: &str) -> Cell<'_> {
    let field = field.trim();
    if is_missing(field) {
        return Cell::Missing;
    }
    field.parse().map_or(Cell::Text(field), Cell::Number)
}

/// Whether a trimmed text is one of the spellings of a missing value.
fn is_missing(text: &str) -> bool {
    const SPELLINGS: [&str; 6] = ["na", "n/a", "nan", "null", "none", "#n/a"];
    text.is_empty()
        || text == "?"
        || (text.len() <= 4 && SPELLINGS.iter().any(|s| text.eq_ignore_ascii_case(s)))
}

enum Builder {
    Number(Vec<f64>),
    Text(TextBuilder),
}

impl Builder {
    fn push(&mut self, field: &str, name: &str, limits: ReadLimits) -> Result<(), ReadFault> {
        match (self, cell(field)) {
            (Self::Number(values), Cell::Number(value)) => values.push(value),
            (Self::Number(values), Cell::Missing) => values.push(f64::NAN),
            (Self::Number(_), Cell::Text(text)) => {
                let value = text.chars().take(64).collect();
                return Err(ReadFault::NotANumber {
                    column: name.to_owned(),
                    value,
                });
            }
            (Self::Text(texts), Cell::Missing) => texts.push(None),
            (Self::Text(texts), _) => {
                texts.push(Some(field.trim()));
                if texts.bytes() > limits.text_bytes {
                    let limit = limits.text_bytes;
                    return Err(ReadFault::TooMuchText {
                        column: name.to_owned(),
                        limit,
                    });
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Column {
        match self {
            Self::Number(values) => Column::Number(values),
            Self::Text(texts) => Column::Text(texts.finish()),
        }
    }
}

/// The records of one source, one at a time in one reused buffer.
struct Records<'a> {
    source: &'a Source,
    limits: ReadLimits,
    input: Box<dyn Read + 'a>,
    parser: Reader,
    chunk: Vec<u8>,
    /// The part of `chunk` that is not parsed yet.
    unread: std::ops::Range<usize>,
    /// Whether the input has ended.
    ended: bool,
    text: String,
    ends: Vec<usize>,
    fields: usize,
    /// The line on which the current record begins, from 1.
    line: u64,
}

impl<'a> Records<'a> {
    fn open(source: &'a Source, limits: ReadLimits) -> Result<Self, ReadError> {
        let input = source
            .open()
            .map_err(|e| ReadFault::Io(e).at(source, None))?;
        let mut records = Self {
            source,
            limits,
            input,
            parser: Reader::new(),
            chunk: vec![0; CHUNK_BYTES],
            unread: 0..0,
            ended: false,
            text: String::new(),
            ends: vec![0; 64],
            fields: 0,
            line: 1,
        };
        records.fill()?;
        let separator = separator(&records.chunk[records.unread.clone()]);
        records.parser = ReaderBuilder::new().delimiter(separator).build();
        Ok(records)
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        let mut filled = 0;
        while filled < self.chunk.len() {
            match self.input.read(&mut self.chunk[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => filled += count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.fault(ReadFault::Io(e))),
            }
        }
        self.unread = 0..filled;
        Ok(())
    }

    /// Moves to the next record; false at the end.
    fn next(&mut self) -> Result<bool, ReadError> {
        let mut out = std::mem::take(&mut self.text).into_bytes();
        out.resize(out.capacity().max(1 << 10), 0);
        let (mut written, mut ended_fields) = (0, 0);
        // Blank lines before a record belong to none.
        self.line = self.parser.line();
        loop {
            if self.unread.is_empty() && !self.ended {
                self.fill()?;
            }
            let input = &self.chunk[self.unread.clone()];
            if written == 0 && ended_fields == 0 {
                let blank = input.iter().take_while(|b| matches!(b, b'\n' | b'\r'));
                self.line = self.parser.line() + blank.filter(|b| **b == b'\n').count() as u64;
            }
            let (result, read, wrote, ends) =
                self.parser
                    .read_record(input, &mut out[written..], &mut self.ends[ended_fields..]);
            self.unread.start += read;
            written += wrote;
            ended_fields += ends;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => out.resize(out.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(false),
            }
            if written > self.limits.record_bytes {
                let limit = self.limits.record_bytes;
                return Err(self.fault(ReadFault::RecordTooLong { limit }));
            }
            if ended_fields > self.limits.columns {
                let limit = self.limits.columns;
                return Err(self.fault(ReadFault::TooManyColumns { limit }));
            }
        }
        out.truncate(written);
        self.fields = ended_fields;
        self.text = String::from_utf8(out).map_err(|e| {
            let offset = e.utf8_error().valid_up_to();
            self.fault(ReadFault::NotUtf8 { offset })
        })?;
        // A boundary inside a character cannot be: separators are ASCII.
        Ok(true)
    }

    fn fields(&self) -> usize {
        self.fields
    }

    fn field(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start..self.ends[at]]
    }

    fn check_width(&self, expected: usize) -> Result<(), ReadError> {
        if self.fields == expected {
            return Ok(());
        }
        Err(self.fault(ReadFault::Ragged {
            found: self.fields,
            expected,
        }))
    }

    fn fault(&self, fault: ReadFault) -> ReadError {
        fault.at(self.source, Some(self.line))
    }
}

/// The most frequent separator of the first line of a CSV, outside quotes; the comma on a tie.
#[must_use]
pub fn separator(start: &[u8]) -> u8 {
    const SEPARATORS: [u8; 4] = *b",;\t|";
    let mut counts = [0_usize; SEPARATORS.len()];
    let mut quoted = false;
    for &byte in start {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => break,
            _ if quoted => {}
            _ => {
                if let Some(at) = SEPARATORS.iter().position(|s| *s == byte) {
                    counts[at] += 1;
                }
            }
        }
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    let at = counts.iter().position(|&count| count == most).unwrap_or(0);
    SEPARATORS[at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: impl Into<Vec<u8>>) -> Result<Frame, ReadError> {
        read(
            &[Source::bytes("t.csv", text.into())],
            &ReadOptions::default(),
        )
    }

    fn refusal(text: impl Into<Vec<u8>>) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn types_are_inferred_and_missing_values_kept() {
        let frame = parse("a,b,c\n1,x,\n,NA,2\n 3.5 ,\"y, z\",nan\n").unwrap();
        assert_eq!(frame.rows(), 3);
        let a = frame.column("a").unwrap();
        assert_eq!(
            (a.column_type(), a.text(2), a.is_missing(1)),
            (ColumnType::Number, Some("3.5".into()), true)
        );
        let b = frame.column("b").unwrap();
        assert_eq!(
            (b.text(0), b.text(1), b.text(2)),
            (Some("x".into()), None, Some("y, z".into()))
        );
        assert_eq!(frame.column("c").unwrap().column_type(), ColumnType::Number);
    }

    #[test]
    fn a_late_text_keeps_the_spelling_of_earlier_numbers() {
        let frame = parse("zip\n007\n1.0\nA1\n").unwrap();
        assert_eq!(frame.column("zip").unwrap().text(0).as_deref(), Some("007"));
    }

    #[test]
    fn separators_are_recognised() {
        for text in ["a;b\n1;2,5\n", "a\tb\n1\t2,5\n", "a|b\n1|2,5\n"] {
            let frame = parse(text).unwrap();
            assert_eq!(frame.names(), ["a", "b"]);
            assert_eq!(frame.column("b").unwrap().text(0).as_deref(), Some("2,5"));
        }
    }

    #[test]
    fn bad_files_are_refused_with_their_line() {
        assert_eq!(refusal(""), "`t.csv`: the file is empty");
        assert_eq!(refusal("\n\n"), "`t.csv`: the file is empty");
        assert_eq!(
            refusal("a,b\n"),
            "`t.csv`: the file has a header but no rows"
        );
        assert_eq!(
            refusal("a,b\n1,2\n3\n"),
            "`t.csv`, line 3: 1 fields where the header has 2"
        );
        assert_eq!(
            refusal("a,b\n\n\n1,2,3\n"),
            "`t.csv`, line 4: 3 fields where the header has 2"
        );
        assert_eq!(
            refusal("a,a\n1,2\n"),
            "`t.csv`, line 1: two columns are called `a`"
        );
        assert_eq!(
            refusal(b"a,b\n1,x\n2,\xff\n".to_vec()),
            "`t.csv`, line 3: not UTF-8 at byte 1 of the line: save the file as UTF-8"
        );
    }

    #[test]
    fn a_column_of_known_type_is_held_to_it() {
        let source = [Source::bytes("t.csv", "a,b\n1,2\nx,3\n")];
        let types = [("a".to_owned(), ColumnType::Number)].into();
        let error = read(
            &source,
            &ReadOptions {
                types,
                ..Default::default()
            },
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`t.csv`, line 3: column `a` must be a number, but is `x`"
        );
        let types = [("b".to_owned(), ColumnType::Text)].into();
        let frame = read(
            &source,
            &ReadOptions {
                types,
                ..Default::default()
            },
        )
        .unwrap();
        assert_eq!(frame.column("b").unwrap().column_type(), ColumnType::Text);
    }

    /// A line without end is refused after its bound, not after its end.
    #[test]
    fn an_endless_line_is_refused_early() {
        struct Endless(std::rc::Rc<std::cell::Cell<usize>>);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                buffer.fill(b'x');
                self.0.set(self.0.get() + buffer.len());
                Ok(buffer.len())
            }
        }
        let source = Source::bytes("t.csv", "");
        let limits = ReadLimits::default();
        for opening in ["", "a,b\n1,\""] {
            let served = std::rc::Rc::new(std::cell::Cell::new(0));
            let mut records = Records::open(&source, limits).unwrap();
            records.ended = false;
            records.input = Box::new(opening.as_bytes().chain(Endless(served.clone())));
            let error = loop {
                match records.next() {
                    Ok(more) => assert!(more),
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(error.fault, ReadFault::RecordTooLong { .. }),
                "{error}"
            );
            assert!(
                served.get() < limits.record_bytes + 4 * CHUNK_BYTES,
                "{}",
                served.get()
            );
            assert!(records.text.capacity() <= 4 * limits.record_bytes);
        }
    }

    #[test]
    fn several_files_are_one_table_and_must_agree() {
        let one = Source::bytes("1.csv", "a,b\n1,2\n");
        let two = Source::bytes("2.csv", "a,b\nx,4\n");
        let frame = read(&[one.clone(), two], &ReadOptions::default()).unwrap();
        assert_eq!(
            (frame.rows(), frame.column("a").unwrap().text(0)),
            (2, Some("1".into()))
        );
        let other = Source::bytes("3.csv", "a,c\n5,6\n");
        let error = read(&[one, other], &ReadOptions::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`3.csv`, line 1: the columns differ from those of `1.csv`: `c` where `b` is expected"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(bytes);
        }

        #[test]
        fn what_is_written_is_read(
            cells in proptest::collection::vec("[a-z \",\n;é]{0,6}", 6..40)
        ) {
            let mut text = String::from("a,b,c\n");
            let rows = cells.len() / 3;
            for row in cells.chunks_exact(3) {
                let quoted: Vec<_> = row.iter().map(|c| format!("\"{}\"", c.replace('"', "\"\""))).collect();
                text += &(quoted.join(",") + "\n");
            }
            let frame = parse(text).unwrap();
            prop_assert_eq!(frame.rows(), rows);
            for (at, (_, column)) in frame.iter().enumerate() {
                for row in 0..rows {
                    let written = cells[row * 3 + at].trim();
                    let expected = if is_missing(written) { None } else { Some(written.to_owned()) };
                    let read = column.text(row);
                    // A column of nothing but `nan`s and the like has no texts.
                    prop_assert_eq!(read, expected);
                }
            }
        }
    }
}

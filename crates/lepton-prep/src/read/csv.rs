//! CSV: cutting at records, splitting into fields.
//!
//! Owns: quotes, separators, line ends. Must not know: what cells mean.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field};

use super::cells::{CellFault, Cells, float, int};
use super::{OpenFile, PIECE_BYTES, Part, RECORD_BYTES_MAX, Table, unreadable};
use crate::error::{PrepError, ReadFault};

/// Reads a text file piece by piece, each of whole records.
pub(super) struct Cutter {
    file: File,
    offset: u64,
    rest: Vec<u8>,
    quotes: Option<u8>,
    ended: bool,
}

impl Cutter {
    /// Begins behind the header; `quoted` where line ends may stand in quotes.
    pub(super) fn open(file: &OpenFile, quoted: bool) -> Result<Self, PrepError> {
        let mut handle = File::open(&file.path).map_err(unreadable(&file.name))?;
        handle
            .seek(SeekFrom::Start(file.body))
            .map_err(unreadable(&file.name))?;
        Ok(Self {
            file: handle,
            offset: file.body,
            rest: Vec::new(),
            quotes: quoted.then_some(file.separator),
            ended: false,
        })
    }

    /// The next piece, or nothing at the end.
    pub(super) fn next(&mut self, file: &OpenFile) -> Result<Option<Part>, PrepError> {
        if self.ended {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(PIECE_BYTES + self.rest.len());
        bytes.append(&mut self.rest);
        let read = (&mut self.file)
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut bytes)
            .map_err(unreadable(&file.name))?;
        let offset = self.offset;
        if read < PIECE_BYTES {
            self.ended = true;
        } else {
            let end = last_record_end(&bytes, self.quotes);
            if bytes.len() - end > RECORD_BYTES_MAX {
                return Err(PrepError::Read {
                    file: file.name.clone(),
                    line: line_of(file, offset + end as u64),
                    fault: ReadFault::RecordTooLong {
                        limit: RECORD_BYTES_MAX,
                    },
                });
            }
            self.rest = bytes.split_off(end);
        }
        self.offset += bytes.len() as u64;
        Ok((!bytes.is_empty()).then_some(Part::Text { offset, bytes }))
    }
}

/// Where the last whole record ends. A quote opens at the beginning of a field only.
fn last_record_end(bytes: &[u8], quotes: Option<u8>) -> usize {
    let newline = |bytes: &[u8]| memchr::memrchr(b'\n', bytes).map(|at| at + 1);
    let Some(separator) = quotes else {
        return newline(bytes).unwrap_or(0);
    };
    let mut end = 0;
    let mut at = 0;
    while let Some(quote) = memchr::memchr(b'"', &bytes[at..]).map(|found| at + found) {
        let opens = quote == 0
            || matches!(bytes[quote - 1], b'\n' | b'\r')
            || bytes[quote - 1] == separator;
        if !opens {
            at = quote + 1;
            continue;
        }
        end = newline(&bytes[at..quote]).map_or(end, |found| at + found);
        match closing_quote(bytes, quote + 1) {
            Some(close) => at = close + 1,
            None => return end,
        }
    }
    newline(&bytes[at..]).map_or(end, |found| at + found)
}

/// The quote that ends a field that begins at `from`; doubled ones do not.
fn closing_quote(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let quote = from + memchr::memchr(b'"', &bytes[from..])?;
        match bytes.get(quote + 1) {
            Some(b'"') => from = quote + 2,
            _ => return Some(quote),
        }
    }
}

/// The line of a byte, from 1.
pub(super) fn line_of(file: &OpenFile, offset: u64) -> Option<u64> {
    let mut handle = File::open(&file.path).ok()?;
    let mut left = offset;
    let mut lines = 1;
    let mut buffer = vec![0; 1 << 20];
    while left > 0 {
        let wanted = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = handle.read(&mut buffer[..wanted]).ok()?;
        if read == 0 {
            break;
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
        left -= read as u64;
    }
    Some(lines)
}

/// Reads the first record: the columns' names. Sets where the rows begin, and the separator.
pub(super) fn header(file: &mut OpenFile) -> Result<Vec<String>, PrepError> {
    let mut bytes = Vec::new();
    let handle = File::open(&file.path).map_err(unreadable(&file.name))?;
    handle
        .take(RECORD_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(unreadable(&file.name))?;
    let mark = if bytes.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let blank = bytes[mark..]
        .iter()
        .take_while(|b| b.is_ascii_whitespace())
        .count();
    let start = mark + blank;
    let text = &bytes[start..];
    if text.is_empty() {
        return Err(file.wrong(ReadFault::Empty));
    }
    let line = &text[..memchr::memchr(b'\n', text).unwrap_or(text.len())];
    let count = |separator: u8| memchr::memchr_iter(separator, line).count();
    // Of several as frequent the first.
    file.separator = *[b',', b';', b'\t', b'|']
        .iter()
        .rev()
        .max_by_key(|separator| count(**separator))
        .expect("invariant: there are four");
    let (mut names, mut body) = (Vec::new(), None);
    records(text, file.separator, |event| {
        match event {
            Event::Field(_, field) => names.push(field.to_vec()),
            Event::End { next, .. } => {
                body = Some(next);
                return Ok(false);
            }
        }
        Ok(true)
    })
    .map_err(|(_, fault)| file.wrong(fault))?;
    file.body = (start + body.unwrap_or(text.len())) as u64;
    let texts = names.into_iter().map(|name| {
        let name = String::from_utf8(name).map_err(|_| file.wrong(ReadFault::NotUtf8))?;
        Ok(name.trim().to_owned())
    });
    texts.collect()
}

/// The columns' types, by what stands in the first piece.
pub(super) fn guess(
    table: &Table,
    names: &[String],
    declared: &BTreeMap<String, DataType>,
) -> Result<Vec<Field>, PrepError> {
    let file = &table.files[0];
    let sample = Cutter::open(file, true)?.next(file)?;
    let mut possible = vec![(true, true, false); names.len()];
    if let Some(Part::Text { bytes, .. }) = &sample {
        // Ragged records are found when the rows are read.
        let _found_later = records(bytes, file.separator, |event| {
            if let Event::Field(column, cell) = event
                && let Some((whole, number, seen)) = possible.get_mut(column)
                && (*whole || *number)
            {
                let cell = cell.trim_ascii();
                if !table.rules.nulls.iter().any(|null| null.as_bytes() == cell) {
                    *whole = *whole && int(cell).is_some();
                    *number = *number && (*whole || float(cell).is_some());
                    *seen = true;
                }
            }
            Ok(true)
        });
    }
    let fields = names.iter().zip(possible).map(|(name, possible)| {
        let guessed = match possible {
            (_, _, false) | (_, false, _) => DataType::Utf8,
            (true, ..) => DataType::Int64,
            _ => DataType::Float64,
        };
        let data_type = declared.get(name).cloned().unwrap_or(guessed);
        Field::new(name, data_type, true)
    });
    Ok(fields.collect())
}

/// What is met while text is split.
enum Event<'a> {
    /// A field: its column and its text, without quotes.
    Field(usize, &'a [u8]),
    /// The end of a record: how many fields it had, where it began, where the next one begins.
    End {
        fields: usize,
        start: usize,
        next: usize,
    },
}

/// Where in the text, and what.
type Fault = (usize, ReadFault);

/// Splits text into records, empty lines left out, until `take` has had enough.
fn records(
    bytes: &[u8],
    separator: u8,
    mut take: impl FnMut(Event<'_>) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    let quoted = memchr::memchr(b'"', bytes).is_some();
    let mut scratch = Vec::new();
    let (mut start, mut field, mut column) = (0, 0, 0);
    let (mut marks, mut base) = (memchr::memchr2_iter(separator, b'\n', bytes), 0);
    loop {
        let in_quotes = quoted && bytes.get(field) == Some(&b'"');
        let end = if in_quotes {
            let end = unquote(bytes, separator, field, &mut scratch);
            base = (end + 1).min(bytes.len());
            marks = memchr::memchr2_iter(separator, b'\n', &bytes[base..]);
            end
        } else {
            marks.next().map_or(bytes.len(), |at| base + at)
        };
        let at_line_end = end == bytes.len() || bytes[end] == b'\n';
        let mut text = if in_quotes {
            &scratch[..]
        } else {
            &bytes[field..end]
        };
        if at_line_end && !in_quotes {
            text = text.strip_suffix(b"\r").unwrap_or(text);
        }
        let next = (end + 1).min(bytes.len());
        if at_line_end && column == 0 && text.is_empty() && !in_quotes {
            start = next;
        } else {
            if !take(Event::Field(column, text))? {
                return Ok(());
            }
            column += 1;
            if at_line_end {
                let fields = column;
                if !take(Event::End {
                    fields,
                    start,
                    next,
                })? {
                    return Ok(());
                }
                (start, column) = (next, 0);
            }
        }
        if end == bytes.len() {
            return Ok(());
        }
        field = next;
    }
}

/// Takes the text of a field that begins with a quote; gives where the field ends. What stands
/// behind the closing quote belongs to the field.
fn unquote(bytes: &[u8], separator: u8, field: usize, scratch: &mut Vec<u8>) -> usize {
    scratch.clear();
    let close = closing_quote(bytes, field + 1).unwrap_or(bytes.len());
    let mut inside = &bytes[field + 1..close];
    while let Some(at) = memchr::memchr(b'"', inside) {
        scratch.extend_from_slice(&inside[..=at]);
        inside = &inside[(at + 2).min(inside.len())..];
    }
    scratch.extend_from_slice(inside);
    let after = (close + 1).min(bytes.len());
    let end =
        memchr::memchr2(separator, b'\n', &bytes[after..]).map_or(bytes.len(), |at| after + at);
    scratch.extend_from_slice(bytes[after..end].trim_ascii_end());
    end
}

/// These columns of whole records.
pub(super) fn decode(
    table: &Table,
    separator: u8,
    bytes: &[u8],
    columns: &[usize],
) -> Result<RecordBatch, Fault> {
    let width = table.schema.fields().len();
    let mut place = vec![usize::MAX; width];
    let rows = memchr::memchr_iter(b'\n', bytes).count() + 1;
    let mut cells = Vec::with_capacity(columns.len());
    for (at, &column) in columns.iter().enumerate() {
        place[column] = at;
        cells.push(Cells::new(table.schema.field(column).data_type(), rows));
    }
    let mut count = 0;
    let mut wrong: Option<(usize, CellFault, Vec<u8>)> = None;
    records(bytes, separator, |event| {
        match event {
            Event::Field(column, cell) => {
                let at = place.get(column).copied().unwrap_or(usize::MAX);
                if at != usize::MAX
                    && let Err(fault) = cells[at].push(cell, &table.rules)
                {
                    wrong.get_or_insert_with(|| (column, fault, cell.to_vec()));
                    cells[at].push_missing();
                }
            }
            Event::End { fields, start, .. } => {
                if fields != width {
                    let fault = ReadFault::Ragged {
                        found: fields,
                        expected: width,
                    };
                    return Err((start, fault));
                }
                if let Some((column, fault, cell)) = &wrong {
                    let field = table.schema.field(*column);
                    return Err((start, fault.of(field.name(), field.data_type(), cell)));
                }
                count += 1;
            }
        }
        Ok(true)
    })?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let arrays = cells.into_iter().map(Cells::finish).collect();
    let batch = RecordBatch::try_new_with_options(table.projected(columns), arrays, &options);
    Ok(batch.expect("invariant: the cells have the schema's types and one length"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(bytes: &[u8]) -> Vec<Vec<String>> {
        let (mut all, mut row) = (Vec::new(), Vec::new());
        records(bytes, b',', |event| {
            match event {
                Event::Field(_, field) => row.push(String::from_utf8_lossy(field).into_owned()),
                Event::End { .. } => all.push(std::mem::take(&mut row)),
            }
            Ok(true)
        })
        .unwrap();
        all
    }

    #[test]
    fn fields_are_what_rfc_4180_says() {
        let text = b"a,\"b, \"\"c\"\"\nd\",e\r\n\n,\"\",5\" x\n\"z\",1,";
        let expected = [
            vec!["a", "b, \"c\"\nd", "e"],
            vec!["", "", "5\" x"],
            vec!["z", "1", ""],
        ];
        assert_eq!(split(text), expected);
        assert!(split(b"\n\r\n").is_empty());
    }

    proptest! {
        #[test]
        fn written_rows_are_read_back_wherever_they_are_cut(
            rows in prop::collection::vec(prop::collection::vec("[a\"\n, 5]{0,4}", 3), 1..20),
        ) {
            let quote = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(quote).collect::<Vec<_>>().join(",") + "\n";
            let text: String = rows.iter().map(line).collect();
            prop_assert_eq!(&split(text.as_bytes()), &rows);
            let ends: Vec<usize> = rows.iter().scan(0, |at, row| { *at += line(row).len(); Some(*at) }).collect();
            for cut in 0..text.len() {
                let end = last_record_end(&text.as_bytes()[..cut], Some(b','));
                let whole = ends.iter().copied().filter(|end| *end <= cut).max().unwrap_or(0);
                prop_assert_eq!(end, whole, "cut at {}", cut);
            }
        }
    }
}

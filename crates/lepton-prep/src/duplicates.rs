//! Rows that repeat an earlier one, found in bounded memory.
//!
//! Owns: the digests of all rows, dealt to files by their first bits, and the rows that go. Two
//! rows are the same if 128 bits of their SHA-256 are: among 2^40 rows, two different ones meet
//! with a chance below 2^-48. Must not know: steps.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use datafusion::arrow::array::{ArrayRef, BooleanArray};
use sha2::{Digest, Sha256};

use crate::error::PrepError;
use crate::split::spell;

/// Each file is sorted by itself, so that this divides the memory that is needed.
const FILES: usize = 64;

/// A row's digest and place: 16 + 4 + 4 bytes.
const ENTRY_BYTES: usize = 24;

/// Collects the digests of rows, piece by piece.
#[derive(Debug)]
pub(crate) struct Collector {
    folder: PathBuf,
    files: Vec<BufWriter<File>>,
    /// How many rows each piece has.
    rows: Vec<u32>,
}

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> PrepError + '_ {
    |source| PrepError::Write {
        path: path.to_owned(),
        source,
    }
}

/// The digests of a piece's rows.
pub(crate) fn digests(columns: &[&ArrayRef], rows: usize) -> Vec<[u8; 16]> {
    let mut bytes = Vec::new();
    let digest = |row| {
        spell(columns, row, &mut bytes);
        let whole = Sha256::digest(&bytes);
        let mut half = [0; 16];
        half.copy_from_slice(&whole[..16]);
        half
    };
    (0..rows).map(digest).collect()
}

impl Collector {
    pub(crate) fn new(folder: &Path) -> Result<Self, PrepError> {
        std::fs::create_dir_all(folder).map_err(unwritable(folder))?;
        let open = |index: usize| {
            let path = folder.join(format!("rows-{index}"));
            File::create(&path)
                .map(BufWriter::new)
                .map_err(unwritable(&path))
        };
        Ok(Self {
            folder: folder.to_owned(),
            files: (0..FILES).map(open).collect::<Result<_, _>>()?,
            rows: Vec::new(),
        })
    }

    /// Takes the next piece.
    pub(crate) fn add(&mut self, digests: &[[u8; 16]]) -> Result<(), PrepError> {
        let number = |value: usize| {
            u32::try_from(value).expect("invariant: pieces and their rows are below 2^32")
        };
        let piece = number(self.rows.len());
        for (row, digest) in digests.iter().enumerate() {
            let mut entry = [0; ENTRY_BYTES];
            entry[..16].copy_from_slice(digest);
            entry[16..20].copy_from_slice(&piece.to_be_bytes());
            entry[20..].copy_from_slice(&number(row).to_be_bytes());
            let file = &mut self.files[usize::from(digest[0]) % FILES];
            file.write_all(&entry).map_err(unwritable(&self.folder))?;
        }
        self.rows.push(number(digests.len()));
        Ok(())
    }

    /// The rows that stay, piece by piece: of the same ones the first.
    pub(crate) fn finish(mut self) -> Result<Vec<BooleanArray>, PrepError> {
        let mut stays: Vec<Vec<bool>> = self
            .rows
            .iter()
            .map(|rows| vec![true; *rows as usize])
            .collect();
        for (index, mut file) in self.files.drain(..).enumerate() {
            file.flush().map_err(unwritable(&self.folder))?;
            drop(file);
            let path = self.folder.join(format!("rows-{index}"));
            let mut bytes = Vec::new();
            let opened = File::open(&path).map(BufReader::new);
            opened
                .and_then(|mut file| file.read_to_end(&mut bytes))
                .map_err(unwritable(&path))?;
            let (entries, _) = bytes.as_chunks_mut::<ENTRY_BYTES>();
            // By digest, then by place.
            entries.sort_unstable();
            for pair in entries.windows(2) {
                if pair[0][..16] == pair[1][..16] {
                    let place = |from: usize| {
                        let mut four = [0; 4];
                        four.copy_from_slice(&pair[1][from..from + 4]);
                        u32::from_be_bytes(four) as usize
                    };
                    stays[place(16)][place(20)] = false;
                }
            }
            std::fs::remove_file(&path).map_err(unwritable(&path))?;
        }
        Ok(stays.into_iter().map(BooleanArray::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::Int64Array;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn of_the_same_rows_the_first_stays(values in prop::collection::vec(0..20_i64, 1..80)) {
            let folder = tempfile::tempdir().unwrap();
            let mut collector = Collector::new(folder.path()).unwrap();
            for piece in values.chunks(7) {
                let column: ArrayRef = Arc::new(Int64Array::from(piece.to_vec()));
                collector.add(&digests(&[&column], piece.len())).unwrap();
            }
            let stays: Vec<bool> = collector.finish().unwrap().iter().flat_map(|p| p.values().iter().collect::<Vec<_>>()).collect();
            let expected: Vec<bool> = values.iter().enumerate().map(|(at, v)| !values[..at].contains(v)).collect();
            prop_assert_eq!(stays, expected);
        }
    }
}

//! Files that are no files of this machine: bytes that somebody gives out by position.
//!
//! Owns: reading them in order and by place. Must not know: where they come from.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

/// Bytes that can be read from any position; blocks while they come.
pub trait ReadAt: fmt::Debug + Send + Sync {
    /// How many there are.
    fn length(&self) -> u64;

    /// Fills `buffer` from `offset` on, as far as there is anything; 0 at the end only.
    ///
    /// # Errors
    /// If they cannot be had.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Fetched at once where a reader asks for less.
const AHEAD_BYTES: usize = 1 << 20;

/// Reads on from a position.
#[derive(Debug)]
pub(super) struct Cursor {
    file: Arc<dyn ReadAt>,
    offset: u64,
}

impl Cursor {
    pub(super) fn new(file: &Arc<dyn ReadAt>, offset: u64) -> Self {
        let file = Arc::clone(file);
        Self { file, offset }
    }

    /// Fetches more than is asked for.
    pub(super) fn ahead(file: &Arc<dyn ReadAt>, offset: u64) -> BufReader<Self> {
        BufReader::with_capacity(AHEAD_BYTES, Self::new(file, offset))
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// The same, as the Parquet reader wants it.
pub(super) struct Pages(pub(super) Arc<dyn ReadAt>);

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.length()
    }
}

impl ChunkReader for Pages {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(Cursor::ahead(&self.0, start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        // The length comes from the file: a broken one must not ask for more than there is.
        let left = self.0.length().saturating_sub(start);
        if length as u64 > left {
            return Err(ParquetError::EOF(format!(
                "{length} bytes expected at {start}, {left} are there"
            )));
        }
        let mut bytes = vec![0; length];
        Cursor::new(&self.0, start).read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

//! One stream of a worker's output, kept in segments.
//!
//! The first segment and the last two are kept: how it began, and how it ended. A position counts
//! every byte that reached the disk, so a reader sees that something is missing between. The pipe is
//! emptied whatever happens to the disk: a worker neither waits for its log nor dies of it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::LogStream;
use crate::record;

/// The first segment and two at the end.
const SEGMENTS: u64 = 3;
/// Less would be a file for every few lines.
const SEGMENT_BYTES_MIN: u64 = 4 * 1024;
/// A quarter of a pipe: few calls, little memory.
const BUFFER_BYTES: usize = 16 * 1024;
/// Other duties wait no longer than this much output.
const PUMP_BYTES_MAX: usize = 1 << 20;

pub(super) struct Log {
    stream: LogStream,
    source: Option<OwnedFd>,
    segment_bytes: u64,
    current: Option<File>,
    /// Positions of the first bytes of the segments after the first.
    previous: Option<u64>,
    begin: u64,
    end: u64,
    lost: u64,
}

impl Log {
    pub(super) fn new(stream: LogStream, source: OwnedFd, bytes_max: u64) -> Self {
        Self {
            stream,
            source: Some(source),
            segment_bytes: (bytes_max / SEGMENTS).max(SEGMENT_BYTES_MIN),
            current: None,
            previous: None,
            begin: 0,
            end: 0,
            lost: 0,
        }
    }

    /// The pipe, until all its writers are gone.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().map(AsFd::as_fd)
    }

    /// Bytes that found no room on the disk.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Moves what is in the pipe to the disk.
    pub(super) fn pump(&mut self) {
        let mut buffer = [0_u8; BUFFER_BYTES];
        let mut moved = 0;
        while let Some(source) = &self.source {
            if moved >= PUMP_BYTES_MAX {
                return;
            }
            match rustix::io::read(source, &mut buffer) {
                Ok(0) => self.source = None,
                Ok(count) => {
                    self.keep(&buffer[..count]);
                    moved += count;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn keep(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.segment_bytes - (self.end - self.begin);
            if room == 0 {
                self.next_segment();
                continue;
            }
            let count = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            match self.write(&bytes[..count]) {
                Ok(written) if written > 0 => {
                    self.end += written as u64;
                    bytes = &bytes[written..];
                }
                _ => {
                    self.lost += bytes.len() as u64;
                    return;
                }
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.current.is_none() {
            let name = record::log_segment(self.stream.as_str(), self.begin);
            self.current = Some(record::create(Path::new(&name))?);
        }
        match &mut self.current {
            Some(file) => file.write(bytes),
            None => Ok(0),
        }
    }

    /// Begins a segment, and deletes the one before the last two, unless it is the first.
    fn next_segment(&mut self) {
        if let Some(position) = self.previous {
            let _ = std::fs::remove_file(record::log_segment(self.stream.as_str(), position));
        }
        self.previous = (self.begin > 0).then_some(self.begin);
        self.begin = self.end;
        self.current = None;
    }
}

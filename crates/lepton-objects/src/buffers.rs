//! Buffers for bytes on their way, used over and over.
//!
//! Owns: how many idle ones are kept, and when they are scarce. A fresh buffer costs the kernel a zeroed page for every 4 KiB of it at
//! its first use, and as much again when it is given back: at a megabyte each that is a tenth of what an
//! upload costs. Must not know: what is in them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::seal::{HEADER_BYTES, SEALED_SEGMENT_BYTES, SEGMENT_BYTES};

/// Segments in a batch of 1 MiB: long enough that handing it from thread to thread
/// costs less than a hundredth of working on it.
pub(crate) const BATCH_SEGMENTS: usize = 16;
/// Plain bytes in a batch, in whole segments.
pub(crate) const BATCH_BYTES: usize = BATCH_SEGMENTS * SEGMENT_BYTES;
/// A batch, plain or sealed, behind a header, fits.
pub(crate) const BUFFER_BYTES: usize = HEADER_BYTES + BATCH_SEGMENTS * SEALED_SEGMENT_BYTES;

/// Idle buffers that are kept: what a busy server hands round from one upload to the next.
const IDLE_MAX: usize = 32;

/// Buffers in use beyond which they are scarce: nobody should take one that could do without.
const USED_MAX: usize = 128;

/// The buffers of one process.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    idle: Vec<Box<[u8]>>,
    used: usize,
}

/// Room for a batch. Dropped, it is used again.
pub(crate) struct Buffer {
    /// None only while it is dropped.
    room: Option<Box<[u8]>>,
    used_bytes: usize,
    home: Buffers,
}

impl Buffers {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so many are in use that those who take them ahead of their need should not.
    pub(crate) fn are_scarce(&self) -> bool {
        self.kept().used >= USED_MAX
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> Buffer {
        let mut kept = self.kept();
        kept.used += 1;
        let idle = kept.idle.pop();
        drop(kept);
        Buffer {
            room: Some(idle.unwrap_or_else(|| vec![0; BUFFER_BYTES].into())),
            used_bytes: 0,
            home: self.clone(),
        }
    }
}

impl Buffer {
    /// Appends what fits into a batch, and gives how much that was.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(BATCH_BYTES - self.used_bytes);
        let end = self.used_bytes + taken;
        if let Some(room) = &mut self.room {
            room[self.used_bytes..end].copy_from_slice(&bytes[..taken]);
        }
        self.used_bytes = end;
        taken
    }

    /// Has `bytes` in it, of which there are at most a batch as it is sealed.
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        if let Some(room) = &mut self.room {
            room[..bytes.len()].copy_from_slice(bytes);
            self.used_bytes = bytes.len();
        }
    }

    /// Lets `read` fill the first `length` bytes, at most a batch as it is sealed; it tells how many it did fill.
    pub(crate) fn read<E>(
        &mut self,
        length: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        if let Some(room) = &mut self.room {
            self.used_bytes = read(&mut room[..length])?;
        }
        Ok(())
    }

    /// What is in it, for good.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        match &self.room {
            Some(room) => &room[..self.used_bytes],
            None => &[],
        }
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        match &mut self.room {
            Some(room) => &mut room[..self.used_bytes],
            None => &mut [],
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = self.home.kept();
        kept.used -= 1;
        if kept.idle.len() < IDLE_MAX {
            kept.idle.extend(self.room.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_shows_nothing_of_before() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        assert_eq!(buffer.fill(&[7; 10]), 10);
        assert_eq!(buffer.fill(&vec![8; 2 * BATCH_BYTES]), BATCH_BYTES - 10);
        let first = buffer.as_ref().as_ptr();
        let bytes = buffer.freeze();
        let part = bytes.slice(5..15);
        drop(bytes);
        assert_eq!(part, [[7; 5], [8; 5]].concat());
        drop(part);
        let again = buffers.take();
        assert_eq!(
            (again.used_bytes, again.room.as_ref().unwrap().as_ptr()),
            (0, first)
        );
    }

    #[test]
    fn few_idle_buffers_are_kept() {
        let buffers = Buffers::default();
        drop(
            (0..IDLE_MAX + 3)
                .map(|_| buffers.take())
                .collect::<Vec<_>>(),
        );
        assert_eq!(buffers.kept().idle.len(), IDLE_MAX);
    }

    #[test]
    fn many_in_use_are_scarce_until_they_come_back() {
        let buffers = Buffers::default();
        let mut used: Vec<_> = (1..USED_MAX).map(|_| buffers.take()).collect();
        assert!(!buffers.are_scarce());
        used.push(buffers.take());
        assert!(buffers.are_scarce());
        used.pop();
        assert!(!buffers.are_scarce());
    }
}

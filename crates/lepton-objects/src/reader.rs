//! Reading: verified plain bytes of a content, in order.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

use crate::error::ContentError;

/// The bytes of a range of a content. Each piece was verified before it is given out.
/// Ends after an error.
#[derive(Debug)]
pub struct ContentReader {
    remaining_bytes: u64,
}

impl ContentReader {
    /// How many bytes are still to come.
    #[must_use]
    pub fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }
}

impl Stream for ContentReader {
    type Item = Result<Bytes, ContentError>;

    fn poll_next(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        unimplemented!()
    }
}

//! Reading: verified plain bytes of a content, in order.
//!
//! Owns: that nothing is given out before its segment was verified, and that a reader holds at
//! most two batches. Must not know: who reads.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use lepton_types::ContentId;
use tokio::task::JoinHandle;

use crate::backend::Source;
use crate::buffers::{BATCH_SEGMENTS, Buffer, Buffers};
use crate::error::ContentError;
use crate::rescue::Rescue;
use crate::seal::{
    HEADER_BYTES, SEALED_SEGMENT_BYTES, SEGMENT_BYTES, Sealer, sealed_bytes_of, segments_of,
};

/// Segments in the first batch: the first bytes should come soon.
pub(crate) const FIRST_BATCH_SEGMENTS: u64 = 2;

/// The bytes of a range of a content. Each piece was verified before it is given out.
/// Ends after an error.
pub struct ContentReader {
    /// Verified, whole segments.
    ready: VecDeque<Bytes>,
    /// Of the first segment, what stands before the range.
    skip_bytes: usize,
    remaining_bytes: u64,
    fetching: Option<JoinHandle<Fetched>>,
}

type Fetched = Result<(VecDeque<Bytes>, Fetcher), ContentError>;

impl std::fmt::Debug for ContentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentReader")
            .field("remaining_bytes", &self.remaining_bytes)
            .finish_non_exhaustive()
    }
}

/// Reads and opens the segments of a range, batch by batch.
pub(crate) struct Fetcher {
    source: Source,
    opener: Opener,
    segments: Range<u64>,
    batch_segments: u64,
    buffers: Buffers,
    /// Where to go on if this source fails; none, if it did already.
    rescue: Option<Rescue>,
}

/// Opens segments of one content.
#[derive(Clone)]
pub(crate) struct Opener {
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) content: ContentId,
    pub(crate) size_bytes: u64,
}

/// The segments that `range` touches; that of an empty content, too, so that it is verified.
pub(crate) fn segments_in(range: &Range<u64>) -> Range<u64> {
    let segment = SEGMENT_BYTES as u64;
    let first = range.start / segment;
    first..range.end.div_ceil(segment).max(first + 1)
}

/// Where a segment begins in the sealed bytes.
pub(crate) fn offset_of(segment: u64) -> u64 {
    HEADER_BYTES as u64 + segment * SEALED_SEGMENT_BYTES as u64
}

impl Opener {
    /// Opens `sealed`, which holds `segments`, in place, and gives the length of each.
    pub(crate) fn open(
        &self,
        segments: Range<u64>,
        sealed: &mut [u8],
    ) -> Result<Vec<usize>, ContentError> {
        let damaged = || ContentError::Damaged {
            content: self.content,
        };
        let total = segments_of(self.size_bytes);
        let mut lengths = Vec::new();
        let parts = sealed.chunks_mut(SEALED_SEGMENT_BYTES);
        for (number, part) in segments.clone().zip(parts) {
            let plain = self.sealer.open(number, number + 1 == total, part);
            lengths.push(plain.map_err(|_| damaged())?.len());
        }
        if lengths.len() as u64 != segments.end - segments.start {
            return Err(damaged());
        }
        Ok(lengths)
    }
}

/// The plain bytes of segments that were opened in place.
pub(crate) fn pieces(opened: &Bytes, lengths: Vec<usize>) -> VecDeque<Bytes> {
    let starts = (0..).step_by(SEALED_SEGMENT_BYTES);
    let pieces = starts.zip(lengths);
    pieces
        .map(|(start, length)| opened.slice(start..start + length))
        .collect()
}

impl Fetcher {
    pub(crate) fn new(
        source: Source,
        opener: Opener,
        segments: Range<u64>,
        buffers: &Buffers,
        rescue: Option<Rescue>,
    ) -> Self {
        Self {
            rescue,
            buffers: buffers.clone(),
            source,
            opener,
            segments,
            batch_segments: FIRST_BATCH_SEGMENTS,
        }
    }

    async fn next_batch(mut self) -> Fetched {
        let error = match self.read_batch().await {
            Ok(pieces) => return Ok((pieces, self)),
            Err(error) => error,
        };
        let Some(rescue) = self.rescue.take() else {
            return Err(error);
        };
        match rescue.source(&error, &self.source).await {
            None => Err(error),
            Some(source) => {
                self.source = source;
                let pieces = self.read_batch().await?;
                rescue.succeeded(error);
                Ok((pieces, self))
            }
        }
    }

    async fn read_batch(&mut self) -> Result<VecDeque<Bytes>, ContentError> {
        let first = self.segments.start;
        let end = self.segments.end.min(first + self.batch_segments);
        let stop = offset_of(end).min(sealed_bytes_of(self.opener.size_bytes));
        let length = usize::try_from(stop - offset_of(first))
            .expect("invariant: a batch is far shorter than memory");
        let opener = self.opener.clone();
        let open = move |mut sealed: Buffer| {
            let lengths = opener.open(first..end, sealed.as_mut())?;
            Ok::<_, ContentError>(pieces(&sealed.freeze(), lengths))
        };
        let source = &self.source;
        let pieces = source.read(&self.buffers, offset_of(first), length, open);
        let pieces = pieces.await??;
        self.segments.start = end;
        self.batch_segments = BATCH_SEGMENTS as u64;
        Ok(pieces)
    }
}

impl ContentReader {
    /// Of what is in memory, whole segments from that which holds `range.start`.
    pub(crate) fn of_segments(ready: VecDeque<Bytes>, range: &Range<u64>) -> Self {
        let within = range.start % SEGMENT_BYTES as u64;
        Self {
            ready,
            skip_bytes: usize::try_from(within).expect("invariant: less than a segment"),
            remaining_bytes: range.end - range.start,
            fetching: None,
        }
    }

    /// Reads the first batch, and goes on from there.
    pub(crate) async fn fetch(fetcher: Fetcher, range: &Range<u64>) -> Result<Self, ContentError> {
        let (ready, fetcher) = fetcher.next_batch().await?;
        let mut reader = Self::of_segments(ready, range);
        reader.fetch_next(fetcher);
        Ok(reader)
    }

    fn fetch_next(&mut self, fetcher: Fetcher) {
        if !fetcher.segments.is_empty() {
            self.fetching = Some(tokio::spawn(fetcher.next_batch()));
        }
    }

    /// How many bytes are still to come.
    #[must_use]
    pub fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }

    /// All that is still to come.
    pub(crate) async fn collect(mut self) -> Result<Bytes, ContentError> {
        let first = match self.next().await {
            None => return Ok(Bytes::new()),
            Some(first) => first?,
        };
        if self.remaining_bytes == 0 {
            return Ok(first);
        }
        let rest = usize::try_from(self.remaining_bytes).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(first.len().saturating_add(rest));
        bytes.extend_from_slice(&first);
        while let Some(piece) = self.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes.into())
    }

    fn take_ready(&mut self) -> Option<Bytes> {
        let mut piece = self.ready.pop_front()?;
        let skipped = std::mem::take(&mut self.skip_bytes).min(piece.len());
        let piece_rest = piece.split_off(skipped);
        let kept = usize::try_from(self.remaining_bytes).unwrap_or(usize::MAX);
        let piece = piece_rest.slice(..piece_rest.len().min(kept));
        self.remaining_bytes -= piece.len() as u64;
        Some(piece)
    }
}

impl Stream for ContentReader {
    type Item = Result<Bytes, ContentError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.remaining_bytes == 0 {
                return Poll::Ready(None);
            }
            if let Some(piece) = self.take_ready() {
                return Poll::Ready(Some(Ok(piece)));
            }
            let Some(fetching) = &mut self.fetching else {
                // Only after an error.
                return Poll::Ready(None);
            };
            let fetched = std::task::ready!(Pin::new(fetching).poll(context));
            self.fetching = None;
            match fetched.unwrap_or_else(|failed| Err(std::io::Error::other(failed).into())) {
                Ok((ready, fetcher)) => {
                    self.ready = ready;
                    self.fetch_next(fetcher);
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

impl Drop for ContentReader {
    fn drop(&mut self) {
        if let Some(fetching) = &self.fetching {
            fetching.abort();
        }
    }
}

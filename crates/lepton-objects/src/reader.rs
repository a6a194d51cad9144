//! Reading: verified plain bytes of a content, in order.
//!
//! Owns: that nothing is given out before its segment was verified, and that a reader holds at
//! most three batches, and two where many read. Must not know: who reads.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use lepton_types::ContentId;

use crate::backend::Source;
use crate::buffers::{BATCH_SEGMENTS, Buffer, Buffers};
use crate::error::ContentError;
use crate::rescue::Rescue;
use crate::seal::{
    HEADER_BYTES, SEALED_SEGMENT_BYTES, SEGMENT_BYTES, Sealer, sealed_bytes_of, segments_of,
};

/// Segments in the first batch: the first bytes should come soon.
pub(crate) const FIRST_BATCH_SEGMENTS: u64 = 2;

/// Batches that are read and opened while another is given out: two, so that a batch that comes late is
/// made up for by the one beside it.
const AHEAD_BATCHES: usize = 2;

/// The bytes of a range of a content. Each piece was verified before it is given out.
/// Ends after an error.
pub struct ContentReader {
    /// Verified, whole segments.
    ready: VecDeque<Bytes>,
    /// Of the first segment, what stands before the range.
    skip_bytes: usize,
    remaining_bytes: u64,
    next: Next,
}

/// What comes after the segments that are ready.
enum Next {
    /// Batches under way, in order, and who begins those after them.
    Fetched(VecDeque<Batch>, Box<Fetcher>),
    /// The replica is asked for what could not be read.
    Rescued(Pin<Box<dyn Future<Output = Result<Box<Fetcher>, ContentError>> + Send>>),
    /// Nothing: all is ready, or an error was given out.
    Nothing,
}

/// Segments that are being read, whether or not somebody polls. Dropped, that ends.
struct Batch {
    first_segment: u64,
    pieces: Pin<Box<dyn Future<Output = Result<VecDeque<Bytes>, ContentError>> + Send>>,
}

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
    /// Those that are not yet begun.
    segments: Range<u64>,
    batch_segments: u64,
    buffers: Buffers,
    /// Where to go on if this source fails; none, if it did already.
    rescue: Option<Rescue>,
    /// Why the source is the replica, until a batch of it was good.
    rescued: Option<(Rescue, ContentError)>,
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
            rescued: None,
        }
    }

    /// Begins batches, beside whatever the caller does then, until as many are under way as should be.
    fn begin(&mut self, batches: &mut VecDeque<Batch>) {
        let ahead = match self.buffers.are_scarce() {
            true => 1,
            false => AHEAD_BATCHES,
        };
        while batches.len() < ahead && !self.segments.is_empty() {
            batches.push_back(self.begin_batch());
        }
    }

    fn begin_batch(&mut self) -> Batch {
        let first = self.segments.start;
        let end = self.segments.end.min(first + self.batch_segments);
        self.segments.start = end;
        self.batch_segments = BATCH_SEGMENTS as u64;
        let stop = offset_of(end).min(sealed_bytes_of(self.opener.size_bytes));
        let length = usize::try_from(stop - offset_of(first))
            .expect("invariant: a batch is far shorter than memory");
        let opener = self.opener.clone();
        let open = move |mut sealed: Buffer| {
            let lengths = opener.open(first..end, sealed.as_mut())?;
            Ok::<_, ContentError>(pieces(&sealed.freeze(), lengths))
        };
        let read = self
            .source
            .read(&self.buffers, offset_of(first), length, open);
        Batch {
            first_segment: first,
            pieces: Box::pin(async move { read.await? }),
        }
    }

    /// Goes on at the replica, from a batch that failed.
    async fn rescue(
        mut self: Box<Self>,
        first: u64,
        error: ContentError,
    ) -> Result<Box<Self>, ContentError> {
        let Some(rescue) = self.rescue.take() else {
            return Err(error);
        };
        let Some(source) = rescue.source(&error, &self.source).await else {
            return Err(error);
        };
        self.source = source;
        self.segments.start = first;
        self.rescued = Some((rescue, error));
        Ok(self)
    }

    fn succeeded(&mut self) {
        if let Some((rescue, error)) = self.rescued.take() {
            rescue.succeeded(error);
        }
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
            next: Next::Nothing,
        }
    }

    /// Reads the first batch, and goes on from there.
    pub(crate) async fn fetch(
        mut fetcher: Fetcher,
        range: &Range<u64>,
    ) -> Result<Self, ContentError> {
        let first = fetcher.begin_batch();
        let mut reader = Self::of_segments(VecDeque::new(), range);
        reader.next = Next::Fetched(VecDeque::from([first]), Box::new(fetcher));
        std::future::poll_fn(|context| reader.poll_batch(context)).await?;
        Ok(reader)
    }

    /// Waits for the next batch, unless there is none.
    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ContentError>> {
        loop {
            let failed = match &mut self.next {
                Next::Nothing => return Poll::Ready(Ok(())),
                Next::Rescued(rescue) => match ready!(rescue.as_mut().poll(context)) {
                    Ok(fetcher) => {
                        self.next = Next::Fetched(VecDeque::new(), fetcher);
                        continue;
                    }
                    Err(error) => {
                        self.next = Next::Nothing;
                        return Poll::Ready(Err(error));
                    }
                },
                Next::Fetched(batches, fetcher) => {
                    fetcher.begin(batches);
                    let Some(batch) = batches.front_mut() else {
                        return Poll::Ready(Ok(()));
                    };
                    match ready!(batch.pieces.as_mut().poll(context)) {
                        Ok(pieces) => {
                            self.ready = pieces;
                            fetcher.succeeded();
                            batches.pop_front();
                            fetcher.begin(batches);
                            return Poll::Ready(Ok(()));
                        }
                        Err(error) => (batch.first_segment, error),
                    }
                }
            };
            // What else is under way comes from the place that failed.
            if let Next::Fetched(_, fetcher) = mem::replace(&mut self.next, Next::Nothing) {
                let (first, error) = failed;
                self.next = Next::Rescued(Box::pin(fetcher.rescue(first, error)));
            }
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
        let skipped = mem::take(&mut self.skip_bytes).min(piece.len());
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
            match ready!(self.poll_batch(context)) {
                Ok(()) if self.ready.is_empty() => return Poll::Ready(None),
                Ok(()) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

//! Bytes out of the pieces of a version.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, header};
use lepton_store::index::StoredPiece;
use lepton_types::{ContentId, Name};
use s3s::S3Result;
use s3s::dto::StreamingBlob;

use super::Face;
use super::errors::of_content;
use crate::{Content, ContentError, ContentKey, ContentReader};

/// Held while the index is asked what is to be read: what it names is not deleted meanwhile.
pub(super) type ReadGuard = Arc<()>;

/// How often each content is being read.
#[derive(Clone, Default)]
pub(super) struct Pinned(Arc<Mutex<BTreeMap<ContentId, usize>>>);

impl Pinned {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<ContentId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pin(&self, contents: Vec<ContentId>) -> Pins {
        let mut counts = self.counts();
        for content in &contents {
            *counts.entry(*content).or_default() += 1;
        }
        drop(counts);
        Pins {
            pinned: self.clone(),
            contents,
        }
    }

    /// Whether somebody reads it.
    pub(super) fn holds(&self, content: ContentId) -> bool {
        self.counts().contains_key(&content)
    }
}

/// Keeps contents from being deleted until it is dropped.
struct Pins {
    pinned: Pinned,
    contents: Vec<ContentId>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut counts = self.pinned.counts();
        for content in &self.contents {
            if let Some(count) = counts.get_mut(content) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(content);
                }
            }
        }
    }
}

impl Face {
    /// Begins a read: contents that the index names from here on stay until the guard is gone, or
    /// the read that it was given to.
    pub(super) fn begin_read(&self) -> ReadGuard {
        let current = self.0.looking_up.lock();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Parts the lookups that began before from those that will: the former hold what is returned.
    pub(super) fn part_lookups(&self) -> std::sync::Weak<()> {
        let current = self.0.looking_up.lock();
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *current);
        Arc::downgrade(&before)
    }

    /// The bytes of a range of pieces. The first of them are there and verified when this returns.
    pub(super) async fn read_pieces(
        &self,
        project: &Name,
        pieces: Vec<StoredPiece>,
        key: ContentKey,
        range: Range<u64>,
        guard: ReadGuard,
    ) -> S3Result<impl Stream<Item = Result<Bytes, ContentError>> + Send + 'static> {
        let mut rest = within(pieces, &range);
        let pins = self
            .0
            .read
            .pin(rest.iter().map(|(content, _)| content.id).collect());
        drop(guard);
        let first = match rest.pop_front() {
            Some((content, range)) => Some(
                self.contents
                    .read(project, &content, &key, range)
                    .await
                    .map_err(of_content)?,
            ),
            None => None,
        };
        let state = Reading {
            face: self.clone(),
            project: project.clone(),
            key,
            current: first,
            rest,
            _pins: pins,
        };
        Ok(stream::unfold(Some(state), |state| async move {
            let mut state = state?;
            match state.next().await? {
                Ok(bytes) => Some((Ok(bytes), Some(state))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }
}

struct Reading {
    face: Face,
    project: Name,
    key: ContentKey,
    current: Option<ContentReader>,
    rest: VecDeque<(Content, Range<u64>)>,
    _pins: Pins,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes, ContentError>> {
        loop {
            if let Some(current) = &mut self.current {
                match current.next().await {
                    Some(bytes) => return Some(bytes),
                    None => self.current = None,
                }
            }
            let (content, range) = self.rest.pop_front()?;
            let contents = &self.face.contents;
            match contents
                .read(&self.project, &content, &self.key, range)
                .await
            {
                Ok(reader) => self.current = Some(reader),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The pieces that a range touches, and which part of each.
fn within(pieces: Vec<StoredPiece>, range: &Range<u64>) -> VecDeque<(Content, Range<u64>)> {
    let mut start = 0;
    let mut touched = VecDeque::new();
    for piece in pieces {
        let end = start + piece.size_bytes;
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            let content = Content {
                id: piece.content,
                size_bytes: piece.size_bytes,
                inline: piece.inline.map(Bytes::from),
            };
            touched.push_back((content, from - start..to - start));
        }
        start = end;
    }
    touched
}

/// A stream as the body of an answer. It is counted as it goes out.
pub(super) fn body_of(
    face: &Face,
    project: &Name,
    stream: impl Stream<Item = Result<Bytes, ContentError>> + Send + 'static,
) -> StreamingBlob {
    let counted = Counted {
        inner: Box::pin(stream),
        face: face.clone(),
        project: project.clone(),
        sent_bytes: 0,
    };
    StreamingBlob::from(s3s::Body::http_body_unsync(
        http_body_util::StreamBody::new(counted.map(|bytes| bytes.map(http_body::Frame::data))),
    ))
}

struct Counted {
    inner: Pin<Box<dyn Stream<Item = Result<Bytes, ContentError>> + Send>>,
    face: Face,
    project: Name,
    sent_bytes: u64,
}

impl Stream for Counted {
    type Item = Result<Bytes, ContentError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.inner.as_mut().poll_next(context);
        match &next {
            Poll::Ready(Some(Ok(bytes))) => self.sent_bytes += bytes.len() as u64,
            Poll::Ready(Some(Err(error))) => {
                tracing::error!(%error, "an answer was cut off, as its bytes cannot be read");
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        next
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.face.count_sent(&self.project, self.sent_bytes);
    }
}

/// Sets the length of a body that the library would otherwise send in chunks.
pub(super) fn with_length(bytes: u64) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_LENGTH, bytes.into())])
}

/// A stream as the body of a write.
pub(super) fn blob_of(
    stream: impl Stream<Item = Result<Bytes, ContentError>> + Send + 'static,
) -> StreamingBlob {
    let frames = stream.map(|bytes| bytes.map(http_body::Frame::data));
    StreamingBlob::from(s3s::Body::http_body_unsync(
        http_body_util::StreamBody::new(frames),
    ))
}

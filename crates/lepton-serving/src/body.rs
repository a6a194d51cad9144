//! Request bodies in bounded memory.
//!
//! Owns: the largest body that is taken, and the bytes that all bodies together may hold.
//! A body that is too large is read on and thrown away for a while, so that a client
//! which sends everything before it listens still hears the refusal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;

/// The largest request body.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// How much of a refused body is read and thrown away, and for how long.
const DISCARDED_BYTES_MAX: usize = 512 << 20;
const DISCARDING_MAX: Duration = Duration::from_secs(10);

/// Bytes that bodies may hold together.
#[derive(Debug, Clone)]
pub struct BodyBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    used: AtomicUsize,
    bytes_max: usize,
}

/// Bytes taken from a budget, given back when dropped.
#[derive(Debug)]
pub struct BodyLease {
    budget: Arc<Budget>,
    held: usize,
}

/// Why a body is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReadBodyError {
    /// Larger than is taken.
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge {
        /// The largest that is taken.
        bytes_max: usize,
    },
    /// Too many bytes are held by other requests.
    #[error("too many request bytes are being held; try again")]
    Busy,
    /// The client went away, or broke the framing.
    #[error("the body ended early")]
    Broken(#[source] axum::Error),
}

impl BodyBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Budget {
            used: AtomicUsize::new(0),
            bytes_max,
        }))
    }

    /// Nothing yet, to be grown.
    #[must_use]
    pub fn lease(&self) -> BodyLease {
        BodyLease {
            budget: Arc::clone(&self.0),
            held: 0,
        }
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl BodyLease {
    /// Takes `more` bytes, or says that they are not there.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        let taken = self
            .budget
            .used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(more)
                    .filter(|total| *total <= self.budget.bytes_max)
            })
            .is_ok();
        if taken {
            self.held += more;
        }
        taken
    }
}

impl Drop for BodyLease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// Reads a whole body of at most `bytes_max` bytes.
///
/// # Errors
/// It is larger, other bodies hold too much, or it ends early.
pub async fn read_body(
    headers: &HeaderMap,
    mut body: Body,
    bytes_max: usize,
    budget: &BodyBudget,
) -> Result<(Bytes, BodyLease), ReadBodyError> {
    let mut lease = budget.lease();
    let told = content_length(headers);
    if told.is_some_and(|length| length > bytes_max) {
        discard(headers, body).await;
        return Err(ReadBodyError::TooLarge { bytes_max });
    }
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadBodyError::Broken)?.into_data() else {
            continue;
        };
        length += data.len();
        if length > bytes_max {
            drop((first, rest, lease));
            discard(headers, body).await;
            return Err(ReadBodyError::TooLarge { bytes_max });
        }
        if !lease.grow(data.len()) {
            return Err(ReadBodyError::Busy);
        }
        match (&first, rest.is_empty()) {
            // Most bodies are one frame, and need no copy.
            (None, _) => first = Some(data),
            (Some(head), true) => {
                rest.reserve(told.unwrap_or(0).clamp(length, bytes_max));
                rest.extend_from_slice(head);
                rest.extend_from_slice(&data);
            }
            (Some(_), false) => rest.extend_from_slice(&data),
        }
    }
    let bytes = if rest.is_empty() {
        first.unwrap_or_default()
    } else {
        rest.freeze()
    };
    Ok((bytes, lease))
}

/// The length that the headers tell, if they do.
#[must_use]
pub fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

async fn discard(headers: &HeaderMap, mut body: Body) {
    // Who asks first whether to send at all needs no reading.
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let reading = async {
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > DISCARDED_BYTES_MAX {
                break;
            }
        }
    };
    // A client that neither ends nor stops is cut off.
    let _ = tokio::time::timeout(DISCARDING_MAX, reading).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    fn chunked(chunks: usize, bytes: usize) -> Body {
        let chunk = Bytes::from(vec![7; bytes]);
        let frames = (0..chunks).map(move |_| Ok::<_, std::io::Error>(Frame::data(chunk.clone())));
        Body::new(StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[tokio::test]
    async fn bodies_are_read_whole_and_their_bytes_given_back() {
        let budget = BodyBudget::new(100);
        let headers = HeaderMap::new();
        let (bytes, lease) = read_body(&headers, chunked(3, 10), 64, &budget)
            .await
            .unwrap();
        assert_eq!(bytes, vec![7; 30]);
        assert_eq!(budget.used(), 30);
        let (one, _) = read_body(&headers, Body::from("abc"), 64, &budget)
            .await
            .unwrap();
        assert_eq!(one, "abc");
        drop(lease);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn too_large_and_too_many_are_told_apart() {
        let budget = BodyBudget::new(100);
        let headers = HeaderMap::new();
        let large = read_body(&headers, chunked(10, 10), 64, &budget).await;
        assert!(matches!(
            large,
            Err(ReadBodyError::TooLarge { bytes_max: 64 })
        ));
        let (_, _lease) = read_body(&headers, chunked(6, 10), 64, &budget)
            .await
            .unwrap();
        let busy = read_body(&headers, chunked(5, 10), 64, &budget).await;
        assert!(matches!(busy, Err(ReadBodyError::Busy)));
        assert_eq!(budget.used(), 60);
        let mut told = HeaderMap::new();
        told.insert(header::CONTENT_LENGTH, "65".parse().unwrap());
        let refused = read_body(&told, Body::empty(), 64, &budget).await;
        assert!(matches!(refused, Err(ReadBodyError::TooLarge { .. })));
    }
}

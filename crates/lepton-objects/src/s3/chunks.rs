//! Chunked uploads (`aws-chunked`) on their way to the library, which holds one chunk in memory.
//!
//! Owns: how much that is. A chunk without a signature is passed on in pieces as it comes in: some clients
//! send 5 GiB as one. One with a signature is verified as a whole, so its length is bounded. Must not
//! know: what trailers say, who signed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use s3s::{Body, HttpRequest, StdError};

/// The longest chunk that is verified as a whole; the SDKs that sign chunks send 64 KiB to 1 MiB.
const SIGNED_CHUNK_BYTES_MAX: u64 = 16 << 20;

/// The longest line that begins a chunk: a number and a signature are below 100 bytes.
const HEAD_BYTES_MAX: usize = 1_024;

/// What is wrong with the chunks of a body.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChunkError {
    /// See [`SIGNED_CHUNK_BYTES_MAX`].
    #[error("a signed chunk is too long")]
    SignedChunkTooLong,
    /// No length where one must be.
    #[error("the chunks are not well formed")]
    Malformed,
}

/// Bounds the chunks of a request's body, if it comes in chunks.
pub(super) fn bound(request: HttpRequest) -> HttpRequest {
    let announced = request.headers().get("x-amz-content-sha256");
    let is_chunked = announced.is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-"));
    match is_chunked {
        false => request,
        true => request.map(|body| {
            let chunks = Chunks::new(body.into_data_stream());
            Body::http_body_unsync(StreamBody::new(chunks.map(|bytes| bytes.map(Frame::data))))
        }),
    }
}

/// The same chunks, in pieces.
struct Chunks<S> {
    inner: S,
    at: At,
    ready: VecDeque<Bytes>,
}

/// Where in the body it is.
enum At {
    /// In the line that begins a chunk.
    Head(Vec<u8>),
    /// In a chunk that goes on in pieces; so much of it is left.
    Pieces(u64),
    /// Behind such a chunk, at its line's end, of which so much has come.
    LineEnd(usize),
    /// In a chunk that goes on as it is, its line's end included.
    Whole(u64),
    /// Behind the last chunk.
    Trailers,
}

const LINE_END: &[u8; 2] = b"\r\n";

impl<S> Chunks<S> {
    fn new(inner: S) -> Self {
        Self {
            inner,
            at: At::Head(Vec::new()),
            ready: VecDeque::new(),
        }
    }

    fn take_in(&mut self, mut bytes: Bytes) -> Result<(), ChunkError> {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Head(head) => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let taken = bytes.split_to(end.map_or(bytes.len(), |end| end + 1));
                    if head.len() + taken.len() > HEAD_BYTES_MAX {
                        return Err(ChunkError::Malformed);
                    }
                    head.extend_from_slice(&taken);
                    if end.is_some() {
                        let head = std::mem::take(head);
                        self.begin(head)?;
                    }
                }
                At::Pieces(left) => {
                    let piece = split(&mut bytes, *left);
                    *left -= piece.len() as u64;
                    if *left == 0 {
                        self.at = At::LineEnd(0);
                    }
                    let head = Bytes::from(format!("{:x}\r\n", piece.len()));
                    let end = Bytes::from_static(LINE_END);
                    self.ready.extend([head, piece, end]);
                }
                At::LineEnd(come) => {
                    if bytes.get_u8() != LINE_END[*come] {
                        return Err(ChunkError::Malformed);
                    }
                    *come += 1;
                    if *come == LINE_END.len() {
                        self.at = At::Head(Vec::new());
                    }
                }
                At::Whole(left) => {
                    let piece = split(&mut bytes, *left);
                    *left -= piece.len() as u64;
                    if *left == 0 {
                        self.at = At::Head(Vec::new());
                    }
                    self.ready.push_back(piece);
                }
                At::Trailers => self.ready.push_back(std::mem::take(&mut bytes)),
            }
        }
        Ok(())
    }

    /// A chunk begins with this line.
    fn begin(&mut self, head: Vec<u8>) -> Result<(), ChunkError> {
        let line = head.strip_suffix(LINE_END).ok_or(ChunkError::Malformed)?;
        let text = std::str::from_utf8(line).map_err(|_| ChunkError::Malformed)?;
        let (length, signature) = match text.split_once(';') {
            Some((length, signature)) => (length, Some(signature)),
            None => (text, None),
        };
        let length = u64::from_str_radix(length, 16).map_err(|_| ChunkError::Malformed)?;
        self.at = match signature {
            _ if length == 0 => At::Trailers,
            None => At::Pieces(length),
            Some(_) if length > SIGNED_CHUNK_BYTES_MAX => {
                return Err(ChunkError::SignedChunkTooLong);
            }
            Some(_) => At::Whole(length + LINE_END.len() as u64),
        };
        if !matches!(self.at, At::Pieces(_)) {
            self.ready.push_back(head.into());
        }
        Ok(())
    }
}

/// The first `most` bytes, or all there are.
fn split(bytes: &mut Bytes, most: u64) -> Bytes {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    bytes.split_to(bytes.len().min(most))
}

impl<S> Stream for Chunks<S>
where
    S: Stream<Item = Result<Bytes, StdError>> + Unpin,
{
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            match std::task::ready!(self.inner.poll_next_unpin(context)) {
                Some(Ok(bytes)) => {
                    if let Err(error) = self.take_in(bytes) {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                }
                ended => return Poll::Ready(ended),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out, cut into frames of these lengths on the way in.
    fn through(body: &[u8], frames: &[usize]) -> Result<Vec<Bytes>, String> {
        let mut rest = Bytes::copy_from_slice(body);
        let mut lengths = frames.iter().cycle();
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let most = *lengths.next().unwrap_or(&1);
            parts.push(Ok(split(&mut rest, most as u64)));
        }
        let chunks = Chunks::new(futures_util::stream::iter(parts));
        let all = futures_util::StreamExt::collect::<Vec<_>>(chunks);
        let all = futures_util::FutureExt::now_or_never(all).unwrap();
        all.into_iter()
            .map(|one: Result<Bytes, StdError>| one.map_err(|error| error.to_string()))
            .collect()
    }

    /// The plain bytes, the longest chunk, and what follows the chunks.
    fn decode(mut body: &[u8]) -> (Vec<u8>, usize, Vec<u8>) {
        let (mut plain, mut longest) = (Vec::new(), 0);
        loop {
            let end = body.windows(2).position(|two| two == LINE_END).unwrap();
            let head = std::str::from_utf8(&body[..end]).unwrap();
            let length = head.split(';').next().unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            body = &body[end + 2..];
            if length == 0 {
                return (plain, longest, body.to_vec());
            }
            longest = longest.max(length);
            plain.extend_from_slice(&body[..length]);
            assert_eq!(&body[length..length + 2], LINE_END);
            body = &body[length + 2..];
        }
    }

    proptest! {
        #[test]
        fn chunks_keep_their_bytes_and_none_is_longer_than_what_came_at_once(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 0..6),
            frames in prop::collection::vec(1_usize..90, 1..8),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(LINE_END);
            }
            body.extend_from_slice(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
            let out = through(&body, &frames).unwrap().concat();
            let (plain, longest, trailers) = decode(&out);
            prop_assert_eq!(plain, chunks.concat());
            prop_assert!(longest <= *frames.iter().max().unwrap());
            prop_assert_eq!(trailers, b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n");
        }

        #[test]
        fn signed_chunks_pass_as_they_are(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 0..6),
            frames in prop::collection::vec(1_usize..90, 1..8),
        ) {
            let mut body = Vec::new();
            for chunk in chunks.iter().chain([&Vec::new()]) {
                body.extend_from_slice(format!("{:x};chunk-signature=ab\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(LINE_END);
            }
            prop_assert_eq!(through(&body, &frames).unwrap().concat(), body);
        }
    }

    #[test]
    fn what_is_too_long_or_malformed_is_refused() {
        let said = |body: &[u8]| through(body, &[7]).unwrap_err();
        let too_long = said(b"1000001;chunk-signature=ab\r\nx");
        assert_eq!(too_long, ChunkError::SignedChunkTooLong.to_string());
        for malformed in [
            &b"zz\r\n"[..],
            b"-1\r\n",
            b"5\nhello",
            b"5\r\nhellooo",
            &[b'1'; 2_000],
            b"ffffffffffffffffff\r\n",
        ] {
            assert_eq!(said(malformed), ChunkError::Malformed.to_string());
        }
    }
}

//! Refusals of uploads reach the client. Who sends a large body often looks at the answer only when
//! all of it is sent; closing the connection on them while they send looks like a fault of the
//! network, and the answer, which says what to do, is lost. So what is left of a refused body is
//! taken and thrown away, for a while.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio_util::task::TaskTracker;

/// Smaller bodies are in the client's and the kernel's buffers already.
const SMALL_BYTES: u64 = 64 << 10;
/// What is thrown away of one body at the most.
const THROWN_AWAY_BYTES_MAX: usize = 256 << 20;
/// For how long at the most.
const LINGER_MAX: Duration = Duration::from_secs(10);

/// A body that is given back when whoever read it lets go of it.
struct Lent {
    body: Body,
    left: Left,
    asked: bool,
}

/// Where the rest of a body is put.
type Left = Arc<Mutex<Option<(Body, bool)>>>;

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.asked = true;
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            return;
        }
        let body = std::mem::take(&mut self.body);
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some((body, self.asked));
    }
}

/// Answers at once, and reads on for a while if the answer is a refusal of a body under way.
pub(crate) async fn linger(
    State(tasks): State<TaskTracker>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let size = body.size_hint();
    if size.upper().is_some_and(|bytes| bytes <= SMALL_BYTES) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let waits_to_be_asked = parts.headers.contains_key(header::EXPECT);
    let left = Left::default();
    let lent = Lent {
        body,
        left: Arc::clone(&left),
        asked: false,
    };
    let response = next.run(Request::from_parts(parts, Body::new(lent))).await;
    let left = left.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((body, asked)) = left {
        // Who waits to be asked for the body reads the answer first.
        if asked || !waits_to_be_asked {
            tasks.spawn(tokio::time::timeout(LINGER_MAX, throw_away(body)));
        }
    }
    response
}

async fn throw_away(mut body: Body) {
    let mut thrown = 0;
    while let Some(Ok(frame)) = body.frame().await {
        thrown += frame.data_ref().map_or(0, Bytes::len);
        if thrown > THROWN_AWAY_BYTES_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::middleware::from_fn_with_state;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A client that looks at the answer only when all is sent; what it read, if it could send all.
    async fn answer_to(router: Router, head: &str, bytes: usize) -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let mut client = TcpStream::connect(address).await?;
        client.write_all(head.as_bytes()).await?;
        let mut left = bytes;
        while left > 0 {
            let now = left.min(64 << 10);
            client.write_all(&vec![7; now]).await?;
            left -= now;
        }
        let mut answer = vec![0; 1024];
        let count = client.read(&mut answer).await?;
        server.abort();
        Ok(String::from_utf8_lossy(&answer[..count]).into_owned())
    }

    async fn refuse(body: Body) -> StatusCode {
        let mut body = body;
        let _first = body.frame().await;
        StatusCode::INSUFFICIENT_STORAGE
    }

    fn router() -> Router {
        Router::new()
            .route("/", post(refuse))
            .layer(from_fn_with_state(TaskTracker::new(), linger))
    }

    #[tokio::test]
    async fn who_sends_all_before_looking_hears_the_refusal() {
        let bytes = 32 << 20;
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {bytes}\r\n\r\n");
        let answer = answer_to(router(), &head, bytes).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 507"), "{answer}");
    }

    #[tokio::test]
    async fn who_waits_to_be_asked_is_not_asked_for_nothing() {
        let refuse_unread = || async { StatusCode::FORBIDDEN };
        let router = Router::new()
            .route("/", post(refuse_unread))
            .layer(from_fn_with_state(TaskTracker::new(), linger));
        let head = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 99999999\r\n\r\n";
        let answer = answer_to(router, head, 0).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
}

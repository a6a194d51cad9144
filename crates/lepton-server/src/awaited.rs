//! Bodies that do not come. Uploads that stand still end: who says that a body comes and sends nothing
//! would keep a place, and what was staged for it, for ever. And who waits to be asked for a body that
//! nobody wants gets the connection closed: its next request would be taken for that body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::Sleep;

/// How long a body may stand still while it is waited for.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Nothing came for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing more of the body came for {} s", self.0.as_secs())]
struct Stalled(Duration);

/// A body that fails when it stands still. Time counts only while somebody waits for it: who takes it
/// slowly is no fault of the client's.
struct Awaited {
    body: Body,
    asked: Arc<AtomicBool>,
    pause_max: Duration,
    patience: Option<Pin<Box<Sleep>>>,
}

impl hyper::body::Body for Awaited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.asked.store(true, Ordering::Relaxed);
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.patience = None;
            return Poll::Ready(frame);
        }
        let pause_max = self.pause_max;
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause_max)));
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Some(Err(axum::Error::new(Stalled(pause_max)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends what a client brings when it stands still.
pub(crate) async fn end_stalled(request: Request, next: Next) -> Response {
    end_after(PAUSE_MAX, request, next).await
}

async fn end_after(pause_max: Duration, request: Request, next: Next) -> Response {
    let waits_to_be_asked =
        request.version() <= Version::HTTP_11 && request.headers().contains_key(header::EXPECT);
    let asked = Arc::new(AtomicBool::new(false));
    let request = match request.body().is_end_stream() {
        true => request,
        false => request.map(|body| {
            Body::new(Awaited {
                body,
                asked: Arc::clone(&asked),
                pause_max,
                patience: None,
            })
        }),
    };
    let mut response = next.run(request).await;
    if waits_to_be_asked && !asked.load(Ordering::Relaxed) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::post;
    use futures_util::stream;
    use tower::ServiceExt as _;

    use super::*;

    async fn take(body: Body) -> (StatusCode, String) {
        match axum::body::to_bytes(body, 1_000).await {
            Ok(bytes) => (StatusCode::OK, bytes.len().to_string()),
            Err(error) => (StatusCode::REQUEST_TIMEOUT, error.to_string()),
        }
    }

    /// A body of two pieces, the second after a while.
    async fn ask(pause: Duration, pause_max: Duration) -> StatusCode {
        let pieces = stream::unfold(0, move |sent| async move {
            if sent == 1 {
                tokio::time::sleep(pause).await;
            }
            (sent < 2).then_some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), sent + 1))
        });
        let router = Router::new()
            .route("/", post(take))
            .layer(axum::middleware::from_fn(move |request, next| {
                end_after(pause_max, request, next)
            }));
        let request = Request::post("/").body(Body::from_stream(pieces)).unwrap();
        router.oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn who_waits_to_be_asked_in_vain_comes_again_on_another_connection() {
        let router = Router::new()
            .route("/read", post(take))
            .route("/refuse", post(async || StatusCode::FORBIDDEN))
            .layer(axum::middleware::from_fn(end_stalled));
        let closes = async |path, expect| {
            let request = Request::post(path).header(header::EXPECT, expect);
            let request = request.body(Body::from("x")).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            response.headers().get(header::CONNECTION).is_some()
        };
        assert!(closes("/refuse", "100-continue").await);
        assert!(!closes("/read", "100-continue").await);
    }

    #[tokio::test]
    async fn who_pauses_for_too_long_is_not_waited_for() {
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(600));
        assert_eq!(ask(short, long).await, StatusCode::OK);
        assert_eq!(ask(long, short).await, StatusCode::REQUEST_TIMEOUT);
    }
}

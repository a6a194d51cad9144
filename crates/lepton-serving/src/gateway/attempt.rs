//! One request to one replica, and its answer, whole if that can be.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::headers;
use super::replica::{InFlight, ReplicaState};
use crate::body::{BodyBudget, BodyLease};
use crate::token::{REPLICA_NOT_READY_HEADER, REPLICA_TOKEN_HEADER};

/// Answers up to this size are held until they are whole, so that a replica which dies
/// half-way is noticed before the caller has seen a byte. Larger ones, and streams of
/// events, are passed on as they come.
const HELD_ANSWER_BYTES_MAX: usize = 8 << 20;

/// How long a connection may take; replicas are near.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Connections kept open to one replica, and for how long.
const IDLE_CONNECTIONS_MAX: usize = 64;
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Connections to all replicas.
#[derive(Debug)]
pub(super) struct ReplicaClient(Client<HttpConnector, Full<Bytes>>);

/// A request that may be sent more than once.
#[derive(Debug)]
pub(super) struct Repeatable {
    pub(super) method: Method,
    pub(super) path: http::uri::PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why a replica gave no answer.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// It was never reached.
    Unreachable,
    /// It says that it is not ready.
    NotReady,
    /// The connection ended before the answer did.
    Lost,
}

impl ReplicaClient {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_MAX));
        Self(
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_MAX)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .build(connector),
        )
    }

    /// Sends the request, and waits for the answer, whole where it is small enough.
    pub(super) async fn attempt(
        &self,
        replica: &ReplicaState,
        request: &Repeatable,
        in_flight: InFlight,
        budget: &BodyBudget,
    ) -> Result<Response<Body>, AttemptError> {
        let response = self.0.request(request.to(replica)).await.map_err(|error| {
            tracing::debug!(replica = %replica.id(), %error, "no answer");
            if error.is_connect() {
                AttemptError::Unreachable
            } else {
                AttemptError::Lost
            }
        })?;
        if response.headers().contains_key(REPLICA_NOT_READY_HEADER) {
            return Err(AttemptError::NotReady);
        }
        // While it is in flight: what was counted is told even if the replica leaves now.
        if request.method == Method::POST && response.status().is_success() {
            replica.answered();
        }
        let (mut parts, body) = response.into_parts();
        parts.headers = headers::for_caller(&parts.headers);
        let body = if is_event_stream(&parts.headers) {
            Body::new(Answer {
                held: None,
                rest: Some((body, in_flight)),
                lease: budget.lease(),
            })
        } else {
            hold(body, in_flight, budget).await?
        };
        Ok(Response::from_parts(parts, body))
    }
}

impl Repeatable {
    fn to(&self, replica: &ReplicaState) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::builder()
            .scheme("http")
            .authority(replica.replica.address.to_string())
            .path_and_query(self.path.clone())
            .build()
            .expect("invariant: a socket address is an authority");
        *request.headers_mut() = self.headers.clone();
        // A token that is no header value was never handed out by the server.
        if let Ok(token) = HeaderValue::from_str(replica.replica.token.reveal()) {
            request.headers_mut().insert(REPLICA_TOKEN_HEADER, token);
        }
        request
    }
}

/// Whether the answer is meant to be read as it comes, such as a language model's words.
fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// Reads the body to its end, or to where it is too large to hold.
async fn hold(
    mut body: Incoming,
    in_flight: InFlight,
    budget: &BodyBudget,
) -> Result<Body, AttemptError> {
    let mut answer = Answer {
        held: None,
        rest: None,
        lease: budget.lease(),
    };
    let mut held = BytesMut::new();
    loop {
        let Some(frame) = body.frame().await else {
            answer.held = Some(held.freeze());
            return Ok(Body::new(answer));
        };
        let Ok(data) = frame.map_err(|_| AttemptError::Lost)?.into_data() else {
            continue;
        };
        let fits =
            held.len() + data.len() <= HELD_ANSWER_BYTES_MAX && answer.lease.grow(data.len());
        if held.is_empty() && body.is_end_stream() {
            // Most answers are one frame, and need no copy.
            answer.held = Some(data);
            return Ok(Body::new(answer));
        }
        held.extend_from_slice(&data);
        if !fits {
            answer.held = Some(held.freeze());
            answer.rest = Some((body, in_flight));
            return Ok(Body::new(answer));
        }
    }
}

/// What was held, then the rest, if any, as it comes; in flight until the end.
struct Answer {
    held: Option<Bytes>,
    rest: Option<(Incoming, InFlight)>,
    lease: BodyLease,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(held) = self.held.take().filter(|held| !held.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(held))));
        }
        match &mut self.rest {
            Some((rest, _)) => Pin::new(rest).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let rest_ended = match &self.rest {
            Some((rest, _)) => rest.is_end_stream(),
            None => true,
        };
        rest_ended && self.held.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().map_or(0, Bytes::len);
        let held = u64::try_from(held).unwrap_or(u64::MAX);
        let Some((rest, _)) = &self.rest else {
            return SizeHint::with_exact(held);
        };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(held));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

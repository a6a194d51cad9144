//! Every way a forwarded request fails that is not the model's own answer.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::body::ReadBodyError;
use crate::oip;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No such endpoint.
    #[error("project `{project}` has no endpoint `{endpoint}`")]
    NoEndpoint {
        /// The project.
        project: String,
        /// The endpoint.
        endpoint: String,
    },
    /// The path is none.
    #[error("`{path}` is no valid path")]
    Path {
        /// What was given.
        path: String,
    },
    /// The body is not taken.
    #[error(transparent)]
    Body(#[from] ReadBodyError),
    /// Too many requests wait for a replica.
    #[error(
        "endpoint `{endpoint}` has no replica free, and {queue_max} requests are waiting already"
    )]
    QueueFull {
        /// The endpoint.
        endpoint: String,
        /// The most that wait.
        queue_max: usize,
    },
    /// No replica became ready in time.
    #[error("endpoint `{endpoint}` cannot answer: {reason}; waited {} ms", waited.as_millis())]
    NoReplica {
        /// The endpoint.
        endpoint: String,
        /// Why not.
        reason: String,
        /// How long the request waited.
        waited: Duration,
    },
    /// Replicas died while they answered this request, again and again.
    #[error("endpoint `{endpoint}`: {times} replicas ended while answering this request")]
    Lost {
        /// The endpoint.
        endpoint: String,
        /// How often.
        times: usize,
    },
    /// The replica took too long.
    #[error("endpoint `{endpoint}` did not answer within {} ms", answer_max.as_millis())]
    TimedOut {
        /// The endpoint.
        endpoint: String,
        /// How long it had.
        answer_max: Duration,
    },
}

impl ForwardError {
    /// The HTTP status that says it.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoEndpoint { .. } => StatusCode::NOT_FOUND,
            Self::Path { .. } | Self::Body(ReadBodyError::Broken(_)) => StatusCode::BAD_REQUEST,
            Self::Body(ReadBodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(ReadBodyError::Busy) | Self::QueueFull { .. } | Self::NoReplica { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Lost { .. } => StatusCode::BAD_GATEWAY,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// After how many seconds asking again may help.
    #[must_use]
    pub const fn retry_after_secs(&self) -> Option<u64> {
        match self {
            Self::Body(ReadBodyError::Busy) | Self::QueueFull { .. } | Self::NoReplica { .. } => {
                Some(1)
            }
            _ => None,
        }
    }
}

/// In the inference protocol's form: `{"error": …}`.
impl IntoResponse for ForwardError {
    fn into_response(self) -> Response {
        let body = oip::error_body(&self.to_string());
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(seconds) = self.retry_after_secs() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

//! The one place that turns what went wrong into HTTP.

use crate::blobs::BlobError;
use crate::datasets::DatasetError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lepton_access::Denied;
use lepton_api::{ErrorBody, ErrorCode};
use lepton_store::index::IndexError;
use lepton_store::{CommitError, Conflict, StoreError};
use lepton_types::resources::Kind;

/// A service that holds the objects and went away is asked for that long already.
const OBJECTS_RETRY_SECS: u32 = 10;

/// A response that is not a success.
#[derive(Debug)]
pub(crate) struct ApiError {
    body: ErrorBody,
    retry_after_secs: Option<u32>,
}

impl ApiError {
    /// A code and a sentence.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            body: ErrorBody::new(code, message),
            retry_after_secs: None,
        }
    }

    /// There is no such thing.
    pub(crate) fn not_found(kind: Kind, name: impl std::fmt::Display) -> Self {
        let name = name.to_string();
        let message = match (kind, name.rsplit_once('/')) {
            (Kind::DatasetVersion, Some((of, number))) => {
                format!("dataset `{of}` has no version {number}")
            }
            (Kind::ModelVersion, Some((of, number))) => {
                format!("model `{of}` has no version {number}")
            }
            _ => format!("{kind} `{name}` not found"),
        };
        Self::new(ErrorCode::NotFound, message)
    }

    /// The request is not of the right form.
    pub(crate) fn invalid(message: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::InvalidRequest, message.to_string())
    }

    /// The server failed; the cause goes to the log only.
    pub(crate) fn internal(cause: &dyn std::error::Error) -> Self {
        tracing::error!(error = %Chain(cause), "a request failed inside");
        Self::new(
            ErrorCode::Internal,
            "the server failed; its log has the cause",
        )
    }

    /// Nothing can answer now.
    pub(crate) fn unavailable(message: impl Into<String>, retry_after_secs: u32) -> Self {
        let retry_after_secs = Some(retry_after_secs);
        Self {
            retry_after_secs,
            ..Self::new(ErrorCode::Unavailable, message)
        }
    }

    /// The code.
    pub(crate) fn code(&self) -> ErrorCode {
        self.body.error.code
    }

    /// The sentence.
    pub(crate) fn message(&self) -> &str {
        &self.body.error.message
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code().http_status())
            .expect("invariant: every code has a valid status")
    }
}

/// An error and its causes on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut said = self.0.to_string();
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Some messages hold that of their cause.
            if !said.contains(&text) {
                said = format!("{said}: {text}");
            }
            source = cause.source();
        }
        f.write_str(&said)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), axum::Json(&self.body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code() == ErrorCode::Unauthenticated {
            let challenge = HeaderValue::from_static("Bearer realm=\"lepton\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull => Self::new(ErrorCode::DiskFull, error.to_string()),
            StoreError::Closed => Self::unavailable("the server is stopping", 1),
            StoreError::Corrupt { .. }
            | StoreError::CorruptSeries
            | StoreError::NotCommitted(_)
            | StoreError::Database(_) => Self::internal(&error),
        }
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store(error) => error.into(),
            CommitError::Conflict(conflict) => {
                let code = match conflict {
                    Conflict::AlreadyExists { .. } | Conflict::LoggedModelExists { .. } => {
                        ErrorCode::AlreadyExists
                    }
                    Conflict::Changed { .. }
                    | Conflict::ParamChanged { .. }
                    | Conflict::InBin { .. }
                    | Conflict::ProjectInUse { .. }
                    | Conflict::FileInTheWay { .. }
                    | Conflict::AssessmentOfOtherKind
                    | Conflict::RunDeleted { .. } => ErrorCode::Conflict,
                    Conflict::TooManyFiles { .. }
                    | Conflict::TraceTooLong { .. }
                    | Conflict::TooManyAssessments => ErrorCode::TooLarge,
                    Conflict::TraceOfOther { .. }
                    | Conflict::AliasTaken { .. }
                    | Conflict::FileTaken => ErrorCode::PermissionDenied,
                    Conflict::Missing { .. }
                    | Conflict::ProjectMissing { .. }
                    | Conflict::LoggedModelMissing { .. }
                    | Conflict::TraceMissing { .. }
                    | Conflict::AssessmentMissing { .. }
                    | Conflict::TraceTagMissing { .. }
                    | Conflict::RunMissing { .. }
                    | Conflict::TagMissing { .. } => ErrorCode::NotFound,
                };
                Self::new(code, conflict.to_string())
            }
        }
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::NotFound { .. } => Self::new(ErrorCode::NotFound, error.to_string()),
            BlobError::TooLarge { .. } => Self::new(ErrorCode::TooLarge, error.to_string()),
            BlobError::DiskFull => Self::new(ErrorCode::DiskFull, error.to_string()),
            BlobError::QuotaExceeded { .. } => {
                Self::new(ErrorCode::QuotaExceeded, error.to_string())
            }
            BlobError::Shredded => Self::new(ErrorCode::Shredded, error.to_string()),
            BlobError::Unreachable(_) => {
                tracing::error!(error = %Chain(&error), "objects cannot be reached");
                Self::unavailable(error.to_string(), OBJECTS_RETRY_SECS)
            }
            BlobError::Damaged(_) | BlobError::Failed(_) => Self::internal(&error),
        }
    }
}

impl From<DatasetError> for ApiError {
    fn from(error: DatasetError) -> Self {
        match error {
            DatasetError::Blob(error) => error.into(),
            DatasetError::Store(error) => error.into(),
            DatasetError::EmptyDraft { .. } => Self::new(ErrorCode::NotFound, error.to_string()),
            DatasetError::TooManyFiles { .. } => Self::new(ErrorCode::TooLarge, error.to_string()),
            DatasetError::CustomerKey { .. } => Self::invalid(error),
            DatasetError::Index(IndexError::DiskFull) => {
                Self::new(ErrorCode::DiskFull, error.to_string())
            }
            DatasetError::Index(_) => Self::internal(&error),
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        Self::new(ErrorCode::PermissionDenied, denied.to_string())
    }
}

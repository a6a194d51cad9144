//! Refusals in MLflow's words: a code, and the HTTP status that goes with it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lepton_api::ErrorCode;
use lepton_store::{CommitError, Conflict, StoreError};
use serde::Serialize;

use crate::blobs::BlobError;
use crate::error::ApiError;

/// MLflow's codes, those of them that Lepton answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidParameterValue,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
    EndpointNotFound,
    Unauthenticated,
    PermissionDenied,
    ResourceConflict,
    ResourceExhausted,
    InvalidState,
    InternalError,
    TemporarilyUnavailable,
}

impl Code {
    const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidParameterValue => "INVALID_PARAMETER_VALUE",
            Self::ResourceAlreadyExists => "RESOURCE_ALREADY_EXISTS",
            Self::ResourceDoesNotExist => "RESOURCE_DOES_NOT_EXIST",
            Self::EndpointNotFound => "ENDPOINT_NOT_FOUND",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceConflict => "RESOURCE_CONFLICT",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::InvalidState => "INVALID_STATE",
            Self::InternalError => "INTERNAL_ERROR",
            Self::TemporarilyUnavailable => "TEMPORARILY_UNAVAILABLE",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidParameterValue | Self::ResourceAlreadyExists => StatusCode::BAD_REQUEST,
            Self::ResourceDoesNotExist | Self::EndpointNotFound => StatusCode::NOT_FOUND,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceConflict => StatusCode::CONFLICT,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::InvalidState | Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A response that is not a success.
#[derive(Debug)]
pub(super) struct MlflowError {
    pub(super) code: Code,
    pub(super) message: String,
}

/// What every handler of this face answers.
pub(super) type Answer<T> = Result<axum::Json<T>, MlflowError>;

impl MlflowError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Something that was sent is not valid.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidParameterValue, message)
    }

    /// There is no such thing.
    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceDoesNotExist, message)
    }

    /// What cannot be left out was.
    pub(super) fn required(what: &str) -> Self {
        Self::invalid(format!("Missing value for required parameter '{what}'."))
    }
}

/// Text of a caller, cut so that a refusal is never longer than what is refused is worth.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .take(128)
        .flat_map(char::escape_debug)
        .collect()
}

#[derive(Serialize)]
struct Body<'a> {
    error_code: &'static str,
    message: &'a str,
}

impl IntoResponse for MlflowError {
    fn into_response(self) -> Response {
        let body = Body {
            error_code: self.code.as_str(),
            message: &self.message,
        };
        let mut response = (self.code.status(), axum::Json(body)).into_response();
        if self.code == Code::Unauthenticated {
            let challenge = HeaderValue::from_static("Basic realm=\"lepton\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<ApiError> for MlflowError {
    fn from(error: ApiError) -> Self {
        let code = match error.code() {
            ErrorCode::Unauthenticated => Code::Unauthenticated,
            ErrorCode::PermissionDenied | ErrorCode::QuotaExceeded => Code::PermissionDenied,
            ErrorCode::NotFound | ErrorCode::Shredded => Code::ResourceDoesNotExist,
            ErrorCode::MethodNotAllowed => Code::EndpointNotFound,
            ErrorCode::AlreadyExists => Code::ResourceAlreadyExists,
            ErrorCode::Conflict => Code::ResourceConflict,
            ErrorCode::Overloaded => Code::ResourceExhausted,
            _ => match error.status().as_u16() {
                400..=499 => Code::InvalidParameterValue,
                503 => Code::TemporarilyUnavailable,
                _ => Code::InternalError,
            },
        };
        Self::new(code, error.message())
    }
}

impl From<StoreError> for MlflowError {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<BlobError> for MlflowError {
    fn from(error: BlobError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<CommitError> for MlflowError {
    fn from(error: CommitError) -> Self {
        let conflict = match error {
            CommitError::Store(error) => return error.into(),
            CommitError::Conflict(conflict) => conflict,
        };
        match &conflict {
            Conflict::ParamChanged { key, stored } => Self::invalid(format!(
                "Changing param values is not allowed. Param with key='{key}' was already logged \
                 with value='{stored}'."
            )),
            Conflict::RunMissing { run } => Self::missing(format!("Run with id={run} not found")),
            Conflict::RunDeleted { run } => Self::invalid(format!(
                "The run {run} must be in the 'active' state. Current state is deleted."
            )),
            Conflict::TagMissing { run, key } => {
                Self::missing(format!("No tag with name: {key} in run with id {run}"))
            }
            Conflict::LoggedModelMissing { model } => {
                Self::missing(format!("Logged model with ID 'm-{model}' not found."))
            }
            Conflict::TraceMissing { trace } => {
                Self::missing(format!("Trace with ID '{}' not found.", shown(trace)))
            }
            Conflict::TraceTagMissing { key, .. } => {
                Self::missing(format!("No trace tag with key '{}' for trace", shown(key)))
            }
            Conflict::TraceOfOther { .. } | Conflict::AliasTaken { .. } | Conflict::FileTaken => {
                Self::new(Code::PermissionDenied, conflict.to_string())
            }
            Conflict::AssessmentMissing { trace, id } => Self::missing(format!(
                "Assessment with ID '{id}' not found for trace '{}'",
                shown(trace)
            )),
            Conflict::FileInTheWay { .. }
            | Conflict::TooManyFiles { .. }
            | Conflict::AssessmentOfOtherKind
            | Conflict::TraceTooLong { .. }
            | Conflict::TooManyAssessments => Self::invalid(conflict.to_string()),
            Conflict::InBin { kind, id } => Self::invalid(format!(
                "The {kind} {id} must be in the 'active' state. Current state is deleted."
            )),
            Conflict::Missing { .. } | Conflict::ProjectMissing { .. } => {
                Self::missing(conflict.to_string())
            }
            Conflict::ProjectInUse { .. } => {
                Self::new(Code::ResourceConflict, conflict.to_string())
            }
            Conflict::AlreadyExists { .. } | Conflict::LoggedModelExists { .. } => {
                Self::new(Code::ResourceAlreadyExists, conflict.to_string())
            }
            Conflict::Changed { .. } => Self::new(Code::ResourceConflict, conflict.to_string()),
        }
    }
}

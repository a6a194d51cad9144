//! Every way a request fails, as a status and `{"error": …}`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::batcher::SubmitError;
use crate::body::ReadBodyError;
use crate::engine::InferError;
use crate::inputs::InputError;
use crate::oip::{self, RequestError, UnknownOutput};
use crate::rows::{NotPerRow, RowsError};
use crate::token::REPLICA_NOT_READY_HEADER;

/// Why a request is not answered with outputs.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("this replica answers its gateway only")]
    Token,
    #[error("no model `{model}` is served here")]
    NoModel { model: String },
    #[error("version `{version}` of model `{model}` is not served here")]
    NoVersion { model: String, version: String },
    #[error("no such path")]
    NoPath,
    #[error("this path does not take that method")]
    NoMethod,
    #[error("the model is being loaded; try again")]
    Loading,
    #[error("content encoding `{encoding}` is not taken: send the body as it is")]
    Encoding { encoding: String },
    #[error("the header `{}` is no number", oip::HEADER_LENGTH)]
    HeaderLength,
    #[error(transparent)]
    Body(#[from] ReadBodyError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Rows(#[from] RowsError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Output(#[from] UnknownOutput),
    #[error(transparent)]
    NotPerRow(#[from] NotPerRow),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error("the answer could not be written")]
    Panicked,
}

impl Failure {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::NoModel { .. } | Self::NoVersion { .. } | Self::NoPath => StatusCode::NOT_FOUND,
            Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Encoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body(ReadBodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Loading
            | Self::Body(ReadBodyError::Busy)
            | Self::Submit(SubmitError::Full { .. } | SubmitError::Stopped) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::HeaderLength
            | Self::Body(ReadBodyError::Broken(_))
            | Self::Request(_)
            | Self::Rows(_)
            | Self::Input(_)
            | Self::Output(_)
            | Self::NotPerRow(_)
            | Self::Submit(SubmitError::Infer(
                InferError::Input(_) | InferError::NulInText { .. } | InferError::Refused { .. },
            )) => StatusCode::BAD_REQUEST,
            Self::Submit(SubmitError::Infer(InferError::Failed { .. })) | Self::Panicked => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status();
        let not_ready = matches!(self, Self::Loading | Self::Submit(SubmitError::Stopped));
        let mut response = (status, oip::error_body(&self.to_string())).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if not_ready {
            headers.insert(REPLICA_NOT_READY_HEADER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

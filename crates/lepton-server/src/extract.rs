//! Parsing at the border: bodies, queries and paths, each refused with an error that
//! names the field.

use std::str::FromStr;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use lepton_api::{ErrorCode, List};
use lepton_store::Page;
use lepton_types::{Id, Name};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The longest JSON body. A batch of 10,000 metric points has about 1 MiB.
pub(crate) const JSON_BYTES_MAX: usize = 8 << 20;

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body, JSON_BYTES_MAX).await?;
        if bytes.is_empty() {
            return Err(ApiError::invalid(
                "the request has no body: JSON is expected",
            ));
        }
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let value = T::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        value
            .map(Self)
            .map_err(|error| ApiError::invalid(misfit(&bytes, &error)))
    }
}

/// Why a body is not what was expected. Every body is an object: what is none is told so, without
/// the name that the type has inside.
fn misfit(body: &[u8], error: &serde_json::Error) -> String {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if error.is_data() && first.is_some_and(|byte| *byte != b'{') {
        return "the JSON body does not fit: an object is expected".to_owned();
    }
    format!("the JSON body does not fit: {error}")
}

/// Reads a body of at most `limit` bytes; a longer one is refused before it is read, if it
/// says so, or where it exceeds.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(
            ErrorCode::TooLarge,
            format!("the body is longer than {limit} bytes"),
        )
    };
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if declared
        .and_then(|text| text.parse().ok())
        .is_some_and(|length: usize| length > limit)
    {
        return Err(too_large());
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Err(_) => Err(ApiError::invalid("the body ended before it was complete")),
    }
}

/// Path parameters.
pub(crate) struct Segments<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(refused)) => {
                let message = format!("the path does not fit: {refused}");
                Err(ApiError::new(ErrorCode::InvalidName, message))
            }
            Err(refused) => Err(ApiError::invalid(refused.body_text())),
        }
    }
}

/// Query parameters.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(QueryRejection::FailedToDeserializeQueryString(refused)) => {
                let why = std::error::Error::source(&refused);
                let why = why.map_or_else(|| refused.body_text(), ToString::to_string);
                Err(ApiError::invalid(format!("the query does not fit: {why}")))
            }
            Err(refused) => Err(ApiError::invalid(refused.body_text())),
        }
    }
}

/// The query parameters of every list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
pub(crate) struct Paging {
    /// At most this many; 1,000 where absent.
    #[serde(default)]
    pub(crate) limit: usize,
    /// From the page before.
    pub(crate) page_token: Option<String>,
    /// Only those of this name.
    pub(crate) name: Option<String>,
    /// Only those in one of these phases, separated by commas.
    pub(crate) phase: Option<String>,
    /// Newest first.
    #[serde(default)]
    pub(crate) newest: bool,
}

impl Paging {
    /// The store's query for a project.
    pub(crate) fn query(
        &self,
        project: &Name,
        phases: &[&'static str],
    ) -> Result<lepton_store::Query, ApiError> {
        let after = match &self.page_token {
            None => None,
            Some(token) => Some(token.parse::<Id>().map_err(|_| {
                ApiError::invalid("`page_token` is not one that a page before has given")
            })?),
        };
        Ok(lepton_store::Query {
            name: self.name.clone(),
            phases: parse_phases(self.phase.as_deref(), phases)?,
            newest_first: self.newest,
            after,
            limit: self.limit,
            ..lepton_store::Query::project(project)
        })
    }
}

impl Paging {
    /// The name after which a page begins, and how many it may have, for lists in order of name.
    pub(crate) fn by_name(&self) -> (String, usize) {
        let limit = match self.limit {
            0 => PAGE_MAX,
            limit => limit.min(PAGE_MAX),
        };
        (self.page_token.clone().unwrap_or_default(), limit)
    }
}

/// The most entries of a page of a list in order of name.
const PAGE_MAX: usize = 1_000;

fn parse_phases(
    asked: Option<&str>,
    known: &[&'static str],
) -> Result<Vec<&'static str>, ApiError> {
    let Some(asked) = asked else {
        return Ok(Vec::new());
    };
    let find = |word: &str| {
        known
            .iter()
            .copied()
            .find(|phase| phase.eq_ignore_ascii_case(word))
            .ok_or_else(|| {
                ApiError::invalid(format!("`{word}` is not a phase: use {}", known.join(", ")))
            })
    };
    asked.split(',').map(str::trim).map(find).collect()
}

/// A page as it goes over the wire.
pub(crate) fn list_of<T>(page: Page<T>) -> List<T> {
    List {
        items: page.items,
        next_page_token: page.next.map(|id| id.to_string()),
    }
}

/// Parses a name out of a path or a body.
pub(crate) fn parse_name<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, ApiError> {
    text.parse()
        .map_err(|error: T::Err| ApiError::new(ErrorCode::InvalidName, error.to_string()))
}

/// Whether `path` stays within a folder: relative, no empty, `.` or `..` part, no control
/// characters, at most 1,024 bytes.
pub(crate) fn parse_relative_path(path: &str) -> Result<&str, ApiError> {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let valid = !path.is_empty()
        && path.len() <= 1_024
        && path.split('/').all(part)
        && !path.contains('\\')
        && !path.chars().any(char::is_control);
    if valid {
        return Ok(path);
    }
    let shown: String = path.chars().take(64).flat_map(char::escape_debug).collect();
    Err(ApiError::new(
        ErrorCode::InvalidName,
        format!(
            "`{shown}` is not a valid path: it must be relative, without empty parts, `.` and `..`"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_never_leave_their_folder() {
        for good in ["a", "a/b.txt", "模型/model.onnx", "...", ".hidden"] {
            assert!(parse_relative_path(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            "./a",
            "a\0b",
            "a\\b",
            &"x".repeat(1_025),
        ] {
            assert!(parse_relative_path(bad).is_err(), "{bad}");
        }
    }
}

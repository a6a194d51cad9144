//! What readers demand of a version before they are given it.

use http::{HeaderMap, HeaderValue, StatusCode};
use lepton_store::index::ObjectVersion;
use s3s::dto;
use s3s::{S3Result, s3_error};

use super::attributes::unstamp;
use super::errors::precondition;

/// What a reader demands of the version.
#[derive(Default)]
pub(super) struct Demands {
    pub(super) matches: Option<dto::ETagCondition>,
    pub(super) matches_not: Option<dto::ETagCondition>,
    pub(super) modified_since: Option<dto::Timestamp>,
    pub(super) unmodified_since: Option<dto::Timestamp>,
}

/// Whether a reader's demands hold (RFC 9110 §13.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Yes,
    NotModified,
    Failed,
}

impl Demands {
    pub(super) fn hold(&self, version: &ObjectVersion) -> Held {
        let is = |condition: &dto::ETagCondition| match condition {
            dto::ETagCondition::Any => true,
            dto::ETagCondition::ETag(etag) => etag.value() == version.etag,
        };
        // HTTP's dates are of whole seconds.
        let second = version.modified.as_millis() / 1_000;
        let later_than = |at: &dto::Timestamp| second > unstamp(at.clone()).as_millis() / 1_000;
        match (&self.matches, &self.unmodified_since) {
            (Some(condition), _) if !is(condition) => return Held::Failed,
            (None, Some(at)) if later_than(at) => return Held::Failed,
            _ => {}
        }
        match (&self.matches_not, &self.modified_since) {
            (Some(condition), _) if is(condition) => Held::NotModified,
            (None, Some(at)) if !later_than(at) => Held::NotModified,
            _ => Held::Yes,
        }
    }
}

/// Refuses unless the demands hold.
pub(super) fn meet(demands: &Demands, version: &ObjectVersion) -> S3Result<()> {
    match demands.hold(version) {
        Held::Yes => Ok(()),
        Held::Failed => Err(precondition()),
        Held::NotModified => {
            let mut error = s3_error!(NotModified);
            error.set_status_code(StatusCode::NOT_MODIFIED);
            let mut headers = HeaderMap::new();
            if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", version.etag)) {
                headers.insert(http::header::ETAG, etag);
            }
            error.set_headers(headers);
            Err(error)
        }
    }
}

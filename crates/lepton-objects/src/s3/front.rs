//! The front: what is around the library. Request ids, browsers, and requests that it would let in
//! and that are refused here.

use std::convert::Infallible;

use http::{HeaderValue, Method, Request, Response, StatusCode};
use lepton_store::index::Bucket;
use s3s::dto;
use s3s::service::S3Service;
use s3s::{Body, HttpRequest, HttpResponse};

use super::chunks;
use super::cors::{self, Origin};
use super::patterns::form_pairs;
use super::{Face, settings};

/// How long a presigned URL may be good, as in S3.
const PRESIGNED_SECONDS_MAX: u32 = 7 * 86_400;

/// Buckets of one name that are looked at for a browser, who tells no project.
const NAMESAKES_MAX: usize = 32;

/// Answers HTTP requests. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    face: Face,
    service: S3Service,
}

impl Front {
    pub(super) fn new(face: Face) -> Self {
        let service = face.service();
        Self { face, service }
    }

    /// Answers one request.
    ///
    /// # Errors
    /// Never; what goes wrong is an answer.
    pub async fn call(&self, request: HttpRequest) -> Result<HttpResponse, Infallible> {
        let id = self.face.ids.next_id().to_string();
        let waits_in_vain = waits_in_vain(&request);
        let mut response = self.answer(request).await;
        if response.status().is_client_error() || response.status().is_server_error() {
            name_request(&mut response, &id);
        }
        let headers = response.headers_mut();
        if waits_in_vain {
            let close = HeaderValue::from_static("close");
            headers.insert(http::header::CONNECTION, close);
        }
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert("x-amz-request-id", id);
        }
        headers.insert(http::header::SERVER, HeaderValue::from_static("Lepton"));
        Ok(response)
    }

    async fn answer(&self, request: HttpRequest) -> HttpResponse {
        if let Some(refused) = refusal(&request) {
            return refused;
        }
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let bucket = bucket_in(request.uri().path());
        let query = request.uri().query().unwrap_or_default();
        let tells_attributes = query.split('&').any(|part| part == "attributes");
        let asked = cors::origin_of(&method, &headers);
        if method == Method::OPTIONS {
            return match asked {
                Some(asked) => self.preflight(&bucket, &asked).await,
                None => error(
                    cors::NO_PREFLIGHT,
                    "BadRequest",
                    "Insufficient information. Origin request header needed.",
                ),
            };
        }
        let mut response = match self.service.call(chunks::bound(request)).await {
            Ok(response) => response,
            Err(failed) => {
                let failed: s3s::StdError = failed.into();
                tracing::error!(error = %failed, "a request could not be answered");
                error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "InternalError",
                    "We encountered an internal error. Please try again.",
                )
            }
        };
        if tells_attributes {
            unquote_etag(&mut response);
        }
        if let Some(asked) = asked
            && let Some(rule) = self.rule(&bucket, &asked).await
        {
            cors::allow(&rule, &asked, response.headers_mut());
        }
        response
    }

    async fn preflight(&self, bucket: &str, asked: &Origin<'_>) -> HttpResponse {
        match self.rule(bucket, asked).await {
            Some(rule) => {
                let mut response = Response::new(Body::empty());
                cors::allow(&rule, asked, response.headers_mut());
                response
            }
            None => error(
                cors::REFUSED,
                "AccessForbidden",
                "CORSResponse: This CORS request is not allowed.",
            ),
        }
    }

    /// The rule that lets a browser in. A preflight is not signed, so any bucket of the name may
    /// have it; the request that follows is signed and finds its own.
    async fn rule(&self, name: &str, asked: &Origin<'_>) -> Option<dto::CORSRule> {
        let buckets = self.face.index.buckets_named(name, NAMESAKES_MAX).await;
        for Bucket { id, .. } in buckets.ok()? {
            let found = self.face.read_setting(id, settings::CORS).await;
            let found: Option<dto::CORSConfiguration> = found.ok()?;
            let rules = found.map(|found| found.cors_rules).unwrap_or_default();
            if let Some(rule) = cors::rule_for(&rules, asked) {
                return Some(rule.clone());
            }
        }
        None
    }
}

/// Whether a client waits for `100 Continue` before an empty body, which is answered without one.
/// boto3 and the aws CLI then read the next answer on that connection wrongly, so it is closed.
fn waits_in_vain<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let is = |name, value: &[u8]| {
        let found: Option<&HeaderValue> = headers.get(name);
        found.is_some_and(|found| found.as_bytes() == value)
    };
    headers.contains_key(http::header::EXPECT) && is(http::header::CONTENT_LENGTH, b"0")
}

/// `GetObjectAttributes` alone tells an `ETag` without quotes, which the library's type cannot.
fn unquote_etag(response: &mut HttpResponse) {
    let Some(text) = response.body().bytes() else {
        return;
    };
    let text = String::from_utf8_lossy(&text);
    let plain = text
        .replace("<ETag>&quot;", "<ETag>")
        .replace("<ETag>\"", "<ETag>")
        .replace("&quot;</ETag>", "</ETag>")
        .replace("\"</ETag>", "</ETag>");
    response.headers_mut().remove(http::header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(plain);
}

/// Puts the request's id into the text of an error, as S3 does.
fn name_request(response: &mut HttpResponse, id: &str) {
    let Some(text) = response.body().bytes() else {
        return;
    };
    let text = String::from_utf8_lossy(&text);
    let Some(whole) = text.strip_suffix("</Error>") else {
        return;
    };
    let named = format!("{whole}<RequestId>{id}</RequestId></Error>");
    response.headers_mut().remove(http::header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(named);
}

fn bucket_in(path: &str) -> String {
    let name = path.trim_start_matches('/').split('/').next();
    name.unwrap_or_default().to_owned()
}

/// What the library would let in: headers signed by version 2, which never expire, and presigned
/// URLs without end. URLs presigned by version 2, which is what boto3 makes unless told otherwise,
/// carry the moment of their end and are checked by the library.
fn refusal<B>(request: &Request<B>) -> Option<HttpResponse> {
    let authorization = request.headers().get(http::header::AUTHORIZATION);
    let old = authorization.is_some_and(|value| value.as_bytes().starts_with(b"AWS "));
    let query = form_pairs(request.uri().query().unwrap_or_default());
    let value = |name: &str| {
        let found = query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    if old {
        return Some(error(
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        ));
    }
    value("X-Amz-Signature")?;
    let seconds = value("X-Amz-Expires").and_then(|text| text.parse::<u32>().ok());
    if seconds.is_none_or(|seconds| seconds > PRESIGNED_SECONDS_MAX) {
        return Some(error(
            StatusCode::BAD_REQUEST,
            "AuthorizationQueryParametersError",
            "X-Amz-Expires must be a number of seconds, and less than a week",
        ));
    }
    None
}

fn error(status: StatusCode, code: &str, message: &str) -> HttpResponse {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/xml"),
    );
    response
}

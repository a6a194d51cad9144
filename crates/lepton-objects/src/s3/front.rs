//! The front: what is around the library. Request ids, browsers, and requests that it would let in
//! and that are refused here.

use std::convert::Infallible;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode};
use lepton_store::index::{Bucket, BucketId};
use lepton_types::Timestamp;
use s3s::dto;
use s3s::service::S3Service;
use s3s::{Body, HttpRequest, HttpResponse};

use super::chunks;
use super::cors::{self, Origin};
use super::forms::{self, FormError};
use super::patterns::form_pairs;
use super::{FORM_BYTES_MAX, FORM_FIELDS_BYTES_MAX, Face, FoundBucket, settings};

/// How long a presigned URL may be good, as in S3.
const PRESIGNED_SECONDS_MAX: u32 = 7 * 86_400;

/// The longest that all headers of a request may be together: S3 allows half of it, and browsers
/// bring cookies.
const HEADERS_BYTES_MAX: usize = 16 << 10;

/// How long a form waits for room.
const PLACE_MAX: Duration = Duration::from_secs(10);

/// How long a form may take to arrive, which is held in memory.
const FORM_MAX: Duration = Duration::from_secs(120);

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
        if let Some(refused) = refusal(&request, self.face.now()) {
            return refused;
        }
        let found = FoundBucket::default();
        let mut request = request;
        request.extensions_mut().insert(FoundBucket::clone(&found));
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
        let mut response = match is_form(&request) {
            true => self.take_form(request).await,
            false => self.serve(request).await,
        };
        if tells_attributes {
            unquote_etag(&mut response);
        }
        if let Some(asked) = asked
            && let Some(bucket) = found.get()
            && let Some(rule) = self.rule_of(*bucket, &asked).await
        {
            cors::allow(&rule, &asked, response.headers_mut());
        }
        response
    }

    async fn serve(&self, request: HttpRequest) -> HttpResponse {
        match self.service.call(chunks::bound(request)).await {
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
        }
    }

    /// A browser's form is held in memory before it is known who sends it: few at once, none that does
    /// not tell its length, none that dawdles.
    async fn take_form(&self, request: HttpRequest) -> HttpResponse {
        let length = request.headers().get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        match length {
            None => {
                return error(
                    StatusCode::LENGTH_REQUIRED,
                    "MissingContentLength",
                    "You must provide the Content-Length HTTP header.",
                );
            }
            Some(length) if length > FORM_BYTES_MAX + FORM_FIELDS_BYTES_MAX as u64 => {
                return error(
                    StatusCode::BAD_REQUEST,
                    "EntityTooLarge",
                    "Your proposed upload exceeds the maximum allowed size of a form",
                );
            }
            Some(_) => {}
        }
        let place = tokio::time::timeout(PLACE_MAX, self.face.0.forms.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return error(
                StatusCode::SERVICE_UNAVAILABLE,
                "SlowDown",
                "Please reduce your request rate.",
            );
        };
        let answer = async {
            match forms::prepared(request).await {
                Ok(request) => self.serve(request).await,
                Err(refused) => refuse_form(&refused),
            }
        };
        match tokio::time::timeout(FORM_MAX, answer).await {
            Ok(response) if fails_its_policy(&response) => error(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "Invalid according to Policy: a condition of it does not hold, or a field has none",
            ),
            Ok(response) => response,
            Err(_) => error(
                StatusCode::BAD_REQUEST,
                "RequestTimeout",
                "Your form took too long to arrive.",
            ),
        }
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

    /// The rule that lets a browser ask. A preflight is not signed, so any bucket of the name may
    /// have it; the request that follows finds its own.
    async fn rule(&self, name: &str, asked: &Origin<'_>) -> Option<dto::CORSRule> {
        let buckets = self.face.index.buckets_named(name, NAMESAKES_MAX).await;
        for Bucket { id, .. } in buckets.ok()? {
            if let Some(rule) = self.rule_of(id, asked).await {
                return Some(rule);
            }
        }
        None
    }

    async fn rule_of(&self, bucket: BucketId, asked: &Origin<'_>) -> Option<dto::CORSRule> {
        let found = self.face.read_setting(bucket, settings::CORS).await;
        let found: Option<dto::CORSConfiguration> = found.ok()?;
        cors::rule_for(&found?.cors_rules, asked).cloned()
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

/// Whether it is a browser's form.
fn is_form<B>(request: &Request<B>) -> bool {
    // The library passes over what is no text, so it need not be the first that counts.
    let mut kinds = request.headers().get_all(http::header::CONTENT_TYPE).iter();
    request.method() == Method::POST
        && kinds.any(|kind| {
            let kind = kind.as_bytes().get(..19);
            kind.is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/form-data"))
        })
}

fn refuse_form(why: &FormError) -> HttpResponse {
    let code = match why {
        FormError::Unspoken(_) => {
            return error(StatusCode::FORBIDDEN, "AccessDenied", &why.to_string());
        }
        FormError::Unsigned => "InvalidArgument",
        FormError::Expiration => "InvalidPolicyDocument",
        FormError::Characters(_) => "InvalidRequest",
        FormError::Malformed => "MalformedPOSTRequest",
        FormError::Broken(_) => "IncompleteBody",
    };
    error(StatusCode::BAD_REQUEST, code, &why.to_string())
}

/// Whether a form was refused as its policy does not allow it, which the library takes for a malformed
/// policy.
fn fails_its_policy(response: &HttpResponse) -> bool {
    let Some(text) = response.body().bytes() else {
        return false;
    };
    let text = String::from_utf8_lossy(&text);
    text.contains("<Code>InvalidPolicyDocument</Code>")
        && [
            "<Message>Policy condition &apos;",
            "<Message>Policy condition '",
            "<Message>Policy condition &#39;",
            "<Message>Bucket in form field",
        ]
        .iter()
        .any(|said| text.contains(said))
}

fn bucket_in(path: &str) -> String {
    let name = path.trim_start_matches('/').split('/').next();
    name.unwrap_or_default().to_owned()
}

/// What the library would let in: headers signed by version 2, which never expire, and presigned
/// URLs that are good for longer than a week. Those of version 2, which is what boto3 makes unless told
/// otherwise, carry the moment of their end, which the library checks.
fn refusal<B>(request: &Request<B>, now: Timestamp) -> Option<HttpResponse> {
    let headers = request.headers().iter();
    let bytes: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > HEADERS_BYTES_MAX {
        return Some(error(
            StatusCode::BAD_REQUEST,
            "RequestHeaderSectionTooLarge",
            "Your request header section exceeds the maximum allowed size.",
        ));
    }
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
    let week = i64::from(PRESIGNED_SECONDS_MAX);
    let end = value("Expires").filter(|_| value("Signature").is_some());
    if let Some(end) = end
        && end
            .parse::<i64>()
            .is_ok_and(|end| end - now.as_millis() / 1_000 > week)
    {
        return Some(error(
            StatusCode::FORBIDDEN,
            "AccessDenied",
            "The URL may be good for a week at most",
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
    let message = message.replace('&', "&amp;");
    let message = message.replace('<', "&lt;").replace('>', "&gt;");
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

#[cfg(test)]
mod tests;

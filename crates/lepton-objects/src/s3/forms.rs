//! Browsers' forms on their way to the library, which takes fields as they are.
//!
//! Owns: what S3 makes of a form before its policy is asked. `${filename}` becomes the name of the file, a
//! checksum among the fields holds for the file, and a policy has a signature and a proper end. Must not
//! know: whether the signature is right, what the policy allows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use s3s::{Body, HttpRequest, StdError};

use super::FORM_FIELDS_BYTES_MAX;
use super::checksums::Algorithm;

/// What is read at most in search of the file: the fields, and what stands between them.
const HEAD_BYTES_MAX: usize = 2 * FORM_FIELDS_BYTES_MAX;

/// What stands for the name of the file in a field.
const FILE_NAME: &str = "${filename}";

/// Why a form is refused before its policy is asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormError {
    /// It has a policy, and nobody vouches for it.
    #[error("a form that has a policy must have a field named `signature` or `x-amz-signature`")]
    Unsigned,
    /// The library would also take moments that are told in other ways.
    #[error("`expiration` in the policy must be a moment like 2030-01-01T12:00:00Z")]
    Expiration,
    /// It can be no header's.
    #[error("the field `{0}` has characters that it cannot have")]
    Checksum(String),
    /// It ended before it was whole.
    #[error("the form did not arrive")]
    Broken(#[source] StdError),
}

/// What comes before the bytes of the file.
#[derive(Debug)]
struct Head<'a> {
    /// Names and values, in order.
    fields: Vec<(&'a str, &'a str)>,
    /// As the browser tells it, which may have a path.
    file: Option<&'a str>,
    /// How long all of it is.
    length: usize,
}

/// The form as the library is to see it. One that is malformed goes on as it is: the library refuses it.
pub(super) async fn prepared(request: HttpRequest) -> Result<HttpRequest, FormError> {
    let Some(boundary) = boundary(request.headers()) else {
        return Ok(request);
    };
    let (mut parts, body) = request.into_parts();
    let mut body = body.into_data_stream();
    let mut begun = Vec::new();
    // It is looked at each time that twice as much has come, so that small pieces cost no more.
    let mut look_at = 1;
    while begun.len() < HEAD_BYTES_MAX
        && let Some(some) = body.next().await
    {
        begun.extend_from_slice(&some.map_err(FormError::Broken)?);
        if begun.len() >= look_at {
            look_at = 2 * begun.len();
            if Head::read(&begun, &boundary).is_some() {
                break;
            }
        }
    }
    let begun = Bytes::from(begun);
    let Some(head) = Head::read(&begun, &boundary) else {
        let body = joined([begun.clone()], body);
        return Ok(http::Request::from_parts(parts, body));
    };
    let text = head.written(&boundary, &mut parts.headers)?;
    if let Some(length) = content_length(&parts.headers) {
        let length = (length + text.len() as u64).saturating_sub(head.length as u64);
        parts.headers.insert(CONTENT_LENGTH, length.into());
    }
    let body = joined([text.into(), begun.slice(head.length..)], body);
    Ok(http::Request::from_parts(parts, body))
}

/// What was read already, and the rest.
fn joined<const N: usize>(
    begun: [Bytes; N],
    rest: impl Stream<Item = Result<Bytes, StdError>> + Send + 'static,
) -> Body {
    let begun = begun.into_iter().filter(|bytes| !bytes.is_empty());
    let begun = stream::iter(begun.map(Ok).collect::<Vec<_>>());
    let frames = begun.chain(rest).map(|bytes| bytes.map(Frame::data));
    Body::http_body_unsync(StreamBody::new(frames))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What stands between the parts of a form.
fn boundary(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    parameter(kind, "boundary").map(str::to_owned)
}

/// One parameter of a header's value: `form-data; name="file"`.
fn parameter<'a>(value: &'a str, wanted: &str) -> Option<&'a str> {
    let (_, mut rest) = value.split_once(';')?;
    loop {
        let (name, told) = rest.split_once('=')?;
        let (value, after) = match told.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => told.split_at(told.find(';').unwrap_or(told.len())),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value.trim());
        }
        rest = after.trim_start().strip_prefix(';')?;
    }
}

/// What is before and behind the first of `pattern`.
fn split<'a>(bytes: &'a [u8], pattern: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes
        .windows(pattern.len())
        .position(|place| place == pattern)?;
    Some((&bytes[..at], &bytes[at + pattern.len()..]))
}

impl<'a> Head<'a> {
    /// What begins a form, if the file has come and nothing is wrong.
    fn read(begun: &'a [u8], boundary: &str) -> Option<Self> {
        let end = format!("\r\n--{boundary}");
        let rest = begun.strip_prefix(b"\r\n").unwrap_or(begun);
        let mut rest = rest.strip_prefix(&end.as_bytes()[2..])?;
        let mut fields = Vec::new();
        loop {
            let (headers, after) = split(rest.strip_prefix(b"\r\n")?, b"\r\n\r\n")?;
            let headers = std::str::from_utf8(headers).ok()?;
            let mut headers = headers
                .split("\r\n")
                .filter_map(|line| line.split_once(':'));
            let (_, disposition) =
                headers.find(|(name, _)| name.eq_ignore_ascii_case("content-disposition"))?;
            let name = parameter(disposition, "name")?;
            if name.eq_ignore_ascii_case("file") {
                return Some(Self {
                    fields,
                    file: parameter(disposition, "filename"),
                    length: begun.len() - after.len(),
                });
            }
            let (value, next) = split(after, end.as_bytes())?;
            fields.push((name, std::str::from_utf8(value).ok()?));
            rest = next;
        }
    }

    fn field(&self, wanted: &str) -> Option<&'a str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| *value)
    }

    /// The same for the library. What a checksum says is told by `headers`, too, where that of every
    /// other upload is.
    fn written(&self, boundary: &str, headers: &mut HeaderMap) -> Result<String, FormError> {
        let policy = match self.field("policy") {
            Some(policy) => decoded(policy).unwrap_or_default(),
            None => String::new(),
        };
        let signed = ["signature", "x-amz-signature"].map(|name| self.field(name));
        if self.field("policy").is_some() && signed == [None, None] {
            return Err(FormError::Unsigned);
        }
        check_end(&policy)?;
        let policy = policy.to_ascii_lowercase();
        let file = file_name(self.file.unwrap_or_default());
        let mut text = String::new();
        for (name, value) in &self.fields {
            let name = name.to_ascii_lowercase();
            if is_checksum(&name) {
                let refused = |_| FormError::Checksum(name.clone());
                let value = HeaderValue::from_str(value).map_err(refused)?;
                let header = http::HeaderName::try_from(&name);
                let header = header.map_err(|_| FormError::Checksum(name.clone()))?;
                headers.insert(header, value);
                // A checksum opens nothing, so a policy need not speak of it.
                if !policy.contains(&name) {
                    continue;
                }
            }
            let value = value.replace(FILE_NAME, file);
            text += &part(boundary, &format!("name=\"{name}\""), &value);
            text += "\r\n";
        }
        let about = match self.file {
            Some(file) => format!("name=\"file\"; filename=\"{file}\""),
            None => "name=\"file\"".to_owned(),
        };
        Ok(text + &part(boundary, &about, ""))
    }
}

fn part(boundary: &str, about: &str, value: &str) -> String {
    format!("--{boundary}\r\nContent-Disposition: form-data; {about}\r\n\r\n{value}")
}

/// Some browsers tell the whole path.
fn file_name(told: &str) -> &str {
    told.rsplit(['/', '\\']).next().unwrap_or_default()
}

fn is_checksum(field: &str) -> bool {
    let mut all = Algorithm::ALL.into_iter().map(Algorithm::header);
    field == "x-amz-sdk-checksum-algorithm" || all.any(|header| header == field)
}

fn decoded(policy: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(policy).ok()?).ok()
}

/// Refuses an end that is not told as S3 has it. What is no policy at all is the library's to refuse.
fn check_end(policy: &str) -> Result<(), FormError> {
    let Ok(policy) = serde_json::from_str::<serde_json::Value>(policy) else {
        return Ok(());
    };
    match policy.get("expiration").and_then(|end| end.as_str()) {
        Some(end) if end.as_bytes().get(10) != Some(&b'T') || !end.ends_with('Z') => {
            Err(FormError::Expiration)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIKE_A_BROWSER: &str = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n\
        up/${filename}\r\n--b\r\nContent-Disposition: form-data; name=\"X-Amz-Checksum-CRC32\"\r\n\r\n\
        AAAAAA==\r\n--b\r\ncontent-type: text/plain\r\ncontent-disposition: form-data; name=\"file\"; \
        filename=\"C:\\dir\\a.txt\"\r\n\r\nbytes\r\n--b--\r\n";

    async fn prepare(form: &'static [u8], piece: usize) -> Result<(HeaderMap, String), FormError> {
        let pieces: Vec<_> = form.chunks(piece).map(Bytes::from_static).collect();
        let frames = stream::iter(
            pieces
                .into_iter()
                .map(|piece| Ok::<_, StdError>(Frame::data(piece))),
        );
        let request = http::Request::builder()
            .header(
                CONTENT_TYPE,
                "multipart/form-data; charset=utf-8; boundary=\"b\"",
            )
            .header(CONTENT_LENGTH, form.len())
            .body(Body::http_body_unsync(StreamBody::new(frames)));
        let (parts, body) = prepared(request.unwrap()).await?.into_parts();
        let told = BodyExt::collect(body).await.unwrap().to_bytes();
        assert_eq!(content_length(&parts.headers), Some(told.len() as u64));
        Ok((parts.headers, String::from_utf8(told.to_vec()).unwrap()))
    }

    #[tokio::test]
    async fn the_files_name_and_checksums_are_where_the_library_looks() {
        for piece in [1, 7, 64, 4_096] {
            let (headers, told) = prepare(LIKE_A_BROWSER.as_bytes(), piece).await.unwrap();
            assert_eq!(headers["x-amz-checksum-crc32"], "AAAAAA==");
            assert_eq!(
                told,
                "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nup/a.txt\r\n--b\r\n\
                 Content-Disposition: form-data; name=\"file\"; filename=\"C:\\dir\\a.txt\"\r\n\r\n\
                 bytes\r\n--b--\r\n"
            );
        }
    }

    #[tokio::test]
    async fn what_is_malformed_goes_on_as_it_is() {
        for form in [
            &b""[..],
            b"--c\r\n\r\n",
            b"--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b--\r\n",
            b"--b\r\nContent-Disposition: form-data; name=key\r\n\r\n\xff\r\n--b\r\n",
        ] {
            let request = http::Request::builder()
                .header(CONTENT_TYPE, "multipart/form-data; boundary=b")
                .body(Body::from(Bytes::from_static(form)));
            let body = prepared(request.unwrap()).await.unwrap().into_body();
            assert_eq!(BodyExt::collect(body).await.unwrap().to_bytes(), form);
        }
    }

    #[test]
    fn a_policy_is_signed_and_has_a_proper_end() {
        let written = |policy: &str, signature: Option<&'static str>| {
            let policy = STANDARD.encode(policy);
            let mut fields = vec![("policy", policy.as_str()), ("x-amz-checksum-sha1", "x")];
            fields.extend(signature.map(|signature| ("Signature", signature)));
            let head = Head {
                fields,
                file: None,
                length: 0,
            };
            head.written("b", &mut HeaderMap::new())
        };
        let good = r#"{"expiration": "2030-01-01T00:00:00Z", "conditions": []}"#;
        assert!(!written(good, Some("s")).unwrap().contains("sha1"));
        assert!(matches!(written(good, None), Err(FormError::Unsigned)));
        let bad = good.replace('T', " ");
        assert!(matches!(
            written(&bad, Some("s")),
            Err(FormError::Expiration)
        ));
        let asks = good.replace("[]", r#"[["eq", "$X-Amz-Checksum-SHA1", "x"]]"#);
        assert!(written(&asks, Some("s")).unwrap().contains("sha1"));
    }
}

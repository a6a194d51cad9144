//! Browsers' forms on their way to the library, which takes fields as they are.
//!
//! Owns: what S3 makes of a form before its policy is asked. `${filename}` becomes the name of the file, a
//! checksum among the fields holds for the file, a policy has a signature and a proper end, and the library reads the
//! same fields as are read here. Must not know: whether the signature is right, what the policy allows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use s3s::{Body, HttpRequest, StdError};
use serde_json::Value;

use super::FORM_FIELDS_BYTES_MAX;
use super::checksums::Algorithm;

/// What is read at most in search of the file: the fields, and what stands between them.
const HEAD_BYTES_MAX: usize = 2 * FORM_FIELDS_BYTES_MAX;

/// What stands for the name of the file in a field.
const FILE_NAME: &str = "${filename}";

/// How fields begin that say under which key the file is to be.
const ENCRYPTION: &str = "x-amz-server-side-encryption";

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
    Characters(String),
    /// The library would let it pass.
    #[error(
        "Each form field that you specify in a form must appear in the list of policy conditions. `{0}` does not."
    )]
    Unspoken(String),
    /// Two readers might read different fields.
    #[error("The body of your POST request is not well-formed multipart/form-data.")]
    Malformed,
    /// It ended before it was whole.
    #[error("the form did not arrive")]
    Broken(#[source] StdError),
}

/// The fields of a form that would be headers of another upload, as the library reads them: what policies of
/// buckets hold on. Among the request's extensions.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(HeaderMap);

impl Fields {
    /// The headers of an upload by `headers` and this form. Headers say nothing of what fields would.
    pub(super) fn headers(&self, headers: &HeaderMap) -> HeaderMap {
        let others = headers
            .iter()
            .filter(|(name, _)| !is_said_by_fields(name.as_str()));
        let others = others.map(|(name, value)| (name.clone(), value.clone()));
        let mut all: HeaderMap = others.collect();
        all.extend(self.0.clone());
        all
    }
}

fn is_said_by_fields(name: &str) -> bool {
    name.starts_with("x-amz-")
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

/// The form as the library is to see it.
pub(super) async fn prepared(request: HttpRequest) -> Result<HttpRequest, FormError> {
    let boundary = boundary(request.headers()).ok_or(FormError::Malformed)?;
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
    let head = Head::read(&begun, &boundary).ok_or(FormError::Malformed)?;
    let mut fields = Fields::default();
    let text = head.written(&boundary, &mut parts.headers, &mut fields)?;
    parts.extensions.insert(fields);
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
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let kind = kinds.next().filter(|_| kinds.next().is_none())?;
    let kind = kind.to_str().ok()?;
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

/// A name as every reader of a form reads it.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(|one: char| one == '"' || one.is_control())
}

/// Whether a value would end where another reader does not see it end.
fn has_boundary(value: &str, boundary: &str) -> bool {
    let at = |(at, _): (usize, &str)| at == 0 || value[..at].ends_with("\r\n");
    value.match_indices(&format!("--{boundary}")).any(at)
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
            let name = parameter(disposition, "name").filter(|name| is_plain(name))?;
            if name.eq_ignore_ascii_case("file") {
                let file = parameter(disposition, "filename");
                return file.is_none_or(is_plain).then(|| Self {
                    fields,
                    file,
                    length: begun.len() - after.len(),
                });
            }
            let (value, next) = split(after, end.as_bytes())?;
            fields.push((name, std::str::from_utf8(value).ok()?));
            rest = next;
        }
    }

    /// The last of a name, as the library takes it.
    fn field(&self, wanted: &str) -> Option<&'a str> {
        let mut fields = self.fields.iter().rev();
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| *value)
    }

    /// The same for the library. What a checksum says is told by `headers`, too, where that of every
    /// other upload is; what else would be a header is among `said`.
    fn written(
        &self,
        boundary: &str,
        headers: &mut HeaderMap,
        said: &mut Fields,
    ) -> Result<String, FormError> {
        let policy = match self.field("policy") {
            Some(policy) => decoded(policy).unwrap_or_default(),
            None => String::new(),
        };
        let signed = ["signature", "x-amz-signature"].map(|name| self.field(name));
        if self.field("policy").is_some() && signed == [None, None] {
            return Err(FormError::Unsigned);
        }
        check_end(&policy)?;
        let mut encrypts = self
            .fields
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase());
        if let Some(policy) = read(&policy)
            && let Some(name) =
                encrypts.find(|name| name.starts_with(ENCRYPTION) && !speaks_of(&policy, name))
        {
            return Err(FormError::Unspoken(name));
        }
        let policy = policy.to_ascii_lowercase();
        let file = file_name(self.file.unwrap_or_default());
        let mut text = String::new();
        for (name, value) in &self.fields {
            let name = name.to_ascii_lowercase();
            let value = value.replace(FILE_NAME, file);
            if has_boundary(&value, boundary) {
                return Err(FormError::Malformed);
            }
            let is_checksum = is_checksum(&name);
            let refused = || FormError::Characters(name.clone());
            if is_checksum || name == "content-md5" {
                let value = HeaderValue::from_str(&value).map_err(|_| refused())?;
                insert(headers, &name, value)?;
            }
            if is_said_by_fields(&name) {
                let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())?;
                insert(&mut said.0, &name, value)?;
            }
            // A checksum opens nothing, so a policy need not speak of it.
            if is_checksum && !policy.contains(&name) {
                continue;
            }
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

fn insert(headers: &mut HeaderMap, name: &str, value: HeaderValue) -> Result<(), FormError> {
    let header = http::HeaderName::try_from(name);
    let header = header.map_err(|_| FormError::Characters(name.to_owned()))?;
    let inserted = headers.try_insert(header, value);
    inserted.map(|_| ()).map_err(|_| FormError::Malformed)
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

fn read(policy: &str) -> Option<Value> {
    serde_json::from_str(policy).ok()
}

/// Whether a condition of a policy is about a field.
fn speaks_of(policy: &Value, field: &str) -> bool {
    let is = |told: &str| {
        let told = told.strip_prefix('$').unwrap_or(told);
        told.eq_ignore_ascii_case(field)
    };
    let conditions = policy.get("conditions").and_then(Value::as_array);
    conditions.is_some_and(|all| {
        all.iter().any(|condition| match condition {
            Value::Object(one) => one.keys().any(|told| is(told)),
            Value::Array(one) => one.get(1).and_then(Value::as_str).is_some_and(is),
            _ => false,
        })
    })
}

/// Refuses an end that is not told as S3 has it. What is no policy at all is the library's to refuse.
fn check_end(policy: &str) -> Result<(), FormError> {
    let policy = read(policy).unwrap_or_default();
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

    /// What one part of a form says, with the end of the part before it.
    fn told(about: &str, value: &str) -> String {
        format!("--b\r\nContent-Disposition: form-data; {about}\r\n\r\n{value}\r\n")
    }

    async fn refused(form: String) -> FormError {
        prepare(form.leak().as_bytes(), 64).await.unwrap_err()
    }

    #[tokio::test]
    async fn what_another_reader_might_read_otherwise_is_refused() {
        let file = told("name=\"file\"; filename=\"--b\"", "bytes") + "--b--\r\n";
        let hidden = "\r\nContent-Disposition: form-data; name=\"x-amz-acl\"\r\n\r\nprivate";
        for form in [
            String::new(),
            "--c\r\n\r\n".to_owned(),
            told("name=\"key\"", "k") + "--b--\r\n",
            // Headers that end as not all readers end them.
            told("name=\"key\"", "k").replace("\"\r\n\r\n", "\"\n\n") + &file,
            // Fields within fields, which are empty to some.
            told("name=\"key\"", &format!("--b{hidden}")) + &file,
            told("name=\"key\"", &format!("${{filename}}{hidden}")) + &file,
            told("name=\"key\"", &format!("k\r\n${{filename}}{hidden}")) + &file,
            // Names that end earlier to some.
            told("name=key\"", "k") + &file,
            told("name=\"key\nx\"", "k") + &file,
            told("name=\"file\"; filename=a\"b", "") + "--b--\r\n",
        ] {
            let why = refused(form.clone()).await;
            assert!(matches!(why, FormError::Malformed), "{form}");
        }
        for about in ["name=\"x-amz-acl\"", "name=\"x-amz-a c l\""] {
            let why = refused(told(about, "a\nb") + &file).await;
            assert!(matches!(why, FormError::Characters(_)), "{about}");
        }
    }

    #[tokio::test]
    async fn a_request_of_two_kinds_is_no_form() {
        let request = http::Request::builder()
            .header(CONTENT_TYPE, "multipart/form-data; boundary=b")
            .header(CONTENT_TYPE, "multipart/form-data; boundary=c")
            .body(Body::from(Bytes::from_static(LIKE_A_BROWSER.as_bytes())));
        let refused = prepared(request.unwrap()).await.unwrap_err();
        assert!(matches!(refused, FormError::Malformed));
    }

    #[test]
    fn fields_say_what_headers_say_of_other_uploads() {
        let fields = vec![
            ("X-Amz-Storage-Class", "STANDARD"),
            ("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A=="),
            ("x-amz-meta-a", "1"),
            ("x-amz-meta-a", "ü"),
        ];
        let head = Head {
            fields,
            file: None,
            length: 0,
        };
        let mut headers = HeaderMap::new();
        headers.insert("referer", HeaderValue::from_static("here"));
        headers.insert("x-amz-object-lock-mode", HeaderValue::from_static("x"));
        let mut said = Fields::default();
        head.written("b", &mut headers, &mut said).unwrap();
        assert_eq!(headers["content-md5"], "rL0Y20zC+Fzt72VPzMSk2A==");
        let all = said.headers(&headers);
        assert_eq!(all["x-amz-storage-class"], "STANDARD");
        assert_eq!(all["x-amz-meta-a"], "ü");
        assert_eq!(all["referer"], "here");
        assert!(!all.contains_key("x-amz-object-lock-mode"));
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
            head.written("b", &mut HeaderMap::new(), &mut Fields::default())
        };
        let good = r#"{"expiration": "2030-01-01T00:00:00Z", "conditions": []}"#;
        assert!(!written(good, Some("s")).unwrap().contains("sha1"));
        assert!(matches!(written(good, None), Err(FormError::Unsigned)));
        let bad = good.replace('T', " ");
        assert!(matches!(
            written(&bad, Some("s")),
            Err(FormError::Expiration)
        ));
        let encrypted = |policy: &str| {
            let policy = STANDARD.encode(policy);
            let name = "X-Amz-Server-Side-Encryption-Customer-Key";
            let head = Head {
                fields: vec![("policy", &policy), ("signature", "s"), (name, "k")],
                file: None,
                length: 0,
            };
            head.written("b", &mut HeaderMap::new(), &mut Fields::default())
        };
        assert!(matches!(encrypted(good), Err(FormError::Unspoken(_))));
        for condition in [
            r#"["starts-with", "$x-amz-server-side-encryption-customer-key", ""]"#,
            r#"{"x-amz-Server-side-encryption-customer-key": "k"}"#,
        ] {
            encrypted(&good.replace("[]", &format!("[{condition}]"))).unwrap();
        }
        let asks = good.replace("[]", r#"[["eq", "$X-Amz-Checksum-SHA1", "x"]]"#);
        assert!(written(&asks, Some("s")).unwrap().contains("sha1"));
    }
}

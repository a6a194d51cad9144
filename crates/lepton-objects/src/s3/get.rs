//! GET and HEAD of an object: which version, whether, which bytes.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use lepton_store::index::{Bucket, ObjectVersion, StoredPiece, VersionId, Versioning, Which};
use s3s::dto;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::actions::Right;
use super::attributes::{
    self, Attributes, PartNote, length, read_parts, stamp, stamp_exactly, told_class,
};
use super::checksums::{tell_sum, told_type};
use super::customer_keys::{Brought, brought, content_key};
use super::demands::{Demands, meet};
use super::encryption::tell_encryption;
use super::errors::{denied, no_such_key, no_such_version, of_content, of_index};
use super::policy::Asked;
use super::reading::{ReadGuard, body_of, with_length};
use super::{Entered, Face, entered, locks, tags};
use crate::{Content, CustomerKeyError};

/// What GET and HEAD ask for alike.
struct AskedOf {
    key: String,
    which: Which,
    demands: Demands,
    range: Option<dto::Range>,
    part_number: Option<dto::PartNumber>,
    customer: Option<Brought>,
    with_sum: bool,
}

/// The same out of the record of either.
macro_rules! asked_of {
    ($input:expr) => {{
        let input = &$input;
        AskedOf {
            key: input.key.clone(),
            which: which(input.version_id.as_deref())?,
            demands: Demands {
                matches: input.if_match.clone(),
                matches_not: input.if_none_match.clone(),
                modified_since: input.if_modified_since.clone(),
                unmodified_since: input.if_unmodified_since.clone(),
            },
            range: input.range,
            part_number: input.part_number,
            customer: brought!(input)?,
            with_sum: input.checksum_mode.is_some(),
        }
    }};
}

/// What both find.
struct Found {
    bucket: Bucket,
    opened: Opened,
    chosen: Chosen,
    told: dto::HeadObjectOutput,
}

/// The version that a text names.
pub(super) fn which(version: Option<&str>) -> S3Result<Which> {
    match version {
        None => Ok(Which::Newest),
        Some(text) => text
            .parse()
            .map(Which::Version)
            .map_err(|_| s3_error!(InvalidArgument, "Invalid version id specified")),
    }
}

/// A version that is to be read, at one moment.
pub(super) struct Opened {
    pub(super) version: ObjectVersion,
    pub(super) attributes: Attributes,
    pub(super) pieces: Vec<StoredPiece>,
    parts: String,
    pub(super) guard: ReadGuard,
}

impl Opened {
    /// The parts that it was uploaded in, if it was.
    pub(super) fn parts(&self) -> S3Result<Vec<PartNote>> {
        read_parts(&self.parts)
    }
}

impl Face {
    /// Finds a version and its bytes.
    pub(super) async fn open(&self, bucket: &Bucket, key: &str, which: Which) -> S3Result<Opened> {
        let guard = self.begin_read();
        let found = self
            .index
            .open_version(bucket.id, key, which)
            .await
            .map_err(of_index)?;
        let Some(found) = found else {
            return Err(match which {
                Which::Newest => no_such_key(),
                Which::Version(_) => no_such_version(),
            });
        };
        let version = found.version;
        if version.marker {
            return Err(of_marker(&version, which));
        }
        Ok(Opened {
            attributes: Attributes::read(&version.attributes)?,
            version,
            pieces: found.pieces,
            parts: found.parts,
            guard,
        })
    }

    /// Finds what somebody asks for. That a key is missing is told only to who may list the bucket.
    async fn open_for(&self, entered: &Entered, key: &str, which: Which) -> S3Result<Opened> {
        let bucket = entered.bucket()?;
        let missing = match self.open(bucket, key, which).await {
            Err(error) if *error.code() == S3ErrorCode::NoSuchKey => error,
            opened => return opened,
        };
        match self.may_list(entered, key).await? {
            true => Err(missing),
            false => Err(denied()),
        }
    }

    /// Whether somebody may see in a listing that a key is missing: in one of the prefix that the key
    /// itself is.
    async fn may_list(&self, entered: &Entered, key: &str) -> S3Result<bool> {
        let asked = Asked {
            action: "s3:ListBucket",
            bucket: &entered.bucket()?.name,
            key: "",
            headers: &HeaderMap::new(),
            parameters: &[("prefix".to_owned(), key.to_owned())],
        };
        self.allowed(entered, &asked, Right::Read).await
    }

    /// What is said to who may not read a key: that it is missing, if they may list that.
    pub(super) async fn refusal_to_read(&self, entered: &Entered, key: &str) -> S3Result<S3Error> {
        let found = self.index.find(entered.bucket()?.id, key, Which::Newest);
        let is_there = found.await.map_err(of_index)?.is_some_and(|it| !it.marker);
        match !is_there && self.may_list(entered, key).await? {
            true => Ok(no_such_key()),
            false => Ok(denied()),
        }
    }

    /// Refuses unless the customer's key is the one that the bytes are under.
    pub(super) async fn check_customer_key(
        &self,
        bucket: &Bucket,
        opened: &Opened,
        customer: Option<&Brought>,
    ) -> S3Result<()> {
        match (&opened.attributes.customer_key_md5, customer) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(of_content(CustomerKeyError::NotUsed.into())),
            (Some(_), None) => Err(of_content(CustomerKeyError::Missing.into())),
            (Some(md5), Some(brought)) if *md5 != brought.md5 => {
                Err(of_content(CustomerKeyError::Wrong.into()))
            }
            (Some(_), Some(_)) => {
                let Some(piece) = opened.pieces.first() else {
                    return Ok(());
                };
                let content = Content {
                    id: piece.content,
                    size_bytes: piece.size_bytes,
                    inline: piece.inline.clone().map(Into::into),
                };
                self.contents
                    .check_key(&bucket.project, &content, &content_key(customer))
                    .await
                    .map_err(of_content)
            }
        }
    }

    /// What a GET and a HEAD are about.
    async fn find(
        &self,
        entered: &Entered,
        headers: &HeaderMap,
        asked: &AskedOf,
    ) -> S3Result<Found> {
        let bucket = entered.bucket()?.clone();
        refuse_encryption(headers)?;
        let opened = self.open_for(entered, &asked.key, asked.which).await?;
        meet(&asked.demands, &opened.version)?;
        let chosen = choose(&opened, asked.range, asked.part_number)?;
        self.check_customer_key(&bucket, &opened, asked.customer.as_ref())
            .await?;
        let mut told = tell(&bucket, &opened, &chosen, asked.with_sum);
        if asked.which == Which::Newest {
            told.expiration = self.expiration(&bucket, &opened.version).await?;
        }
        Ok(Found {
            bucket,
            opened,
            chosen,
            told,
        })
    }

    /// `GetObject`.
    pub(super) async fn get(
        &self,
        request: S3Request<dto::GetObjectInput>,
    ) -> S3Result<S3Response<dto::GetObjectOutput>> {
        let asked = asked_of!(request.input);
        let Found {
            bucket,
            opened,
            chosen,
            told,
        } = self
            .find(entered(&request), &request.headers, &asked)
            .await?;
        let tag_count = tags::count(&opened.version.tags);
        let bytes = chosen.range.end - chosen.range.start;
        let stream = self
            .read_pieces(
                &bucket.project,
                opened.pieces,
                content_key(asked.customer.as_ref()),
                chosen.range.clone(),
                opened.guard,
            )
            .await?;
        let mut output = got(told);
        output.tag_count = tag_count;
        output.body = Some(body_of(self, &bucket.project, stream));
        let mut response = S3Response::new(output);
        response.headers = with_length(bytes);
        response.status = chosen.status();
        Ok(response)
    }

    /// `HeadObject`.
    pub(super) async fn head(
        &self,
        request: S3Request<dto::HeadObjectInput>,
    ) -> S3Result<S3Response<dto::HeadObjectOutput>> {
        let asked = asked_of!(request.input);
        let found = self
            .find(entered(&request), &request.headers, &asked)
            .await?;
        let mut output = found.told;
        if let Some(kind) = request.input.response_content_type {
            output.content_type = Some(kind);
        }
        let mut response = S3Response::new(output);
        response.status = found.chosen.status();
        // The library's record of HEAD has no field for it.
        if let Some(count) = tags::count(&found.opened.version.tags) {
            let name = HeaderName::from_static("x-amz-tagging-count");
            response.headers.insert(name, count.into());
        }
        Ok(response)
    }
}

/// Refuses what is said of encryption where only a customer's key may be.
fn refuse_encryption(headers: &HeaderMap) -> S3Result<()> {
    match headers.contains_key("x-amz-server-side-encryption") {
        true => Err(s3_error!(
            InvalidArgument,
            "x-amz-server-side-encryption header is not supported for this operation."
        )),
        false => Ok(()),
    }
}

/// What is said of an object that was deleted.
fn of_marker(version: &ObjectVersion, which: Which) -> S3Error {
    let mut error = match which {
        Which::Newest => no_such_key(),
        Which::Version(_) => s3_error!(
            MethodNotAllowed,
            "The specified method is not allowed against this resource."
        ),
    };
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Ok(id) = HeaderValue::from_str(&version.version.to_string()) {
        headers.insert("x-amz-version-id", id);
    }
    if let Some(date) = attributes::http_date(&stamp(version.modified))
        && let Ok(date) = HeaderValue::from_str(&date)
    {
        headers.insert(http::header::LAST_MODIFIED, date);
    }
    error.set_headers(headers);
    error
}

/// Which bytes are wanted.
struct Chosen {
    range: Range<u64>,
    is_whole: bool,
    /// How many parts it has, if a part was asked for.
    parts: Option<i32>,
    /// The part that was asked for.
    part: Option<PartNote>,
}

impl Chosen {
    fn status(&self) -> Option<StatusCode> {
        (!self.is_whole).then_some(StatusCode::PARTIAL_CONTENT)
    }
}

fn choose(
    opened: &Opened,
    range: Option<dto::Range>,
    part: Option<dto::PartNumber>,
) -> S3Result<Chosen> {
    let size = opened.version.size_bytes;
    let invalid = || {
        let mut error = s3_error!(InvalidRange, "The requested range is not satisfiable");
        error.set_headers(HeaderMap::from_iter([(
            http::header::CONTENT_RANGE,
            HeaderValue::from_str(&format!("bytes */{size}"))
                .unwrap_or(HeaderValue::from_static("bytes */*")),
        )]));
        error
    };
    match (range, part) {
        (Some(_), Some(_)) => Err(s3_error!(
            InvalidRequest,
            "Cannot specify both Range header and partNumber query parameter"
        )),
        (None, None) => Ok(Chosen {
            range: 0..size,
            is_whole: true,
            parts: None,
            part: None,
        }),
        (Some(range), None) => Ok(Chosen {
            range: range
                .check(size)
                .ok()
                .filter(|range| range.start < range.end)
                .ok_or_else(invalid)?,
            is_whole: false,
            parts: None,
            part: None,
        }),
        (None, Some(number)) => {
            let parts = opened.parts()?;
            if parts.is_empty() && number == 1 {
                return Ok(Chosen {
                    range: 0..size,
                    is_whole: true,
                    parts: None,
                    part: None,
                });
            }
            let mut start = 0;
            for part in &parts {
                if i32::from(part.number) == number {
                    return Ok(Chosen {
                        range: start..start + part.size,
                        is_whole: false,
                        parts: i32::try_from(parts.len()).ok(),
                        part: Some(part.clone()),
                    });
                }
                start += part.size;
            }
            Err(s3_error!(
                InvalidPart,
                "The requested partnumber is not satisfiable"
            ))
        }
    }
}

/// All that HEAD tells, of which GET tells the same.
fn tell(
    bucket: &Bucket,
    opened: &Opened,
    chosen: &Chosen,
    with_sum: bool,
) -> dto::HeadObjectOutput {
    let (version, kept) = (&opened.version, &opened.attributes);
    let Range { start, end } = chosen.range;
    let size = version.size_bytes;
    let range =
        (!chosen.is_whole).then(|| format!("bytes {start}-{}/{size}", end.saturating_sub(1)));
    let versioned = bucket.versioning != Versioning::Off || version.version != VersionId::Null;
    let mut told_head = dto::HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(length(end - start)),
        content_range: range,
        content_type: kept
            .content_type
            .clone()
            .or_else(|| Some("binary/octet-stream".to_owned())),
        content_encoding: kept.content_encoding.clone(),
        content_language: kept.content_language.clone(),
        content_disposition: kept.content_disposition.clone(),
        cache_control: kept.cache_control.clone(),
        expires: kept.expires(),
        website_redirect_location: kept.website_redirect.clone(),
        metadata: kept.metadata(),
        e_tag: Some(attributes::etag(version)),
        last_modified: Some(stamp(version.modified)),
        parts_count: chosen.parts,
        storage_class: told_class(version),
        version_id: versioned.then(|| version.version.to_string()),
        object_lock_mode: version.retention.map(|held| locks::told_mode(held.mode)),
        object_lock_retain_until_date: version.retention.map(|held| stamp_exactly(held.until)),
        object_lock_legal_hold_status: bucket.object_lock.then(|| locks::told_hold(version.hold)),
        ..dto::HeadObjectOutput::default()
    };
    tell_encryption!(told_head, kept);
    if let Some(sum) = kept.checksum.as_ref().filter(|_| with_sum) {
        let of_part = chosen.part.as_ref().and_then(|part| part.sum.clone());
        let shown = match (chosen.is_whole, of_part) {
            (true, _) => Some((sum.algorithm, sum.value.clone())),
            (false, of_part) => of_part.map(|value| (sum.algorithm, value)),
        };
        if shown.is_some() {
            told_head.checksum_type = told_type(Some(sum));
        }
        tell_sum!(told_head, shown);
    }
    told_head
}

/// What GET tells, out of what HEAD tells.
fn got(head: dto::HeadObjectOutput) -> dto::GetObjectOutput {
    dto::GetObjectOutput {
        accept_ranges: head.accept_ranges,
        content_length: head.content_length,
        content_range: head.content_range,
        content_type: head.content_type,
        content_encoding: head.content_encoding,
        content_language: head.content_language,
        content_disposition: head.content_disposition,
        cache_control: head.cache_control,
        expires: head.expires,
        expiration: head.expiration,
        website_redirect_location: head.website_redirect_location,
        metadata: head.metadata,
        e_tag: head.e_tag,
        last_modified: head.last_modified,
        parts_count: head.parts_count,
        storage_class: head.storage_class,
        version_id: head.version_id,
        server_side_encryption: head.server_side_encryption,
        ssekms_key_id: head.ssekms_key_id,
        sse_customer_algorithm: head.sse_customer_algorithm,
        sse_customer_key_md5: head.sse_customer_key_md5,
        object_lock_mode: head.object_lock_mode,
        object_lock_retain_until_date: head.object_lock_retain_until_date,
        object_lock_legal_hold_status: head.object_lock_legal_hold_status,
        checksum_crc32: head.checksum_crc32,
        checksum_crc32c: head.checksum_crc32c,
        checksum_crc64nvme: head.checksum_crc64nvme,
        checksum_sha1: head.checksum_sha1,
        checksum_sha256: head.checksum_sha256,
        checksum_type: head.checksum_type,
        ..dto::GetObjectOutput::default()
    }
}

//! Listings: objects in both versions of the call, and all versions.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lepton_store::index::{
    ListQuery, Listed, ListedVersion, ObjectVersion, Start, VersionId, VersionsQuery, VersionsStart,
};
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::attributes::{Attributes, length, stamp};
use super::checksums::told_type;
use super::errors::of_index;
use super::{Face, entered};

/// The most entries of one page, as in S3.
pub(super) const PAGE_MAX: i32 = 1_000;

/// How many entries a page is to have.
pub(super) fn page_size(asked: Option<i32>) -> S3Result<i32> {
    match asked {
        None => Ok(PAGE_MAX),
        Some(size) if size < 0 => Err(s3_error!(
            InvalidArgument,
            "Argument max-keys must be an integer between 0 and 2147483647"
        )),
        Some(size) => Ok(size),
    }
}

pub(super) fn limit(size: i32) -> usize {
    usize::try_from(size.min(PAGE_MAX)).unwrap_or_default()
}

/// How texts are written into an answer: as they are, or percent-encoded, as XML cannot hold
/// every character that keys can.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoding(bool);

impl Encoding {
    fn of(wanted: Option<&dto::EncodingType>) -> S3Result<Self> {
        match wanted.map(dto::EncodingType::as_str) {
            None => Ok(Self(false)),
            Some(dto::EncodingType::URL) => Ok(Self(true)),
            Some(_) => Err(s3_error!(
                InvalidArgument,
                "Invalid Encoding Method specified in Request"
            )),
        }
    }

    pub(super) fn write(self, text: &str) -> String {
        use std::fmt::Write as _;
        if !self.0 {
            return text.to_owned();
        }
        text.bytes().fold(String::new(), |mut written, byte| {
            match byte {
                b'A'..=b'Z'
                | b'a'..=b'z'
                | b'0'..=b'9'
                | b'-'
                | b'_'
                | b'.'
                | b'~'
                | b'/'
                | b'*' => written.push(char::from(byte)),
                _ => {
                    let _infallible = write!(written, "%{byte:02X}");
                }
            }
            written
        })
    }

    pub(super) fn prefixes(self, prefixes: Vec<String>) -> Option<dto::CommonPrefixList> {
        (!prefixes.is_empty()).then(|| {
            prefixes
                .into_iter()
                .map(|prefix| dto::CommonPrefix {
                    prefix: Some(self.write(&prefix)),
                })
                .collect()
        })
    }
}

/// What all listings of a bucket ask for.
pub(super) struct Wanted {
    /// How many entries, as it was asked for.
    pub(super) size: i32,
    pub(super) encoding: Encoding,
    pub(super) prefix: String,
    /// Keys are not grouped where empty.
    pub(super) delimiter: String,
}

impl Wanted {
    pub(super) fn of(
        size: Option<i32>,
        encoding: Option<&dto::EncodingType>,
        prefix: Option<String>,
        delimiter: Option<String>,
    ) -> S3Result<Self> {
        Ok(Self {
            size: page_size(size)?,
            encoding: Encoding::of(encoding)?,
            prefix: prefix.unwrap_or_default(),
            delimiter: delimiter.unwrap_or_default(),
        })
    }

    pub(super) fn limit(&self) -> usize {
        limit(self.size)
    }

    pub(super) fn write(&self, text: &str) -> String {
        self.encoding.write(text)
    }

    pub(super) fn told_delimiter(&self) -> Option<String> {
        (!self.delimiter.is_empty()).then(|| self.write(&self.delimiter))
    }
}

pub(super) fn owner(name: &str) -> dto::Owner {
    dto::Owner {
        id: Some(name.to_owned()),
        display_name: Some(name.to_owned()),
    }
}

fn object(version: &ObjectVersion, encoding: Encoding, owned_by: Option<&str>) -> dto::Object {
    let sum = Attributes::read(&version.attributes)
        .ok()
        .and_then(|kept| kept.checksum);
    dto::Object {
        key: Some(encoding.write(&version.key)),
        last_modified: Some(stamp(version.modified)),
        e_tag: Some(super::attributes::etag(version)),
        size: Some(length(version.size_bytes)),
        storage_class: Some(version.class.clone().into()),
        owner: owned_by.map(owner),
        checksum_type: told_type(sum.as_ref()),
        checksum_algorithm: sum
            .map(|sum| vec![dto::ChecksumAlgorithm::from_static(sum.algorithm.word())]),
        restore_status: None,
    }
}

/// What both calls say of a page.
struct Page {
    contents: Option<dto::ObjectList>,
    prefixes: Option<dto::CommonPrefixList>,
    truncated: bool,
    last: String,
    count: i32,
}

impl Face {
    async fn list_page(
        &self,
        query: ListQuery,
        encoding: Encoding,
        owned_by: Option<&str>,
    ) -> S3Result<Page> {
        let listed = self.index.list(query).await.map_err(of_index)?;
        let count = listed.entries.len() + listed.prefixes.len();
        let entries = listed.entries.iter();
        let contents: dto::ObjectList = entries
            .map(|version| object(version, encoding, owned_by))
            .collect();
        Ok(Page {
            contents: (!contents.is_empty()).then_some(contents),
            prefixes: encoding.prefixes(listed.prefixes),
            truncated: listed.truncated,
            last: listed.last,
            count: i32::try_from(count).unwrap_or(i32::MAX),
        })
    }

    /// `ListObjects`.
    pub(super) async fn list_v1(
        &self,
        request: S3Request<dto::ListObjectsInput>,
    ) -> S3Result<S3Response<dto::ListObjectsOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let input = request.input;
        let wanted = Wanted::of(
            input.max_keys,
            input.encoding_type.as_ref(),
            input.prefix,
            input.delimiter,
        )?;
        let query = ListQuery {
            bucket: bucket.id,
            prefix: wanted.prefix.clone(),
            delimiter: wanted.delimiter.clone(),
            start: input
                .marker
                .clone()
                .filter(|marker| !marker.is_empty())
                .map(Start::After),
            limit: wanted.limit(),
        };
        let page = self
            .list_page(query, wanted.encoding, Some(&bucket.owner))
            .await?;
        let next = page.truncated && !wanted.delimiter.is_empty();
        Ok(S3Response::new(dto::ListObjectsOutput {
            name: Some(bucket.name),
            // Clients of this call take the prefix as it is.
            prefix: Some(wanted.prefix.clone()),
            marker: Some(wanted.write(&input.marker.unwrap_or_default())),
            max_keys: Some(wanted.size),
            is_truncated: Some(page.truncated),
            contents: page.contents,
            common_prefixes: page.prefixes,
            delimiter: wanted.told_delimiter(),
            next_marker: next.then(|| wanted.write(&page.last)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    /// `ListObjectsV2`.
    pub(super) async fn list_v2(
        &self,
        request: S3Request<dto::ListObjectsV2Input>,
    ) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
        let bucket = entered(&request).bucket()?.clone();
        let input = request.input;
        let wanted = Wanted::of(
            input.max_keys,
            input.encoding_type.as_ref(),
            input.prefix,
            input.delimiter,
        )?;
        let after = match &input.continuation_token {
            Some(token) => Some(of_token(token)?),
            None => input.start_after.clone().filter(|after| !after.is_empty()),
        };
        let query = ListQuery {
            bucket: bucket.id,
            prefix: wanted.prefix.clone(),
            delimiter: wanted.delimiter.clone(),
            start: after.map(Start::After),
            limit: wanted.limit(),
        };
        let told_owner = (input.fetch_owner == Some(true)).then_some(bucket.owner.as_str());
        let page = self.list_page(query, wanted.encoding, told_owner).await?;
        Ok(S3Response::new(dto::ListObjectsV2Output {
            name: Some(bucket.name),
            prefix: Some(wanted.write(&wanted.prefix)),
            max_keys: Some(wanted.size),
            key_count: Some(page.count),
            continuation_token: input.continuation_token,
            is_truncated: Some(page.truncated),
            next_continuation_token: page
                .truncated
                .then(|| URL_SAFE_NO_PAD.encode(page.last.as_bytes())),
            contents: page.contents,
            common_prefixes: page.prefixes,
            delimiter: wanted.told_delimiter(),
            encoding_type: input.encoding_type,
            start_after: input.start_after.map(|after| wanted.write(&after)),
            request_charged: None,
        }))
    }

    /// `ListObjectVersions`.
    pub(super) async fn list_all_versions(
        &self,
        request: S3Request<dto::ListObjectVersionsInput>,
    ) -> S3Result<S3Response<dto::ListObjectVersionsOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let input = request.input;
        let wanted = Wanted::of(
            input.max_keys,
            input.encoding_type.as_ref(),
            input.prefix,
            input.delimiter,
        )?;
        let marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
        let version_marker = input
            .version_id_marker
            .clone()
            .filter(|marker| !marker.is_empty());
        let sequence = match (&marker, &version_marker) {
            (Some(key), Some(version)) => self.sequence_of(&bucket, key, version).await?,
            (None, Some(_)) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "A version-id marker cannot be specified without a key marker."
                ));
            }
            _ => None,
        };
        let query = VersionsQuery {
            bucket: bucket.id,
            prefix: wanted.prefix.clone(),
            delimiter: wanted.delimiter.clone(),
            start: marker.map(|key| VersionsStart { key, sequence }),
            limit: wanted.limit(),
        };
        let listed = self.index.list_versions(query).await.map_err(of_index)?;
        let next = next_version(&listed);
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        for entry in &listed.entries {
            match entry.version.marker {
                true => markers.push(told_marker(entry, wanted.encoding, &bucket.owner)),
                false => versions.push(told_version(entry, wanted.encoding, &bucket.owner)),
            }
        }
        Ok(S3Response::new(dto::ListObjectVersionsOutput {
            name: Some(bucket.name),
            prefix: Some(wanted.write(&wanted.prefix)),
            key_marker: Some(wanted.write(&input.key_marker.unwrap_or_default())),
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            max_keys: Some(wanted.size),
            is_truncated: Some(listed.truncated),
            next_key_marker: listed.truncated.then(|| wanted.write(&listed.last)),
            next_version_id_marker: next.filter(|_| listed.truncated),
            versions: (!versions.is_empty()).then_some(versions),
            delete_markers: (!markers.is_empty()).then_some(markers),
            common_prefixes: wanted.encoding.prefixes(listed.prefixes),
            delimiter: wanted.told_delimiter(),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    /// The place of a version among those of its key.
    async fn sequence_of(
        &self,
        bucket: &lepton_store::index::Bucket,
        key: &str,
        version: &str,
    ) -> S3Result<Option<i64>> {
        let wanted = super::get::which(Some(version))?;
        if let lepton_store::index::Which::Version(VersionId::Id { sequence, .. }) = wanted {
            return Ok(Some(sequence));
        }
        let found = self.index.find(bucket.id, key, wanted).await;
        Ok(found.map_err(of_index)?.map(|found| found.sequence))
    }
}

/// The version that a page ends with, unless it ends with a common prefix.
fn next_version(listed: &Listed<ListedVersion>) -> Option<String> {
    let last = listed.entries.last()?;
    (last.version.key == listed.last).then(|| last.version.version.to_string())
}

fn told_version(entry: &ListedVersion, encoding: Encoding, owned_by: &str) -> dto::ObjectVersion {
    let told = object(&entry.version, encoding, Some(owned_by));
    dto::ObjectVersion {
        key: told.key,
        version_id: Some(entry.version.version.to_string()),
        is_latest: Some(entry.latest),
        last_modified: told.last_modified,
        e_tag: told.e_tag,
        size: told.size,
        storage_class: Some(entry.version.class.clone().into()),
        owner: told.owner,
        checksum_algorithm: told.checksum_algorithm,
        checksum_type: told.checksum_type,
        restore_status: None,
    }
}

fn told_marker(
    entry: &ListedVersion,
    encoding: Encoding,
    owned_by: &str,
) -> dto::DeleteMarkerEntry {
    dto::DeleteMarkerEntry {
        key: Some(encoding.write(&entry.version.key)),
        version_id: Some(entry.version.version.to_string()),
        is_latest: Some(entry.latest),
        last_modified: Some(stamp(entry.version.modified)),
        owner: Some(owner(owned_by)),
    }
}

fn of_token(token: &str) -> S3Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "The continuation token provided is incorrect"
        )
    })
}

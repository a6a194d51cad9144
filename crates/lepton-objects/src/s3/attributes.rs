//! What is kept about an object beside its bytes, and how S3's records tell it.

use std::collections::BTreeMap;

use lepton_store::index::ObjectVersion;
use lepton_types::{Name, Timestamp};
use s3s::dto::{self, TimestampFormat};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::checksums::Sum;

/// The longest metadata, names and values together, as in S3.
const METADATA_BYTES_MAX: usize = 2 << 10;

/// The storage class where none is said.
pub(super) const STANDARD: &str = "STANDARD";

/// What the index keeps of an object as text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) website_redirect: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<Sum>,
    /// The MD5 of the customer's key, if the bytes are under one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) customer_key_md5: Option<String>,
    /// The key of the project that the bytes are under, if it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) named_key: Option<Name>,
    /// The upload that made it, if one did: so that its completion can be answered again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uploaded_as: Option<String>,
    /// What an upload under way is to become beside this; not kept of objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upload: Option<UploadNote>,
}

/// The parts that an object was uploaded in, kept apart from its attributes: there may be ten thousand.
pub(super) fn write_parts(parts: &[PartNote]) -> String {
    serde_json::to_string(parts).expect("invariant: notes of parts serialise")
}

/// None if it was not uploaded in parts.
pub(super) fn read_parts(text: &str) -> S3Result<Vec<PartNote>> {
    match text {
        "" => Ok(Vec::new()),
        _ => read_text(text),
    }
}

fn read_text<T: serde::de::DeserializeOwned>(text: &str) -> S3Result<T> {
    serde_json::from_str(text).map_err(|error| {
        tracing::error!(%error, "the attributes of an object do not read back");
        s3_error!(InternalError)
    })
}

/// What is kept of a part after completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PartNote {
    pub(super) number: u16,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sum: Option<String>,
}

/// What an upload under way is told at its beginning and needs at its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct UploadNote {
    pub(super) tags: String,
    pub(super) hold: bool,
    pub(super) retention: Option<(String, i64)>,
    /// The algorithm and the type of the checksum of the whole.
    pub(super) checksum: Option<(String, String)>,
}

impl Attributes {
    pub(super) fn read(text: &str) -> S3Result<Self> {
        read_text(text)
    }

    pub(super) fn write(&self) -> String {
        serde_json::to_string(self).expect("invariant: attributes have text keys and serialise")
    }

    /// Takes over a client's metadata.
    pub(super) fn set_metadata(&mut self, metadata: Option<dto::Metadata>) -> S3Result<()> {
        self.metadata = metadata.unwrap_or_default().into_iter().collect();
        let bytes: usize = self.metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
        if bytes > METADATA_BYTES_MAX {
            return Err(s3_error!(
                MetadataTooLarge,
                "Your metadata headers exceed the maximum allowed metadata size"
            ));
        }
        Ok(())
    }

    pub(super) fn metadata(&self) -> Option<dto::Metadata> {
        let metadata = &self.metadata;
        (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect())
    }

    /// Server-side encryption as it is told of every object, unless the customer brings the key.
    pub(super) fn told_encryption(&self) -> Option<dto::ServerSideEncryption> {
        let word = match self.named_key {
            Some(_) => dto::ServerSideEncryption::AWS_KMS,
            None => dto::ServerSideEncryption::AES256,
        };
        let told = dto::ServerSideEncryption::from_static(word);
        self.customer_key_md5.is_none().then_some(told)
    }

    pub(super) fn told_named_key(&self) -> Option<String> {
        self.named_key.as_ref().map(Name::to_string)
    }

    pub(super) fn told_customer_algorithm(&self) -> Option<String> {
        let under_customers = self.customer_key_md5.is_some();
        under_customers.then(|| "AES256".to_owned())
    }

    pub(super) fn expires(&self) -> Option<dto::Timestamp> {
        let text = self.expires.as_deref()?;
        dto::Timestamp::parse(TimestampFormat::HttpDate, text).ok()
    }
}

/// A moment as HTTP headers have it.
pub(super) fn http_date(at: &dto::Timestamp) -> Option<String> {
    let mut text = Vec::new();
    at.format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

/// A moment as S3's records have it.
pub(super) fn stamp(at: Timestamp) -> dto::Timestamp {
    // S3 tells whole seconds, the same everywhere.
    time::OffsetDateTime::from_unix_timestamp(at.as_millis().div_euclid(1_000))
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
        .into()
}

/// A moment that something is kept until, in S3's form: to the millisecond, as who waits for a rounded one
/// comes too early.
pub(super) fn stamp_exactly(at: Timestamp) -> dto::Timestamp {
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.as_millis()) * 1_000_000)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
        .into()
}

/// A moment out of S3's records.
pub(super) fn unstamp(at: dto::Timestamp) -> Timestamp {
    let nanos = time::OffsetDateTime::from(at).unix_timestamp_nanos();
    Timestamp::from_millis(i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX))
}

/// The storage class a client wants; those that S3 has are kept as told.
pub(super) fn class_of(wanted: Option<&dto::StorageClass>) -> S3Result<String> {
    let Some(wanted) = wanted else {
        return Ok(STANDARD.to_owned());
    };
    let known = [
        dto::StorageClass::STANDARD,
        dto::StorageClass::STANDARD_IA,
        dto::StorageClass::ONEZONE_IA,
        dto::StorageClass::REDUCED_REDUNDANCY,
        dto::StorageClass::INTELLIGENT_TIERING,
        dto::StorageClass::GLACIER_IR,
    ];
    match known.contains(&wanted.as_str()) {
        true => Ok(wanted.as_str().to_owned()),
        false => Err(s3_error!(
            InvalidStorageClass,
            "The storage class you specified is not valid"
        )),
    }
}

/// The class as answers tell it: not at all where it is the common one.
pub(super) fn told_class(version: &ObjectVersion) -> Option<dto::StorageClass> {
    (version.class != STANDARD).then(|| version.class.clone().into())
}

pub(super) fn etag(version: &ObjectVersion) -> dto::ETag {
    dto::ETag::Strong(version.etag.clone())
}

/// A length as S3's records have it.
pub(super) fn length(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

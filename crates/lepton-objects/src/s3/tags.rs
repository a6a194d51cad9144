//! Tags of objects and buckets.

use http::HeaderValue;
use lepton_store::index::{Bucket, VersionChange};
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::actions::action_of;
use super::errors::{denied, of_index};
use super::get::which;
use super::patterns::{form_pairs, version_parameter};
use super::policy::Asked;
use super::{Face, entered, settings};

/// Tags of one object, and of one bucket, as in S3.
const OBJECT_TAGS_MAX: usize = 10;
const BUCKET_TAGS_MAX: usize = 50;

/// What says the tags of a new object.
const HEADER: &str = "x-amz-tagging";

const KEY_CHARACTERS_MAX: usize = 128;
const VALUE_CHARACTERS_MAX: usize = 256;

type Pairs = Vec<(String, String)>;

fn check(pairs: &Pairs, most: usize) -> S3Result<()> {
    if pairs.len() > most {
        return Err(s3_error!(
            InvalidTag,
            "Object tags cannot be greater than {most}"
        ));
    }
    for (place, (key, value)) in pairs.iter().enumerate() {
        let key_length = key.chars().count();
        if key_length == 0 || key_length > KEY_CHARACTERS_MAX {
            return Err(s3_error!(
                InvalidTag,
                "The TagKey you have provided is invalid"
            ));
        }
        if value.chars().count() > VALUE_CHARACTERS_MAX {
            return Err(s3_error!(
                InvalidTag,
                "The TagValue you have provided is invalid"
            ));
        }
        if pairs[..place].iter().any(|(earlier, _)| earlier == key) {
            return Err(s3_error!(
                InvalidTag,
                "Cannot provide multiple Tags with the same key"
            ));
        }
    }
    Ok(())
}

fn written(pairs: &Pairs) -> String {
    match pairs.is_empty() {
        true => String::new(),
        false => serde_json::to_string(pairs).expect("invariant: pairs of texts serialise"),
    }
}

/// The tags out of the text that the index keeps.
pub(super) fn read(text: &str) -> Pairs {
    match text.is_empty() {
        true => Pairs::new(),
        false => serde_json::from_str(text).unwrap_or_default(),
    }
}

/// The tags of a header, as the index keeps them.
pub(super) fn of_header(header: Option<&str>) -> S3Result<String> {
    let pairs = form_pairs(header.unwrap_or_default());
    check(&pairs, OBJECT_TAGS_MAX)?;
    Ok(written(&pairs))
}

fn of_set(set: dto::TagSet, most: usize) -> S3Result<Pairs> {
    let pairs = set
        .into_iter()
        .map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()))
        .collect();
    check(&pairs, most)?;
    Ok(pairs)
}

/// The header that would say the same: policies hold on tags as headers tell them.
fn header_of(set: &dto::TagSet) -> S3Result<HeaderValue> {
    use std::fmt::Write as _;
    let mut header = String::new();
    for tag in set {
        for (text, end) in [(&tag.key, '='), (&tag.value, '&')] {
            for byte in text.as_deref().unwrap_or_default().bytes() {
                let _infallible = write!(header, "%{byte:02x}");
            }
            header.push(end);
        }
    }
    HeaderValue::from_str(&header).map_err(|_| s3_error!(InvalidTag))
}

fn set_of(pairs: Pairs) -> dto::TagSet {
    let sorted: std::collections::BTreeMap<_, _> = pairs.into_iter().collect();
    sorted
        .into_iter()
        .map(|(key, value)| dto::Tag {
            key: Some(key),
            value: Some(value),
        })
        .collect()
}

/// How many tags there are; not told where none.
pub(super) fn count(text: &str) -> Option<i32> {
    let count = read(text).len();
    (count > 0).then(|| i32::try_from(count).unwrap_or(i32::MAX))
}

impl Face {
    /// The tags of the object that a request is about, for its bucket's policy.
    pub(super) async fn tags_of(&self, bucket: &Bucket, asked: &Asked<'_>) -> S3Result<Pairs> {
        let version = asked.parameters.iter().find(|(key, _)| key == "versionId");
        let version = version.map(|(_, value)| value.as_str());
        let found = self
            .index
            .find(bucket.id, asked.key, which(version)?)
            .await
            .map_err(of_index)?;
        Ok(found.map_or(Pairs::new(), |found| read(&found.tags)))
    }

    pub(super) async fn get_tags(
        &self,
        request: S3Request<dto::GetObjectTaggingInput>,
    ) -> S3Result<S3Response<dto::GetObjectTaggingOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let input = request.input;
        let opened = self
            .open(&bucket, &input.key, which(input.version_id.as_deref())?)
            .await?;
        Ok(S3Response::new(dto::GetObjectTaggingOutput {
            tag_set: set_of(read(&opened.version.tags)),
            version_id: super::put::told_version(&opened.version),
        }))
    }

    pub(super) async fn put_tags(
        &self,
        request: S3Request<dto::PutObjectTaggingInput>,
    ) -> S3Result<S3Response<dto::PutObjectTaggingOutput>> {
        let entered = entered(&request).clone();
        let bucket = entered.bucket()?.clone();
        let input = request.input;
        let pairs = input.tagging.tag_set;
        let mut headers = request.headers;
        headers.insert(HEADER, header_of(&pairs)?);
        let (action, right) = action_of("PutObjectTagging", input.version_id.is_some());
        let asked = Asked {
            action: &action,
            bucket: &bucket.name,
            key: &input.key,
            headers: &headers,
            parameters: &version_parameter(input.version_id.as_deref()),
        };
        if !self.allowed(&entered, &asked, right).await? {
            return Err(denied());
        }
        let pairs = of_set(pairs, OBJECT_TAGS_MAX)?;
        let version = self
            .change_tags(&bucket, &input.key, input.version_id.as_deref(), &pairs)
            .await?;
        Ok(S3Response::new(dto::PutObjectTaggingOutput {
            version_id: version,
        }))
    }

    pub(super) async fn delete_tags(
        &self,
        request: S3Request<dto::DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<dto::DeleteObjectTaggingOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let input = request.input;
        let version = self
            .change_tags(
                &bucket,
                &input.key,
                input.version_id.as_deref(),
                &Pairs::new(),
            )
            .await?;
        Ok(S3Response::with_status(
            dto::DeleteObjectTaggingOutput {
                version_id: version,
            },
            http::StatusCode::NO_CONTENT,
        ))
    }

    async fn change_tags(
        &self,
        bucket: &Bucket,
        key: &str,
        version: Option<&str>,
        pairs: &Pairs,
    ) -> S3Result<Option<String>> {
        let change = VersionChange::Tags(written(pairs));
        let changed = self
            .index
            .change_version(bucket.id, key, which(version)?, change, self.now())
            .await
            .map_err(of_index)?;
        Ok(super::put::told_version(&changed))
    }

    pub(super) async fn get_bucket_tags(
        &self,
        bucket: &Bucket,
    ) -> S3Result<dto::GetBucketTaggingOutput> {
        let pairs: Option<Pairs> = self.read_setting(bucket.id, settings::TAGS).await?;
        let pairs = pairs.ok_or_else(|| s3_error!(NoSuchTagSet, "The TagSet does not exist"))?;
        Ok(dto::GetBucketTaggingOutput {
            tag_set: set_of(pairs),
        })
    }

    pub(super) async fn put_bucket_tags(
        &self,
        bucket: &Bucket,
        tagging: dto::Tagging,
    ) -> S3Result<()> {
        let pairs = of_set(tagging.tag_set, BUCKET_TAGS_MAX)?;
        self.write_setting(bucket.id, settings::TAGS, Some(&pairs))
            .await
    }

    /// The tags of a copy: those of the source unless others are given.
    pub(super) fn copied_tags(
        source: &str,
        directive: Option<&dto::TaggingDirective>,
        header: Option<&str>,
    ) -> S3Result<String> {
        let replace = directive.is_some_and(|one| one.as_str() == dto::TaggingDirective::REPLACE);
        match replace {
            true => of_header(header),
            false => Ok(source.to_owned()),
        }
    }
}

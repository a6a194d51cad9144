//! PUT of an object, and what it shares with parts: bytes come in, are verified, and are recorded.

use futures_util::StreamExt as _;
use lepton_store::index::{
    Bucket, Condition, IndexError, NewBody, NewVersion, Newcomer, ObjectVersion, Piece, Retention,
    RetentionMode, VersionId,
};
use lepton_types::{DurationMs, Name, Timestamp};
use s3s::dto::{self, StreamingBlob};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::acl::granted;
use super::actions::action_of;
use super::attributes::{class_of, unstamp};
use super::checksums::{Expected, Sum, tell_sum, told, told_type};
use super::encryption::{said, tell_encryption};
use super::errors::{denied, of_body, of_content, of_index, too_large};
use super::forms::Fields;
use super::policy::Asked;
use super::{Entered, Face, attributes, entered, settings, tags};
use crate::pending::to_the_end;
use crate::{Content, ContentKey, INLINE_BYTES_MAX, NewContent, StagedContent};

/// The most bytes of one PUT, as in S3.
pub(super) const PUT_BYTES_MAX: u64 = 5 << 30;

/// Bytes that came in whole and are what was said of them.
pub(super) struct Received {
    pub(super) staged: StagedContent,
    /// Their MD5 in hexadecimal; of bytes under a key that not the whole project shares, a tag that says
    /// nothing to who has no key.
    pub(super) etag: String,
    pub(super) size_bytes: u64,
    pub(super) sum: Option<Sum>,
}

/// What keeps a new version, as a request says it.
pub(super) struct WantedLock {
    pub(super) mode: Option<dto::ObjectLockMode>,
    pub(super) until: Option<dto::Timestamp>,
    pub(super) hold: Option<dto::ObjectLockLegalHoldStatus>,
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// A condition on an ETag as the index takes it.
pub(super) fn matched(condition: Option<&dto::ETagCondition>) -> Option<String> {
    condition.map(|condition| match condition {
        dto::ETagCondition::Any => "*".to_owned(),
        dto::ETagCondition::ETag(etag) => etag.value().to_owned(),
    })
}

pub(super) fn piece_of(content: &Content) -> Piece {
    Piece {
        content: content.id,
        size_bytes: content.size_bytes,
        inline: content.inline.as_ref().map(|bytes| bytes.to_vec()),
    }
}

/// The ETag of a content, of which all digests that it takes are there.
fn etag_of(staged: &StagedContent, is_told: bool) -> String {
    let digests = staged.digests();
    match digests.md5.filter(|_| is_told) {
        Some(md5) => hex(&md5),
        None => hex(&staged.tag(&digests.sha256.unwrap_or_default())),
    }
}

/// Gives a content to the index that has answered.
pub(super) async fn settle<T>(staged: StagedContent, answer: Result<T, IndexError>) -> S3Result<T> {
    match answer {
        Ok(done) => {
            staged.adopt();
            Ok(done)
        }
        Err(IndexError::Refused(refusal)) => {
            staged.discard().await;
            Err(of_index(refusal.into()))
        }
        // Whether it was recorded is not known: the sweep will ask.
        Err(error) => Err(of_index(error)),
    }
}

/// What the record of a write says of the object itself.
macro_rules! described {
    ($input:expr) => {
        $crate::s3::attributes::Attributes {
            content_type: $input.content_type.clone(),
            content_encoding: $crate::s3::put::told_encoding($input.content_encoding.clone()),
            content_language: $input.content_language.clone(),
            content_disposition: $input.content_disposition.clone(),
            cache_control: $input.cache_control.clone(),
            expires: $input
                .expires
                .as_ref()
                .and_then($crate::s3::attributes::http_date),
            website_redirect: $input.website_redirect_location.clone(),
            ..$crate::s3::attributes::Attributes::default()
        }
    };
}
pub(super) use described;

impl Face {
    /// Refuses a body of which its length tells that it will not fit, before it is taken.
    pub(super) async fn check_room(
        &self,
        bucket: &Bucket,
        newcomer: Newcomer,
        expected: &Expected,
    ) -> S3Result<()> {
        match expected.size_bytes {
            // Shorter ones are sooner taken than asked for.
            Some(told) if told > INLINE_BYTES_MAX as u64 => {
                let room = self.index.check_room(bucket.id, newcomer, told);
                room.await.map_err(of_index)
            }
            _ => Ok(()),
        }
    }

    /// Takes in a body. Nothing of it is left if it is not what was said.
    pub(super) async fn receive(
        &self,
        project: &Name,
        body: Option<StreamingBlob>,
        key: ContentKey,
        expected: &Expected,
    ) -> S3Result<Received> {
        if expected.size_bytes.is_some_and(|told| told > PUT_BYTES_MAX) {
            return Err(too_large());
        }
        // An ETag that is the MD5 of plain bytes tells something of what only the holder of a key may
        // know, for as long as the index lives.
        let is_told = matches!(key, ContentKey::Project);
        let new = NewContent {
            key,
            digests: expected.digests(is_told),
            size_bytes_max: PUT_BYTES_MAX,
        };
        let mut writer = self
            .contents
            .begin(project, new)
            .await
            .map_err(of_content)?;
        let mut size_bytes = 0;
        let mut body = body;
        while let Some(body) = &mut body
            && let Some(bytes) = body.next().await
        {
            let bytes = bytes.map_err(of_body)?;
            size_bytes += bytes.len() as u64;
            writer.write(bytes).await.map_err(of_content)?;
        }
        self.count_received(project, size_bytes);
        let staged = writer.finish().await.map_err(of_content)?;
        match expected.verify(staged.digests(), size_bytes) {
            Ok(sum) => Ok(Received {
                etag: etag_of(&staged, is_told),
                staged,
                size_bytes,
                sum,
            }),
            Err(refused) => {
                staged.discard().await;
                Err(refused)
            }
        }
    }

    /// Makes what was received visible.
    pub(super) async fn record(
        &self,
        staged: StagedContent,
        new: NewVersion,
    ) -> S3Result<ObjectVersion> {
        let body = NewBody::Pieces(vec![piece_of(staged.content())]);
        let index = self.index.clone();
        to_the_end(async move { settle(staged, index.put(new, body).await).await }).await
    }

    /// What keeps a new version of a key: as the request says, if it may, or else as the bucket's default has it.
    pub(super) async fn lock_of(
        &self,
        entered: &Entered,
        key: &str,
        headers: &http::HeaderMap,
        wanted: &WantedLock,
    ) -> S3Result<(bool, Option<Retention>)> {
        let bucket = entered.bucket()?;
        let asks = wanted.mode.is_some() || wanted.until.is_some() || wanted.hold.is_some();
        if !bucket.object_lock {
            return match asks {
                true => Err(s3_error!(
                    InvalidRequest,
                    "Bucket is missing Object Lock Configuration"
                )),
                false => Ok((false, None)),
            };
        }
        let retains = wanted.mode.is_some() || wanted.until.is_some();
        for (operation, is_wanted) in [
            ("PutObjectRetention", retains),
            ("PutObjectLegalHold", wanted.hold.is_some()),
        ] {
            let (action, right) = action_of(operation, false);
            let asked = Asked {
                action: &action,
                bucket: &bucket.name,
                key,
                headers,
                parameters: &[],
            };
            if is_wanted && !self.allowed(entered, &asked, right).await? {
                return Err(denied());
            }
        }
        let hold = match &wanted.hold {
            Some(status) => super::locks::hold_of(status)?,
            None => false,
        };
        let retention = match (&wanted.mode, &wanted.until) {
            (Some(mode), Some(until)) => {
                let until = unstamp(until.clone());
                if until <= self.now() {
                    return Err(s3_error!(
                        InvalidArgument,
                        "The retain until date must be in the future!"
                    ));
                }
                Some(Retention {
                    mode: super::locks::mode_of(mode.as_str())?,
                    until,
                })
            }
            (None, None) => self.default_retention(bucket).await?,
            _ => {
                return Err(s3_error!(
                    InvalidArgument,
                    "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied"
                ));
            }
        };
        Ok((hold, retention))
    }

    async fn default_retention(&self, bucket: &Bucket) -> S3Result<Option<Retention>> {
        let lock: Option<dto::ObjectLockConfiguration> =
            self.read_setting(bucket.id, settings::OBJECT_LOCK).await?;
        let rule = lock.and_then(|lock| lock.rule);
        let Some(retention) = rule.and_then(|rule| rule.default_retention) else {
            return Ok(None);
        };
        let days = match (retention.days, retention.years) {
            (Some(days), _) => u64::try_from(days).unwrap_or_default(),
            (None, Some(years)) => u64::try_from(years).unwrap_or_default() * 365,
            (None, None) => return Ok(None),
        };
        let mode = retention
            .mode
            .map_or(Ok(RetentionMode::Governance), |mode| {
                super::locks::mode_of(mode.as_str())
            })?;
        let until: Timestamp = self.now() + DurationMs::from_secs(days * 86_400);
        Ok(Some(Retention { mode, until }))
    }

    /// Refuses a browser's form that may not be: its key and what else a policy may speak of are fields,
    /// which were not known when the request came in. Gives what would be the headers of another upload.
    async fn check_form(
        &self,
        request: &S3Request<dto::PutObjectInput>,
    ) -> S3Result<http::HeaderMap> {
        let input = &request.input;
        let fields = request.extensions.get::<Fields>().ok_or_else(denied)?;
        let headers = fields.headers(&request.headers);
        let entered = entered(request);
        let (action, right) = action_of("PostObject", false);
        let asked = Asked {
            action: &action,
            bucket: &input.bucket,
            key: &input.key,
            headers: &headers,
            parameters: &[],
        };
        match self.allowed(entered, &asked, right).await? {
            true => Ok(headers),
            false => Err(denied()),
        }
    }

    /// `PutObject`, and what a browser's form posts.
    pub(super) async fn put(
        &self,
        request: S3Request<dto::PutObjectInput>,
    ) -> S3Result<S3Response<dto::PutObjectOutput>> {
        let said_by_form = match request.method == http::Method::POST {
            true => Some(self.check_form(&request).await?),
            false => None,
        };
        let said = said_by_form.as_ref().unwrap_or(&request.headers);
        let entered = entered(&request).clone();
        let bucket = entered.bucket()?.clone();
        let input = request.input;
        self.check_grants(&bucket, granted!(input)).await?;
        let encryption = self.encryption(&bucket, said!(input)).await?;
        let tags = tags::of_header(input.tagging.as_deref())?;
        let class = class_of(input.storage_class.as_ref())?;
        let wanted = WantedLock {
            mode: input.object_lock_mode,
            until: input.object_lock_retain_until_date,
            hold: input.object_lock_legal_hold_status,
        };
        let (hold, retention) = self.lock_of(&entered, &input.key, said, &wanted).await?;
        let mut kept = described!(input);
        encryption.note(&mut kept);
        kept.set_metadata(input.metadata)?;
        let expected = Expected::of(
            &request.headers,
            request.trailing_headers,
            input.content_length,
        )?;
        let newcomer = Newcomer::Object(input.key.clone());
        self.check_room(&bucket, newcomer, &expected).await?;
        let key = encryption.content_key();
        let received = self
            .receive(&bucket.project, input.body, key, &expected)
            .await?;
        kept.checksum = received.sum;
        let new = NewVersion {
            bucket: bucket.id,
            key: input.key,
            size_bytes: received.size_bytes,
            etag: received.etag,
            modified: self.now(),
            salt: self.salt(),
            class,
            hold,
            retention,
            tags,
            attributes: kept.write(),
            parts: String::new(),
            condition: Condition {
                matches: matched(input.if_match.as_ref()),
                matches_not: matched(input.if_none_match.as_ref()),
                ..Condition::default()
            },
        };
        let made = self.record(received.staged, new).await?;
        let mut output = dto::PutObjectOutput {
            e_tag: Some(attributes::etag(&made)),
            version_id: told_version(&made),
            expiration: self.expiration(&bucket, &made).await?,
            checksum_type: told_type(kept.checksum.as_ref()),
            ..dto::PutObjectOutput::default()
        };
        tell_encryption!(output, kept);
        tell_sum!(output, told(kept.checksum.as_ref()));
        Ok(S3Response::new(output))
    }
}

/// A version's id as answers tell it: only where it has one.
pub(super) fn told_version(made: &ObjectVersion) -> Option<String> {
    (made.version != VersionId::Null).then(|| made.version.to_string())
}

/// The encoding of the object itself: `aws-chunked` is one of the transfer.
pub(super) fn told_encoding(encoding: Option<String>) -> Option<String> {
    let encoding = encoding?;
    let kept: Vec<&str> = encoding
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty() && !one.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

//! Copies, of whole objects and into parts. Within a project no bytes are copied unless a key or a
//! checksum asks for it.

use lepton_store::index::{
    Bucket, Condition, IndexError, NewBody, NewVersion, ObjectVersion, Refusal,
};
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::acl::granted;
use super::actions::action_of;
use super::attributes::{self, Attributes, STANDARD, class_of, stamp};
use super::checksums::{Algorithm, Expected, tell_sum, told, told_type};
use super::customer_keys::{Brought, brought, content_key, parse};
use super::demands::{Demands, Held};
use super::encryption::{Encryption, said, tell_encryption};
use super::errors::{denied, of_index, precondition};
use super::get::{Opened, which};
use super::parts::{part_number, sum_of};
use super::patterns::version_parameter;
use super::policy::Asked;
use super::put::{PUT_BYTES_MAX, WantedLock, described, told_version};
use super::reading::blob_of;
use super::{Entered, Face, entered};

/// A source that the caller may read and that is as they demand.
struct Source {
    bucket: Bucket,
    opened: Opened,
    customer: Option<Brought>,
}

/// How a request names its source and what it demands of it.
struct Wanted {
    source: dto::CopySource,
    demands: Demands,
    customer: Option<Brought>,
}

/// The same out of the record of either kind of copy.
macro_rules! wanted {
    ($input:expr) => {
        Wanted {
            source: $input.copy_source.clone(),
            demands: Demands {
                matches: $input.copy_source_if_match.clone(),
                matches_not: $input.copy_source_if_none_match.clone(),
                modified_since: $input.copy_source_if_modified_since.clone(),
                unmodified_since: $input.copy_source_if_unmodified_since.clone(),
            },
            customer: parse(
                $input.copy_source_sse_customer_algorithm.as_deref(),
                $input.copy_source_sse_customer_key.as_deref(),
                $input.copy_source_sse_customer_key_md5.as_deref(),
            )?,
        }
    };
}

impl Face {
    async fn source(
        &self,
        entered: &Entered,
        wanted: Wanted,
        headers: &http::HeaderMap,
    ) -> S3Result<Source> {
        let dto::CopySource::Bucket {
            bucket,
            key,
            version_id,
        } = &wanted.source
        else {
            return Err(s3_error!(
                NotImplemented,
                "Access points are not known here"
            ));
        };
        let (action, right) = action_of("GetObject", version_id.is_some());
        let parameters = version_parameter(version_id.as_deref());
        let asked = Asked {
            action: &action,
            bucket,
            key,
            headers,
            parameters: &parameters,
        };
        let there = self.enter(&entered.caller, &asked, right).await?;
        let found = there.bucket()?.clone();
        if !self.allowed(&there, &asked, right).await? {
            return Err(denied());
        }
        let opened = self
            .open(&found, key, which(version_id.as_deref())?)
            .await
            .map_err(|error| match error.code() {
                s3s::S3ErrorCode::MethodNotAllowed => s3_error!(
                    InvalidRequest,
                    "The source of a copy request may not specifically refer to a delete marker by version id."
                ),
                _ => error,
            })?;
        if wanted.demands.hold(&opened.version) != Held::Yes {
            return Err(precondition());
        }
        self.check_customer_key(&found, &opened, wanted.customer.as_ref())
            .await?;
        Ok(Source {
            bucket: found,
            opened,
            customer: wanted.customer,
        })
    }

    /// `CopyObject`.
    pub(super) async fn copy(
        &self,
        request: S3Request<dto::CopyObjectInput>,
    ) -> S3Result<S3Response<dto::CopyObjectOutput>> {
        let entered = entered(&request).clone();
        let bucket = entered.bucket()?.clone();
        let input = request.input;
        self.check_grants(&bucket, granted!(input)).await?;
        let encryption = self.encryption(&bucket, said!(input)).await?;
        let wanted = wanted!(input);
        let source = self.source(&entered, wanted, &request.headers).await?;
        check_itself(&bucket, &input, &source)?;
        let mut kept = copied(&input, &source.opened.attributes)?;
        encryption.note(&mut kept);
        let lock = WantedLock {
            mode: input.object_lock_mode.clone(),
            until: input.object_lock_retain_until_date.clone(),
            hold: input.object_lock_legal_hold_status.clone(),
        };
        let (hold, retention) = self
            .lock_of(&entered, &input.key, &request.headers, &lock)
            .await?;
        let from = &source.opened.version;
        let algorithm = input.checksum_algorithm.as_ref();
        let algorithm = algorithm
            .map(|word| Algorithm::parse(word.as_str()))
            .transpose()?;
        let new = NewVersion {
            bucket: bucket.id,
            key: input.key.clone(),
            size_bytes: from.size_bytes,
            etag: from.etag.clone(),
            modified: self.now(),
            salt: self.salt(),
            class: class_of(input.storage_class.as_ref())?,
            hold,
            retention,
            tags: Self::copied_tags(
                &from.tags,
                input.tagging_directive.as_ref(),
                input.tagging.as_deref(),
            )?,
            attributes: String::new(),
            parts: String::new(),
            condition: Condition::default(),
        };
        let told_source = told_version(from);
        let made = self
            .record_copy(&bucket, source, &encryption, algorithm, &mut kept, new)
            .await?;
        let mut result = dto::CopyObjectResult {
            e_tag: Some(attributes::etag(&made)),
            last_modified: Some(stamp(made.modified)),
            checksum_type: told_type(kept.checksum.as_ref()),
            ..dto::CopyObjectResult::default()
        };
        tell_sum!(result, told(kept.checksum.as_ref()));
        let mut output = dto::CopyObjectOutput {
            copy_object_result: Some(result),
            copy_source_version_id: told_source,
            version_id: told_version(&made),
            expiration: self.expiration(&bucket, &made).await?,
            ..dto::CopyObjectOutput::default()
        };
        tell_encryption!(output, kept);
        Ok(S3Response::new(output))
    }

    /// Makes a copy visible: over the same bytes where that can be, else over bytes of its own.
    async fn record_copy(
        &self,
        bucket: &Bucket,
        source: Source,
        encryption: &Encryption,
        algorithm: Option<Algorithm>,
        kept: &mut Attributes,
        new: NewVersion,
    ) -> S3Result<ObjectVersion> {
        let mut new = new;
        let sum = source.opened.attributes.checksum.as_ref();
        let sum_fits = algorithm.is_none_or(|algorithm| {
            sum.is_some_and(|sum| sum.algorithm == algorithm && !sum.composite)
        });
        let shareable = bucket.project == source.bucket.project
            && encryption.is_that_of(&source.opened.attributes)
            && sum_fits;
        if let Some(body) = source.opened.version.body.filter(|_| shareable) {
            new.attributes = kept.write();
            match self.index.put(new.clone(), NewBody::Shared(body)).await {
                // Somebody replaced the source since; what was opened is still there to be read.
                Err(IndexError::Refused(Refusal::NoSuchObject)) => {}
                made => return made.map_err(of_index),
            }
        }
        if new.size_bytes > PUT_BYTES_MAX {
            return Err(s3_error!(
                InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120"
            ));
        }
        let algorithm = algorithm.or(sum.map(|sum| sum.algorithm));
        let expected = Expected {
            algorithm,
            ..Expected::default()
        };
        let stream = self
            .read_pieces(
                &source.bucket.project,
                source.opened.pieces,
                content_key(source.customer.as_ref()),
                0..new.size_bytes,
                source.opened.guard,
            )
            .await?;
        let key = encryption.content_key();
        let received = self
            .receive(&bucket.project, Some(blob_of(stream)), key, &expected)
            .await?;
        new.etag.clone_from(&received.etag);
        kept.checksum = received.sum;
        new.attributes = kept.write();
        self.record(received.staged, new).await
    }

    /// `UploadPartCopy`.
    pub(super) async fn copy_part(
        &self,
        request: S3Request<dto::UploadPartCopyInput>,
    ) -> S3Result<S3Response<dto::UploadPartCopyOutput>> {
        let entered = entered(&request).clone();
        let bucket = entered.bucket()?.clone();
        let input = request.input;
        let number = part_number(input.part_number)?;
        let under_way = self
            .under_way(&bucket, &input.key, &input.upload_id)
            .await?;
        let customer = brought!(input)?;
        let key = under_way.key_of_part(customer.as_ref())?;
        let wanted = wanted!(input);
        let source = self.source(&entered, wanted, &request.headers).await?;
        let size = source.opened.version.size_bytes;
        let range = part_range(input.copy_source_range.as_deref(), size)?;
        let told_source = told_version(&source.opened.version);
        let stream = self
            .read_pieces(
                &source.bucket.project,
                source.opened.pieces,
                content_key(source.customer.as_ref()),
                range,
                source.opened.guard,
            )
            .await?;
        let expected = Expected {
            algorithm: under_way.algorithm()?,
            ..Expected::default()
        };
        let received = self
            .receive(&bucket.project, Some(blob_of(stream)), key, &expected)
            .await?;
        let part = self
            .record_part(&bucket, &under_way, number, received)
            .await?;
        let mut result = dto::CopyPartResult {
            e_tag: Some(dto::ETag::Strong(part.etag.clone())),
            last_modified: Some(stamp(part.modified)),
            ..dto::CopyPartResult::default()
        };
        tell_sum!(result, told(sum_of(&part).as_ref()));
        let mut output = dto::UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: told_source,
            ..dto::UploadPartCopyOutput::default()
        };
        tell_encryption!(output, under_way.kept);
        Ok(S3Response::new(output))
    }
}

fn replaces(directive: Option<&dto::MetadataDirective>) -> bool {
    directive.is_some_and(|one| one.as_str() == dto::MetadataDirective::REPLACE)
}

/// Refuses a copy of an object onto itself that changes nothing.
fn check_itself(bucket: &Bucket, input: &dto::CopyObjectInput, source: &Source) -> S3Result<()> {
    let from = &source.opened.version;
    let versioned = matches!(
        &input.copy_source,
        dto::CopySource::Bucket {
            version_id: Some(_),
            ..
        }
    );
    let class = input.storage_class.as_ref();
    let changes = versioned
        || replaces(input.metadata_directive.as_ref())
        || class.map_or(STANDARD, dto::StorageClass::as_str) != from.class
        || input.website_redirect_location.is_some()
        || input.server_side_encryption.is_some()
        || input.sse_customer_key.is_some()
        || source.customer.is_some();
    if bucket.id == source.bucket.id && input.key == from.key && !changes {
        return Err(s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without \
             changing the object's metadata, storage class, website redirect location or \
             encryption attributes."
        ));
    }
    Ok(())
}

/// What a copy has beside its bytes: what the source has, unless the request replaces it.
fn copied(input: &dto::CopyObjectInput, source: &Attributes) -> S3Result<Attributes> {
    let mut kept = match replaces(input.metadata_directive.as_ref()) {
        false => source.clone(),
        true => {
            let mut kept = Attributes {
                checksum: source.checksum.clone(),
                ..described!(input)
            };
            kept.set_metadata(input.metadata.clone())?;
            kept
        }
    };
    kept.website_redirect
        .clone_from(&input.website_redirect_location);
    kept.uploaded_as = None;
    Ok(kept)
}

/// The bytes of the source that a part is to be, all of them if none are named.
fn part_range(text: Option<&str>, size: u64) -> S3Result<std::ops::Range<u64>> {
    let Some(text) = text else {
        return Ok(0..size);
    };
    let bounds = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let Some((first, last)): Option<(u64, u64)> = bounds.filter(|(first, last)| first <= last)
    else {
        return Err(s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy"
        ));
    };
    if last >= size {
        return Err(s3_error!(
            InvalidRange,
            "Range specified is not valid for source object of size: {size}"
        ));
    }
    Ok(first..last + 1)
}

//! Uploads in parts.

use lepton_store::index::{
    Condition, IndexError, NewUpload, NewVersion, Part, Refusal, Retention, Upload, UploadId,
    UploadsQuery, UploadsStart, Which,
};
use lepton_types::Timestamp;
use md5::{Digest as _, Md5};
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::attributes::{
    self, Attributes, PartNote, UploadNote, class_of, http_date, length, stamp,
};
use super::checksums::{Algorithm, Expected, Sum, bad_digest, combined, tell_sum, told, told_type};
use super::customer_keys::{Brought, brought, check_encryption, content_key};
use super::errors::{no_such_upload, of_index};
use super::list::{Encoding, limit, owner, page_size};
use super::locks::mode_of;
use super::put::{Received, WantedLock, hex, matched, piece_of, told_encoding, told_version};
use super::{Face, acl, entered, tags};

/// Parts of one upload, as in S3.
const PARTS_MAX: u16 = 10_000;

/// The least bytes of every part but the last, as in S3.
const PART_BYTES_MIN: u64 = 5 << 20;

/// An upload's id out of a request.
pub(super) fn upload_id(text: &str) -> S3Result<UploadId> {
    text.parse().map_err(|_| no_such_upload())
}

/// A part's number out of a request.
pub(super) fn part_number(number: i32) -> S3Result<u16> {
    u16::try_from(number)
        .ok()
        .filter(|number| (1..=PARTS_MAX).contains(number))
        .ok_or_else(|| {
            s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive"
            )
        })
}

/// An upload under way and what it is to become.
pub(super) struct UnderWay {
    pub(super) id: UploadId,
    pub(super) upload: Upload,
    pub(super) kept: Attributes,
}

impl UnderWay {
    /// The algorithm of its parts' checksums.
    pub(super) fn algorithm(&self) -> S3Result<Option<Algorithm>> {
        let note = self.kept.upload.as_ref();
        let word = note.and_then(|note| note.checksum.as_ref());
        word.map(|(word, _)| Algorithm::parse(word)).transpose()
    }

    fn is_composite(&self) -> bool {
        let note = self.kept.upload.as_ref();
        let kind = note.and_then(|note| note.checksum.as_ref());
        kind.is_some_and(|(_, kind)| kind == dto::ChecksumType::COMPOSITE)
    }

    /// Refuses a part that is not under the customer's key of the upload.
    pub(super) fn check_key(&self, customer: Option<&Brought>) -> S3Result<()> {
        let given = customer.map(|customer| customer.md5.as_str());
        match self.kept.customer_key_md5.as_deref() == given {
            true => Ok(()),
            false => Err(s3_error!(
                InvalidRequest,
                "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters."
            )),
        }
    }
}

/// The type of checksum that an upload asks for.
fn checksum_of(
    algorithm: Option<&dto::ChecksumAlgorithm>,
    kind: Option<&dto::ChecksumType>,
) -> S3Result<Option<(String, String)>> {
    let Some(algorithm) = algorithm else {
        return match kind {
            Some(_) => Err(s3_error!(
                InvalidRequest,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            )),
            None => Ok(None),
        };
    };
    let algorithm = Algorithm::parse(algorithm.as_str())?;
    let common = match algorithm {
        Algorithm::Crc64Nvme => dto::ChecksumType::FULL_OBJECT,
        _ => dto::ChecksumType::COMPOSITE,
    };
    let kind = kind.map_or(common, dto::ChecksumType::as_str);
    let fits = match kind {
        dto::ChecksumType::FULL_OBJECT => algorithm.crc().is_some(),
        dto::ChecksumType::COMPOSITE => algorithm != Algorithm::Crc64Nvme,
        _ => false,
    };
    match fits {
        true => Ok(Some((algorithm.word().to_owned(), kind.to_owned()))),
        false => Err(s3_error!(
            InvalidRequest,
            "The {kind} checksum type cannot be used with the {} checksum algorithm.",
            algorithm.word().to_lowercase()
        )),
    }
}

impl Face {
    /// `CreateMultipartUpload`.
    pub(super) async fn begin_upload(
        &self,
        request: S3Request<dto::CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
        let entered = entered(&request);
        let (bucket, label) = (entered.bucket()?.clone(), entered.label());
        let input = request.input;
        let customer = brought(
            input.sse_customer_algorithm.as_deref(),
            input.sse_customer_key.as_deref(),
            input.sse_customer_key_md5.as_deref(),
        )?;
        acl::check_canned(input.acl.as_ref().map(dto::ObjectCannedACL::as_str))?;
        acl::check_headers(&[
            &input.grant_full_control,
            &input.grant_read,
            &input.grant_read_acp,
            &input.grant_write_acp,
        ])?;
        check_encryption(
            input.server_side_encryption.as_ref(),
            input.ssekms_key_id.as_ref(),
            customer.as_ref(),
        )?;
        let wanted = WantedLock {
            mode: input.object_lock_mode,
            until: input.object_lock_retain_until_date,
            hold: input.object_lock_legal_hold_status,
        };
        let (hold, retention) = self.lock_of(&bucket, &wanted).await?;
        let checksum = checksum_of(
            input.checksum_algorithm.as_ref(),
            input.checksum_type.as_ref(),
        )?;
        let mut kept = Attributes {
            content_type: input.content_type,
            content_encoding: told_encoding(input.content_encoding),
            content_language: input.content_language,
            content_disposition: input.content_disposition,
            cache_control: input.cache_control,
            expires: input.expires.as_ref().and_then(http_date),
            website_redirect: input.website_redirect_location,
            customer_key_md5: customer.as_ref().map(|customer| customer.md5.clone()),
            upload: Some(UploadNote {
                tags: tags::of_header(input.tagging.as_deref())?,
                hold,
                retention: retention.map(|held| {
                    let mode = super::locks::told_mode(held.mode);
                    (mode.as_str().to_owned(), held.until.as_millis())
                }),
                checksum: checksum.clone(),
            }),
            ..Attributes::default()
        };
        kept.set_metadata(input.metadata)?;
        let id = UploadId::new(self.ids.next_id());
        let new = NewUpload {
            bucket: bucket.id,
            key: input.key.clone(),
            id,
            at: self.now(),
            owner: label,
            class: class_of(input.storage_class.as_ref())?,
            attributes: kept.write(),
        };
        self.index.begin_upload(new).await.map_err(of_index)?;
        Ok(S3Response::new(dto::CreateMultipartUploadOutput {
            bucket: Some(bucket.name),
            key: Some(input.key),
            upload_id: Some(id.to_string()),
            checksum_algorithm: checksum.clone().map(|(word, _)| word.into()),
            checksum_type: checksum.map(|(_, kind)| kind.into()),
            server_side_encryption: attributes::told_encryption(&kept),
            sse_customer_algorithm: attributes::told_customer_algorithm(&kept),
            sse_customer_key_md5: kept.customer_key_md5,
            ..dto::CreateMultipartUploadOutput::default()
        }))
    }

    /// The upload that a request is about.
    pub(super) async fn under_way(
        &self,
        bucket: &lepton_store::index::Bucket,
        key: &str,
        id: &str,
    ) -> S3Result<UnderWay> {
        let id = upload_id(id)?;
        let found = self.index.upload(bucket.id, key, id).await;
        let upload = found.map_err(of_index)?.ok_or_else(no_such_upload)?;
        Ok(UnderWay {
            id,
            kept: Attributes::read(&upload.attributes)?,
            upload,
        })
    }

    /// Records a part that was received.
    pub(super) async fn record_part(
        &self,
        bucket: &lepton_store::index::Bucket,
        under_way: &UnderWay,
        number: u16,
        received: Received,
    ) -> S3Result<Part> {
        let part = Part {
            number,
            size_bytes: received.size_bytes,
            etag: received.etag,
            modified: self.now(),
            attributes: match &received.sum {
                Some(sum) => serde_json::to_string(sum).expect("invariant: a checksum serialises"),
                None => String::new(),
            },
        };
        let pieces = vec![piece_of(received.staged.content())];
        let recorded = self
            .index
            .put_part(
                bucket.id,
                &under_way.upload.key,
                under_way.id,
                part.clone(),
                pieces,
            )
            .await;
        match recorded {
            Ok(()) => {
                received.staged.adopt();
                Ok(part)
            }
            Err(IndexError::Refused(refusal)) => {
                received.staged.discard().await;
                Err(of_index(refusal.into()))
            }
            Err(error) => Err(of_index(error)),
        }
    }

    /// `UploadPart`.
    pub(super) async fn put_part(
        &self,
        request: S3Request<dto::UploadPartInput>,
    ) -> S3Result<S3Response<dto::UploadPartOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let input = request.input;
        let number = part_number(input.part_number)?;
        let under_way = self
            .under_way(&bucket, &input.key, &input.upload_id)
            .await?;
        let customer = brought(
            input.sse_customer_algorithm.as_deref(),
            input.sse_customer_key.as_deref(),
            input.sse_customer_key_md5.as_deref(),
        )?;
        under_way.check_key(customer.as_ref())?;
        let mut expected = Expected::of(
            &request.headers,
            request.trailing_headers,
            input.content_length,
        )?;
        if let Some(wanted) = under_way.algorithm()?
            && *expected.algorithm.get_or_insert(wanted) != wanted
        {
            return Err(s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: {}",
                wanted.word().to_lowercase()
            ));
        }
        let key = content_key(customer.as_ref());
        let received = self
            .receive(&bucket.project, input.body, key, &expected)
            .await?;
        let part = self
            .record_part(&bucket, &under_way, number, received)
            .await?;
        let mut output = dto::UploadPartOutput {
            e_tag: Some(dto::ETag::Strong(part.etag.clone())),
            server_side_encryption: attributes::told_encryption(&under_way.kept),
            sse_customer_algorithm: attributes::told_customer_algorithm(&under_way.kept),
            sse_customer_key_md5: under_way.kept.customer_key_md5.clone(),
            ..dto::UploadPartOutput::default()
        };
        tell_sum!(output, told(sum_of(&part).as_ref()));
        Ok(S3Response::new(output))
    }

    /// `CompleteMultipartUpload`.
    pub(super) async fn complete(
        &self,
        request: S3Request<dto::CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CompleteMultipartUploadOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let input = request.input;
        let wanted = input.multipart_upload.clone().and_then(|list| list.parts);
        let wanted = wanted.filter(|parts| !parts.is_empty()).ok_or_else(|| {
            s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            )
        })?;
        let under_way = match self.under_way(&bucket, &input.key, &input.upload_id).await {
            Ok(under_way) => under_way,
            Err(missing) => return self.completed_before(&bucket, &input, missing).await,
        };
        let customer = brought(
            input.sse_customer_algorithm.as_deref(),
            input.sse_customer_key.as_deref(),
            input.sse_customer_key_md5.as_deref(),
        )?;
        // As in S3, completion needs no key; one that is given must be the upload's.
        if customer.is_some() {
            under_way.check_key(customer.as_ref())?;
        }
        let there = self
            .index
            .parts(under_way.id, 0, usize::from(PARTS_MAX))
            .await
            .map_err(of_index)?;
        let chosen = choose(&wanted, &there)?;
        let size_bytes = chosen.iter().map(|part| part.size_bytes).sum();
        if let Some(told) = input.mpu_object_size
            && u64::try_from(told) != Ok(size_bytes)
        {
            return Err(s3_error!(
                InvalidRequest,
                "The provided 'x-amz-mp-object-size' header value {told} does not match what was computed: {size_bytes}"
            ));
        }
        let mut kept = under_way.kept.clone();
        kept.checksum = whole_sum(&under_way, &chosen)?;
        check_whole(&input, kept.checksum.as_ref())?;
        kept.parts = chosen.iter().map(|part| note_of(part)).collect();
        kept.uploaded_as = Some(under_way.id.to_string());
        let note = kept.upload.take().unwrap_or_default();
        let retention = note.retention.map(|(mode, until)| {
            Ok::<_, s3s::S3Error>(Retention {
                mode: mode_of(&mode)?,
                until: Timestamp::from_millis(until),
            })
        });
        let new = NewVersion {
            bucket: bucket.id,
            key: input.key.clone(),
            size_bytes,
            etag: etag_of(&chosen),
            modified: self.now(),
            salt: self.salt(),
            class: under_way.upload.class.clone(),
            hold: note.hold,
            retention: retention.transpose()?,
            tags: note.tags,
            attributes: kept.write(),
            condition: Condition {
                matches: matched(input.if_match.as_ref()),
                matches_not: matched(input.if_none_match.as_ref()),
                ..Condition::default()
            },
        };
        let parts = chosen
            .iter()
            .map(|part| (part.number, part.etag.clone()))
            .collect();
        let made = match self.index.complete_upload(under_way.id, parts, new).await {
            Ok(made) => made,
            Err(IndexError::Refused(Refusal::NoSuchUpload)) => {
                return self
                    .completed_before(&bucket, &input, no_such_upload())
                    .await;
            }
            Err(error) => return Err(of_index(error)),
        };
        Ok(S3Response::new(completed(&bucket.name, &made, &kept)))
    }

    /// Answers once more for an upload that was completed already, as when the first answer was lost.
    async fn completed_before(
        &self,
        bucket: &lepton_store::index::Bucket,
        input: &dto::CompleteMultipartUploadInput,
        missing: s3s::S3Error,
    ) -> S3Result<S3Response<dto::CompleteMultipartUploadOutput>> {
        let found = self.index.find(bucket.id, &input.key, Which::Newest).await;
        let Some(found) = found.map_err(of_index)?.filter(|found| !found.marker) else {
            return Err(missing);
        };
        let kept = Attributes::read(&found.attributes)?;
        match kept.uploaded_as.as_deref() == Some(input.upload_id.as_str()) {
            true => Ok(S3Response::new(completed(&bucket.name, &found, &kept))),
            false => Err(missing),
        }
    }

    /// `AbortMultipartUpload`.
    pub(super) async fn abort(
        &self,
        request: S3Request<dto::AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::AbortMultipartUploadOutput>> {
        let bucket = entered(&request).bucket()?.id;
        let input = request.input;
        let id = upload_id(&input.upload_id)?;
        self.index
            .abort_upload(bucket, &input.key, id)
            .await
            .map_err(of_index)?;
        Ok(S3Response::with_status(
            dto::AbortMultipartUploadOutput::default(),
            http::StatusCode::NO_CONTENT,
        ))
    }

    /// `ListParts`.
    pub(super) async fn list_upload_parts(
        &self,
        request: S3Request<dto::ListPartsInput>,
    ) -> S3Result<S3Response<dto::ListPartsOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let input = request.input;
        let under_way = self
            .under_way(&bucket, &input.key, &input.upload_id)
            .await?;
        let size = page_size(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or_default();
        let after = u16::try_from(after).unwrap_or(PARTS_MAX);
        let most = limit(size);
        let mut parts = self
            .index
            .parts(under_way.id, after, most + 1)
            .await
            .map_err(of_index)?;
        let truncated = parts.len() > most;
        parts.truncate(most);
        let last = parts.last().map(|part| i32::from(part.number));
        let note = under_way.kept.upload.as_ref();
        let checksum = note.and_then(|note| note.checksum.clone());
        Ok(S3Response::new(dto::ListPartsOutput {
            bucket: Some(bucket.name),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            parts: Some(parts.iter().map(told_part).collect()),
            is_truncated: Some(truncated),
            max_parts: Some(size),
            part_number_marker: Some(i32::from(after)),
            next_part_number_marker: last.or(Some(0)),
            storage_class: Some(under_way.upload.class.clone().into()),
            owner: Some(owner(&bucket.owner)),
            initiator: Some(initiator(&under_way.upload.owner)),
            checksum_algorithm: checksum.clone().map(|(word, _)| word.into()),
            checksum_type: checksum.map(|(_, kind)| kind.into()),
            ..dto::ListPartsOutput::default()
        }))
    }

    /// `ListMultipartUploads`.
    pub(super) async fn list_under_way(
        &self,
        request: S3Request<dto::ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<dto::ListMultipartUploadsOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let input = request.input;
        let size = page_size(input.max_uploads)?;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let prefix = input.prefix.unwrap_or_default();
        let delimiter = input.delimiter.filter(|delimiter| !delimiter.is_empty());
        let marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
        let upload = input
            .upload_id_marker
            .as_deref()
            .and_then(|text| text.parse().ok());
        let query = UploadsQuery {
            bucket: bucket.id,
            prefix: prefix.clone(),
            delimiter: delimiter.clone().unwrap_or_default(),
            start: marker.map(|key| UploadsStart { key, upload }),
            limit: limit(size),
        };
        let listed = self.index.list_uploads(query).await.map_err(of_index)?;
        let next = listed
            .entries
            .last()
            .filter(|last| listed.truncated && last.key == listed.last);
        let next = next.map(|last| last.id.to_string());
        let uploads = listed
            .entries
            .iter()
            .map(|upload| told_upload(upload, encoding, &bucket.owner))
            .collect();
        Ok(S3Response::new(dto::ListMultipartUploadsOutput {
            bucket: Some(bucket.name),
            prefix: Some(encoding.write(&prefix)),
            key_marker: Some(encoding.write(&input.key_marker.unwrap_or_default())),
            upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
            max_uploads: Some(size),
            is_truncated: Some(listed.truncated),
            next_key_marker: listed.truncated.then(|| encoding.write(&listed.last)),
            next_upload_id_marker: next,
            uploads: Some(uploads),
            common_prefixes: encoding.prefixes(listed.prefixes),
            delimiter: delimiter.map(|delimiter| encoding.write(&delimiter)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }
}

/// The parts that a client wants, in the order it must give them.
fn choose<'a>(wanted: &[dto::CompletedPart], there: &'a [Part]) -> S3Result<Vec<&'a Part>> {
    let mut chosen: Vec<&Part> = Vec::with_capacity(wanted.len().min(usize::from(PARTS_MAX)));
    for want in wanted {
        let number = part_number(want.part_number.unwrap_or_default())?;
        if chosen.last().is_some_and(|last| last.number >= number) {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order. Parts must be ordered by part number."
            ));
        }
        let invalid = || {
            s3_error!(
                InvalidPart,
                "One or more of the specified parts could not be found. The part may not have been \
                 uploaded, or the specified entity tag may not match the part's entity tag."
            )
        };
        let place = there.binary_search_by_key(&number, |part| part.number);
        let part = &there[place.map_err(|_| invalid())?];
        let same = want
            .e_tag
            .as_ref()
            .is_some_and(|etag| etag.value() == part.etag);
        let told = [
            (Algorithm::Crc32, &want.checksum_crc32),
            (Algorithm::Crc32c, &want.checksum_crc32c),
            (Algorithm::Crc64Nvme, &want.checksum_crc64nvme),
            (Algorithm::Sha1, &want.checksum_sha1),
            (Algorithm::Sha256, &want.checksum_sha256),
        ];
        let sum = sum_of(part);
        let told = told
            .into_iter()
            .filter_map(|(one, value)| Some((one, value.as_ref()?)));
        let sums_fit = told.into_iter().all(|(algorithm, value)| {
            sum.as_ref()
                .is_some_and(|sum| sum.algorithm == algorithm && sum.value == *value)
        });
        if !same || !sums_fit {
            return Err(invalid());
        }
        chosen.push(part);
    }
    let all_but_last = chosen.len().saturating_sub(1);
    if chosen[..all_but_last]
        .iter()
        .any(|part| part.size_bytes < PART_BYTES_MIN)
    {
        return Err(s3_error!(
            EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size"
        ));
    }
    Ok(chosen)
}

/// S3's ETag of an upload in parts: the MD5 of the parts' MD5s, and how many there are.
fn etag_of(parts: &[&Part]) -> String {
    let mut whole = Md5::new();
    for part in parts {
        for pair in part.etag.as_bytes().chunks(2) {
            let pair = std::str::from_utf8(pair).unwrap_or_default();
            whole.update([u8::from_str_radix(pair, 16).unwrap_or_default()]);
        }
    }
    format!("{}-{}", hex(&whole.finalize()), parts.len())
}

/// The checksum of the whole, if the upload asked for one.
fn whole_sum(under_way: &UnderWay, parts: &[&Part]) -> S3Result<Option<Sum>> {
    let Some(algorithm) = under_way.algorithm()? else {
        return Ok(None);
    };
    let sums: Option<Vec<(String, u64)>> = parts
        .iter()
        .map(|part| Some((sum_of(part)?.value, part.size_bytes)))
        .collect();
    let composite = under_way.is_composite();
    let value = sums.and_then(|sums| combined(algorithm, composite, &sums));
    Ok(value.map(|value| Sum {
        algorithm,
        value,
        composite,
    }))
}

/// Refuses if the client expects another checksum of the whole.
fn check_whole(input: &dto::CompleteMultipartUploadInput, sum: Option<&Sum>) -> S3Result<()> {
    let told = [
        (Algorithm::Crc32, &input.checksum_crc32),
        (Algorithm::Crc32c, &input.checksum_crc32c),
        (Algorithm::Crc64Nvme, &input.checksum_crc64nvme),
        (Algorithm::Sha1, &input.checksum_sha1),
        (Algorithm::Sha256, &input.checksum_sha256),
    ];
    for (algorithm, value) in told {
        let Some(value) = value else { continue };
        let fits = sum.is_some_and(|sum| {
            let plain = sum.value.split('-').next();
            sum.algorithm == algorithm
                && (sum.value == *value || (sum.composite && plain == Some(value.as_str())))
        });
        if !fits {
            return Err(bad_digest(algorithm.word()));
        }
    }
    Ok(())
}

fn completed(
    bucket: &str,
    made: &lepton_store::index::ObjectVersion,
    kept: &Attributes,
) -> dto::CompleteMultipartUploadOutput {
    let mut output = dto::CompleteMultipartUploadOutput {
        bucket: Some(bucket.to_owned()),
        key: Some(made.key.clone()),
        location: Some(format!("/{bucket}/{}", made.key)),
        e_tag: Some(attributes::etag(made)),
        version_id: told_version(made),
        checksum_type: told_type(kept.checksum.as_ref()),
        server_side_encryption: attributes::told_encryption(kept),
        ..dto::CompleteMultipartUploadOutput::default()
    };
    tell_sum!(output, told(kept.checksum.as_ref()));
    output
}

pub(super) fn sum_of(part: &Part) -> Option<Sum> {
    serde_json::from_str(&part.attributes).ok()
}

fn note_of(part: &Part) -> PartNote {
    PartNote {
        number: part.number,
        size: part.size_bytes,
        sum: sum_of(part).map(|sum| sum.value),
    }
}

fn initiator(name: &str) -> dto::Initiator {
    dto::Initiator {
        id: Some(name.to_owned()),
        display_name: Some(name.to_owned()),
    }
}

fn told_part(part: &Part) -> dto::Part {
    let mut record = dto::Part {
        part_number: Some(i32::from(part.number)),
        size: Some(length(part.size_bytes)),
        e_tag: Some(dto::ETag::Strong(part.etag.clone())),
        last_modified: Some(stamp(part.modified)),
        ..dto::Part::default()
    };
    tell_sum!(record, told(sum_of(part).as_ref()));
    record
}

fn told_upload(upload: &Upload, encoding: Encoding, owned_by: &str) -> dto::MultipartUpload {
    let note = Attributes::read(&upload.attributes).ok();
    let checksum = note
        .and_then(|kept| kept.upload)
        .and_then(|note| note.checksum);
    dto::MultipartUpload {
        key: Some(encoding.write(&upload.key)),
        upload_id: Some(upload.id.to_string()),
        initiated: Some(stamp(upload.initiated)),
        initiator: Some(initiator(&upload.owner)),
        owner: Some(owner(owned_by)),
        storage_class: Some(upload.class.clone().into()),
        checksum_algorithm: checksum.clone().map(|(word, _)| word.into()),
        checksum_type: checksum.map(|(_, kind)| kind.into()),
    }
}

//! Uploads in parts.

use lepton_store::index::{
    Condition, IndexError, NewUpload, NewVersion, Newcomer, Part, Refusal, Retention, UploadId,
    UploadsQuery, UploadsStart, Which,
};
use lepton_types::Timestamp;
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::acl::granted;
use super::attributes::{Attributes, UploadNote, class_of, write_parts};
use super::checksums::{Expected, tell_sum, told};
use super::customer_keys::brought;
use super::encryption::{said, tell_encryption};
use super::errors::{no_such_upload, of_index};
use super::list::{Wanted, limit, owner, page_size};
use super::locks::mode_of;
use super::parts::{
    PARTS_MAX, UnderWay, check_whole, checksum_of, choose, completed, etag_of, initiator, note_of,
    part_number, sum_of, told_part, told_upload, upload_id, whole_sum,
};
use super::put::{Received, WantedLock, described, matched, piece_of, settle};
use super::{Face, entered, tags};
use crate::pending::to_the_end;

impl Face {
    /// `CreateMultipartUpload`.
    pub(super) async fn begin_upload(
        &self,
        request: S3Request<dto::CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
        let entered = entered(&request).clone();
        let (bucket, label) = (entered.bucket()?.clone(), entered.label());
        let input = request.input;
        self.check_grants(&bucket, granted!(input)).await?;
        let encryption = self.encryption(&bucket, said!(input)).await?;
        let wanted = WantedLock {
            mode: input.object_lock_mode,
            until: input.object_lock_retain_until_date,
            hold: input.object_lock_legal_hold_status,
        };
        let (hold, retention) = self
            .lock_of(&entered, &input.key, &request.headers, &wanted)
            .await?;
        let checksum = checksum_of(
            input.checksum_algorithm.as_ref(),
            input.checksum_type.as_ref(),
        )?;
        let mut kept = Attributes {
            upload: Some(UploadNote {
                tags: tags::of_header(input.tagging.as_deref())?,
                hold,
                retention: retention.map(|held| {
                    let mode = super::locks::told_mode(held.mode);
                    (mode.as_str().to_owned(), held.until.as_millis())
                }),
                checksum: checksum.clone(),
            }),
            ..described!(input)
        };
        encryption.note(&mut kept);
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
        let mut output = dto::CreateMultipartUploadOutput {
            bucket: Some(bucket.name),
            key: Some(input.key),
            upload_id: Some(id.to_string()),
            checksum_algorithm: checksum.clone().map(|(word, _)| word.into()),
            checksum_type: checksum.map(|(_, kind)| kind.into()),
            ..dto::CreateMultipartUploadOutput::default()
        };
        tell_encryption!(output, kept);
        Ok(S3Response::new(output))
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
        let (index, staged) = (self.index.clone(), received.staged);
        let (bucket, upload) = (bucket.id, under_way.id);
        let (key, new) = (under_way.upload.key.clone(), part.clone());
        let recording = async move {
            let recorded = index.put_part(bucket, &key, upload, new, pieces).await;
            settle(staged, recorded).await
        };
        to_the_end(recording).await?;
        Ok(part)
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
        let customer = brought!(input)?;
        let key = under_way.key_of_part(customer.as_ref())?;
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
        let newcomer = Newcomer::Part {
            upload: under_way.id,
            number,
        };
        self.check_room(&bucket, newcomer, &expected).await?;
        let received = self
            .receive(&bucket.project, input.body, key, &expected)
            .await?;
        let part = self
            .record_part(&bucket, &under_way, number, received)
            .await?;
        let mut output = dto::UploadPartOutput {
            e_tag: Some(dto::ETag::Strong(part.etag.clone())),
            ..dto::UploadPartOutput::default()
        };
        tell_encryption!(output, under_way.kept);
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
        let customer = brought!(input)?;
        // As in S3, completion needs the upload's key where checksums are kept; one that is given must be it.
        if customer.is_some() || under_way.algorithm()?.is_some() {
            under_way.key_of_part(customer.as_ref())?;
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
        let notes: Vec<_> = chosen.iter().map(|part| note_of(part)).collect();
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
            parts: write_parts(&notes),
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
        let mut output = completed(&bucket.name, &made, &kept);
        output.expiration = self.expiration(&bucket, &made).await?;
        Ok(S3Response::new(output))
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
        let wanted = Wanted::of(
            input.max_uploads,
            input.encoding_type.as_ref(),
            input.prefix,
            input.delimiter,
        )?;
        let marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
        let upload = input
            .upload_id_marker
            .as_deref()
            .and_then(|text| text.parse().ok());
        let query = UploadsQuery {
            bucket: bucket.id,
            prefix: wanted.prefix.clone(),
            delimiter: wanted.delimiter.clone(),
            start: marker.map(|key| UploadsStart { key, upload }),
            limit: wanted.limit(),
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
            .map(|upload| told_upload(upload, wanted.encoding, &bucket.owner))
            .collect();
        Ok(S3Response::new(dto::ListMultipartUploadsOutput {
            bucket: Some(bucket.name),
            prefix: Some(wanted.write(&wanted.prefix)),
            key_marker: Some(wanted.write(&input.key_marker.unwrap_or_default())),
            upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
            max_uploads: Some(wanted.size),
            is_truncated: Some(listed.truncated),
            next_key_marker: listed.truncated.then(|| wanted.write(&listed.last)),
            next_upload_id_marker: next,
            uploads: Some(uploads),
            common_prefixes: wanted.encoding.prefixes(listed.prefixes),
            delimiter: wanted.told_delimiter(),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }
}

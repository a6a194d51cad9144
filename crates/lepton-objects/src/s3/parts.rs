//! Parts and what they make together: their numbers, their order, the ETag and the checksum of the whole.

use lepton_store::index::{Part, Upload, UploadId};
use md5::{Digest as _, Md5};
use s3s::dto;
use s3s::{S3Result, s3_error};

use super::attributes::{self, Attributes, PartNote, length, stamp};
use super::checksums::{Algorithm, Sum, bad_digest, combined, tell_sum, told, told_type};
use super::customer_keys::Brought;
use super::errors::no_such_upload;
use super::list::{Encoding, owner};
use super::put::{hex, told_version};
use crate::ContentKey;

/// Parts of one upload, as in S3.
pub(super) const PARTS_MAX: u16 = 10_000;

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

    pub(super) fn is_composite(&self) -> bool {
        let note = self.kept.upload.as_ref();
        let kind = note.and_then(|note| note.checksum.as_ref());
        kind.is_some_and(|(_, kind)| kind == dto::ChecksumType::COMPOSITE)
    }

    /// Under which key a part is to be. Refuses one that is not under the customer's key of the upload.
    pub(super) fn key_of_part(&self, customer: Option<&Brought>) -> S3Result<ContentKey> {
        let given = customer.map(|customer| customer.md5.as_str());
        if self.kept.customer_key_md5.as_deref() != given {
            return Err(s3_error!(
                InvalidRequest,
                "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters."
            ));
        }
        Ok(match (customer, &self.kept.named_key) {
            (Some(customer), _) => ContentKey::Customer(customer.key.clone()),
            (None, Some(name)) => ContentKey::Named(name.clone()),
            (None, None) => ContentKey::Project,
        })
    }
}

/// The type of checksum that an upload asks for.
pub(super) fn checksum_of(
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

/// The parts that a client wants, in the order it must give them.
pub(super) fn choose<'a>(
    wanted: &[dto::CompletedPart],
    there: &'a [Part],
) -> S3Result<Vec<&'a Part>> {
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
pub(super) fn etag_of(parts: &[&Part]) -> String {
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
pub(super) fn whole_sum(under_way: &UnderWay, parts: &[&Part]) -> S3Result<Option<Sum>> {
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
pub(super) fn check_whole(
    input: &dto::CompleteMultipartUploadInput,
    sum: Option<&Sum>,
) -> S3Result<()> {
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

pub(super) fn completed(
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
        server_side_encryption: kept.told_encryption(),
        ssekms_key_id: kept.told_named_key(),
        ..dto::CompleteMultipartUploadOutput::default()
    };
    tell_sum!(output, told(kept.checksum.as_ref()));
    output
}

pub(super) fn sum_of(part: &Part) -> Option<Sum> {
    serde_json::from_str(&part.attributes).ok()
}

pub(super) fn note_of(part: &Part) -> PartNote {
    PartNote {
        number: part.number,
        size: part.size_bytes,
        sum: sum_of(part).map(|sum| sum.value),
    }
}

pub(super) fn initiator(name: &str) -> dto::Initiator {
    dto::Initiator {
        id: Some(name.to_owned()),
        display_name: Some(name.to_owned()),
    }
}

pub(super) fn told_part(part: &Part) -> dto::Part {
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

pub(super) fn told_upload(
    upload: &Upload,
    encoding: Encoding,
    owned_by: &str,
) -> dto::MultipartUpload {
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

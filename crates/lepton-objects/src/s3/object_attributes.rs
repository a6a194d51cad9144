//! `GetObjectAttributes`: what is asked of an object, and nothing else.

use http::HeaderMap;
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::attributes::{self, Attributes, PartNote, length, stamp};
use super::checksums::{tell_sum, told, told_type};
use super::customer_keys::brought;
use super::get::which;
use super::list::{limit, page_size};
use super::put::told_version;
use super::{Face, entered};

impl Face {
    pub(super) async fn get_attributes(
        &self,
        request: S3Request<dto::GetObjectAttributesInput>,
    ) -> S3Result<S3Response<dto::GetObjectAttributesOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let input = request.input;
        let customer = brought!(input)?;
        let which = which(input.version_id.as_deref())?;
        let opened = self.open(&bucket, &input.key, which).await?;
        self.check_customer_key(&bucket, &opened, customer.as_ref())
            .await?;
        if input.object_attributes.is_empty() {
            return Err(s3_error!(
                InvalidArgument,
                "x-amz-object-attributes must name at least one attribute"
            ));
        }
        let asks = |word: &str| {
            // Several may be named in one header, which the library does not take apart.
            let mut asked = input.object_attributes.iter();
            asked.any(|named| named.as_str().split(',').any(|one| one.trim() == word))
        };
        let (version, kept) = (&opened.version, &opened.attributes);
        let mut output = dto::GetObjectAttributesOutput {
            last_modified: Some(stamp(version.modified)),
            version_id: told_version(version),
            ..dto::GetObjectAttributesOutput::default()
        };
        if asks(dto::ObjectAttributes::ETAG) {
            output.e_tag = Some(attributes::etag(version));
        }
        if asks(dto::ObjectAttributes::OBJECT_SIZE) {
            output.object_size = Some(length(version.size_bytes));
        }
        if asks(dto::ObjectAttributes::STORAGE_CLASS) {
            output.storage_class = Some(version.class.clone().into());
        }
        if asks(dto::ObjectAttributes::CHECKSUM) {
            output.checksum = checksum(kept);
        }
        let noted = opened.parts()?;
        if asks(dto::ObjectAttributes::OBJECT_PARTS) && !noted.is_empty() {
            let after = input.part_number_marker.unwrap_or_default();
            output.object_parts = Some(parts(kept, &noted, after, page_size(input.max_parts)?));
        }
        let mut response = S3Response::new(output);
        response.headers = HeaderMap::new();
        Ok(response)
    }
}

fn checksum(kept: &Attributes) -> Option<dto::Checksum> {
    let sum = kept.checksum.as_ref()?;
    let mut record = dto::Checksum {
        checksum_type: told_type(Some(sum)),
        ..dto::Checksum::default()
    };
    tell_sum!(record, told(Some(sum)));
    Some(record)
}

fn parts(
    kept: &Attributes,
    noted: &[PartNote],
    after: i32,
    size: i32,
) -> dto::GetObjectAttributesParts {
    let algorithm = kept.checksum.as_ref().map(|sum| sum.algorithm);
    let mut later = noted
        .iter()
        .filter(|part| i32::from(part.number) > after)
        .peekable();
    let mut listed = Vec::new();
    while listed.len() < limit(size)
        && let Some(part) = later.next()
    {
        let mut record = dto::ObjectPart {
            part_number: Some(i32::from(part.number)),
            size: Some(length(part.size)),
            ..dto::ObjectPart::default()
        };
        tell_sum!(record, algorithm.zip(part.sum.clone()));
        listed.push(record);
    }
    dto::GetObjectAttributesParts {
        is_truncated: Some(later.peek().is_some()),
        max_parts: Some(size),
        next_part_number_marker: listed.last().and_then(|last| last.part_number),
        part_number_marker: Some(after),
        total_parts_count: i32::try_from(noted.len()).ok(),
        parts: Some(listed),
    }
}

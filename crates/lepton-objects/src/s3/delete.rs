//! Deleting one object, one version, or up to a thousand of them.

use futures_util::future;
use lepton_store::index::{Condition, Deletion, ToDelete, VersionId};
use s3s::dto;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::actions::action_of;
use super::attributes::unstamp;
use super::errors::{denied, of_index};
use super::patterns::version_parameter;
use super::policy::Asked;
use super::put::matched;
use super::{Entered, Face, entered};

/// Objects of one multi-delete, as in S3.
const OBJECTS_MAX: usize = 1_000;

/// Deletions of one request that are under way at once: they share the index's syncs.
const AT_ONCE: usize = 64;

fn version_of(text: Option<&str>) -> S3Result<Option<VersionId>> {
    text.map(|text| {
        text.parse()
            .map_err(|_| s3_error!(InvalidArgument, "Invalid version id specified"))
    })
    .transpose()
}

impl Face {
    /// `DeleteObject`.
    pub(super) async fn delete_one(
        &self,
        request: S3Request<dto::DeleteObjectInput>,
    ) -> S3Result<S3Response<dto::DeleteObjectOutput>> {
        let entered = entered(&request);
        let bucket = entered.bucket()?.clone();
        let asks = request.input.bypass_governance_retention;
        let place = (
            request.input.key.as_str(),
            request.input.version_id.as_deref(),
        );
        let bypass = self
            .may_bypass(entered, place, &request.headers, asks)
            .await?;
        let input = request.input;
        let order = ToDelete {
            bucket: bucket.id,
            key: input.key,
            version: version_of(input.version_id.as_deref())?,
            at: self.now(),
            salt: self.salt(),
            bypass,
            condition: Condition {
                matches: matched(input.if_match.as_ref()),
                matches_not: None,
                modified: input.if_match_last_modified_time.map(unstamp),
                size_bytes: input
                    .if_match_size
                    .and_then(|size| u64::try_from(size).ok()),
            },
        };
        let done = self.index.delete(order).await.map_err(of_index)?;
        let output = dto::DeleteObjectOutput {
            delete_marker: done.marker.then_some(true),
            version_id: done.version.map(|version| version.to_string()),
            ..dto::DeleteObjectOutput::default()
        };
        Ok(S3Response::with_status(
            output,
            http::StatusCode::NO_CONTENT,
        ))
    }

    /// `DeleteObjects`.
    pub(super) async fn delete_many(
        &self,
        request: S3Request<dto::DeleteObjectsInput>,
    ) -> S3Result<S3Response<dto::DeleteObjectsOutput>> {
        let objects = &request.input.delete.objects;
        if objects.is_empty() || objects.len() > OBJECTS_MAX {
            return Err(s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            ));
        }
        let entered = entered(&request);
        let asks = request.input.bypass_governance_retention;
        let mut results = Vec::with_capacity(objects.len());
        for some in objects.chunks(AT_ONCE) {
            let mut under_way = Vec::with_capacity(some.len());
            for object in some {
                under_way.push(self.delete_listed(entered, object, asks, &request.headers));
            }
            let done = future::join_all(under_way).await;
            results.extend(some.iter().zip(done));
        }
        let quiet = request.input.delete.quiet == Some(true);
        let mut output = dto::DeleteObjectsOutput::default();
        for (object, result) in results {
            match result {
                Ok(done) if !quiet => {
                    let deleted = output.deleted.get_or_insert_default();
                    deleted.push(told(object, done));
                }
                Ok(_) => {}
                Err(error) => output
                    .errors
                    .get_or_insert_default()
                    .push(told_error(object, &error)),
            }
        }
        Ok(S3Response::new(output))
    }

    async fn delete_listed(
        &self,
        entered: &Entered,
        object: &dto::ObjectIdentifier,
        asks_bypass: Option<bool>,
        headers: &http::HeaderMap,
    ) -> S3Result<Deletion> {
        let bucket = entered.bucket()?;
        let (action, right) = action_of("DeleteObject", object.version_id.is_some());
        let parameters = version_parameter(object.version_id.as_deref());
        let asked = Asked {
            action: &action,
            bucket: &bucket.name,
            key: &object.key,
            headers,
            parameters: &parameters,
        };
        if !self.allowed(entered, &asked, right).await? {
            return Err(denied());
        }
        let place = (object.key.as_str(), object.version_id.as_deref());
        let bypass = self
            .may_bypass(entered, place, headers, asks_bypass)
            .await?;
        let order = ToDelete {
            bucket: bucket.id,
            key: object.key.clone(),
            version: version_of(object.version_id.as_deref())?,
            at: self.now(),
            salt: self.salt(),
            bypass,
            condition: Condition {
                matches: object.e_tag.as_ref().map(|etag| etag.value().to_owned()),
                matches_not: None,
                modified: object.last_modified_time.clone().map(unstamp),
                size_bytes: object.size.and_then(|size| u64::try_from(size).ok()),
            },
        };
        self.index.delete(order).await.map_err(of_index)
    }
}

fn told(object: &dto::ObjectIdentifier, done: Deletion) -> dto::DeletedObject {
    let made = done.version.map(|version| version.to_string());
    dto::DeletedObject {
        key: Some(object.key.clone()),
        version_id: object.version_id.clone(),
        delete_marker: done.marker.then_some(true),
        delete_marker_version_id: made.filter(|_| done.marker),
    }
}

fn told_error(object: &dto::ObjectIdentifier, error: &S3Error) -> dto::Error {
    dto::Error {
        key: Some(object.key.clone()),
        version_id: object.version_id.clone(),
        code: Some(error.code().as_str().to_owned()),
        message: error.message().map(str::to_owned),
    }
}

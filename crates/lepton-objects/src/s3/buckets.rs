//! Buckets: made, listed, deleted.

use lepton_store::index::{Bucket, NewBucket, Refusal, VersionsQuery};
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::acl::granted;
use super::attributes::stamp;
use super::errors::of_index;
use super::list::owner;
use super::{Face, REGION, entered};

/// The most buckets of one page, as in S3.
const PAGE_MAX: i32 = 10_000;

/// Buckets of a project that a [`Gate`](super::Gate) keeps: that of its datasets.
const KEPT_MAX: usize = 1;

/// Buckets of one project. S3 allows 10,000, too.
const BUCKETS_MAX: usize = 10_000;

impl Face {
    /// `CreateBucket`.
    pub(super) async fn create(
        &self,
        request: S3Request<dto::CreateBucketInput>,
    ) -> S3Result<S3Response<dto::CreateBucketOutput>> {
        let entered = entered(&request);
        let holder = entered
            .caller
            .holder
            .clone()
            .ok_or_else(super::errors::denied)?;
        let there = entered.bucket.as_ref();
        let there = there.filter(|bucket| bucket.project == holder.project);
        let there = there.map(|bucket| (bucket.object_lock, bucket.name.clone()));
        let label = entered.label();
        let input = request.input;
        if input.bucket.contains(".-") || input.bucket.contains("-.") {
            return Err(s3_error!(
                InvalidBucketName,
                "The specified bucket is not valid."
            ));
        }
        granted!(input, grant_write).check(&label, false)?;
        // As in S3's first region, making it again as it is changes nothing.
        if let Some((object_lock, name)) = there {
            if object_lock != (input.object_lock_enabled_for_bucket == Some(true)) {
                return Err(of_index(Refusal::BucketExists.into()));
            }
            return Ok(S3Response::new(dto::CreateBucketOutput {
                location: Some(format!("/{name}")),
            }));
        }
        let wanted = input
            .create_bucket_configuration
            .and_then(|wanted| wanted.location_constraint);
        if let Some(wanted) = wanted
            && !wanted.as_str().is_empty()
            && wanted.as_str() != REGION
        {
            return Err(s3_error!(
                InvalidLocationConstraint,
                "The specified location-constraint is not valid"
            ));
        }
        let held = self
            .index
            .buckets(&holder.project, "", "", BUCKETS_MAX)
            .await
            .map_err(of_index)?;
        if held.len() >= BUCKETS_MAX {
            return Err(s3_error!(
                TooManyBuckets,
                "You have attempted to create more buckets than allowed"
            ));
        }
        let made = self
            .index
            .create_bucket(NewBucket {
                project: holder.project.clone(),
                name: input.bucket,
                owner: label,
                at: self.now(),
                object_lock: input.object_lock_enabled_for_bucket == Some(true),
            })
            .await
            .map_err(of_index)?;
        if let Some(ownership) = input.object_ownership {
            let word = ownership.as_str().to_owned();
            self.write_setting(made.id, super::settings::OWNERSHIP, Some(&word))
                .await?;
        }
        Ok(S3Response::new(dto::CreateBucketOutput {
            location: Some(format!("/{}", made.name)),
        }))
    }

    /// `ListBuckets`.
    pub(super) async fn list_all_buckets(
        &self,
        request: S3Request<dto::ListBucketsInput>,
    ) -> S3Result<S3Response<dto::ListBucketsOutput>> {
        let holder = entered(&request)
            .caller
            .holder
            .clone()
            .ok_or_else(super::errors::denied)?;
        let input = request.input;
        let most = input.max_buckets.unwrap_or(PAGE_MAX);
        if !(1..=PAGE_MAX).contains(&most) {
            return Err(s3_error!(
                InvalidArgument,
                "max-buckets must be between 1 and 10000"
            ));
        }
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.unwrap_or_default();
        let limit = usize::try_from(most).unwrap_or_default();
        let found = self
            .index
            .buckets(&holder.project, &prefix, &after, limit + 1 + KEPT_MAX)
            .await
            .map_err(of_index)?;
        let mut found = self.without_empty_kept(found).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().map(|last| last.name.clone());
        Ok(S3Response::new(dto::ListBucketsOutput {
            buckets: Some(found.iter().map(told).collect()),
            continuation_token: next.filter(|_| more),
            owner: Some(owner(&holder.name)),
            prefix: input.prefix,
        }))
    }

    /// What is listed: a bucket that Lepton keeps for itself from the start is not before it holds anything.
    async fn without_empty_kept(&self, found: Vec<Bucket>) -> S3Result<Vec<Bucket>> {
        let mut listed = Vec::with_capacity(found.len());
        for bucket in found {
            if self.gate.keeps(&bucket.name, "") && self.is_empty(&bucket).await? {
                continue;
            }
            listed.push(bucket);
        }
        Ok(listed)
    }

    async fn is_empty(&self, bucket: &Bucket) -> S3Result<bool> {
        let query = VersionsQuery {
            bucket: bucket.id,
            prefix: String::new(),
            delimiter: String::new(),
            start: None,
            limit: 1,
        };
        let page = self.index.list_versions(query).await.map_err(of_index)?;
        Ok(page.entries.is_empty())
    }

    /// `DeleteBucket`.
    pub(super) async fn delete_empty(
        &self,
        request: S3Request<dto::DeleteBucketInput>,
    ) -> S3Result<S3Response<dto::DeleteBucketOutput>> {
        let bucket = entered(&request).bucket()?.id;
        self.index.delete_bucket(bucket).await.map_err(of_index)?;
        Ok(S3Response::with_status(
            dto::DeleteBucketOutput::default(),
            http::StatusCode::NO_CONTENT,
        ))
    }
}

fn told(bucket: &Bucket) -> dto::Bucket {
    dto::Bucket {
        name: Some(bucket.name.clone()),
        creation_date: Some(stamp(bucket.created_at)),
        bucket_region: None,
    }
}

//! What is configured of a bucket: kept as it was said, checked before.

use lepton_store::index::{BucketId, Versioning};
use s3s::dto;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::errors::{denied, of_index};
use super::policy::Policy;
use super::{Face, cors, entered, lifecycle};

// stored: never rename
pub(super) const POLICY: &str = "policy";
pub(super) const TAGS: &str = "tags";
pub(super) const CORS: &str = "cors";
pub(super) const LIFECYCLE: &str = "lifecycle";
pub(super) const ENCRYPTION: &str = "encryption";
pub(super) const OBJECT_LOCK: &str = "object-lock";
pub(super) const PUBLIC_ACCESS: &str = "public-access-block";
pub(super) const OWNERSHIP: &str = "ownership";

fn missing(error: S3Error) -> S3Error {
    let mut error = error;
    error.set_status_code(http::StatusCode::NOT_FOUND);
    error
}

impl Face {
    pub(super) async fn read_setting<T: DeserializeOwned>(
        &self,
        bucket: BucketId,
        kind: &'static str,
    ) -> S3Result<Option<T>> {
        let text = self.index.setting(bucket, kind).await.map_err(of_index)?;
        let read = text.map(|text| serde_json::from_str(&text)).transpose();
        read.map_err(|error| {
            tracing::error!(%error, kind, "a setting of a bucket does not read back");
            s3_error!(InternalError)
        })
    }

    pub(super) async fn write_setting<T: Serialize>(
        &self,
        bucket: BucketId,
        kind: &'static str,
        value: Option<&T>,
    ) -> S3Result<()> {
        let text = value.map(serde_json::to_string).transpose();
        let text = text.map_err(|error| s3_error!(error, InternalError))?;
        self.index.set(bucket, kind, text).await.map_err(of_index)
    }

    pub(super) async fn remove_setting(
        &self,
        bucket: BucketId,
        kind: &'static str,
    ) -> S3Result<()> {
        self.index.set(bucket, kind, None).await.map_err(of_index)
    }

    pub(super) async fn get_versioning(
        &self,
        request: S3Request<dto::GetBucketVersioningInput>,
    ) -> S3Result<S3Response<dto::GetBucketVersioningOutput>> {
        let word = match entered(&request).bucket()?.versioning {
            Versioning::Off => None,
            Versioning::Enabled => Some(dto::BucketVersioningStatus::ENABLED),
            Versioning::Suspended => Some(dto::BucketVersioningStatus::SUSPENDED),
        };
        Ok(S3Response::new(dto::GetBucketVersioningOutput {
            status: word.map(dto::BucketVersioningStatus::from_static),
            mfa_delete: None,
        }))
    }

    pub(super) async fn put_versioning(
        &self,
        request: S3Request<dto::PutBucketVersioningInput>,
    ) -> S3Result<S3Response<dto::PutBucketVersioningOutput>> {
        let bucket = entered(&request).bucket()?.id;
        let wanted = &request.input.versioning_configuration;
        let versioning = match wanted
            .status
            .as_ref()
            .map(dto::BucketVersioningStatus::as_str)
        {
            Some(dto::BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(dto::BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            _ => {
                return Err(s3_error!(
                    IllegalVersioningConfigurationException,
                    "The Versioning element must be specified"
                ));
            }
        };
        self.index
            .set_versioning(bucket, versioning)
            .await
            .map_err(of_index)?;
        Ok(S3Response::new(dto::PutBucketVersioningOutput::default()))
    }

    pub(super) async fn get_policy(
        &self,
        request: S3Request<dto::GetBucketPolicyInput>,
    ) -> S3Result<S3Response<dto::GetBucketPolicyOutput>> {
        let bucket = entered(&request).bucket()?.id;
        let policy = self.index.setting(bucket, POLICY).await.map_err(of_index)?;
        let policy = policy
            .ok_or_else(|| s3_error!(NoSuchBucketPolicy, "The bucket policy does not exist"))?;
        Ok(S3Response::new(dto::GetBucketPolicyOutput {
            policy: Some(policy),
        }))
    }

    pub(super) async fn put_policy(
        &self,
        request: S3Request<dto::PutBucketPolicyInput>,
    ) -> S3Result<S3Response<dto::PutBucketPolicyOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let policy = Policy::parse(&request.input.policy, &bucket.name)?;
        let block: Option<dto::PublicAccessBlockConfiguration> =
            self.read_setting(bucket.id, PUBLIC_ACCESS).await?;
        let blocked = block.is_some_and(|block| block.block_public_policy == Some(true));
        if blocked && policy.is_public() {
            return Err(denied());
        }
        self.index
            .set(bucket.id, POLICY, Some(request.input.policy))
            .await
            .map_err(of_index)?;
        Ok(S3Response::with_status(
            dto::PutBucketPolicyOutput::default(),
            http::StatusCode::NO_CONTENT,
        ))
    }

    pub(super) async fn policy_status(
        &self,
        request: S3Request<dto::GetBucketPolicyStatusInput>,
    ) -> S3Result<S3Response<dto::GetBucketPolicyStatusOutput>> {
        let entered = entered(&request);
        let policy = entered.policy.as_ref();
        let is_public = policy.is_some_and(|policy| policy.is_public());
        Ok(S3Response::new(dto::GetBucketPolicyStatusOutput {
            policy_status: Some(dto::PolicyStatus {
                is_public: Some(is_public),
            }),
        }))
    }

    /// Whether a bucket is closed to strangers whatever its policy allows.
    pub(super) async fn is_closed(&self, bucket: &lepton_store::index::Bucket) -> S3Result<bool> {
        let block: Option<dto::PublicAccessBlockConfiguration> =
            self.read_setting(bucket.id, PUBLIC_ACCESS).await?;
        Ok(block.is_some_and(|block| block.restrict_public_buckets == Some(true)))
    }

    pub(super) async fn get_public_access(
        &self,
        request: S3Request<dto::GetPublicAccessBlockInput>,
    ) -> S3Result<S3Response<dto::GetPublicAccessBlockOutput>> {
        let bucket = entered(&request).bucket()?.id;
        let block: Option<dto::PublicAccessBlockConfiguration> =
            self.read_setting(bucket, PUBLIC_ACCESS).await?;
        let block = block.ok_or_else(|| {
            super::errors::custom(
                "NoSuchPublicAccessBlockConfiguration",
                http::StatusCode::NOT_FOUND,
                "The public access block configuration was not found",
            )
        })?;
        Ok(S3Response::new(dto::GetPublicAccessBlockOutput {
            public_access_block_configuration: Some(block),
        }))
    }

    pub(super) async fn get_cors(
        &self,
        request: S3Request<dto::GetBucketCorsInput>,
    ) -> S3Result<S3Response<dto::GetBucketCorsOutput>> {
        let bucket = entered(&request).bucket()?.id;
        let found: Option<dto::CORSConfiguration> = self.read_setting(bucket, CORS).await?;
        let found = found.ok_or_else(|| {
            s3_error!(
                NoSuchCORSConfiguration,
                "The CORS configuration does not exist"
            )
        })?;
        Ok(S3Response::new(dto::GetBucketCorsOutput {
            cors_rules: Some(found.cors_rules),
        }))
    }

    pub(super) async fn put_cors(
        &self,
        request: S3Request<dto::PutBucketCorsInput>,
    ) -> S3Result<S3Response<dto::PutBucketCorsOutput>> {
        let bucket = entered(&request).bucket()?.id;
        cors::check(&request.input.cors_configuration)?;
        self.write_setting(bucket, CORS, Some(&request.input.cors_configuration))
            .await?;
        Ok(S3Response::new(dto::PutBucketCorsOutput::default()))
    }

    pub(super) async fn get_lifecycle(
        &self,
        request: S3Request<dto::GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<dto::GetBucketLifecycleConfigurationOutput>> {
        let bucket = entered(&request).bucket()?.id;
        let found: Option<dto::BucketLifecycleConfiguration> =
            self.read_setting(bucket, LIFECYCLE).await?;
        let found = found.ok_or_else(|| {
            s3_error!(
                NoSuchLifecycleConfiguration,
                "The lifecycle configuration does not exist"
            )
        })?;
        Ok(S3Response::new(
            dto::GetBucketLifecycleConfigurationOutput {
                rules: Some(found.rules),
                transition_default_minimum_object_size: None,
            },
        ))
    }

    pub(super) async fn put_lifecycle(
        &self,
        request: S3Request<dto::PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<dto::PutBucketLifecycleConfigurationOutput>> {
        let bucket = entered(&request).bucket()?.id;
        let wanted = request.input.lifecycle_configuration.unwrap_or_default();
        let checked = lifecycle::checked(wanted, self.salt())?;
        self.write_setting(bucket, LIFECYCLE, Some(&checked))
            .await?;
        Ok(S3Response::new(
            dto::PutBucketLifecycleConfigurationOutput::default(),
        ))
    }

    /// Everything is sealed; that is told where nothing else was said.
    pub(super) async fn get_encryption(
        &self,
        request: S3Request<dto::GetBucketEncryptionInput>,
    ) -> S3Result<S3Response<dto::GetBucketEncryptionOutput>> {
        let bucket = entered(&request).bucket()?.id;
        let found = self.read_setting(bucket, ENCRYPTION).await?;
        let common = || dto::ServerSideEncryptionConfiguration {
            rules: vec![dto::ServerSideEncryptionRule {
                apply_server_side_encryption_by_default: Some(dto::ServerSideEncryptionByDefault {
                    kms_master_key_id: None,
                    sse_algorithm: dto::ServerSideEncryption::from_static(
                        dto::ServerSideEncryption::AES256,
                    ),
                }),
                bucket_key_enabled: Some(false),
            }],
        };
        Ok(S3Response::new(dto::GetBucketEncryptionOutput {
            server_side_encryption_configuration: Some(found.unwrap_or_else(common)),
        }))
    }

    pub(super) async fn put_encryption(
        &self,
        request: S3Request<dto::PutBucketEncryptionInput>,
    ) -> S3Result<S3Response<dto::PutBucketEncryptionOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let wanted = &request.input.server_side_encryption_configuration;
        self.check_default_encryption(&bucket, wanted).await?;
        let bucket = bucket.id;
        self.write_setting(bucket, ENCRYPTION, Some(wanted)).await?;
        Ok(S3Response::new(dto::PutBucketEncryptionOutput::default()))
    }

    pub(super) async fn get_lock(
        &self,
        request: S3Request<dto::GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<dto::GetObjectLockConfigurationOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        if !bucket.object_lock {
            return Err(missing(s3_error!(
                ObjectLockConfigurationNotFoundError,
                "Object Lock configuration does not exist for this bucket"
            )));
        }
        let found: Option<dto::ObjectLockConfiguration> =
            self.read_setting(bucket.id, OBJECT_LOCK).await?;
        let mut lock = found.unwrap_or_default();
        lock.object_lock_enabled = Some(dto::ObjectLockEnabled::from_static(
            dto::ObjectLockEnabled::ENABLED,
        ));
        Ok(S3Response::new(dto::GetObjectLockConfigurationOutput {
            object_lock_configuration: Some(lock),
        }))
    }

    pub(super) async fn put_lock(
        &self,
        request: S3Request<dto::PutObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<dto::PutObjectLockConfigurationOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let wanted = request.input.object_lock_configuration.unwrap_or_default();
        check_lock(&wanted)?;
        if !bucket.object_lock {
            let enabled = self.index.enable_object_lock(bucket.id).await;
            enabled.map_err(of_index)?;
        }
        self.write_setting(bucket.id, OBJECT_LOCK, Some(&wanted))
            .await?;
        Ok(S3Response::new(
            dto::PutObjectLockConfigurationOutput::default(),
        ))
    }

    pub(super) async fn get_ownership(
        &self,
        request: S3Request<dto::GetBucketOwnershipControlsInput>,
    ) -> S3Result<S3Response<dto::GetBucketOwnershipControlsOutput>> {
        let bucket = entered(&request).bucket()?.id;
        let found: Option<String> = self.read_setting(bucket, OWNERSHIP).await?;
        let found = found.ok_or_else(|| {
            missing(s3_error!(
                OwnershipControlsNotFoundError,
                "The bucket ownership controls were not found"
            ))
        })?;
        Ok(S3Response::new(dto::GetBucketOwnershipControlsOutput {
            ownership_controls: Some(dto::OwnershipControls {
                rules: vec![dto::OwnershipControlsRule {
                    object_ownership: found.into(),
                }],
            }),
        }))
    }
}

fn check_lock(wanted: &dto::ObjectLockConfiguration) -> S3Result<()> {
    let malformed = || {
        s3_error!(
            MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema"
        )
    };
    let enabled = wanted.object_lock_enabled.as_ref();
    if enabled.map(dto::ObjectLockEnabled::as_str) != Some(dto::ObjectLockEnabled::ENABLED) {
        return Err(malformed());
    }
    let Some(rule) = &wanted.rule else {
        return Ok(());
    };
    let retention = rule.default_retention.as_ref().ok_or_else(malformed)?;
    let mode = retention.mode.as_ref().ok_or_else(malformed)?;
    super::locks::mode_of(mode.as_str())?;
    let period = match (retention.days, retention.years) {
        (Some(days), None) => days,
        (None, Some(years)) => years,
        _ => return Err(malformed()),
    };
    // S3's bound: a hundred years.
    let most = if retention.days.is_some() {
        36_500
    } else {
        100
    };
    if !(1..=most).contains(&period) {
        return Err(super::errors::custom(
            "InvalidRetentionPeriod",
            http::StatusCode::BAD_REQUEST,
            "Default retention period must be a positive integer value",
        ));
    }
    Ok(())
}

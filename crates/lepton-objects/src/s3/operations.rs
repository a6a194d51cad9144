//! Which operation of S3 is done where. What is not here is answered with `NotImplemented`.

use s3s::dto;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::acl::{self, Granted, granted};
use super::{Face, REGION, entered, settings};

/// One operation, done by a method of [`Face`].
macro_rules! done_by {
    ($($operation:ident($input:ident) -> $output:ident = $method:ident;)*) => { $(
        fn $operation<'face, 'call>(
            &'face self,
            request: S3Request<dto::$input>,
        ) -> Answer<'call, dto::$output>
        where
            'face: 'call,
            Self: 'call,
        {
            Box::pin(self.$method(request))
        }
    )* };
}

/// One operation that takes a setting of the bucket away.
macro_rules! removes {
    ($($operation:ident($input:ident) -> $output:ident = $setting:ident;)*) => { $(
        fn $operation<'face, 'call>(
            &'face self,
            request: S3Request<dto::$input>,
        ) -> Answer<'call, dto::$output>
        where
            'face: 'call,
            Self: 'call,
        {
            Box::pin(async move {
                let bucket = entered(&request).bucket()?.id;
                self.remove_setting(bucket, settings::$setting).await?;
                let output = dto::$output::default();
                Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
            })
        }
    )* };
}

/// What the library's trait gives back.
type Answer<'call, T> =
    std::pin::Pin<Box<dyn Future<Output = S3Result<S3Response<T>>> + Send + 'call>>;

impl S3 for Face {
    done_by! {
        create_bucket(CreateBucketInput) -> CreateBucketOutput = create;
        list_buckets(ListBucketsInput) -> ListBucketsOutput = list_all_buckets;
        delete_bucket(DeleteBucketInput) -> DeleteBucketOutput = delete_empty;
        put_object(PutObjectInput) -> PutObjectOutput = put;
        get_object(GetObjectInput) -> GetObjectOutput = get;
        head_object(HeadObjectInput) -> HeadObjectOutput = head;
        delete_object(DeleteObjectInput) -> DeleteObjectOutput = delete_one;
        delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput = delete_many;
        copy_object(CopyObjectInput) -> CopyObjectOutput = copy;
        list_objects(ListObjectsInput) -> ListObjectsOutput = list_v1;
        list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output = list_v2;
        list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput = list_all_versions;
        create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput = begin_upload;
        upload_part(UploadPartInput) -> UploadPartOutput = put_part;
        upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput = copy_part;
        complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput = complete;
        abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput = abort;
        list_parts(ListPartsInput) -> ListPartsOutput = list_upload_parts;
        list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput = list_under_way;
        get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput = get_attributes;
        get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput = get_tags;
        put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput = put_tags;
        delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput = delete_tags;
        get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput = get_retention;
        put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput = put_retention;
        get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput = get_hold;
        put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput = put_hold;
        get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput = get_versioning;
        put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput = put_versioning;
        get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput = get_policy;
        put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput = put_policy;
        get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput = policy_status;
        get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput = get_public_access;
        get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput = get_cors;
        put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput = put_cors;
        get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput = get_lifecycle;
        put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) -> PutBucketLifecycleConfigurationOutput = put_lifecycle;
        get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput = get_encryption;
        put_bucket_encryption(PutBucketEncryptionInput) -> PutBucketEncryptionOutput = put_encryption;
        get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput = get_lock;
        put_object_lock_configuration(PutObjectLockConfigurationInput) -> PutObjectLockConfigurationOutput = put_lock;
        get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput = get_ownership;
    }

    removes! {
        delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput = POLICY;
        delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput = CORS;
        delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput = LIFECYCLE;
        delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput = ENCRYPTION;
        delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput = TAGS;
        delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput = PUBLIC_ACCESS;
        delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) -> DeleteBucketOwnershipControlsOutput = OWNERSHIP;
    }

    done_by! {
        head_bucket(HeadBucketInput) -> HeadBucketOutput = tell_bucket;
        get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput = tell_location;
        get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput = tell_tags;
        put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput = set_tags;
        put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput = set_public_access;
        put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput = set_ownership;
        get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput = tell_acl;
        put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput = set_acl;
        get_object_acl(GetObjectAclInput) -> GetObjectAclOutput = tell_object_acl;
        put_object_acl(PutObjectAclInput) -> PutObjectAclOutput = set_object_acl;
        get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput = tell_payer;
        get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput = tell_logging;
        get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput = tell_notifications;
        get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput = tell_acceleration;
    }
}

impl Face {
    async fn tell_bucket(
        &self,
        request: S3Request<dto::HeadBucketInput>,
    ) -> S3Result<S3Response<dto::HeadBucketOutput>> {
        entered(&request).bucket()?;
        Ok(S3Response::new(dto::HeadBucketOutput {
            bucket_region: Some(REGION.to_owned()),
            ..dto::HeadBucketOutput::default()
        }))
    }

    async fn tell_location(
        &self,
        request: S3Request<dto::GetBucketLocationInput>,
    ) -> S3Result<S3Response<dto::GetBucketLocationOutput>> {
        entered(&request).bucket()?;
        // The first region is told by saying nothing.
        Ok(S3Response::new(dto::GetBucketLocationOutput::default()))
    }

    async fn tell_tags(
        &self,
        request: S3Request<dto::GetBucketTaggingInput>,
    ) -> S3Result<S3Response<dto::GetBucketTaggingOutput>> {
        let bucket = entered(&request).bucket()?;
        Ok(S3Response::new(self.get_bucket_tags(bucket).await?))
    }

    async fn set_tags(
        &self,
        request: S3Request<dto::PutBucketTaggingInput>,
    ) -> S3Result<S3Response<dto::PutBucketTaggingOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        self.put_bucket_tags(&bucket, request.input.tagging).await?;
        Ok(S3Response::with_status(
            dto::PutBucketTaggingOutput::default(),
            http::StatusCode::NO_CONTENT,
        ))
    }

    async fn set_public_access(
        &self,
        request: S3Request<dto::PutPublicAccessBlockInput>,
    ) -> S3Result<S3Response<dto::PutPublicAccessBlockOutput>> {
        let bucket = entered(&request).bucket()?.id;
        let block = &request.input.public_access_block_configuration;
        self.write_setting(bucket, settings::PUBLIC_ACCESS, Some(block))
            .await?;
        Ok(S3Response::new(dto::PutPublicAccessBlockOutput::default()))
    }

    async fn set_ownership(
        &self,
        request: S3Request<dto::PutBucketOwnershipControlsInput>,
    ) -> S3Result<S3Response<dto::PutBucketOwnershipControlsOutput>> {
        let bucket = entered(&request).bucket()?.id;
        let rule = request.input.ownership_controls.rules.first();
        let word = rule.map(|rule| rule.object_ownership.as_str().to_owned());
        self.write_setting(bucket, settings::OWNERSHIP, word.as_ref())
            .await?;
        Ok(S3Response::new(
            dto::PutBucketOwnershipControlsOutput::default(),
        ))
    }

    async fn tell_acl(
        &self,
        request: S3Request<dto::GetBucketAclInput>,
    ) -> S3Result<S3Response<dto::GetBucketAclOutput>> {
        let (owner, grants) = acl::grants(&entered(&request).bucket()?.owner);
        Ok(S3Response::new(dto::GetBucketAclOutput {
            owner: Some(owner),
            grants: Some(grants),
        }))
    }

    async fn set_acl(
        &self,
        request: S3Request<dto::PutBucketAclInput>,
    ) -> S3Result<S3Response<dto::PutBucketAclOutput>> {
        let bucket = entered(&request).bucket()?;
        let input = &request.input;
        let list = input.access_control_policy.as_ref();
        let granted = granted!(input, grant_write);
        self.check_grants(bucket, Granted { list, ..granted })
            .await?;
        Ok(S3Response::new(dto::PutBucketAclOutput::default()))
    }

    async fn tell_object_acl(
        &self,
        request: S3Request<dto::GetObjectAclInput>,
    ) -> S3Result<S3Response<dto::GetObjectAclOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let which = super::get::which(request.input.version_id.as_deref())?;
        self.open(&bucket, &request.input.key, which).await?;
        let (owner, grants) = acl::grants(&bucket.owner);
        Ok(S3Response::new(dto::GetObjectAclOutput {
            owner: Some(owner),
            grants: Some(grants),
            request_charged: None,
        }))
    }

    async fn set_object_acl(
        &self,
        request: S3Request<dto::PutObjectAclInput>,
    ) -> S3Result<S3Response<dto::PutObjectAclOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        let input = &request.input;
        let which = super::get::which(input.version_id.as_deref())?;
        self.open(&bucket, &input.key, which).await?;
        let list = input.access_control_policy.as_ref();
        let granted = granted!(input, grant_write);
        self.check_grants(&bucket, Granted { list, ..granted })
            .await?;
        Ok(S3Response::new(dto::PutObjectAclOutput::default()))
    }

    async fn tell_payer(
        &self,
        request: S3Request<dto::GetBucketRequestPaymentInput>,
    ) -> S3Result<S3Response<dto::GetBucketRequestPaymentOutput>> {
        entered(&request).bucket()?;
        Ok(S3Response::new(dto::GetBucketRequestPaymentOutput {
            payer: Some(dto::Payer::from_static(dto::Payer::BUCKET_OWNER)),
        }))
    }

    async fn tell_logging(
        &self,
        request: S3Request<dto::GetBucketLoggingInput>,
    ) -> S3Result<S3Response<dto::GetBucketLoggingOutput>> {
        entered(&request).bucket()?;
        Ok(S3Response::new(dto::GetBucketLoggingOutput::default()))
    }

    async fn tell_notifications(
        &self,
        request: S3Request<dto::GetBucketNotificationConfigurationInput>,
    ) -> S3Result<S3Response<dto::GetBucketNotificationConfigurationOutput>> {
        entered(&request).bucket()?;
        Ok(S3Response::new(
            dto::GetBucketNotificationConfigurationOutput::default(),
        ))
    }

    async fn tell_acceleration(
        &self,
        request: S3Request<dto::GetBucketAccelerateConfigurationInput>,
    ) -> S3Result<S3Response<dto::GetBucketAccelerateConfigurationOutput>> {
        entered(&request).bucket()?;
        Ok(S3Response::new(
            dto::GetBucketAccelerateConfigurationOutput::default(),
        ))
    }
}

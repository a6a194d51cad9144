//! Object lock: retention and legal holds.

use lepton_store::index::{Bucket, Retention, RetentionMode, VersionChange};
use s3s::dto;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::actions::Right;
use super::attributes::{stamp_exactly, unstamp};
use super::errors::{denied, of_index};
use super::get::which;
use super::patterns::version_parameter;
use super::policy::Asked;
use super::{Entered, Face, entered};

pub(super) fn mode_of(word: &str) -> S3Result<RetentionMode> {
    match word {
        dto::ObjectLockMode::GOVERNANCE => Ok(RetentionMode::Governance),
        dto::ObjectLockMode::COMPLIANCE => Ok(RetentionMode::Compliance),
        _ => Err(s3_error!(MalformedXML, "Unknown wormMode directive.")),
    }
}

const fn word_of(mode: RetentionMode) -> &'static str {
    match mode {
        RetentionMode::Governance => dto::ObjectLockMode::GOVERNANCE,
        RetentionMode::Compliance => dto::ObjectLockMode::COMPLIANCE,
    }
}

pub(super) fn told_mode(mode: RetentionMode) -> dto::ObjectLockMode {
    dto::ObjectLockMode::from_static(word_of(mode))
}

pub(super) fn hold_of(status: &dto::ObjectLockLegalHoldStatus) -> S3Result<bool> {
    match status.as_str() {
        dto::ObjectLockLegalHoldStatus::ON => Ok(true),
        dto::ObjectLockLegalHoldStatus::OFF => Ok(false),
        _ => Err(s3_error!(
            MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema"
        )),
    }
}

pub(super) fn told_hold(hold: bool) -> dto::ObjectLockLegalHoldStatus {
    dto::ObjectLockLegalHoldStatus::from_static(match hold {
        true => dto::ObjectLockLegalHoldStatus::ON,
        false => dto::ObjectLockLegalHoldStatus::OFF,
    })
}

fn needs_lock(bucket: &Bucket) -> S3Result<()> {
    match bucket.object_lock {
        true => Ok(()),
        false => Err(s3_error!(
            InvalidRequest,
            "Bucket is missing Object Lock Configuration"
        )),
    }
}

impl Face {
    /// Whether a caller who asks to bypass governance of an object and version may.
    pub(super) async fn may_bypass(
        &self,
        entered: &Entered,
        place: (&str, Option<&str>),
        headers: &http::HeaderMap,
        asks: Option<bool>,
    ) -> S3Result<bool> {
        if asks != Some(true) {
            return Ok(false);
        }
        self.may_weaken(entered, "s3:BypassGovernanceRetention", place, headers)
            .await
    }

    /// Whether a caller may take away what keeps an object: an administrator, or whom the policy names.
    async fn may_weaken(
        &self,
        entered: &Entered,
        action: &str,
        (key, version): (&str, Option<&str>),
        headers: &http::HeaderMap,
    ) -> S3Result<bool> {
        let parameters = version_parameter(version);
        let asked = Asked {
            action,
            bucket: &entered.bucket()?.name,
            key,
            headers,
            parameters: &parameters,
        };
        self.allowed(entered, &asked, Right::Administer).await
    }

    pub(super) async fn put_retention(
        &self,
        request: S3Request<dto::PutObjectRetentionInput>,
    ) -> S3Result<S3Response<dto::PutObjectRetentionOutput>> {
        let entered = entered(&request);
        let bucket = entered.bucket()?.clone();
        needs_lock(&bucket)?;
        let asks = request.input.bypass_governance_retention;
        let place = (
            request.input.key.as_str(),
            request.input.version_id.as_deref(),
        );
        let bypass = self
            .may_bypass(entered, place, &request.headers, asks)
            .await?;
        let input = request.input;
        let retention = input.retention.unwrap_or_default();
        let wanted = match (retention.mode, retention.retain_until_date) {
            (Some(mode), Some(until)) => Some(Retention {
                mode: mode_of(mode.as_str())?,
                until: unstamp(until),
            }),
            (None, None) => None,
            _ => {
                return Err(s3_error!(
                    MalformedXML,
                    "The XML you provided was not well-formed or did not validate against our published schema"
                ));
            }
        };
        let now = self.now();
        if wanted.is_some_and(|wanted| wanted.until <= now) {
            return Err(s3_error!(
                InvalidArgument,
                "The retain until date must be in the future!"
            ));
        }
        let change = VersionChange::Retention { wanted, bypass };
        let which = which(input.version_id.as_deref())?;
        self.index
            .change_version(bucket.id, &input.key, which, change, now)
            .await
            .map_err(of_index)?;
        Ok(S3Response::new(dto::PutObjectRetentionOutput::default()))
    }

    pub(super) async fn get_retention(
        &self,
        request: S3Request<dto::GetObjectRetentionInput>,
    ) -> S3Result<S3Response<dto::GetObjectRetentionOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        needs_lock(&bucket)?;
        let which = which(request.input.version_id.as_deref())?;
        let opened = self.open(&bucket, &request.input.key, which).await?;
        let held = opened.version.retention.ok_or_else(|| {
            let mut error = s3_error!(
                NoSuchObjectLockConfiguration,
                "The specified object does not have a ObjectLock configuration"
            );
            error.set_status_code(http::StatusCode::NOT_FOUND);
            error
        })?;
        let mode = dto::ObjectLockRetentionMode::from_static(word_of(held.mode));
        Ok(S3Response::new(dto::GetObjectRetentionOutput {
            retention: Some(dto::ObjectLockRetention {
                mode: Some(mode),
                retain_until_date: Some(stamp_exactly(held.until)),
            }),
        }))
    }

    pub(super) async fn put_hold(
        &self,
        request: S3Request<dto::PutObjectLegalHoldInput>,
    ) -> S3Result<S3Response<dto::PutObjectLegalHoldOutput>> {
        let entered = entered(&request);
        let bucket = entered.bucket()?.clone();
        needs_lock(&bucket)?;
        let input = &request.input;
        let status = input
            .legal_hold
            .as_ref()
            .and_then(|hold| hold.status.as_ref());
        let Some(status) = status else {
            return Err(s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            ));
        };
        let hold = hold_of(status)?;
        let place = (input.key.as_str(), input.version_id.as_deref());
        let action = "s3:PutObjectLegalHold";
        if !hold
            && !self
                .may_weaken(entered, action, place, &request.headers)
                .await?
        {
            return Err(denied());
        }
        let change = VersionChange::Hold(hold);
        let which = which(input.version_id.as_deref())?;
        self.index
            .change_version(bucket.id, &input.key, which, change, self.now())
            .await
            .map_err(of_index)?;
        Ok(S3Response::new(dto::PutObjectLegalHoldOutput::default()))
    }

    pub(super) async fn get_hold(
        &self,
        request: S3Request<dto::GetObjectLegalHoldInput>,
    ) -> S3Result<S3Response<dto::GetObjectLegalHoldOutput>> {
        let bucket = entered(&request).bucket()?.clone();
        needs_lock(&bucket)?;
        let which = which(request.input.version_id.as_deref())?;
        let opened = self.open(&bucket, &request.input.key, which).await?;
        Ok(S3Response::new(dto::GetObjectLegalHoldOutput {
            legal_hold: Some(dto::ObjectLockLegalHold {
                status: Some(told_hold(opened.version.hold)),
            }),
        }))
    }
}

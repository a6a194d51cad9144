//! The two questions before an operation runs: whose signature is it, and may they.

use std::sync::Arc;

use http::HeaderMap;
use lepton_store::index::Bucket;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::path::S3Path;
use s3s::{S3Result, s3_error};

use super::actions::{Right, action_of};
use super::errors::{denied, of_index};
use super::patterns::form_pairs;
use super::policy::{Asked, Asker, Policy, Verdict};
use super::{Caller, Entered, Face, FoundBucket, Holder, PeerAddress, settings};

/// Buckets of one name that are looked at for one that is open to a stranger.
const NAMESAKES_MAX: usize = 32;

#[async_trait::async_trait]
impl S3Auth for Face {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let holder = self.holder(access_key).await?;
        Ok(SecretKey::from(holder.secret.as_str()))
    }
}

#[async_trait::async_trait]
impl S3Access for Face {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let holder = match context.credentials() {
            Some(credentials) => Some(Arc::new(self.holder(&credentials.access_key).await?)),
            None => None,
        };
        let address = context.extensions_mut().get::<PeerAddress>();
        let caller = Caller {
            holder,
            address: address.map(|PeerAddress(address)| *address),
        };
        let path = match context.s3_path() {
            S3Path::Root => None,
            S3Path::Bucket { bucket } => Some((bucket.to_string(), String::new())),
            S3Path::Object { bucket, key } => Some((bucket.to_string(), key.to_string())),
        };
        let operation = context.s3_op().name();
        let parameters = form_pairs(context.uri().query().unwrap_or_default());
        let versioned = parameters.iter().any(|(name, _)| name == "versionId");
        let (action, right) = action_of(operation, versioned);
        let reads = matches!(operation, "GetObject" | "HeadObject") && !versioned;
        let Some((name, key)) = path else {
            return enter_root(context, caller, right);
        };
        let headers = match operation {
            "CopyObject" => &counting_in_copy(context.headers()),
            _ => context.headers(),
        };
        let asked = Asked {
            action: &action,
            bucket: &name,
            key: &key,
            headers,
            parameters: &parameters,
        };
        let entered = self.enter(&caller, &asked, right).await?;
        if let Some(bucket) = &entered.bucket {
            check_owner(context.headers(), bucket)?;
        }
        // Each object of a multi-delete is asked for by itself; a form tells its key later, and others their tags.
        let later = matches!(
            operation,
            "DeleteObjects" | "PostObject" | "PutObjectTagging"
        );
        let allowed = match (&entered.bucket, operation) {
            // Names are of projects: what another has of this name is not in the way.
            (_, "CreateBucket") => {
                entered.own_right(None, Right::Write) && !self.gate.keeps(&name, "")
            }
            (None, _) if caller.holder.is_some() => {
                return Err(s3_error!(
                    NoSuchBucket,
                    "The specified bucket does not exist"
                ));
            }
            (None, _) => false,
            (Some(_), _) if later => true,
            (Some(_), _) => self.allowed(&entered, &asked, right).await?,
        };
        if let (Some(bucket), Some(found)) = (
            &entered.bucket,
            context.extensions_mut().get::<FoundBucket>(),
        ) {
            let _first = found.set(bucket.id);
        }
        if !allowed {
            return Err(match reads && entered.bucket.is_some() {
                true => self.refusal_to_read(&entered, &key).await?,
                false => denied(),
            });
        }
        if let Some(holder) = &caller.holder {
            self.count_request(&holder.project);
        } else if let Some(bucket) = &entered.bucket {
            self.count_request(&bucket.project);
        }
        context.extensions_mut().insert(entered);
        Ok(())
    }
}

/// The headers of a copy but for those that it passes over, as it takes from its source what they would say.
fn counting_in_copy(headers: &HeaderMap) -> HeaderMap {
    let replaces = |directive| headers.get(directive).is_some_and(|it| it == "REPLACE");
    let tags = replaces("x-amz-tagging-directive");
    let metadata = replaces("x-amz-metadata-directive");
    let counts = |name: &str| match name {
        "x-amz-tagging" => tags,
        _ => metadata || !name.starts_with("x-amz-meta-"),
    };
    let counting = headers.iter().filter(|(name, _)| counts(name.as_str()));
    let pairs = counting.map(|(name, value)| (name.clone(), value.clone()));
    pairs.collect()
}

/// Enters what is about no bucket.
fn enter_root(context: &mut S3AccessContext<'_>, caller: Caller, right: Right) -> S3Result<()> {
    let entered = Entered {
        caller,
        bucket: None,
        policy: None,
    };
    if !entered.own_right(None, right) {
        return Err(denied());
    }
    context.extensions_mut().insert(entered);
    Ok(())
}

/// Whether an action is about the policy itself.
fn changes_policy(action: &str) -> bool {
    action.ends_with("BucketPolicy")
}

fn is_malformed(error: &s3s::S3Error) -> bool {
    matches!(error.code(), s3s::S3ErrorCode::MalformedPolicy)
}

/// Refuses if the bucket is not of the project that the request takes it for. Who writes to a
/// bucket that may not be there says so, lest one of the same name and of another project takes it.
fn check_owner(headers: &http::HeaderMap, bucket: &Bucket) -> S3Result<()> {
    match headers.get("x-amz-expected-bucket-owner") {
        Some(owner) if owner.as_bytes() != bucket.project.as_str().as_bytes() => Err(denied()),
        _ => Ok(()),
    }
}

impl Entered {
    /// Whether the holder's own role allows it in the bucket's project, or in their own.
    pub(super) fn own_right(&self, bucket: Option<&Bucket>, right: Right) -> bool {
        self.caller.holder.as_ref().is_some_and(|holder| {
            bucket.is_none_or(|bucket| bucket.project == holder.project)
                && holder.rights.allow(right)
        })
    }

    /// The bucket that the request is about.
    pub(super) fn bucket(&self) -> S3Result<&Bucket> {
        self.bucket
            .as_ref()
            .ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }

    /// By which word records remember who asked.
    pub(super) fn label(&self) -> String {
        match &self.caller.holder {
            Some(holder) => holder.name.clone(),
            None => "anonymous".to_owned(),
        }
    }
}

impl Face {
    async fn holder(&self, access_key: &str) -> S3Result<Holder> {
        match self.gate.holder(access_key).await {
            Ok(Some(holder)) => Ok(holder),
            Ok(None) => Err(s3_error!(
                InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records."
            )),
            Err(error) => {
                tracing::error!(%error, "access keys cannot be looked up");
                Err(s3_error!(InternalError))
            }
        }
    }

    /// Finds the bucket that somebody means by a name: one of their own project, or else the first
    /// of another whose policy allows what is asked for; if none does, the first that has a policy,
    /// which then refuses. Who has none of their own learns nothing of others'.
    pub(super) async fn enter(
        &self,
        caller: &Caller,
        asked: &Asked<'_>,
        right: Right,
    ) -> S3Result<Entered> {
        let name = asked.bucket;
        if let Some(holder) = &caller.holder
            && let Some(bucket) = self
                .index
                .bucket(&holder.project, name)
                .await
                .map_err(of_index)?
        {
            let policy = self.policy(&bucket).await;
            let entered = |policy| Entered {
                caller: caller.clone(),
                bucket: Some(bucket),
                policy,
            };
            return match policy {
                // It was understood when it was set: whoever administers the bucket can set another.
                Err(error)
                    if is_malformed(&error)
                        && changes_policy(asked.action)
                        && holder.rights.allow(Right::Administer) =>
                {
                    Ok(entered(None))
                }
                policy => policy.map(entered),
            };
        }
        let others = self.index.buckets_named(name, NAMESAKES_MAX).await;
        let mut first = None;
        for bucket in others.map_err(of_index)? {
            let policy = match self.policy(&bucket).await {
                Ok(Some(policy)) => Some(policy),
                Ok(None) => continue,
                // It opens nothing, and is not in the way of others of the name.
                Err(error) if is_malformed(&error) => continue,
                Err(error) => return Err(error),
            };
            let entered = Entered {
                caller: caller.clone(),
                bucket: Some(bucket),
                policy,
            };
            if self.allowed(&entered, asked, right).await? {
                return Ok(entered);
            }
            first.get_or_insert(entered);
        }
        Ok(first.unwrap_or(Entered {
            caller: caller.clone(),
            bucket: None,
            policy: None,
        }))
    }

    async fn policy(&self, bucket: &Bucket) -> S3Result<Option<Arc<Policy>>> {
        let text = self
            .index
            .setting(bucket.id, settings::POLICY)
            .await
            .map_err(of_index)?;
        match text {
            Some(text) => Ok(Some(Arc::new(Policy::parse(&text, &bucket.name)?))),
            None => Ok(None),
        }
    }

    /// Whether the request may be: a denial by the policy is the last word, then the holder's role in
    /// the bucket's project, then what the policy allows.
    pub(super) async fn allowed(
        &self,
        entered: &Entered,
        asked: &Asked<'_>,
        right: Right,
    ) -> S3Result<bool> {
        let bucket = entered.bucket()?;
        if right != Right::Read && self.gate.keeps(asked.bucket, asked.key) {
            return Ok(false);
        }
        let own = entered.own_right(Some(bucket), right);
        let Some(policy) = &entered.policy else {
            return Ok(own);
        };
        let tags = match policy.reads_tags() {
            true => self.tags_of(bucket, asked).await?,
            false => Vec::new(),
        };
        let asker = Asker {
            holder: entered.caller.holder.as_deref(),
            address: entered.caller.address,
        };
        match policy.decide(asker, asked, &tags) {
            // Who administers a bucket cannot lock themselves out of its policy.
            Verdict::Denied => {
                Ok(own && right == Right::Administer && changes_policy(asked.action))
            }
            Verdict::Silent => Ok(own),
            Verdict::Allowed if own => Ok(true),
            Verdict::Allowed => {
                let closed = policy.is_public() && self.is_closed(bucket).await?;
                Ok(!closed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_copy_says_only_what_it_replaces() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-amz-tagging", "a=1"),
            ("x-amz-meta-a", "1"),
            ("x-amz-storage-class", "STANDARD"),
            ("x-amz-metadata-directive", "COPY"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let counting = counting_in_copy(&headers);
        assert!(!counting.contains_key("x-amz-tagging"));
        assert!(!counting.contains_key("x-amz-meta-a"));
        assert!(counting.contains_key("x-amz-storage-class"));
        for directive in ["x-amz-tagging-directive", "x-amz-metadata-directive"] {
            headers.insert(directive, HeaderValue::from_static("REPLACE"));
        }
        assert_eq!(counting_in_copy(&headers), headers);
    }
}

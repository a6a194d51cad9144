//! Under whose key an object is to be: what a request says of it, or else its bucket.
//!
//! Owns: what S3's words for encryption mean here. `AES256` is a key of the project, `aws:kms` a key of
//! the project with a name, which the request or the bucket tells, and nothing is told that is not so.

use lepton_store::index::Bucket;
use lepton_types::Name;
use s3s::dto;
use s3s::{S3Result, s3_error};

use super::attributes::Attributes;
use super::customer_keys::Brought;
use super::errors::{no_such_named_key, of_content};
use super::{Face, settings};
use crate::ContentKey;

/// What a write says of encryption.
pub(super) struct Said<'a> {
    pub(super) algorithm: Option<&'a dto::ServerSideEncryption>,
    pub(super) key: Option<&'a str>,
    pub(super) context: Option<&'a str>,
    pub(super) customer: Option<Brought>,
}

/// What the record of a write says of encryption.
macro_rules! said {
    ($input:expr) => {
        $crate::s3::encryption::Said {
            algorithm: $input.server_side_encryption.as_ref(),
            key: $input.ssekms_key_id.as_deref(),
            context: $input.ssekms_encryption_context.as_deref(),
            customer: $crate::s3::customer_keys::brought!($input)?,
        }
    };
}
pub(super) use said;

/// Tells in an answer what an object is encrypted with.
macro_rules! tell_encryption {
    ($output:expr, $kept:expr) => {
        $output.server_side_encryption = $kept.told_encryption();
        $output.ssekms_key_id = $kept.told_named_key();
        $output.sse_customer_algorithm = $kept.told_customer_algorithm();
        $output.sse_customer_key_md5 = $kept.customer_key_md5.clone();
    };
}
pub(super) use tell_encryption;

/// Under whose key an object is to be.
#[derive(Debug, Clone)]
pub(super) enum Encryption {
    /// The project's.
    Project,
    /// The project's key of this name.
    Named(Name),
    /// The customer's.
    Customer(Brought),
}

impl Encryption {
    pub(super) fn content_key(&self) -> ContentKey {
        match self {
            Self::Project => ContentKey::Project,
            Self::Named(name) => ContentKey::Named(name.clone()),
            Self::Customer(brought) => ContentKey::Customer(brought.key.clone()),
        }
    }

    /// Keeps it beside the bytes.
    pub(super) fn note(&self, kept: &mut Attributes) {
        kept.named_key = match self {
            Self::Named(name) => Some(name.clone()),
            Self::Project | Self::Customer(_) => None,
        };
        kept.customer_key_md5 = match self {
            Self::Customer(brought) => Some(brought.md5.clone()),
            Self::Project | Self::Named(_) => None,
        };
    }

    /// Whether what is under the key of `kept` is under this one.
    pub(super) fn is_that_of(&self, kept: &Attributes) -> bool {
        match self {
            Self::Project => kept.named_key.is_none() && kept.customer_key_md5.is_none(),
            Self::Named(name) => kept.named_key.as_ref() == Some(name),
            // Who brings a key for a copy means it for that copy.
            Self::Customer(_) => false,
        }
    }
}

/// The name in a key's id: the name itself, or `arn:aws:kms:REGION:PROJECT:key/NAME`.
fn name_in(id: &str, project: &Name) -> Option<Name> {
    let Some(place) = id.strip_prefix("arn:aws:kms:") else {
        return id.parse().ok();
    };
    let (_region, rest) = place.split_once(':')?;
    let (owner, key) = rest.split_once(':')?;
    let name = key.strip_prefix("key/")?.parse().ok()?;
    (owner == project.as_str()).then_some(name)
}

fn invalid(message: &'static str) -> s3s::S3Error {
    s3_error!(InvalidArgument, "{message}")
}

impl Face {
    /// Under whose key an object of a bucket is to be.
    pub(super) async fn encryption(&self, bucket: &Bucket, said: Said<'_>) -> S3Result<Encryption> {
        if said.context.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "Encryption contexts are not known here: a key's name and project are what it is bound to"
            ));
        }
        if let Some(brought) = said.customer {
            return match said.algorithm.is_some() || said.key.is_some() {
                true => Err(invalid(
                    "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
                )),
                false => Ok(Encryption::Customer(brought)),
            };
        }
        let Some(algorithm) = said.algorithm else {
            return match said.key {
                Some(_) => Err(key_without_method()),
                None => self.default_encryption(bucket).await,
            };
        };
        match (algorithm.as_str(), said.key) {
            (dto::ServerSideEncryption::AES256, None) => Ok(Encryption::Project),
            (dto::ServerSideEncryption::AES256, Some(_)) => Err(key_without_method()),
            (dto::ServerSideEncryption::AWS_KMS, Some(id)) => self.named(bucket, id).await,
            (dto::ServerSideEncryption::AWS_KMS, None) => {
                match self.default_encryption(bucket).await? {
                    named @ Encryption::Named(_) => Ok(named),
                    _ => Err(invalid(
                        "No key is named: x-amz-server-side-encryption-aws-kms-key-id must tell one, or the bucket's default encryption",
                    )),
                }
            }
            (dto::ServerSideEncryption::AWS_KMS_DSSE, _) => Err(s3_error!(
                NotImplemented,
                "Two layers of encryption (aws:kms:dsse) are not known here"
            )),
            _ => Err(invalid("The encryption method specified is not supported")),
        }
    }

    /// The key that an id names, if it can seal.
    async fn named(&self, bucket: &Bucket, id: &str) -> S3Result<Encryption> {
        let name = name_in(id, &bucket.project).ok_or_else(no_such_named_key)?;
        let checked = self.contents.check_named(&bucket.project, &name).await;
        checked.map_err(of_content)?;
        Ok(Encryption::Named(name))
    }

    /// What seals objects of a bucket of which nothing is said.
    async fn default_encryption(&self, bucket: &Bucket) -> S3Result<Encryption> {
        let found: Option<dto::ServerSideEncryptionConfiguration> =
            self.read_setting(bucket.id, settings::ENCRYPTION).await?;
        let rules = found.map(|found| found.rules).unwrap_or_default();
        let mut defaults = rules
            .into_iter()
            .filter_map(|rule| rule.apply_server_side_encryption_by_default);
        match defaults
            .next()
            .and_then(|default| default.kms_master_key_id)
        {
            Some(id) => self.named(bucket, &id).await,
            None => Ok(Encryption::Project),
        }
    }

    /// Refuses a default of a bucket that could not be kept to.
    pub(super) async fn check_default_encryption(
        &self,
        bucket: &Bucket,
        wanted: &dto::ServerSideEncryptionConfiguration,
    ) -> S3Result<()> {
        for rule in &wanted.rules {
            let Some(default) = &rule.apply_server_side_encryption_by_default else {
                continue;
            };
            let said = Said {
                algorithm: Some(&default.sse_algorithm),
                key: default.kms_master_key_id.as_deref(),
                context: None,
                customer: None,
            };
            let names_key = said.key.is_some();
            let checked = self.encryption(bucket, said).await?;
            // A default that took its key from the default before it would lose it.
            if !names_key && matches!(checked, Encryption::Named(_)) {
                return Err(invalid("A bucket's default encryption must name its key"));
            }
        }
        Ok(())
    }
}

fn key_without_method() -> s3s::S3Error {
    invalid(
        "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_by_name_or_by_arn() {
        let project: Name = "lab".parse().unwrap();
        let name: Name = "key-1".parse().unwrap();
        let found = |id| name_in(id, &project);
        assert_eq!(found("key-1"), Some(name.clone()));
        assert_eq!(found("arn:aws:kms:us-east-1:lab:key/key-1"), Some(name));
        for id in [
            "",
            "no name",
            "alias/key-1",
            "arn:aws:kms:us-east-1:other:key/key-1",
            "arn:aws:kms:us-east-1:lab:alias/key-1",
            "arn:aws:kms:lab:key/key-1",
        ] {
            assert_eq!(found(id), None, "{id}");
        }
    }
}

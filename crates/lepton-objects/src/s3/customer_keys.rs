//! Keys that customers bring with each request (SSE-C), and what else is said of encryption.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use s3s::dto;
use s3s::{S3Result, s3_error};

use crate::{ContentKey, CustomerKey};

/// A customer's key with the digest by which it is told again.
#[derive(Debug, Clone)]
pub(super) struct Brought {
    pub(super) key: CustomerKey,
    pub(super) md5: String,
}

/// The three headers of a customer's key.
pub(super) fn brought(
    algorithm: Option<&str>,
    key: Option<&str>,
    md5: Option<&str>,
) -> S3Result<Option<Brought>> {
    let invalid = |what: &str| s3_error!(InvalidArgument, "{what}");
    let (algorithm, key, md5) = match (algorithm, key, md5) {
        (None, None, None) => return Ok(None),
        (None, ..) => {
            return Err(invalid(
                "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm.",
            ));
        }
        (Some(algorithm), key, md5) => (algorithm, key, md5),
    };
    if algorithm != "AES256" {
        return Err(s3_error!(
            InvalidEncryptionAlgorithmError,
            "The encryption request that you specified is not valid. The valid value is AES256."
        ));
    }
    let key = key.and_then(|key| STANDARD.decode(key).ok());
    let key: Option<[u8; 32]> = key.and_then(|key| key.try_into().ok());
    let Some(key) = key else {
        return Err(invalid(
            "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key.",
        ));
    };
    let digest = STANDARD.encode(Md5::digest(key));
    if md5 != Some(digest.as_str()) {
        return Err(invalid(
            "The calculated MD5 hash of the key did not match the hash that was provided.",
        ));
    }
    Ok(Some(Brought {
        key: CustomerKey::new(key),
        md5: digest,
    }))
}

/// Whose key seals or opens.
pub(super) fn content_key(brought: Option<&Brought>) -> ContentKey {
    match brought {
        Some(brought) => ContentKey::Customer(brought.key.clone()),
        None => ContentKey::Project,
    }
}

/// Refuses what is asked of encryption and cannot be: everything is sealed under the project's
/// keys, and KMS keys of S3 are not known here.
pub(super) fn check_encryption(
    wanted: Option<&dto::ServerSideEncryption>,
    kms_key: Option<&String>,
    brought: Option<&Brought>,
) -> S3Result<()> {
    if wanted.is_some() && brought.is_some() {
        return Err(s3_error!(
            InvalidArgument,
            "Server Side Encryption with Customer provided key is incompatible with the encryption method specified"
        ));
    }
    match wanted.map(dto::ServerSideEncryption::as_str) {
        None if kms_key.is_some() => Err(s3_error!(
            InvalidArgument,
            "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms"
        )),
        Some(dto::ServerSideEncryption::AES256) if kms_key.is_some() => Err(s3_error!(
            InvalidArgument,
            "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms"
        )),
        None | Some(dto::ServerSideEncryption::AES256) => Ok(()),
        Some(dto::ServerSideEncryption::AWS_KMS | dto::ServerSideEncryption::AWS_KMS_DSSE) => {
            Err(s3_error!(
                NotImplemented,
                "AWS KMS keys are not known here: every object is sealed under a key of its project (AES256)"
            ))
        }
        Some(_) => Err(s3_error!(
            InvalidArgument,
            "The encryption method specified is not supported"
        )),
    }
}

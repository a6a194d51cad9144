//! Keys that customers bring with each request (SSE-C).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use s3s::{S3Result, s3_error};

use crate::{ContentKey, CustomerKey};

/// A customer's key with the digest by which it is told again.
#[derive(Debug, Clone)]
pub(super) struct Brought {
    pub(super) key: CustomerKey,
    pub(super) md5: String,
}

/// The three headers of a customer's key.
pub(super) fn parse(
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

/// The customer's key that the record of a request has.
macro_rules! brought {
    ($input:expr) => {
        $crate::s3::customer_keys::parse(
            $input.sse_customer_algorithm.as_deref(),
            $input.sse_customer_key.as_deref(),
            $input.sse_customer_key_md5.as_deref(),
        )
    };
}
pub(super) use brought;

/// Whose key opens.
pub(super) fn content_key(brought: Option<&Brought>) -> ContentKey {
    match brought {
        Some(brought) => ContentKey::Customer(brought.key.clone()),
        None => ContentKey::Project,
    }
}

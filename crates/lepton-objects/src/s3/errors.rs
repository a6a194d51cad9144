//! What went wrong, in S3's words.

use http::StatusCode;
use lepton_store::index::{IndexError, Refusal};
use s3s::{S3Error, S3ErrorCode, StdError, s3_error};

use super::chunks::ChunkError;
use crate::{ContentError, CustomerKeyError, KeyError};

/// A status that the library does not know for a code of its own.
pub(super) fn custom(code: &'static str, status: StatusCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}

/// Why the index did not do it.
pub(super) fn of_index(error: IndexError) -> S3Error {
    match error {
        IndexError::Refused(refusal) => of_refusal(refusal),
        IndexError::DiskFull => disk_full(),
        error => internal("the object index failed", error),
    }
}

fn internal(what: &'static str, error: impl Into<StdError>) -> S3Error {
    let error: StdError = error.into();
    let mut causes = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        causes = format!("{causes}: {next}");
        cause = next.source();
    }
    tracing::error!(error = causes, what);
    s3_error!(
        InternalError,
        "We encountered an internal error. Please try again."
    )
}

fn disk_full() -> S3Error {
    custom(
        "InsufficientStorage",
        StatusCode::INSUFFICIENT_STORAGE,
        "The disk that holds the objects is full.",
    )
}

fn of_refusal(refusal: Refusal) -> S3Error {
    match refusal {
        Refusal::NoSuchBucket => s3_error!(NoSuchBucket, "The specified bucket does not exist"),
        Refusal::BucketExists => s3_error!(
            BucketAlreadyOwnedByYou,
            "Your previous request to create the named bucket succeeded and you already own it."
        ),
        Refusal::BucketNotEmpty => s3_error!(
            BucketNotEmpty,
            "The bucket you tried to delete is not empty"
        ),
        Refusal::NoSuchObject => no_such_key(),
        Refusal::NoSuchVersion => no_such_version(),
        Refusal::NoSuchUpload => no_such_upload(),
        Refusal::InvalidPart { number } => s3_error!(
            InvalidPart,
            "Part {number} could not be found, or its ETag does not match."
        ),
        Refusal::Precondition => precondition(),
        Refusal::Locked { .. } => s3_error!(
            AccessDenied,
            "Access Denied because object protected by object lock."
        ),
        Refusal::QuotaExceeded => custom(
            "QuotaExceeded",
            StatusCode::FORBIDDEN,
            "The project's quota does not allow it.",
        ),
        Refusal::BucketHasLock => s3_error!(
            InvalidBucketState,
            "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
        ),
        Refusal::BucketKeepsNoVersions => s3_error!(
            InvalidBucketState,
            "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"
        ),
        refusal @ (Refusal::NoSuchPiece | Refusal::KeyExists | Refusal::NoSuchKey) => {
            internal("unexpected refusal", refusal)
        }
    }
}

pub(super) fn no_such_key() -> S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist.")
}

pub(super) fn no_such_version() -> S3Error {
    s3_error!(NoSuchVersion, "The specified version does not exist.")
}

pub(super) fn no_such_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified multipart upload does not exist. The upload ID might be invalid, or the \
         multipart upload might have been aborted or completed."
    )
}

pub(super) fn precondition() -> S3Error {
    s3_error!(
        PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold"
    )
}

pub(super) fn denied() -> S3Error {
    s3_error!(AccessDenied, "Access Denied")
}

/// Why bytes could not be kept or read.
pub(super) fn of_content(error: ContentError) -> S3Error {
    match error {
        ContentError::TooLarge { .. } => too_large(),
        ContentError::StorageFull => disk_full(),
        ContentError::CustomerKey(CustomerKeyError::Missing) => s3_error!(
            InvalidRequest,
            "The object was stored using a form of Server Side Encryption. The correct parameters \
             must be provided to retrieve the object."
        ),
        ContentError::CustomerKey(CustomerKeyError::Wrong) => s3_error!(
            InvalidRequest,
            "The provided encryption parameters did not match the ones used originally to encrypt the object."
        ),
        ContentError::CustomerKey(CustomerKeyError::NotUsed) => s3_error!(
            InvalidRequest,
            "The encryption parameters are not applicable to this object."
        ),
        ContentError::Key(KeyError::Shredded { .. }) => s3_error!(
            InvalidObjectState,
            "The key that sealed this object was destroyed: nobody can read it any more."
        ),
        ContentError::Key(KeyError::NoSuchName { .. }) => no_such_named_key(),
        ContentError::Key(KeyError::NameShredded { .. }) => custom(
            "KMS.KMSInvalidStateException",
            StatusCode::BAD_REQUEST,
            "The key of this name was destroyed.",
        ),
        error if error.is_passing() => {
            let _logged = internal("sealed bytes cannot be reached", error);
            s3_error!(
                ServiceUnavailable,
                "The service that holds the objects or their keys cannot be reached. Please try again."
            )
        }
        error => internal("sealed bytes failed", error),
    }
}

/// What an id of a key names is not there.
pub(super) fn no_such_named_key() -> S3Error {
    custom(
        "KMS.NotFoundException",
        StatusCode::BAD_REQUEST,
        "The project of this bucket has no key of this name: `lepton objects keys create` makes one.",
    )
}

pub(super) fn too_large() -> S3Error {
    s3_error!(
        EntityTooLarge,
        "Your proposed upload exceeds the maximum allowed size"
    )
}

/// Why the body of a request ended early. The library's errors of bodies are private, but say
/// their names.
#[allow(
    clippy::needless_pass_by_value,
    reason = "as it comes out of the stream"
)]
pub(super) fn of_body(error: StdError) -> S3Error {
    let told = error.to_string();
    let says = |word: &str| told.contains(word);
    if says("Sha256Mismatch") {
        return custom(
            "XAmzContentSHA256Mismatch",
            StatusCode::BAD_REQUEST,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        );
    }
    if says("SignatureMismatch") {
        return s3_error!(
            SignatureDoesNotMatch,
            "The request signature we calculated does not match the signature you provided."
        );
    }
    if says(&ChunkError::SignedChunkTooLong.to_string()) {
        return custom(
            "InvalidChunkSizeError",
            StatusCode::FORBIDDEN,
            "A chunk that is signed may have 16 MiB at most.",
        );
    }
    let malformed = ChunkError::Malformed.to_string();
    if says(&malformed) || says("FormatError") || says("TooLarge") || says("TooMany") {
        return s3_error!(InvalidRequest, "The body is not well formed aws-chunked.");
    }
    s3_error!(
        IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header"
    )
}

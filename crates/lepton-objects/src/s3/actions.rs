//! What an operation is called in policies, and which right it takes.

use super::gate::Rights;

/// A right that an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    Read,
    Write,
    Delete,
    Administer,
}

impl Rights {
    pub(super) fn allow(self, right: Right) -> bool {
        match right {
            Right::Read => self.read,
            Right::Write => self.write,
            Right::Delete => self.delete,
            Right::Administer => self.administer,
        }
    }
}

/// An operation's name in policies and its right. `versioned`: the request names a version.
pub(super) fn action_of(operation: &str, versioned: bool) -> (String, Right) {
    let (action, right) = match (operation, versioned) {
        ("ListBuckets", _) => ("ListAllMyBuckets", Right::Read),
        ("HeadBucket" | "ListObjects" | "ListObjectsV2", _) => ("ListBucket", Right::Read),
        ("ListObjectVersions", _) => ("ListBucketVersions", Right::Read),
        ("ListMultipartUploads", _) => ("ListBucketMultipartUploads", Right::Read),
        ("ListParts", _) => ("ListMultipartUploadParts", Right::Read),
        ("GetObject" | "HeadObject", false) => ("GetObject", Right::Read),
        ("GetObject" | "HeadObject", true) => ("GetObjectVersion", Right::Read),
        ("GetObjectAttributes", false) => ("GetObjectAttributes", Right::Read),
        ("GetObjectAttributes", true) => ("GetObjectVersionAttributes", Right::Read),
        ("GetObjectTagging", false) => ("GetObjectTagging", Right::Read),
        ("GetObjectTagging", true) => ("GetObjectVersionTagging", Right::Read),
        ("PutObjectTagging", false) => ("PutObjectTagging", Right::Write),
        ("PutObjectTagging", true) => ("PutObjectVersionTagging", Right::Write),
        ("DeleteObjectTagging", false) => ("DeleteObjectTagging", Right::Write),
        ("DeleteObjectTagging", true) => ("DeleteObjectVersionTagging", Right::Write),
        (
            "PutObject"
            | "PostObject"
            | "CopyObject"
            | "CreateMultipartUpload"
            | "UploadPart"
            | "UploadPartCopy"
            | "CompleteMultipartUpload",
            _,
        ) => ("PutObject", Right::Write),
        ("AbortMultipartUpload", _) => ("AbortMultipartUpload", Right::Write),
        ("DeleteObject" | "DeleteObjects", false) => ("DeleteObject", Right::Delete),
        ("DeleteObject" | "DeleteObjects", true) => ("DeleteObjectVersion", Right::Delete),
        ("GetBucketLifecycleConfiguration", _) => ("GetLifecycleConfiguration", Right::Read),
        ("PutBucketLifecycleConfiguration" | "DeleteBucketLifecycle", _) => {
            ("PutLifecycleConfiguration", Right::Write)
        }
        ("GetBucketCors", _) => ("GetBucketCORS", Right::Read),
        ("PutBucketCors" | "DeleteBucketCors", _) => ("PutBucketCORS", Right::Write),
        ("GetBucketEncryption", _) => ("GetEncryptionConfiguration", Right::Read),
        ("PutBucketEncryption" | "DeleteBucketEncryption", _) => {
            ("PutEncryptionConfiguration", Right::Write)
        }
        ("DeleteBucketTagging", _) => ("PutBucketTagging", Right::Write),
        ("GetObjectLockConfiguration", _) => ("GetBucketObjectLockConfiguration", Right::Read),
        ("PutObjectLockConfiguration", _) => {
            ("PutBucketObjectLockConfiguration", Right::Administer)
        }
        ("GetPublicAccessBlock", _) => ("GetBucketPublicAccessBlock", Right::Read),
        ("PutPublicAccessBlock" | "DeletePublicAccessBlock", _) => {
            ("PutBucketPublicAccessBlock", Right::Administer)
        }
        (
            "PutBucketPolicy"
            | "DeleteBucketPolicy"
            | "PutBucketAcl"
            | "PutObjectAcl"
            | "PutBucketOwnershipControls"
            | "DeleteBucketOwnershipControls",
            _,
        ) => (operation, Right::Administer),
        _ if operation.starts_with("Get") || operation.starts_with("List") => {
            (operation, Right::Read)
        }
        _ if operation.starts_with("Delete") => (operation, Right::Delete),
        _ => (operation, Right::Write),
    };
    (format!("s3:{action}"), right)
}

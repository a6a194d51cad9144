//! Access control lists, as far as they are answered.
//!
//! Who may do what is decided by roles and bucket policies. Lists say that the owner has full
//! control, which is true, and accept to be set to just that; grants to others are refused, so
//! that nobody believes in them.

use s3s::dto;
use s3s::{S3Result, s3_error};

use super::list::owner;

/// The one list that there is.
pub(super) fn grants(owned_by: &str) -> (dto::Owner, dto::Grants) {
    let grantee = dto::Grantee {
        id: Some(owned_by.to_owned()),
        display_name: Some(owned_by.to_owned()),
        email_address: None,
        type_: dto::Type::from_static(dto::Type::CANONICAL_USER),
        uri: None,
    };
    let grant = dto::Grant {
        grantee: Some(grantee),
        permission: Some(dto::Permission::from_static(dto::Permission::FULL_CONTROL)),
    };
    (owner(owned_by), vec![grant])
}

/// Refuses a canned list that grants others anything.
pub(super) fn check_canned(canned: Option<&str>) -> S3Result<()> {
    match canned {
        None | Some("private" | "bucket-owner-full-control" | "bucket-owner-read") => Ok(()),
        Some(_) => Err(unsupported()),
    }
}

/// Refuses a list that grants others anything.
pub(super) fn check_list(list: Option<&dto::AccessControlPolicy>, owned_by: &str) -> S3Result<()> {
    let grants = list.and_then(|list| list.grants.as_ref());
    let to_others = grants.is_some_and(|grants| {
        grants.iter().any(|grant| {
            let grantee = grant.grantee.as_ref();
            grantee.and_then(|grantee| grantee.id.as_deref()) != Some(owned_by)
        })
    });
    match to_others {
        true => Err(unsupported()),
        false => Ok(()),
    }
}

/// Refuses headers that grant anything.
pub(super) fn check_headers(granted: &[&Option<String>]) -> S3Result<()> {
    match granted.iter().any(|grant| grant.is_some()) {
        true => Err(unsupported()),
        false => Ok(()),
    }
}

/// Refuses a write of an object that grants others anything.
macro_rules! refuse_grants {
    ($input:expr) => {
        $crate::s3::acl::check_canned($input.acl.as_ref().map(s3s::dto::ObjectCannedACL::as_str))?;
        $crate::s3::acl::check_headers(&[
            &$input.grant_full_control,
            &$input.grant_read,
            &$input.grant_read_acp,
            &$input.grant_write_acp,
        ])?;
    };
}
pub(super) use refuse_grants;

fn unsupported() -> s3s::S3Error {
    s3_error!(
        AccessControlListNotSupported,
        "Grants by ACL are not supported: use a bucket policy"
    )
}

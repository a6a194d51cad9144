//! Access control lists, as far as they are answered.
//!
//! Who may do what is decided by roles and bucket policies. Lists say that the owner has full
//! control, which is true, and accept to be set to just that; grants to others are refused, so
//! that nobody believes in them.

use lepton_store::index::Bucket;
use s3s::dto;
use s3s::{S3Result, s3_error};

use super::list::owner;
use super::{Face, settings};

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

/// What a request grants.
pub(super) struct Granted<'a> {
    /// The word of a canned list.
    pub(super) canned: Option<&'a str>,
    pub(super) list: Option<&'a dto::AccessControlPolicy>,
    /// Whether headers grant anything.
    pub(super) by_headers: bool,
}

/// What the record of a request grants; those of buckets and of lists have `grant_write`, too.
macro_rules! granted {
    ($input:expr $(, $also:ident)*) => {
        $crate::s3::acl::Granted {
            canned: $input.acl.as_ref().map(|canned| canned.as_str()),
            list: None,
            by_headers: [
                &$input.grant_full_control,
                &$input.grant_read,
                &$input.grant_read_acp,
                &$input.grant_write_acp,
                $(&$input.$also,)*
            ]
            .iter()
            .any(|grant| grant.is_some()),
        }
    };
}
pub(super) use granted;

impl Granted<'_> {
    /// Refuses what grants others anything, and where the owner of the bucket said so (`enforced`) all but what
    /// says that they have full control.
    pub(super) fn check(&self, owned_by: &str, enforced: bool) -> S3Result<()> {
        let canned = match self.canned {
            None | Some("bucket-owner-full-control") => true,
            Some("private" | "bucket-owner-read") => !enforced,
            Some(_) => false,
        };
        let listed = self.list.is_none_or(|list| is_owners(list, owned_by));
        match canned && listed && !self.by_headers {
            true => Ok(()),
            false => Err(unsupported()),
        }
    }
}

/// Whether a list is the one that there is.
fn is_owners(list: &dto::AccessControlPolicy, owned_by: &str) -> bool {
    let grants = list.grants.as_deref().unwrap_or_default();
    !grants.is_empty()
        && grants.iter().all(|grant| {
            let grantee = grant.grantee.as_ref();
            let permission = grant.permission.as_ref().map(dto::Permission::as_str);
            grantee.and_then(|grantee| grantee.id.as_deref()) == Some(owned_by)
                && permission == Some(dto::Permission::FULL_CONTROL)
        })
}

impl Face {
    /// Refuses what grants others anything in a bucket that is there.
    pub(super) async fn check_grants(&self, bucket: &Bucket, granted: Granted<'_>) -> S3Result<()> {
        let ownership = match granted.canned {
            Some(_) => self.read_setting(bucket.id, settings::OWNERSHIP).await?,
            None => None::<String>,
        };
        let enforced = ownership.as_deref() == Some(dto::ObjectOwnership::BUCKET_OWNER_ENFORCED);
        granted.check(&bucket.owner, enforced)
    }
}

fn unsupported() -> s3s::S3Error {
    s3_error!(
        AccessControlListNotSupported,
        "Grants by ACL are not supported: use a bucket policy"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grants_others_anything_is_refused() {
        let of = |canned| Granted {
            canned,
            list: None,
            by_headers: false,
        };
        for (canned, enforced, taken) in [
            (None, true, true),
            (Some("bucket-owner-full-control"), true, true),
            (Some("private"), false, true),
            (Some("private"), true, false),
            (Some("public-read"), false, false),
            (Some("authenticated-read"), false, false),
            (Some("odd"), false, false),
        ] {
            assert_eq!(
                of(canned).check("ann", enforced).is_ok(),
                taken,
                "{canned:?}"
            );
        }
        let (_, mut grants) = grants("ann");
        let check = |grants: &dto::Grants| {
            let list = dto::AccessControlPolicy {
                grants: Some(grants.clone()),
                owner: None,
            };
            let list = Some(&list);
            Granted { list, ..of(None) }.check("ann", false).is_ok()
        };
        assert!(check(&grants));
        assert!(!check(&Vec::new()));
        grants[0].permission = Some(dto::Permission::from_static(dto::Permission::READ));
        assert!(!check(&grants));
        let (_, others) = super::grants("bob");
        assert!(!check(&others));
        let by_headers = Granted {
            by_headers: true,
            ..of(None)
        };
        assert!(by_headers.check("ann", false).is_err());
    }
}

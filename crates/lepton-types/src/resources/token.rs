//! Token: a credential, of which only a digest is kept.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{BlobDigest, Resource, spec_of, word_enum};
use crate::{Name, Timestamp};

/// A credential.
pub type Token = Resource<TokenSpec, TokenStatus>;

word_enum! {
    /// What a token's holder may do.
    Role {
        /// Everything, in every project.
        Owner = "owner",
        /// Everything in its project, tokens included.
        Admin = "admin",
        /// Makes, changes and deletes what lives in its project.
        Editor = "editor",
        /// Reads its project and asks its endpoints.
        Viewer = "viewer",
    }
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenSpec {
    /// What its holder may do.
    pub role: Role,
    /// The project it is good for; every one for an owner.
    pub scope: Option<Name>,
    /// The SHA-256 of its secret.
    pub secret_digest: BlobDigest,
    /// When it stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// What is of a token.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct TokenStatus {
    /// When it was revoked, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

spec_of!(TokenSpec, TokenStatus, Token, named: true, |status| {
    if status.revoked_at.is_some() { "revoked" } else { "active" }
});

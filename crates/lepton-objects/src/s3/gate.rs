//! Who may come in: the seam to identities and roles.

use std::error::Error;

use lepton_types::Name;
use zeroize::Zeroizing;

/// Knows the holders of access keys.
#[async_trait::async_trait]
pub trait Gate: Send + Sync + 'static {
    /// The holder of an access key, if the key works now.
    async fn holder(&self, access_key: &str) -> Result<Option<Holder>, GateError>;

    /// Whether what lies there is the server's own, which clients may only read. An empty key
    /// stands for the bucket itself.
    fn keeps(&self, bucket: &str, key: &str) -> bool;
}

/// The holders of keys cannot be asked for.
#[derive(Debug, thiserror::Error)]
#[error("access keys cannot be looked up")]
pub struct GateError(#[source] pub Box<dyn Error + Send + Sync>);

/// Somebody who holds an access key.
#[derive(Debug, Clone)]
pub struct Holder {
    /// By which word records remember them.
    pub name: String,
    /// Whose buckets their names mean.
    pub project: Name,
    /// The secret half of the key.
    pub secret: Zeroizing<String>,
    /// What they may do in that project.
    pub rights: Rights,
}

/// What somebody may do with the buckets and objects of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "four independent answers of one decision"
)]
pub struct Rights {
    /// See them.
    pub read: bool,
    /// Make and change them.
    pub write: bool,
    /// Delete them.
    pub delete: bool,
    /// Open them to others, and weaken what keeps them.
    pub administer: bool,
}

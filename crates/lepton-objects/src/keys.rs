//! Keys: a project's data keys, wrapped under a master key, and the keys that customers bring.
//!
//! Owns: making, keeping, rotating and shredding data keys. Must not know: who may use them, or
//! where the master key comes from.

use std::fmt;

use lepton_types::{DataKeyId, Name};
use zeroize::Zeroizing;

/// What a wrapped key is bound to: it unwraps in no other place.
#[derive(Debug, Clone)]
pub struct WrapPurpose<'a> {
    /// The project that the key belongs to.
    pub project: &'a Name,
    /// The key's id.
    pub key: DataKeyId,
}

/// A key could not be wrapped or unwrapped.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WrapError {
    /// It was wrapped by another key, for another purpose, or was changed.
    #[error("the wrapped key does not open under this master key")]
    Refused,
    /// The key service failed.
    #[error("the key service failed: {reason}")]
    Service {
        /// What it said.
        reason: String,
    },
}

/// Wraps data keys: under the master key here, or by a key service. May block.
pub trait KeyWrapper: Send + Sync + fmt::Debug {
    /// Names the wrapping key; kept beside what it wrapped. At most 64 bytes.
    fn label(&self) -> String;

    /// Seals `key`.
    ///
    /// # Errors
    /// If the key service fails.
    fn wrap(&self, purpose: &WrapPurpose<'_>, key: &[u8; 32]) -> Result<Vec<u8>, WrapError>;

    /// Opens what [`KeyWrapper::wrap`] gave for the same purpose.
    ///
    /// # Errors
    /// If it is another's or was changed, or the key service fails.
    fn unwrap(
        &self,
        purpose: &WrapPurpose<'_>,
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, WrapError>;
}

/// Wraps data keys with AES-256-GCM under 32 bytes derived from the master key.
pub struct MasterWrapper {
    _key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for MasterWrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterWrapper(..)")
    }
}

impl MasterWrapper {
    /// From 32 secret bytes.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self {
            _key: Zeroizing::new(key),
        }
    }
}

impl KeyWrapper for MasterWrapper {
    fn label(&self) -> String {
        unimplemented!()
    }

    fn wrap(&self, _purpose: &WrapPurpose<'_>, _key: &[u8; 32]) -> Result<Vec<u8>, WrapError> {
        unimplemented!()
    }

    fn unwrap(
        &self,
        _purpose: &WrapPurpose<'_>,
        _wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, WrapError> {
        unimplemented!()
    }
}

/// A key that a customer brings with each request (SSE-C); never kept.
#[derive(Clone)]
pub struct CustomerKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(..)")
    }
}

impl CustomerKey {
    /// From the 32 bytes of an AES-256 key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Whose key seals a content.
#[derive(Debug, Clone, Default)]
pub enum ContentKey {
    /// The project's current data key; for reading, whichever key it was sealed under.
    #[default]
    Project,
    /// The customer's.
    Customer(CustomerKey),
}

/// The customer's key does not fit the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CustomerKeyError {
    /// The content is under a customer's key and none was given.
    #[error("the content is sealed under a customer's key, which must be given")]
    Missing,
    /// Another key was given than the content was sealed under.
    #[error("the content is sealed under another customer's key")]
    Wrong,
    /// A key was given for a content that has none.
    #[error("the content is not sealed under a customer's key")]
    NotUsed,
}

/// A project's keys cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// The key was shredded: what it sealed cannot be read any more, by anybody.
    #[error("the key of this content was destroyed")]
    Shredded {
        /// Which key.
        key: DataKeyId,
    },
    /// The project has no such key.
    #[error("project `{project}` has no key `{key}`")]
    NotFound {
        /// The project.
        project: Name,
        /// The key asked for.
        key: DataKeyId,
    },
    /// The project's key file is damaged.
    #[error("the keys of project `{project}` are damaged")]
    Damaged {
        /// The project.
        project: Name,
    },
    /// The wrapper refused.
    #[error("the keys of project `{project}` do not open")]
    Wrap {
        /// The project.
        project: Name,
        /// Why.
        source: WrapError,
    },
}

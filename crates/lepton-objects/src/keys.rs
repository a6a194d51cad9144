//! Keys: a project's data keys, wrapped under a master key, and the keys that customers bring.
//!
//! Owns: making, keeping, rotating and shredding data keys. Must not know: who may use them, or
//! where the master key comes from.

use std::fmt::{self, Write};
use std::sync::Arc;

use lepton_types::{ContentId, DataKeyId, Name};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use zeroize::Zeroizing;

/// What a wrapped key is bound to: it unwraps in no other place.
#[derive(Debug, Clone)]
pub struct WrapPurpose<'a> {
    /// The project that the key belongs to.
    pub project: &'a Name,
    /// The key's id.
    pub key: DataKeyId,
    /// The name that it goes by, if it has one: a key must not seal what asks for another.
    pub name: Option<&'a Name>,
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
    key: LessSafeKey,
    label: String,
}

impl fmt::Debug for MasterWrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl MasterWrapper {
    /// From 32 secret bytes.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        let key = Zeroizing::new(key);
        let tag = keyed(key.as_slice(), &[b"lepton master key label v1"]);
        let label = tag[..8]
            .iter()
            .fold("master-".to_owned(), |mut label, byte| {
                let _ = write!(label, "{byte:02x}");
                label
            });
        let key =
            UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("invariant: the key has 32 bytes");
        Self {
            key: LessSafeKey::new(key),
            label,
        }
    }
}

// stored: a random nonce, the ciphertext of the 32 bytes, the tag.
impl KeyWrapper for MasterWrapper {
    fn label(&self) -> String {
        self.label.clone()
    }

    fn wrap(&self, purpose: &WrapPurpose<'_>, key: &[u8; 32]) -> Result<Vec<u8>, WrapError> {
        let nonce: [u8; NONCE_LEN] = random();
        let mut wrapped = Vec::with_capacity(NONCE_LEN + 32 + 16);
        wrapped.extend_from_slice(&nonce);
        wrapped.extend_from_slice(key);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound_to(purpose)),
                &mut wrapped[NONCE_LEN..],
            )
            .map_err(|_| WrapError::Refused)?;
        wrapped.extend_from_slice(tag.as_ref());
        Ok(wrapped)
    }

    fn unwrap(
        &self,
        purpose: &WrapPurpose<'_>,
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, WrapError> {
        let (nonce, sealed) = wrapped
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(WrapError::Refused)?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let aad = Aad::from(bound_to(purpose));
        let key = self
            .key
            .open_in_place(nonce, aad, &mut sealed)
            .map_err(|_| WrapError::Refused)?;
        let key = <[u8; 32]>::try_from(key).map_err(|_| WrapError::Refused)?;
        Ok(Zeroizing::new(key))
    }
}

// stored: what is bound to a purpose opens for no other.
pub(crate) fn bound_to(purpose: &WrapPurpose<'_>) -> Vec<u8> {
    let label: &[u8] = match purpose.name {
        None => b"lepton data key v1",
        Some(_) => b"lepton named data key v1",
    };
    let mut data = label.to_vec();
    data.extend_from_slice(&purpose.key.id().to_bytes());
    data.extend_from_slice(purpose.project.as_str().as_bytes());
    if let Some(name) = purpose.name {
        // No name has it, so no two pairs of names read alike.
        data.push(0);
        data.extend_from_slice(name.as_str().as_bytes());
    }
    data
}

/// HMAC-SHA-256 (RFC 2104) of `parts` in a row.
pub(crate) fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let tag = context.sign();
    tag.as_ref()
        .try_into()
        .expect("invariant: HMAC-SHA-256 gives 32 bytes")
}

/// Fresh secret bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("invariant: the operating system has randomness");
    bytes
}

/// A key that a customer brings with each request (SSE-C); never kept.
#[derive(Clone)]
pub struct CustomerKey(Arc<Zeroizing<[u8; 32]>>);

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(..)")
    }
}

impl CustomerKey {
    /// From the 32 bytes of an AES-256 key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Arc::new(Zeroizing::new(key)))
    }

    pub(crate) fn secret(&self) -> Arc<Zeroizing<[u8; 32]>> {
        Arc::clone(&self.0)
    }

    /// What tells a wrong key from a right one, and nothing to anybody else.
    pub(crate) fn fingerprint(&self, content: ContentId, salt: &[u8; 16]) -> [u8; 16] {
        let label = b"lepton customer key v1";
        let tag = keyed(self.0.as_slice(), &[label, &content.id().to_bytes(), salt]);
        *tag.first_chunk()
            .expect("invariant: 32 bytes are more than 16")
    }
}

/// Whose key seals a content.
#[derive(Debug, Clone, Default)]
pub enum ContentKey {
    /// The project's current data key; for reading, whichever key it was sealed under.
    #[default]
    Project,
    /// The current data key of this name; for reading, as [`ContentKey::Project`].
    Named(Name),
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
    /// The project has no key of this name.
    #[error("project `{project}` has no key named `{name}`")]
    NoSuchName {
        /// The project.
        project: Name,
        /// The name asked for.
        name: Name,
    },
    /// All keys of this name were shredded.
    #[error("the key named `{name}` of project `{project}` was destroyed")]
    NameShredded {
        /// The project.
        project: Name,
        /// The name asked for.
        name: Name,
    },
    /// The project has a key of this name already.
    #[error("project `{project}` has a key named `{name}` already")]
    NameTaken {
        /// The project.
        project: Name,
        /// The name asked for.
        name: Name,
    },
    /// Another server changed the project's keys at the same time.
    #[error("the keys of project `{project}` were changed by another server: try again")]
    Changed {
        /// The project.
        project: Name,
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

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_types::{Id, Timestamp};

    #[test]
    fn a_wrapped_key_opens_under_its_master_key_and_for_its_purpose_only() {
        let wrapper = MasterWrapper::new([1; 32]);
        let project = Name::default_project();
        let other: Name = "other".parse().unwrap();
        let id = |n| DataKeyId::from(Id::from_parts(Timestamp::from_millis(1), [n; 10]));
        let purpose = |project, key| WrapPurpose {
            project,
            key: id(key),
            name: None,
        };
        let wrapped = wrapper.wrap(&purpose(&project, 1), &[9; 32]).unwrap();
        let opened = wrapper.unwrap(&purpose(&project, 1), &wrapped).unwrap();
        assert_eq!(*opened, [9; 32]);
        assert!(wrapper.unwrap(&purpose(&other, 1), &wrapped).is_err());
        assert!(wrapper.unwrap(&purpose(&project, 2), &wrapped).is_err());
        assert!(
            wrapper
                .unwrap(&purpose(&project, 1), &wrapped[1..])
                .is_err()
        );
        let named = WrapPurpose {
            name: Some(&other),
            ..purpose(&project, 1)
        };
        assert!(wrapper.unwrap(&named, &wrapped).is_err());
        let of_name = wrapper.wrap(&named, &[9; 32]).unwrap();
        assert!(wrapper.unwrap(&named, &of_name).is_ok());
        assert!(wrapper.unwrap(&purpose(&project, 1), &of_name).is_err());
        let renamed = WrapPurpose {
            name: Some(&project),
            ..purpose(&project, 1)
        };
        assert!(wrapper.unwrap(&renamed, &of_name).is_err());
        let changed = MasterWrapper::new([2; 32]);
        assert!(changed.unwrap(&purpose(&project, 1), &wrapped).is_err());
        assert_ne!(changed.label(), wrapper.label());
    }
}

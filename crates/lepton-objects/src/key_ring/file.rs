//! The ring as it is kept: JSON, its secrets wrapped.
//!
//! Owns: the stored form and its versions. Must not know: where it is kept.

use std::sync::Arc;

use lepton_types::{DataKeyId, Name};
use serde::{Deserialize, Serialize};

use super::{Ring, RingKey};
use crate::keys::{KeyError, KeyWrapper, WrapError, WrapPurpose};

// stored: fields are added with a default, never renamed.
#[derive(Serialize, Deserialize)]
pub(super) struct RingFile {
    version: u32,
    pub(super) keys: Vec<KeyRow>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct KeyRow {
    pub(super) id: DataKeyId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sealed: Option<SealedKey>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SealedKey {
    pub(super) by: String,
    hex: String,
}

/// The first form; and that with names, which who knows only the first must not take for keys of the
/// project as a whole.
const WITHOUT_NAMES: u32 = 1;
const WITH_NAMES: u32 = 2;

pub(super) fn parse(project: &Name, bytes: &[u8]) -> Result<RingFile, KeyError> {
    let damaged = || KeyError::Damaged {
        project: project.clone(),
    };
    let file: RingFile = serde_json::from_slice(bytes).map_err(|_| damaged())?;
    if [WITHOUT_NAMES, WITH_NAMES].contains(&file.version) {
        Ok(file)
    } else {
        Err(damaged())
    }
}

pub(super) fn open(
    project: &Name,
    bytes: &[u8],
    wrappers: &[Arc<dyn KeyWrapper>],
) -> Result<Ring, KeyError> {
    let mut ring = Ring::default();
    for row in parse(project, bytes)?.keys {
        let Some(sealed) = row.sealed else {
            ring.keys.push(RingKey {
                id: row.id,
                name: row.name,
                secret: None,
                wrapped_by: String::new(),
            });
            continue;
        };
        let wrapped = from_hex(&sealed.hex).ok_or_else(|| KeyError::Damaged {
            project: project.clone(),
        })?;
        let purpose = WrapPurpose {
            project,
            key: row.id,
        };
        let wrapper = wrappers.iter().find(|it| it.label() == sealed.by);
        let secret = wrapper
            .ok_or(WrapError::Refused)
            .and_then(|wrapper| wrapper.unwrap(&purpose, &wrapped))
            .map_err(|source| KeyError::Wrap {
                project: project.clone(),
                source,
            })?;
        ring.keys.push(RingKey {
            id: row.id,
            name: row.name,
            secret: Some(Arc::new(secret)),
            wrapped_by: sealed.by,
        });
    }
    Ok(ring)
}

pub(super) fn close(
    project: &Name,
    ring: &mut Ring,
    wrapper: &dyn KeyWrapper,
) -> Result<Vec<u8>, KeyError> {
    let mut keys = Vec::with_capacity(ring.keys.len());
    for key in &mut ring.keys {
        let purpose = WrapPurpose {
            project,
            key: key.id,
        };
        let sealed = match &key.secret {
            None => None,
            Some(secret) => {
                let wrapped = wrapper
                    .wrap(&purpose, secret)
                    .map_err(|source| KeyError::Wrap {
                        project: project.clone(),
                        source,
                    })?;
                key.wrapped_by = wrapper.label();
                Some(SealedKey {
                    by: wrapper.label(),
                    hex: wrapped.iter().map(|byte| format!("{byte:02x}")).collect(),
                })
            }
        };
        keys.push(KeyRow {
            id: key.id,
            name: key.name.clone(),
            sealed,
        });
    }
    let version = match keys.iter().any(|key| key.name.is_some()) {
        true => WITH_NAMES,
        false => WITHOUT_NAMES,
    };
    let file = RingFile { version, keys };
    serde_json::to_vec_pretty(&file).map_err(|_| KeyError::Damaged {
        project: project.clone(),
    })
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

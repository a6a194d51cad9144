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

/// The first form; that with names, which who knows only the first must not take for keys of the
/// project as a whole; and that whose names are bound into the wrapping, so that no row of it can be given another.
const WITHOUT_NAMES: u32 = 1;
const WITH_NAMES: u32 = 2;
const WITH_BOUND_NAMES: u32 = 3;

pub(super) fn parse(project: &Name, bytes: &[u8]) -> Result<RingFile, KeyError> {
    let damaged = || KeyError::Damaged {
        project: project.clone(),
    };
    let file: RingFile = serde_json::from_slice(bytes).map_err(|_| damaged())?;
    if (WITHOUT_NAMES..=WITH_BOUND_NAMES).contains(&file.version) {
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
    let file = parse(project, bytes)?;
    let mut ring = Ring {
        names_are_loose: file.version == WITH_NAMES,
        ..Ring::default()
    };
    for row in file.keys {
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
            name: row.name.as_ref().filter(|_| !ring.names_are_loose),
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
            name: key.name.as_ref(),
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
        true => WITH_BOUND_NAMES,
        false => WITHOUT_NAMES,
    };
    ring.names_are_loose = false;
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

#[cfg(test)]
mod tests {
    use lepton_types::{Id, Timestamp};
    use zeroize::Zeroizing;

    use super::*;
    use crate::keys::MasterWrapper;

    fn ring() -> Ring {
        let key = |number: u8, name: Option<&str>| RingKey {
            id: Id::from_parts(Timestamp::from_millis(1), [number; 10]).into(),
            name: name.map(|name| name.parse().unwrap()),
            secret: Some(Arc::new(Zeroizing::new([number; 32]))),
            wrapped_by: String::new(),
        };
        Ring {
            keys: vec![
                key(1, None),
                key(2, Some("payroll")),
                key(3, Some("public")),
            ],
            ..Ring::default()
        }
    }

    /// As the release before kept it.
    fn with_loose_names(project: &Name, wrapper: &MasterWrapper) -> Vec<u8> {
        let keys = ring().keys.into_iter().map(|key| {
            let purpose = WrapPurpose {
                project,
                key: key.id,
                name: None,
            };
            let wrapped = wrapper.wrap(&purpose, &key.secret.unwrap()).unwrap();
            KeyRow {
                id: key.id,
                name: key.name,
                sealed: Some(SealedKey {
                    by: wrapper.label(),
                    hex: wrapped.iter().map(|byte| format!("{byte:02x}")).collect(),
                }),
            }
        });
        let file = RingFile {
            version: WITH_NAMES,
            keys: keys.collect(),
        };
        serde_json::to_vec(&file).unwrap()
    }

    #[test]
    fn a_key_opens_under_its_own_name_only_and_older_files_still_open() {
        let project = Name::default_project();
        let wrapper = MasterWrapper::new([1; 32]);
        let wrappers: [Arc<dyn KeyWrapper>; 1] = [Arc::new(MasterWrapper::new([1; 32]))];
        let mut older = open(&project, &with_loose_names(&project, &wrapper), &wrappers).unwrap();
        assert!(older.names_are_loose);
        let bytes = close(&project, &mut older, &wrapper).unwrap();
        assert!(!older.names_are_loose);
        let opened = open(&project, &bytes, &wrappers).unwrap();
        assert!(!opened.names_are_loose);
        for (key, expected) in opened.keys.iter().zip(ring().keys) {
            assert_eq!((&key.name, &key.secret), (&expected.name, &expected.secret));
        }
        let text = String::from_utf8(bytes).unwrap();
        let swapped = text.replace("payroll", "x").replace("public", "payroll");
        let swapped = swapped.replace("\"x\"", "\"public\"");
        let taken_off = text.replace(r#""name": "payroll","#, "");
        let older_form = text.replace(r#""version": 3"#, r#""version": 2"#);
        for changed in [swapped, taken_off, older_form] {
            assert_ne!(changed, text);
            assert!(
                open(&project, changed.as_bytes(), &wrappers).is_err(),
                "{changed}"
            );
        }
    }
}

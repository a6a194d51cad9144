//! The master keys that wrap data keys: files in the data directory, or a key service.
//!
//! Owns: which of them wraps, and that an older one goes only after nothing is wrapped by it any
//! more. Must not know: how data keys are kept.
//!
//! `object-keys/NUMBER.key` are key files, of which the greatest number wraps; without any, a key
//! derived from `master.key` does. A rotation makes the next file, wraps all data keys anew, and
//! then erases the files before it. One that was cut off is finished at the next start.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lepton_access::{KeyPurpose, MasterKey};
use lepton_objects::{
    ContentError, Contents, KeyWrapper, MasterWrapper, Rewrap, VaultKey, VaultWrapper,
};
use lepton_types::Id;

use crate::config::KmsConfig;
use crate::start_error::StartError;

/// Where master keys come from.
pub(crate) struct MasterKeys {
    folder: PathBuf,
    /// Where a key service wraps, there is nothing to make here.
    has_service: bool,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

/// Master keys as they are at the start: the one that wraps first.
pub(crate) type Wrappers = Vec<Arc<dyn KeyWrapper>>;

/// A rotation did not come to its end; the next start, or the next one, goes on with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    #[error("cannot make or erase a key file in `{folder}`")]
    Disk {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    MasterKey(#[from] lepton_access::MasterKeyError),
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// For keys of which there is but one.
fn no_id() -> Id {
    Id::from_bytes([0; 16])
}

fn wrapper_of(key: &MasterKey) -> MasterWrapper {
    MasterWrapper::new(key.derive(KeyPurpose::DataKeyWrap, no_id()))
}

impl MasterKeys {
    /// What wraps and what opens, from `master.key`, the files in `data_dir` and the service.
    pub(crate) fn open(
        data_dir: &Path,
        first: &MasterKey,
        kms: Option<&KmsConfig>,
    ) -> Result<(Self, Wrappers), StartError> {
        let keys = Self {
            folder: data_dir.join("object-keys"),
            has_service: kms.is_some_and(|kms| !kms.retired),
            changing: tokio::sync::Mutex::default(),
        };
        let failed = |source| StartError::DataDir {
            data_dir: data_dir.to_owned(),
            source,
        };
        let mut wrappers: Wrappers = Vec::new();
        for file in keys.files().map_err(failed)?.iter().rev() {
            let key = MasterKey::open_or_create(&file.path)?;
            wrappers.push(Arc::new(wrapper_of(&key)));
        }
        wrappers.push(Arc::new(wrapper_of(first)));
        if let Some(kms) = kms {
            let service = Arc::new(VaultWrapper::new(VaultKey {
                address: kms.address.clone(),
                mount: kms.mount.clone(),
                key: kms.key.clone(),
                token_file: kms.token_file.clone(),
            }));
            match kms.retired {
                true => wrappers.push(service),
                false => wrappers.insert(0, service),
            }
        }
        Ok((keys, wrappers))
    }

    /// A new master key, or a newer version of the service's, wraps all data keys. Returns how many
    /// projects' keys were wrapped anew.
    pub(crate) async fn rotate(&self, contents: &Contents) -> Result<usize, RotateError> {
        let _changing = self.changing.lock().await;
        let which = if self.has_service {
            Rewrap::All
        } else {
            let key = self.make()?;
            contents.wrap_with(Arc::new(wrapper_of(&key))).await;
            Rewrap::Foreign
        };
        self.settle(contents, which).await
    }

    /// Finishes what an earlier process began: all is under the key that wraps.
    pub(crate) async fn finish(&self, contents: &Contents) -> Result<usize, RotateError> {
        let _changing = self.changing.lock().await;
        self.settle(contents, Rewrap::Foreign).await
    }

    async fn settle(&self, contents: &Contents, which: Rewrap) -> Result<usize, RotateError> {
        let changed = contents.rewrap(which).await?;
        let files = self.files().map_err(|source| self.disk(source))?;
        let in_use = labels_in_use(contents).await?;
        let keep = usize::from(!self.has_service);
        for file in files.iter().rev().skip(keep) {
            let label = wrapper_of(&MasterKey::open_or_create(&file.path)?).label();
            // Nothing is, after all was wrapped anew; without its key it would be lost.
            if in_use.contains(&label) {
                tracing::error!(file = %file.path.display(), "a master key still wraps data keys and is kept");
                continue;
            }
            erase(&file.path).map_err(|source| self.disk(source))?;
            contents.forget_wrapper(&label);
        }
        Ok(changed)
    }

    fn make(&self) -> Result<MasterKey, RotateError> {
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true).mode(0o700);
        let made = folder.create(&self.folder);
        made.and_then(|()| sync_parent(&self.folder))
            .map_err(|source| self.disk(source))?;
        let files = self.files().map_err(|source| self.disk(source))?;
        let next = files.last().map_or(1, |file| file.number + 1);
        let path = self.folder.join(format!("{next}.key"));
        Ok(MasterKey::open_or_create(&path)?)
    }

    fn disk(&self, source: io::Error) -> RotateError {
        RotateError::Disk {
            folder: self.folder.clone(),
            source,
        }
    }

    /// The key files, oldest first.
    fn files(&self) -> io::Result<Vec<KeyFile>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let is_key = path.extension().is_some_and(|ending| ending == "key");
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            if let Some(number) = number.filter(|_| is_key) {
                files.push(KeyFile { number, path });
            }
        }
        files.sort_by_key(|file| file.number);
        Ok(files)
    }
}

/// The master keys that wrap anything.
async fn labels_in_use(contents: &Contents) -> Result<BTreeSet<String>, ContentError> {
    let mut labels = BTreeSet::new();
    for project in contents.projects().await? {
        let kept = contents.kept_keys(&project).await?;
        labels.extend(kept.into_iter().filter_map(|key| key.wrapped_by));
    }
    Ok(labels)
}

struct KeyFile {
    number: u32,
    path: PathBuf,
}

/// Overwrites a key with zeros and removes it. Copies that a snapshot or a flash disk keeps are out
/// of reach.
fn erase(file: &Path) -> io::Result<()> {
    let mut opened = OpenOptions::new().write(true).open(file)?;
    opened.write_all(&[0; 32])?;
    opened.sync_all()?;
    fs::remove_file(file)?;
    sync_parent(file)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lepton_objects::{Content, ContentKey, ContentsConfig, NewContent};
    use lepton_types::Name;

    use super::*;

    async fn open(folder: &Path) -> (MasterKeys, Contents) {
        let first = MasterKey::open_or_create(&folder.join("master.key")).unwrap();
        let (keys, mut wrappers) = MasterKeys::open(folder, &first, None).unwrap();
        let mut config = ContentsConfig::local(folder.join("contents"), wrappers.remove(0));
        config.retired_wrappers = wrappers;
        config.inline_bytes_max = 0;
        (keys, Contents::open(config).await.unwrap())
    }

    async fn keep(contents: &Contents) -> Content {
        let project = Name::default_project();
        let mut writer = contents
            .begin(&project, NewContent::default())
            .await
            .unwrap();
        writer.write(Bytes::from_static(b"secret")).await.unwrap();
        writer.finish().await.unwrap().adopt()
    }

    async fn is_readable(contents: &Contents, content: &Content) -> bool {
        let project = Name::default_project();
        let read = contents.read_all(&project, content, &ContentKey::Project, 100);
        read.await.is_ok_and(|bytes| &bytes[..] == b"secret")
    }

    fn numbers(keys: &MasterKeys) -> Vec<u32> {
        keys.files()
            .unwrap()
            .iter()
            .map(|file| file.number)
            .collect()
    }

    #[tokio::test]
    async fn a_rotation_rewrites_no_content_and_leaves_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, contents) = open(folder.path()).await;
        let content = keep(&contents).await;
        let before = contents.wrappers()[0].clone();
        assert_eq!(keys.rotate(&contents).await.unwrap(), 1);
        assert_ne!(contents.wrappers()[0], before);
        assert!(is_readable(&contents, &content).await);
        assert_eq!(keys.rotate(&contents).await.unwrap(), 1);
        assert_eq!(numbers(&keys), [2]);
        let current = contents.wrappers()[0].clone();
        drop(contents);
        let (_, contents) = open(folder.path()).await;
        assert_eq!(contents.wrappers()[0], current);
        assert!(is_readable(&contents, &content).await);
    }

    #[tokio::test]
    async fn a_rotation_that_was_cut_off_is_finished_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, contents) = open(folder.path()).await;
        let content = keep(&contents).await;
        keys.rotate(&contents).await.unwrap();
        // Cut off after the new key is there, before anything is wrapped by it.
        keys.make().unwrap();
        drop((keys, contents));
        let (keys, contents) = open(folder.path()).await;
        assert_eq!(numbers(&keys), [1, 2]);
        assert!(is_readable(&contents, &content).await);
        assert_eq!(keys.finish(&contents).await.unwrap(), 1);
        assert_eq!(keys.finish(&contents).await.unwrap(), 0);
        assert_eq!(numbers(&keys), [2]);
        assert!(is_readable(&contents, &content).await);
    }
}

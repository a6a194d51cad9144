//! The master key: 32 random bytes in a file that only Lepton may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use lepton_types::Id;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The root of every derived secret. Never printed.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// What a derived key is for; each purpose has keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPurpose {
    /// The token of a worker of a job's attempt.
    AttemptToken,
    /// The token with which a replica reads its model.
    ReplicaToken,
    /// What the gateway shows to a replica.
    ReplicaAdmission,
    /// The S3 secret of a token's holder.
    TokenS3Secret,
    /// The S3 secret of a worker of a job's attempt.
    AttemptS3Secret,
    /// The S3 secret of a replica.
    ReplicaS3Secret,
    /// What seals the secrets of S3 key pairs.
    S3SecretSeal,
    /// What wraps the data keys of projects.
    DataKeyWrap,
    /// What lets its holder add parts to one upload.
    Upload,
}

impl KeyPurpose {
    // stored: never rename; derived keys depend on the words.
    const fn label(self) -> &'static [u8] {
        match self {
            Self::AttemptToken => b"lepton attempt token v1",
            Self::ReplicaToken => b"lepton replica token v1",
            Self::ReplicaAdmission => b"lepton replica admission v1",
            Self::TokenS3Secret => b"lepton token s3 secret v1",
            Self::AttemptS3Secret => b"lepton attempt s3 secret v1",
            Self::ReplicaS3Secret => b"lepton replica s3 secret v1",
            Self::S3SecretSeal => b"lepton s3 secret seal v1",
            Self::DataKeyWrap => b"lepton data key wrap v1",
            Self::Upload => b"lepton upload v1",
        }
    }
}

/// The master key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// Others may read its file.
    #[error(
        "`{file}` can be read by others: run `chmod 600 {file}`, or replace the key if it may have leaked"
    )]
    Exposed {
        /// The file.
        file: PathBuf,
    },
    /// Its file does not hold 32 bytes.
    #[error("`{file}` does not hold a master key: 32 bytes are expected, {found} are there")]
    WrongLength {
        /// The file.
        file: PathBuf,
        /// Its length.
        found: usize,
    },
    /// The disk failed.
    #[error("cannot read or make the master key in `{file}`")]
    Disk {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl MasterKey {
    /// Reads the key in `file`, or makes one there with mode 0600.
    ///
    /// # Errors
    /// If the file is unusable, or open to others.
    pub fn open_or_create(file: &Path) -> Result<Self, MasterKeyError> {
        let disk = |source| MasterKeyError::Disk {
            file: file.to_owned(),
            source,
        };
        match File::open(file) {
            Ok(opened) => Self::read(opened, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::create(file).map_err(disk)
            }
            Err(error) => Err(disk(error)),
        }
    }

    fn read(mut opened: File, file: &Path) -> Result<Self, MasterKeyError> {
        let disk = |source| MasterKeyError::Disk {
            file: file.to_owned(),
            source,
        };
        if opened.metadata().map_err(disk)?.mode() & 0o077 != 0 {
            return Err(MasterKeyError::Exposed {
                file: file.to_owned(),
            });
        }
        let mut bytes = Zeroizing::new(Vec::new());
        Read::by_ref(&mut opened)
            .take(64)
            .read_to_end(&mut bytes)
            .map_err(disk)?;
        let key =
            <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| MasterKeyError::WrongLength {
                file: file.to_owned(),
                found: bytes.len(),
            })?;
        Ok(Self(Zeroizing::new(key)))
    }

    fn create(file: &Path) -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(io::Error::other)?;
        // Written aside and renamed, so that a crash never leaves half a key.
        let aside = file.with_extension("new");
        let mut options = OpenOptions::new();
        let mut opened = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        opened.write_all(key.as_slice())?;
        opened.sync_all()?;
        fs::rename(&aside, file)?;
        if let Some(folder) = file.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self(key))
    }

    /// The same as [`MasterKey::derive`], for what is bound to more than an id: `terms` says to what.
    #[must_use]
    pub fn derive_under(&self, purpose: KeyPurpose, id: Id, terms: &str) -> [u8; 32] {
        let mut mac = self.begin(purpose, id);
        mac.update(terms.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn begin(&self, purpose: KeyPurpose, id: Id) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(self.0.as_slice())
            .expect("invariant: HMAC takes keys of any length");
        mac.update(purpose.label());
        mac.update(&id.to_bytes());
        mac
    }

    /// 32 bytes that only a holder of the master key can tell, one set a purpose and id
    /// (HMAC-SHA-256, RFC 2104).
    #[must_use]
    pub fn derive(&self, purpose: KeyPurpose, id: Id) -> [u8; 32] {
        self.begin(purpose, id).finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_types::Timestamp;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_made_once_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("master.key");
        let id = Id::from_parts(Timestamp::from_millis(1), [1; 10]);
        let first = MasterKey::open_or_create(&file)
            .unwrap()
            .derive(KeyPurpose::AttemptToken, id);
        let again = MasterKey::open_or_create(&file).unwrap();
        assert_eq!(again.derive(KeyPurpose::AttemptToken, id), first);
        assert_ne!(again.derive(KeyPurpose::ReplicaToken, id), first);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_open_or_cut_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("master.key");
        MasterKey::open_or_create(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            MasterKey::open_or_create(&file),
            Err(MasterKeyError::Exposed { .. })
        ));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, [0; 31]).unwrap();
        let refused = MasterKey::open_or_create(&file);
        assert!(matches!(
            refused,
            Err(MasterKeyError::WrongLength { found: 31, .. })
        ));
    }
}

//! The bytes of everything: files of datasets, models, runs and code.
//!
//! Owns: that an acknowledged blob is whole and on disk, and is never changed.
//! Must not know: who is allowed, what a blob is for, HTTP.
//!
//! A blob is named by the SHA-256 of its bytes, within a project: nobody reaches
//! another project's bytes by knowing their digest. It is written to a file without
//! a final name, synced, renamed, and its folder synced; so it exists whole or not at
//! all, and writing it again changes nothing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lepton_types::resources::{BlobDigest, ParseDigestError};
use lepton_types::{DurationMs, Name, Timestamp};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// The folder of uploads under way, emptied at every start. The dot keeps it apart from the
/// projects, whose names have none.
const INCOMING: &str = ".incoming";

/// The bytes of one Lepton on the local disk.
#[derive(Debug, Clone)]
pub struct Blobs {
    root: PathBuf,
}

/// A blob that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRef {
    /// The SHA-256 of its bytes.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// Bytes could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such blob in the project.
    #[error("no object `{digest}` is in this project")]
    NotFound {
        /// What was asked for.
        digest: BlobDigest,
    },
    /// It is longer than one upload may be.
    #[error("the upload is longer than {limit_bytes} bytes")]
    TooLarge {
        /// The bound.
        limit_bytes: u64,
    },
    /// No room is left on the disk.
    #[error("the disk that holds the objects is full")]
    DiskFull,
    /// The bytes on disk are not those that were written.
    #[error("object `{digest}` is damaged on disk")]
    Damaged {
        /// Which.
        digest: BlobDigest,
    },
    /// Anything else the disk says.
    #[error("the object store failed")]
    Disk(#[source] io::Error),
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Disk(error),
        }
    }
}

impl Blobs {
    /// Opens or makes the store in folder `root`, and clears what was never finished.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn open(root: &Path) -> Result<Self, BlobError> {
        let incoming = root.join(INCOMING);
        if incoming.exists() {
            fs::remove_dir_all(&incoming)?;
        }
        fs::create_dir_all(&incoming)?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Begins an upload of at most `limit_bytes`. Dropping it leaves nothing.
    ///
    /// # Errors
    /// If no file can be made.
    pub fn begin(&self, project: &Name, limit_bytes: u64) -> Result<BlobWriter, BlobError> {
        let folder = self.root.join(project.as_str());
        if !folder.exists() {
            fs::create_dir_all(&folder)?;
            File::open(&self.root)?.sync_all()?;
        }
        Ok(BlobWriter {
            file: NamedTempFile::new_in(self.root.join(INCOMING))?,
            folder,
            hasher: Sha256::new(),
            size_bytes: 0,
            limit_bytes,
        })
    }

    /// Keeps `bytes`.
    ///
    /// # Errors
    /// If they cannot be kept.
    pub fn put(&self, project: &Name, bytes: &[u8]) -> Result<BlobRef, BlobError> {
        let mut writer = self.begin(project, u64::MAX)?;
        writer.write(bytes)?;
        writer.finish()
    }

    /// The file that holds a blob, for reading.
    ///
    /// # Errors
    /// If there is none.
    pub fn open_blob(&self, project: &Name, digest: BlobDigest) -> Result<File, BlobError> {
        let file = File::open(self.path(project, digest));
        file.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BlobError::NotFound { digest },
            _ => error.into(),
        })
    }

    /// How long a blob is; none if it is not there.
    ///
    /// # Errors
    /// If the disk cannot tell.
    pub fn size_of(&self, project: &Name, digest: BlobDigest) -> Result<Option<u64>, BlobError> {
        match fs::metadata(self.path(project, digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where a blob lies, for workloads of this machine to read.
    #[must_use]
    pub fn path(&self, project: &Name, digest: BlobDigest) -> PathBuf {
        let hex = digest.to_string();
        self.root
            .join(project.as_str())
            .join(&hex[..2])
            .join(&hex[2..])
    }

    /// Reads a whole blob of at most `limit_bytes`, and checks it.
    ///
    /// # Errors
    /// If it is not there, too long, or damaged.
    pub fn read(
        &self,
        project: &Name,
        digest: BlobDigest,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        self.open_blob(project, digest)?
            .take(limit_bytes + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit_bytes {
            return Err(BlobError::TooLarge { limit_bytes });
        }
        if digest_of(&bytes) != digest {
            return Err(BlobError::Damaged { digest });
        }
        Ok(bytes)
    }

    /// The projects that blobs were kept for, those included that are gone by now.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn projects(&self) -> Result<Vec<Name>, BlobError> {
        let mut projects = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            projects.extend(entry?.file_name().to_string_lossy().parse::<Name>().ok());
        }
        projects.sort();
        Ok(projects)
    }

    /// All blobs of all projects, in order.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn all(&self) -> io::Result<BTreeSet<(Name, BlobDigest)>> {
        let mut all = BTreeSet::new();
        for entry in fs::read_dir(&self.root)? {
            let project = entry?;
            let Ok(name) = project.file_name().to_string_lossy().parse::<Name>() else {
                continue;
            };
            for shard in fs::read_dir(project.path())? {
                let shard = shard?;
                for entry in fs::read_dir(shard.path())? {
                    let rest = entry?.file_name();
                    let start = shard.file_name();
                    let hex = format!("{}{}", start.to_string_lossy(), rest.to_string_lossy());
                    all.extend(hex.parse().ok().map(|digest| (name.clone(), digest)));
                }
            }
        }
        Ok(all)
    }

    /// Deletes blobs of `project` that are not in `keep` and were written before `now - age`.
    /// Uploads come before the record that cites them, so `age` must exceed any such gap.
    ///
    /// Returns how many went.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn sweep(
        &self,
        project: &Name,
        keep: &BTreeSet<BlobDigest>,
        now: Timestamp,
        age: DurationMs,
    ) -> Result<u64, BlobError> {
        let folder = self.root.join(project.as_str());
        if !folder.exists() {
            return Ok(0);
        }
        let mut gone = 0;
        for shard in fs::read_dir(&folder)? {
            let shard = shard?;
            for entry in fs::read_dir(shard.path())? {
                let entry = entry?;
                let hex = format!(
                    "{}{}",
                    shard.file_name().to_string_lossy(),
                    entry.file_name().to_string_lossy()
                );
                let digest: Result<BlobDigest, ParseDigestError> = hex.parse();
                let written = millis_of(entry.metadata()?.modified()?);
                if digest.is_ok_and(|digest| !keep.contains(&digest)) && written + age < now {
                    fs::remove_file(entry.path())?;
                    gone += 1;
                }
            }
        }
        Ok(gone)
    }
}

fn millis_of(time: SystemTime) -> Timestamp {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The digest of `bytes`.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> BlobDigest {
    BlobDigest::from_bytes(Sha256::digest(bytes).into())
}

/// An upload under way.
#[derive(Debug)]
pub struct BlobWriter {
    file: NamedTempFile,
    folder: PathBuf,
    hasher: Sha256,
    size_bytes: u64,
    limit_bytes: u64,
}

impl BlobWriter {
    /// Adds bytes.
    ///
    /// # Errors
    /// If the upload becomes too long, or the disk fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.size_bytes += bytes.len() as u64;
        if self.size_bytes > self.limit_bytes {
            return Err(BlobError::TooLarge {
                limit_bytes: self.limit_bytes,
            });
        }
        self.hasher.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    /// Gives the blob its name; it is on disk when this returns.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn finish(self) -> Result<BlobRef, BlobError> {
        let digest = BlobDigest::from_bytes(self.hasher.finalize().into());
        let blob = BlobRef {
            digest,
            size_bytes: self.size_bytes,
        };
        let hex = digest.to_string();
        let shard = self.folder.join(&hex[..2]);
        let place = shard.join(&hex[2..]);
        if fs::metadata(&place).is_ok_and(|metadata| metadata.len() == self.size_bytes) {
            // Touched, so that a sweep does not take it for an old orphan.
            File::options()
                .append(true)
                .open(&place)?
                .set_modified(self.file.as_file().metadata()?.modified()?)?;
            return Ok(blob);
        }
        if !shard.exists() {
            fs::create_dir_all(&shard)?;
            File::open(&self.folder)?.sync_all()?;
        }
        self.file.as_file().sync_all()?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        self.file.as_file().set_permissions(mode)?;
        self.file.persist(&place).map_err(|refused| refused.error)?;
        File::open(&shard)?.sync_all()?;
        Ok(blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn home() -> Name {
        Name::default_project()
    }

    #[test]
    fn what_was_put_reads_back_and_putting_it_again_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let first = blobs.put(&home(), b"hello").unwrap();
        assert_eq!(blobs.put(&home(), b"hello").unwrap(), first);
        assert_eq!(blobs.read(&home(), first.digest, 5).unwrap(), b"hello");
        assert!(matches!(
            blobs.read(&home(), first.digest, 4),
            Err(BlobError::TooLarge { .. })
        ));
        let other: Name = "other".parse().unwrap();
        assert!(matches!(
            blobs.open_blob(&other, first.digest),
            Err(BlobError::NotFound { .. })
        ));
    }

    #[test]
    fn an_upload_that_is_dropped_or_too_long_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let mut writer = blobs.begin(&home(), 3).unwrap();
        writer.write(b"abc").unwrap();
        assert!(matches!(
            writer.write(b"d"),
            Err(BlobError::TooLarge { limit_bytes: 3 })
        ));
        drop(writer);
        assert_eq!(
            fs::read_dir(folder.path().join(INCOMING)).unwrap().count(),
            0
        );
        assert_eq!(blobs.size_of(&home(), digest_of(b"abc")).unwrap(), None);
    }

    #[test]
    fn no_name_of_a_project_meets_the_folder_that_a_start_empties() {
        let folder = tempfile::tempdir().unwrap();
        let project: Name = INCOMING.trim_start_matches('.').parse().unwrap();
        assert!(INCOMING.parse::<Name>().is_err());
        let blob = Blobs::open(folder.path())
            .unwrap()
            .put(&project, b"kept")
            .unwrap();
        let again = Blobs::open(folder.path()).unwrap();
        assert_eq!(again.read(&project, blob.digest, 4).unwrap(), b"kept");
        assert_eq!(again.projects().unwrap(), [project]);
    }

    #[test]
    fn damage_on_disk_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let blob = blobs.put(&home(), b"hello").unwrap();
        fs::write(blobs.path(&home(), blob.digest), b"jello").unwrap();
        assert!(matches!(
            blobs.read(&home(), blob.digest, 9),
            Err(BlobError::Damaged { .. })
        ));
    }

    #[test]
    fn a_sweep_takes_old_orphans_only() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let kept = blobs.put(&home(), b"kept").unwrap();
        let orphan = blobs.put(&home(), b"orphan").unwrap();
        let keep = BTreeSet::from([kept.digest]);
        let written = fs::metadata(blobs.path(&home(), orphan.digest))
            .unwrap()
            .modified()
            .unwrap();
        let age = DurationMs::from_secs(60);
        assert_eq!(
            blobs
                .sweep(&home(), &keep, millis_of(written), age)
                .unwrap(),
            0
        );
        let later = millis_of(written) + DurationMs::from_secs(120);
        assert_eq!(blobs.sweep(&home(), &keep, later, age).unwrap(), 1);
        assert!(blobs.open_blob(&home(), kept.digest).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_cut_into_pieces_gives_the_same_blob(bytes: Vec<u8>, cut in 0..1_000_usize) {
            let folder = tempfile::tempdir().unwrap();
            let blobs = Blobs::open(folder.path()).unwrap();
            let mut writer = blobs.begin(&home(), u64::MAX).unwrap();
            for piece in bytes.chunks(cut.max(1)) {
                writer.write(piece).unwrap();
            }
            let blob = writer.finish().unwrap();
            prop_assert_eq!(blob.digest, digest_of(&bytes));
            prop_assert_eq!(blobs.read(&home(), blob.digest, u64::MAX - 1).unwrap(), bytes);
        }
    }
}

//! The local disk, through the narrow hole that a simulated one fits as well.
//!
//! Owns: which file operations there are and what each promises. Must not know: what is in the
//! files. Everything here blocks.

mod simulated;

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FlockOperation, fadvise, flock};

pub use simulated::{DiskFaults, SimulatedDisk};

/// A disk: files are appended to and read; nothing is durable before it is synced, the bytes of
/// a file apart from its name in a folder.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a file that is not there yet, readable by its owner only.
    ///
    /// # Errors
    /// If it is there, or the disk fails.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// If it is not there, or the disk fails.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, replacing what has it.
    ///
    /// # Errors
    /// If the disk fails.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// If it is not there, or the disk fails.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Durably gives a file the name `to`, and then overwrites the bytes of the file that had it
    /// with zeros, as far as the disk's own layers let anybody. For files that hold wrapped keys.
    ///
    /// # Errors
    /// If the disk fails; `to` is then one of the two files, whole.
    fn replace_and_erase(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes a folder, for its owner only, unless it is there.
    ///
    /// # Errors
    /// If its parent is not there, or the disk fails.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes the present names in a folder durable.
    ///
    /// # Errors
    /// If the disk fails.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, in order; none if there is no folder.
    ///
    /// # Errors
    /// If the disk fails.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Takes the lock file `path` for this process until what is returned is dropped.
    ///
    /// # Errors
    /// With `WouldBlock` if another has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// If the disk is full or fails; some may be written then.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills `bytes` from `offset`, fewer only at the end of the file.
    ///
    /// # Errors
    /// If the disk fails.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Has the disk begin with what was written there, so that a sync has less to do. Promises nothing.
    fn write_back(&self, _range: Range<u64>) {}

    /// The file's length.
    ///
    /// # Errors
    /// If the disk fails.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Makes the bytes durable that were written before the call.
    ///
    /// # Errors
    /// If the disk fails; what was written may be lost then, even if a later sync succeeds.
    fn sync(&self) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn replace_and_erase(&self, from: &Path, to: &Path) -> io::Result<()> {
        let replaced = match OpenOptions::new().write(true).open(to) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        self.rename(from, to)?;
        self.sync_folder(to.parent().unwrap_or(Path::new("/")))?;
        if let Some(file) = replaced {
            let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
            file.write_all_at(&vec![0; length], 0)?;
            file.sync_all()?;
        }
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }
}

impl DiskFile for File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, mut offset: u64, mut bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while !bytes.is_empty() {
            match FileExt::read_at(self, bytes, offset) {
                Ok(0) => break,
                Ok(read) => {
                    done += read;
                    offset += read as u64;
                    bytes = &mut bytes[read..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_back(&self, range: Range<u64>) {
        if let Some(length) = NonZeroU64::new(range.end.saturating_sub(range.start)) {
            // Linux begins to write what it is told not to need, and does not wait for it; nor does it forget it before
            // that is done.
            let _ = fadvise(self, range.start, Some(length), Advice::DontNeed);
        }
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

//! Contents as files of the local disk.
//!
//! Owns: where files lie and in which order they are synced. Must not know: what is in them.
//!
//! `PROJECT/SHARD/ID` holds a content, `.keys/PROJECT` a project's wrapped keys, `.owner` whose folder it is, `.incoming` what
//! is under way: it is emptied at every start, under the lock `.lock`. Names with a dot meet no
//! project. A file gets its name only after its bytes are synced, its writer is told so only after
//! the folder is synced, and the folder itself was made durable by this process before.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lepton_types::{ContentId, Name};

use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;

const INCOMING: &str = ".incoming";
const KEYS: &str = ".keys";
const LOCK: &str = ".lock";
const CLAIM: &str = ".owner";

/// A folder of the local disk.
pub(crate) struct Local {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Folders that this process knows to be durable. A folder that an earlier process made may
    /// not be, even though it is seen.
    durable: Mutex<BTreeSet<PathBuf>>,
    staged: AtomicU64,
    _lock: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("root", &self.root).finish()
    }
}

/// A file without a final name. Dropped, it is removed.
pub(crate) struct Staged {
    local: Arc<Local>,
    path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    is_named: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_named {
            // What cannot be removed now goes at the next start.
            let _ = self.local.disk.remove(&self.path);
        }
    }
}

impl Local {
    pub(crate) fn open(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::Backend(error.into());
        make_with_parents(&*disk, root).map_err(failed)?;
        let lock = disk.lock(&root.join(LOCK)).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                OpenError::InUse {
                    root: root.to_owned(),
                }
            } else {
                failed(error)
            }
        })?;
        let local = Self {
            disk,
            root: root.to_owned(),
            durable: Mutex::default(),
            staged: AtomicU64::new(0),
            _lock: lock,
        };
        local.prepare().map_err(failed)?;
        Ok(local)
    }

    fn prepare(&self) -> io::Result<()> {
        let incoming = self.root.join(INCOMING);
        for folder in [&incoming, &self.root.join(KEYS)] {
            self.disk.create_folder(folder)?;
        }
        self.disk.sync_folder(&self.root)?;
        for name in self.disk.list(&incoming)? {
            self.disk.remove(&incoming.join(name))?;
        }
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Who has claimed the folder: the owner given, unless another was there first. Whether it is
    /// new, too. The lock keeps others out meanwhile.
    pub(crate) fn claim(self: &Arc<Self>, owner: &str) -> io::Result<(String, bool)> {
        let place = self.root.join(CLAIM);
        match self.disk.open(&place) {
            Ok(file) => {
                let mut bytes = [0; 64];
                let read = file.read_at(0, &mut bytes)?;
                let found = String::from_utf8_lossy(&bytes[..read]);
                Ok((found.trim().to_owned(), false))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut staged = self.stage()?;
                staged.file.write_at(0, owner.as_bytes())?;
                staged.file.sync()?;
                self.disk.rename(&staged.path, &place)?;
                staged.is_named = true;
                self.disk.sync_folder(&self.root)?;
                Ok((owner.to_owned(), true))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn stage(self: &Arc<Self>) -> io::Result<Staged> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(INCOMING).join(number.to_string());
        Ok(Staged {
            file: self.disk.create(&path)?,
            local: Arc::clone(self),
            path,
            is_named: false,
        })
    }

    /// Gives a staged file its name. It is durable when this returns.
    pub(crate) fn publish(
        &self,
        mut staged: Staged,
        project: &Name,
        content: ContentId,
    ) -> io::Result<()> {
        let place = self.place(project, content);
        let shard = place.parent().unwrap_or(&self.root);
        self.make_durable(&self.root.join(project.as_str()), &self.root)?;
        self.make_durable(shard, &self.root.join(project.as_str()))?;
        staged.file.sync()?;
        self.disk.rename(&staged.path, &place)?;
        staged.is_named = true;
        if let Err(error) = self.disk.sync_folder(shard) {
            // Seen but perhaps not durable: its writer is told that it failed, so it goes.
            let _ = self.disk.remove(&place);
            return Err(error);
        }
        Ok(())
    }

    fn make_durable(&self, folder: &Path, parent: &Path) -> io::Result<()> {
        let known = || self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(folder) {
            return Ok(());
        }
        self.disk.create_folder(folder)?;
        self.disk.sync_folder(parent)?;
        known().insert(folder.to_owned());
        Ok(())
    }

    pub(crate) fn open_content(
        &self,
        project: &Name,
        content: ContentId,
    ) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(&self.place(project, content))
    }

    pub(crate) fn remove(&self, project: &Name, content: ContentId) -> io::Result<()> {
        match self.disk.remove(&self.place(project, content)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// The shards of a project that were ever used, in order.
    pub(crate) fn shards(&self, project: &Name) -> io::Result<Vec<u8>> {
        let names = self.disk.list(&self.root.join(project.as_str()))?;
        let numbers = names.iter().map(|name| u8::from_str_radix(name, 16));
        Ok(numbers.filter_map(Result::ok).collect())
    }

    /// The contents of one shard, in order.
    pub(crate) fn list(&self, project: &Name, shard: u8) -> io::Result<Vec<ContentId>> {
        let folder = self
            .root
            .join(project.as_str())
            .join(format!("{shard:02x}"));
        let names = self.disk.list(&folder)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(crate) fn projects(&self) -> io::Result<Vec<Name>> {
        let folders = [self.root.clone(), self.root.join(KEYS)];
        let mut projects = BTreeSet::new();
        for folder in folders {
            let names = self.disk.list(&folder)?;
            projects.extend(names.iter().filter_map(|name| name.parse::<Name>().ok()));
        }
        Ok(projects.into_iter().collect())
    }

    pub(crate) fn load_keys(&self, project: &Name) -> io::Result<Option<Vec<u8>>> {
        // Whoever stored what is seen may have failed or died before it was durable; contents
        // must not be sealed under keys that a loss of power takes away.
        self.disk.sync_folder(&self.root.join(KEYS))?;
        let file = match self.disk.open(&self.root.join(KEYS).join(project.as_str())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let length = usize::try_from(file.size_bytes()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    pub(crate) fn store_keys(self: &Arc<Self>, project: &Name, bytes: &[u8]) -> io::Result<()> {
        let mut staged = self.stage()?;
        staged.file.write_at(0, bytes)?;
        staged.file.sync()?;
        let place = self.root.join(KEYS).join(project.as_str());
        self.disk.replace_and_erase(&staged.path, &place)?;
        staged.is_named = true;
        Ok(())
    }

    fn place(&self, project: &Name, content: ContentId) -> PathBuf {
        let shard = format!("{:02x}", super::shard_of(content));
        let folder = self.root.join(project.as_str());
        folder.join(shard).join(content.to_string())
    }
}

/// Makes a folder and those above it. Only the last is made durable: the others are the business
/// of whoever chose the place.
fn make_with_parents(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    let mut folders: Vec<&Path> = folder.ancestors().collect();
    folders.retain(|path| !path.as_os_str().is_empty());
    for path in folders.iter().rev() {
        disk.create_folder(path)?;
    }
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => disk.sync_folder(parent),
        Some(_) => disk.sync_folder(Path::new(".")),
        None => Ok(()),
    }
}

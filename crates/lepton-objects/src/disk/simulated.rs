//! A disk in memory that forgets what was not synced, fails when its seed says so, and is full
//! when it is full.
//!
//! Owns: the worst that a disk may do within the promises of [`Disk`]. It is for tests, here and
//! in whatever is built on this layer.
//!
//! At a power loss every file keeps what was synced, and of what was not, a part: a prefix of it,
//! or its length with zeros for bytes. Of the changes to a folder since its last sync, each
//! survives or not, independent of the others and of the file's bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};

/// What goes wrong, and how often.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFaults {
    /// Of a thousand operations, how many fail with an I/O error.
    pub errors_per_mille: u32,
    /// The power fails at the operation of this number, counted from now: it and all after it
    /// fail. 0: never.
    pub power_fails_at: u64,
    /// The disk is full when its files together would exceed this. 0: never.
    pub capacity_bytes: u64,
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

type Inode = u64;

#[derive(Debug, Default)]
struct State {
    random: u64,
    faults: DiskFaults,
    operations: u64,
    next_inode: Inode,
    /// Grows at a power loss; files opened before one are dead after it.
    epoch: u64,
    files: BTreeMap<Inode, FileState>,
    folders: BTreeMap<PathBuf, Folder>,
    locks: BTreeSet<PathBuf>,
}

#[derive(Debug, Default, Clone)]
struct FileState {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// A sync failed: what it should have kept is gone for good, though reads still show it.
    lost: bool,
}

#[derive(Debug, Default)]
struct Folder {
    names: BTreeMap<String, Entry>,
    synced: BTreeMap<String, Entry>,
    /// Changes since the last sync, in order.
    changes: Vec<(String, Option<Entry>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(Inode),
    Folder,
}

impl SimulatedDisk {
    /// An empty disk whose mishaps follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = State {
            random: seed,
            ..State::default()
        };
        state.folders.insert(PathBuf::from("/"), Folder::default());
        Self(Arc::new(Mutex::new(state)))
    }

    /// From now on, this goes wrong. The count of operations begins anew.
    pub fn set_faults(&self, faults: DiskFaults) {
        let mut state = self.state();
        state.faults = faults;
        state.operations = 0;
    }

    /// How many operations there were since the faults were set.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Loses the power and comes back: what was not synced is gone, or in part. Nothing goes
    /// wrong afterwards until faults are set again.
    pub fn lose_power(&self) {
        let mut state = self.state();
        state.epoch += 1;
        state.faults = DiskFaults::default();
        state.locks.clear();
        let State {
            random,
            files,
            folders,
            ..
        } = &mut *state;
        for file in files.values_mut() {
            file.lose_unsynced(random);
        }
        for folder in folders.values_mut() {
            for (name, entry) in std::mem::take(&mut folder.changes) {
                if next(random).is_multiple_of(2) {
                    change(&mut folder.synced, &name, entry);
                }
            }
            folder.names = folder.synced.clone();
        }
        state.drop_unreachable();
    }

    /// Flips one bit of the file at `path`, as rot does.
    ///
    /// # Errors
    /// If there is no such file, or it is empty.
    pub fn rot(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.inode(path)?;
        let random = next(&mut state.random);
        let file = state.file(inode);
        let length = file.bytes.len();
        if length == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let at = usize::try_from(random % length as u64).unwrap_or(0);
        file.bytes[at] ^= 1 << (random >> 61);
        file.synced.clone_from(&file.bytes);
        Ok(())
    }

    /// The paths of all files, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let state = self.state();
        let mut paths = Vec::new();
        for (path, folder) in &state.folders {
            let files = folder.names.iter();
            let files = files.filter(|(_, entry)| matches!(entry, Entry::File(_)));
            paths.extend(files.map(|(name, _)| path.join(name)));
        }
        paths
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.operations += 1;
        let faults = state.faults;
        if faults.power_fails_at != 0 && state.operations >= faults.power_fails_at {
            return Err(io::Error::other("the power failed"));
        }
        if next(&mut state.random) % 1_000 < u64::from(faults.errors_per_mille) {
            return Err(io::Error::other("an injected error"));
        }
        Ok(state)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for mishaps.
fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn change(names: &mut BTreeMap<String, Entry>, name: &str, entry: Option<Entry>) {
    match entry {
        Some(entry) => names.insert(name.to_owned(), entry),
        None => names.remove(name),
    };
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    Ok((
        path.parent().ok_or_else(not_found)?,
        name.ok_or_else(not_found)?,
    ))
}

impl FileState {
    fn lose_unsynced(&mut self, random: &mut u64) {
        if !self.lost && self.bytes.len() > self.synced.len() {
            let unsynced = (self.bytes.len() - self.synced.len()) as u64;
            let kept =
                self.synced.len() + usize::try_from(next(random) % (unsynced + 1)).unwrap_or(0);
            let zeros = next(random).is_multiple_of(3);
            let tail = &self.bytes[self.synced.len()..kept];
            let tail = tail.iter().map(|byte| if zeros { 0 } else { *byte });
            self.synced.extend(tail);
        }
        self.bytes.clone_from(&self.synced);
        self.lost = false;
    }
}

impl State {
    fn inode(&self, path: &Path) -> io::Result<Inode> {
        let (parent, name) = split(path)?;
        let folder = self.folders.get(parent).ok_or_else(not_found)?;
        match folder.names.get(name) {
            Some(Entry::File(inode)) => Ok(*inode),
            _ => Err(not_found()),
        }
    }

    fn file(&mut self, inode: Inode) -> &mut FileState {
        self.files.entry(inode).or_default()
    }

    fn change(&mut self, path: &Path, entry: Option<Entry>) -> io::Result<()> {
        let (parent, name) = split(path)?;
        let folder = self.folders.get_mut(parent).ok_or_else(not_found)?;
        change(&mut folder.names, name, entry);
        folder.changes.push((name.to_owned(), entry));
        Ok(())
    }

    /// Folders whose own name was lost go, with what is in them.
    fn drop_unreachable(&mut self) {
        let mut reachable = BTreeSet::from([PathBuf::from("/")]);
        // Parents sort before what is in them.
        let paths: Vec<PathBuf> = self.folders.keys().cloned().collect();
        for path in paths {
            let Ok((parent, name)) = split(&path) else {
                continue;
            };
            let named = self.folders.get(parent).and_then(|it| it.names.get(name));
            if reachable.contains(parent) && named == Some(&Entry::Folder) {
                reachable.insert(path);
            }
        }
        self.folders.retain(|path, _| reachable.contains(path));
        // A name whose folder never became durable names nothing.
        for path in self.folders.keys().cloned().collect::<Vec<_>>() {
            let lost: Vec<String> = self.folders[&path]
                .names
                .iter()
                .filter(|(name, entry)| {
                    **entry == Entry::Folder && !self.folders.contains_key(&path.join(name))
                })
                .map(|(name, _)| name.clone())
                .collect();
            let folder = self.folders.get_mut(&path);
            let folder = folder.expect("invariant: the path is one of the keys");
            for name in lost {
                folder.names.remove(&name);
                folder.synced.remove(&name);
            }
        }
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.operation()?;
        if state.inode(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.change(path, Some(Entry::File(inode)))?;
        state.files.insert(inode, FileState::default());
        Ok(self.handle(&state, inode))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.operation()?;
        let inode = state.inode(path)?;
        Ok(self.handle(&state, inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        let inode = state.inode(from)?;
        let (parent, _) = split(to)?;
        if !state.folders.contains_key(parent) {
            return Err(not_found());
        }
        state.change(to, Some(Entry::File(inode)))?;
        state.change(from, None)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        state.inode(path)?;
        state.change(path, None)
    }

    fn replace_and_erase(&self, from: &Path, to: &Path) -> io::Result<()> {
        let replaced = self.state().inode(to).ok();
        self.rename(from, to)?;
        self.sync_folder(split(to)?.0)?;
        let mut state = self.operation()?;
        if let Some(inode) = replaced {
            let file = state.file(inode);
            file.bytes.fill(0);
            file.synced.clone_from(&file.bytes);
        }
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        if state.folders.contains_key(path) {
            return Ok(());
        }
        state.change(path, Some(Entry::Folder))?;
        state.folders.insert(path.to_owned(), Folder::default());
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        let folder = state.folders.get_mut(path).ok_or_else(not_found)?;
        folder.synced = folder.names.clone();
        folder.changes.clear();
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.operation()?;
        let folder = state.folders.get(path);
        Ok(folder.map_or_else(Vec::new, |it| it.names.keys().cloned().collect()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.operation()?;
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock {
            disk: self.clone(),
            path: path.to_owned(),
            epoch: state.epoch,
        }))
    }
}

struct Lock {
    disk: SimulatedDisk,
    path: PathBuf,
    epoch: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.epoch == self.epoch {
            state.locks.remove(&self.path);
        }
    }
}

impl SimulatedDisk {
    fn handle(&self, state: &State, inode: Inode) -> Arc<dyn DiskFile> {
        Arc::new(Handle {
            disk: self.clone(),
            inode,
            epoch: state.epoch,
        })
    }
}

struct Handle {
    disk: SimulatedDisk,
    inode: Inode,
    epoch: u64,
}

impl Handle {
    fn operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.operation()?;
        if state.epoch != self.epoch {
            return Err(io::Error::other(
                "the file was opened before the power failed",
            ));
        }
        Ok(state)
    }
}

impl DiskFile for Handle {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.operation()?;
        let used: u64 = state.files.values().map(|it| it.bytes.len() as u64).sum();
        let capacity = state.faults.capacity_bytes;
        let room = match capacity {
            0 => u64::MAX,
            capacity => capacity.saturating_sub(used),
        };
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let file = state.file(self.inode);
        let end = offset + fits;
        if file.bytes.len() < end {
            file.bytes.resize(end, 0);
        }
        file.bytes[offset..end].copy_from_slice(&bytes[..fits]);
        if fits < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut state = self.operation()?;
        let file = state.file(self.inode);
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let rest = file.bytes.get(offset..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.operation()?.file(self.inode).bytes.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        match self.operation() {
            Ok(mut state) => {
                let file = state.file(self.inode);
                if !file.lost {
                    file.synced.clone_from(&file.bytes);
                }
                Ok(())
            }
            Err(error) => {
                self.disk.state().file(self.inode).lost = true;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (SimulatedDisk, Arc<dyn DiskFile>, PathBuf) {
        let disk = SimulatedDisk::new(1);
        disk.create_folder(Path::new("/a")).unwrap();
        disk.sync_folder(Path::new("/")).unwrap();
        let path = PathBuf::from("/a/f");
        let file = disk.create(&path).unwrap();
        (disk, file, path)
    }

    fn read(disk: &SimulatedDisk, path: &Path) -> Option<Vec<u8>> {
        let file = disk.open(path).ok()?;
        let mut bytes = vec![0; usize::try_from(file.size_bytes().unwrap()).unwrap()];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        Some(bytes)
    }

    #[test]
    fn what_was_synced_stays_bytes_and_name_apart() {
        let (disk, file, path) = disk();
        file.write_at(0, b"kept").unwrap();
        file.sync().unwrap();
        disk.sync_folder(Path::new("/a")).unwrap();
        file.write_at(4, b"more").unwrap();
        disk.lose_power();
        assert!(read(&disk, &path).unwrap().starts_with(b"kept"));
        assert!(file.write_at(0, b"dead").is_err());
    }

    #[test]
    fn a_name_or_bytes_that_were_not_synced_are_sometimes_lost() {
        let mut seen = BTreeSet::new();
        for seed in 0..64 {
            let disk = SimulatedDisk::new(seed);
            let path = Path::new("/f");
            let file = disk.create(path).unwrap();
            file.write_at(0, b"ab").unwrap();
            disk.lose_power();
            seen.insert(read(&disk, path));
        }
        for outcome in [None, Some(&b""[..]), Some(b"ab"), Some(b"\0\0"), Some(b"a")] {
            assert!(seen.contains(&outcome.map(<[u8]>::to_vec)), "{outcome:?}");
        }
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_a_later_one() {
        let (disk, file, path) = disk();
        disk.sync_folder(Path::new("/a")).unwrap();
        file.write_at(0, b"gone").unwrap();
        disk.set_faults(DiskFaults {
            errors_per_mille: 1_000,
            ..DiskFaults::default()
        });
        assert!(file.sync().is_err());
        disk.set_faults(DiskFaults::default());
        file.sync().unwrap();
        disk.lose_power();
        assert_eq!(read(&disk, &path).unwrap(), b"");
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_says_so() {
        let (disk, file, path) = disk();
        disk.set_faults(DiskFaults {
            capacity_bytes: 3,
            ..DiskFaults::default()
        });
        let refused = file.write_at(0, b"four").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(read(&disk, &path).unwrap(), b"fou");
    }
}

//! What is known of every worker, in memory, kept true by what shims say and by looking.
//!
//! A shim sends a datagram when its worker changes. Datagrams may be lost and shims may die, so
//! every second the watcher also looks at the workers that have not ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lepton_types::{Clock, Name, SystemClock};
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::files;
use crate::record::{self, CgroupParents, ExitRecord, Plan, RunningRecord};
use crate::{
    ExitOutcome, LostReason, Observation, StartError, StopReason, Usage, Wake, WorkloadId, shim,
};

/// How long a change may stay unseen when its datagram is lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a shim has to take its lock and claim before another is started.
const CLAIM_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Index {
    root: PathBuf,
    binary: PathBuf,
    cgroups: CgroupParents,
    entries: Mutex<BTreeMap<WorkloadId, Entry>>,
    wakes: Mutex<Vec<Wake>>,
    socket: UnixDatagram,
    closing: AtomicBool,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

struct Entry {
    project: Name,
    observation: Observation,
    addresses: BTreeMap<String, SocketAddr>,
    /// When a shim was last started for it; none while its folder is being made.
    spawned: Option<Instant>,
}

/// What a folder says.
enum Look {
    Is(Observation),
    /// No shim stands there and none ever claimed it: it may be started.
    Unclaimed,
}

impl Index {
    /// Reads every folder; starts shims for those that have none yet.
    pub(super) fn open(
        root: &Path,
        binary: &Path,
        cgroups: &CgroupParents,
    ) -> io::Result<Arc<Self>> {
        let this = Arc::new(Self {
            root: root.to_owned(),
            binary: binary.to_owned(),
            cgroups: cgroups.clone(),
            entries: Mutex::new(BTreeMap::new()),
            wakes: Mutex::new(Vec::new()),
            socket: bind(root)?,
            closing: AtomicBool::new(false),
            watcher: Mutex::new(None),
        });
        for entry in fs::read_dir(files::workers(root))? {
            let id = entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(id) = id {
                this.adopt(id)?;
            }
        }
        let watching = Arc::clone(&this);
        let watcher = std::thread::Builder::new()
            .name("workers".to_owned())
            .spawn(move || watching.watch())?;
        *lock(&this.watcher) = Some(watcher);
        Ok(this)
    }

    fn adopt(&self, id: WorkloadId) -> io::Result<()> {
        let dir = files::worker(&self.root, id);
        let Some(plan) = record::read::<Plan>(&dir, record::PLAN).unwrap_or(None) else {
            // The folder got its name with its plan in it; only a power cut can part them. What was
            // never claimed never ran.
            if dir.join(record::CLAIM).exists() {
                let lost = Observation::Lost {
                    reason: LostReason::RecordDamaged,
                };
                self.insert_entry(id, Name::default_project(), lost, BTreeMap::new());
            } else {
                fs::remove_dir_all(&dir)?;
            }
            return Ok(());
        };
        let addresses = plan
            .ports
            .into_iter()
            .map(|(name, port)| (name, SocketAddr::from(([127, 0, 0, 1], port))))
            .collect();
        self.insert_entry(id, plan.project, Observation::Starting, addresses);
        self.refresh(id);
        Ok(())
    }

    fn insert_entry(
        &self,
        id: WorkloadId,
        project: Name,
        observation: Observation,
        addresses: BTreeMap<String, SocketAddr>,
    ) {
        let long_ago = Instant::now()
            .checked_sub(CLAIM_WITHIN)
            .unwrap_or_else(Instant::now);
        let entry = Entry {
            project,
            observation,
            addresses,
            spawned: Some(long_ago),
        };
        lock(&self.entries).insert(id, entry);
    }

    /// Reserves an id; false if it is known already.
    pub(super) fn insert(
        &self,
        id: WorkloadId,
        project: &Name,
        alone: bool,
    ) -> Result<bool, StartError> {
        let mut entries = lock(&self.entries);
        if entries.contains_key(&id) {
            return Ok(false);
        }
        let other = entries
            .values()
            .find(|entry| !entry.observation.is_final() && entry.project != *project);
        if let (true, Some(other)) = (alone, other) {
            return Err(StartError::OtherProject {
                running: other.project.clone(),
            });
        }
        let entry = Entry {
            project: project.clone(),
            observation: Observation::Starting,
            addresses: BTreeMap::new(),
            spawned: None,
        };
        entries.insert(id, entry);
        Ok(true)
    }

    pub(super) fn set_addresses(&self, id: WorkloadId, addresses: BTreeMap<String, SocketAddr>) {
        if let Some(entry) = lock(&self.entries).get_mut(&id) {
            entry.addresses = addresses;
        }
    }

    /// The shim was started; from here on the folder says what is so.
    pub(super) fn started(&self, id: WorkloadId) {
        if let Some(entry) = lock(&self.entries).get_mut(&id) {
            entry.spawned = Some(Instant::now());
        }
        // Its first datagram may have come before.
        self.refresh(id);
    }

    pub(super) fn forget(&self, id: WorkloadId) {
        lock(&self.entries).remove(&id);
    }

    pub(super) fn observations(&self) -> BTreeMap<WorkloadId, Observation> {
        lock(&self.entries)
            .iter()
            .map(|(id, entry)| (*id, entry.observation.clone()))
            .collect()
    }

    pub(super) fn observation(&self, id: WorkloadId) -> Option<Observation> {
        Some(lock(&self.entries).get(&id)?.observation.clone())
    }

    pub(super) fn ports_in_use(&self) -> BTreeSet<u16> {
        lock(&self.entries)
            .values()
            .filter(|entry| !entry.observation.is_final())
            .flat_map(|entry| entry.addresses.values().map(SocketAddr::port))
            .collect()
    }

    pub(super) fn subscribe(&self, wake: Wake) {
        lock(&self.wakes).push(wake);
    }

    /// Starts a shim; returns when it stands on its own.
    pub(super) fn spawn(&self, dir: &Path) -> io::Result<()> {
        let status = Command::new(&self.binary)
            .arg("shim")
            .arg(dir)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "the supervisor ended with {status}"
            )))
        }
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        if let Ok(socket) = UnixDatagram::unbound() {
            // If it does not arrive, the watcher sees the flag within a second.
            let _ = socket.send_to(b"", address(&self.root, &self.root.join(record::NUDGE)).1);
        }
        if let Some(watcher) = lock(&self.watcher).take() {
            let _ = watcher.join();
        }
    }

    fn watch(&self) {
        let mut looked = Instant::now();
        let mut buffer = [0_u8; 64];
        while !self.closing.load(Ordering::SeqCst) {
            let said = self.socket.recv(&mut buffer).ok();
            let id = said
                .and_then(|length| std::str::from_utf8(&buffer[..length]).ok())
                .and_then(|text| text.parse().ok());
            let mut changed = id.is_some_and(|id| self.refresh(id));
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                for id in self.unfinished() {
                    changed |= self.refresh(id);
                }
            }
            if changed {
                let wakes = lock(&self.wakes).clone();
                wakes.iter().for_each(|wake| wake());
            }
        }
    }

    fn unfinished(&self) -> Vec<WorkloadId> {
        lock(&self.entries)
            .iter()
            .filter(|(_, entry)| !entry.observation.is_final())
            .map(|(id, _)| *id)
            .collect()
    }

    /// Looks at one folder; true if it says something new.
    fn refresh(&self, id: WorkloadId) -> bool {
        let dir = files::worker(&self.root, id);
        let (addresses, spawned) = match lock(&self.entries).get(&id) {
            Some(Entry {
                observation,
                addresses,
                spawned: Some(spawned),
                ..
            }) if !observation.is_final() => (addresses.clone(), *spawned),
            _ => return false,
        };
        let seen = match look(&dir, addresses) {
            Look::Is(observation) => observation,
            Look::Unclaimed if spawned.elapsed() < CLAIM_WITHIN => return false,
            Look::Unclaimed if self.spawn(&dir).is_ok() => {
                self.mark_spawned(id);
                return false;
            }
            // No shim can be started, so none will obey a request to stop.
            Look::Unclaimed => match end_unclaimed(&dir) {
                Some(ended) => ended,
                None => return false,
            },
        };
        if matches!(seen, Observation::Lost { .. }) {
            shim::kill_leftovers(&self.cgroups, id);
            shim::kill_marked(id);
        }
        let mut entries = lock(&self.entries);
        match entries.get_mut(&id) {
            Some(entry) if entry.observation != seen && !entry.observation.is_final() => {
                entry.observation = seen;
                true
            }
            _ => false,
        }
    }

    fn mark_spawned(&self, id: WorkloadId) {
        if let Some(entry) = lock(&self.entries).get_mut(&id) {
            entry.spawned = Some(Instant::now());
        }
    }
}

/// Reads a folder. The order matters, for a shim may pass through all its states meanwhile. It takes
/// its lock, then claims, and lets the lock go after it wrote its exit record: a claim that was seen
/// before the lock was found free belongs to a shim that is gone, and its record was there to be read
/// after that.
fn look(dir: &Path, addresses: BTreeMap<String, SocketAddr>) -> Look {
    let claimed = dir.join(record::CLAIM).exists();
    let lives = shim_lives(dir);
    if let Some(ended) = ended(dir) {
        return Look::Is(ended);
    }
    match (claimed, lives) {
        (_, true) => Look::Is(running(dir, addresses)),
        (true, false) => Look::Is(Observation::Lost {
            reason: LostReason::ShimDied,
        }),
        (false, false) => Look::Unclaimed,
    }
}

fn running(dir: &Path, addresses: BTreeMap<String, SocketAddr>) -> Observation {
    match record::read::<RunningRecord>(dir, record::RUNNING) {
        Ok(Some(RunningRecord {
            pid,
            since,
            enforcement,
        })) => Observation::Running {
            pid,
            since,
            addresses,
            enforcement,
        },
        _ => Observation::Starting,
    }
}

/// Ends a worker that was asked to stop before any shim claimed it: by claiming it, so that none will.
fn end_unclaimed(dir: &Path) -> Option<Observation> {
    let reason = record::read::<StopReason>(dir, record::STOP).ok()??;
    record::create(&dir.join(record::CLAIM))
        .ok()?
        .sync_all()
        .ok()?;
    let record = ExitRecord {
        outcome: ExitOutcome::Stopped(reason),
        started_at: None,
        finished_at: SystemClock.now(),
        usage: Usage::default(),
    };
    record::write_exit(dir, &record).ok()?;
    ended(dir)
}

fn ended(dir: &Path) -> Option<Observation> {
    match record::read::<ExitRecord>(dir, record::EXIT) {
        Ok(None) => None,
        Ok(Some(ExitRecord {
            outcome,
            started_at,
            finished_at,
            usage,
        })) => Some(Observation::Exited {
            outcome,
            started_at,
            finished_at,
            usage,
        }),
        Err(_) => Some(Observation::Lost {
            reason: LostReason::RecordDamaged,
        }),
    }
}

/// Whether a process holds the lock. Asking does not take it, so it disturbs no shim that starts.
fn shim_lives(dir: &Path) -> bool {
    let Ok(file) = File::options().write(true).open(dir.join(record::LOCK)) else {
        return false;
    };
    let whole = Flock::from(FlockType::WriteLock);
    matches!(fcntl_getlk(&file, &whole), Ok(Some(_)))
}

fn bind(root: &Path) -> io::Result<UnixDatagram> {
    let path = root.join(record::NUDGE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_held, short) = address(root, &path);
    let socket = UnixDatagram::bind(&short)?;
    // No worker of another user may nudge.
    fs::set_permissions(&short, fs::Permissions::from_mode(0o600))?;
    // Twice as often, so that a datagram just before does not put the look off for long.
    socket.set_read_timeout(Some(LOOK_EVERY / 2))?;
    Ok(socket)
}

/// A name for the socket that fits its 108 bytes, however long the folder's is; valid while the
/// returned folder is open.
fn address(root: &Path, otherwise: &Path) -> (Option<File>, PathBuf) {
    match File::open(root) {
        Ok(held) => {
            let short = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
            (Some(held), short.join(record::NUDGE))
        }
        Err(_) => (None, otherwise.to_owned()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

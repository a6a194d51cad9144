//! Workers as processes of this machine, each under a [shim](crate::shim) that outlives the server.
//!
//! Owns: the folder of all workers, and an index of it in memory. What is true stands in the folders;
//! a server that starts anew finds everything there. Must not know what happens inside a shim beyond
//! the records it leaves.

mod files;
mod index;
mod ports;
mod users;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lepton_types::Name;

use self::index::Index;
use self::ports::Ports;
use self::users::Users;
use crate::record::CgroupParents;
use crate::{
    Executor, LogChunk, LogStream, Observation, ObserveError, ReadError, RemoveError, StartError,
    StopError, StopReason, StorageError, Wake, WorkloadId, WorkloadSpec, shim,
};

/// A killed server's last child becomes the shim within this time, on any machine that works.
const LOCK_WITHIN: Duration = Duration::from_millis(1_500);
const LOCK_AGAIN_EVERY: Duration = Duration::from_millis(5);

/// Which user workers run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Every project gets a user of its own, numbered from `base`. Needs root.
    ProjectUid {
        /// The first number; nothing else on the machine may use the numbers from here on.
        base: u32,
    },
    /// The server's own user, so one trust domain: a worker is refused while another project's run.
    OneProject,
    /// The server's own user for everything: all projects trust each other, and the server.
    Shared,
}

impl Isolation {
    /// Far above the users of people and services, below `nobody` of 32-bit systems.
    const BASE: u32 = 700_000;

    /// What this process may do: users of their own as root, else one project.
    #[must_use]
    pub fn best() -> Self {
        if rustix::process::geteuid().is_root() {
            Self::ProjectUid { base: Self::BASE }
        } else {
            Self::OneProject
        }
    }
}

/// Where and how workers run.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The folder of all workers; made if absent. One executor at a time opens it.
    pub root: PathBuf,
    /// The program that becomes the shim when its arguments are `shim DIR`, and runs built-in workers.
    pub binary: PathBuf,
    /// Which user workers run as.
    pub isolation: Isolation,
    /// Their `PATH`.
    pub path: String,
    /// Their `LANG`.
    pub lang: String,
    /// What their users must reach besides `path` and `binary`: shared libraries, models.
    pub readable: Vec<PathBuf>,
    /// Where named ports are taken from: below the range from which the kernel takes the ports of
    /// outgoing connections.
    pub ports: RangeInclusive<u16>,
    /// The most processes and threads of one worker.
    pub processes_max: u32,
    /// Whether control groups are used where they are writable.
    pub cgroups: bool,
}

impl LocalConfig {
    /// The usual configuration: `PATH` and `LANG` of this process, the best isolation it can have.
    #[must_use]
    pub fn at(root: PathBuf, binary: PathBuf) -> Self {
        let variable =
            |name, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
        Self {
            root,
            binary,
            isolation: Isolation::best(),
            path: variable("PATH", "/usr/local/bin:/usr/bin:/bin"),
            lang: variable("LANG", "C.UTF-8"),
            readable: Vec::new(),
            ports: 21_000..=31_999,
            processes_max: 4_096,
            cgroups: true,
        }
    }
}

/// Why the executor did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another executor has the folder.
    #[error("the workers' folder is in use by another server")]
    InUse,
    /// The folder cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Only root can give workers users of their own.
    #[error("only root can run each project's workloads as a user of its own")]
    NotRoot,
}

/// The executor of one machine.
pub struct LocalExecutor {
    config: LocalConfig,
    cgroups: CgroupParents,
    users: Users,
    ports: Ports,
    index: Arc<Index>,
    /// Held for as long as this executor lives.
    _lock: File,
}

impl LocalExecutor {
    /// Opens the folder, adopts every worker in it, and begins to watch.
    ///
    /// # Errors
    /// Another server has it, it cannot be written, or the isolation is not possible.
    pub fn open(mut config: LocalConfig) -> Result<Self, OpenError> {
        if matches!(config.isolation, Isolation::ProjectUid { .. })
            && !rustix::process::geteuid().is_root()
        {
            return Err(OpenError::NotRoot);
        }
        let storage = |action| move |source| StorageError { action, source };
        for folder in [
            config.root.clone(),
            files::workers(&config.root),
            files::staging(&config.root),
        ] {
            make_folder(&folder).map_err(storage("create the workers' folder"))?;
        }
        config.root = config
            .root
            .canonicalize()
            .map_err(storage("find the workers' folder"))?;
        let lock = lock(&config.root)?;
        files::empty_staging(&config.root).map_err(storage("empty the staging folder"))?;
        let users = Users::open(&config.root, config.isolation)
            .map_err(storage("read the table of project users"))?;
        let cgroups = if config.cgroups {
            shim::probe_cgroups()
        } else {
            CgroupParents::default()
        };
        let index = Index::open(&config.root, &config.binary, &cgroups)
            .map_err(storage("read the workers' folder"))?;
        let ports = Ports::new(config.ports.clone());
        Ok(Self {
            config,
            cgroups,
            users,
            ports,
            index,
            _lock: lock,
        })
    }

    /// The number of the user that a project's workers run as, if it has one of its own.
    ///
    /// # Errors
    /// The table of users cannot be written.
    pub fn project_uid(&self, project: &Name) -> Result<Option<u32>, StorageError> {
        self.users.of(project)
    }

    fn create(&self, spec: &WorkloadSpec) -> Result<(), StartError> {
        let uid = self.users.of(&spec.project)?;
        let ports = self.ports.take(&spec.ports, &self.index.ports_in_use())?;
        let addresses = ports
            .iter()
            .map(|(name, port)| (name.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, *port))))
            .collect();
        self.index.set_addresses(spec.id, addresses);
        let plan = files::plan(&self.config, &self.cgroups, spec, ports, uid);
        let dir = files::create(&self.config.root, &plan, spec)?;
        self.index.spawn(&dir).map_err(|error| {
            // No shim exists, and none will: nothing else knows this folder.
            let _ = fs::remove_dir_all(&dir);
            StartError::Shim(error)
        })
    }
}

impl Executor for LocalExecutor {
    fn start(&self, spec: &WorkloadSpec) -> Result<(), StartError> {
        files::validate(spec)?;
        let alone = self.config.isolation == Isolation::OneProject;
        if !self.index.insert(spec.id, &spec.project, alone)? {
            return Ok(());
        }
        let started = self.create(spec);
        match &started {
            Ok(()) => self.index.started(spec.id),
            Err(_) => self.index.forget(spec.id),
        }
        started
    }

    fn observe(&self) -> Result<BTreeMap<WorkloadId, Observation>, ObserveError> {
        Ok(self.index.observations())
    }

    fn stop(&self, id: WorkloadId, reason: StopReason) -> Result<(), StopError> {
        if self
            .index
            .observation(id)
            .is_none_or(|seen| seen.is_final())
        {
            return Ok(());
        }
        files::ask_to_stop(&files::worker(&self.config.root, id), reason)?;
        Ok(())
    }

    fn remove(&self, id: WorkloadId) -> Result<(), RemoveError> {
        match self.index.observation(id) {
            None => return Ok(()),
            Some(seen) if !seen.is_final() => return Err(RemoveError::StillRunning { id }),
            Some(_) => {}
        }
        files::discard(&self.config.root, id)?;
        self.index.forget(id);
        Ok(())
    }

    fn read_log(
        &self,
        id: WorkloadId,
        stream: LogStream,
        cursor: u64,
        max: usize,
    ) -> Result<LogChunk, ReadError> {
        let Some(seen) = self.index.observation(id) else {
            return Err(ReadError::UnknownWorkload { id });
        };
        let dir = files::worker(&self.config.root, id);
        match files::read_log(&dir, stream, cursor, max, seen.is_final()) {
            // Its folder is not there yet, or no more.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                Err(ReadError::UnknownWorkload { id })
            }
            read => Ok(read?),
        }
    }

    fn read_file(&self, id: WorkloadId, path: &str, max: usize) -> Result<Vec<u8>, ReadError> {
        if self.index.observation(id).is_none() {
            return Err(ReadError::UnknownWorkload { id });
        }
        files::read_file(&files::worker(&self.config.root, id), path, max)
    }

    fn subscribe(&self, wake: Wake) {
        self.index.subscribe(wake);
    }
}

impl Drop for LocalExecutor {
    fn drop(&mut self) {
        self.index.close();
    }
}

/// Entered by every worker's user, listed by nobody but the server.
fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711))
}

/// Waits a moment for a lock that is going: a server that was killed while it started a shim leaves
/// its open files to that child until the child becomes the shim.
fn lock(root: &Path) -> Result<File, OpenError> {
    let storage = |source| StorageError {
        action: "lock the workers' folder",
        source,
    };
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(root.join("lock"))
        .map_err(storage)?;
    let deadline = Instant::now() + LOCK_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::park_timeout(LOCK_AGAIN_EVERY);
            }
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse),
            Err(TryLockError::Error(error)) => return Err(storage(error).into()),
        }
    }
}

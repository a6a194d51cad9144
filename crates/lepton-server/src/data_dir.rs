//! The data directory: its folders, and that one server at a time has it.
//!
//! Must not know: what is kept in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::start_error::StartError;

/// Makes the folders that are there from the first start.
pub(crate) fn prepare(data_dir: &Path) -> io::Result<()> {
    // Others may pass through to their workers' folders, and see nothing on the way.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(data_dir)?;
    for folder in ["objects", "credentials"] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir.join(folder))?;
    }
    Ok(())
}

/// Takes the directory for this process, as long as the file is open.
pub(crate) fn lock(data_dir: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::DataDir {
        data_dir: data_dir.to_owned(),
        source,
    };
    let path = data_dir.join("lock");
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options.open(path).map_err(failed)?;
    let deadline = Instant::now() + LOCK_LINGERS_MAX;
    while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.rewind().map_err(failed)?;
        file.read_to_string(&mut pid).map_err(failed)?;
        let pid = pid.trim().to_owned();
        if is_alive(&pid) || Instant::now() >= deadline {
            return Err(StartError::DataDirInUse {
                data_dir: data_dir.to_owned(),
                pid,
            });
        }
        std::thread::park_timeout(LOCK_POLL);
    }
    file.rewind().map_err(failed)?;
    file.set_len(0).map_err(failed)?;
    write!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// A server that is killed while it starts a shim leaves its open files, and the lock with them, to
/// that child until the child becomes the shim: milliseconds, on a busy machine more.
const LOCK_LINGERS_MAX: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(5);

/// Whether the process that wrote its id runs. One that has not yet written it does.
fn is_alive(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

//! The shim: one small process over each worker, of the same binary, that outlives the server.
//!
//! Owns: the claim that makes a start happen at most once, the worker's limits, time and logs, and
//! the record of its true end. It starts no thread and keeps little memory. Must not know the server:
//! it reads a plan, and leaves records.

mod cgroup;
mod footprint;
mod launch;
mod logs;
mod mounts;
mod supervise;
mod tree;
mod unpack;

pub(crate) use cgroup::{kill_leftovers, probe as probe_cgroups};
pub(crate) use tree::kill_marked;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;

use lepton_types::{Clock, SystemClock};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Pid, set_child_subreaper, setsid, umask};

use crate::record::{self, ExitRecord, Plan};
use crate::sys::{self, Fork};
use crate::{ExitOutcome, Usage, WorkloadId};

/// Supervises the worker whose folder is `dir`. The binary calls it for `shim DIR`, before it starts
/// any thread; the caller waits only until the shim stands on its own.
#[must_use]
pub fn main(dir: &Path) -> ExitCode {
    sys::close_inherited();
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    match sys::fork() {
        Ok(Fork::Parent(_)) => ExitCode::SUCCESS,
        Ok(Fork::Child) => {
            // What goes wrong before the claim leaves the worker unclaimed: the server tries again.
            // What goes wrong after it leaves no exit record: the worker is lost.
            match detach(dir).and_then(|()| stand_over()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Leaves the server's session; works in the worker's folder from here on.
fn detach(dir: &Path) -> io::Result<()> {
    setsid()?;
    std::env::set_current_dir(dir)?;
    set_child_subreaper(Some(Pid::INIT))?;
    Ok(())
}

/// From lock to exit record.
fn stand_over() -> io::Result<()> {
    let here = Path::new(".");
    let lock = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(record::LOCK)?;
    if fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        // Another shim stands here already.
        return Ok(());
    }
    let Some(plan) = record::read::<Plan>(here, record::PLAN)? else {
        return Ok(());
    };
    if !claim()? {
        // An earlier shim ran it, or may have.
        return Ok(());
    }
    let id = plan.id;
    let ended = match supervise::supervise(plan) {
        Ok(ended) => ended,
        Err(error) => ExitRecord {
            outcome: ExitOutcome::CouldNotStart(record::bounded_message(&error.to_string())),
            started_at: None,
            finished_at: SystemClock.now(),
            usage: Usage::default(),
        },
    };
    record::write_exit(here, &ended)?;
    drop(lock);
    nudge(id);
    Ok(())
}

/// Whether this shim may run the worker: the first one may, and it will be known after a power cut.
fn claim() -> io::Result<bool> {
    match record::create(Path::new(record::CLAIM)) {
        Ok(file) => {
            file.sync_all()?;
            record::sync_dir(Path::new("."))?;
            // The folder's own name must be as durable as the claim in it.
            record::sync_dir(Path::new(".."))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells a server, if one listens, that something changed. It also looks by itself, so a lost
/// datagram costs a second.
fn nudge(id: WorkloadId) {
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.set_nonblocking(true);
        let _ = socket.send_to(
            id.to_string().as_bytes(),
            Path::new("../..").join(record::NUDGE),
        );
    }
}

/// A descriptor that reads nothing and swallows everything.
fn null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

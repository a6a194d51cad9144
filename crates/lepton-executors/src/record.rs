//! The files of a worker's folder, shared by the server and the shim: their names, their contents,
//! and how each reaches the disk.
//!
//! ```text
//! plan.json      what to run; written by the server before the folder gets its name
//! lock           held (fcntl) by the shim for as long as it lives
//! claim          created exclusively and synced before anything runs: it ran, or may have
//! control        a pipe into the shim; readable only while the shim lives
//! stop           the reason for which it was asked to stop
//! running.json   the program runs
//! exit.json      the true end; final. Its room is reserved beforehand as `exit.tmp`
//! stdout.N stderr.N   segments of the logs; N is the position of their first byte
//! work/ tmp/ secrets/   the worker's own, and its user's
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lepton_types::{DurationMs, Resources, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Enforcement, ExitOutcome, Input, Program, Usage, WorkloadId};

pub(crate) const PLAN: &str = "plan.json";
pub(crate) const LOCK: &str = "lock";
pub(crate) const CLAIM: &str = "claim";
pub(crate) const CONTROL: &str = "control";
pub(crate) const STOP: &str = "stop";
pub(crate) const RUNNING: &str = "running.json";
pub(crate) const EXIT: &str = "exit.json";
pub(crate) const EXIT_RESERVED: &str = "exit.tmp";
pub(crate) const WORK: &str = "work";
pub(crate) const TMP: &str = "tmp";
pub(crate) const SECRETS: &str = "secrets";
/// Beside the folder of all workers: where shims tell the server that something changed.
pub(crate) const NUDGE: &str = "nudge";

/// One block: the exit record always fits, so a full disk cannot hide how a worker ended.
const EXIT_BYTES: usize = 4096;
/// So that the record stays below [`EXIT_BYTES`] even if every byte is escaped.
const MESSAGE_BYTES_MAX: usize = 500;

/// What the server tells the shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) id: WorkloadId,
    pub(crate) project: lepton_types::Name,
    pub(crate) program: Program,
    pub(crate) binary: PathBuf,
    pub(crate) inputs: Vec<Input>,
    pub(crate) path: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) resources: Resources,
    pub(crate) timeout: Option<DurationMs>,
    pub(crate) grace: DurationMs,
    pub(crate) ports: BTreeMap<String, u16>,
    pub(crate) log_bytes_max: u64,
    /// The user (and group) to become; none keeps the server's.
    pub(crate) uid: Option<u32>,
    pub(crate) readable: Vec<PathBuf>,
    pub(crate) cgroups: CgroupParents,
    pub(crate) processes_max: u32,
}

/// The writable control groups below which each worker gets its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupParents {
    /// Version 2: one group for everything.
    pub(crate) unified: Option<PathBuf>,
    /// Version 1: one hierarchy per controller.
    pub(crate) memory: Option<PathBuf>,
    pub(crate) cpu: Option<PathBuf>,
    pub(crate) pids: Option<PathBuf>,
}

/// The program runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunningRecord {
    pub(crate) pid: u32,
    pub(crate) since: Timestamp,
    pub(crate) enforcement: Enforcement,
}

/// The worker has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) outcome: ExitOutcome,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
    pub(crate) usage: Usage,
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A new file that only its owner reads.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Replaces `dir/name` as one step, for a reader; not synced.
pub(crate) fn replace<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    let staged = dir.join(format!("{name}.tmp"));
    let result = std::fs::remove_file(&staged)
        .or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .and_then(|()| create(&staged)?.write_all(&serde_json::to_vec(value)?))
        .and_then(|()| std::fs::rename(&staged, dir.join(name)));
    if result.is_err() {
        // The half-written file helps nobody; a failure to delete it changes nothing.
        let _ = std::fs::remove_file(&staged);
    }
    result
}

/// Reads a record; none if the file is not there.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> io::Result<Option<T>> {
    match std::fs::read(dir.join(name)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the room of the exit record before anything runs.
pub(crate) fn reserve_exit(dir: &Path) -> io::Result<()> {
    create(&dir.join(EXIT_RESERVED))?.write_all(&[b' '; EXIT_BYTES])
}

/// Writes the exit record into its reserved room; returns once it would survive a power cut.
pub(crate) fn write_exit(dir: &Path, record: &ExitRecord) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(record)?;
    bytes.resize(EXIT_BYTES.max(bytes.len()), b' ');
    let staged = dir.join(EXIT_RESERVED);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&staged)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_data()?;
    std::fs::rename(&staged, dir.join(EXIT))?;
    sync_dir(dir)
}

/// A message that fits the exit record.
pub(crate) fn bounded_message(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// The segments of one log, by the position of their first byte.
pub(crate) fn log_segments(dir: &Path, stream: &str) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let position = name
            .to_str()
            .and_then(|name| name.strip_prefix(stream)?.strip_prefix('.')?.parse().ok());
        if let Some(position) = position {
            found.insert(position, entry.path());
        }
    }
    Ok(found)
}

/// The name of a segment.
pub(crate) fn log_segment(stream: &str, position: u64) -> String {
    format!("{stream}.{position}")
}

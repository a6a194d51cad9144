//! A worker's folder as the server sees it: made whole under another name, read, and thrown away.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, openat};

use super::LocalConfig;
use crate::record::{self, CgroupParents, Plan};
use crate::{
    Input, InvalidSpec, LogChunk, LogStream, Program, ReadError, StartError, StopReason,
    StorageError, WorkloadId, WorkloadSpec,
};

/// The kernel takes at most 2 MiB of arguments and environment on a usual stack.
const WORDS_BYTES_MAX: usize = 1 << 20;
const INPUTS_MAX: usize = 1_000;
const PORTS_MAX: usize = 16;
const SECRETS_MAX: usize = 100;

pub(super) fn workers(root: &Path) -> PathBuf {
    root.join("workers")
}

pub(super) fn staging(root: &Path) -> PathBuf {
    root.join("staging")
}

pub(super) fn worker(root: &Path, id: WorkloadId) -> PathBuf {
    workers(root).join(id.to_string())
}

/// What a start that was cut off left, and what a removal did not finish.
pub(super) fn empty_staging(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(staging(root))? {
        fs::remove_dir_all(entry?.path())?;
    }
    Ok(())
}

/// Refuses what could not start anywhere.
pub(super) fn validate(spec: &WorkloadSpec) -> Result<(), InvalidSpec> {
    let invalid = |field, rule| Err(InvalidSpec { field, rule });
    let words = match &spec.program {
        Program::Command(words) if words.first().is_none_or(String::is_empty) => {
            return invalid("command", "it must not be empty");
        }
        Program::Command(words) | Program::Builtin(words) => words,
    };
    let env = spec.env.iter().flat_map(|(name, value)| [name, value]);
    let all = || words.iter().chain(env.clone());
    if all().any(|text| text.contains('\0')) {
        return invalid("command", "no argument or variable may contain a zero byte");
    }
    if all().map(String::len).sum::<usize>() > WORDS_BYTES_MAX {
        return invalid(
            "command",
            "arguments and environment may take 1 MiB together",
        );
    }
    if spec
        .env
        .keys()
        .any(|name| name.is_empty() || name.contains('='))
    {
        return invalid(
            "environment",
            "a variable's name must not be empty or contain `=`",
        );
    }
    let plain = |name: &String| {
        !name.is_empty()
            && name.len() <= 255
            && name != "."
            && name != ".."
            && !name.contains(['/', '\0'])
    };
    if spec.secrets.len() > SECRETS_MAX || !spec.secrets.keys().all(plain) {
        return invalid("secrets", "at most 100, each named as a file");
    }
    let label = |name: &String| {
        (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if spec.ports.len() > PORTS_MAX || !spec.ports.iter().all(label) {
        return invalid(
            "ports",
            "at most 16, named with letters, digits, `-` and `_`",
        );
    }
    let below = |input: &Input| match input {
        Input::Archive { .. } => true,
        Input::File { path, .. } => {
            !path.is_empty()
                && Path::new(path)
                    .components()
                    .all(|c| matches!(c, Component::Normal(_)))
        }
    };
    if spec.inputs.len() > INPUTS_MAX || !spec.inputs.iter().all(below) {
        return invalid("inputs", "at most 1,000, each below the working directory");
    }
    Ok(())
}

pub(super) fn plan(
    config: &LocalConfig,
    cgroups: &CgroupParents,
    spec: &WorkloadSpec,
    ports: BTreeMap<String, u16>,
    uid: Option<u32>,
) -> Plan {
    let mut env = spec.env.clone();
    env.entry("LANG".to_owned())
        .or_insert_with(|| config.lang.clone());
    Plan {
        id: spec.id,
        project: spec.project.clone(),
        program: spec.program.clone(),
        binary: config.binary.clone(),
        inputs: spec.inputs.clone(),
        path: config.path.clone(),
        env,
        resources: spec.resources,
        timeout: spec.timeout,
        grace: spec.grace,
        ports,
        log_bytes_max: spec.log_bytes_max,
        uid,
        readable: config.readable.clone(),
        cgroups: cgroups.clone(),
        processes_max: config.processes_max,
    }
}

/// Makes the worker's folder; it appears as a whole or not at all.
pub(super) fn create(root: &Path, plan: &Plan, spec: &WorkloadSpec) -> Result<PathBuf, StartError> {
    for input in &spec.inputs {
        let (Input::Archive { source } | Input::File { source, .. }) = input;
        fs::metadata(source).map_err(StartError::InputMissing)?;
    }
    let staged = staging(root).join(plan.id.to_string());
    let dir = worker(root, plan.id);
    let made = fill(&staged, plan, spec).and_then(|()| fs::rename(&staged, &dir));
    made.map_err(|source| {
        let _ = fs::remove_dir_all(&staged);
        StorageError {
            action: "create the worker's folder",
            source,
        }
    })?;
    Ok(dir)
}

fn fill(staged: &Path, plan: &Plan, spec: &WorkloadSpec) -> io::Result<()> {
    // A failed start of the same id may have left it.
    if staged.exists() {
        fs::remove_dir_all(staged)?;
    }
    folder(staged, 0o711)?;
    for name in [record::WORK, record::TMP, record::SECRETS] {
        folder(&staged.join(name), 0o700)?;
    }
    for (name, secret) in &spec.secrets {
        let path = staged.join(record::SECRETS).join(name);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&path)?;
        file.write_all(secret.reveal().as_bytes())?;
        chown(&path, plan.uid, plan.uid)?;
    }
    for name in [record::WORK, record::TMP, record::SECRETS] {
        chown(staged.join(name), plan.uid, plan.uid)?;
    }
    rustix::fs::mknodat(
        rustix::fs::CWD,
        staged.join(record::CONTROL),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )?;
    record::reserve_exit(staged)?;
    record::create(&staged.join(record::PLAN))?.write_all(&serde_json::to_vec(plan)?)
}

fn folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    // Whatever the umask of the server is.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Leaves the reason in the folder, for a shim that does not stand yet, and sends it into the pipe,
/// for one that does. Either alone is enough: on a full disk the pipe still works.
pub(super) fn ask_to_stop(dir: &Path, reason: StopReason) -> Result<(), StorageError> {
    let left = if dir.join(record::STOP).exists() {
        Ok(())
    } else {
        record::replace(dir, record::STOP, &reason)
    };
    let sent = File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(dir.join(record::CONTROL))
        .and_then(|mut pipe| {
            let mut line = serde_json::to_vec(&reason)?;
            line.push(b'\n');
            pipe.write_all(&line)
        });
    match (left, sent) {
        (Err(source), Err(_)) => Err(StorageError {
            action: "ask the worker to stop",
            source,
        }),
        _ => Ok(()),
    }
}

/// Takes a worker's folder out of sight in one step, then deletes it.
pub(super) fn discard(root: &Path, id: WorkloadId) -> Result<(), StorageError> {
    let trash = staging(root).join(format!("{id}.removed"));
    let removed = match fs::rename(worker(root, id), &trash) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => fs::remove_dir_all(&trash),
    };
    removed.map_err(|source| StorageError {
        action: "delete the worker's folder",
        source,
    })
}

/// Reads from the segment that holds `cursor`, or from the next that is left.
pub(super) fn read_log(
    dir: &Path,
    stream: LogStream,
    cursor: u64,
    max: usize,
    finished: bool,
) -> Result<LogChunk, StorageError> {
    let read = || -> io::Result<LogChunk> {
        let mut at = cursor;
        let mut bytes = Vec::new();
        let mut truncated = false;
        for (begin, path) in record::log_segments(dir, stream.as_str())? {
            let mut file = match File::open(path) {
                Ok(file) => file,
                // The shim deleted it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let end = begin + file.metadata()?.len();
            if end <= at || bytes.len() >= max {
                continue;
            }
            if begin > at {
                if !bytes.is_empty() {
                    // A gap ends the piece, so that the caller learns where it is.
                    break;
                }
                truncated = true;
                at = begin;
            }
            file.seek(SeekFrom::Start(at - begin))?;
            let room = (max - bytes.len()) as u64;
            at += file.take(room).read_to_end(&mut bytes)? as u64;
        }
        let end = finished && bytes.len() < max && !more_after(dir, stream, at)?;
        Ok(LogChunk {
            bytes,
            next: at,
            end,
            truncated,
        })
    };
    read().map_err(|source| StorageError {
        action: "read the worker's log",
        source,
    })
}

fn more_after(dir: &Path, stream: LogStream, position: u64) -> io::Result<bool> {
    for (begin, path) in record::log_segments(dir, stream.as_str())? {
        if begin + fs::metadata(path)?.len() > position {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opens step by step without following a link: the worker may change its folder while we read.
pub(super) fn read_file(dir: &Path, path: &str, max: usize) -> Result<Vec<u8>, ReadError> {
    let refused = || ReadError::NotAFile {
        path: path.to_owned(),
    };
    let failed = |error: rustix::io::Errno| match error {
        rustix::io::Errno::NOENT => ReadError::NotFound {
            path: path.to_owned(),
        },
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => refused(),
        other => ReadError::Storage(StorageError {
            action: "read a file of the worker",
            source: other.into(),
        }),
    };
    let names: Vec<&std::ffi::OsStr> = Path::new(path)
        .components()
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(refused()),
        })
        .collect::<Result<_, _>>()?;
    let (last, folders) = names.split_last().ok_or_else(refused)?;
    let no_links = OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let enter = no_links | OFlags::DIRECTORY | OFlags::RDONLY;
    let work = dir.join(record::WORK);
    let mut at: OwnedFd = openat(rustix::fs::CWD, &work, enter, Mode::empty()).map_err(failed)?;
    let owner = rustix::fs::fstat(&at).map_err(failed)?.st_uid;
    for folder in folders {
        at = openat(&at, *folder, enter, Mode::empty()).map_err(failed)?;
    }
    // A pipe in place of a file must not keep us waiting.
    let flags = no_links | OFlags::RDONLY | OFlags::NONBLOCK;
    let file = openat(&at, *last, flags, Mode::empty()).map_err(failed)?;
    let found = rustix::fs::fstat(&file).map_err(failed)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    // A hard link must not lend the worker the server's eyes.
    if kind != FileType::RegularFile || found.st_uid != owner {
        return Err(refused());
    }
    let mut bytes = Vec::new();
    let limit = (max as u64).saturating_add(1);
    File::from(file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|source| StorageError {
            action: "read a file of the worker",
            source,
        })?;
    if bytes.len() > max {
        return Err(ReadError::TooLarge {
            path: path.to_owned(),
            max,
        });
    }
    Ok(bytes)
}

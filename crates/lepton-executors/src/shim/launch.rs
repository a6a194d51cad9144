//! From a fork of the shim to the worker's program: groups, view, user, folder, inputs, environment.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit, setsid,
};
use rustix::thread::{
    CpuSet, sched_getaffinity, sched_setaffinity, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::cgroup::Cgroup;
use super::{mounts, null, unpack};
use crate::record::{Plan, SECRETS, TMP, WORK};
use crate::{CpuEnforcement, Enforcement, Program, sys};

/// When the machine runs out of memory, workers go before the server and the shims.
const OOM_SCORE_ADJUSTMENT: &str = "300";

/// A pipe whose reading end does not wait; both ends close on `exec`.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::fs::{OFlags, fcntl_setfl};
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    fcntl_setfl(&read, OFlags::NONBLOCK)?;
    Ok((read, write))
}

/// Turns the calling process, a fork of the shim, into the worker's program; or says on `status` why
/// not, and ends.
pub(super) fn become_program(
    plan: &Plan,
    cgroup: &Cgroup,
    enforcement: Enforcement,
    output: &[OwnedFd; 2],
    status: OwnedFd,
) -> ! {
    let why = match prepare(plan, cgroup, enforcement, output) {
        Ok((mut command, hidden)) => explain(&command.exec(), plan, hidden.as_deref()),
        Err(why) => why,
    };
    // The shim reads until the pipe closes; if it is gone, nobody wants to know.
    let _ = fs::File::from(status).write_all(why.as_bytes());
    std::process::exit(127)
}

fn prepare(
    plan: &Plan,
    cgroup: &Cgroup,
    enforcement: Enforcement,
    output: &[OwnedFd; 2],
) -> Result<(Command, Option<PathBuf>), String> {
    let shim = getppid();
    let setup = |error: io::Error| format!("its surroundings could not be set up: {error}");
    let own = std::env::current_dir().map_err(setup)?;
    // A session of its own: signals of terminals stay away, and the group is the worker's.
    setsid().map_err(|error| setup(error.into()))?;
    sys::unblock_signals().map_err(setup)?;
    cgroup.join().map_err(setup)?;
    let [stdout, stderr] = output;
    replace_standard(stdout, stderr).map_err(setup)?;
    // Not permitted in some containers, and then no loss.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUSTMENT);
    if enforcement.cpu == CpuEnforcement::Pinned {
        pin(plan).map_err(setup)?;
    }
    let environment = environment(plan, &own);
    let inputs = unpack::open(&plan.inputs)?;
    let (program, arguments) = program(plan, &own, &environment)?;
    let mut hidden = None;
    if let Some(uid) = plan.uid {
        hidden = mounts::outermost_blocked(&program, uid);
        mounts::arrange(&mounts::Needs {
            uid,
            own: &own,
            tools: tools(plan, &program),
        })?;
    }
    limit(plan).map_err(setup)?;
    drop_privileges(plan.uid).map_err(setup)?;
    die_with(shim).map_err(setup)?;
    let work = own.join(WORK);
    std::env::set_current_dir(&work).map_err(setup)?;
    unpack::unpack(inputs)?;
    let mut command = Command::new(&program);
    command.args(arguments).env_clear().envs(environment);
    if let Program::Command(words) = &plan.program {
        command.arg0(&words[0]);
    }
    Ok((command, hidden))
}

fn replace_standard(stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
    sys::replace_standard(null()?.as_fd(), 0)?;
    sys::replace_standard(stdout.as_fd(), 1)?;
    sys::replace_standard(stderr.as_fd(), 2)
}

/// A clean environment, then what the plan adds; the last word is the mark by which the worker's
/// processes are found.
fn environment(plan: &Plan, own: &Path) -> BTreeMap<String, String> {
    let below = |name: &str| own.join(name).to_string_lossy().into_owned();
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), plan.path.clone()),
        ("HOME".to_owned(), below(WORK)),
        ("TMPDIR".to_owned(), below(TMP)),
        ("LEPTON_SECRETS".to_owned(), below(SECRETS)),
    ]);
    for (name, port) in &plan.ports {
        let name = name.to_ascii_uppercase().replace('-', "_");
        all.insert(format!("PORT_{name}"), port.to_string());
    }
    if let (1, Some(port)) = (plan.ports.len(), plan.ports.values().next()) {
        all.insert("PORT".to_owned(), port.to_string());
    }
    all.extend(plan.env.clone());
    all.insert("LEPTON_WORKLOAD".to_owned(), plan.id.to_string());
    all
}

/// The program's path and its arguments.
fn program<'a>(
    plan: &'a Plan,
    own: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<(PathBuf, &'a [String]), String> {
    let words = match &plan.program {
        Program::Builtin(arguments) => return Ok((plan.binary.clone(), arguments)),
        Program::Command(words) => words,
    };
    let Some((name, arguments)) = words.split_first() else {
        return Err("the command is empty".to_owned());
    };
    if name.contains('/') {
        return Ok((own.join(WORK).join(name), arguments));
    }
    let executable = |path: &PathBuf| {
        fs::metadata(path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let path = environment.get("PATH").map_or("", String::as_str);
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(executable)
        .map(|found| (found, arguments))
        .ok_or_else(|| format!("command `{name}` not found"))
}

/// Everything besides its own folder that the worker reaches by name: only what the server's own
/// configuration names. A command that a user spells out, or a `PATH` of their own, opens no folder
/// that is closed to them.
fn tools(plan: &Plan, program: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::env::split_paths(OsStr::new(&plan.path))
        .filter(|folder| folder.is_absolute())
        .collect();
    let by_name = matches!(&plan.program, Program::Command(words) if !words[0].contains('/'));
    let ours = program
        .parent()
        .is_some_and(|folder| all.iter().any(|one| one == folder));
    if by_name && ours {
        all.push(program.to_owned());
        all.extend(mounts::interpreters(program));
    }
    all.push(plan.binary.clone());
    all.extend(plan.readable.iter().cloned());
    all
}

fn limit(plan: &Plan) -> io::Result<()> {
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, nothing)?;
    let bounded_by_group = plan.cgroups.unified.is_some() || plan.cgroups.pids.is_some();
    if !bounded_by_group && plan.uid.is_some() {
        // Counts all processes of the project's user, so it is the weaker bound.
        let processes = Some(u64::from(plan.processes_max));
        setrlimit(
            Resource::Nproc,
            Rlimit {
                current: processes,
                maximum: processes,
            },
        )?;
    }
    Ok(())
}

fn drop_privileges(uid: Option<u32>) -> io::Result<()> {
    if let Some(number) = uid {
        let gid = rustix::process::Gid::from_raw(number);
        let uid = rustix::process::Uid::from_raw(number);
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
    }
    set_no_new_privs(true)?;
    Ok(())
}

/// The worker does not outlive a shim that is killed. Set after the user changed, which clears it.
fn die_with(shim: Option<Pid>) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == shim {
        Ok(())
    } else {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// As many processors as asked for, rounded up; which ones depends on the id, so that workers spread.
fn pin(plan: &Plan) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let all: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect();
    let wanted =
        usize::try_from(plan.resources.cpu.as_millis().div_ceil(1_000)).unwrap_or(usize::MAX);
    let text = plan.id.to_string();
    let first = text.bytes().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    let mut chosen = CpuSet::new();
    for offset in 0..wanted.min(all.len()) {
        chosen.set(all[first.wrapping_add(offset) % all.len()]);
    }
    sched_setaffinity(None, &chosen)?;
    Ok(())
}

/// Why the program did not start, for the person who wrote the command.
fn explain(error: &io::Error, plan: &Plan, hidden: Option<&Path>) -> String {
    let name = match &plan.program {
        Program::Command(words) => words.first().map_or("", String::as_str),
        Program::Builtin(_) => "lepton",
    };
    let unseen = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EACCES));
    if let (true, Some(folder)) = (unseen, hidden) {
        return format!(
            "`{name}` lies below `{}`, which the workload's user cannot enter; put its folder on the \
             server's PATH, or among those that workloads may read",
            folder.display()
        );
    }
    match error.raw_os_error() {
        Some(libc::ENOENT) => {
            format!("command `{name}` not found, or the interpreter that its first line names")
        }
        Some(libc::EACCES) => format!("`{name}` is not executable"),
        Some(libc::ENOEXEC) => {
            format!(
                "`{name}` is no program of this machine; a script needs a first line such as `#!/bin/sh`"
            )
        }
        Some(libc::E2BIG) => format!("the arguments and environment of `{name}` are too long"),
        _ => format!("`{name}` did not start: {error}"),
    }
}

//! The processes below the shim. Those whose parents end become its children (it is their
//! subreaper), so none escapes, whatever session or group it moved to.

use std::fs;
use std::path::PathBuf;

use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, kill_process_group, pidfd_open,
    pidfd_send_signal,
};

/// A tree larger than this is looked at in part; the limit on processes is far below it.
const PROCESSES_MAX: usize = 32 * 1024;

/// The processes whose parent is `pid`.
fn children(pid: Pid) -> Vec<Pid> {
    let tasks = PathBuf::from(format!("/proc/{}/task", pid.as_raw_nonzero()));
    let Ok(tasks) = fs::read_dir(tasks) else {
        return Vec::new();
    };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|text| {
            text.split_ascii_whitespace()
                .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// All below the shim, parents before their children.
fn descendants() -> Vec<Pid> {
    let mut found = children(getpid());
    let mut next = 0;
    while next < found.len() && found.len() < PROCESSES_MAX {
        let more = children(found[next]);
        found.extend(more);
        next += 1;
    }
    found
}

/// Whether nothing is left to wait for.
pub(super) fn is_empty() -> bool {
    children(getpid()).is_empty()
}

/// Ends the shim's own children. Their numbers cannot be taken by others: only the shim reaps them.
/// Their children become the shim's, so repeating this ends the tree.
pub(super) fn kill_children() {
    for pid in children(getpid()) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Signals the group of the main process, which the shim has not reaped yet, and then every process
/// below the shim that left that group.
pub(super) fn signal_all(main: Pid, signal: Signal) {
    let _ = kill_process(main, signal);
    let _ = kill_process_group(main, signal);
    for pid in descendants() {
        let outside = rustix::process::getpgid(Some(pid)).is_ok_and(|group| group != main);
        if outside {
            signal_descendant(pid, signal);
        }
    }
}

/// Signals `pid` if it is still below the shim once its number can no longer change its meaning.
fn signal_descendant(pid: Pid, signal: Signal) {
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if is_below(pid) {
        let _ = pidfd_send_signal(held, signal);
    }
}

fn is_below(pid: Pid) -> bool {
    let shim = getpid();
    let mut at = pid;
    // Bounded: the parents of a living process form no ring, but they may change while we look.
    for _ in 0..1_000 {
        match parent(at) {
            Some(parent) if parent == shim => return true,
            Some(parent) => at = parent,
            None => return false,
        }
    }
    false
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name in brackets may hold anything, so count from its end: state, then parent.
    let after_name = &stat[stat.rfind(')')? + 1..];
    Pid::from_raw(after_name.split_ascii_whitespace().nth(1)?.parse().ok()?)
}

/// Bytes of memory that the tree holds, not counting files. Shared memory counts once: if the plain
/// sum exceeds `limit`, the kernel is asked for each process's fair share, which costs more.
pub(super) fn memory_held(limit: u64) -> u64 {
    let pids = descendants();
    let plain: u64 = pids
        .iter()
        .map(|pid| sum_fields(*pid, "status", &["RssAnon:", "RssShmem:"]).unwrap_or(0))
        .sum();
    if plain <= limit {
        return plain;
    }
    pids.iter()
        .map(|pid| {
            sum_fields(*pid, "smaps_rollup", &["Pss_Anon:", "Pss_Shmem:"])
                .or_else(|| sum_fields(*pid, "status", &["RssAnon:", "RssShmem:"]))
                .unwrap_or(0)
        })
        .sum()
}

/// The sum of lines such as `RssAnon:  123 kB`, in bytes.
fn sum_fields(pid: Pid, file: &str, fields: &[&str]) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_nonzero())).ok()?;
    let values: Vec<u64> = text
        .lines()
        .filter_map(|line| {
            let rest = fields.iter().find_map(|field| line.strip_prefix(field))?;
            rest.split_ascii_whitespace().next()?.parse().ok()
        })
        .collect();
    (!values.is_empty()).then(|| values.iter().sum::<u64>() * 1024)
}

/// Ends every process whose environment began with `LEPTON_WORKLOAD=id`: what a dead shim left
/// where no control group knows it. Readable only for one's own processes, or all for root.
pub(crate) fn kill_marked(id: crate::WorkloadId) {
    let marker = format!("LEPTON_WORKLOAD={id}");
    let Ok(entries) = fs::read_dir("/proc") else {
        return;
    };
    for entry in entries.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| Pid::from_raw(name.parse().ok()?));
        let Some(pid) = pid else { continue };
        let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        let marked = fs::read(entry.path().join("environ"))
            .is_ok_and(|env| env.split(|b| *b == 0).any(|var| var == marker.as_bytes()));
        if marked {
            let _ = pidfd_send_signal(held, Signal::KILL);
        }
    }
}

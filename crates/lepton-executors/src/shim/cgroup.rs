//! Control groups: one per worker, below a parent that the server found writable.
//!
//! Version 2 where it is delegated, else the hierarchies of version 1, else none, and the shim adds
//! up memory and pins processors itself.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::process::{Pid, Signal, kill_process};

use super::supervise::Alarm;
use crate::record::{CgroupParents, Plan};
use crate::sys;
use crate::{CpuEnforcement, Enforcement, MemoryEnforcement, WorkloadId};

/// The period of processor quotas in microseconds; the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// The smallest quota that the kernel takes.
const CPU_QUOTA_US_MIN: u64 = 1_000;
/// A group is busy for a moment after its last process ended.
const REMOVE_TRIES: u32 = 100;
const REMOVE_AGAIN_AFTER: Duration = Duration::from_millis(2);

/// A group that only shows whether groups can be made; the process that made it follows.
const PROBE: &str = "lepton-probe-";

/// The groups of one worker.
pub(super) struct Cgroup {
    /// Every group, for joining and removing.
    groups: Vec<PathBuf>,
    memory: Option<Memory>,
    cpu: CpuEnforcement,
}

enum Memory {
    V1 {
        group: PathBuf,
        alarm: Option<OwnedFd>,
        rang: bool,
    },
    V2 {
        group: PathBuf,
        events: Option<File>,
    },
}

impl Cgroup {
    /// Makes the groups that can be made; what cannot is enforced by the shim.
    pub(super) fn create(plan: &Plan) -> Self {
        let mut this = Self {
            groups: Vec::new(),
            memory: None,
            cpu: CpuEnforcement::Unlimited,
        };
        let name = group_name(plan.id);
        if let Some(parent) = &plan.cgroups.unified {
            this.create_unified(plan, &parent.join(&name));
        }
        if this.memory.is_none()
            && let Some(parent) = &plan.cgroups.memory
        {
            this.create_memory(plan, &parent.join(&name));
        }
        let wants_cpu = plan.resources.cpu.as_millis() > 0;
        if wants_cpu
            && this.cpu == CpuEnforcement::Unlimited
            && let Some(parent) = &plan.cgroups.cpu
        {
            this.create_cpu(plan, &parent.join(&name));
        }
        if let Some(parent) = &plan.cgroups.pids {
            let group = parent.join(&name);
            if make(&group).is_ok() {
                // Without it the user's own limit still bounds a fork bomb.
                let _ = put(&group, "pids.max", &plan.processes_max.to_string());
                this.groups.push(group);
            }
        }
        this
    }

    fn create_unified(&mut self, plan: &Plan, group: &Path) {
        let bytes = plan.resources.memory.as_bytes();
        let limited = make(group).and_then(|()| {
            if bytes > 0 {
                put(group, "memory.max", &bytes.to_string())?;
                // Absent without swap; a tree that is out of memory ends as one.
                let _ = put(group, "memory.swap.max", "0");
                let _ = put(group, "memory.oom.group", "1");
            }
            Ok(())
        });
        if limited.is_err() {
            let _ = fs::remove_dir(group);
            return;
        }
        let _ = put(group, "pids.max", &plan.processes_max.to_string());
        if let Some(quota) = quota_us(plan)
            && put(group, "cpu.max", &format!("{quota} {CPU_PERIOD_US}")).is_ok()
        {
            self.cpu = CpuEnforcement::CgroupV2;
        }
        self.memory = Some(Memory::V2 {
            group: group.to_owned(),
            events: File::open(group.join("memory.events")).ok(),
        });
        self.groups.push(group.to_owned());
    }

    fn create_memory(&mut self, plan: &Plan, group: &Path) {
        let bytes = plan.resources.memory.as_bytes();
        let limited = make(group).and_then(|()| {
            if bytes > 0 {
                put(group, "memory.limit_in_bytes", &bytes.to_string())?;
                // Absent where swap is not accounted.
                let _ = put(group, "memory.memsw.limit_in_bytes", &bytes.to_string());
            }
            Ok(())
        });
        if limited.is_err() {
            let _ = fs::remove_dir(group);
            return;
        }
        self.memory = Some(Memory::V1 {
            group: group.to_owned(),
            alarm: if bytes > 0 {
                oom_alarm(group).ok()
            } else {
                None
            },
            rang: false,
        });
        self.groups.push(group.to_owned());
    }

    fn create_cpu(&mut self, plan: &Plan, group: &Path) {
        let Some(quota) = quota_us(plan) else { return };
        let limited = make(group)
            .and_then(|()| put(group, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string()))
            .and_then(|()| put(group, "cpu.cfs_quota_us", &quota.to_string()));
        if limited.is_ok() {
            self.cpu = CpuEnforcement::CgroupV1;
            self.groups.push(group.to_owned());
        } else {
            let _ = fs::remove_dir(group);
        }
    }

    /// What holds the worker, now that the groups are known.
    pub(super) fn enforcement(&self, plan: &Plan) -> Enforcement {
        let memory = match (&self.memory, plan.resources.memory.as_bytes()) {
            (_, 0) => MemoryEnforcement::Unlimited,
            (Some(Memory::V1 { .. }), _) => MemoryEnforcement::CgroupV1,
            (Some(Memory::V2 { .. }), _) => MemoryEnforcement::CgroupV2,
            (None, _) => MemoryEnforcement::Sampled,
        };
        let cpu = match (self.cpu, plan.resources.cpu.as_millis()) {
            (_, 0) => CpuEnforcement::Unlimited,
            (CpuEnforcement::Unlimited, _) => CpuEnforcement::Pinned,
            (held, _) => held,
        };
        Enforcement { cpu, memory }
    }

    /// Moves the calling process into every group.
    pub(super) fn join(&self) -> io::Result<()> {
        for group in &self.groups {
            put(group, "cgroup.procs", "0")?;
        }
        Ok(())
    }

    /// What to poll to hear of a lack of memory at once.
    pub(super) fn alarm(&self) -> Option<Alarm<'_>> {
        match self.memory.as_ref()? {
            Memory::V1 { alarm, .. } => Some((alarm.as_ref()?.as_fd(), PollFlags::IN)),
            Memory::V2 { events, .. } => Some((events.as_ref()?.as_fd(), PollFlags::PRI)),
        }
    }

    /// Whether the kernel ended a process of the group for want of memory, or is about to.
    pub(super) fn out_of_memory(&mut self) -> bool {
        match &mut self.memory {
            None => false,
            Some(Memory::V1 { group, alarm, rang }) => {
                let mut count = [0_u8; 8];
                *rang |= alarm
                    .as_ref()
                    .is_some_and(|fd| rustix::io::read(fd, &mut count).is_ok());
                *rang || counted(&read(group, "memory.oom_control"), "oom_kill")
            }
            Some(Memory::V2 { events, .. }) => events.as_ref().is_some_and(|file| {
                let mut text = [0_u8; 512];
                let length = file.read_at(&mut text, 0).unwrap_or(0);
                counted(&String::from_utf8_lossy(&text[..length]), "oom_kill")
            }),
        }
    }

    /// The most bytes that the group held, files it read included.
    pub(super) fn memory_peak(&self) -> Option<u64> {
        let (group, file) = match self.memory.as_ref()? {
            Memory::V1 { group, .. } => (group, "memory.max_usage_in_bytes"),
            Memory::V2 { group, .. } => (group, "memory.peak"),
        };
        read(group, file).trim().parse().ok()
    }

    /// Ends every process of the groups.
    pub(super) fn kill(&self) {
        if let Some(group) = self.groups.first() {
            kill_group(group);
        }
    }

    /// Removes the groups; all their processes have ended.
    pub(super) fn remove(&mut self) {
        self.memory = None;
        for group in self.groups.drain(..) {
            remove(&group);
        }
    }
}

/// Finds where groups can be made, by making one.
pub(crate) fn probe() -> CgroupParents {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found = CgroupParents::default();
    for mount in mounts.lines().filter_map(Hierarchy::parse) {
        let Some(parent) = mount.own_group(&own) else {
            continue;
        };
        match mount.controllers {
            None => {
                if prepare_unified(&parent).is_ok() {
                    found.unified = Some(parent);
                }
            }
            Some(controllers) => {
                for (controller, file, slot) in [
                    ("memory", "memory.limit_in_bytes", &mut found.memory),
                    ("cpu", "cpu.cfs_quota_us", &mut found.cpu),
                    ("pids", "pids.max", &mut found.pids),
                ] {
                    let has = controllers.split(',').any(|option| option == controller);
                    if has && writable(&parent, file) {
                        *slot = Some(parent.clone());
                    }
                }
            }
        }
    }
    found
}

/// Ends what a dead shim left in the worker's groups, and removes them.
pub(crate) fn kill_leftovers(parents: &CgroupParents, id: WorkloadId) {
    let all = [
        &parents.unified,
        &parents.memory,
        &parents.cpu,
        &parents.pids,
    ];
    for parent in all.into_iter().flatten() {
        let group = parent.join(group_name(id));
        if group.is_dir() {
            kill_group(&group);
            remove(&group);
        }
    }
}

fn group_name(id: WorkloadId) -> String {
    format!("lepton-{id}")
}

/// One mounted hierarchy.
struct Hierarchy<'a> {
    root: &'a str,
    point: &'a str,
    /// None for version 2.
    controllers: Option<&'a str>,
}

impl<'a> Hierarchy<'a> {
    /// Reads a line of `mountinfo` (proc(5)); none if it mounts something else.
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut kind = filesystem.split(' ');
        let controllers = match kind.next()? {
            "cgroup2" => None,
            "cgroup" => Some(kind.nth(1)?),
            _ => return None,
        };
        Some(Self {
            root,
            point,
            controllers,
        })
    }

    /// The folder of the group that this process is in.
    fn own_group(&self, own: &str) -> Option<PathBuf> {
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let ours = match self.controllers {
                None => controllers.is_empty(),
                Some(mounted) => mounted
                    .split(',')
                    .any(|option| controllers.split(',').any(|name| name == option)),
            };
            ours.then_some(path)
        })?;
        let below = Path::new(path).strip_prefix(self.root).ok()?;
        Some(Path::new(self.point).join(below))
    }
}

/// Hands the controllers of version 2 down, which the kernel allows while no process is directly in
/// `parent`: the server moves itself into a leaf.
fn prepare_unified(parent: &Path) -> io::Result<()> {
    let offered = fs::read_to_string(parent.join("cgroup.controllers"))?;
    if !offered
        .split_ascii_whitespace()
        .any(|name| name == "memory")
    {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let wanted = ["memory", "cpu", "pids"]
        .into_iter()
        .filter(|name| offered.split_ascii_whitespace().any(|offer| offer == *name))
        .map(|name| format!("+{name}"))
        .collect::<Vec<_>>()
        .join(" ");
    if put(parent, "cgroup.subtree_control", &wanted).is_err() {
        let leaf = parent.join("lepton-server");
        make(&leaf)?;
        put(&leaf, "cgroup.procs", "0")?;
        put(parent, "cgroup.subtree_control", &wanted)?;
    }
    if writable(parent, "memory.max") {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

fn writable(parent: &Path, file: &str) -> bool {
    remove_dead_probes(parent);
    let group = parent.join(format!("{PROBE}{}", std::process::id()));
    let works = make(&group).is_ok() && group.join(file).exists();
    let _ = fs::remove_dir(&group);
    works
}

/// What servers left that were killed while they probed.
fn remove_dead_probes(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PROBE));
        if process.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn put(group: &Path, file: &str, value: &str) -> io::Result<()> {
    File::options()
        .write(true)
        .open(group.join(file))?
        .write_all(value.as_bytes())
}

fn read(group: &Path, file: &str) -> String {
    let mut text = String::new();
    // Unreadable is the same as empty: nothing is known.
    let _ = File::open(group.join(file)).and_then(|mut file| file.read_to_string(&mut text));
    text
}

fn counted(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        line.split_once(' ')
            .is_some_and(|(key, count)| key == name && count.trim() != "0")
    })
}

fn kill_group(group: &Path) {
    if put(group, "cgroup.kill", "1").is_ok() {
        return;
    }
    for pid in read(group, "cgroup.procs").lines() {
        if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn remove(group: &Path) {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                kill_group(group);
                std::thread::park_timeout(REMOVE_AGAIN_AFTER);
            }
            _ => return,
        }
    }
}

fn oom_alarm(group: &Path) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let alarm = sys::eventfd()?;
    let watched = File::open(group.join("memory.oom_control"))?;
    let line = format!("{} {}", alarm.as_raw_fd(), watched.as_raw_fd());
    put(group, "cgroup.event_control", &line)?;
    Ok(alarm)
}

fn quota_us(plan: &Plan) -> Option<u64> {
    let millis = plan.resources.cpu.as_millis();
    (millis > 0).then(|| (millis.saturating_mul(CPU_PERIOD_US) / 1_000).max(CPU_QUOTA_US_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_group_of_version_1_is_found() {
        let line = "29 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        let mount = Hierarchy::parse(line).unwrap();
        let own = "4:memory:/outer/inner\n1:cpu:/\n0::/\n";
        assert_eq!(
            mount.own_group(own),
            Some(PathBuf::from("/sys/fs/cgroup/memory/outer/inner"))
        );
    }

    #[test]
    fn a_namespaced_group_of_version_2_is_found() {
        let line = "30 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        let mount = Hierarchy::parse(line).unwrap();
        assert_eq!(
            mount.own_group("0::/\n"),
            Some(PathBuf::from("/sys/fs/cgroup/"))
        );
        assert!(Hierarchy::parse("1 2 0:3 / /proc rw - proc proc rw").is_none());
    }
}

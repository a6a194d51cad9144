//! Memory, time and processors: that limits hold, and that they do not depend on the server.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use lepton_executors::{
    CpuEnforcement, Executor, ExitOutcome, LogStream, MemoryEnforcement, Observation, Program,
    StopReason, WorkloadSpec,
};
use lepton_types::{CpuMillis, DurationMs, MemoryBytes, Resources};

use crate::ground::{Local, sh};
use crate::suite::{self, Ground, outcome};

pub(crate) const ALL: &[(&str, fn())] = &[
    ("memory_by_group", memory_by_group),
    ("memory_by_sampling", memory_by_sampling),
    (
        "a_child_without_memory_ends_the_worker",
        a_child_without_memory_ends_the_worker,
    ),
    ("enough_memory_is_enough", enough_memory_is_enough),
    (
        "processors_are_pinned_without_groups",
        processors_are_pinned_without_groups,
    ),
    ("shims_are_small", shims_are_small),
    ("groups_are_removed", groups_are_removed),
    (
        "timeouts_hold_without_a_server",
        timeouts_hold_without_a_server,
    ),
];

const LIMIT: MemoryBytes = MemoryBytes::from_mib(64);

/// `local hold MIB`: takes memory in steps, then ends well.
pub(crate) fn hold(mib: &str) -> ExitCode {
    let mib: usize = mib.parse().unwrap();
    let mut held = Vec::new();
    for _ in 0..mib {
        held.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&held);
        // Slow enough for a sampler: 500 MiB take a second.
        let pause = rustix::thread::Timespec {
            tv_sec: 0,
            tv_nsec: 2_000_000,
        };
        let _ = rustix::thread::nanosleep(&pause);
    }
    ExitCode::SUCCESS
}

fn holding(mib: u32) -> WorkloadSpec {
    WorkloadSpec {
        resources: Resources {
            memory: LIMIT,
            ..Resources::ZERO
        },
        ..suite::spec(Program::Builtin(vec!["hold".to_owned(), mib.to_string()]))
    }
}

fn memory_by_group() {
    let local = Local::new();
    let id = local.start(&holding(500));
    assert_eq!(
        outcome(&local, id),
        ExitOutcome::OutOfMemory { limit: LIMIT }
    );
}

fn memory_by_sampling() {
    let local = Local::with(|config| config.cgroups = false);
    let id = local.start(&holding(500));
    local.until(id, &|seen| match seen {
        Observation::Running { enforcement, .. } => {
            assert_eq!(enforcement.memory, MemoryEnforcement::Sampled);
            true
        }
        other => other.is_final(),
    });
    assert_eq!(
        outcome(&local, id),
        ExitOutcome::OutOfMemory { limit: LIMIT }
    );
}

fn a_child_without_memory_ends_the_worker() {
    let local = Local::new();
    let binary = std::env::current_exe().unwrap();
    let spec = WorkloadSpec {
        program: sh(&format!("{} hold 500; sleep 1000", binary.display())),
        ..holding(0)
    };
    let id = local.start(&spec);
    assert_eq!(
        outcome(&local, id),
        ExitOutcome::OutOfMemory { limit: LIMIT }
    );
}

fn enough_memory_is_enough() {
    for cgroups in [true, false] {
        let local = Local::with(|config| config.cgroups = cgroups);
        let id = local.start(&holding(40));
        assert_eq!(outcome(&local, id), ExitOutcome::Code(0));
        let Observation::Exited { usage, .. } = local.executor.observe().unwrap()[&id].clone()
        else {
            unreachable!("it has an outcome")
        };
        let peak = usage.memory_peak.as_bytes() >> 20;
        assert!((20..=64).contains(&peak), "{peak} MiB, groups: {cgroups}");
    }
}

fn processors_are_pinned_without_groups() {
    let local = Local::with(|config| config.cgroups = false);
    let spec = WorkloadSpec {
        resources: Resources {
            cpu: CpuMillis::from_millis(500),
            ..Resources::ZERO
        },
        ..suite::spec(sh("[ $(nproc) = 1 ]; echo $? > one; exec sleep 1000"))
    };
    let id = local.start(&spec);
    local.until(id, &|seen| {
        matches!(seen, Observation::Running { enforcement, .. }
            if enforcement.cpu == CpuEnforcement::Pinned)
    });
    local.eventually("the count", || {
        local
            .executor
            .read_file(id, "one", 9)
            .is_ok_and(|text| text == b"0\n")
    });
    local.executor.stop(id, StopReason::Unneeded).unwrap();
    outcome(&local, id);
}

fn shims_are_small() {
    let local = Local::new();
    let id = local.sh("echo $PPID; exec sleep 1000");
    local.eventually("the shim's pid", || {
        local.log(id, LogStream::Stdout).ends_with('\n')
    });
    let status = format!("/proc/{}/status", local.log(id, LogStream::Stdout).trim());
    let resident_kib = || {
        let status = fs::read_to_string(&status).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u32>().unwrap()
    };
    // It shrinks just after the worker is seen to run.
    local.eventually("small", || resident_kib() < 3 * 1024);
    println!("a shim holds {} KiB", resident_kib());
    local.executor.stop(id, StopReason::Unneeded).unwrap();
    outcome(&local, id);
}

fn groups_are_removed() {
    let local = Local::new();
    let spec = WorkloadSpec {
        resources: Resources {
            cpu: CpuMillis::from_millis(500),
            memory: LIMIT,
            gpus: 0,
        },
        ..suite::spec(sh("exec sleep 1000"))
    };
    let id = local.start(&spec);
    let seen = local.until(id, &|seen| matches!(seen, Observation::Running { .. }));
    let found = groups(Path::new("/sys/fs/cgroup"), &format!("lepton-{id}"), 0);
    if let Observation::Running { enforcement, .. } = seen {
        let by_group = enforcement.memory != MemoryEnforcement::Sampled;
        assert_eq!(by_group, !found.is_empty(), "{enforcement:?} {found:?}");
    }
    for group in &found {
        for (file, value) in [
            ("cpu.cfs_quota_us", "50000"),
            ("cpu.max", "50000 100000"),
            ("pids.max", "4096"),
        ] {
            if let Ok(text) = fs::read_to_string(group.join(file)) {
                let unlimited = !text.starts_with(value);
                let other_hierarchy = text.trim() == "max" || text.trim() == "-1";
                assert!(!unlimited || other_hierarchy, "{}: {text}", group.display());
            }
        }
    }
    local.executor.stop(id, StopReason::Unneeded).unwrap();
    outcome(&local, id);
    assert!(found.iter().all(|group| !group.exists()), "{found:?}");
}

fn groups(below: &Path, name: &str, depth: u32) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(below) else {
        return Vec::new();
    };
    let folders = entries
        .flatten()
        .filter(|e| depth < 8 && e.file_type().is_ok_and(|t| t.is_dir()));
    folders
        .flat_map(|entry| {
            if entry.file_name() == name {
                vec![entry.path()]
            } else {
                groups(&entry.path(), name, depth + 1)
            }
        })
        .collect()
}

fn timeouts_hold_without_a_server() {
    let local = Local::new();
    let after = DurationMs::from_millis(400);
    let spec = WorkloadSpec {
        timeout: Some(after),
        ..suite::spec(sh("trap '' TERM; while :; do sleep 1; done"))
    };
    let id = local.start(&spec);
    local.until(id, &|seen| matches!(seen, Observation::Running { .. }));
    let Local {
        executor, folder, ..
    } = local;
    drop(executor);
    let record = folder
        .path()
        .join(format!("workers/workers/{id}/exit.json"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !record.exists() {
        assert!(
            std::time::Instant::now() < deadline,
            "no end without a server"
        );
        std::thread::yield_now();
    }
    let again = Local::at(folder, |_| {});
    assert_eq!(outcome(&again, id), ExitOutcome::TimedOut { after });
}

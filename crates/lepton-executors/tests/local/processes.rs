//! What workers find, leave and cannot escape.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use lepton_executors::{
    Executor, ExitOutcome, Input, LogStream, LostReason, Observation, OpenError, Program,
    ReadError, SecretText, StartError, StopReason, WorkloadSpec,
};
use lepton_types::DurationMs;

use crate::ground::{Local, config, sh};
use crate::suite::{self, Ground, outcome};

pub(crate) const ALL: &[(&str, fn())] = &[
    (
        "unclaimed_workers_are_started_or_stopped",
        unclaimed_workers_are_started_or_stopped,
    ),
    (
        "signals_are_told_apart_from_codes",
        signals_are_told_apart_from_codes,
    ),
    ("python_runs", python_runs),
    ("the_environment_is_clean", the_environment_is_clean),
    (
        "inputs_lie_in_the_working_directory",
        inputs_lie_in_the_working_directory,
    ),
    ("bad_archives_could_not_start", bad_archives_could_not_start),
    ("missing_inputs_leave_nothing", missing_inputs_leave_nothing),
    ("deserters_are_found", deserters_are_found),
    ("deserters_end_on_cancel", deserters_end_on_cancel),
    ("long_logs_keep_head_and_tail", long_logs_keep_head_and_tail),
    (
        "files_are_read_without_escape",
        files_are_read_without_escape,
    ),
    ("a_second_server_is_refused", a_second_server_is_refused),
    ("workers_outlive_the_server", workers_outlive_the_server),
    (
        "a_killed_shim_is_lost_and_takes_its_worker",
        a_killed_shim_is_lost_and_takes_its_worker,
    ),
    (
        "bad_specifications_are_refused",
        bad_specifications_are_refused,
    ),
    (
        "a_full_disk_starts_nothing_and_kills_nobody",
        a_full_disk_starts_nothing_and_kills_nobody,
    ),
];

fn signals_are_told_apart_from_codes() {
    let local = Local::new();
    let id = local.sh("kill -SEGV $$");
    assert_eq!(outcome(&local, id), ExitOutcome::Signal(11));
    let id = local.sh("exit 139");
    assert_eq!(outcome(&local, id), ExitOutcome::Code(139));
}

fn python_runs() {
    let local = Local::new();
    let program = ["python3", "-c", "print(1)"].map(str::to_owned).to_vec();
    let id = local.start(&suite::spec(Program::Command(program)));
    let ended = outcome(&local, id);
    let said = local.log(id, LogStream::Stderr);
    assert_eq!(ended, ExitOutcome::Code(0), "{said}");
    assert_eq!(local.log(id, LogStream::Stdout), "1\n");
}

fn the_environment_is_clean() {
    let local = Local::new();
    let spec = WorkloadSpec {
        env: BTreeMap::from([("GREETING".to_owned(), "good day".to_owned())]),
        secrets: BTreeMap::from([("key".to_owned(), SecretText::from("hunter2".to_owned()))]),
        ports: vec!["http-1".to_owned()],
        ..suite::spec(sh(
            "env; cat $LEPTON_SECRETS/key; stat -c %a $LEPTON_SECRETS/key; pwd",
        ))
    };
    let id = local.start(&spec);
    assert_eq!(outcome(&local, id), ExitOutcome::Code(0));
    let printed = local.log(id, LogStream::Stdout);
    let variables: Vec<&str> = printed
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    let mut expected = vec![
        "GREETING",
        "HOME",
        "LANG",
        "LEPTON_SECRETS",
        "LEPTON_WORKLOAD",
        "PATH",
        "PORT",
        "PORT_HTTP_1",
        "PWD",
        "TMPDIR",
    ];
    // Some shells set these themselves.
    expected.extend(
        ["OLDPWD", "SHLVL", "_"]
            .iter()
            .filter(|name| variables.contains(*name)),
    );
    let mut found = variables.clone();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(printed.contains("hunter2400\n"), "{printed}");
    let home = printed
        .lines()
        .find_map(|line| line.strip_prefix("HOME="))
        .unwrap();
    assert_eq!(printed.lines().last(), Some(home));
}

fn archive(path: &Path) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let script = b"#!/bin/sh\ncat data/word\n";
    header.set_size(script.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, "run.sh", &script[..]).unwrap();
    let plain = tar.into_inner().unwrap();
    fs::write(path, zstd::encode_all(&plain[..], 1).unwrap()).unwrap();
}

fn inputs_lie_in_the_working_directory() {
    let local = Local::new();
    let tar = local.folder.path().join("code.tar.zst");
    archive(&tar);
    let word = local.folder.path().join("word");
    fs::write(&word, "lepton").unwrap();
    let spec = WorkloadSpec {
        inputs: vec![
            Input::Archive { source: tar },
            Input::File {
                source: word,
                path: "data/word".to_owned(),
            },
        ],
        ..suite::spec(Program::Command(vec!["./run.sh".to_owned()]))
    };
    let id = local.start(&spec);
    assert_eq!(outcome(&local, id), ExitOutcome::Code(0));
    assert_eq!(local.log(id, LogStream::Stdout), "lepton");
}

fn bad_archives_could_not_start() {
    let local = Local::new();
    let tar = local.folder.path().join("code.tar.zst");
    archive(&tar);
    let whole = fs::read(&tar).unwrap();
    fs::write(&tar, &whole[..whole.len() / 2]).unwrap();
    let spec = WorkloadSpec {
        inputs: vec![Input::Archive { source: tar }],
        ..suite::spec(sh("true"))
    };
    let id = local.start(&spec);
    match outcome(&local, id) {
        ExitOutcome::CouldNotStart(why) => assert!(why.contains("archive"), "{why}"),
        other => panic!("{other:?}"),
    }
}

fn missing_inputs_leave_nothing() {
    let local = Local::new();
    let spec = WorkloadSpec {
        inputs: vec![Input::Archive {
            source: local.folder.path().join("nowhere"),
        }],
        ..suite::spec(sh("true"))
    };
    assert!(matches!(
        local.executor.start(&spec),
        Err(StartError::InputMissing(_))
    ));
    assert!(local.executor.observe().unwrap().is_empty());
    assert_eq!(
        fs::read_dir(local.folder.path().join("workers/workers"))
            .unwrap()
            .count(),
        0
    );
}

/// Leaves the shell's session and group, and its parent; writes its pid.
const DESERT: &str = "(setsid sh -c 'trap \"\" TERM; echo $$ > pid; exec sleep 1000' &) ;
    while [ ! -s pid ]; do sleep 0.01; done";

fn gone(local: &Local, id: lepton_executors::WorkloadId) -> bool {
    let pid = local.executor.read_file(id, "pid", 20).unwrap();
    let pid = String::from_utf8(pid).unwrap();
    !Path::new("/proc").join(pid.trim()).exists()
}

fn deserters_are_found() {
    let local = Local::new();
    let id = local.sh(&format!("{DESERT}; exit 3"));
    assert_eq!(outcome(&local, id), ExitOutcome::Code(3));
    assert!(gone(&local, id), "the exit is told when nothing is left");
}

fn deserters_end_on_cancel() {
    let local = Local::new();
    let id = local.sh(&format!("{DESERT}; echo ready; exec sleep 1000"));
    local.eventually("ready", || local.log(id, LogStream::Stdout) == "ready\n");
    local.executor.stop(id, StopReason::Cancelled).unwrap();
    assert_eq!(
        outcome(&local, id),
        ExitOutcome::Stopped(StopReason::Cancelled)
    );
    assert!(gone(&local, id));
}

fn long_logs_keep_head_and_tail() {
    let local = Local::new();
    let spec = WorkloadSpec {
        log_bytes_max: 30_000,
        ..suite::spec(sh("seq 1 100000"))
    };
    let id = local.start(&spec);
    assert_eq!(outcome(&local, id), ExitOutcome::Code(0));
    let (mut cursor, mut text, mut gaps) = (0, String::new(), 0);
    loop {
        let chunk = local
            .executor
            .read_log(id, LogStream::Stdout, cursor, 4_000)
            .unwrap();
        gaps += u32::from(chunk.truncated);
        cursor = chunk.next;
        text.push_str(&String::from_utf8(chunk.bytes).unwrap());
        if chunk.end {
            break;
        }
    }
    assert!(text.starts_with("1\n2\n3\n"));
    assert!(text.ends_with("99999\n100000\n"));
    assert!(text.len() <= 30_000, "{}", text.len());
    assert_eq!(gaps, 1);
    let printed: usize = (1..=100_000).map(|n: u32| n.to_string().len() + 1).sum();
    assert_eq!(cursor, printed as u64, "positions count what was dropped");
}

fn files_are_read_without_escape() {
    let local = Local::new();
    let id = local.sh("mkdir d; echo in > d/f; ln -s /etc/passwd d/l; ln -s / d/r; mkfifo d/p");
    outcome(&local, id);
    let read = |path: &str, max| local.executor.read_file(id, path, max);
    assert_eq!(read("d/f", 3).unwrap(), b"in\n");
    assert!(matches!(read("d/f", 2), Err(ReadError::TooLarge { .. })));
    assert!(matches!(read("d/none", 9), Err(ReadError::NotFound { .. })));
    for bad in [
        "d/l",
        "d/r/etc/passwd",
        "d/p",
        "d",
        "../plan.json",
        "/etc/passwd",
        "",
    ] {
        assert!(
            matches!(read(bad, 99), Err(ReadError::NotAFile { .. })),
            "{bad}"
        );
    }
}

fn a_second_server_is_refused() {
    let local = Local::new();
    let second =
        lepton_executors::LocalExecutor::open(config(&local.folder.path().join("workers")));
    assert!(matches!(second.err(), Some(OpenError::InUse)));
}

fn workers_outlive_the_server() {
    let local = Local::new();
    let short = local.sh("sleep 0.3; echo late; exit 5");
    let long = local.sh("exec sleep 1000");
    let is_running = |seen: &Observation| matches!(seen, Observation::Running { .. });
    local.until(short, &is_running);
    let before = local.until(long, &is_running);
    let Local {
        executor, folder, ..
    } = local;
    drop(executor);
    let again = Local::at(folder, |_| {});
    assert_eq!(again.until(long, &is_running), before);
    assert_eq!(outcome(&again, short), ExitOutcome::Code(5));
    assert_eq!(again.log(short, LogStream::Stdout), "late\n");
    again.executor.stop(long, StopReason::Unneeded).unwrap();
    assert_eq!(
        outcome(&again, long),
        ExitOutcome::Stopped(StopReason::Unneeded)
    );
}

fn a_killed_shim_is_lost_and_takes_its_worker() {
    let local = Local::new();
    let id = local.sh(&format!("{DESERT}; echo $PPID; exec sleep 1000"));
    local.eventually("the shim's pid", || {
        local.log(id, LogStream::Stdout).ends_with('\n')
    });
    let shim: i32 = local.log(id, LogStream::Stdout).trim().parse().unwrap();
    let shim = rustix::process::Pid::from_raw(shim).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    let lost = local.until(id, &Observation::is_final);
    assert_eq!(
        lost,
        Observation::Lost {
            reason: LostReason::ShimDied
        }
    );
    local.eventually("the deserter's end", || gone(&local, id));
    // It never runs again.
    local
        .executor
        .start(&WorkloadSpec {
            id,
            ..suite::spec(sh("true"))
        })
        .unwrap();
    assert_eq!(local.executor.observe().unwrap()[&id], lost);
}

/// A server died between making the folder and starting the shim; the next one does the rest.
fn unclaimed_workers_are_started_or_stopped() {
    let local = Local::new();
    let long_ago = |local: Local, id: lepton_executors::WorkloadId| {
        let Local {
            executor, folder, ..
        } = local;
        drop(executor);
        let dir = folder.path().join(format!("workers/workers/{id}"));
        for name in ["claim", "exit.json", "running.json", "lock"] {
            let _ = fs::remove_file(dir.join(name));
        }
        folder
    };
    let id = local.sh("exit 4");
    outcome(&local, id);
    let local = Local::at(long_ago(local, id), |_| {});
    assert_eq!(outcome(&local, id), ExitOutcome::Code(4));

    let folder = long_ago(local, id);
    let stuck = Local::at(folder, |config| config.binary = "/nonexistent".into());
    assert_eq!(
        stuck.executor.observe().unwrap()[&id],
        Observation::Starting
    );
    stuck.executor.stop(id, StopReason::Cancelled).unwrap();
    assert_eq!(
        outcome(&stuck, id),
        ExitOutcome::Stopped(StopReason::Cancelled)
    );
    let refused = stuck.executor.start(&suite::spec(sh("true")));
    assert!(matches!(refused, Err(StartError::Shim(_))));
    assert_eq!(stuck.executor.observe().unwrap().len(), 1);
}

fn bad_specifications_are_refused() {
    let local = Local::new();
    let good = suite::spec(sh("true"));
    let text = str::to_owned;
    let secret = || BTreeMap::from([("../k".to_owned(), SecretText::from(String::new()))]);
    let bad = [
        WorkloadSpec {
            program: Program::Command(Vec::new()),
            ..good.clone()
        },
        WorkloadSpec {
            program: Program::Command(vec![text("a\0b")]),
            ..good.clone()
        },
        WorkloadSpec {
            env: BTreeMap::from([(text("A=B"), text(""))]),
            ..good.clone()
        },
        WorkloadSpec {
            env: BTreeMap::from([(text("A"), "x".repeat(2 << 20))]),
            ..good.clone()
        },
        WorkloadSpec {
            secrets: secret(),
            ..good.clone()
        },
        WorkloadSpec {
            ports: vec![text("a b")],
            ..good.clone()
        },
        WorkloadSpec {
            inputs: vec![Input::File {
                source: "/etc/hosts".into(),
                path: text("../x"),
            }],
            ..good.clone()
        },
    ];
    for spec in bad {
        assert!(matches!(
            local.executor.start(&spec),
            Err(StartError::Invalid(_))
        ));
    }
    assert!(local.executor.observe().unwrap().is_empty());
}

/// As root only: the folder is a file system of 1 MiB.
fn a_full_disk_starts_nothing_and_kills_nobody() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let disk = SmallDisk::mount();
    let local = Local::with(|config| config.root = disk.folder.path().join("workers"));
    let chatty = WorkloadSpec {
        log_bytes_max: 10 << 20,
        timeout: Some(DurationMs::from_secs(60)),
        ..suite::spec(sh(
            "seq 1 1000000; : > done; while [ ! -e go ]; do sleep 0.01; done; exit 7",
        ))
    };
    let id = local.start(&chatty);
    local.eventually("all printed", || {
        local.executor.read_file(id, "done", 1).is_ok()
    });
    let mut filler = File::create(disk.folder.path().join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 4_096]).is_ok() {}
    let refused = local.executor.start(&suite::spec(sh("true"))).unwrap_err();
    assert!(
        matches!(&refused, StartError::Storage(error) if error.is_full()),
        "{refused:?}"
    );
    assert_eq!(local.executor.observe().unwrap().len(), 1);
    // Stopping works although nothing can be written, and so does the record of the end.
    local.executor.stop(id, StopReason::Cancelled).unwrap();
    match local.until(id, &Observation::is_final) {
        Observation::Exited { outcome, usage, .. } => {
            assert_eq!(outcome, ExitOutcome::Stopped(StopReason::Cancelled));
            assert!(usage.log_bytes_lost > 0);
        }
        other => panic!("{other:?}"),
    }
}

struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Self {
        use rustix::mount::{MountFlags, mount};
        let folder = tempfile::tempdir().unwrap();
        mount(
            "tmpfs",
            folder.path(),
            "tmpfs",
            MountFlags::empty(),
            c"size=1m,mode=0711",
        )
        .unwrap();
        Self { folder }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let detach = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(self.folder.path(), detach).unwrap();
    }
}

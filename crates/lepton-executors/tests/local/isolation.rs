//! What a worker of another user can and cannot reach. Only root can show it; others pass at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use lepton_executors::{
    Executor, ExitOutcome, Isolation, LogStream, Observation, Program, SecretText, StartError,
    StopReason, WorkloadSpec,
};

use crate::ground::{Local, sh};
use crate::suite::{self, Ground, outcome};

pub(crate) const ALL: &[(&str, fn())] = &[
    ("commands_open_no_folders", commands_open_no_folders),
    ("private_homes_stay_private", private_homes_stay_private),
    (
        "tools_in_a_private_folder_work",
        tools_in_a_private_folder_work,
    ),
    (
        "a_workers_folder_in_a_private_folder_works",
        a_workers_folder_in_a_private_folder_works,
    ),
    (
        "projects_cannot_read_each_other",
        projects_cannot_read_each_other,
    ),
    ("privileges_are_gone", privileges_are_gone),
    (
        "one_project_at_a_time_without_users",
        one_project_at_a_time_without_users,
    ),
];

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a script and returns what it printed; it must succeed.
fn says(local: &Local, script: &str) -> String {
    let id = local.sh(script);
    let ended = outcome(local, id);
    let errors = local.log(id, LogStream::Stderr);
    assert_eq!(ended, ExitOutcome::Code(0), "{script}: {errors}");
    local.log(id, LogStream::Stdout)
}

/// A folder that only root enters.
fn private() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    folder
}

fn private_homes_stay_private() {
    if !is_root() {
        return;
    }
    let local = Local::new();
    for path in [
        "/root/.bashrc",
        "/root/.ssh",
        "/root/.profile",
        "/etc/shadow",
    ] {
        let id = local.sh(&format!("cat {path} || ls {path}/"));
        assert_ne!(outcome(&local, id), ExitOutcome::Code(0), "{path}");
    }
    let id = local.sh("ls /root");
    outcome(&local, id);
    assert_eq!(local.log(id, LogStream::Stdout), "");
}

fn tools_in_a_private_folder_work() {
    if !is_root() {
        return;
    }
    let home = private();
    let write = |path: &str, text: &str| {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    };
    write(".venv/bin/real", "#!/bin/sh\necho tool\n");
    write("secret/token", "hunter2");
    write(".ssh/id", "hunter2");
    std::os::unix::fs::symlink("../.venv/bin/real", {
        fs::create_dir_all(home.path().join("bin")).unwrap();
        home.path().join("bin/tool")
    })
    .unwrap();
    let path = format!("{}:/usr/bin:/bin", home.path().join("bin").display());
    let local = Local::with(|config| config.path = path);
    let id = local.start(&suite::spec(Program::Command(vec!["tool".to_owned()])));
    assert_eq!(
        outcome(&local, id),
        ExitOutcome::Code(0),
        "{}",
        local.log(id, LogStream::Stderr)
    );
    assert_eq!(local.log(id, LogStream::Stdout), "tool\n");
    let at = home.path().display();
    let id = local.sh(&format!(
        "cat {at}/secret/token || cat {at}/.ssh/id || touch {at}/bin/x || echo x > {at}/bin/tool"
    ));
    assert_ne!(outcome(&local, id), ExitOutcome::Code(0));
    assert_eq!(local.log(id, LogStream::Stdout), "");
}

/// A user who spells a path out sees no more than one who does not.
fn commands_open_no_folders() {
    if !is_root() {
        return;
    }
    let home = private();
    let tool = home.path().join("docs/tool");
    fs::create_dir(home.path().join("docs")).unwrap();
    fs::write(&tool, "#!/bin/sh\necho tool\n").unwrap();
    fs::set_permissions(&tool, Permissions::from_mode(0o755)).unwrap();
    let local = Local::new();
    let command = Program::Command(vec![tool.display().to_string()]);
    let id = local.start(&suite::spec(command.clone()));
    match outcome(&local, id) {
        ExitOutcome::CouldNotStart(why) => assert!(why.contains("cannot enter"), "{why}"),
        other => panic!("{other:?}"),
    }
    let docs = home.path().join("docs").display().to_string();
    let spec = WorkloadSpec {
        env: [("PATH".to_owned(), format!("{docs}:/usr/bin:/bin"))].into(),
        ..suite::spec(Program::Command(vec!["tool".to_owned()]))
    };
    let id = local.start(&spec);
    assert!(matches!(outcome(&local, id), ExitOutcome::CouldNotStart(_)));
    let named = Local::with(|config| config.readable = vec![home.path().join("docs")]);
    let id = named.start(&suite::spec(command));
    assert_eq!(outcome(&named, id), ExitOutcome::Code(0));
}

fn a_workers_folder_in_a_private_folder_works() {
    if !is_root() {
        return;
    }
    let home = private();
    let data = home.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    fs::write(data.join("master.key"), "hunter2").unwrap();
    fs::set_permissions(data.join("master.key"), Permissions::from_mode(0o644)).unwrap();
    let local = Local::with(|config| config.root = data.join("local"));
    assert_eq!(
        says(&local, "echo kept > file; cat file; touch $TMPDIR/x"),
        "kept\n"
    );
    let key = data.join("master.key");
    let id = local.sh(&format!("cat {}", key.display()));
    assert_eq!(outcome(&local, id), ExitOutcome::Code(1));
}

fn projects_cannot_read_each_other() {
    if !is_root() {
        return;
    }
    let local = Local::new();
    let theirs = WorkloadSpec {
        project: "theirs".parse().unwrap(),
        secrets: [("token".to_owned(), SecretText::from("hunter2".to_owned()))].into(),
        ..suite::spec(sh("echo data > data; exec sleep 1000"))
    };
    local.start(&theirs);
    let seen = local.until(theirs.id, &|seen| {
        matches!(seen, Observation::Running { .. })
    });
    let Observation::Running { pid, .. } = seen else {
        unreachable!("awaited")
    };
    let dir = local
        .folder
        .path()
        .join(format!("workers/workers/{}", theirs.id));
    let at = dir.display();
    let data = dir.join("work").join("data");
    for action in [
        format!("cat {}", data.display()),
        format!("cat {at}/secrets/token"),
        format!("cat {at}/plan.json"),
        format!("cat {at}/stdout.0"),
        format!("cat /proc/{pid}/environ"),
        format!("kill {pid}"),
        format!("echo '\"cancelled\"' > {at}/control"),
        format!("rm -r {at}"),
        "cat ../plan.json".to_owned(),
        "echo > ../exit.json".to_owned(),
        "kill $PPID".to_owned(),
    ] {
        let id = local.sh(&format!("sh -c \"{}\"", action.replace('"', "\\\"")));
        match outcome(&local, id) {
            ExitOutcome::Code(code) if code != 0 => {}
            other => panic!("{action}: {other:?}"),
        }
    }
    local
        .executor
        .stop(theirs.id, StopReason::Unneeded)
        .unwrap();
    outcome(&local, theirs.id);
}

fn privileges_are_gone() {
    if !is_root() {
        return;
    }
    let local = Local::new();
    let status = says(&local, "cat /proc/self/status; umask; ulimit -c");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..]
            .split_ascii_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let uid = local
        .executor
        .project_uid(&"default".parse().unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(field("Uid:"), format!("{uid} {uid} {uid} {uid}"));
    assert_eq!(field("Gid:"), format!("{uid} {uid} {uid} {uid}"));
    assert_eq!(field("Groups:"), "");
    assert_eq!(field("CapEff:"), "0000000000000000");
    assert_eq!(field("CapPrm:"), "0000000000000000");
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("SigBlk:"), "0000000000000000");
    assert!(status.ends_with("0077\n0\n"), "{status}");
}

fn one_project_at_a_time_without_users() {
    let local = Local::with(|config| config.isolation = Isolation::OneProject);
    let first = local.sh("exec sleep 1000");
    let other = WorkloadSpec {
        project: "other".parse().unwrap(),
        ..suite::spec(sh("true"))
    };
    assert!(matches!(
        local.executor.start(&other),
        Err(StartError::OtherProject { .. })
    ));
    local.executor.stop(first, StopReason::Unneeded).unwrap();
    outcome(&local, first);
    let id = local.start(&other);
    assert_eq!(outcome(&local, id), ExitOutcome::Code(0));
}

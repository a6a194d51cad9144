//! The binary as a new user meets it: its own server, started and stopped here, and the
//! commands against it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

struct Lepton {
    server: Child,
    home: tempfile::TempDir,
}

impl Drop for Lepton {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

struct Ran {
    status: i32,
    out: String,
    err: String,
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lepton"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        .current_dir(home);
    command
}

impl Lepton {
    fn up() -> Self {
        let home = tempfile::tempdir().unwrap();
        // Workers of another user pass through on the way to their folders.
        let open = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(home.path(), open).unwrap();
        let mut server = command(home.path())
            .args(["up", "--data-dir", "data", "--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let answers = lines
            .by_ref()
            .any(|line| line.unwrap().starts_with("Lepton answers at"));
        assert!(answers, "the server did not start");
        // Its log is read, so that it never waits for somebody to do so.
        std::thread::spawn(move || lines.for_each(drop));
        Self { server, home }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = command(self.home.path()).args(arguments).output().unwrap();
        Ran {
            status: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn good(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        ran.out
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

#[test]
fn data_goes_in_and_comes_out() {
    let lepton = Lepton::up();
    lepton.write("t.csv", "a,b\n1,x\n2,\n");
    let put = lepton.good(&["data", "put", "table", "t.csv"]);
    assert!(
        put.contains("dataset table version 1: 2 rows, 2 columns"),
        "{put}"
    );
    lepton.good(&["data", "get", "table", "--to", "back"]);
    let back = std::fs::read(lepton.home.path().join("back/t.csv")).unwrap();
    assert_eq!(back, b"a,b\n1,x\n2,\n");
    assert_eq!(
        lepton
            .good(&["data", "get", "table", "--file", "t.csv", "--to", "-"])
            .len(),
        11
    );
    let page = lepton.good(&["describe", "dataset", "table"]);
    assert!(page.contains("2 rows, 2 columns"), "{page}");
    let missed = lepton.run(&["data", "ls", "tabel"]);
    assert_eq!(missed.status, 3);
    assert!(
        missed.err.contains("did you mean `table`?"),
        "{}",
        missed.err
    );
}

#[test]
fn a_version_is_named_alike_for_people_and_programs() {
    let lepton = Lepton::up();
    lepton.write("t.csv", "a,b\n1,x\n2,\n");
    lepton.good(&["data", "put", "table", "t.csv"]);
    for verb in ["get", "describe"] {
        let told = lepton.good(&[verb, "dataset", "table:1", "-o", "json"]);
        let version: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(version["spec"]["version"], 1, "{told}");
    }
    let missed = lepton.run(&["describe", "dataset", "table:9"]);
    assert_eq!(missed.status, 3);
    assert!(
        missed.err.contains("dataset `table` has no version 9"),
        "{}",
        missed.err
    );
    let missed = lepton.run(&["describe", "model", "table:9"]);
    assert!(
        missed.err.contains("no model is called `table`"),
        "{}",
        missed.err
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let lepton = Lepton::up();
    lepton.write("t.csv", "a\n1\n");
    std::fs::create_dir(lepton.home.path().join("folder")).unwrap();
    for (line, status, why) in [
        // The list would be of all, and a script would delete all.
        (
            "get jobs --experiment x",
            2,
            "--experiment is for runs, not for jobs",
        ),
        (
            "get models --phase failed",
            2,
            "--phase is for jobs and runs",
        ),
        ("get runs --phase lost", 2, "killed, deleted"),
        ("get jobs --limit 0", 2, "--limit"),
        ("predict e --data folder", 8, "cannot read `folder`"),
        ("run j --code t.csv -- true", 8, "`t.csv` is not a folder"),
        (
            "run j --no-code -e GONE -- true",
            2,
            "`GONE` is not set here",
        ),
        ("data put d folder", 8, "no files are in `folder`"),
        ("runs compare a b --plot p.png", 2, "end in .svg"),
        ("runs export --to runs.csv", 2, "four Parquet tables"),
        (
            "objects usage --month 2026-13",
            8,
            "`2026-13` is not a month",
        ),
        (
            "token create t --expires-in 99999999999d",
            8,
            "at most 100 years",
        ),
    ] {
        let ran = lepton.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(ran.status, status, "{line}: {}", ran.err);
        assert!(ran.err.contains(why), "{line}: {}", ran.err);
    }
}

#[test]
fn an_experiment_is_described_with_its_runs() {
    let lepton = Lepton::up();
    lepton.good(&["run", "fit", "--no-code", "--wait", "--", "true"]);
    let missed = lepton.run(&["runs", "export", "--experiment", "fti", "--to", "out"]);
    assert_eq!(missed.status, 3, "{}", missed.err);
    let left = std::fs::read_dir(lepton.home.path().join("out")).unwrap();
    assert_eq!(left.count(), 0, "parts of files stay");
    lepton.good(&["runs", "export", "--experiment", "fit", "--to", "out"]);
    assert!(lepton.home.path().join("out/runs.parquet").is_file());
    let page = lepton.good(&["describe", "experiment", "fit"]);
    assert!(
        page.contains("Created") && page.contains("finished"),
        "{page}"
    );
}

#[test]
fn who_follows_a_job_that_waits_is_told_why() {
    let mut lepton = Lepton::up();
    let mut follower = command(lepton.home.path())
        .args([
            "run",
            "huge",
            "-f",
            "--no-code",
            "--cpu",
            "9000",
            "--",
            "true",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stderr.take().unwrap()).lines();
    let told = lines.any(|line| line.unwrap().contains("larger than the pool"));
    assert!(told, "nothing said why");
    follower.kill().unwrap();
    follower.wait().unwrap();
    lepton.server.kill().unwrap();
}

#[test]
fn jobs_run_with_their_code_and_their_status_is_told() {
    let lepton = Lepton::up();
    lepton.write(
        "code/hello.sh",
        "echo hello $RANK of $WORLD_SIZE; ls; exit $1\n",
    );
    lepton.write("code/.leptonignore", "*.bin\n");
    lepton.write("code/large.bin", "x");
    let job = |name: &'static str, status: &'static str| {
        lepton.run(&[
            "run", name, "-f", "--code", "code", "--", "sh", "hello.sh", status,
        ])
    };
    let well = job("well", "0");
    assert_eq!(
        (well.status, well.out.as_str()),
        (0, "hello 0 of 1\nhello.sh\n"),
        "{}",
        well.err
    );
    let badly = job("badly", "3");
    assert_eq!(badly.status, 1);
    assert!(badly.err.contains("exited with status 3"), "{}", badly.err);
    assert_eq!(lepton.good(&["logs", "well"]), "hello 0 of 1\nhello.sh\n");
    let page = lepton.good(&["describe", "job", "badly"]);
    assert!(
        page.contains("sh hello.sh 3") && page.contains("exited with status 3"),
        "{page}"
    );
    let failed = lepton.good(&["get", "jobs", "--phase", "failed", "-o", "json"]);
    assert!(
        failed.contains("badly") && !failed.contains("well"),
        "{failed}"
    );
}

#[test]
fn what_waits_says_why_and_can_be_cancelled() {
    let lepton = Lepton::up();
    let job = ["run", "huge", "--no-code", "--memory", "900Ti"];
    let waiting = [&job[..], &["--wait", "--wait-timeout", "1s", "--", "true"]].concat();
    let ran = lepton.run(&waiting);
    assert_eq!(ran.status, 7, "{}", ran.err);
    assert!(ran.err.contains("memory"), "{}", ran.err);
    let page = lepton.good(&["describe", "job", "huge"]);
    assert!(page.contains("Waits"), "{page}");
    lepton.good(&["cancel", "huge"]);
}

#[test]
fn room_is_promised_and_given_back() {
    let lepton = Lepton::up();
    let missing = lepton.run(&["reserve", "demo", "--lasts", "1h"]);
    assert_eq!(missing.status, 2);
    assert!(missing.err.contains("--cpu"), "{}", missing.err);
    let reserve = |name, cpu| {
        let room = ["--cpu", cpu, "--memory", "64Mi"];
        let window = ["reserve", name, "--from", "1h", "--lasts", "30m"];
        lepton.run(&[&window[..], &room[..]].concat())
    };
    let too_much = reserve("vast", "100000");
    assert_eq!(too_much.status, 8);
    assert!(
        too_much.err.contains("room for 0 of 1 is sure to be free"),
        "{}",
        too_much.err
    );
    let all: serde_json::Value =
        serde_json::from_str(&lepton.good(&["get", "pool", "local", "-o", "json"])).unwrap();
    let cpu = &all["status"]["nodes"][0]["capacity"]["cpu"];
    let cpu = cpu.as_str().map_or_else(|| cpu.to_string(), str::to_owned);
    let made = reserve("demo", &cpu);
    assert_eq!(made.status, 0, "{}", made.err);
    assert!(made.out.contains("for project `default`"), "{}", made.out);
    // It could still run when the window opens, but it is the owner's.
    lepton.good(&["run", "own", "--no-code", "--wait", "--", "true"]);
    lepton.good(&["project", "create", "other"]);
    let other = |rest: &[&str]| {
        let begin = ["--project", "other", "run", "x", "--no-code"];
        lepton.run(&[&begin[..], rest].concat())
    };
    let short = other(&["--wait", "--timeout", "10m", "--", "true"]);
    assert_eq!(short.status, 0, "{}", short.err);
    let long = other(&["--wait", "--wait-timeout", "2s", "--", "true"]);
    assert_eq!(long.status, 7, "{}", long.err);
    assert!(long.err.contains("by reservation `demo`"), "{}", long.err);
    lepton.good(&["delete", "reservation", "demo"]);
    let after = other(&["--wait", "--", "true"]);
    assert_eq!(after.status, 0, "{}", after.err);
    // Nor does it stay promised to a project that is gone.
    lepton.good(&["project", "create", "brief"]);
    let window = ["--from", "1h", "--lasts", "30m", "--memory", "64Mi"];
    lepton.good(&[&["--project", "brief", "reserve", "left"], &window[..]].concat());
    assert!(lepton.good(&["get", "reservations"]).contains("left"));
    lepton.good(&["delete", "project", "brief"]);
    assert!(!lepton.good(&["get", "reservations"]).contains("left"));
}

#[test]
fn applying_twice_changes_nothing() {
    let lepton = Lepton::up();
    lepton.write(
        "state/e.yaml",
        "apiVersion: lepton/v1\nkind: Experiment\nmetadata: {name: My runs}\nspec: {tags: {team: vision}}\n",
    );
    let apply = |more: &[&str]| lepton.good(&[&["apply", "-f", "state"], more].concat());
    assert!(apply(&["--dry-run"]).contains("+ experiment My runs"));
    assert!(lepton.run(&["get", "experiment", "My runs"]).status == 3);
    assert!(apply(&[]).contains("1 created"));
    assert_eq!(apply(&[]), "= experiment My runs unchanged\n");
}

#[test]
fn tokens_open_and_close_doors() {
    let lepton = Lepton::up();
    let token = lepton.good(&["token", "create", "ci", "--role", "viewer"]);
    let token = token.trim();
    let as_viewer = |arguments: &[&str]| {
        let env = lepton.good(&["env", "-o", "json"]);
        let env: serde_json::Value = serde_json::from_str(&env).unwrap();
        let mut command = command(lepton.home.path());
        command.env("LEPTON_URL", env["LEPTON_URL"].as_str().unwrap());
        let output = command.env("LEPTON_TOKEN", token).args(arguments).output();
        output.unwrap().status.code().unwrap()
    };
    assert_eq!(as_viewer(&["whoami"]), 0);
    assert_eq!(as_viewer(&["run", "x", "--no-code", "--", "true"]), 4);
    lepton.good(&["token", "revoke", "ci"]);
    assert_eq!(as_viewer(&["whoami"]), 4);
    let status = lepton.run(&[
        "env",
        "--",
        "sh",
        "-c",
        "test -n \"$MLFLOW_TRACKING_URI\" && exit 5",
    ]);
    assert_eq!(status.status, 5);
}

//! The binary as a script sees it where no server answers: exit statuses, and
//! what goes to which output.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output};

struct Ran {
    status: i32,
    out: String,
    err: String,
}

fn lepton(arguments: &[&str]) -> Ran {
    let home = tempfile::tempdir().unwrap();
    let output: Output = Command::new(env!("CARGO_BIN_EXE_lepton"))
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .env("LEPTON_TOKEN", "lpt_x")
        // Port 1 belongs to nobody.
        .env("LEPTON_URL", "http://127.0.0.1:1")
        .output()
        .unwrap();
    Ran {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn the_version_is_told_both_ways() {
    let version = format!("lepton {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(lepton(&["version"]).out, version);
    assert_eq!(lepton(&["--version"]).out, version);
    let json = lepton(&["version", "-o", "json"]).out;
    assert_eq!(
        json.trim(),
        format!("{{\n  \"client\": \"{}\"\n}}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_wrong_command_line_is_status_2_and_leaves_standard_output_alone() {
    for arguments in [
        &["no-such-command"][..],
        &["train", "x"],
        &["get"],
        &["get", "pods"],
        &[
            "train", "x", "--data", "d", "--target", "t", "--budget", "1m", "--trials", "3",
        ],
        &["run", "UPPER", "--", "true"],
        &["deploy", "x", "--model", "../x"],
    ] {
        let ran = lepton(arguments);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{arguments:?}");
        assert!(!ran.err.is_empty());
    }
}

#[test]
fn no_server_is_status_6_and_says_what_to_do() {
    for arguments in [
        &["whoami"][..],
        &["get", "jobs", "-o", "json", "--project", "p"],
        &["run", "x", "--no-code", "--project", "p", "--", "true"],
    ] {
        let ran = lepton(arguments);
        assert_eq!(
            (ran.status, ran.out.as_str()),
            (6, ""),
            "{arguments:?}: {}",
            ran.err
        );
        assert!(ran.err.contains("`lepton up`"), "{}", ran.err);
        assert!(
            !ran.err.contains('\u{1b}'),
            "colours in a pipe: {}",
            ran.err
        );
    }
}

#[test]
fn a_code_that_is_not_there_is_status_3_and_names_near_ones() {
    let ran = lepton(&["explain", "not-fond"]);
    assert_eq!(ran.status, 3);
    assert!(ran.err.contains("did you mean `not-found`?"), "{}", ran.err);
    assert!(lepton(&["explain", "not-found"]).out.contains("HTTP 404"));
}

#[test]
fn data_that_cannot_be_used_is_status_8() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.csv");
    std::fs::write(&empty, "").unwrap();
    let ran = lepton(&[
        "predict",
        "x",
        "--project",
        "p",
        "--data",
        empty.to_str().unwrap(),
    ]);
    assert_eq!(ran.status, 8, "{}", ran.err);
    assert!(ran.err.contains("is empty"), "{}", ran.err);
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = lepton(&["completions", shell]);
        assert_eq!(ran.status, 0);
        assert!(ran.out.contains("deploy"), "{shell}");
    }
}

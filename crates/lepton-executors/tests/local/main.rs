//! The local executor on this machine: the suite that all executors share, and what only real
//! processes can show. This program is its own shim.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test, although no harness marks it"
)]

#[path = "../suite/mod.rs"]
mod suite;

mod crash;
mod ground;
mod isolation;
mod limits;
mod processes;

use std::path::Path;
use std::process::ExitCode;

type Test = (String, Box<dyn Fn()>);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["shim", dir] => lepton_executors::shim::main(Path::new(dir)),
        ["driver", root, seed] => crash::drive(Path::new(root), seed),
        ["hold", mib] => limits::hold(mib),
        _ => run(&words),
    }
}

fn tests() -> Vec<Test> {
    let mut all: Vec<Test> = suite::ALL
        .into_iter()
        .map(|(name, test)| {
            let run = move || test(&ground::Local::new());
            (format!("suite::{name}"), Box::new(run) as Box<dyn Fn()>)
        })
        .collect();
    let more = [processes::ALL, limits::ALL, isolation::ALL, crash::ALL].concat();
    all.extend(
        more.into_iter()
            .map(|(name, test)| (name.to_owned(), Box::new(test) as Box<dyn Fn()>)),
    );
    all
}

/// The part of the standard harness's command line that cargo and nextest use.
fn run(words: &[&str]) -> ExitCode {
    if words.contains(&"--list") {
        // There are no ignored tests.
        let names = if words.contains(&"--ignored") {
            Vec::new()
        } else {
            tests()
        };
        for (name, _) in names {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let exact = words.contains(&"--exact");
    let filters: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let mut failed = 0;
    for (name, test) in tests() {
        let wanted = filters.is_empty()
            || filters.iter().any(|f| {
                if exact {
                    name == ***f
                } else {
                    name.contains(**f)
                }
            });
        if wanted {
            let began = std::time::Instant::now();
            let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)).is_ok();
            let verdict = if passed { "ok" } else { "FAILED" };
            println!(
                "test {name} ... {verdict} ({} ms)",
                began.elapsed().as_millis()
            );
            failed += u32::from(!passed);
        }
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

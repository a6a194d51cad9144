//! The one binary.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

mod simulate;

/// An AI cloud in one binary.
#[derive(Debug, Parser)]
#[command(name = "lepton", version)]
enum Lepton {
    /// Replay a trace through a policy
    #[command(subcommand)]
    Simulate(simulate::Simulate),
}

fn main() -> ExitCode {
    let Lepton::Simulate(simulate) = Lepton::parse();
    let mut out = std::io::stdout().lock();
    let Err(error) = simulate.run(&mut out) else {
        return ExitCode::SUCCESS;
    };
    let mut said = format!("error: {error}");
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        // A message that quotes its cause already has said it.
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = next.source();
    }
    let _ = writeln!(std::io::stderr(), "{said}");
    ExitCode::FAILURE
}

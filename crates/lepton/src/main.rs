//! The one binary.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

mod explain;
mod simulate;

/// An AI cloud in one binary.
#[derive(Debug, Parser)]
#[command(name = "lepton", version)]
enum Lepton {
    /// Replay a trace through a policy
    #[command(subcommand)]
    Simulate(simulate::Simulate),
    /// Look into recorded decisions
    #[command(subcommand)]
    Plan(explain::Plan),
}

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let done: Result<(), Box<dyn Error>> = match Lepton::parse() {
        Lepton::Simulate(simulate) => simulate.run(&mut out).map_err(Into::into),
        Lepton::Plan(plan) => plan.run(&mut out).map_err(Into::into),
    };
    let Err(error) = done else {
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

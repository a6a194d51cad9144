//! The one binary. Owns: which of its parts is started. Must not know: how any of them works.

mod args;
mod commands;
mod context;
mod explain;
mod failure;
mod gang_log;
mod job_wait;
mod kinds;
mod leaderboard;
mod names;
mod output;
mod packing;
mod progress;
mod rows;
mod server;
mod simulate;
mod waiting;
mod workers;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A shim outlives the server beside every worker: nothing may be set up before it.
    if let Some(code) = server::shim() {
        return code;
    }
    args::run()
}

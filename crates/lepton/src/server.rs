//! The seam to the parts that serve and work: the server, the workers and the
//! shim. Must not know: how the client commands are written.

use std::process::ExitCode;

use crate::commands::{config, up, worker};
use crate::failure::Failure;

/// Runs as a shim and never comes back as anything else, if that is what was started.
pub(crate) fn shim() -> Option<ExitCode> {
    None
}

/// Serves until told to stop.
pub(crate) fn up(_options: &up::Up) -> Result<(), Failure> {
    Err(Failure::NotInThisBuild { what: "the server" })
}

/// Does the work that the environment describes.
pub(crate) fn worker(_role: &worker::Role) -> Result<(), Failure> {
    Err(Failure::NotInThisBuild {
        what: "the workers",
    })
}

/// Checks or shows the server's configuration.
pub(crate) fn config(_action: &config::Action) -> Result<String, Failure> {
    Err(Failure::NotInThisBuild { what: "the server" })
}

use std::path::Path;
use std::process::ExitCode;
pub(crate) const ALL: &[(&str, fn())] = &[];
pub(crate) fn drive(_root: &Path, _seed: &str) -> ExitCode {
    ExitCode::SUCCESS
}

use std::process::ExitCode;
pub(crate) const ALL: &[(&str, fn())] = &[];
pub(crate) fn hold(_mib: &str) -> ExitCode {
    ExitCode::SUCCESS
}

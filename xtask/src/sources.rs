//! Source files: small, documented, well named, and without what belongs elsewhere.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// Lines before the tests of a file; more is two files.
const LINES_MAX: usize = 500;

/// Words that say nothing about what is inside.
const EMPTY_WORDS: [&str; 7] = [
    "utils", "util", "helpers", "common", "base", "manager", "misc",
];

/// The only modules that may hold `unsafe`, each with its reasons.
const UNSAFE: [&str; 2] = [
    "crates/lepton-executors/src/sys.rs",
    "crates/lepton-ml/src/tabular/models/product.rs",
];

pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for folder in ["crates", "xtask"] {
        for file in rust_files(&root.join(folder))? {
            let shown = file.strip_prefix(root)?.display().to_string();
            let text = std::fs::read_to_string(&file)?;
            findings.extend(check_file(&shown, &text));
        }
    }
    Ok(findings)
}

fn check_file(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count();
    let is_test = file.contains("/tests/") || file.ends_with("/tests.rs");
    if lines > LINES_MAX && !is_test {
        findings.push(format!(
            "{file}: {lines} lines before its tests, and {LINES_MAX} is the most"
        ));
    }
    let is_example = file.contains("/examples/") || file.contains("/benches/");
    if !text.starts_with("//!") && !is_test && !is_example {
        findings.push(format!("{file}: does not open with what it owns (`//!`)"));
    }
    let stem = Path::new(file)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    if EMPTY_WORDS.contains(&stem.as_ref()) {
        findings.push(format!(
            "{file}: `{stem}` says nothing about what is inside"
        ));
    }
    let has_unsafe = text.lines().any(|line| {
        let code = line.split("//").next().unwrap_or_default();
        code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
    });
    if has_unsafe && !UNSAFE.contains(&file) && !file.starts_with("xtask") {
        findings.push(format!("{file}: `unsafe` belongs into one of {UNSAFE:?}"));
    }
    findings
}

pub(crate) fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

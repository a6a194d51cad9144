//! Crates depend only on those that the table in `ARCHITECTURE.md` allows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

type Table = BTreeMap<String, BTreeSet<String>>;

pub(crate) fn check(root: &Path, metadata: &Value) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let allowed = allowed(&text);
    let mut findings = Vec::new();
    for (name, dependencies) in actual(metadata)? {
        if name == "xtask" {
            continue;
        }
        let Some(may) = allowed.get(&name) else {
            findings.push(format!(
                "ARCHITECTURE.md: its table of crates has no row for `{name}`"
            ));
            continue;
        };
        for other in dependencies.difference(may) {
            findings.push(format!(
                "{name} must not depend on {other}: see ARCHITECTURE.md"
            ));
        }
        for other in may.difference(&dependencies) {
            findings.push(format!(
                "ARCHITECTURE.md: {name} does not depend on {other}"
            ));
        }
    }
    Ok(findings)
}

/// Rows of the form ``| `crate` | owns | `crate`, `crate` | must not know |``.
fn allowed(text: &str) -> Table {
    let mut table = Table::new();
    for line in text.lines().filter(|line| line.starts_with("| `lepton")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (Some(name), Some(may)) = (cells.get(1), cells.get(3)) else {
            continue;
        };
        table.insert(name.trim_matches('`').to_owned(), quoted(may));
    }
    table
}

fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(|word| format!("lepton-{word}"))
        .collect()
}

/// Each crate of ours with those of ours that it depends on; tests are free to use any.
fn actual(metadata: &Value) -> Result<Table> {
    let packages = metadata["packages"]
        .as_array()
        .context("metadata without packages")?;
    let ours = packages
        .iter()
        .filter(|package| package["source"].is_null());
    let mut table = Table::new();
    for package in ours {
        let name = package["name"].as_str().context("a package without name")?;
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let dependencies = dependencies
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|dependency| dependency.starts_with("lepton"));
        table.insert(name.to_owned(), dependencies.map(str::to_owned).collect());
    }
    Ok(table)
}

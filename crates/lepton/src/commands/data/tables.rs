//! `lepton data preview`, `stat` and `diff`: what is in versions, and what changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lepton_ml::tabular::{Column, ReadOptions, Source, read};
use lepton_prep::Prepared;
use lepton_types::resources::{DatasetVersion, FileEntry};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::{Table, number};

/// The plan of a preparation, as people read it.
pub(super) fn plan(prepared: &Prepared) -> String {
    let mut text = String::new();
    for step in prepared.steps() {
        let columns: Vec<String> = step
            .columns
            .iter()
            .map(|(name, word)| format!("{name} {word}"))
            .collect();
        let fitted = step
            .fitted_in
            .map(|pass| format!(", fitted together with all of group {pass}"))
            .unwrap_or_default();
        let _infallible = writeln!(
            text,
            "{} {}{fitted}: {}",
            step.step,
            step.word,
            columns.join(", ")
        );
    }
    text.trim_end().to_owned()
}

/// The most of a file that is fetched for its first rows.
const PREVIEW_BYTES_MAX: u64 = 1 << 30;

pub(super) fn preview(
    ctx: &Context,
    named: &str,
    rows: usize,
    only: Option<&str>,
) -> Result<(), Failure> {
    let client = ctx.client()?;
    let version = kinds::dataset_version(client, named)?;
    let (name, _) = kinds::split_version(named)?;
    let known: Vec<String> = version.spec.files.iter().map(|f| f.path.clone()).collect();
    let file = match only {
        Some(path) => version.spec.files.iter().find(|file| file.path == path),
        None => version.spec.files.first(),
    };
    let Some(file) = file else {
        return Err(crate::names::Unknown::new("file", only.unwrap_or(""), &known).into());
    };
    if file.size_bytes > PREVIEW_BYTES_MAX {
        return Err(Failure::invalid(format!(
            "`{}` is too large for a preview: prepare a smaller version with `lepton data prepare … --sql 'SELECT … LIMIT 10'`",
            file.path
        )));
    }
    let folder = tempfile::tempdir().map_err(|source| Failure::File {
        action: "make",
        path: std::env::temp_dir(),
        source,
    })?;
    let path = folder.path().join("file");
    let download = client.dataset_file(&name, Some(version.spec.version), &file.path)?;
    download.save_as(&path, Some(file.digest), &mut |_| {})?;
    let source = Source::Stored {
        name: file.path.clone(),
        path,
    };
    let frame = read(&[source], &ReadOptions::default())
        .map_err(|error| Failure::invalid(error.to_string()))?;
    let shown: Vec<usize> = (0..frame.rows().min(rows)).collect();
    let frame = frame.take(&shown);
    let records: Vec<BTreeMap<&str, serde_json::Value>> = shown
        .iter()
        .map(|&row| {
            let cells = frame.iter();
            cells
                .map(|(name, column)| (name, cell(column, row)))
                .collect()
        })
        .collect();
    ctx.answer(&records, || {
        let heads: Vec<String> = frame.names().to_vec();
        let mut table = Table::new(heads, "no rows");
        for &row in &shown {
            let texts = frame.iter().map(|(_, column)| column.text(row));
            let texts = texts.map(Option::unwrap_or_default);
            table.push(texts.map(Into::into).collect());
        }
        table.render(ctx.columns)
    })
}

fn cell(column: &Column, row: usize) -> serde_json::Value {
    match column {
        Column::Number(values) => serde_json::Number::from_f64(values[row]).into(),
        Column::Text(text) => text.get(row).into(),
    }
}

pub(super) fn stat(ctx: &Context, named: &str) -> Result<(), Failure> {
    let version = kinds::dataset_version(ctx.client()?, named)?;
    ctx.answer(&version, || {
        let mut text = super::summary(&version);
        text.push('\n');
        if let Some(note) = &version.status.note {
            let _infallible = writeln!(text, "{note}");
        }
        let Some(lineage) = &version.spec.lineage else {
            let mut table = Table::new(vec!["COLUMN", "TYPE", "MISSING"], "no columns are known");
            for column in &version.status.columns {
                let missing = column.missing.to_string();
                table.push(vec![
                    column.name.as_str().into(),
                    column.r#type.as_str().into(),
                    missing.into(),
                ]);
            }
            return text + &table.render(ctx.columns);
        };
        for part in &lineage.parts {
            let _infallible = writeln!(text, "part {}: {} rows", part.name, part.rows);
        }
        let heads = vec![
            "COLUMN",
            "TYPE",
            "MISSING",
            "MIN",
            "MAX",
            "MEAN",
            "DEVIATION",
        ];
        let mut table = Table::new(heads, "no columns are known");
        for column in &lineage.columns {
            let shown = |value: Option<f64>| value.map(number).unwrap_or_default().into();
            table.push(vec![
                column.name.as_str().into(),
                column.r#type.as_str().into(),
                column.missing.to_string().into(),
                shown(column.min),
                shown(column.max),
                shown(column.mean),
                shown(column.deviation),
            ]);
        }
        text + &table.render(ctx.columns)
    })
}

/// What changed from one version to another.
#[derive(Debug, Serialize)]
struct Difference {
    old: String,
    new: String,
    rows: (Option<u64>, Option<u64>),
    files: Vec<Change>,
    columns: Vec<Change>,
}

/// One thing that differs.
#[derive(Debug, Serialize)]
struct Change {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<String>,
}

pub(super) fn diff(ctx: &Context, old: &str, new: &str) -> Result<(), Failure> {
    let client = ctx.client()?;
    let old = kinds::dataset_version(client, old)?;
    let new = kinds::dataset_version(client, new)?;
    let difference = difference(&old, &new);
    ctx.answer(&difference, || shown(&difference))
}

fn difference(old: &DatasetVersion, new: &DatasetVersion) -> Difference {
    let files = |version: &DatasetVersion| -> BTreeMap<String, String> {
        let entry = |file: &FileEntry| {
            let digest = file.digest.to_string();
            (
                file.path.clone(),
                format!("{} bytes, {}", file.size_bytes, &digest[..12]),
            )
        };
        version.spec.files.iter().map(entry).collect()
    };
    let columns = |version: &DatasetVersion| -> BTreeMap<String, String> {
        let columns = version.status.columns.iter();
        columns
            .map(|column| {
                let text = format!("{}, {} missing", column.r#type, column.missing);
                (column.name.clone(), text)
            })
            .collect()
    };
    Difference {
        old: named(old),
        new: named(new),
        rows: (old.status.rows, new.status.rows),
        files: changes(&files(old), &files(new)),
        columns: changes(&columns(old), &columns(new)),
    }
}

/// A version as commands name it.
fn named(version: &DatasetVersion) -> String {
    version.metadata.name.replacen('/', ":", 1)
}

fn changes(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<Change> {
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name));
    changed
        .map(|name| Change {
            name: name.clone(),
            old: old.get(name).cloned(),
            new: new.get(name).cloned(),
        })
        .collect()
}

fn shown(difference: &Difference) -> String {
    let mut text = format!("{} to {}\n", difference.old, difference.new);
    let rows = |rows: Option<u64>| rows.map_or("unknown".to_owned(), |rows| rows.to_string());
    if difference.rows.0 == difference.rows.1 {
        let _infallible = writeln!(text, "rows: {}, as before", rows(difference.rows.1));
    } else {
        let (old, new) = (rows(difference.rows.0), rows(difference.rows.1));
        let _infallible = writeln!(text, "rows: {old} to {new}");
    }
    for (what, changes) in [("file", &difference.files), ("column", &difference.columns)] {
        for change in changes {
            let name = &change.name;
            let _infallible = match (&change.old, &change.new) {
                (None, Some(new)) => writeln!(text, "+ {what} `{name}`: {new}"),
                (Some(old), None) => writeln!(text, "- {what} `{name}`: {old}"),
                (old, new) => {
                    let (old, new) = (old.as_deref(), new.as_deref());
                    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
                    writeln!(text, "~ {what} `{name}`: {old} to {new}")
                }
            };
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_added_removed_or_other() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = pairs
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            owned.collect()
        };
        let found = changes(
            &map(&[("a", "1"), ("b", "1"), ("c", "1")]),
            &map(&[("b", "2"), ("c", "1"), ("d", "1")]),
        );
        let names: Vec<&str> = found.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "d"]);
    }
}

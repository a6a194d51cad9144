//! `lepton apply`: desired state from YAML; shows the difference, then brings it about.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lepton_api::{
    AppliedItem, Apply as ApplyRequest, ApplyAction, ApplyReport, FieldChange, Manifest,
};
use serde::Deserialize as _;

use crate::commands::data::unreadable;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Tone, paint};

/// Brings resources to the state that YAML files describe
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton apply -f endpoint.yaml\n  lepton apply -f ./state --dry-run\n\nA manifest:\n  apiVersion: lepton/v1\n  kind: Endpoint\n  metadata: {name: wine}\n  spec: {model: wine@champion, replicas: 2}\n\nA file may hold several, separated by ---. The difference is shown first; applying twice changes nothing."
)]
pub(crate) struct Apply {
    /// A file, a folder with .yaml and .yml files, or `-`; may be repeated
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,
    /// Only shows the difference
    #[arg(long)]
    dry_run: bool,
}

/// A manifest is some lines; what is longer is something else.
const FILE_BYTES_MAX: u64 = 16 << 20;

impl Apply {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let manifests = read_all(&self.files)?;
        let client = ctx.client()?;
        let request = |dry_run| ApplyRequest {
            manifests: manifests.clone(),
            dry_run,
        };
        let planned = client.apply(&request(true))?;
        let nothing = planned
            .items
            .iter()
            .all(|item| item.action == ApplyAction::Unchanged);
        if self.dry_run || nothing {
            return ctx.answer(&planned, || render(&planned));
        }
        if ctx.format.is_for_people() {
            ctx.print(&render(&planned))?;
        }
        let done = client.apply(&request(false))?;
        ctx.answer(&done, || summary(&done))
    }
}

fn read_all(sources: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let mut manifests = Vec::new();
    for source in sources {
        for (name, text) in texts(source)? {
            manifests.extend(parse(&name, &text)?);
        }
    }
    if manifests.is_empty() {
        return Err(Failure::invalid("no manifest is there"));
    }
    Ok(manifests)
}

fn texts(source: &Path) -> Result<Vec<(String, String)>, Failure> {
    if source.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin()
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text)?;
        return Ok(vec![("-".to_owned(), text)]);
    }
    if !source.is_dir() {
        return Ok(vec![read(source)?]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(source).map_err(unreadable(source))? {
        let path = entry.map_err(unreadable(source))?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("yaml" | "yml")) {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<(String, String), Failure> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(unreadable(path))?;
    Ok((path.display().to_string(), text))
}

/// The manifests of a text; documents that are empty do not count.
fn parse(name: &str, text: &str) -> Result<Vec<Manifest>, Failure> {
    let bad = |index: usize, error: &yaml_serde::Error| {
        Failure::invalid(format!("`{name}`, document {}: {error}", index + 1))
    };
    let mut manifests = Vec::new();
    for (index, document) in yaml_serde::Deserializer::from_str(text).enumerate() {
        let value = yaml_serde::Value::deserialize(document).map_err(|error| bad(index, &error))?;
        if value.is_null() {
            continue;
        }
        let manifest: Manifest =
            yaml_serde::from_value(value).map_err(|error| bad(index, &error))?;
        if manifest.api_version != API_VERSION {
            return Err(Failure::invalid(format!(
                "`{name}`, document {}: apiVersion is `{}`, this client knows `{API_VERSION}`",
                index + 1,
                manifest.api_version
            )));
        }
        manifests.push(manifest);
    }
    Ok(manifests)
}

/// The only form of manifests so far.
const API_VERSION: &str = "lepton/v1";

fn render(report: &ApplyReport) -> String {
    let mut text = String::new();
    for item in &report.items {
        heading(&mut text, item);
        for change in &item.changes {
            difference(&mut text, change);
        }
    }
    if report.dry_run
        && report
            .items
            .iter()
            .any(|item| item.action != ApplyAction::Unchanged)
    {
        return text;
    }
    text
}

fn heading(text: &mut String, item: &AppliedItem) {
    let (sign, tone) = match item.action {
        ApplyAction::Create => ("+", Tone::Good),
        ApplyAction::Update => ("~", Tone::Busy),
        ApplyAction::Unchanged => ("=", Tone::Faint),
    };
    let what = format!("{sign} {} {}", item.kind, item.name);
    let note = match item.action {
        ApplyAction::Unchanged => " unchanged",
        ApplyAction::Create | ApplyAction::Update => "",
    };
    let _ = writeln!(text, "{}{note}", paint(&what, tone));
}

fn difference(text: &mut String, change: &FieldChange) {
    if let Some(from) = &change.from {
        let line = format!("    - {}: {from}", change.path);
        let _ = writeln!(text, "{}", paint(&line, Tone::Bad));
    }
    if let Some(to) = &change.to {
        let line = format!("    + {}: {to}", change.path);
        let _ = writeln!(text, "{}", paint(&line, Tone::Good));
    }
}

fn summary(report: &ApplyReport) -> String {
    let count = |action| {
        report
            .items
            .iter()
            .filter(|item| item.action == action)
            .count()
    };
    format!(
        "{} created, {} changed, {} unchanged",
        count(ApplyAction::Create),
        count(ApplyAction::Update),
        count(ApplyAction::Unchanged)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_types::resources::Kind;
    use serde_json::json;

    #[test]
    fn several_documents_are_several_manifests() {
        let text = "---\n# nothing\n---\napiVersion: lepton/v1\nkind: Endpoint\nmetadata: {name: wine}\nspec:\n  model: wine@champion\n  replicas: 2\n---\napiVersion: lepton/v1\nkind: Experiment\nmetadata: {name: My runs}\n";
        let manifests = parse("f.yaml", text).unwrap();
        assert_eq!(manifests.len(), 2);
        assert_eq!(
            manifests[0].spec,
            json!({"model": "wine@champion", "replicas": 2})
        );
        assert!(manifests[1].spec.is_null());
    }

    #[test]
    fn mistakes_name_their_document_and_line() {
        let error = |text: &str| parse("f.yaml", text).unwrap_err().to_string();
        insta::assert_snapshot!(error("a: [1"), @"`f.yaml`, document 1: did not find expected ',' or ']' at line 2 column 1, while parsing a flow sequence at line 1 column 4");
        insta::assert_snapshot!(error("apiVersion: lepton/v1\nkind: Endpoint\n---\n"), @"`f.yaml`, document 1: missing field `metadata`");
        insta::assert_snapshot!(error("apiVersion: lepton/v1\nkind: Endpoint\nmetadata: {name: x}\nstatus: {}\n"), @"`f.yaml`, document 1: unknown field `status`, expected one of `apiVersion`, `kind`, `metadata`, `spec`");
        insta::assert_snapshot!(error("apiVersion: v2\nkind: Endpoint\nmetadata: {name: x}\n"), @"`f.yaml`, document 1: apiVersion is `v2`, this client knows `lepton/v1`");
    }

    #[test]
    fn the_difference_reads_like_one() {
        let report = ApplyReport {
            dry_run: true,
            items: vec![
                AppliedItem {
                    kind: Kind::Endpoint,
                    name: "wine".to_owned(),
                    action: ApplyAction::Update,
                    changes: vec![FieldChange {
                        path: "spec.replicas".to_owned(),
                        from: Some(json!(1)),
                        to: Some(json!(2)),
                    }],
                },
                AppliedItem {
                    kind: Kind::Experiment,
                    name: "runs".to_owned(),
                    action: ApplyAction::Unchanged,
                    changes: Vec::new(),
                },
            ],
        };
        let plain = anstream::adapter::strip_str(&render(&report)).to_string();
        insta::assert_snapshot!(plain, @r"
        ~ endpoint wine
            - spec.replicas: 1
            + spec.replicas: 2
        = experiment runs unchanged
        ");
        insta::assert_snapshot!(summary(&report), @"0 created, 1 changed, 1 unchanged");
    }
}

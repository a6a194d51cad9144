//! Datasets and models: what they are, and what is in a version.

use lepton_client::{Client, Pages};
use lepton_types::resources::{
    DatasetVersion, FileEntry, Kind, Lineage, ModelSelector, ModelVersion,
};

use super::{events, identity};
use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::{Format, Page, Table, bytes, table_of};

/// Columns beyond this many are named by `-o json`.
const COLUMNS_SHOWN: usize = 60;
/// Versions beyond this many are listed by `lepton get`.
const VERSIONS_SHOWN: usize = 10;

/// `NAME` or `NAME:VERSION`.
pub(super) fn dataset(ctx: &Context, client: &Client, named: &str) -> Result<Page, Failure> {
    let mut page = Page::new(ctx.columns);
    let (name, number) = kinds::split_version(named)?;
    let dataset = client.dataset(&name)?;
    identity(&mut page, ctx, Kind::Dataset, &dataset.metadata);
    if !dataset.spec.description.is_empty() {
        page.fact("Description", dataset.spec.description.as_str());
    }
    page.fact("Latest version", dataset.status.latest_version.to_string());
    if dataset.status.latest_version > 0 || number.is_some() {
        dataset_version(&mut page, ctx, &client.dataset_version(&name, number)?);
    }
    events(&mut page, ctx, client, &dataset.metadata)?;
    Ok(page)
}

fn dataset_version(page: &mut Page, ctx: &Context, version: &DatasetVersion) {
    page.heading(&format!("Version {}", version.spec.version));
    if let Some(note) = &version.status.note {
        page.line(note);
    }
    if let Some(rows) = version.status.rows {
        page.line(&format!(
            "{rows} rows, {} columns",
            version.status.columns.len()
        ));
    }
    if !version.status.columns.is_empty() {
        let mut table = Table::new(vec!["COLUMN", "TYPE", "MISSING"], "");
        for column in version.status.columns.iter().take(COLUMNS_SHOWN) {
            let missing = match column.missing {
                0 => String::new(),
                count => count.to_string(),
            };
            table.push(vec![
                column.name.as_str().into(),
                column.r#type.as_str().into(),
                missing.into(),
            ]);
        }
        page.heading("Columns").table(&table);
        let hidden = version.status.columns.len().saturating_sub(COLUMNS_SHOWN);
        if hidden > 0 {
            page.line(&format!("and {hidden} more"));
        }
    }
    if let Some(lineage) = &version.spec.lineage {
        self::lineage(page, lineage);
    }
    files(page, ctx, &version.spec.files);
}

fn lineage(page: &mut Page, lineage: &Lineage) {
    page.heading("Made from");
    for input in &lineage.inputs {
        page.line(&format!(
            "{}:{} as `{}`",
            input.dataset, input.version, input.name
        ));
    }
    page.line(&format!(
        "by job {} (`lepton describe job {}`), description {}",
        lineage.job,
        lineage.job,
        lineage.description_digest.get(..12).unwrap_or_default()
    ));
    for part in &lineage.parts {
        page.line(&format!("part {}: {} rows", part.name, part.rows));
    }
}

/// `NAME`, `NAME:VERSION` or `NAME@ALIAS`.
pub(super) fn model(ctx: &Context, client: &Client, named: &str) -> Result<Page, Failure> {
    let mut page = Page::new(ctx.columns);
    let named = kinds::model_ref(named)?;
    let model = client.model(&named.model)?;
    identity(&mut page, ctx, Kind::Model, &model.metadata);
    if !model.spec.description.is_empty() {
        page.fact("Description", model.spec.description.as_str());
    }
    page.fact("Latest version", model.status.latest_version.to_string());
    for (alias, version) in &model.spec.aliases {
        page.fact(&format!("@{alias}"), format!("version {version}"));
    }
    if named.selector == ModelSelector::Latest && model.status.latest_version > 0 {
        let versions: Vec<_> = Pages::new(|page| client.model_versions(&named.model, &page))
            .collect::<Result<_, _>>()?;
        let newest = versions.iter().rev().take(VERSIONS_SHOWN);
        page.heading("Versions")
            .table(&table_of(newest, Format::Wide, ctx.now()));
    }
    if model.status.latest_version > 0 || named.selector != ModelSelector::Latest {
        model_version(
            &mut page,
            ctx,
            &client.model_version(&named.model, &named.selector)?,
        );
    }
    events(&mut page, ctx, client, &model.metadata)?;
    Ok(page)
}

fn model_version(page: &mut Page, ctx: &Context, version: &ModelVersion) {
    page.heading(&format!("Version {}", version.spec.version));
    if !version.spec.description.is_empty() {
        page.line(&version.spec.description);
    }
    if let Some(run) = version.spec.run {
        page.line(&format!("made by run {run} (`lepton describe run {run}`)"));
    }
    files(page, ctx, &version.spec.files);
}

fn files(page: &mut Page, ctx: &Context, files: &[FileEntry]) {
    let total = bytes(files.iter().map(|file| file.size_bytes).sum());
    page.heading(&format!("Files ({total})"))
        .table(&table_of(files, ctx.format, ctx.now()));
}

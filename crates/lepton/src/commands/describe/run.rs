//! A run: parameters, metrics with their series, the leaderboard, artifacts.

use lepton_api::RunView;
use lepton_client::{Client, Over, Pages, SeriesRange};
use lepton_types::resources::Kind;
use lepton_types::{ExperimentId, RunId};

use super::{events, identity, phase};
use crate::context::Context;
use crate::failure::Failure;
use crate::leaderboard::Leaderboard;
use crate::output::{Cell, Page, Table, Tone, number, sparkline, table_of, took};

/// Series beyond this many are a page of their own.
const SERIES_SHOWN: usize = 40;
/// Points of a curve: 32 columns of ten pixels each, more than a line of text can show.
const POINTS_READ: u32 = 1_280;
/// Experiments that are looked through for a name.
const EXPERIMENTS_READ: usize = 1_000;
/// How wide a series is drawn.
const SPARK_COLUMNS: usize = 32;

pub(super) fn page(ctx: &Context, client: &Client, view: &RunView) -> Result<Page, Failure> {
    let mut page = Page::new(ctx.columns);
    let run = &view.run;
    let id = RunId::from(run.metadata.id);
    identity(&mut page, ctx, Kind::Run, &run.metadata);
    phase(&mut page, run.status.phase.as_str());
    page.fact("Experiment", experiment(client, run.spec.experiment)?);
    if let Some(start) = run.status.started_at {
        let end = run.status.finished_at.unwrap_or_else(|| ctx.now());
        page.fact("Took", took(end.since(start)));
    }
    pairs(&mut page, "Parameters", view.params.iter());
    pairs(&mut page, "Tags", view.tags.iter());
    if !view.metrics.is_empty() {
        page.heading("Metrics").table(&metrics(client, view, id)?);
    }
    let leaderboard = Leaderboard::of_run(client, id)?;
    if !leaderboard.is_empty() {
        let title = match view.params.get("metric") {
            Some(metric) => format!("Leaderboard (cross-validated {metric})"),
            None => "Leaderboard".to_owned(),
        };
        page.heading(&title).table(&leaderboard.table());
    }
    let artifacts = client.artifacts(id)?.items;
    if !artifacts.is_empty() {
        page.heading("Artifacts")
            .table(&table_of(&artifacts, ctx.format, ctx.now()));
    }
    events(&mut page, ctx, client, &run.metadata)?;
    Ok(page)
}

/// The name of an experiment, which a run knows by its id; the id, where there are too many to look.
fn experiment(client: &Client, id: ExperimentId) -> Result<String, Failure> {
    for experiment in Pages::new(|page| client.experiments(&page)).take(EXPERIMENTS_READ) {
        let metadata = experiment?.metadata;
        if metadata.id == id.id() {
            return Ok(metadata.name);
        }
    }
    Ok(id.to_string())
}

pub(super) fn pairs<'a>(
    page: &mut Page,
    title: &str,
    pairs: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
) {
    if pairs.len() == 0 {
        return;
    }
    let mut table = Table::new(vec!["NAME", "VALUE"], "");
    for (key, value) in pairs {
        table.push(vec![key.as_str().into(), value.as_str().into()]);
    }
    page.heading(title).table(&table);
}

fn metrics(client: &Client, view: &RunView, id: RunId) -> Result<Table, Failure> {
    let mut table = Table::new(vec!["METRIC", "NEWEST", "STEP", "SERIES"], "");
    for point in view.metrics.iter().take(SERIES_SHOWN) {
        let curve = (Over::Step, POINTS_READ);
        let points = client.curve(id, &point.key, &SeriesRange::default(), curve)?;
        let values: Vec<f64> = points.iter().map(|point| point.value).collect();
        let drawn = match values.len() {
            0 | 1 => String::new(),
            _ => sparkline(&values, SPARK_COLUMNS),
        };
        table.push(vec![
            point.key.as_str().into(),
            number(point.value).into(),
            point.step.to_string().into(),
            Cell::toned(drawn, Tone::Good),
        ]);
    }
    Ok(table)
}

//! `lepton runs export`: runs with their parameters, tags and series, for other tools.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use lepton_api::RunView;
use lepton_client::{Client, Pages, RunFilter, SeriesRange};
use lepton_types::resources::MetricPoint;
use lepton_types::{FreeName, RunId, Timestamp};
use serde::Serialize;

use super::tables::Tables;
use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::count;
use crate::progress::Progress;

/// Writes runs with their parameters, tags and series to Parquet or JSON lines
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton runs export --to runs.jsonl\n  lepton runs export wine-a wine-b --to ./wine-runs\n  lepton runs export --experiment wine --metric 'accuracy>0.9' --to ./good-runs\n  lepton runs export --to - | jq .run.metadata.name\n\nA folder gets runs.parquet, params.parquet, tags.parquet and metrics.parquet, one row a run, parameter, tag or point, joined by run_id. A file that ends in .jsonl or .json, or `-`, gets one line a run, with \"series\": {KEY: [[step, milliseconds, value], …]}."
)]
pub(crate) struct Export {
    /// Ids of runs, or names; all runs where none is given
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// Only those of this experiment
    #[arg(long, value_name = "NAME")]
    experiment: Option<FreeName>,
    /// Only those whose metric is so: accuracy>0.9
    #[arg(long, value_name = "CONDITION")]
    metric: Option<String>,
    /// Into this folder (Parquet), this file (JSON lines), or standard output: `-`
    #[arg(long, value_name = "DIR|FILE.jsonl")]
    to: PathBuf,
    /// What is written, where the name does not say it
    #[arg(long, value_enum, value_name = "FORMAT")]
    r#as: Option<As>,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum As {
    /// One line of JSON a run.
    Json,
    /// Four tables.
    Parquet,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Written {
    runs: u64,
    points: u64,
}

impl Export {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        self.must_be_a_folder_or_lines()?;
        let client = ctx.client()?;
        let progress = Progress::of_waiting(ctx, "exporting");
        let written = match self.form() {
            As::Json if self.to == Path::new("-") => {
                return self.write_lines(client, &progress, ctx.out()).map(drop);
            }
            As::Json => self.write_file(client, &progress)?,
            As::Parquet => self.write_tables(client, &progress)?,
        };
        drop(progress);
        ctx.answer(&written, || {
            let runs = count(written.runs, "run");
            let points = count(written.points, "point");
            format!("{runs} with {points} in {}", self.to.display())
        })
    }

    fn form(&self) -> As {
        let ending = self.to.extension().and_then(|ending| ending.to_str());
        self.r#as.unwrap_or(match ending {
            Some("jsonl" | "json" | "ndjson") => As::Json,
            _ if self.to == Path::new("-") => As::Json,
            _ => As::Parquet,
        })
    }

    /// A file's name that would become a folder's is a mistake.
    fn must_be_a_folder_or_lines(&self) -> Result<(), Failure> {
        let ending = self.to.extension().and_then(|ending| ending.to_str());
        match ending {
            Some(ending @ ("csv" | "parquet" | "txt" | "tsv" | "xlsx")) if self.r#as.is_none() => {
                Err(Failure::usage(format!(
                    "runs are not written to one .{ending} file: give a folder, which gets four Parquet \
                     tables, or a name that ends in .jsonl"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Calls `each` for every run that is meant.
    fn each_run(
        &self,
        client: &Client,
        mut each: impl FnMut(&RunView) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for run in &self.runs {
            each(&client.run_view(kinds::run_id(client, run)?)?)?;
        }
        if !self.runs.is_empty() {
            return Ok(());
        }
        let filter = RunFilter {
            experiment: self.experiment.clone(),
            metrics: self.metric.iter().cloned().collect(),
            ..RunFilter::default()
        };
        for view in Pages::new(|page| client.runs(&filter, &page)) {
            each(&view?)?;
        }
        Ok(())
    }

    fn write_file(&self, client: &Client, progress: &Progress) -> Result<Written, Failure> {
        let (part, file) = Part::create(&self.to)?;
        let written = self.write_lines(client, progress, file)?;
        part.keep()?;
        Ok(written)
    }

    fn write_lines(
        &self,
        client: &Client,
        progress: &Progress,
        out: impl Write,
    ) -> Result<Written, Failure> {
        let mut out = BufWriter::new(out);
        let mut written = Written::default();
        self.each_run(client, |view| {
            progress.say(format!("exporting {}", view.run.metadata.name));
            written.runs += 1;
            written.points += write_line(client, view, &mut out)?;
            Ok(())
        })?;
        out.flush()?;
        Ok(written)
    }

    fn write_tables(&self, client: &Client, progress: &Progress) -> Result<Written, Failure> {
        let mut tables = Tables::create(&self.to)?;
        let mut written = Written::default();
        self.each_run(client, |view| {
            progress.say(format!("exporting {}", view.run.metadata.name));
            written.runs += 1;
            tables.add_run(view)?;
            each_page(client, view, |_, points| {
                written.points += points.len() as u64;
                tables.add_points(view.run.metadata.id.into(), points)
            })
        })?;
        tables.finish()?;
        Ok(written)
    }
}

/// A run as one line, with its points as they come; returns how many.
fn write_line(client: &Client, view: &RunView, out: &mut impl Write) -> Result<u64, Failure> {
    write!(out, "{{\"run\":{},\"series\":{{", json_line(view))?;
    let (mut points_written, mut current) = (0, None);
    each_page(client, view, |key, points| {
        if current.as_deref() != Some(key) {
            let end = if current.is_some() { "]," } else { "" };
            write!(out, "{end}{}:[", json_line(key))?;
            current = Some(key.to_owned());
        } else if !points.is_empty() {
            out.write_all(b",")?;
        }
        for (number, point) in points.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            let at = point.timestamp.map_or(0, Timestamp::as_millis);
            write!(out, "{comma}[{},{at},", point.step)?;
            write_value(out, point.value)?;
            out.write_all(b"]")?;
        }
        points_written += points.len() as u64;
        Ok(())
    })?;
    out.write_all(if current.is_some() { b"]}}\n" } else { b"}}\n" })?;
    Ok(points_written)
}

/// A float in JSON; what JSON has no number for is a word, as everywhere in the API.
fn write_value(out: &mut impl Write, value: f64) -> std::io::Result<()> {
    match value {
        value if value.is_finite() => out.write_all(json_line(&value).as_bytes()),
        value if value.is_nan() => out.write_all(b"\"NaN\""),
        value if value > 0.0 => out.write_all(b"\"Infinity\""),
        _ => out.write_all(b"\"-Infinity\""),
    }
}

fn json_line<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("invariant: results have string keys")
}

/// Every page of every series of a run: at least one a metric.
fn each_page(
    client: &Client,
    view: &RunView,
    mut each: impl FnMut(&str, &[MetricPoint]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let run = RunId::from(view.run.metadata.id);
    for metric in &view.metrics {
        for page in client.series_pages(run, &metric.key, SeriesRange::default()) {
            each(&metric.key, &page?)?;
        }
    }
    Ok(())
}

/// A file that grows beside its place, gets its name when it is whole, and goes if it never is.
pub(super) struct Part {
    pub(super) file: PathBuf,
    grows: PathBuf,
}

impl Part {
    pub(super) fn create(file: &Path) -> Result<(Self, File), Failure> {
        let mut name = file.as_os_str().to_owned();
        name.push(".part");
        let part = Self {
            file: file.to_owned(),
            grows: name.into(),
        };
        let opened = File::create(&part.grows).map_err(|source| unwritable(file, source))?;
        Ok((part, opened))
    }

    pub(super) fn keep(self) -> Result<(), Failure> {
        std::fs::rename(&self.grows, &self.file).map_err(|source| unwritable(&self.file, source))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already, if it was kept; and nobody can be told of what cannot be removed.
        let _ = std::fs::remove_file(&self.grows);
    }
}

pub(super) fn unwritable(file: &Path, source: std::io::Error) -> Failure {
    Failure::File {
        action: "write",
        path: file.to_owned(),
        source,
    }
}

//! `lepton runs compare`: what differs between runs, and their curves beside each other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lepton_api::RunView;
use lepton_client::{Client, SeriesRange};
use lepton_ml::plots;
use lepton_types::resources::MetricPoint;
use lepton_types::{RunId, Timestamp};
use serde::Serialize;

use super::Against;
use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::{Cell, Curve, Table, Tone, braille, number, paint};

/// More columns than this are a page that nobody reads.
const RUNS_MAX: usize = 32;

/// Metrics that are drawn where none is chosen.
const PLOTS_MAX: usize = 6;

/// Points of a curve: 500 pixels of four, the width of a picture.
const CURVE_POINTS: u32 = 2_000;

/// Of a plot on a terminal.
const PLOT_COLUMNS_MAX: usize = 110;
const PLOT_ROWS: usize = 12;

/// Shows the parameters and metrics in which runs differ, and draws their series
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton runs compare wine-a wine-b\n  lepton runs compare 0197c1… 0197c2… --metric loss\n  lepton runs compare wine-a wine-b wine-c --metric loss --metric accuracy --plot curves.svg\n  lepton runs compare wine-a wine-b -o json"
)]
pub(crate) struct Compare {
    /// Ids of runs, or names: the newest of that name
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    runs: Vec<String>,
    /// Draws this metric's series (may be repeated)
    #[arg(long, value_name = "KEY")]
    metric: Vec<String>,
    /// Draws into this SVG file instead of on the terminal
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// What series are drawn over
    #[arg(long, value_enum, default_value_t, value_name = "AXIS")]
    against: Against,
    /// Shows what is the same, too
    #[arg(long)]
    all: bool,
}

/// A row of the comparison: what each run has of a key.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row<T> {
    key: String,
    values: Vec<Option<T>>,
}

#[derive(Debug, Serialize)]
struct Named {
    id: RunId,
    name: String,
}

#[derive(Debug, Serialize)]
struct Comparison {
    runs: Vec<Named>,
    params: Vec<Row<String>>,
    metrics: Vec<Row<MetricPoint>>,
}

impl Compare {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        if self.runs.len() > RUNS_MAX {
            let message = format!("at most {RUNS_MAX} runs are compared at once");
            return Err(Failure::usage(message));
        }
        if let Some(file) = &self.plot
            && file.extension().is_some_and(|ending| ending != "svg")
        {
            return Err(Failure::usage(format!(
                "`{}` would get an SVG: let its name end in .svg",
                file.display()
            )));
        }
        let client = ctx.client()?;
        let views = self
            .runs
            .iter()
            .map(|run| Ok(client.run_view(kinds::run_id(client, run)?)?))
            .collect::<Result<Vec<RunView>, Failure>>()?;
        for key in &self.metric {
            if !views.iter().any(|view| newest(view, key).is_some()) {
                let known: Vec<String> = metric_keys(&views).into_iter().collect();
                return Err(crate::names::Unknown::new("metric", key, &known).into());
            }
        }
        let comparison = compare(&views, self.all);
        ctx.answer(&comparison, || {
            table(&comparison, self.all).render(ctx.columns)
        })?;
        let keys = match self.metric.is_empty() {
            true if self.plot.is_some() => drawn_by_default(&views),
            _ => self.metric.clone(),
        };
        if keys.is_empty() {
            return Ok(());
        }
        match &self.plot {
            Some(file) => self.save(ctx, client, &views, &keys, file),
            None if ctx.format.is_for_people() => self.draw(ctx, client, &views, &keys),
            None => Ok(()),
        }
    }

    fn draw(
        &self,
        ctx: &Context,
        client: &Client,
        views: &[RunView],
        keys: &[String],
    ) -> Result<(), Failure> {
        for key in keys {
            let curves = curves(client, views, key, self.against)?;
            ctx.print(&format!("\n{}", paint(key, Tone::Strong)))?;
            let columns = ctx.columns.min(PLOT_COLUMNS_MAX);
            ctx.print(&braille(&curves, columns, PLOT_ROWS))?;
        }
        Ok(())
    }

    fn save(
        &self,
        ctx: &Context,
        client: &Client,
        views: &[RunView],
        keys: &[String],
        file: &Path,
    ) -> Result<(), Failure> {
        let axis = match self.against {
            Against::Step => "step",
            Against::Time => "seconds",
        };
        let mut pictures = Vec::with_capacity(keys.len());
        for key in keys {
            let series = curves(client, views, key, self.against)?
                .into_iter()
                .map(|curve| plots::Series {
                    name: curve.name,
                    points: finite(curve.points),
                })
                .collect();
            let lines = plots::Lines {
                title: key.clone(),
                labels: (axis.to_owned(), key.clone()),
                series,
                ..plots::Lines::default()
            };
            pictures.push(lines.draw(key));
        }
        let svg = plots::stack(&pictures);
        std::fs::write(file, svg).map_err(|source| Failure::File {
            action: "write",
            path: file.to_owned(),
            source,
        })?;
        ctx.note(&format!("drew {} into {}", keys.join(", "), file.display()));
        Ok(())
    }
}

fn compare(views: &[RunView], all: bool) -> Comparison {
    let params: BTreeSet<&String> = views.iter().flat_map(|view| view.params.keys()).collect();
    let params = params.into_iter().map(|key| Row {
        key: key.clone(),
        values: views
            .iter()
            .map(|view| view.params.get(key).cloned())
            .collect(),
    });
    let metrics = metric_keys(views).into_iter().map(|key| Row {
        values: views
            .iter()
            .map(|view| newest(view, &key).cloned())
            .collect(),
        key,
    });
    Comparison {
        runs: views
            .iter()
            .map(|view| Named {
                id: view.run.metadata.id.into(),
                name: view.run.metadata.name.clone(),
            })
            .collect(),
        params: params
            .filter(|row| all || differs(row, |a, b| a == b))
            .collect(),
        metrics: metrics
            .filter(|row| all || differs(row, |a, b| a.value.total_cmp(&b.value).is_eq()))
            .collect(),
    }
}

/// Whether two runs have other values, or one has none.
fn differs<T>(row: &Row<T>, same: impl Fn(&T, &T) -> bool) -> bool {
    row.values
        .windows(2)
        .any(|pair| match (&pair[0], &pair[1]) {
            (Some(first), Some(second)) => !same(first, second),
            (None, None) => false,
            _ => true,
        })
}

fn metric_keys(views: &[RunView]) -> BTreeSet<String> {
    let metrics = views.iter().flat_map(|view| &view.metrics);
    metrics.map(|point| point.key.clone()).collect()
}

fn newest<'a>(view: &'a RunView, key: &str) -> Option<&'a MetricPoint> {
    view.metrics.iter().find(|point| point.key == key)
}

/// The first metrics that all runs have.
fn drawn_by_default(views: &[RunView]) -> Vec<String> {
    let keys = metric_keys(views).into_iter();
    keys.filter(|key| views.iter().all(|view| newest(view, key).is_some()))
        .take(PLOTS_MAX)
        .collect()
}

fn table(comparison: &Comparison, all: bool) -> Table {
    let mut headers = vec!["".to_owned()];
    headers.extend(comparison.runs.iter().map(|run| run.name.clone()));
    let empty = match all {
        true => "the runs have neither parameters nor metrics",
        false => "the runs differ neither in parameters nor in metrics; --all shows those",
    };
    let mut table = Table::new(headers, empty);
    for row in &comparison.params {
        let values = row.values.iter().map(|value| Cell::maybe(value.clone()));
        table.push(
            std::iter::once(row.key.as_str().into())
                .chain(values)
                .collect(),
        );
    }
    for row in &comparison.metrics {
        let best = row.values.iter().map(|point| {
            let shown = point.as_ref().map(|point| number(point.value));
            Cell::maybe(shown)
        });
        let key = Cell::toned(row.key.as_str(), Tone::Good);
        table.push(std::iter::once(key).chain(best).collect());
    }
    table
}

/// The curve of each run that has the metric.
fn curves(
    client: &Client,
    views: &[RunView],
    key: &str,
    against: Against,
) -> Result<Vec<Curve>, Failure> {
    let mut curves = Vec::new();
    for view in views.iter().filter(|view| newest(view, key).is_some()) {
        let run = RunId::from(view.run.metadata.id);
        let wanted = (against.over(), CURVE_POINTS);
        let points = client.curve(run, key, &SeriesRange::default(), wanted)?;
        curves.push(Curve {
            name: view.run.metadata.name.clone(),
            points: places(&points, against),
        });
    }
    Ok(curves)
}

/// Where points lie on a plot.
pub(super) fn places(points: &[MetricPoint], against: Against) -> Vec<(f64, f64)> {
    let millis = |point: &MetricPoint| point.timestamp.map_or(0, Timestamp::as_millis);
    let start = points.iter().map(millis).min().unwrap_or(0);
    let mut places: Vec<(f64, f64)> = points
        .iter()
        .map(|point| match against {
            Against::Step => (point.step as f64, point.value),
            Against::Time => ((millis(point) - start) as f64 / 1_000.0, point.value),
        })
        .collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places
}

fn finite(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let finite = points.into_iter().filter(|point| point.1.is_finite());
    finite.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_types::resources::{Resource, RunSpec};
    use lepton_types::{Id, Name};

    fn view(number: u8, params: &[(&str, &str)], metrics: &[(&str, f64)]) -> RunView {
        let id = Id::from_bytes([number; 16]);
        let spec = RunSpec::of(id.into());
        let at = Timestamp::from_millis(0);
        let name = format!("run-{number}");
        RunView {
            run: Resource::draft(id, Name::default_project(), name, at, spec),
            params: params
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            tags: std::collections::BTreeMap::new(),
            metrics: metrics
                .iter()
                .map(|(key, value)| MetricPoint {
                    key: (*key).to_owned(),
                    step: 1,
                    timestamp: Some(at),
                    value: *value,
                })
                .collect(),
        }
    }

    #[test]
    fn only_what_differs_is_shown() {
        let views = [
            view(
                1,
                &[("lr", "0.1"), ("seed", "1")],
                &[("acc", 0.5), ("nan", f64::NAN)],
            ),
            view(
                2,
                &[("lr", "0.2"), ("seed", "1")],
                &[("acc", 0.75), ("nan", f64::NAN)],
            ),
            view(
                3,
                &[("lr", "0.2"), ("seed", "1"), ("wd", "0")],
                &[("acc", 0.75)],
            ),
        ];
        let shown = |views: &[RunView], all| {
            let table = table(&compare(views, all), all);
            anstream::adapter::strip_str(&table.render(100)).to_string()
        };
        insta::assert_snapshot!(shown(&views, false), @r"
             run-1  run-2  run-3
        lr   0.1    0.2    0.2
        wd   -      -      0
        acc  0.5    0.75   0.75
        nan  NaN    NaN    -
        ");
        assert!(shown(&views, true).contains("seed"));
        let same = [view(1, &[("lr", "1")], &[]), view(1, &[("lr", "1")], &[])];
        assert!(shown(&same, false).starts_with("the runs differ neither"));
        assert_eq!(drawn_by_default(&views), ["acc"]);
        assert_eq!(drawn_by_default(&views[..2]), ["acc", "nan"]);
    }

    #[test]
    fn times_count_from_the_first_point() {
        let point = |step, at, value| MetricPoint {
            key: "m".to_owned(),
            step,
            timestamp: Some(Timestamp::from_millis(at)),
            value,
        };
        let points = [point(1, 5_000, 1.0), point(2, 3_500, 2.0)];
        assert_eq!(places(&points, Against::Time), [(0.0, 2.0), (1.5, 1.0)]);
        assert_eq!(places(&points, Against::Step), [(1.0, 1.0), (2.0, 2.0)]);
    }
}

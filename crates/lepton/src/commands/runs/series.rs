//! `lepton runs series`: the points of one metric, drawn or listed.

use lepton_api::SeriesPage;
use lepton_client::SeriesRange;
use lepton_types::Timestamp;

use super::Against;
use super::compare::places;
use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::{Curve, braille, count};

/// Points of a curve where no number is asked for: 500 pixels of four.
const CURVE_POINTS: u32 = 2_000;

const PLOT_COLUMNS_MAX: usize = 110;
const PLOT_ROWS: usize = 16;

/// Draws one metric of a run, or gives its points
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton runs series wine loss\n  lepton runs series wine loss --from-step 1000 --to-step 2000\n  lepton runs series wine loss --max-points 500 -o json\n\nWith `-o json` or `-o yaml` every point comes, unless --max-points is given: then a curve of at most so many, with the lowest and the highest point of every stretch."
)]
pub(crate) struct Series {
    /// The run's id, or its name: the newest of that name
    run: String,
    /// The metric
    #[arg(value_name = "KEY")]
    metric: String,
    /// Only from this step on
    #[arg(long, value_name = "STEP", allow_negative_numbers = true)]
    from_step: Option<i64>,
    /// Only up to this step
    #[arg(long, value_name = "STEP", allow_negative_numbers = true)]
    to_step: Option<i64>,
    /// Only from this time on, in milliseconds since 1970
    #[arg(long, value_name = "MILLIS")]
    from_time: Option<i64>,
    /// Only up to this time, in milliseconds since 1970
    #[arg(long, value_name = "MILLIS")]
    to_time: Option<i64>,
    /// At most so many points, 4 or more, which keep the extremes
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(4..))]
    max_points: Option<u32>,
    /// What the series is drawn over
    #[arg(long, value_enum, default_value_t, value_name = "AXIS")]
    against: Against,
}

impl Series {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let run = kinds::run_id(client, &self.run)?;
        let range = SeriesRange {
            from_step: self.from_step,
            to_step: self.to_step,
            from_time: self.from_time.map(Timestamp::from_millis),
            to_time: self.to_time.map(Timestamp::from_millis),
        };
        let wanted = match self.max_points {
            None if ctx.format.is_for_people() => Some(CURVE_POINTS),
            wanted => wanted,
        };
        let mut points = Vec::new();
        match wanted {
            Some(most) => {
                points = client.curve(run, &self.metric, &range, (self.against.over(), most))?;
            }
            None => {
                for page in client.series_pages(run, &self.metric, range) {
                    points.extend(page?);
                }
            }
        }
        if points.is_empty() {
            let view = client.run_view(run)?;
            let known: Vec<String> = view.metrics.into_iter().map(|point| point.key).collect();
            if !known.contains(&self.metric) {
                return Err(crate::names::Unknown::new("metric", &self.metric, &known).into());
            }
        }
        let page = SeriesPage {
            key: self.metric.clone(),
            points,
            next_offset: None,
            next_page_token: None,
        };
        ctx.answer(&page, || {
            let curve = Curve {
                name: self.metric.clone(),
                points: places(&page.points, self.against),
            };
            let drawn = braille(&[curve], ctx.columns.min(PLOT_COLUMNS_MAX), PLOT_ROWS);
            let told = count(page.points.len() as u64, "point");
            format!("{drawn}{told} drawn")
        })
    }
}

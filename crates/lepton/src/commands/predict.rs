//! `lepton predict`: rows in, predictions out, a batch at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lepton_client::Client;
use lepton_types::Name;
use lepton_types::resources::Kind;

use crate::commands::data::unreadable;
use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::{Format, count};
use crate::progress::Progress;
use crate::rows::{self, Batch, Form, PredictionWriter, Reading};

/// Asks an endpoint for predictions of rows
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton predict wine --data rows.csv > predictions.csv\n  lepton predict wine --data rows.csv --drop class -o json\n  echo '{\"alcohol\": 13.2, \"hue\": 1.1}' | lepton predict wine --data -\n\nCSV (its first line names the columns), an array of objects, or one object a line; predictions come in the same form, or as -o json or -o yaml says. A column that the model does not know is refused: --drop leaves it out."
)]
pub(crate) struct Predict {
    /// The endpoint
    endpoint: Name,
    /// The file with the rows; `-` is standard input
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Leaves a column out, such as the target
    #[arg(long, value_name = "COLUMN")]
    drop: Vec<String>,
    /// How many rows go into one request
    #[arg(long, value_name = "ROWS", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
}

impl Predict {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let name = self.data.to_string_lossy();
        let mut source = self.open()?;
        let form = rows::form_of(&name, &mut *source)?;
        let reading = Reading {
            name: &name,
            batch: self.batch as usize,
            drop: &self.drop,
        };
        let mut writer = Writer::of(ctx, form);
        let mut busy = Duration::ZERO;
        // Where predictions go to a file, nothing else tells how far it is.
        let progress =
            (!std::io::stdout().is_terminal()).then(|| Progress::of_waiting(ctx, "predicting"));
        let mut asked = 0;
        rows::for_each_batch(&mut *source, form, &reading, &mut |batch| {
            let start = Instant::now();
            let predictions = self.ask(client, &batch)?;
            busy += start.elapsed();
            asked += batch.len() as u64;
            if let Some(progress) = &progress {
                progress.say(count(asked, "row"));
            }
            writer.write(predictions)
        })?;
        drop(progress);
        if busy == Duration::ZERO {
            return Err(Failure::invalid(format!("`{name}` has no rows")));
        }
        let rows = writer.finish(ctx)?;
        let rate = rows as f64 / busy.as_secs_f64().max(1e-9);
        if ctx.progress && ctx.format == Format::Table {
            ctx.note(&format!(
                "{rows} rows in {:.0} ms ({rate:.0} rows/s)",
                busy.as_secs_f64() * 1e3
            ));
        }
        Ok(())
    }

    fn open(&self) -> Result<Box<dyn BufRead>, Failure> {
        if self.data.as_os_str() == "-" {
            return Ok(Box::new(BufReader::new(std::io::stdin())));
        }
        let file = File::open(&self.data).map_err(unreadable(&self.data))?;
        Ok(Box::new(BufReader::new(file)))
    }

    fn ask(&self, client: &Client, batch: &Batch) -> Result<Vec<serde_json::Value>, Failure> {
        let answer = client.predict(&self.endpoint, batch).map_err(|error| {
            // The most usual mistake: rows that still have the target.
            if error.to_string().contains("does not take") {
                return Failure::invalid(format!("{error} (--drop COLUMN leaves a column out)"));
            }
            kinds::or_near_names(client, Kind::Endpoint, self.endpoint.as_str(), error)
        })?;
        if answer.predictions.len() != batch.len() {
            return Err(Failure::Part {
                message: format!(
                    "the endpoint gave {} predictions for {} rows",
                    answer.predictions.len(),
                    batch.len()
                ),
            });
        }
        Ok(answer.predictions)
    }
}

/// Predictions on their way out: as they come, but for YAML, which is one document.
enum Writer<'a> {
    Stream(PredictionWriter<Box<dyn std::io::Write + 'a>>),
    Whole(Vec<serde_json::Value>),
}

impl<'a> Writer<'a> {
    fn of(ctx: &'a Context, form: Form) -> Self {
        let form = match ctx.format {
            Format::Yaml => return Self::Whole(Vec::new()),
            Format::Json => Form::JsonArray,
            Format::Table | Format::Wide => form,
        };
        Self::Stream(PredictionWriter::new(Box::new(ctx.out()), form))
    }

    fn write(&mut self, predictions: Vec<serde_json::Value>) -> Result<(), Failure> {
        match self {
            Self::Stream(writer) => writer.write(&predictions),
            Self::Whole(all) => {
                all.extend(predictions);
                Ok(())
            }
        }
    }

    fn finish(self, ctx: &Context) -> Result<u64, Failure> {
        match self {
            Self::Stream(writer) => writer.finish(),
            Self::Whole(all) => {
                ctx.answer(&all, String::new)?;
                Ok(all.len() as u64)
            }
        }
    }
}

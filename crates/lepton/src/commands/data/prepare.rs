//! `lepton data prepare`: a preparation as a job.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lepton_api::{CreateJob, SubmitInput, SubmitPrepare, SubmitProgram};
use lepton_client::{Client, Pages};
use lepton_prep::{Input, InputFile, Preparation, Prepared};
use lepton_types::resources::{DatasetVersion, Kind};
use lepton_types::{DurationMs, FreeName, Name, RunId};

use super::unreadable;
use crate::commands::run::{Room, submitted};
use crate::commands::train::verdict;
use crate::context::Context;
use crate::failure::Failure;
use crate::job_wait::{self, Stay};
use crate::kinds;
use crate::waiting;

pub(super) const PREPARE_HELP: &str = "Examples:\n  lepton data prepare wine-ready -f prep.yaml --wait\n  lepton data prepare cities --sql 'SELECT city, sum(pay) FROM p GROUP BY city' --input p=people:3\n  lepton data prepare wine-ready -f prep.yaml --dry-run   checks it and shows the plan\n\nA description names its inputs and steps; see docs/prepare.md.";

/// What to prepare, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Prepare {
    /// The dataset that gets a version, made if it is new
    name: Name,
    /// The description, in YAML
    #[arg(short, long, value_name = "FILE", required_unless_present = "sql")]
    file: Option<PathBuf>,
    /// A query over the inputs, by name, instead of a description
    #[arg(long, value_name = "QUERY", conflicts_with = "file")]
    sql: Option<String>,
    /// An input, and the name that it has in the description
    #[arg(long = "input", value_name = "NAME=DATASET[:VERSION]")]
    inputs: Vec<String>,
    /// Checks it against the inputs' first rows and shows the plan, without running anything
    #[arg(long)]
    dry_run: bool,
    /// The experiment of its run; the job's name where absent
    #[arg(long, value_name = "NAME")]
    experiment: Option<FreeName>,
    /// How long one attempt may take
    #[arg(long, value_name = "DURATION")]
    timeout: Option<DurationMs>,
    /// How often a failed attempt is tried again
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    retries: u32,
    #[command(flatten)]
    room: Room,
    #[command(flatten)]
    stay: Stay,
}

impl Prepare {
    pub(super) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let text = self.description()?;
        let preparation =
            Preparation::from_yaml(&text).map_err(|error| Failure::invalid(error.to_string()))?;
        let inputs = self.inputs(&preparation)?;
        let client = ctx.client()?;
        if self.dry_run {
            return dry_run(ctx, client, preparation, &inputs);
        }
        let stay = self.stay;
        let request = CreateJob {
            name: self.name.clone(),
            program: SubmitProgram::Prepare(SubmitPrepare {
                dataset: self.name,
                inputs: inputs.clone(),
                description: text,
            }),
            workers: 1,
            resources: self.room.resources(),
            env: BTreeMap::new(),
            timeout: self.timeout,
            retries: self.retries,
            priority: self.room.priority,
            labels: self.room.labels()?,
            pool: self.room.pool,
            experiment: self.experiment,
        };
        let job = client.create_job(&request).map_err(|error| {
            let first = inputs.first().map_or("", |input| input.dataset.as_str());
            kinds::or_near_names(client, Kind::Dataset, first, error)
        })?;
        if !stay.wait {
            return ctx.answer(&job, || submitted(&job));
        }
        waiting::leave_on_interrupt(job_wait::farewell(&job))?;
        let over = job_wait::until_over(ctx, client, &job, stay.wait_timeout)?;
        verdict(client, &over)?;
        let version = version_of(client, &request, over.spec.run)?;
        ctx.answer(&version, || super::summary(&version))
    }

    /// The text of the description; a query alone is one too.
    fn description(&self) -> Result<String, Failure> {
        match (&self.file, &self.sql) {
            (Some(file), _) => std::fs::read_to_string(file).map_err(unreadable(file)),
            (None, sql) => {
                let query = serde_json::Value::from(sql.clone().unwrap_or_default());
                // A JSON text is YAML as well, whatever is in it.
                Ok(format!("sql: {query}\n"))
            }
        }
    }

    fn inputs(&self, preparation: &Preparation) -> Result<Vec<SubmitInput>, Failure> {
        let mut named: Vec<(String, String)> = preparation
            .inputs
            .iter()
            .map(|(name, dataset)| (name.to_owned(), dataset.clone()))
            .collect();
        for input in &self.inputs {
            let Some((name, dataset)) = input.split_once('=') else {
                return Err(Failure::usage(format!(
                    "`{input}` is no input: write NAME=DATASET or NAME=DATASET:3"
                )));
            };
            match named.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => dataset.clone_into(known),
                None => named.push((name.to_owned(), dataset.to_owned())),
            }
        }
        if named.is_empty() {
            return Err(Failure::usage(
                "no input is named: add `inputs: {NAME: DATASET}` to the description, or --input NAME=DATASET",
            ));
        }
        let inputs = named.into_iter().map(|(name, dataset)| {
            let (dataset, version) = kinds::split_version(&dataset)?;
            Ok(SubmitInput {
                name,
                dataset,
                version,
            })
        });
        inputs.collect()
    }
}

/// The version that the run made.
fn version_of(client: &Client, request: &CreateJob, run: RunId) -> Result<DatasetVersion, Failure> {
    let mut newest = None;
    for version in Pages::new(|page| client.dataset_versions(&request.name, &page)) {
        let version = version?;
        let made = version.spec.lineage.as_ref().is_some_and(|l| l.run == run);
        // The same data again is the version that there was.
        if made || newest.is_none() || version.spec.version > 0 {
            let done = made;
            newest = Some(version);
            if done {
                break;
            }
        }
    }
    newest.ok_or_else(|| Failure::invalid("the preparation left no version"))
}

/// Checks against the beginning of each input's files, which is all that types are told by.
fn dry_run(
    ctx: &Context,
    client: &Client,
    preparation: Preparation,
    inputs: &[SubmitInput],
) -> Result<(), Failure> {
    let folder = tempfile::tempdir().map_err(|source| Failure::File {
        action: "make",
        path: std::env::temp_dir(),
        source,
    })?;
    let mut local = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        let version = client
            .dataset_version(&input.dataset, input.version)
            .map_err(|error| {
                kinds::or_near_names(client, Kind::Dataset, input.dataset.as_str(), error)
            })?;
        let mut files = Vec::new();
        for (at, file) in version.spec.files.iter().enumerate() {
            let path = folder.path().join(format!("{index}-{at}"));
            let number = Some(version.spec.version);
            let download = client.dataset_file(&input.dataset, number, &file.path)?;
            download.save_as(&path, Some(file.digest), &mut |_| {})?;
            files.push(InputFile {
                name: file.path.clone(),
                path,
            });
        }
        local.push(Input {
            name: input.name.clone(),
            files,
        });
    }
    let prepared =
        Prepared::plan(preparation, &local).map_err(|error| Failure::invalid(error.to_string()))?;
    ctx.answer(&prepared.steps(), || super::tables::plan(&prepared))
}

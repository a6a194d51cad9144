//! `lepton worker prepare`: fetches datasets, prepares them, and freezes what came out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lepton_api::{LogToRun, PutDatasetVersion};
use lepton_client::{Client, ClientError, ClientOptions, Discovery, RetryPolicy};
use lepton_prep::{
    DescriptionError, Input, InputFile, Limits, Observer, Outcome, PrepError, Preparation, Prepared,
};
use lepton_types::resources::{
    DatasetPart, DatasetVersion, Lineage, NamedVersion, PrepareSpec, Program,
};
use lepton_types::{Id, RunId};

use super::train::{say, stop_on_signal};
use crate::commands::worker::Prepare;

/// Nothing was prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareWorkerError {
    #[error("the environment lacks `{name}`: the server starts this")]
    Environment { name: &'static str },
    #[error("the job is no preparation")]
    OtherJob,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Preparation(#[from] PrepError),
    #[error(transparent)]
    Description(#[from] DescriptionError),
    #[error("cannot write `{}`", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot handle signals")]
    Machine(#[source] std::io::Error),
}

/// What is spilled has a bound of its own: the disk is everybody's.
const SCRATCH_BYTES_MAX: u64 = 1 << 40;

/// Prepares and freezes. What went wrong is also written to the run, where `describe` finds it.
pub(crate) fn run(options: &Prepare) -> Result<(), PrepareWorkerError> {
    let run = variable::<RunId>("LEPTON_RUN_ID")?;
    let job = variable::<Id>("LEPTON_JOB_ID")?;
    let client = Client::discover(
        &Discovery::from_env(),
        ClientOptions {
            retry: RetryPolicy::patient(),
            ..ClientOptions::default()
        },
    )?;
    let outcome = prepare_and_freeze(&client, job, run, options);
    let (name, text) = match &outcome {
        Ok(version) => ("lepton.dataset", version.metadata.name.clone()),
        Err(error) => ("lepton.error", error.to_string()),
    };
    let log = LogToRun {
        tags: BTreeMap::from([(name.to_owned(), text)]),
        ..LogToRun::default()
    };
    // The version is frozen, or the first error is the one to report.
    let _best_effort = client.log_to_run(run, &log);
    outcome.map(drop)
}

fn variable<T: std::str::FromStr>(name: &'static str) -> Result<T, PrepareWorkerError> {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or(PrepareWorkerError::Environment { name })
}

fn prepare_and_freeze(
    client: &Client,
    job: Id,
    run: RunId,
    options: &Prepare,
) -> Result<DatasetVersion, PrepareWorkerError> {
    let asked = client.job(&job.to_string())?;
    let Program::Prepare(spec) = asked.spec.program else {
        return Err(PrepareWorkerError::OtherJob);
    };
    let preparation = Preparation::from_yaml(&spec.description)?;
    let digest = preparation.digest();
    let stop = stop_on_signal().map_err(PrepareWorkerError::Machine)?;
    let mut inputs = Vec::with_capacity(spec.inputs.len());
    for (index, input) in spec.inputs.iter().enumerate() {
        inputs.push(fetch(client, index, input)?);
    }
    let prepared = Prepared::plan(preparation, &inputs)?;
    let limits = Limits {
        threads: options.threads,
        // Code, decoders and the allocator need room beside what is accounted for.
        memory_bytes: options.memory_bytes / 4 * 3,
        scratch: PathBuf::from("scratch"),
        scratch_bytes: SCRATCH_BYTES_MAX,
    };
    let reporter = Reporter {
        stop,
        said: AtomicUsize::new(0),
    };
    let folder = Path::new("prepared");
    let outcome = prepared.run(folder, &limits, &reporter)?;
    freeze(client, folder, (job, run), spec, digest, outcome)
}

/// Downloads a version's files into the working directory.
fn fetch(client: &Client, index: usize, input: &NamedVersion) -> Result<Input, PrepareWorkerError> {
    let wanted = Some(input.version);
    let version = client.dataset_version(&input.dataset, wanted)?;
    let mut files = Vec::with_capacity(version.spec.files.len());
    for (at, file) in version.spec.files.iter().enumerate() {
        let path = PathBuf::from(format!("input-{index}-{at}"));
        let download = client.dataset_file(&input.dataset, wanted, &file.path)?;
        download.save_as(&path, Some(file.digest), &mut |_| {})?;
        files.push(InputFile {
            name: file.path.clone(),
            path,
        });
    }
    say(&format!(
        "{} is {}:{}, {} files",
        input.name,
        input.dataset,
        input.version,
        files.len()
    ));
    Ok(Input {
        name: input.name.clone(),
        files,
    })
}

/// Tells whoever reads the log how far it is, a line every tenth.
struct Reporter {
    stop: Arc<AtomicBool>,
    said: AtomicUsize,
}

impl Observer for Reporter {
    fn progress(&self, pass: usize, bytes: u64, total: u64) {
        let tenths = usize::try_from(bytes * 10 / total.max(1)).unwrap_or(10);
        let now = pass * 100 + tenths;
        if self.said.fetch_max(now, Ordering::Relaxed) < now {
            say(&format!("pass {pass}: {tenths}0 % read"));
        }
    }

    fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Uploads what came out, and records what it was made from.
fn freeze(
    client: &Client,
    folder: &Path,
    (job, run): (Id, RunId),
    spec: PrepareSpec,
    description_digest: String,
    outcome: Outcome,
) -> Result<DatasetVersion, PrepareWorkerError> {
    let mut files = Vec::with_capacity(outcome.files.len());
    for file in &outcome.files {
        files.push(client.upload_entry(&folder.join(&file.path), &file.path, &mut |_| {})?);
    }
    let path = folder.join("fitted.json");
    let fitted = serde_json::to_vec_pretty(&outcome.fitted)
        .expect("invariant: fitted steps have text keys and finite numbers");
    std::fs::write(&path, fitted).map_err(|source| PrepareWorkerError::Write {
        path: path.clone(),
        source,
    })?;
    let fitted = client.upload_entry(&path, "fitted.json", &mut |_| {})?;
    let parts = outcome.parts.iter().zip(&outcome.files);
    let parts = parts.filter(|(part, _)| !part.name.is_empty());
    let rows = outcome.files.iter().map(|file| file.rows).sum();
    let lineage = Lineage {
        inputs: spec.inputs,
        description: spec.description,
        description_digest,
        job,
        run,
        parts: parts
            .map(|(part, file)| DatasetPart {
                name: part.name.clone(),
                path: file.path.clone(),
                rows: part.rows,
            })
            .collect(),
        fitted,
        rows,
        columns: outcome.columns,
    };
    let version = client.put_dataset_version(
        &spec.dataset,
        &PutDatasetVersion {
            files,
            description: String::new(),
            lineage: Some(lineage),
        },
    )?;
    say(&format!(
        "{rows} rows after {} passes, frozen as {}",
        outcome.passes, version.metadata.name
    ));
    Ok(version)
}

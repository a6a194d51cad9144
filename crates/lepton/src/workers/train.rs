//! `lepton worker train`: fetches a dataset, trains, and registers the model.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lepton_api::{LogToRun, PutModelVersion};
use lepton_client::{Client, ClientError, ClientOptions, Discovery, RetryPolicy};
use lepton_ml::fitted::{FittedTransform, FrontError};
use lepton_ml::tabular::{
    Budget, Observer, Point, Progress, ReadError, ReadOptions, Source, TrainError, TrainOptions,
    Trained, read, train,
};
use lepton_types::resources::{FileEntry, MetricPoint};
use lepton_types::{Clock as _, RunId, SystemClock};
use serde::Serialize;

use super::spool::Spool;
use crate::commands::worker::Train;

/// There is no model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrainWorkerError {
    #[error("the environment lacks `{name}`: the server starts this")]
    Environment { name: &'static str },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the dataset cannot be used: {0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Option(String),
    #[error("{0}")]
    Train(#[from] TrainError),
    #[error("cannot write `{}`", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("what the preparation fitted cannot be read")]
    Fitted(#[source] serde_json::Error),
    #[error(transparent)]
    Front(#[from] FrontError),
    #[error("cannot start a thread or handle signals")]
    Machine(#[source] std::io::Error),
}

/// Trains and registers. What went wrong is also written to the run, where `describe` finds it.
pub(crate) fn run(options: &Train) -> Result<(), TrainWorkerError> {
    let run = std::env::var("LEPTON_RUN_ID")
        .ok()
        .and_then(|run| run.parse::<RunId>().ok());
    let run = run.ok_or(TrainWorkerError::Environment {
        name: "LEPTON_RUN_ID",
    })?;
    let client = Client::discover(
        &Discovery::from_env(),
        ClientOptions {
            retry: RetryPolicy::patient(),
            ..ClientOptions::default()
        },
    )?;
    let outcome = train_and_register(&client, run, options);
    if let Err(error) = &outcome {
        let tags = BTreeMap::from([("lepton.error".to_owned(), error.to_string())]);
        let log = LogToRun {
            tags,
            ..LogToRun::default()
        };
        // The first error is the one to report.
        let _best_effort = client.log_to_run(run, &log);
    }
    outcome
}

fn train_and_register(
    client: &Client,
    run: RunId,
    options: &Train,
) -> Result<(), TrainWorkerError> {
    let data = fetch(client, options)?;
    let frame = read(&data.sources, &ReadOptions::default())?;
    say(&format!(
        "{} rows, {} columns",
        frame.rows(),
        frame.names().len()
    ));
    let metric = options.metric.as_deref().map(str::parse).transpose();
    let metric = metric.map_err(|error: lepton_ml::tabular::metrics::ParseMetricError| {
        TrainWorkerError::Option(error.to_string())
    })?;
    let budget = match (options.budget, options.trials) {
        (Some(time), _) => Budget::Time(time),
        (None, trials) => Budget::Trials(trials.unwrap_or(1)),
    };
    let train_options = TrainOptions {
        target: options.target.clone(),
        task: None,
        metric,
        budget,
        seed: options.seed,
        threads: options.threads,
    };
    let spool = Spool::start(client.clone(), run).map_err(TrainWorkerError::Machine)?;
    let stop = stop_on_signal().map_err(TrainWorkerError::Machine)?;
    let mut reporter = Reporter {
        spool: &spool,
        stop,
        best: None,
    };
    let mut trained = train(&frame, &train_options, &SystemClock, &mut reporter)?;
    spool.finish()?;
    if let Some(fitted) = &data.fitted {
        trained.stand_behind(fitted)?;
    }
    register(client, run, options, &trained)
}

/// What is learned from, and what was fitted before.
struct Data {
    sources: Vec<Source>,
    fitted: Option<FittedTransform>,
}

/// Downloads the dataset's files into the working directory: of a prepared one the part that was
/// fitted on, as the others are for judging.
fn fetch(client: &Client, options: &Train) -> Result<Data, TrainWorkerError> {
    let wanted = Some(options.dataset_version);
    let version = client.dataset_version(&options.dataset, wanted)?;
    let lineage = version.spec.lineage.as_ref();
    let part = lineage.and_then(|lineage| lineage.parts.first());
    let mut sources = Vec::new();
    let files = version.spec.files.iter();
    let files = files.filter(|file| part.is_none_or(|part| part.path == file.path));
    for (index, file) in files.enumerate() {
        let path = PathBuf::from(format!("data-{index}"));
        let download = client.dataset_file(&options.dataset, wanted, &file.path)?;
        download.save_as(&path, Some(file.digest), &mut |_| {})?;
        sources.push(Source::Stored {
            name: file.path.clone(),
            path,
        });
    }
    let fitted = match lineage {
        None => None,
        Some(lineage) => Some(fitted(client, &lineage.fitted)?),
    };
    Ok(Data {
        sources,
        fitted: fitted.filter(|fitted| !fitted.inputs.is_empty()),
    })
}

fn fitted(client: &Client, file: &FileEntry) -> Result<FittedTransform, TrainWorkerError> {
    let mut bytes = Vec::new();
    let download = client.blob(file.digest)?;
    download.copy_to(&mut bytes, Some(file.digest), &mut |_| {})?;
    serde_json::from_slice(&bytes).map_err(TrainWorkerError::Fitted)
}

/// Set once somebody asks for the end.
pub(crate) fn stop_on_signal() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Tells the run, and whoever reads the log, how far training is.
struct Reporter<'a> {
    spool: &'a Spool,
    stop: Arc<AtomicBool>,
    best: Option<f64>,
}

impl Observer for Reporter<'_> {
    fn progress(&mut self, progress: &Progress) {
        if progress.best != self.best
            && let (Some(best), Some(model)) = (progress.best, &progress.model)
        {
            self.best = progress.best;
            // Counted from 0, as in the leaderboard.
            let trial = progress.trials.saturating_sub(1);
            say(&format!(
                "trial {trial}: {model} is best so far with {best:.5}"
            ));
        }
    }

    fn point(&mut self, point: &Point) {
        self.spool.put(MetricPoint {
            key: point.key.clone(),
            step: point.step,
            timestamp: Some(SystemClock.now()),
            value: point.value,
        });
    }

    fn should_stop(&mut self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Keeps the model, its signature, and all that a person would want to see.
fn register(
    client: &Client,
    run: RunId,
    options: &Train,
    trained: &Trained,
) -> Result<(), TrainWorkerError> {
    let folder = Path::new("result");
    std::fs::create_dir_all(folder).map_err(|source| TrainWorkerError::Write {
        path: folder.to_owned(),
        source,
    })?;
    let mut artifacts = vec![
        keep(folder, "leaderboard.json", &to_json(&trained.leaderboard))?,
        keep(folder, "importances.json", &to_json(&trained.importances))?,
        keep(folder, "classes.json", &to_json(&trained.class_reports))?,
    ];
    for plot in &trained.plots {
        artifacts.push(keep(
            folder,
            &format!("{}.svg", plot.name),
            plot.svg.as_bytes(),
        )?);
    }
    for (name, path) in &artifacts {
        let place = match name.rsplit_once('.') {
            Some((_, "svg")) => format!("plots/{name}"),
            _ => name.clone(),
        };
        client.put_artifact(run, &place, path, &mut |_| {})?;
    }
    let mut files: Vec<FileEntry> = Vec::new();
    let model = keep(folder, "model.onnx", &trained.onnx)?;
    let signature = keep(folder, "signature.json", &to_json(&trained.signature))?;
    for (name, path) in [model, signature] {
        files.push(client.upload_entry(&path, &name, &mut |_| {})?);
    }
    let parts: Vec<String> = trained
        .leaderboard
        .iter()
        .filter(|entry| entry.weight > 0.0)
        .map(|entry| entry.model.clone())
        .collect();
    let params = BTreeMap::from([
        ("algorithm".to_owned(), parts.join(" + ")),
        ("metric".to_owned(), trained.metric.to_string()),
        ("trials".to_owned(), trained.leaderboard.len().to_string()),
    ]);
    let description = format!("predicts `{}` from {} rows", options.target, trained.rows);
    let version = PutModelVersion {
        files,
        run: Some(run),
        description,
    };
    let version = client.put_model_version(&options.model, &version)?;
    let tags = BTreeMap::from([("lepton.model".to_owned(), version.metadata.name.clone())]);
    client.log_to_run(
        run,
        &LogToRun {
            params,
            tags,
            metrics: Vec::new(),
        },
    )?;
    for (metric, value) in &trained.metrics {
        say(&format!("{metric} {value:.5}"));
    }
    say(&format!("registered as {}", version.metadata.name));
    Ok(())
}

fn keep(folder: &Path, name: &str, bytes: &[u8]) -> Result<(String, PathBuf), TrainWorkerError> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).map_err(|source| TrainWorkerError::Write {
        path: path.clone(),
        source,
    })?;
    Ok((name.to_owned(), path))
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("invariant: these values have text keys")
}

/// The log is this process's standard output; a closed one is no reason to stop training.
pub(crate) fn say(line: &str) {
    let _closed = writeln!(std::io::stdout(), "{line}");
}

//! Launching: from what is recorded of an attempt or a replica to what an executor starts.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

use crate::blobs::BlobError;
use lepton_access::{S3KeyId, S3Secret, SecretToken, WorkloadKind};
use lepton_executors::{Input, Program as Start, SecretText, WorkloadId, WorkloadSpec};
use lepton_objects::s3::REGION;
use lepton_planner::workloads::WorkerKey;
use lepton_store::StoreError;
use lepton_types::resources::{
    Attempt, Job, ModelVersionSpec, Program, Replica, RunSpec, TrainBudget, TrainSpec,
};
use lepton_types::{CpuMillis, Id, Name, Resources};

use super::routes::admission;
use crate::app::App;

/// Why no workload can be described.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    /// The record is gone; nothing is to be started.
    #[error("the record is gone")]
    Gone,
    /// It will never be possible.
    #[error("{0}")]
    Impossible(String),
    /// What it begins with cannot be laid out.
    #[error("an input cannot be laid out")]
    Input(#[from] BlobError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The ports on which the workers of a gang meet; the executor gives out others.
const MASTER_PORTS: std::ops::Range<u16> = 20_000..21_000;

/// A port that is free now, looked for from a place that the attempt's id gives.
pub(super) fn free_port(attempt: Id) -> u16 {
    let bytes = attempt.to_bytes();
    let count = MASTER_PORTS.len() as u16;
    let first = u16::from_be_bytes([bytes[14], bytes[15]]) % count;
    let ports = (0..count).map(|step| MASTER_PORTS.start + (first + step) % count);
    let mut free = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().unwrap_or(MASTER_PORTS.start)
}

/// The workload of one worker of an attempt.
pub(super) async fn of_attempt(app: &App, key: WorkerKey) -> Result<WorkloadSpec, LaunchError> {
    let (attempt, job) = app
        .cache
        .read(|live| {
            let attempt = live.attempts.get(&key.id)?.clone();
            let job = live.jobs.get(&attempt.metadata.owner?.id)?.clone();
            Some((attempt, job))
        })
        .ok_or(LaunchError::Gone)?;
    let project = job.metadata.project.clone();
    let id = WorkloadId {
        attempt: key.id,
        rank: key.rank,
    };
    let mut inputs = Vec::new();
    let program = match &job.spec.program {
        Program::Command(command) => {
            if let Some(code) = command.code {
                let place = (id, inputs.len());
                let source = app.inputs.lay_out(&app.blobs, &project, code, place);
                inputs.push(Input::Archive {
                    source: source.await?,
                });
            }
            Start::Command(command.command.clone())
        }
        Program::Train(train) => Start::Builtin(train_arguments(&job, train)),
        Program::Prepare(_) => Start::Builtin(prepare_arguments(&job)),
    };
    let token = SecretToken::for_workload(&app.key, WorkloadKind::Attempt, attempt.metadata.id);
    let mut env = seeds(app, &project, &token);
    env.extend(s3_seeds(app, WorkloadKind::Attempt, attempt.metadata.id));
    env.extend(run_environment(&job, &attempt, key.rank));
    if let Some(run) = app.store.get_by_id::<RunSpec>(job.spec.run.id()).await? {
        // Where clients of MLflow put runs within this one; the default one has an id of its own.
        let experiment = match job.spec.experiment.as_str() {
            "Default" => "0".to_owned(),
            _ => run.spec.experiment.to_string(),
        };
        env.insert("MLFLOW_EXPERIMENT_ID".to_owned(), experiment);
    }
    env.extend(job.spec.env.clone());
    Ok(WorkloadSpec {
        id,
        project,
        name: job.metadata.name.clone(),
        program,
        inputs,
        env,
        secrets: BTreeMap::new(),
        resources: job.spec.resources,
        timeout: job.spec.timeout,
        grace: app.config.executor.grace,
        ports: Vec::new(),
        log_bytes_max: app.config.executor.log_bytes_max.as_bytes(),
    })
}

/// What clients of the field look for, all pointing here.
fn seeds(app: &App, project: &Name, token: &SecretToken) -> BTreeMap<String, String> {
    let url = app.url();
    let token = token.reveal();
    [
        ("LEPTON_URL", url.as_str()),
        ("LEPTON_TOKEN", token),
        ("LEPTON_PROJECT", project.as_str()),
        ("MLFLOW_TRACKING_URI", url.as_str()),
        ("MLFLOW_TRACKING_TOKEN", token),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// What clients of S3 look for: keys of the workload's own, which are good while it lives.
fn s3_seeds(app: &App, kind: WorkloadKind, id: Id) -> BTreeMap<String, String> {
    let id = S3KeyId::Workload(kind, id);
    let Some(secret) = S3Secret::derive(&app.key, id) else {
        return BTreeMap::new();
    };
    [
        ("AWS_ENDPOINT_URL_S3", app.config.s3_url()),
        ("AWS_ACCESS_KEY_ID", id.to_string()),
        ("AWS_SECRET_ACCESS_KEY", secret.reveal().to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn run_environment(job: &Job, attempt: &Attempt, rank: u32) -> BTreeMap<String, String> {
    let node = &attempt.spec.nodes[rank as usize];
    let before = &attempt.spec.nodes[..rank as usize];
    let local_rank = before.iter().filter(|other| *other == node).count();
    let threads = threads_of(job.spec.resources);
    [
        ("LEPTON_JOB_ID", job.metadata.id.to_string()),
        ("LEPTON_JOB_NAME", job.metadata.name.clone()),
        ("LEPTON_RUN_ID", job.spec.run.to_string()),
        ("LEPTON_ATTEMPT", attempt.spec.number.to_string()),
        ("MLFLOW_RUN_ID", job.spec.run.to_string()),
        ("RANK", rank.to_string()),
        ("WORLD_SIZE", job.spec.workers.to_string()),
        ("LOCAL_RANK", local_rank.to_string()),
        ("MASTER_ADDR", Ipv4Addr::LOCALHOST.to_string()),
        ("MASTER_PORT", attempt.spec.master_port.to_string()),
        // Numeric libraries would start a thread for every processor of the machine.
        ("OMP_NUM_THREADS", threads.to_string()),
        ("PYTHONUNBUFFERED", "1".to_owned()),
        // The user that it runs as need not be one that the system has a name for.
        ("USER", "lepton".to_owned()),
        ("LOGNAME", "lepton".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Whole threads that fit the processors asked for.
fn threads_of(resources: Resources) -> u64 {
    let CpuMillis { .. } = resources.cpu;
    resources.cpu.as_millis().div_ceil(1_000).max(1)
}

/// The arguments of `lepton worker train`.
fn train_arguments(job: &Job, train: &TrainSpec) -> Vec<String> {
    let mut arguments: Vec<String> = vec!["worker".into(), "train".into()];
    let mut option = |name: &str, value: String| {
        arguments.push(format!("--{name}={value}"));
    };
    option("dataset", train.dataset.to_string());
    option("dataset-version", train.dataset_version.to_string());
    option("target", train.target.clone());
    option("model", train.model.to_string());
    option("seed", train.seed.to_string());
    option("threads", threads_of(job.spec.resources).to_string());
    if let Some(metric) = &train.metric {
        option("metric", metric.clone());
    }
    match train.budget {
        TrainBudget::Time(time) => option("budget", time.to_string()),
        TrainBudget::Trials(trials) => option("trials", trials.to_string()),
    }
    arguments
}

/// The arguments of `lepton worker prepare`, which asks for its job itself.
fn prepare_arguments(job: &Job) -> Vec<String> {
    vec![
        "worker".into(),
        "prepare".into(),
        format!("--threads={}", threads_of(job.spec.resources)),
        format!("--memory-bytes={}", job.spec.resources.memory.as_bytes()),
    ]
}

/// The workload of a replica.
pub(super) async fn of_replica(app: &App, key: WorkerKey) -> Result<WorkloadSpec, LaunchError> {
    let replica = app.cache.read(|live| live.replicas.get(&key.id).cloned());
    let replica = replica.ok_or(LaunchError::Gone)?;
    let project = replica.metadata.project.clone();
    let version_key = format!("{}/{}", replica.spec.model, replica.spec.version);
    let version = app
        .store
        .get::<ModelVersionSpec>(&project, &version_key)
        .await?;
    let version = version
        .ok_or_else(|| LaunchError::Impossible(format!("model version `{version_key}` is gone")))?;
    let servable = version.spec.servable().ok_or_else(|| {
        LaunchError::Impossible(format!("model version `{version_key}` has no ONNX model"))
    })?;
    let library = app.config.onnxruntime().ok_or_else(|| {
        LaunchError::Impossible(
            "ONNX Runtime's library was not found: run `make` in the source tree, or set \
             `serving.onnxruntime` in the configuration to the path of libonnxruntime.so"
                .to_owned(),
        )
    })?;
    let id = WorkloadId {
        attempt: key.id,
        rank: 0,
    };
    let mut inputs = Vec::new();
    for file in &version.spec.files {
        let place = (id, inputs.len());
        let source = app.inputs.lay_out(&app.blobs, &project, file.digest, place);
        inputs.push(Input::File {
            source: source.await?,
            path: file.path.clone(),
        });
    }
    let token = SecretToken::for_workload(&app.key, WorkloadKind::Replica, key.id);
    let secrets = [(
        ADMISSION_FILE.to_owned(),
        admission(app, key.id).reveal().to_owned(),
    )];
    Ok(WorkloadSpec {
        id,
        name: replica.metadata.name.clone(),
        program: Start::Builtin(serve_arguments(app, &replica, &servable.path, &library)),
        inputs,
        env: seeds(app, &project, &token),
        secrets: secrets
            .map(|(name, secret)| (name, SecretText::from(secret)))
            .into(),
        resources: replica.spec.resources,
        timeout: None,
        grace: app.config.executor.grace,
        ports: vec!["http".to_owned()],
        log_bytes_max: app.config.executor.log_bytes_max.as_bytes(),
        project,
    })
}

/// The file among a replica's secrets that holds what the gateway must show.
const ADMISSION_FILE: &str = "admission";

/// The arguments of `lepton worker serve`.
fn serve_arguments(
    app: &App,
    replica: &Replica,
    model: &str,
    library: &std::path::Path,
) -> Vec<String> {
    let options = [
        ("model", model.to_owned()),
        ("name", replica.spec.endpoint.to_string()),
        ("version", replica.spec.version.to_string()),
        ("library", library.display().to_string()),
        ("admission", ADMISSION_FILE.to_owned()),
        ("threads", threads_of(replica.spec.resources).to_string()),
        (
            "body-bytes-max",
            app.config.serving.body_bytes_max.as_bytes().to_string(),
        ),
    ];
    let options = options
        .into_iter()
        .map(|(name, value)| format!("--{name}={value}"));
    ["worker".to_owned(), "serve".to_owned()]
        .into_iter()
        .chain(options)
        .collect()
}

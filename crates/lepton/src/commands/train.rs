//! `lepton train`: the built-in trainer of tabular models as a job.

use std::fmt::Write as _;

use lepton_api::{CreateJob, RunView, SubmitProgram, SubmitTrain};
use lepton_client::{Client, ClientError, Pages};
use lepton_types::resources::{ExitReason, Job, Kind, ModelVersion, Program, TrainBudget};
use lepton_types::{DurationMs, FreeName, Name, RunId};
use serde::Serialize;

use crate::commands::run::{Room, submitted};
use crate::context::Context;
use crate::failure::Failure;
use crate::job_wait::{self, Stay};
use crate::kinds;
use crate::leaderboard::Leaderboard;
use crate::output::{Tone, number, paint};
use crate::waiting;

/// Trains a model on a dataset's table, and registers it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton train wine --data wine --target class --wait\n  lepton train prices --data houses:3 --target price --metric r2 --budget 5m\n  lepton train wine --data wine --target class --trials 20 --seed 1   repeats exactly\n\nWithout --budget and --trials it searches for 60 seconds. Ctrl-C leaves the training running."
)]
pub(crate) struct Train {
    /// What to call the job, and the model unless --model says otherwise
    name: Name,
    /// The dataset and, where it is not the newest, its version
    #[arg(long, value_name = "DATASET[:VERSION]")]
    data: String,
    /// The column to predict
    #[arg(long, value_name = "COLUMN")]
    target: String,
    /// What to optimise: accuracy, f1, roc_auc, log_loss, r2, rmse, mae; what suits where absent
    #[arg(long, value_name = "METRIC")]
    metric: Option<String>,
    /// How long to search: 60s, 5m
    #[arg(long, value_name = "DURATION", conflicts_with = "trials")]
    budget: Option<DurationMs>,
    /// How many trials to make; repeats exactly
    #[arg(long, value_name = "COUNT")]
    trials: Option<u32>,
    /// The name to register the model under
    #[arg(long, value_name = "NAME")]
    model: Option<FreeName>,
    /// The experiment of its run; the job's name where absent
    #[arg(long, value_name = "NAME")]
    experiment: Option<FreeName>,
    /// Where randomness starts
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
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

impl Train {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let stay = self.stay;
        let request = self.request()?;
        let job = client
            .create_job(&request)
            .map_err(|error| self::refused(client, &request, error))?;
        if !stay.wait {
            return ctx.answer(&job, || submitted(&job));
        }
        waiting::leave_on_interrupt(job_wait::farewell(&job))?;
        let over = job_wait::until_over(ctx, client, &job, stay.wait_timeout)?;
        self::verdict(client, &over)?;
        let trained = Trained::gather(client, over)?;
        ctx.answer(&trained, || trained.render(ctx))
    }

    fn request(self) -> Result<CreateJob, Failure> {
        let (dataset, dataset_version) = kinds::split_version(&self.data)?;
        let labels = self.room.labels()?;
        let budget = match (self.budget, self.trials) {
            (Some(time), _) => Some(TrainBudget::Time(time)),
            (None, Some(trials)) => Some(TrainBudget::Trials(trials)),
            (None, None) => None,
        };
        Ok(CreateJob {
            name: self.name,
            program: SubmitProgram::Train(SubmitTrain {
                dataset,
                dataset_version,
                target: self.target,
                metric: self.metric,
                budget,
                model: self.model,
                seed: self.seed,
            }),
            workers: 1,
            resources: self.room.resources(),
            env: std::collections::BTreeMap::new(),
            timeout: self.timeout,
            retries: self.retries,
            priority: self.room.priority,
            pool: self.room.pool,
            experiment: self.experiment,
            labels,
        })
    }
}

/// If the dataset is not there, says which ones are near.
fn refused(client: &Client, request: &CreateJob, error: ClientError) -> Failure {
    match &request.program {
        SubmitProgram::Train(train) => {
            kinds::or_near_names(client, Kind::Dataset, train.dataset.as_str(), error)
        }
        SubmitProgram::Prepare(_) | SubmitProgram::Command { .. } => error.into(),
    }
}

/// The trainer leaves the reason of its failure with the run, which says more than an exit status.
pub(crate) fn verdict(client: &Client, job: &Job) -> Result<(), Failure> {
    let Err(failure) = job_wait::verdict(job) else {
        return Ok(());
    };
    // A training that was ended from outside can only say that it was.
    if !matches!(job.status.reason, Some(ExitReason::Exited { .. })) {
        return Err(failure);
    }
    let run = client.run_view(job.spec.run)?;
    Err(match run.tags.get(ERROR_TAG) {
        Some(why) => Failure::JobEnded {
            job: job.metadata.name.clone(),
            ended: format!("failed: {why}"),
        },
        None => failure,
    })
}

/// The tag under which it does.
const ERROR_TAG: &str = "lepton.error";

/// What a training that is over left behind.
#[derive(Serialize)]
struct Trained {
    job: Job,
    run: RunView,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<ModelVersion>,
    #[serde(skip_serializing_if = "Leaderboard::is_empty")]
    leaderboard: Leaderboard,
}

impl Trained {
    fn gather(client: &Client, job: Job) -> Result<Self, Failure> {
        let run = client.run_view(job.spec.run)?;
        let leaderboard = Leaderboard::of_run(client, job.spec.run)?;
        let model_version = match &job.spec.program {
            Program::Train(train) => version_of(client, &train.model, job.spec.run)?,
            Program::Prepare(_) | Program::Command(_) => None,
        };
        Ok(Self {
            job,
            run,
            model_version,
            leaderboard,
        })
    }

    fn render(&self, ctx: &Context) -> String {
        let mut text = String::new();
        if !self.leaderboard.is_empty() {
            text.push_str(&self.leaderboard.table().render(ctx.columns));
            text.push('\n');
        }
        let finals = self.run.metrics.iter().filter(|point| {
            !point.key.starts_with(job_wait::SEARCH_PREFIX) && !point.key.contains('/')
        });
        for point in finals {
            let key = paint(&point.key, Tone::Strong);
            let _ = writeln!(text, "{key} {}", number(point.value));
        }
        if let Some(version) = &self.model_version {
            let reference = format!("{}:{}", version.spec.model, version.spec.version);
            let _ = write!(
                text,
                "\nmodel {}\n`lepton deploy {} --model {reference} --wait` serves it",
                paint(&reference, Tone::Good),
                self.job.metadata.name,
            );
        }
        text
    }
}

/// The version that the run made, if it made one.
fn version_of(
    client: &Client,
    model: &FreeName,
    run: RunId,
) -> Result<Option<ModelVersion>, Failure> {
    for version in Pages::new(|page| client.model_versions(model, &page)) {
        match version {
            Ok(version) if version.spec.run == Some(run) => return Ok(Some(version)),
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

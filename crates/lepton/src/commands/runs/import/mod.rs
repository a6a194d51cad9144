//! `lepton runs import`: what MLflow recorded, out of a folder or a server of its.
//!
//! Every step can be done twice, and what is whole is marked as that by the last one. So an import that was
//! interrupted anywhere is gone on with by running it again.

mod experiments;
mod file_logged_models;
mod file_registry;
mod file_store;
mod file_traces;
mod logged_models;
mod models;
mod registry;
mod runs;
mod server_logged_models;
mod server_registry;
mod server_traces;
mod source;
mod traces;
mod tracking_server;
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lepton_api::{ErrorCode, LoggedModelView};
use lepton_client::{Client, ClientError};
use lepton_types::resources::RunPhase;
use lepton_types::{RunId, Timestamp};
use serde::Serialize;

use self::experiments::Standing;
use self::logged_models::Link;
use self::source::{Bin, Found, Source};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Tone, count, paint};
use crate::progress::Progress;

/// Brings runs, models and traces from an MLflow folder or server, with ids and times
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton runs import ./mlruns\n  lepton runs import http://mlflow.example.org:5000 --experiment wine\n  LEPTON_IMPORT_USER=ann:secret lepton runs import https://mlflow.example.org\n\nInterrupted, it goes on where it was when it is run again, and brings only what is new. Runs keep their ids where those are 32 hex digits. Logged models, traces and registered models come along. What is in the bin there comes with --deleted, into the bin here."
)]
pub(crate) struct Import {
    /// A folder as MLflow's file store has it (mlruns), or the URL of an MLflow server
    #[arg(value_name = "FOLDER|URL")]
    from: String,
    /// Only runs of this experiment (may be repeated)
    #[arg(long, value_name = "NAME")]
    experiment: Vec<String>,
    /// Brings what is in its bin, too, into the bin here
    #[arg(long)]
    deleted: bool,
    /// Leaves the artifacts
    #[arg(long)]
    without_artifacts: bool,
    /// A token for the server that is read
    #[arg(
        long,
        env = "LEPTON_IMPORT_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<String>,
    /// A user and password for it
    #[arg(
        long,
        env = "LEPTON_IMPORT_USER",
        hide_env_values = true,
        value_name = "USER:PASSWORD",
        conflicts_with = "token"
    )]
    user: Option<String>,
}

/// What the server takes; what is larger is left out, and said to be.
const KEY_BYTES_MAX: usize = 250;
const PARAM_BYTES_MAX: usize = 6_000;
const TAG_BYTES_MAX: usize = 8_000;
/// The tag that says what the source of a run looked like when all of it had been brought.
const DONE_TAG: &str = "lepton.import.fingerprint";
/// The tag that keeps a run's id where it had to get another.
const ID_TAG: &str = "lepton.import.run_id";

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Brought {
    imported: u64,
    unchanged: u64,
    points: u64,
    artifacts: u64,
    logged_models: u64,
    traces: u64,
    models: u64,
    versions: u64,
    /// What could not be brought, in words.
    left_out: Vec<String>,
}

impl Import {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let source = self.source()?;
        let progress = Progress::of_steps(ctx, "looking", 0);
        let mut import = Importing {
            client,
            now: ctx.now(),
            artifacts: !self.without_artifacts,
            brought: Brought::default(),
            experiments: BTreeMap::new(),
            runs: BTreeMap::new(),
            links: BTreeMap::new(),
            logged: BTreeMap::new(),
            total: 0,
            only_some: !self.experiment.is_empty(),
        };
        let wanted: BTreeSet<String> = self.experiment.iter().cloned().collect();
        let bin = match self.deleted {
            true => Bin::Brought,
            false => Bin::Left,
        };
        let done = import.bring_all(&source, (&wanted, bin), &progress);
        drop(progress);
        let known = import.experiments.values();
        let known: BTreeSet<String> = known.map(|it| it.source.name.clone()).collect();
        let brought = import.brought;
        for what in &brought.left_out {
            ctx.note(&format!("{} {what}", paint("left out:", Tone::Busy)));
        }
        done?;
        for name in wanted.difference(&known) {
            ctx.note(&format!("the source has no experiment `{name}`"));
        }
        ctx.answer(&brought, || {
            format!(
                "{}, {} and {} imported with {} and {}, {} unchanged; {} of {} new registered models",
                count(brought.imported, "run"),
                count(brought.logged_models, "logged model"),
                count(brought.traces, "trace"),
                count(brought.points, "point"),
                count(brought.artifacts, "artifact"),
                brought.unchanged,
                count(brought.versions, "version"),
                brought.models,
            )
        })
    }

    fn source(&self) -> Result<Source, Failure> {
        if self.from.starts_with("http://") || self.from.starts_with("https://") {
            let authorization = match (&self.token, &self.user) {
                (Some(token), _) => Some(transport::bearer(token)),
                (None, Some(user)) => Some(transport::basic(user)),
                (None, None) => None,
            };
            return Ok(Source::Server(transport::TrackingServer::new(
                &self.from,
                authorization,
            )));
        }
        let folder = PathBuf::from(&self.from);
        file_store::FileStore::open(folder).map(Source::Folder)
    }
}

struct Importing<'a> {
    client: &'a Client,
    now: Timestamp,
    artifacts: bool,
    brought: Brought,
    /// Those that are there by now, by where the source keeps them.
    experiments: BTreeMap<String, Standing>,
    /// Runs of the source that are there by now, and their ids here.
    runs: BTreeMap<String, RunId>,
    /// Logged models of the source, and the runs here that made or used them.
    links: BTreeMap<String, Vec<Link>>,
    /// Logged models of the source that are there by now.
    logged: BTreeMap<String, LoggedModelView>,
    /// How much there is to bring, as far as is known by now.
    total: u64,
    /// Not all experiments are wanted.
    only_some: bool,
}

impl Importing<'_> {
    fn bring_all(
        &mut self,
        source: &Source,
        (wanted, bin): (&BTreeSet<String>, Bin),
        progress: &Progress,
    ) -> Result<(), Failure> {
        source.each_run((wanted, bin), &mut |found| match found {
            Found::Total(total) => {
                self.total = total;
                progress.expect(total);
                Ok(())
            }
            Found::Experiment(experiment) => self.make_experiment(&experiment),
            Found::Run(run) => {
                progress.say(run.shown());
                self.bring(source, &run, progress)?;
                progress.advance(1);
                Ok(())
            }
            Found::Unreadable(what) => {
                self.left_out(what);
                Ok(())
            }
        })?;
        let open = self.experiments.values().filter(|it| !it.is_in_bin);
        for experiment in open.cloned().collect::<Vec<_>>() {
            self.bring_logged_models(source, (&experiment, bin), progress)?;
            self.bring_traces(source, &experiment, progress)?;
        }
        self.bring_models(source, progress)?;
        self.put_experiments_away()
    }

    /// There is one thing more to bring than was known.
    fn one_more(&mut self, progress: &Progress) {
        self.total += 1;
        progress.expect(self.total);
    }

    /// The registered models of the source.
    fn bring_models(&mut self, source: &Source, progress: &Progress) -> Result<(), Failure> {
        for model in source.models()? {
            match model {
                Ok(model) => self.bring_model(source, &model, progress)?,
                Err(why) => self.left_out(why),
            }
        }
        Ok(())
    }

    /// Those that the server takes; the others are noted.
    fn fitting(
        &mut self,
        what: &str,
        pairs: &BTreeMap<String, String>,
        most: usize,
    ) -> BTreeMap<String, String> {
        let mut fitting = pairs.clone();
        fitting.retain(|key, value| !self.is_too_long(what, key, value, most));
        fitting
    }

    fn is_too_long(&mut self, what: &str, key: &str, value: &str, most: usize) -> bool {
        let is_too_long = key.is_empty() || key.len() > KEY_BYTES_MAX || value.len() > most;
        if is_too_long {
            let shown: String = key.chars().take(64).collect();
            self.left_out(format!("{what} `{shown}`: it is longer than is taken here"));
        }
        is_too_long
    }

    fn left_out(&mut self, what: String) {
        self.brought.left_out.push(what);
    }
}

fn is_refused(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::InvalidRequest | ErrorCode::InvalidName | ErrorCode::TooLarge)
    )
}

/// Whether MLflow's face refuses what was sent, as it is.
fn is_refused_by_face(error: &ClientError) -> bool {
    error.status() == Some(400)
}

/// A phase from MLflow's word, or the number that its file store writes.
fn phase_of(word: &str) -> RunPhase {
    match word {
        "RUNNING" | "1" => RunPhase::Running,
        "SCHEDULED" | "2" => RunPhase::Scheduled,
        "FAILED" | "4" => RunPhase::Failed,
        "KILLED" | "5" => RunPhase::Killed,
        _ => RunPhase::Finished,
    }
}

//! `lepton runs import`: runs that MLflow recorded, out of a folder or a server of its.
//!
//! Every step can be done twice: a run is made under the id that it had, parameters and tags are
//! set, points are a set, artifacts lie under their paths. The last step notes on the run what
//! its source looked like; where that has not changed, the run is passed over the next time. So an
//! import that was interrupted anywhere is gone on with by running it again.

mod file_registry;
mod file_store;
mod models;
mod registry;
mod server_registry;
mod source;
mod tracking_server;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lepton_api::{CreateExperiment, CreateRun, ErrorCode, LogToRun, UpdateRun};
use lepton_client::{Client, ClientError, Method};
use lepton_types::resources::{MetricPoint, RunPhase};
use lepton_types::{FreeName, Id, RunId};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use self::source::{Bin, Found, Source, SourceRun};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Tone, count, paint};
use crate::progress::Progress;

/// Brings runs from an MLflow folder or server, with series, artifacts, ids and times
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton runs import ./mlruns\n  lepton runs import http://mlflow.example.org:5000 --experiment wine\n  LEPTON_IMPORT_USER=ann:secret lepton runs import https://mlflow.example.org\n\nInterrupted, it goes on where it was when it is run again, and brings only what is new. Runs keep their ids where those are 32 hex digits. Registered models come along with the runs of their versions. What is in the bin stays where it is, but for runs with --deleted."
)]
pub(crate) struct Import {
    /// A folder as MLflow's file store has it (mlruns), or the URL of an MLflow server
    #[arg(value_name = "FOLDER|URL")]
    from: String,
    /// Only runs of this experiment (may be repeated)
    #[arg(long, value_name = "NAME")]
    experiment: Vec<String>,
    /// Brings the runs in its bin, too, into the bin here
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

/// Points in one request.
const POINTS_SENT: usize = 5_000;

/// What the server takes; what is larger is left out, and said to be.
const KEY_BYTES_MAX: usize = 250;
const PARAM_BYTES_MAX: usize = 6_000;
const TAG_BYTES_MAX: usize = 8_000;
/// Parameters or tags in one request; the longest of them still fit into its bound.
const PAIRS_SENT: usize = 50;

/// Datasets in one request; a profile can be long.
const DATASETS_SENT: usize = 4;

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
            artifacts: !self.without_artifacts,
            brought: Brought::default(),
            experiments: BTreeSet::new(),
            runs: BTreeMap::new(),
            only_some: !self.experiment.is_empty(),
        };
        let wanted: BTreeSet<String> = self.experiment.iter().cloned().collect();
        let bin = match self.deleted {
            true => Bin::Brought,
            false => Bin::Left,
        };
        let seen = source.each_run((&wanted, bin), &mut |found| match found {
            Found::Total(total) => {
                progress.expect(total);
                Ok(())
            }
            Found::Experiment(name) => import.make_experiment(&name).map(drop),
            Found::Run(run) => {
                progress.say(run.shown());
                import.bring(&source, &run, &progress)?;
                progress.advance(1);
                Ok(())
            }
            Found::Unreadable(what) => {
                import.brought.left_out.push(what);
                Ok(())
            }
        });
        let models = seen.and_then(|()| import.bring_models(&source, &progress));
        drop(progress);
        let brought = import.brought;
        for what in &brought.left_out {
            ctx.note(&format!("{} {what}", paint("left out:", Tone::Busy)));
        }
        models?;
        for name in wanted.difference(&import.experiments) {
            ctx.note(&format!("the source has no experiment `{name}`"));
        }
        ctx.answer(&brought, || {
            format!(
                "{} imported with {} and {}, {} unchanged; {} of {} new models",
                count(brought.imported, "run"),
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
                (Some(token), _) => Some(tracking_server::bearer(token)),
                (None, Some(user)) => Some(tracking_server::basic(user)),
                (None, None) => None,
            };
            return Ok(Source::Server(tracking_server::TrackingServer::new(
                &self.from,
                authorization,
            )));
        }
        let folder = PathBuf::from(&self.from);
        file_store::FileStore::open(folder).map(Source::Folder)
    }
}

/// How a run stands that was brought before.
#[derive(Debug, Clone, Copy, Default)]
struct Stands {
    /// All of it is here.
    is_whole: bool,
    /// It is in the bin.
    is_deleted: bool,
}

struct Importing<'a> {
    client: &'a Client,
    artifacts: bool,
    brought: Brought,
    /// Those that are there by now.
    experiments: BTreeSet<String>,
    /// Runs of the source that are there by now, and their ids here.
    runs: BTreeMap<String, RunId>,
    /// Not all experiments are wanted.
    only_some: bool,
}

impl Importing<'_> {
    fn make_experiment(&mut self, name: &str) -> Result<Option<FreeName>, Failure> {
        let Ok(free) = name.parse::<FreeName>() else {
            self.left_out(format!("experiment `{name}`: its name cannot be used here"));
            return Ok(None);
        };
        if !self.experiments.insert(name.to_owned()) {
            return Ok(Some(free));
        }
        let request = CreateExperiment {
            name: free.clone(),
            tags: BTreeMap::new(),
        };
        match self.client.create_experiment(&request) {
            Err(error) if error.code() != Some(ErrorCode::AlreadyExists) => Err(error.into()),
            Ok(_) | Err(_) => Ok(Some(free)),
        }
    }

    fn bring(
        &mut self,
        source: &Source,
        run: &SourceRun,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let Some(experiment) = self.make_experiment(&run.experiment)? else {
            return Ok(());
        };
        let (id, stands) = self.make_run(run, &experiment)?;
        self.runs.insert(run.id.clone(), id);
        if stands.is_whole {
            self.brought.unchanged += 1;
            return self.put_away(id, run, stands);
        }
        if stands.is_deleted {
            // What is in the bin takes nothing. What was put there here alone stays there.
            if !run.is_deleted {
                self.brought.unchanged += 1;
                return Ok(());
            }
            self.move_run(id, "runs/restore", run)?;
        }
        self.bring_pairs(id, run)?;
        self.bring_inputs(id, run)?;
        for key in &run.metrics {
            if self.is_too_long("metric", key, "", TAG_BYTES_MAX) {
                continue;
            }
            progress.say(format!("{}: {key}", run.shown()));
            let mut batch = Vec::new();
            source.each_point(run, key, &mut |point| {
                batch.push(point);
                match batch.len() < POINTS_SENT {
                    true => Ok(()),
                    false => self.send_points(id, std::mem::take(&mut batch)),
                }
            })?;
            self.send_points(id, batch)?;
        }
        if self.artifacts {
            source.each_artifact(run, &mut |path, file| {
                progress.say(format!("{}: {path}", run.shown()));
                let sent = self.client.put_artifact(id, path, file, &mut |_| {});
                match sent {
                    Ok(_) => self.brought.artifacts += 1,
                    Err(error) if is_refused(&error) => {
                        self.left_out(format!("{}: artifact `{path}`: {error}", run.shown()));
                    }
                    Err(error) => return Err(error.into()),
                }
                Ok(())
            })?;
        }
        self.finish(id, run)?;
        self.put_away(id, run, Stands::default())
    }

    /// Puts into the bin what was in the source's.
    fn put_away(&mut self, id: RunId, run: &SourceRun, stands: Stands) -> Result<(), Failure> {
        match run.is_deleted && !stands.is_deleted {
            true => self.move_run(id, "runs/delete", run),
            false => Ok(()),
        }
    }

    fn move_run(&mut self, id: RunId, to: &str, run: &SourceRun) -> Result<(), Failure> {
        let fields = serde_json::json!({"run_id": id.to_string()});
        self.tell(&Method::POST, to, &fields, &run.shown())?;
        Ok(())
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

    /// The run here, made if it is new, and how it stands.
    fn make_run(
        &mut self,
        run: &SourceRun,
        experiment: &FreeName,
    ) -> Result<(RunId, Stands), Failure> {
        let own = run.id.parse::<RunId>().ok();
        for id in own.into_iter().chain([derived_id(&run.id)]) {
            match self.client.run_view(id) {
                Ok(view) => {
                    let stands = Stands {
                        is_whole: view.tags.get(DONE_TAG) == Some(&run.fingerprint),
                        is_deleted: view.run.status.deleted_at.is_some(),
                    };
                    return Ok((id, stands));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
            let request = CreateRun {
                name: run.name.clone(),
                experiment: Some(experiment.clone()),
                started_at: run.started_at,
                id: Some(id),
            };
            match self.client.create_run(&request) {
                Ok(_) => return Ok((id, Stands::default())),
                // It is another project's; the next id is ours.
                Err(error) if error.code() == Some(ErrorCode::AlreadyExists) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let message = format!("the ids that run `{}` could have are taken", run.id);
        Err(Failure::invalid(message))
    }

    fn bring_pairs(&mut self, id: RunId, run: &SourceRun) -> Result<(), Failure> {
        let params = self.fitting("parameter", &run.params, PARAM_BYTES_MAX);
        for params in pieces(params) {
            let request = LogToRun {
                params,
                ..LogToRun::default()
            };
            self.client.log_to_run(id, &request)?;
        }
        let mut tags = self.fitting("tag", &run.tags, TAG_BYTES_MAX);
        if id.to_string() != run.id {
            tags.insert(ID_TAG.to_owned(), run.id.clone());
        }
        for tags in pieces(tags) {
            let request = LogToRun {
                tags,
                ..LogToRun::default()
            };
            self.client.log_to_run(id, &request)?;
        }
        Ok(())
    }

    /// The data that went into a run.
    fn bring_inputs(&mut self, id: RunId, run: &SourceRun) -> Result<(), Failure> {
        for datasets in run.datasets.chunks(DATASETS_SENT) {
            let fields = serde_json::json!({"run_id": id.to_string(), "datasets": datasets});
            let shown = format!("{}: its datasets", run.shown());
            self.tell(&Method::POST, "runs/log-inputs", &fields, &shown)?;
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

    fn send_points(&mut self, id: RunId, metrics: Vec<MetricPoint>) -> Result<(), Failure> {
        if metrics.is_empty() {
            return Ok(());
        }
        self.brought.points += metrics.len() as u64;
        let request = LogToRun {
            metrics,
            ..LogToRun::default()
        };
        Ok(self.client.log_to_run(id, &request)?)
    }

    /// Notes that all of it is here.
    fn finish(&mut self, id: RunId, run: &SourceRun) -> Result<(), Failure> {
        let request = UpdateRun {
            phase: Some(run.phase),
            finished_at: run.finished_at.filter(|_| run.phase.is_final()),
            name: run.name.clone(),
        };
        self.client.update_run(id, &request)?;
        let tags = BTreeMap::from([(DONE_TAG.to_owned(), run.fingerprint.clone())]);
        let request = LogToRun {
            tags,
            ..LogToRun::default()
        };
        self.client.log_to_run(id, &request)?;
        self.brought.imported += 1;
        Ok(())
    }

    fn left_out(&mut self, what: String) {
        self.brought.left_out.push(what);
    }
}

/// An id for a run whose own cannot be used: always the same one.
fn derived_id(id: &str) -> RunId {
    let digest = Sha256::digest(format!("lepton runs import {id}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Id::from_bytes(bytes).into()
}

fn is_refused(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::InvalidRequest | ErrorCode::InvalidName | ErrorCode::TooLarge)
    )
}

fn pieces(pairs: BTreeMap<String, String>) -> Vec<BTreeMap<String, String>> {
    let pairs: Vec<(String, String)> = pairs.into_iter().collect();
    pairs
        .chunks(PAIRS_SENT)
        .map(|piece| piece.iter().cloned().collect())
        .collect()
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

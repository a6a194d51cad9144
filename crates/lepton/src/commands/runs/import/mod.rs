//! `lepton runs import`: what MLflow recorded, out of a folder or a server of its.
//!
//! Every step can be done twice: a run is made under the id that it had, parameters and tags are
//! set, points are a set, artifacts lie under their paths. The last step notes on the run what
//! its source looked like; where that has not changed, the run is passed over the next time. So an
//! import that was interrupted anywhere is gone on with by running it again.

mod experiments;
mod file_logged_models;
mod file_registry;
mod file_store;
mod file_traces;
mod logged_models;
mod models;
mod registry;
mod server_logged_models;
mod server_registry;
mod server_traces;
mod source;
mod traces;
mod tracking_server;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lepton_api::{CreateRun, ErrorCode, LogToRun, LoggedModelView, UpdateRun};
use lepton_client::{Client, ClientError, Method};
use lepton_types::resources::{MetricPoint, RunPhase};
use lepton_types::{FreeName, Id, RunId, Timestamp};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use self::experiments::Standing;
use self::logged_models::Link;
use self::source::{Bin, Found, Source, SourceRun};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Tone, count, paint};
use crate::progress::Progress;

/// Brings runs, models and traces from an MLflow folder or server, with ids and times
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton runs import ./mlruns\n  lepton runs import http://mlflow.example.org:5000 --experiment wine\n  LEPTON_IMPORT_USER=ann:secret lepton runs import https://mlflow.example.org\n\nInterrupted, it goes on where it was when it is run again, and brings only what is new. Runs keep their ids\nwhere those are 32 hex digits. Logged models, traces and registered models come along. What is in the bin there comes\nwith --deleted, into the bin here."
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

    fn bring(
        &mut self,
        source: &Source,
        run: &SourceRun,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let Some(experiment) = self.experiments.get(&run.experiment_id).cloned() else {
            return Ok(());
        };
        let known = match experiment.is_in_bin {
            // It takes no new ones.
            true => self.find_run(run)?,
            false => Some(self.make_run(run, &experiment.name)?),
        };
        let Some((id, stands)) = known else {
            return Ok(());
        };
        self.runs.insert(run.id.clone(), id);
        for link in &run.models {
            let links = self.links.entry(link.model.clone()).or_default();
            links.push(Link {
                run: id,
                r#use: link.r#use,
                step: link.step,
            });
        }
        if experiment.is_in_bin {
            self.brought.unchanged += 1;
            return Ok(());
        }
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

    /// The run here, if it is here, and how it stands.
    fn find_run(&self, run: &SourceRun) -> Result<Option<(RunId, Stands)>, Failure> {
        let own = run.id.parse::<RunId>().ok();
        for id in own.into_iter().chain([derived_id(&run.id)]) {
            if let Some(stands) = self.stands(run, id)? {
                return Ok(Some((id, stands)));
            }
        }
        Ok(None)
    }

    fn stands(&self, run: &SourceRun, id: RunId) -> Result<Option<Stands>, Failure> {
        match self.client.run_view(id) {
            Ok(view) => Ok(Some(Stands {
                is_whole: view.tags.get(DONE_TAG) == Some(&run.fingerprint),
                is_deleted: view.run.status.deleted_at.is_some(),
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The run here, made if it is new, and how it stands.
    fn make_run(
        &mut self,
        run: &SourceRun,
        experiment: &FreeName,
    ) -> Result<(RunId, Stands), Failure> {
        let own = run.id.parse::<RunId>().ok();
        for id in own.into_iter().chain([derived_id(&run.id)]) {
            if let Some(stands) = self.stands(run, id)? {
                return Ok((id, stands));
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

/// Whether MLflow's face refuses what was sent, as it is.
fn is_refused_by_face(error: &ClientError) -> bool {
    error.status() == Some(400)
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

//! Resources by kind and name: one call for each kind, and what is near a name
//! that is not there.

use lepton_api::RunView;
use lepton_client::{Client, ClientError, JobFilter, Page, Pages, RunFilter};
use lepton_types::FreeName;
use lepton_types::Name;
use lepton_types::resources::{DatasetVersion, JobPhase, Kind, ModelRef, ModelSelector, RunPhase};

use crate::failure::Failure;
use crate::names::Unknown;
use crate::output::{Format, Shown};
use lepton_types::Timestamp;

/// How lists are narrowed.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Narrow {
    /// Only those that stand there: queued, running, succeeded, failed, cancelled (jobs); scheduled, running,
    /// finished, failed, killed, or deleted for what is in the bin (runs)
    #[arg(long, value_name = "PHASE")]
    pub(crate) phase: Option<String>,
    /// Only those of this experiment (runs)
    #[arg(long, value_name = "NAME")]
    pub(crate) experiment: Option<FreeName>,
    /// Only those whose metric is so: accuracy>0.9 (runs; may be repeated)
    #[arg(long, value_name = "CONDITION")]
    pub(crate) metric: Vec<String>,
    /// How many at most, newest first where there are many
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

impl Narrow {
    /// A condition that nothing of this kind can meet is refused: the list would be of all.
    fn must_suit(&self, kind: Kind) -> Result<(), Failure> {
        let of_runs = kind == Kind::Run;
        let given = [
            (
                self.phase.is_some(),
                of_runs || kind == Kind::Job,
                "--phase",
            ),
            (self.experiment.is_some(), of_runs, "--experiment"),
            (!self.metric.is_empty(), of_runs, "--metric"),
        ];
        match given.iter().find(|(given, suits, _)| *given && !suits) {
            None => Ok(()),
            Some((.., option)) => {
                let of = if *option == "--phase" {
                    "jobs and runs"
                } else {
                    "runs"
                };
                Err(Failure::usage(format!(
                    "{option} is for {of}, not for {kind}s"
                )))
            }
        }
    }
}

/// What lists are shown with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) format: Format,
    pub(crate) now: Timestamp,
}

/// All of a kind that belong nowhere, narrowed.
pub(crate) fn list(
    client: &Client,
    kind: Kind,
    narrow: &Narrow,
    look: Look,
) -> Result<Shown, Failure> {
    macro_rules! all {
        ($fetch:expr) => {{
            let items = Pages::new($fetch)
                .take(narrow.limit as usize)
                .collect::<Result<Vec<_>, ClientError>>()?;
            Ok(Shown::list(&items, look.format, look.now))
        }};
    }
    narrow.must_suit(kind)?;
    match kind {
        Kind::Project => all!(|page| client.projects(&page)),
        Kind::Pool => all!(|page| client.pools(&page)),
        Kind::Reservation => all!(|page| client.reservations(&page)),
        Kind::Dataset => all!(|page| client.datasets(&page)),
        Kind::Experiment => all!(|page| client.experiments(&page)),
        Kind::Model => all!(|page| client.models(&page)),
        Kind::Endpoint => all!(|page| client.endpoints(&page)),
        Kind::Token => all!(|page| client.tokens(&page)),
        Kind::Job => {
            let filter = JobFilter {
                phase: narrow.phase.as_deref().map(job_phase).transpose()?,
                newest: true,
                ..JobFilter::default()
            };
            all!(|page| client.jobs(&filter, &page))
        }
        Kind::Run => {
            // The bin is no phase of a run, and is asked for as if it were one.
            let deleted = narrow.phase.as_deref() == Some("deleted");
            let phase = narrow.phase.as_deref().filter(|_| !deleted);
            let filter = RunFilter {
                experiment: narrow.experiment.clone(),
                phase: phase.map(run_phase).transpose()?,
                deleted,
                metrics: narrow.metric.clone(),
                newest: true,
                ..RunFilter::default()
            };
            all!(|page| client.runs(&filter, &page))
        }
        Kind::DatasetVersion | Kind::ModelVersion | Kind::Attempt | Kind::Replica => {
            let owner = match kind {
                Kind::DatasetVersion => "DATASET[:VERSION]",
                Kind::ModelVersion => "MODEL[:VERSION]",
                Kind::Attempt => "JOB",
                _ => "ENDPOINT",
            };
            Err(Failure::usage(format!(
                "`lepton get {kind}` needs to know whose: lepton get {kind} {owner}"
            )))
        }
    }
}

/// One of a kind by its name or id; what belongs to the name, for kinds that belong to others.
pub(crate) fn one(client: &Client, kind: Kind, name: &str, look: Look) -> Result<Shown, Failure> {
    let Look { format, now } = look;
    let shown = match kind {
        // `NAME:VERSION` is one version, as `describe` takes it.
        Kind::Dataset if name.contains(':') => return dataset_versions(client, name, look),
        Kind::Model if is_of_a_version(name) => return model_versions(client, name, look),
        Kind::Project => Shown::one(&client.get_project(name)?, format, now),
        Kind::Pool => Shown::one(&client.pool(name)?, format, now),
        Kind::Reservation => Shown::one(&client.reservation(name)?, format, now),
        Kind::Dataset => Shown::one(&client.dataset(&dns(name)?)?, format, now),
        Kind::Experiment => Shown::one(&client.experiment(&free(name)?)?, format, now),
        Kind::Job => Shown::one(&client.job(name)?, format, now),
        Kind::Run => Shown::one(&client.run_view(run_id(client, name)?)?, format, now),
        Kind::Model => Shown::one(&client.model(&free(name)?)?, format, now),
        Kind::Endpoint => Shown::one(&client.endpoint(&dns(name)?)?, format, now),
        Kind::Attempt => Shown::list(&client.attempts(name)?.items, format, now),
        Kind::Replica => Shown::list(&client.replicas(&dns(name)?)?.items, format, now),
        Kind::Token => {
            let all = Pages::new(|page| client.tokens(&page)).collect::<Result<Vec<_>, _>>()?;
            let known: Vec<_> = all.iter().map(|token| token.name.clone()).collect();
            let found = all.into_iter().find(|token| token.name == name);
            let found = found.ok_or_else(|| Unknown::new("token", name, &known))?;
            Shown::one(&found, format, now)
        }
        Kind::DatasetVersion => return dataset_versions(client, name, look),
        Kind::ModelVersion => return model_versions(client, name, look),
    };
    Ok(shown)
}

/// Whether a model is named with `:VERSION` or `@ALIAS`.
fn is_of_a_version(name: &str) -> bool {
    name.parse::<ModelRef>()
        .is_ok_and(|named| named.selector != ModelSelector::Latest)
}

fn dataset_versions(client: &Client, name: &str, look: Look) -> Result<Shown, Failure> {
    if name.contains(':') {
        let version = dataset_version(client, name)?;
        return Ok(Shown::one(&version, look.format, look.now));
    }
    let name = dns(name)?;
    let all =
        Pages::new(|page| client.dataset_versions(&name, &page)).collect::<Result<Vec<_>, _>>()?;
    Ok(Shown::list(&all, look.format, look.now))
}

fn model_versions(client: &Client, name: &str, look: Look) -> Result<Shown, Failure> {
    let named = model_ref(name)?;
    if named.selector != ModelSelector::Latest {
        let version = client.model_version(&named.model, &named.selector)?;
        return Ok(Shown::one(&version, look.format, look.now));
    }
    let all = Pages::new(|page| client.model_versions(&named.model, &page))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Shown::list(&all, look.format, look.now))
}

/// `NAME` or `NAME:VERSION`.
pub(crate) fn dataset_version(client: &Client, text: &str) -> Result<DatasetVersion, Failure> {
    let (name, version) = split_version(text)?;
    client
        .dataset_version(&name, version)
        .map_err(|error| or_near_names(client, Kind::Dataset, name.as_str(), error))
}

/// A dataset's name and version from `NAME` or `NAME:VERSION`.
pub(crate) fn split_version(text: &str) -> Result<(Name, Option<u32>), Failure> {
    let Some((name, version)) = text.split_once(':') else {
        return Ok((dns(text)?, None));
    };
    let number = version.parse().ok().filter(|number| *number > 0);
    match number {
        Some(number) => Ok((dns(name)?, Some(number))),
        None if version == "latest" => Ok((dns(name)?, None)),
        None => Err(Failure::usage(format!(
            "`{version}` is not a version: write NAME:3 for version 3"
        ))),
    }
}

/// Runs of one name among which the newest is looked for.
const RUNS_OF_NAME: u32 = 200;

/// A run by its id, or the newest of that name.
pub(crate) fn run_id(client: &Client, text: &str) -> Result<lepton_types::RunId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let filter = RunFilter {
        name: Some(text.to_owned()),
        newest: true,
        ..RunFilter::default()
    };
    // Ids of runs that were imported say nothing of their age.
    let found = client.runs(&filter, &Page::first(RUNS_OF_NAME))?.items;
    let began = |view: &&RunView| {
        let run = &view.run;
        run.status.started_at.unwrap_or(run.metadata.created_at)
    };
    match found.iter().max_by_key(began) {
        Some(view) => Ok(view.run.metadata.id.into()),
        None => Err(Unknown::new("run", text, &names(client, Kind::Run)).into()),
    }
}

pub(crate) fn dns(name: &str) -> Result<Name, Failure> {
    name.parse()
        .map_err(|error: lepton_types::ParseNameError| Failure::invalid(error.to_string()))
}

pub(crate) fn free(name: &str) -> Result<FreeName, Failure> {
    name.parse()
        .map_err(|error: lepton_types::ParseNameError| Failure::invalid(error.to_string()))
}

pub(crate) fn model_ref(text: &str) -> Result<ModelRef, Failure> {
    text.parse()
        .map_err(|error: lepton_types::resources::ParseModelRefError| {
            Failure::invalid(error.to_string())
        })
}

fn job_phase(word: &str) -> Result<JobPhase, Failure> {
    use JobPhase::{Cancelled, Failed, Queued, Running, Succeeded};
    phase_of(
        word,
        &[Queued, Running, Succeeded, Failed, Cancelled],
        &[],
        JobPhase::as_str,
    )
}

fn run_phase(word: &str) -> Result<RunPhase, Failure> {
    use RunPhase::{Failed, Finished, Killed, Running, Scheduled};
    phase_of(
        word,
        &[Scheduled, Running, Finished, Failed, Killed],
        &["deleted"],
        RunPhase::as_str,
    )
}

fn phase_of<P: Copy>(
    word: &str,
    all: &[P],
    more: &[&str],
    name: fn(P) -> &'static str,
) -> Result<P, Failure> {
    all.iter()
        .copied()
        .find(|phase| name(*phase).eq_ignore_ascii_case(word))
        .ok_or_else(|| {
            let words: Vec<_> = all
                .iter()
                .map(|phase| name(*phase).to_ascii_lowercase())
                .chain(more.iter().map(ToString::to_string))
                .collect();
            Failure::usage(format!(
                "`{word}` is not a phase: use one of {}",
                words.join(", ")
            ))
        })
}

/// A kind from its word; an unknown one lists them.
pub(crate) fn kind(word: &str) -> Result<Kind, lepton_types::resources::UnknownKind> {
    word.parse()
}

/// Names of a kind that exist, as far as the first page knows; nothing if it cannot be asked.
fn names(client: &Client, kind: Kind) -> Vec<String> {
    /// Enough to find a near one among.
    const NAMES_ASKED: u32 = 500;
    let page = Page::first(NAMES_ASKED);
    macro_rules! named {
        ($list:expr) => {
            $list.map(|list| {
                list.items
                    .into_iter()
                    .map(|item| item.metadata.name)
                    .collect()
            })
        };
    }
    let found: Result<Vec<String>, ClientError> = match kind {
        Kind::Project => named!(client.projects(&page)),
        Kind::Pool => named!(client.pools(&page)),
        Kind::Reservation => named!(client.reservations(&page)),
        Kind::Dataset | Kind::DatasetVersion => named!(client.datasets(&page)),
        Kind::Experiment => named!(client.experiments(&page)),
        Kind::Model | Kind::ModelVersion => named!(client.models(&page)),
        Kind::Endpoint | Kind::Replica => named!(client.endpoints(&page)),
        Kind::Job | Kind::Attempt => {
            let newest = JobFilter {
                newest: true,
                ..JobFilter::default()
            };
            named!(client.jobs(&newest, &page))
        }
        Kind::Run => {
            let newest = RunFilter {
                newest: true,
                ..RunFilter::default()
            };
            let list = client.runs(&newest, &page);
            list.map(|list| {
                list.items
                    .into_iter()
                    .map(|view| view.run.metadata.name)
                    .collect()
            })
        }
        Kind::Token => {
            let list = client.tokens(&page);
            list.map(|list| list.items.into_iter().map(|token| token.name).collect())
        }
    };
    let mut names = found.unwrap_or_default();
    names.sort_unstable();
    names.dedup();
    names
}

/// If `error` says that nothing is called `name`, says which names are near; else passes it on.
pub(crate) fn or_near_names(
    client: &Client,
    kind: Kind,
    name: &str,
    error: ClientError,
) -> Failure {
    if !error.is_not_found() {
        return error.into();
    }
    let named = model_ref(name).ok();
    let name = match kind {
        Kind::Dataset | Kind::DatasetVersion => name.split(':').next().unwrap_or(name),
        Kind::Model | Kind::ModelVersion => named.as_ref().map_or(name, |it| it.model.as_str()),
        _ => name,
    };
    let known = names(client, kind);
    // What is missing is not what is called so, but something of it: the server says it better.
    if known.iter().any(|known| known == name) {
        return error.into();
    }
    let owner = match kind {
        Kind::DatasetVersion => Kind::Dataset,
        Kind::ModelVersion => Kind::Model,
        Kind::Attempt => Kind::Job,
        Kind::Replica => Kind::Endpoint,
        other => other,
    };
    Unknown::new(owner.as_str(), name, &known).into()
}

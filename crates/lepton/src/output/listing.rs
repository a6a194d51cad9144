//! How each kind of resource looks as a line of a table.

use lepton_api::{AccessKeyView, RunView, TokenView};
use lepton_types::resources::{
    Attempt, Dataset, DatasetVersion, Endpoint, Event, EventSeverity, Experiment, FileEntry, Job,
    Model, ModelVersion, Pool, Program, Project, Replica, Reservation, Resource, Spec,
};
use lepton_types::{Resources, Timestamp};

use super::{Cell, Format, Table, Tone, age, bytes, number, shell_words, took};

/// A kind that lists show.
pub(crate) trait Listed {
    /// What several of them are called.
    const PLURAL: &'static str;
    /// The headings; the first `NARROW` are always shown, the others when wide.
    const HEADERS: &'static [&'static str];
    /// How many are always shown.
    const NARROW: usize;

    /// One line, a cell for each heading.
    fn cells(&self, now: Timestamp) -> Vec<Cell>;
}

/// A table of these, as wide as asked for.
pub(crate) fn table_of<'a, T: Listed + 'a>(
    items: impl IntoIterator<Item = &'a T>,
    format: Format,
    now: Timestamp,
) -> Table {
    let shown = match format {
        Format::Wide => T::HEADERS.len(),
        _ => T::NARROW,
    };
    let mut table = Table::new(
        T::HEADERS[..shown].to_vec(),
        format!("no {} here", T::PLURAL),
    );
    for item in items {
        let mut cells = item.cells(now);
        cells.truncate(shown);
        table.push(cells);
    }
    table
}

fn made<S: Spec>(resource: &Resource<S, S::Status>, now: Timestamp) -> Cell {
    age(now, resource.metadata.created_at).into()
}

fn name<S: Spec>(resource: &Resource<S, S::Status>) -> Cell {
    resource.metadata.name.as_str().into()
}

fn id<S: Spec>(resource: &Resource<S, S::Status>) -> Cell {
    Cell::toned(resource.metadata.id.to_string(), Tone::Faint)
}

fn size(files: &[FileEntry]) -> String {
    bytes(files.iter().map(|file| file.size_bytes).sum())
}

impl Listed for Project {
    const PLURAL: &'static str = "projects";
    const HEADERS: &'static [&'static str] = &[
        "NAME",
        "AGE",
        "STORED",
        "QUOTA",
        "DESCRIPTION",
        "OBJECTS",
        "OBJECTS MAX",
    ];
    const NARROW: usize = 5;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let stored = self.status.stored;
        let quota = self.spec.quota;
        vec![
            name(self),
            made(self, now),
            Cell::maybe(stored.map(|stored| bytes(stored.size_bytes))),
            Cell::maybe(quota.storage.map(|max| bytes(max.as_bytes()))),
            self.spec.description.as_str().into(),
            Cell::maybe(stored.map(|stored| stored.objects)),
            Cell::maybe(quota.objects),
        ]
    }
}

impl Listed for Pool {
    const PLURAL: &'static str = "pools";
    const HEADERS: &'static [&'static str] = &["NAME", "MACHINES", "CPU", "MEMORY", "GPUS"];
    const NARROW: usize = 5;

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        let nodes = &self.status.nodes;
        let all = nodes
            .iter()
            .fold(Resources::ZERO, |sum, node| sum.plus(&node.capacity));
        vec![
            name(self),
            nodes.len().to_string().into(),
            all.cpu.to_string().into(),
            bytes(all.memory.as_bytes()).into(),
            all.gpus.to_string().into(),
        ]
    }
}

impl Listed for Reservation {
    const PLURAL: &'static str = "reservations";
    const HEADERS: &'static [&'static str] = &[
        "NAME", "PROJECT", "PHASE", "FROM", "UNTIL", "WORKERS", "EACH", "MACHINES",
    ];
    const NARROW: usize = 7;

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        let spec = &self.spec;
        vec![
            name(self),
            spec.project.to_string().into(),
            Cell::phase(self.status.phase.as_str()),
            spec.from.to_string().into(),
            spec.until.to_string().into(),
            spec.workers.to_string().into(),
            spec.resources.to_string().into(),
            self.status.nodes.join(", ").into(),
        ]
    }
}

impl Listed for Dataset {
    const PLURAL: &'static str = "datasets";
    const HEADERS: &'static [&'static str] = &["NAME", "LATEST", "AGE", "DESCRIPTION"];
    const NARROW: usize = 4;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            name(self),
            self.status.latest_version.to_string().into(),
            made(self, now),
            self.spec.description.as_str().into(),
        ]
    }
}

impl Listed for DatasetVersion {
    const PLURAL: &'static str = "versions of this dataset";
    const HEADERS: &'static [&'static str] = &[
        "DATASET", "VERSION", "ROWS", "COLUMNS", "FILES", "SIZE", "AGE", "NOTE",
    ];
    const NARROW: usize = 8;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let columns = self.status.columns.len();
        vec![
            self.spec.dataset.as_str().into(),
            self.spec.version.to_string().into(),
            Cell::maybe(self.status.rows),
            Cell::maybe((columns > 0).then_some(columns)),
            self.spec.files.len().to_string().into(),
            size(&self.spec.files).into(),
            made(self, now),
            self.status.note.as_deref().unwrap_or_default().into(),
        ]
    }
}

impl Listed for Experiment {
    const PLURAL: &'static str = "experiments";
    const HEADERS: &'static [&'static str] = &["NAME", "AGE", "ID"];
    const NARROW: usize = 2;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![name(self), made(self, now), id(self)]
    }
}

impl Listed for Job {
    const PLURAL: &'static str = "jobs";
    const HEADERS: &'static [&'static str] = &[
        "NAME", "ID", "PHASE", "ATTEMPTS", "AGE", "TOOK", "WHY", "PROGRAM", "POOL", "RUN",
    ];
    const NARROW: usize = 7;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let status = &self.status;
        let length = status
            .started_at
            .map(|start| status.finished_at.unwrap_or(now).since(start));
        let waiting = status.waiting.as_ref().map(|why| why.message.clone());
        let ended = status.reason.as_ref().map(ToString::to_string);
        let program = match &self.spec.program {
            Program::Command(spec) => shell_words(&spec.command),
            Program::Train(spec) => format!("train {} on {}", spec.target, spec.dataset),
            Program::Prepare(spec) => format!("prepare {}", spec.dataset),
        };
        vec![
            name(self),
            id(self),
            Cell::phase(status.phase.as_str()),
            status.attempts.to_string().into(),
            made(self, now),
            Cell::maybe(length.map(took)),
            waiting.or(ended).unwrap_or_default().into(),
            program.into(),
            self.spec.pool.as_str().into(),
            Cell::toned(self.spec.run.to_string(), Tone::Faint),
        ]
    }
}

impl Listed for Attempt {
    const PLURAL: &'static str = "attempts";
    const HEADERS: &'static [&'static str] = &[
        "ATTEMPT",
        "PHASE",
        "WORKERS",
        "MEMORY MAX",
        "TOOK",
        "WHY",
        "ENFORCEMENT",
        "NODES",
    ];
    const NARROW: usize = 6;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let status = &self.status;
        let length = status
            .started_at
            .map(|start| status.finished_at.unwrap_or(now).since(start));
        let memory = status
            .workers
            .iter()
            .filter_map(|w| w.memory_bytes_max)
            .max();
        let enforcement = status.workers.iter().find_map(|w| w.enforcement.clone());
        let reason = status.reason.as_ref().map(ToString::to_string);
        vec![
            self.spec.number.to_string().into(),
            Cell::phase(status.phase.as_str()),
            self.spec.nodes.len().to_string().into(),
            Cell::maybe(memory.map(bytes)),
            Cell::maybe(length.map(took)),
            reason.unwrap_or_default().into(),
            enforcement.unwrap_or_default().into(),
            self.spec.nodes.join(", ").into(),
        ]
    }
}

/// How many metrics fit into a line.
const METRICS_SHOWN: usize = 4;

impl Listed for RunView {
    const PLURAL: &'static str = "runs";
    const HEADERS: &'static [&'static str] =
        &["NAME", "ID", "PHASE", "AGE", "TOOK", "METRICS", "PARAMS"];
    const NARROW: usize = 6;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let status = &self.run.status;
        let length = status
            .started_at
            .map(|start| status.finished_at.unwrap_or(now).since(start));
        let metrics: Vec<_> = self
            .metrics
            .iter()
            .take(METRICS_SHOWN)
            .map(|point| format!("{}={}", point.key, number(point.value)))
            .collect();
        let params: Vec<_> = self
            .params
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        vec![
            name(&self.run),
            id(&self.run),
            Cell::phase(match status.deleted_at {
                Some(_) => "deleted",
                None => status.phase.as_str(),
            }),
            made(&self.run, now),
            Cell::maybe(length.map(took)),
            metrics.join(" ").into(),
            params.join(" ").into(),
        ]
    }
}

impl Listed for Model {
    const PLURAL: &'static str = "models";
    const HEADERS: &'static [&'static str] = &["NAME", "LATEST", "ALIASES", "AGE", "DESCRIPTION"];
    const NARROW: usize = 5;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let aliases: Vec<_> = self
            .spec
            .aliases
            .iter()
            .map(|(alias, version)| format!("@{alias}={version}"))
            .collect();
        vec![
            name(self),
            self.status.latest_version.to_string().into(),
            aliases.join(" ").into(),
            made(self, now),
            self.spec.description.as_str().into(),
        ]
    }
}

impl Listed for ModelVersion {
    const PLURAL: &'static str = "versions of this model";
    const HEADERS: &'static [&'static str] = &[
        "MODEL",
        "VERSION",
        "FILES",
        "SIZE",
        "AGE",
        "DESCRIPTION",
        "RUN",
    ];
    const NARROW: usize = 6;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            self.spec.model.as_str().into(),
            self.spec.version.to_string().into(),
            self.spec.files.len().to_string().into(),
            size(&self.spec.files).into(),
            made(self, now),
            self.spec.description.as_str().into(),
            Cell::maybe(self.spec.run),
        ]
    }
}

impl Listed for Endpoint {
    const PLURAL: &'static str = "endpoints";
    const HEADERS: &'static [&'static str] = &[
        "NAME",
        "MODEL",
        "VERSION",
        "PHASE",
        "READY",
        "AGE",
        "WHY",
        "RESOURCES",
        "POOL",
    ];
    const NARROW: usize = 7;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let status = &self.status;
        let waiting = status.waiting.as_ref().map(|why| why.message.clone());
        vec![
            name(self),
            self.spec.model.to_string().into(),
            Cell::maybe(status.version),
            Cell::phase(status.phase.as_str()),
            format!("{}/{}", status.ready_replicas, self.wanted_replicas()).into(),
            made(self, now),
            waiting.unwrap_or_default().into(),
            self.spec.resources.to_string().into(),
            self.spec.pool.as_str().into(),
        ]
    }
}

impl Listed for Replica {
    const PLURAL: &'static str = "replicas";
    const HEADERS: &'static [&'static str] = &[
        "ID",
        "ENDPOINT",
        "MODEL",
        "PHASE",
        "AGE",
        "ADDRESS",
        "WHY",
        "ENFORCEMENT",
        "NODE",
    ];
    const NARROW: usize = 7;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let reason = self.status.reason.as_ref().map(ToString::to_string);
        vec![
            id(self),
            self.spec.endpoint.as_str().into(),
            format!("{}:{}", self.spec.model, self.spec.version).into(),
            Cell::phase(self.status.phase.as_str()),
            made(self, now),
            Cell::maybe(self.status.address),
            reason.unwrap_or_default().into(),
            self.status
                .enforcement
                .as_deref()
                .unwrap_or_default()
                .into(),
            self.spec.node.as_str().into(),
        ]
    }
}

impl Listed for TokenView {
    const PLURAL: &'static str = "tokens";
    const HEADERS: &'static [&'static str] =
        &["NAME", "ROLE", "PROJECT", "PHASE", "AGE", "EXPIRES", "ID"];
    const NARROW: usize = 6;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            self.name.as_str().into(),
            self.role.as_str().into(),
            self.project
                .as_ref()
                .map_or("every".into(), |project| project.as_str().into()),
            Cell::phase(&self.phase),
            age(now, self.created_at).into(),
            Cell::maybe(self.expires_at),
            Cell::toned(self.id.to_string(), Tone::Faint),
        ]
    }
}

impl Listed for AccessKeyView {
    const PLURAL: &'static str = "access keys";
    const HEADERS: &'static [&'static str] = &[
        "NAME",
        "ROLE",
        "PROJECT",
        "PHASE",
        "AGE",
        "EXPIRES",
        "ACCESS KEY",
    ];
    const NARROW: usize = 6;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            self.name.as_str().into(),
            self.role.as_str().into(),
            self.project.as_str().into(),
            Cell::phase(&self.phase),
            age(now, self.created_at).into(),
            Cell::maybe(self.expires_at),
            Cell::toned(self.access_key_id.clone(), Tone::Faint),
        ]
    }
}

impl Listed for FileEntry {
    const PLURAL: &'static str = "files";
    const HEADERS: &'static [&'static str] = &["PATH", "SIZE", "DIGEST"];
    const NARROW: usize = 2;

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            self.path.as_str().into(),
            bytes(self.size_bytes).into(),
            Cell::toned(self.digest.to_string(), Tone::Faint),
        ]
    }
}

impl Listed for Event {
    const PLURAL: &'static str = "events";
    const HEADERS: &'static [&'static str] =
        &["AGE", "ABOUT", "REASON", "MESSAGE", "SEQUENCE", "ID"];
    const NARROW: usize = 4;

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let tone = match self.severity {
            EventSeverity::Normal => Tone::Plain,
            EventSeverity::Warning => Tone::Bad,
        };
        vec![
            age(now, self.at).into(),
            format!("{} {}", self.kind, self.name).into(),
            Cell::toned(self.reason.as_str(), tone),
            self.message.as_str().into(),
            self.sequence.to_string().into(),
            Cell::toned(self.id.to_string(), Tone::Faint),
        ]
    }
}

//! `lepton describe`: everything about one resource, and why it waits.

mod job;
mod run;
mod versioned;

use lepton_client::{Client, ClientError, EventFilter, Pages, RunFilter};
use lepton_types::Resources;
use lepton_types::resources::{Endpoint, Kind, Meta, Node, Pool, Reservation, Scaling, Waiting};

use crate::commands::objects::tell_stored;
use crate::context::Context;
use crate::failure::Failure;
use crate::kinds::{self, Look};
use crate::output::{Page, Tone, age, bytes, count, paint, table_of};

/// Tells everything about a resource, and why it waits
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton describe job wine\n  lepton describe endpoint wine\n  lepton describe dataset wine:2\n  lepton describe pool local"
)]
pub(crate) struct Describe {
    /// pool, project, dataset, experiment, job, run, model or endpoint
    kind: String,
    /// Its name or id; of datasets and models also NAME:VERSION, of models MODEL@ALIAS
    name: String,
}

/// The events that a description ends with.
const EVENTS_SHOWN: u32 = 10;

impl Describe {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let kind = kinds::kind(&self.kind)?;
        let client = ctx.client()?;
        let told = |failure| match failure {
            Failure::Client(error) => kinds::or_near_names(client, kind, &self.name, error),
            other => other,
        };
        let look = Look {
            format: ctx.format,
            now: ctx.now(),
        };
        if !ctx.format.is_for_people() {
            return ctx.show(&kinds::one(client, kind, &self.name, look).map_err(told)?);
        }
        let page = self.page(ctx, client, kind).map_err(told)?;
        match page {
            Some(page) => ctx.print(&page.finish()),
            None => ctx.show(&kinds::one(client, kind, &self.name, look).map_err(told)?),
        }
    }

    /// `None` for what has no more to it than its line.
    fn page(&self, ctx: &Context, client: &Client, kind: Kind) -> Result<Option<Page>, Failure> {
        let name = &self.name;
        let page = match kind {
            Kind::Job => job::page(ctx, client, &client.job(name)?)?,
            Kind::Run => run::page(ctx, client, &client.run_view(kinds::run_id(client, name)?)?)?,
            Kind::Dataset | Kind::DatasetVersion => versioned::dataset(ctx, client, name)?,
            Kind::Model | Kind::ModelVersion => versioned::model(ctx, client, name)?,
            Kind::Endpoint => endpoint(ctx, client, &client.endpoint(&kinds::dns(name)?)?)?,
            Kind::Pool => pool(ctx, client, &client.pool(name)?)?,
            Kind::Reservation => reservation(ctx, &client.reservation(name)?),
            Kind::Project => project(ctx, client, name)?,
            Kind::Experiment => experiment(ctx, client, name)?,
            Kind::Attempt | Kind::Replica | Kind::Token => return Ok(None),
        };
        Ok(Some(page))
    }
}

fn project(ctx: &Context, client: &Client, name: &str) -> Result<Page, Failure> {
    let found = client.get_project(name)?;
    let usage = client.storage_usage(&kinds::dns(name)?, None)?;
    let mut page = Page::new(ctx.columns);
    identity(&mut page, ctx, Kind::Project, &found.metadata);
    if !found.spec.description.is_empty() {
        page.fact("Description", found.spec.description.as_str());
    }
    tell_stored(&mut page, &usage);
    events(&mut page, ctx, client, &found.metadata)?;
    Ok(page)
}

/// Runs beyond this many are listed by `lepton get runs --experiment NAME`.
const RUNS_SHOWN: usize = 10;

fn experiment(ctx: &Context, client: &Client, name: &str) -> Result<Page, Failure> {
    let called = kinds::free(name)?;
    let found = client.experiment(&called)?;
    let mut page = Page::new(ctx.columns);
    identity(&mut page, ctx, Kind::Experiment, &found.metadata);
    run::pairs(&mut page, "Tags", found.spec.tags.iter());
    let newest = RunFilter {
        experiment: Some(called),
        newest: true,
        ..RunFilter::default()
    };
    let runs: Vec<_> = Pages::new(|page| client.runs(&newest, &page))
        .take(RUNS_SHOWN)
        .collect::<Result<_, _>>()?;
    if !runs.is_empty() {
        page.heading("Runs, the newest of them")
            .table(&table_of(&runs, ctx.format, ctx.now()));
    }
    events(&mut page, ctx, client, &found.metadata)?;
    Ok(page)
}

/// What everything has.
fn identity(page: &mut Page, ctx: &Context, kind: Kind, meta: &Meta) {
    page.fact("Kind", kind.as_str())
        .fact("Name", paint(&meta.name, Tone::Strong))
        .fact("Id", meta.id.to_string())
        .fact("Project", meta.project.as_str())
        .fact(
            "Created",
            format!(
                "{} ({} ago) by {}",
                meta.created_at,
                age(ctx.now(), meta.created_at),
                meta.created_by
            ),
        );
    if !meta.labels.is_empty() {
        let labels: Vec<_> = meta
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        page.fact("Labels", labels.join(" "));
    }
    if let Some(since) = meta.deleting_since {
        page.fact("Deleting", format!("since {}", age(ctx.now(), since)));
    }
}

fn phase(page: &mut Page, word: &str) {
    let tone = Tone::of_phase(word);
    page.fact("Phase", paint(&word.to_ascii_lowercase(), tone));
}

/// Why something waits, in the decision's own words.
fn waiting(page: &mut Page, why: Option<&Waiting>) {
    if let Some(why) = why {
        page.fact(
            "Waits",
            format!("{} ({})", paint(&why.message, Tone::Busy), why.reason),
        );
    }
}

/// The newest events about it, oldest first.
fn events(page: &mut Page, ctx: &Context, client: &Client, meta: &Meta) -> Result<(), ClientError> {
    let mut events = client
        .events(&EventFilter {
            about: Some(meta.id),
            newest: true,
            limit: Some(EVENTS_SHOWN),
            after: None,
        })?
        .items;
    if !events.is_empty() {
        events.sort_by_key(|event| event.sequence);
        page.heading("Events");
        page.table(&table_of(&events, ctx.format, ctx.now()));
    }
    Ok(())
}

fn endpoint(ctx: &Context, client: &Client, endpoint: &Endpoint) -> Result<Page, Failure> {
    let mut page = Page::new(ctx.columns);
    let (spec, status) = (&endpoint.spec, &endpoint.status);
    let name = &endpoint.metadata.name;
    identity(&mut page, ctx, Kind::Endpoint, &endpoint.metadata);
    phase(&mut page, status.phase.as_str());
    waiting(&mut page, status.waiting.as_ref());
    page.fact("Model", spec.model.to_string())
        .maybe("Version", status.version)
        .fact(
            "Replicas",
            format!(
                "{} of {} ready",
                status.ready_replicas,
                endpoint.wanted_replicas()
            ),
        )
        .maybe("Scales", spec.scaling.map(scales))
        .maybe(
            "Last change",
            status.scaling.as_ref().map(|scaled| {
                let ago = age(ctx.now(), scaled.since);
                format!("{ago} ago to {}: {}", scaled.wanted, scaled.why)
            }),
        )
        .maybe(
            "A start takes",
            status.scaling.as_ref().and_then(|scaled| scaled.cold_start),
        )
        .fact("Each has", spec.resources.to_string())
        .fact("Pool", spec.pool.as_str());
    if status.failures > 0 {
        page.fact("Failures", format!("{} starts in a row", status.failures));
    }
    page.heading("Answers at")
        .line(&format!("{}/v2/models/{name}/infer", client.url()))
        .line(&format!("lepton predict {name} --data FILE"));
    let replicas = client.replicas(&kinds::dns(name)?)?.items;
    if !replicas.is_empty() {
        page.heading("Replicas").table(&table_of(
            &replicas,
            crate::output::Format::Wide,
            ctx.now(),
        ));
    }
    events(&mut page, ctx, client, &endpoint.metadata)?;
    Ok(page)
}

/// Between which limits a number follows the load, in words.
fn scales(scaling: Scaling) -> String {
    let Scaling {
        min_replicas,
        max_replicas,
        concurrency,
        late_after,
        late_per_mille,
        idle_after,
    } = scaling;
    let idle = idle_after.map_or_else(String::new, |idle| {
        format!(", the last kept {idle} without a request")
    });
    format!(
        "{min_replicas} to {max_replicas}, {concurrency} requests each at once, {late_per_mille} in \
         1000 may wait over {late_after}{idle}"
    )
}

fn reservation(ctx: &Context, reservation: &Reservation) -> Page {
    let mut page = Page::new(ctx.columns);
    identity(&mut page, ctx, Kind::Reservation, &reservation.metadata);
    let spec = &reservation.spec;
    page.fact(
        "For",
        format!("the jobs and endpoints of project `{}`", spec.project),
    );
    page.fact("Window", format!("{} until {}", spec.from, spec.until));
    page.fact("Room", format!("{} times {}", spec.workers, spec.resources));
    page.fact("Phase", reservation.status.phase.as_str());
    page.maybe("Why", reservation.status.message.as_deref());
    if !reservation.status.nodes.is_empty() {
        page.heading("Machines");
        for node in &reservation.status.nodes {
            page.line(node);
        }
    }
    page
}

fn pool(ctx: &Context, client: &Client, pool: &Pool) -> Result<Page, Failure> {
    let mut page = Page::new(ctx.columns);
    identity(&mut page, ctx, Kind::Pool, &pool.metadata);
    page.maybe("Capacity asked", pool.spec.capacity);
    page.heading("Machines");
    for node in &pool.status.nodes {
        page.line(&machine(node));
    }
    let queued = lepton_client::JobFilter {
        phase: Some(lepton_types::resources::JobPhase::Queued),
        ..lepton_client::JobFilter::default()
    };
    let waiting: Vec<_> = Pages::new(|page| client.jobs(&queued, &page))
        .take(EVENTS_SHOWN as usize)
        .collect::<Result<_, _>>()?;
    if !waiting.is_empty() {
        page.heading("Jobs that wait, the first of them")
            .table(&table_of(&waiting, ctx.format, ctx.now()));
    }
    Ok(page)
}

fn machine(node: &Node) -> String {
    let Resources { cpu, memory, gpus } = node.capacity;
    let gpus = match gpus {
        0 => String::new(),
        some => format!(", {}", count(some.into(), "GPU")),
    };
    format!(
        "{}: {cpu} CPU, {} memory{gpus}",
        node.name,
        bytes(memory.as_bytes())
    )
}

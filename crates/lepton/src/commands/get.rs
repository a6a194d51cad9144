//! `lepton get`: resources as lists, as they are or as they change.

use lepton_api::{RunView, WatchEvent, WatchKind};
use lepton_client::{Client, ClientError};
use lepton_types::resources::{
    Attempt, Dataset, DatasetVersion, Endpoint, Experiment, Job, Kind, Model, ModelVersion, Pool,
    Project, Replica, Reservation,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::Context;
use crate::failure::Failure;
use crate::kinds::{self, Look, Narrow};
use crate::output::{Cell, Listed, Shown, Table, table_of};

/// Lists resources of a kind, or shows one
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton get jobs\n  lepton get runs --experiment wine --metric 'accuracy>0.9'\n  lepton get endpoint wine -o yaml\n  lepton get dataset-version wine:2\n  lepton get jobs --watch"
)]
pub(crate) struct Get {
    /// project, pool, dataset, dataset-version, experiment, job, attempt, run, model, model-version,
    /// endpoint, replica or token; also in the plural
    kind: String,
    /// Its name or id; of versions, attempts and replicas: whose
    name: Option<String>,
    /// Goes on showing what changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    narrow: Narrow,
}

impl Get {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let kind = kinds::kind(&self.kind)?;
        let client = ctx.client()?;
        // Before the list, so that nothing happens between the two unseen.
        let changes = self.watch.then(|| watch(client, kind)).transpose()?;
        let look = Look {
            format: ctx.format,
            now: ctx.now(),
        };
        let shown = match &self.name {
            None => kinds::list(client, kind, &self.narrow, look),
            Some(name) => kinds::one(client, kind, name, look).map_err(|failure| match failure {
                Failure::Client(error) => kinds::or_near_names(client, kind, name, error),
                other => other,
            }),
        }?;
        ctx.show(&shown)?;
        match changes {
            Some(changes) => self.follow(ctx, &shown, changes),
            None => Ok(()),
        }
    }

    fn follow(
        &self,
        ctx: &Context,
        above: &Shown,
        changes: lepton_client::Watch,
    ) -> Result<(), Failure> {
        for change in changes {
            let change = change?;
            if !self.is_meant(&change) {
                continue;
            }
            if !ctx.format.is_for_people() {
                let line = serde_json::to_string(&change).expect("invariant: events are JSON");
                ctx.print(&line)?;
                continue;
            }
            if let Some(row) = row(ctx, &change)? {
                let row = match above {
                    Shown::People(table) => row.below(table),
                    Shown::Programs(_) => row,
                };
                ctx.print(&row.render_rows(ctx.columns))?;
            }
        }
        Ok(())
    }

    fn is_meant(&self, change: &WatchEvent) -> bool {
        let Some(name) = &self.name else { return true };
        let metadata = change.resource.as_ref().and_then(|it| it.get("metadata"));
        let called = metadata
            .and_then(|it| it.get("name"))
            .and_then(Value::as_str);
        called == Some(name) || change.id.to_string() == *name
    }
}

fn watch(client: &Client, kind: Kind) -> Result<lepton_client::Watch, ClientError> {
    let mut watch = client.watch(&[kind], None);
    watch.connect_now()?;
    Ok(watch)
}

/// The line of a change; `None` for what has no lines.
fn row(ctx: &Context, change: &WatchEvent) -> Result<Option<Table>, Failure> {
    let Some(resource) = &change.resource else {
        let gone = vec![Cell::from(change.id.to_string()), Cell::phase("gone")];
        let mut table = Table::new(vec!["ID", ""], "");
        table.push(gone);
        return Ok((change.change == WatchKind::Deleted).then_some(table));
    };
    let table = match change.kind {
        Kind::Project => line::<Project>(ctx, resource),
        Kind::Pool => line::<Pool>(ctx, resource),
        Kind::Reservation => line::<Reservation>(ctx, resource),
        Kind::Dataset => line::<Dataset>(ctx, resource),
        Kind::DatasetVersion => line::<DatasetVersion>(ctx, resource),
        Kind::Experiment => line::<Experiment>(ctx, resource),
        Kind::Job => line::<Job>(ctx, resource),
        Kind::Attempt => line::<Attempt>(ctx, resource),
        Kind::Model => line::<Model>(ctx, resource),
        Kind::ModelVersion => line::<ModelVersion>(ctx, resource),
        Kind::Endpoint => line::<Endpoint>(ctx, resource),
        Kind::Replica => line::<Replica>(ctx, resource),
        Kind::Token => None,
        Kind::Run => match ctx.client()?.run_view(change.id.into()) {
            Ok(view) => Some(table_of::<RunView>([&view], ctx.format, ctx.now())),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        },
    };
    Ok(table)
}

fn line<T: Listed + DeserializeOwned>(ctx: &Context, resource: &Value) -> Option<Table> {
    let item: T = serde_json::from_value(resource.clone()).ok()?;
    Some(table_of([&item], ctx.format, ctx.now()))
}

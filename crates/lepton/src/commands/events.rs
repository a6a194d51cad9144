//! `lepton events`: what happened, oldest first.

use lepton_client::{Client, EventFilter};
use lepton_types::Id;
use lepton_types::resources::{Event, Kind};

use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::{Shown, table_of};
use crate::waiting::{self, Look};

/// Shows what happened
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton events\n  lepton events -f\n  lepton events --about job/wine"
)]
pub(crate) struct Events {
    /// Goes on showing what happens, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only about this: an id, or KIND/NAME
    #[arg(long, value_name = "KIND/NAME")]
    about: Option<String>,
    /// How many, the newest
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Events {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let about = self
            .about
            .as_deref()
            .map(|text| about(client, text))
            .transpose()?;
        let newest = EventFilter {
            about,
            newest: true,
            limit: Some(self.limit),
            ..EventFilter::default()
        };
        let mut events = client.events(&newest)?.items;
        events.sort_by_key(|event| event.sequence);
        let shown = Shown::list(&events, ctx.format, ctx.now());
        ctx.show(&shown)?;
        if !self.follow {
            return Ok(());
        }
        let mut after = events.last().map_or(0, |event| event.sequence);
        // Ends with Ctrl-C, or with an error.
        waiting::until("events", None, || {
            let filter = EventFilter {
                after: Some(after),
                about,
                ..EventFilter::default()
            };
            let fresh = client.events(&filter)?.items;
            if let Some(last) = fresh.last() {
                after = last.sequence;
                print_more(ctx, &shown, &fresh)?;
            }
            Ok(Look::<()>::NotYet(String::new()))
        })
    }
}

fn print_more(ctx: &Context, above: &Shown, fresh: &[Event]) -> Result<(), Failure> {
    if let Shown::People(table) = above {
        let rows = table_of(fresh, ctx.format, ctx.now()).below(table);
        return ctx.print(&rows.render_rows(ctx.columns));
    }
    for event in fresh {
        ctx.print(&serde_json::to_string(event).expect("invariant: events are JSON"))?;
    }
    Ok(())
}

/// The id of what is meant.
fn about(client: &Client, text: &str) -> Result<Id, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let Some((kind, name)) = text.split_once('/') else {
        return Err(Failure::usage(format!(
            "`{text}` is neither an id nor KIND/NAME"
        )));
    };
    let kind = kinds::kind(kind)?;
    let id = match kind {
        Kind::Project => client.get_project(name).map(|it| it.metadata.id),
        Kind::Pool => client.pool(name).map(|it| it.metadata.id),
        Kind::Reservation => client.reservation(name).map(|it| it.metadata.id),
        Kind::Dataset => client.dataset(&kinds::dns(name)?).map(|it| it.metadata.id),
        Kind::Experiment => client
            .experiment(&kinds::free(name)?)
            .map(|it| it.metadata.id),
        Kind::Job => client.job(name).map(|it| it.metadata.id),
        Kind::Run => return Ok(kinds::run_id(client, name)?.id()),
        Kind::Model => client.model(&kinds::free(name)?).map(|it| it.metadata.id),
        Kind::Endpoint => client.endpoint(&kinds::dns(name)?).map(|it| it.metadata.id),
        Kind::DatasetVersion | Kind::Attempt | Kind::ModelVersion | Kind::Replica | Kind::Token => {
            return Err(Failure::usage(format!("name a {kind} by its id")));
        }
    };
    id.map_err(|error| kinds::or_near_names(client, kind, name, error))
}

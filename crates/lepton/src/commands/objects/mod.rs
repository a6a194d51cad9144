//! `lepton objects`: what operators do with stored objects.

mod keys;
mod upkeep;

use lepton_api::{StorageUsage, UpdateProject, UpdateQuota, UpkeepPhase};
use lepton_client::Pages;
use lepton_types::{MemoryBytes, Name};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Page, Shown, Table, bytes, table_of};

/// Counts, bounds, checks and copies what is stored, and changes its keys
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Objects {
    /// Tells what projects store, use and cost
    #[command(
        after_help = "Examples:\n  lepton objects usage\n  lepton objects usage lab -o json\n  lepton objects usage lab --month 2026-10"
    )]
    Usage {
        /// Of this project only, by storage class
        name: Option<Name>,
        /// Of this month, in UTC; the current one where absent
        #[arg(long, value_name = "YYYY-MM")]
        month: Option<String>,
    },
    /// Shows or sets what a project may store
    #[command(
        after_help = "Examples:\n  lepton objects quota lab\n  lepton objects quota lab --storage 500Gi --objects 1000000\n  lepton objects quota lab --storage none\n\nWhat is stored already stays. The same in YAML, for `lepton apply`:\n  apiVersion: lepton/v1\n  kind: Project\n  metadata: {name: lab}\n  spec: {quota: {storage: 500Gi, objects: 1000000}}"
    )]
    Quota {
        /// The project
        name: Name,
        /// Bytes of all that it stores: 500Gi; `none` takes the bound away
        #[arg(long, value_name = "BYTES|none", value_parser = bound::<MemoryBytes>)]
        storage: Option<Bound<MemoryBytes>>,
        /// Versions of objects; `none` takes the bound away
        #[arg(long, value_name = "COUNT|none", value_parser = bound::<u64>)]
        objects: Option<Bound<u64>>,
    },
    /// Reads and verifies everything; reports what cannot be read
    #[command(
        after_help = "Examples:\n  lepton objects scrub\n  lepton objects scrub lab --repair\n  lepton objects scrub --stop\n\nExits with 1 if something stays damaged. Ctrl-C leaves the pass running on the server."
    )]
    Scrub {
        /// Only of these projects
        projects: Vec<Name>,
        /// Puts the replica's copy in the place of what cannot be read
        #[arg(long)]
        repair: bool,
        /// Ends the pass under way instead
        #[arg(long, conflicts_with_all = ["projects", "repair"])]
        stop: bool,
    },
    /// Copies to the replica what it lacks
    #[command(after_help = "Examples:\n  lepton objects replicate\n  lepton objects replicate lab")]
    Replicate {
        /// Only of these projects
        projects: Vec<Name>,
    },
    #[command(subcommand, after_help = "Example:\n  lepton objects keys list")]
    Keys(keys::ObjectKeysCommand),
}

/// A bound, or that there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound<T>(Option<T>);

fn bound<T: std::str::FromStr>(text: &str) -> Result<Bound<T>, String>
where
    T::Err: std::fmt::Display,
{
    if text == "none" {
        return Ok(Bound(None));
    }
    let parsed = text.parse().map(|value| Bound(Some(value)));
    parsed.map_err(|error| format!("{error}; `none` takes the bound away"))
}

impl Objects {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        match self {
            Self::Usage { name, month } => usage(ctx, name.as_ref(), month.as_deref()),
            Self::Quota {
                name,
                storage,
                objects,
            } => {
                let change = UpdateQuota {
                    storage: storage.map(|bound| bound.0),
                    objects: objects.map(|bound| bound.0),
                };
                quota(ctx, &name, change)
            }
            Self::Scrub { stop: true, .. } => {
                let client = ctx.client()?;
                let newest = client.upkeep();
                client.stop_upkeep()?;
                let was_running = newest.is_ok_and(|pass| pass.phase == UpkeepPhase::Running);
                ctx.note(match was_running {
                    true => "the pass ends now",
                    false => "no pass was under way",
                });
                Ok(())
            }
            Self::Scrub {
                projects, repair, ..
            } => upkeep::scrub(ctx, projects, repair),
            Self::Replicate { projects } => upkeep::replicate(ctx, projects),
            Self::Keys(command) => command.run(ctx),
        }
    }
}

fn usage(ctx: &Context, project: Option<&Name>, month: Option<&str>) -> Result<(), Failure> {
    let client = ctx.client()?;
    let Some(project) = project else {
        let all = Pages::new(|page| client.all_storage_usage(month, &page));
        let all = all.collect::<Result<Vec<_>, _>>()?;
        return ctx.show(&Shown::list(&all, ctx.format, ctx.now()));
    };
    let found = client.storage_usage(project, month)?;
    if !ctx.format.is_for_people() {
        return ctx.show(&Shown::one(&found, ctx.format, ctx.now()));
    }
    let mut page = Page::new(ctx.columns);
    page.fact("Project", found.project.as_str());
    tell_stored(&mut page, &found);
    page.heading(&format!("In {}", found.month))
        .fact("Requests", found.requests.to_string())
        .fact("Received", bytes(found.received_bytes))
        .fact("Sent", bytes(found.sent_bytes));
    if let Some(cost) = &found.cost {
        let part = |part: f64| format!("{part:.2} {}", cost.currency);
        page.fact("Cost", part(cost.total))
            .fact("  storage", part(cost.storage))
            .fact("  requests", part(cost.requests))
            .fact("  egress", part(cost.egress));
    }
    page.heading("By storage class")
        .table(&table_of(&found.tiers, ctx.format, ctx.now()));
    ctx.print(&page.finish())
}

/// What is stored, of how much.
pub(crate) fn tell_stored(page: &mut Page, usage: &StorageUsage) {
    let of = |bound: Option<String>| bound.map_or(String::new(), |bound| format!(" of {bound}"));
    let storage = of(usage.quota.storage.map(|max| bytes(max.as_bytes())));
    let objects = of(usage.quota.objects.map(|max| max.to_string()));
    page.fact("Stored", format!("{}{storage}", bytes(usage.stored_bytes)))
        .fact("Objects", format!("{}{objects}", usage.objects));
}

fn quota(ctx: &Context, project: &Name, change: UpdateQuota) -> Result<(), Failure> {
    let client = ctx.client()?;
    let found = if change.storage.is_none() && change.objects.is_none() {
        client.get_project(project.as_str())?
    } else {
        let request = UpdateProject {
            quota: Some(change),
            ..UpdateProject::default()
        };
        client.update_project(project, &request)?
    };
    let quota = found.spec.quota;
    ctx.answer(&found, || {
        let storage = quota
            .storage
            .map_or("any".to_owned(), |max| max.to_string());
        let objects = quota
            .objects
            .map_or("any".to_owned(), |max| max.to_string());
        format!("project `{project}` may store {storage} bytes, {objects} objects")
    })
}

/// A table that is made here.
fn table(headers: &[&'static str], nothing: &str) -> Table {
    Table::new(headers.to_vec(), nothing)
}

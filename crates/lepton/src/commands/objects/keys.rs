//! `lepton objects keys`: what seals objects, changed and destroyed.

use std::io::{IsTerminal as _, Write as _};

use lepton_api::RenewedKey;
use lepton_types::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Cell, Tone, paint};

/// Shows, rotates and destroys the keys that seal objects
#[derive(Debug, clap::Subcommand)]
#[command(name = "keys")]
pub(crate) enum ObjectKeysCommand {
    /// Lists data keys by project, and what wraps them
    #[command(
        visible_alias = "ls",
        after_help = "Example:\n  lepton objects keys list"
    )]
    List,
    /// Wraps all data keys with a new master key; rewrites no object
    #[command(
        after_help = "Example:\n  lepton objects keys rotate\n\nThe server goes on meanwhile. With a key service, rotate its key there first: this wraps all\ndata keys with the newest version. A rotation that is cut off is finished at the next start."
    )]
    Rotate,
    /// Makes a data key that seals only what asks for it by its name
    #[command(
        after_help = "Example:\n  lepton objects keys create lab patients\n  aws s3 cp table.csv s3://data/ --sse aws:kms --sse-kms-key-id patients"
    )]
    Create {
        /// The project
        name: Name,
        /// The key's name: what S3 clients give as the id of a KMS key
        key: Name,
    },
    /// Makes a new data key, which seals what a project writes from now on
    #[command(
        after_help = "Examples:\n  lepton objects keys renew lab\n  lepton objects keys renew lab --key patients"
    )]
    Renew {
        /// The project
        name: Name,
        /// The key that seals what asks for this name, instead of the project's
        #[arg(long)]
        key: Option<Name>,
    },
    /// Destroys all data keys of projects, or one with a name: what they sealed can never be read again
    #[command(
        after_help = "Examples:\n  lepton objects keys shred lab\n  lepton objects keys shred lab other --yes\n  lepton objects keys shred lab --key patients\n\nNobody can undo it. Copies of the keys in backups of the data directory still open under the\nmaster key they were wrapped with: rotate it, and destroy those backups, if that matters."
    )]
    Shred {
        /// The projects
        #[arg(required = true)]
        names: Vec<Name>,
        /// Destroys the key of this name only
        #[arg(long)]
        key: Option<Name>,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

impl ObjectKeysCommand {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        match self {
            Self::List => list(ctx),
            Self::Rotate => {
                let done = client.rotate_object_keys()?;
                ctx.answer(&done, || {
                    format!(
                        "`{}` wraps the data keys of {} projects now",
                        done.master, done.projects
                    )
                })
            }
            Self::Create { name, key } => {
                let done = client.create_named_key(&name, &key)?;
                ctx.answer(&done, || sealing(&name, Some(&key), &done))
            }
            Self::Renew { name, key } => {
                let done = match &key {
                    Some(key) => client.renew_named_key(&name, key)?,
                    None => client.renew_object_key(&name)?,
                };
                ctx.answer(&done, || sealing(&name, key.as_ref(), &done))
            }
            Self::Shred { names, key, yes } => {
                for name in &names {
                    if !yes {
                        confirm(name, key.as_ref())?;
                    }
                    let done = match &key {
                        Some(key) => client.shred_named_key(name, key)?,
                        None => client.shred_object_keys(name)?,
                    };
                    ctx.answer(&done, || {
                        format!("{} data keys of `{name}` are destroyed", done.keys)
                    })?;
                }
                Ok(())
            }
        }
    }
}

/// What a new key is for.
fn sealing(project: &Name, key: Option<&Name>, done: &RenewedKey) -> String {
    match key {
        Some(key) => format!(
            "data key `{}` seals what is written to `{project}` under key `{key}` from now on",
            done.key
        ),
        None => format!(
            "data key `{}` seals what `{project}` writes from now on",
            done.key
        ),
    }
}

fn list(ctx: &Context) -> Result<(), Failure> {
    let keys = ctx.client()?.object_keys()?;
    if !ctx.format.is_for_people() {
        return ctx.answer(&keys, String::new);
    }
    let headers = ["PROJECT", "DATA KEY", "NAME", "WRAPPED BY"];
    let mut table = super::table(&headers, "no project has stored anything yet");
    for project in &keys.projects {
        for key in &project.keys {
            table.push(vec![
                Cell::from(project.project.as_str()),
                Cell::from(key.id.to_string()),
                Cell::from(key.name.as_ref().map_or("", Name::as_str)),
                match &key.wrapped_by {
                    Some(master) => Cell::from(master.as_str()),
                    None => Cell::toned("shredded", Tone::Bad),
                },
            ]);
        }
    }
    ctx.print(&table.render(ctx.columns))
}

/// Asks for the name of the project, or of its key, as nothing brings back what goes.
fn confirm(project: &Name, key: Option<&Name>) -> Result<(), Failure> {
    let what = match key {
        Some(key) => format!("all that key `{key}` of project `{project}` sealed"),
        None => format!("all that project `{project}` stores"),
    };
    let mut asked = std::io::stderr();
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "shredding destroys {what}, for good: say `--yes` where nobody can be asked"
        )));
    }
    let warning = format!("Nobody will ever read again {what}.");
    let name = key.unwrap_or(project);
    write!(
        asked,
        "{}\nType `{name}` to go on: ",
        paint(&warning, Tone::Bad)
    )?;
    asked.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == name.as_str() {
        return Ok(());
    }
    Err(Failure::usage("nothing was done"))
}

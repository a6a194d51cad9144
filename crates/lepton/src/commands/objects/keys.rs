//! `lepton objects keys`: what seals objects, changed and destroyed.

use std::io::{IsTerminal as _, Write as _};

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
    /// Makes a new data key, which seals what a project writes from now on
    #[command(after_help = "Example:\n  lepton objects keys renew lab")]
    Renew {
        /// The project
        name: Name,
    },
    /// Destroys all data keys of projects: what they store can never be read again
    #[command(
        after_help = "Examples:\n  lepton objects keys shred lab\n  lepton objects keys shred lab other --yes\n\nNobody can undo it. Copies of the keys in backups of the data directory still open under the\nmaster key they were wrapped with: rotate it, and destroy those backups, if that matters."
    )]
    Shred {
        /// The projects
        #[arg(required = true)]
        names: Vec<Name>,
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
            Self::Renew { name } => {
                let done = client.renew_object_key(&name)?;
                ctx.answer(&done, || {
                    format!(
                        "data key `{}` seals what `{name}` writes from now on",
                        done.key
                    )
                })
            }
            Self::Shred { names, yes } => {
                for name in &names {
                    if !yes {
                        confirm(name)?;
                    }
                    let done = client.shred_object_keys(name)?;
                    ctx.answer(&done, || {
                        format!("{} data keys of `{name}` are destroyed", done.keys)
                    })?;
                }
                Ok(())
            }
        }
    }
}

fn list(ctx: &Context) -> Result<(), Failure> {
    let keys = ctx.client()?.object_keys()?;
    if !ctx.format.is_for_people() {
        return ctx.answer(&keys, String::new);
    }
    let headers = ["PROJECT", "DATA KEY", "WRAPPED BY"];
    let mut table = super::table(&headers, "no project has stored anything yet");
    for project in &keys.projects {
        for key in &project.keys {
            table.push(vec![
                Cell::from(project.project.as_str()),
                Cell::from(key.id.to_string()),
                match &key.wrapped_by {
                    Some(master) => Cell::from(master.as_str()),
                    None => Cell::toned("shredded", Tone::Bad),
                },
            ]);
        }
    }
    ctx.print(&table.render(ctx.columns))
}

/// Asks for the project's name, as nothing brings back what goes.
fn confirm(project: &Name) -> Result<(), Failure> {
    let mut asked = std::io::stderr();
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "shredding destroys all that `{project}` stores, for good: say `--yes` where nobody can be asked"
        )));
    }
    let warning = format!("All that project `{project}` stores can never be read again.");
    write!(
        asked,
        "{}\nType its name to go on: ",
        paint(&warning, Tone::Bad)
    )?;
    asked.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == project.as_str() {
        return Ok(());
    }
    Err(Failure::usage("nothing was done"))
}

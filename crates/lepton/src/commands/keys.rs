//! `lepton keys`: who else may speak S3.

use lepton_api::CreateAccessKey;
use lepton_client::Pages;
use lepton_types::resources::Role;
use lepton_types::{DurationMs, Name};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Shown;

/// Makes, lists and revokes key pairs for S3
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Keys {
    /// Makes a key pair; its secret half is shown this once
    #[command(
        after_help = "Examples:\n  lepton keys create backup\n  lepton keys create reports --role viewer --expires-in 30d -o json"
    )]
    Create {
        /// Its name, by which it is revoked
        name: Name,
        /// What its holder may do: viewer, editor or admin
        #[arg(long, value_parser = role, default_value = "editor")]
        role: Role,
        /// How long it works: 8h, 30d; until it is revoked where absent
        #[arg(long, value_name = "DURATION")]
        expires_in: Option<DurationMs>,
    },
    /// Lists the key pairs, without their secrets
    #[command(visible_alias = "ls", after_help = "Example:\n  lepton keys list")]
    List,
    /// Ends a key pair at once
    #[command(after_help = "Example:\n  lepton keys revoke backup")]
    Revoke {
        /// Its name
        name: Name,
    },
}

fn role(word: &str) -> Result<Role, String> {
    [Role::Viewer, Role::Editor, Role::Admin]
        .into_iter()
        .find(|role| role.as_str() == word)
        .ok_or_else(|| "use viewer, editor or admin".to_owned())
}

impl Keys {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        match self {
            Self::Create {
                name,
                role,
                expires_in,
            } => {
                let created = client.create_access_key(&CreateAccessKey {
                    name,
                    role,
                    project: Some(client.project()?.clone()),
                    expires_in,
                })?;
                ctx.answer(&created, || {
                    format!(
                        "AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}",
                        created.view.access_key_id, created.secret_access_key
                    )
                })?;
                if ctx.format.is_for_people() {
                    ctx.note("this secret is shown once: keep it now");
                }
                Ok(())
            }
            Self::List => {
                let all: Vec<_> =
                    Pages::new(|page| client.access_keys(&page)).collect::<Result<_, _>>()?;
                ctx.show(&Shown::list(&all, ctx.format, ctx.now()))
            }
            Self::Revoke { name } => {
                let revoked = client.revoke_access_key(&name)?;
                ctx.answer(&revoked, || format!("access key `{name}` is revoked"))
            }
        }
    }
}

//! `lepton token`: who else may call.

use lepton_api::CreateToken;
use lepton_client::Pages;
use lepton_types::resources::Role;
use lepton_types::{DurationMs, Name};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Shown;

/// Makes, lists and revokes access tokens
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Token {
    /// Makes a token; its secret is shown this once
    #[command(
        after_help = "Examples:\n  lepton token create ci\n  LEPTON_TOKEN=$(lepton token create ci --role viewer --expires-in 8h -o json | jq -r .token)"
    )]
    Create {
        /// Its name, by which it is revoked
        name: Name,
        /// What its holder may do: viewer, editor, admin or owner
        #[arg(long, value_parser = role, default_value = "editor")]
        role: Role,
        /// How long it works: 8h, 30d; until it is revoked where absent
        #[arg(long, value_name = "DURATION")]
        expires_in: Option<DurationMs>,
    },
    /// Lists the tokens, without their secrets
    #[command(visible_alias = "ls", after_help = "Example:\n  lepton token list")]
    List,
    /// Ends a token at once
    #[command(after_help = "Example:\n  lepton token revoke ci")]
    Revoke {
        /// Its name
        name: Name,
    },
}

fn role(word: &str) -> Result<Role, String> {
    [Role::Viewer, Role::Editor, Role::Admin, Role::Owner]
        .into_iter()
        .find(|role| role.as_str() == word)
        .ok_or_else(|| "use viewer, editor, admin or owner".to_owned())
}

impl Token {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        match self {
            Self::Create {
                name,
                role,
                expires_in,
            } => {
                let project = match role {
                    Role::Owner => None,
                    _ => Some(client.project()?.clone()),
                };
                let created = client.create_token(&CreateToken {
                    name,
                    role,
                    project,
                    expires_in,
                })?;
                // Alone on standard output, so that it can be caught.
                ctx.answer(&created, || created.token.clone())?;
                if ctx.format.is_for_people() {
                    ctx.note("this secret is shown once: keep it now");
                }
                Ok(())
            }
            Self::List => {
                let all: Vec<_> =
                    Pages::new(|page| client.tokens(&page)).collect::<Result<_, _>>()?;
                ctx.show(&Shown::list(&all, ctx.format, ctx.now()))
            }
            Self::Revoke { name } => {
                let revoked = client.revoke_token(&name)?;
                ctx.answer(&revoked, || format!("token `{name}` is revoked"))
            }
        }
    }
}

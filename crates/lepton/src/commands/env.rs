//! `lepton env`: what foreign clients need to find this server.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use lepton_client::Client;

use crate::context::Context;
use crate::failure::Failure;

/// Prints what other clients need, or runs a command with it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eval \"$(lepton env)\"\n  lepton env -- python train.py\n\nLEPTON_URL, LEPTON_TOKEN and LEPTON_PROJECT are for `lepton` itself; MLFLOW_TRACKING_URI and MLFLOW_TRACKING_TOKEN for MLflow, OPENAI_BASE_URL and OPENAI_API_KEY for OpenAI's client, and AWS_ENDPOINT_URL_S3 with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION for clients of S3. Which of these protocols the server of this version speaks is in docs/cli.md."
)]
pub(crate) struct Env {
    /// The command and its arguments; without one the variables are printed for a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Env {
    pub(crate) fn run(&self, ctx: &Context) -> Result<ExitCode, Failure> {
        let variables = variables(ctx.client()?)?;
        let Some((program, arguments)) = self.command.split_first() else {
            let map: std::collections::BTreeMap<_, _> = variables.iter().cloned().collect();
            ctx.answer(&map, || shell_exports(&variables))?;
            return Ok(ExitCode::SUCCESS);
        };
        // The command takes this process's place, so its exit status is its own.
        let source = Command::new(program).args(arguments).envs(variables).exec();
        Err(Failure::Program {
            program: program.clone(),
            source,
        })
    }
}

fn variables(client: &Client) -> Result<Vec<(&'static str, String)>, Failure> {
    let s3 = client.s3_credentials()?;
    let url = client.url().to_owned();
    let token = client.token().to_owned();
    Ok(vec![
        ("LEPTON_URL", url.clone()),
        ("LEPTON_TOKEN", token.clone()),
        ("LEPTON_PROJECT", client.project()?.to_string()),
        ("MLFLOW_TRACKING_URI", url.clone()),
        ("MLFLOW_TRACKING_TOKEN", token.clone()),
        ("OPENAI_BASE_URL", format!("{url}/v1")),
        ("OPENAI_API_KEY", token),
        ("AWS_ENDPOINT_URL_S3", s3.endpoint_url),
        ("AWS_ACCESS_KEY_ID", s3.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", s3.secret_access_key),
        ("AWS_REGION", s3.region.clone()),
        ("AWS_DEFAULT_REGION", s3.region),
    ])
}

fn shell_exports(variables: &[(&str, String)]) -> String {
    variables
        .iter()
        .map(|(key, value)| format!("export {key}='{}'\n", value.replace('\'', r"'\''")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        let exports = shell_exports(&[("A", "it's $HOME".to_owned())]);
        insta::assert_snapshot!(exports, @r"export A='it'\''s $HOME'");
    }
}

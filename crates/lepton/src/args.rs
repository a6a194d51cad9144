//! The command line: which commands there are, what goes for all of them, and
//! how a failure is told.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use lepton_types::Name;

use crate::commands;
use crate::context::Context;
use crate::failure::{Failure, Status};
use crate::output::Format;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Over the options that every command takes.
const EVERYWHERE: &str = "With every command";

/// An AI cloud in one binary: bring data and code; train, track and serve models.
#[derive(Debug, Parser)]
#[command(
    name = "lepton",
    styles = STYLES,
    disable_version_flag = true,
    max_term_width = 100,
    after_help = "The first minute:\n  lepton up                                        in one terminal\n  lepton data put wine wine.csv                    in another\n  lepton train wine --data wine --target class --wait\n  lepton deploy wine --model wine --wait\n  lepton predict wine --data rows.csv\n\nExit statuses: 0 done, 1 failed, 2 usage, 3 not found, 4 denied, 5 conflict, 6 no server,\n7 timed out, 8 invalid data, 9 server trouble. See docs/cli.md."
)]
pub(crate) struct Cli {
    /// How results are shown: table, wide, json or yaml
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORMAT",
        help_heading = EVERYWHERE
    )]
    output: Format,
    /// The project; the token's own where absent [env: LEPTON_PROJECT]
    #[arg(long, global = true, value_name = "NAME", help_heading = EVERYWHERE)]
    project: Option<Name>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(commands::up::Up),
    #[command(subcommand, after_help = "Example:\n  lepton data put wine wine.csv")]
    Data(commands::data::Data),
    Train(commands::train::Train),
    Run(commands::run::Run),
    Reserve(commands::reserve::Reserve),
    #[command(
        subcommand,
        after_help = "Example:\n  lepton runs compare first second"
    )]
    Runs(commands::runs::Runs),
    Deploy(commands::deploy::Deploy),
    Predict(commands::predict::Predict),
    Apply(commands::apply::Apply),
    #[command(
        subcommand,
        after_help = "Example:\n  lepton model import wine wine.onnx"
    )]
    Model(commands::model::ModelCommand),
    Get(commands::get::Get),
    Describe(commands::describe::Describe),
    Delete(commands::delete::Delete),
    Cancel(commands::cancel::Cancel),
    Logs(commands::logs::Logs),
    Artifacts(commands::artifacts::Artifacts),
    Lineage(commands::lineage::LineageOf),
    Events(commands::events::Events),
    Explain(commands::explain::Explain),
    #[command(
        subcommand,
        after_help = "Example:\n  lepton token create ci --role viewer"
    )]
    Token(commands::token::Token),
    #[command(subcommand, after_help = "Example:\n  lepton project create vision")]
    Project(commands::project::ProjectCommand),
    #[command(subcommand, after_help = "Example:\n  lepton keys create backup")]
    Keys(commands::keys::Keys),
    #[command(subcommand, after_help = "Example:\n  lepton objects usage")]
    Objects(commands::objects::Objects),
    Whoami(commands::whoami::Whoami),
    Env(commands::env::Env),
    #[command(subcommand, after_help = "Example:\n  lepton config check lepton.toml")]
    Config(commands::config::Action),
    /// Replays a trace through a policy; needs no server
    #[command(
        subcommand,
        after_help = "Example:\n  lepton simulate packing --policy list"
    )]
    Simulate(crate::simulate::Simulate),
    /// Looks into recorded decisions
    #[command(
        subcommand,
        after_help = "Example:\n  lepton plan record > decision.json"
    )]
    Plan(crate::explain::Plan),
    Completions(commands::completions::Completions),
    Version(commands::version::Version),
    #[command(subcommand, hide = true)]
    Worker(commands::worker::Role),
}

/// Parses the command line, does what it says, and tells how it went.
pub(crate) fn run() -> ExitCode {
    let parsed = command()
        .try_get_matches_from(arguments())
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                Status::Usage.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let ctx = Context::new(cli.output, cli.project);
    match dispatch(cli.command, &ctx) {
        Ok(code) => code,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&ctx, &failure);
            failure.status().into()
        }
    }
}

/// The command line as it is parsed: what an option is given may begin with a minus, and the option
/// says what is wrong with it.
fn command() -> clap::Command {
    fn take_negative(command: clap::Command) -> clap::Command {
        let takes = |arg: &clap::Arg| !arg.is_positional() && arg.get_action().takes_values();
        command
            .mut_args(|arg| match takes(&arg) {
                true => arg.allow_negative_numbers(true),
                false => arg,
            })
            .mut_subcommands(take_negative)
    }
    take_negative(Cli::command())
}

/// `lepton --version` is `lepton version`.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.len() == 2 && (arguments[1] == "--version" || arguments[1] == "-V") {
        arguments[1] = "version".into();
    }
    arguments
}

fn dispatch(command: Command, ctx: &Context) -> Result<ExitCode, Failure> {
    let done = match command {
        Command::Env(env) => return env.run(ctx),
        Command::Up(up) => crate::server::up(&up),
        Command::Worker(role) => crate::server::worker(&role),
        Command::Data(data) => data.run(ctx),
        Command::Train(train) => train.run(ctx),
        Command::Run(run) => run.run(ctx),
        Command::Reserve(reserve) => reserve.run(ctx),
        Command::Runs(runs) => runs.run(ctx),
        Command::Deploy(deploy) => deploy.run(ctx),
        Command::Predict(predict) => predict.run(ctx),
        Command::Apply(apply) => apply.run(ctx),
        Command::Model(model) => model.run(ctx),
        Command::Get(get) => get.run(ctx),
        Command::Describe(describe) => describe.run(ctx),
        Command::Delete(delete) => delete.run(ctx),
        Command::Cancel(cancel) => cancel.run(ctx),
        Command::Logs(logs) => logs.run(ctx),
        Command::Artifacts(artifacts) => artifacts.run(ctx),
        Command::Lineage(lineage) => lineage.run(ctx),
        Command::Events(events) => events.run(ctx),
        Command::Explain(explain) => explain.run(ctx),
        Command::Token(token) => token.run(ctx),
        Command::Project(project) => project.run(ctx),
        Command::Keys(keys) => keys.run(ctx),
        Command::Objects(objects) => objects.run(ctx),
        Command::Whoami(whoami) => whoami.run(ctx),
        Command::Config(action) => action.run(ctx),
        Command::Simulate(simulate) => simulate
            .run(ctx.format, &mut ctx.out())
            .map_err(Failure::from),
        Command::Plan(plan) => plan.run(ctx),
        Command::Completions(completions) => completions.run(ctx),
        Command::Version(version) => version.run(ctx),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn tell(ctx: &Context, failure: &Failure) {
    use crate::output::{Tone, paint};

    ctx.note(&format!("{} {failure}", paint("error:", Tone::Bad)));
    if let Some(code) = failure.code() {
        let hint = format!("`lepton explain {code}` tells more");
        ctx.note(&paint(&hint, Tone::Faint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_negative_number_is_refused_by_its_option() {
        for (line, why) in [
            ("get jobs --limit -1", "'--limit <COUNT>'"),
            ("train x --data d --target t --seed -1", "'--seed <NUMBER>'"),
            ("objects quota lab --storage -1", "'--storage <BYTES|none>'"),
        ] {
            let words = std::iter::once("lepton").chain(line.split(' '));
            let error = command()
                .try_get_matches_from(words)
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_follows_the_help_fits_a_line_or_is_one() {
        // Clap breaks what is longer anew, and leaves half a line where it was broken by hand.
        fn visit(command: &clap::Command) {
            let after = command.get_after_help().map(ToString::to_string);
            for paragraph in after.unwrap_or_default().split("\n\n") {
                let fits = paragraph.lines().all(|line| line.chars().count() <= 98);
                let name = command.get_name();
                assert!(fits || !paragraph.contains('\n'), "{name}: {paragraph}");
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }

    #[test]
    fn every_command_says_what_it_does_and_gives_an_example() {
        fn visit(command: &clap::Command, path: &str) {
            for sub in command
                .get_subcommands()
                .filter(|sub| sub.get_name() != "help")
            {
                let path = format!("{path} {}", sub.get_name());
                assert!(
                    sub.get_about().is_some(),
                    "`{path}` does not say what it does"
                );
                let after = sub.get_after_help().map(ToString::to_string);
                assert!(
                    after.is_some_and(|text| text.contains("lepton ")) || sub.is_hide_set(),
                    "`{path}` gives no example"
                );
                visit(sub, &path);
            }
        }
        visit(&Cli::command(), "lepton");
    }
}

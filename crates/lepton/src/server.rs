//! The seam to the parts that serve and work: the server, the workers and the
//! shim. Must not know: how the client commands are written.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use lepton_server::{Config, Server, StartError};
use tracing_subscriber::EnvFilter;

use crate::commands::{config, up, worker};
use crate::failure::{Failure, with_causes};
use crate::workers;

/// Runs as a shim and never comes back as anything else, if that is what was started.
pub(crate) fn shim() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != "shim" {
        return None;
    }
    let folder = arguments.next()?;
    Some(lepton_executors::shim::main(Path::new(&folder)))
}

/// Serves until told to stop.
pub(crate) fn up(options: &up::Up) -> Result<(), Failure> {
    log_to_stderr();
    let mut config = match &options.config {
        Some(file) => Config::read(file).map_err(|error| unusable(&error))?,
        None => Config::default(),
    };
    if let Some(data_dir) = &options.data_dir {
        config.data_dir.clone_from(data_dir);
    }
    if let Some(listen) = options.listen {
        config.listen = listen;
    }
    if let Some(listen) = options.s3_listen {
        config.s3.listen = Some(listen);
    }
    config.behind_proxy |= options.behind_proxy;
    lepton_server::run(config, announce).map_err(|error| match &error {
        StartError::Config(error) => unusable(error),
        _ => Failure::part(&error),
    })
}

/// Says where it answers, on standard error, as the result of `up` is the server itself.
fn announce(server: &Server) {
    let url = server.url();
    let s3_url = server.config().s3_url();
    let data_dir = server.config().data_dir.display();
    let _ = writeln!(
        std::io::stderr(),
        "Lepton answers at {url}\n  s3      {s3_url}\n  data    {data_dir}\n  try     lepton whoami\n  stop    Ctrl-C"
    );
}

/// `LEPTON_LOG` says how much: `debug`, or `lepton_server=debug,info`.
fn log_to_stderr() {
    let filter =
        EnvFilter::try_from_env("LEPTON_LOG").unwrap_or_else(|_| EnvFilter::new("info,s3s=off"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(anstream::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_env_filter(filter)
        .init();
}

/// Does the work that the environment describes.
pub(crate) fn worker(role: &worker::Role) -> Result<(), Failure> {
    match role {
        worker::Role::Train(options) => {
            workers::train::run(options).map_err(|error| Failure::part(&error))
        }
        worker::Role::Prepare(options) => {
            workers::prepare::run(options).map_err(|error| Failure::part(&error))
        }
        worker::Role::Serve(options) => {
            log_to_stderr();
            workers::serve::run(options).map_err(|error| Failure::part(&error))
        }
    }
}

/// What is said of a configuration.
pub(crate) enum Told {
    /// In words.
    Words(String),
    /// Every setting, as a file and for programs.
    Settings(String, serde_json::Value),
}

/// Checks or shows the server's configuration.
pub(crate) fn config(action: &config::Action) -> Result<Told, Failure> {
    let read = |file: &Path| -> Result<Config, Failure> {
        let config = Config::read(file).map_err(|error| unusable(&error))?;
        config.validate().map_err(|error| unusable(&error))?;
        let places = config.objects.check_places();
        places.map_err(|error| unusable(&error))?;
        Ok(config)
    };
    match action {
        config::Action::Check { file } => {
            read(file)?;
            let file = file.display();
            Ok(Told::Words(format!("`{file}` is a valid configuration")))
        }
        config::Action::Show { config: Some(file) } => Ok(settings(&read(file)?)),
        config::Action::Show { config: None } => Ok(settings(&Config::default())),
    }
}

fn settings(config: &Config) -> Told {
    let json = serde_json::to_value(config).expect("invariant: a configuration serialises");
    Told::Settings(config.to_commented_toml(), json)
}

fn unusable(error: &dyn Error) -> Failure {
    Failure::invalid(with_causes(error))
}

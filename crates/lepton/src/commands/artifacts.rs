//! `lepton artifacts`: the files that a run left, listed or downloaded.

use std::path::PathBuf;

use lepton_client::Client;
use lepton_types::RunId;
use lepton_types::resources::{FileEntry, Kind};

use crate::commands::data;
use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::Shown;

/// Lists the files that a run left, such as plots, or downloads them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton artifacts wine\n  lepton artifacts wine --to ./wine-run\n  lepton artifacts wine --file leaderboard.json --to -"
)]
pub(crate) struct Artifacts {
    /// The run's id, or its job's id or name
    #[arg(value_name = "RUN|JOB")]
    of: String,
    /// Only this file
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// Downloads into this folder; `-` with --file is standard output
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

impl Artifacts {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let (run, files) = find(client, &self.of)?;
        let known: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        let wanted: Vec<FileEntry> = files
            .into_iter()
            .filter(|file| self.file.as_ref().is_none_or(|path| file.path == *path))
            .collect();
        if let (Some(path), true) = (&self.file, wanted.is_empty()) {
            return Err(crate::names::Unknown::new("artifact", path, &known).into());
        }
        let Some(to) = &self.to else {
            return ctx.show(&Shown::list(&wanted, ctx.format, ctx.now()));
        };
        let files: Vec<&FileEntry> = wanted.iter().collect();
        data::save(ctx, &files, to, &|path| client.artifact(run, path))
    }
}

/// The run that is meant, and its files: an id may be a run's or a job's.
fn find(client: &Client, of: &str) -> Result<(RunId, Vec<FileEntry>), Failure> {
    if let Ok(run) = of.parse::<RunId>() {
        match client.artifacts(run) {
            Ok(files) => return Ok((run, files.items)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let job = client
        .job(of)
        .map_err(|error| kinds::or_near_names(client, Kind::Job, of, error))?;
    Ok((job.spec.run, client.artifacts(job.spec.run)?.items))
}

//! `lepton logs`: what workers wrote.

use std::io::Write as _;

use lepton_client::{Client, ClientError, LogChunk, LogQuery, LogStream, RetryPolicy};
use lepton_types::resources::Kind;

use crate::context::Context;
use crate::failure::Failure;
use crate::gang_log;
use crate::kinds;

/// Shows what a job's workers wrote, or an endpoint's replicas
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton logs wine\n  lepton logs wine -f\n  lepton logs wine --attempt 1 --worker 3 --stream stderr\n  lepton logs gang -f --all-workers\n  lepton logs --endpoint wine"
)]
pub(crate) struct Logs {
    /// The job's id, or its name, which means the newest of that name; with --endpoint an endpoint
    name: String,
    /// Goes on until there will be no more
    #[arg(short, long)]
    follow: bool,
    /// An endpoint's replica instead of a job's worker
    #[arg(long)]
    endpoint: bool,
    /// Which try; the newest where absent
    #[arg(long, value_name = "NUMBER", conflicts_with = "endpoint")]
    attempt: Option<u32>,
    /// Which worker, by rank
    #[arg(long, value_name = "RANK", conflicts_with = "endpoint")]
    worker: Option<u32>,
    /// All workers, each line with the rank of who wrote it
    #[arg(long, conflicts_with_all = ["endpoint", "worker"], requires = "follow")]
    all_workers: bool,
    /// Which replica; the newest where absent
    #[arg(long, value_name = "ID", requires = "endpoint")]
    replica: Option<String>,
    /// Which output
    #[arg(long, value_enum, default_value_t = Stream::Both)]
    stream: Stream,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Stream {
    /// As they came
    Both,
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

impl Logs {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let query = LogQuery {
            attempt: self.attempt,
            worker: self.worker,
            replica: self.replica.clone(),
            stream: match self.stream {
                Stream::Both => LogStream::Both,
                Stream::Stdout => LogStream::Stdout,
                Stream::Stderr => LogStream::Stderr,
            },
            ..LogQuery::default()
        };
        let kind = if self.endpoint {
            Kind::Endpoint
        } else {
            Kind::Job
        };
        let told = |failure| match failure {
            Failure::Client(error) => kinds::or_near_names(client, kind, &self.name, error),
            other => other,
        };
        // Whoever follows wants to go on after a restart of the server.
        let patient = client.with_retry(RetryPolicy::patient());
        let shown = match (self.endpoint, self.follow) {
            (false, true) if self.all_workers => self.follow_gang(ctx, &patient, &query),
            (false, true) => copy(ctx, patient.follow_job_log(&self.name, query)?),
            (true, true) => {
                let name = kinds::dns(&self.name)?;
                copy(ctx, patient.follow_endpoint_log(&name, query)?)
            }
            (false, false) => until_now(ctx, query, |query| client.job_log(&self.name, query)),
            (true, false) => {
                let name = kinds::dns(&self.name)?;
                until_now(ctx, query, |query| client.endpoint_log(&name, query))
            }
        };
        shown.map_err(told)
    }

    fn follow_gang(&self, ctx: &Context, client: &Client, query: &LogQuery) -> Result<(), Failure> {
        let job = client.job(&self.name)?;
        let id = job.metadata.id.to_string();
        gang_log::follow(ctx, client, &id, job.spec.workers, query)
    }
}

/// Writes the pieces to standard output as they come.
pub(crate) fn copy(
    ctx: &Context,
    chunks: impl Iterator<Item = Result<LogChunk, ClientError>>,
) -> Result<(), Failure> {
    for chunk in chunks {
        let mut out = ctx.out();
        out.write_all(&chunk?.bytes)?;
        out.flush()?;
    }
    Ok(())
}

/// Writes what there is, piece by piece, without waiting for more.
fn until_now(
    ctx: &Context,
    mut query: LogQuery,
    mut read: impl FnMut(&LogQuery) -> Result<LogChunk, ClientError>,
) -> Result<(), Failure> {
    loop {
        let chunk = read(&query)?;
        let mut out = ctx.out();
        out.write_all(&chunk.bytes)?;
        out.flush()?;
        if chunk.end || chunk.bytes.is_empty() || chunk.next_cursor.is_none() {
            return Ok(());
        }
        query.cursor = chunk.next_cursor;
    }
}

//! Output of workers: read piece by piece from a cursor, or followed to its end.

use std::time::Duration;

use lepton_types::Name;
use ureq::http::Method;

use crate::Client;
use crate::error::ClientError;
use crate::retry::{Repeat, pause};
use crate::target::Target;
use crate::transport::AnswerTimeout;

/// How long the server holds a request for output that is not there yet.
const WAIT: Duration = Duration::from_secs(10);
/// What the server needs beyond its wait to answer.
const WAIT_GRACE: Duration = Duration::from_secs(20);
/// After nothing came; keeps a server that does not wait from being asked without rest.
const EMPTY_PAUSE: Duration = Duration::from_millis(50);
/// A piece of a log is at most the server's own bound, far below this.
const CHUNK_BYTES_MAX: u64 = 64 << 20;

/// Which of a worker's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogStream {
    /// Both, as they came.
    #[default]
    Both,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl LogStream {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Which part of whose output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// The attempt; the newest where absent. Only of jobs.
    pub attempt: Option<u32>,
    /// The rank of the worker; 0 where absent. Only of jobs.
    pub worker: Option<u32>,
    /// The replica's id; the newest where absent. Only of endpoints.
    pub replica: Option<String>,
    /// Which outputs.
    pub stream: LogStream,
    /// Where to go on; the beginning where absent.
    pub cursor: Option<String>,
    /// How many bytes at most.
    pub limit: Option<u64>,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// The bytes, as the worker wrote them.
    pub bytes: Vec<u8>,
    /// Where the next piece begins.
    pub next_cursor: Option<String>,
    /// Whether nothing will follow any more.
    pub end: bool,
    /// The attempt that it is of.
    pub attempt: Option<u32>,
}

/// Output, piece by piece as it is written, to its end.
#[derive(Debug)]
pub struct LogFollower {
    client: Client,
    target: Target,
    query: LogQuery,
    done: bool,
}

impl Iterator for LogFollower {
    type Item = Result<LogChunk, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.client.log_chunk(&self.target, &self.query, Some(WAIT)) {
            Ok(chunk) => {
                self.done = chunk.end;
                if chunk.bytes.is_empty() && !chunk.end {
                    pause(EMPTY_PAUSE);
                }
                if chunk.next_cursor.is_some() {
                    self.query.cursor.clone_from(&chunk.next_cursor);
                }
                Some(Ok(chunk))
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}

impl Client {
    /// A piece of a job's output, as far as there is any.
    ///
    /// # Errors
    /// If there is no such job or attempt, or the way fails.
    pub fn job_log(&self, job: &str, query: &LogQuery) -> Result<LogChunk, ClientError> {
        let target = self.in_this_project(&["jobs", job, "logs"])?;
        self.log_chunk(&target, query, None)
    }

    /// A job's output from `query` on, as it is written.
    ///
    /// # Errors
    /// If the project cannot be asked for.
    pub fn follow_job_log(&self, job: &str, query: LogQuery) -> Result<LogFollower, ClientError> {
        let target = self.in_this_project(&["jobs", job, "logs"])?;
        Ok(self.follow(target, query))
    }

    /// A piece of a replica's output.
    ///
    /// # Errors
    /// If there is no such endpoint or replica, or the way fails.
    pub fn endpoint_log(&self, name: &Name, query: &LogQuery) -> Result<LogChunk, ClientError> {
        let target = self.in_this_project(&["endpoints", name.as_str(), "logs"])?;
        self.log_chunk(&target, query, None)
    }

    /// A replica's output from `query` on, as it is written.
    ///
    /// # Errors
    /// If the project cannot be asked for.
    pub fn follow_endpoint_log(
        &self,
        name: &Name,
        query: LogQuery,
    ) -> Result<LogFollower, ClientError> {
        let target = self.in_this_project(&["endpoints", name.as_str(), "logs"])?;
        Ok(self.follow(target, query))
    }

    fn follow(&self, target: Target, query: LogQuery) -> LogFollower {
        LogFollower {
            client: self.clone(),
            target,
            query,
            done: false,
        }
    }

    fn log_chunk(
        &self,
        target: &Target,
        query: &LogQuery,
        wait: Option<Duration>,
    ) -> Result<LogChunk, ClientError> {
        let target = target
            .clone()
            .maybe_query("attempt", query.attempt)
            .maybe_query("worker", query.worker)
            .maybe_query("replica", query.replica.as_ref())
            .query("stream", query.stream.as_str())
            .maybe_query("cursor", query.cursor.as_ref())
            .maybe_query("limit", query.limit)
            .maybe_query("wait", wait.map(|wait| format!("{}s", wait.as_secs())));
        self.repeated(Repeat::Harmless, || {
            let mut request = self.request(Method::GET, &target)?;
            if let Some(wait) = wait {
                request
                    .extensions_mut()
                    .insert(AnswerTimeout(wait + WAIT_GRACE));
            }
            let mut answer = self.run(request, ())?;
            let bytes = answer.bytes(CHUNK_BYTES_MAX)?;
            Ok(LogChunk {
                bytes,
                next_cursor: answer.header("lepton-next-cursor").map(str::to_owned),
                end: answer.header("lepton-log-end") != Some("false"),
                attempt: answer
                    .header("lepton-attempt")
                    .and_then(|number| number.parse().ok()),
            })
        })
    }
}

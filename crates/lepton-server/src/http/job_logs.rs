//! What workers print: read while they run, and after.

use axum::extract::State;
use axum::http::header;
use axum::response::Response;
use lepton_access::Access;
use lepton_api::ErrorCode;
use lepton_executors::{LogStream, ReadError, WorkloadId};
use lepton_store::Query;
use lepton_types::resources::{
    Attempt, AttemptSpec, EndpointSpec, Kind, Replica, ReplicaSpec, WorkerPhase, WorkerStatus,
};
use lepton_types::{DurationMs, Id, Name};
use serde::Deserialize;

use super::jobs::find_job;
use super::{enter, find};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Params, Segments};

/// The most that one answer holds.
const CHUNK_BYTES_MAX: usize = 1 << 20;
const CHUNK_BYTES: usize = 64 << 10;

/// The longest that a caller waits for more.
const WAIT_MAX: DurationMs = DurationMs::from_secs(30);

/// How often a log that may grow is looked at while somebody waits.
const POLL: std::time::Duration = std::time::Duration::from_millis(100);

/// Which log, and from where.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub(super) struct LogParams {
    /// The attempt, from 1; the newest where absent.
    attempt: Option<u32>,
    /// The rank of the worker.
    #[serde(default)]
    worker: u32,
    /// The replica's id, for an endpoint; the newest where absent.
    replica: Option<String>,
    /// `stdout`, `stderr` or `both`.
    stream: Option<String>,
    /// From the answer before; the beginning where absent.
    cursor: Option<String>,
    /// At most this many bytes a stream.
    limit: Option<usize>,
    /// How long to wait for more if there is nothing yet.
    wait: Option<String>,
}

/// A place in the logs of one attempt or replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    stdout: u64,
    stderr: u64,
}

/// What is read of a log at once.
struct Piece {
    bytes: Vec<u8>,
    cursor: Cursor,
    end: bool,
}

/// Where a log is.
enum Place<'a> {
    /// With the executor.
    Live(WorkloadId),
    /// Sealed into objects.
    Sealed(&'a WorkerStatus),
    /// Nothing was ever started.
    Nowhere,
}

/// Reads what a worker of a job printed. `Lepton-Next-Cursor` says where to go on, `Lepton-Log-End`
/// whether anything can follow, `Lepton-Attempt` which attempt it is.
#[utoipa::path(get, path = "/api/v1/projects/{project}/jobs/{job}/logs", tag = "jobs",
    params(("project" = String, Path), ("job" = String, Path), LogParams),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn job_logs(
    State(app): State<App>,
    caller: Caller,
    Segments((project, job)): Segments<(String, String)>,
    Params(wanted): Params<LogParams>,
) -> Result<Response, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Job, &project).await?;
    let job = find_job(&app, &project, &job).await?;
    let deadline = Deadline::of(&wanted)?;
    loop {
        let query = Query {
            owner: Some(job.metadata.id),
            ..Query::project(&project)
        };
        let attempts = app.store.list_all::<AttemptSpec>(query).await?;
        let attempt = choose(&attempts, wanted.attempt)?;
        let (piece, number) = match attempt {
            None => (
                Piece {
                    bytes: Vec::new(),
                    cursor: Cursor::START,
                    end: false,
                },
                0,
            ),
            Some(attempt) => {
                let worker = worker_of(attempt, wanted.worker)?;
                let id = WorkloadId {
                    attempt: attempt.metadata.id,
                    rank: wanted.worker,
                };
                let place = match worker.phase {
                    _ if !attempt.status.phase.is_final() => Place::Live(id),
                    WorkerPhase::Starting | WorkerPhase::Running => Place::Nowhere,
                    WorkerPhase::Exited | WorkerPhase::Lost => Place::Sealed(worker),
                };
                (
                    read(&app, &project, &place, &wanted).await?,
                    attempt.spec.number,
                )
            }
        };
        let over = piece.end
            || (attempt.is_none()
                && find_job(&app, &project, &job.metadata.id.to_string())
                    .await?
                    .status
                    .phase
                    .is_final());
        if !piece.bytes.is_empty() || over || deadline.is_over(&app).await {
            return answer(Piece { end: over, ..piece }, number);
        }
    }
}

/// Reads what a replica of an endpoint printed, like a job's worker.
#[utoipa::path(get, path = "/api/v1/projects/{project}/endpoints/{endpoint}/logs", tag = "endpoints",
    params(("project" = String, Path), ("endpoint" = String, Path), LogParams),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn endpoint_logs(
    State(app): State<App>,
    caller: Caller,
    Segments((project, endpoint)): Segments<(String, String)>,
    Params(wanted): Params<LogParams>,
) -> Result<Response, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Endpoint, &project).await?;
    let endpoint = find::<EndpointSpec>(&app, &project, &endpoint).await?;
    let deadline = Deadline::of(&wanted)?;
    loop {
        let query = Query {
            owner: Some(endpoint.metadata.id),
            ..Query::project(&project)
        };
        let replicas = app.store.list_all::<ReplicaSpec>(query).await?;
        let replica = choose_replica(&replicas, wanted.replica.as_deref())?;
        let piece = match replica {
            None => Piece {
                bytes: Vec::new(),
                cursor: Cursor::START,
                end: true,
            },
            Some(replica) => {
                let id = WorkloadId {
                    attempt: replica.metadata.id,
                    rank: 0,
                };
                read(&app, &project, &Place::Live(id), &wanted).await?
            }
        };
        if !piece.bytes.is_empty() || piece.end || deadline.is_over(&app).await {
            return answer(piece, 1);
        }
    }
}

fn choose(attempts: &[Attempt], number: Option<u32>) -> Result<Option<&Attempt>, ApiError> {
    match number {
        None => Ok(attempts.last()),
        Some(number) => {
            let found = attempts
                .iter()
                .find(|attempt| attempt.spec.number == number);
            found.map(Some).ok_or_else(|| {
                let message = format!("the job has no attempt {number}: it has {}", attempts.len());
                ApiError::new(ErrorCode::NotFound, message)
            })
        }
    }
}

fn choose_replica<'a>(
    replicas: &'a [Replica],
    wanted: Option<&str>,
) -> Result<Option<&'a Replica>, ApiError> {
    let Some(wanted) = wanted else {
        return Ok(replicas.last());
    };
    let id: Id = wanted.parse().map_err(ApiError::invalid)?;
    let found = replicas.iter().find(|replica| replica.metadata.id == id);
    found
        .map(Some)
        .ok_or_else(|| ApiError::not_found(Kind::Replica, id))
}

fn worker_of(attempt: &Attempt, rank: u32) -> Result<&WorkerStatus, ApiError> {
    attempt
        .status
        .workers
        .iter()
        .find(|worker| worker.rank == rank)
        .ok_or_else(|| {
            let message = format!(
                "the job has {} workers, from 0",
                attempt.status.workers.len()
            );
            ApiError::new(ErrorCode::NotFound, message)
        })
}

async fn read(
    app: &App,
    project: &Name,
    place: &Place<'_>,
    wanted: &LogParams,
) -> Result<Piece, ApiError> {
    let cursor = Cursor::parse(wanted.cursor.as_deref())?;
    let most = wanted
        .limit
        .unwrap_or(CHUNK_BYTES)
        .clamp(1, CHUNK_BYTES_MAX);
    let mut piece = Piece {
        bytes: Vec::new(),
        cursor,
        end: true,
    };
    for stream in streams(wanted.stream.as_deref())? {
        let from = cursor.of(*stream);
        let (bytes, next, end) = match place {
            Place::Nowhere => (Vec::new(), from, true),
            Place::Live(id) => read_live(app, *id, *stream, from, most).await?,
            Place::Sealed(worker) => read_sealed(app, project, worker, *stream, from, most).await?,
        };
        piece.bytes.extend(bytes);
        piece.cursor.set(*stream, next);
        piece.end &= end;
    }
    Ok(piece)
}

async fn read_live(
    app: &App,
    id: WorkloadId,
    stream: LogStream,
    from: u64,
    most: usize,
) -> Result<(Vec<u8>, u64, bool), ApiError> {
    let chunk = app
        .with_executor(move |executor| executor.read_log(id, stream, from, most))
        .await
        .map_err(|error| ApiError::internal(&error))?;
    match chunk {
        Ok(chunk) => Ok((chunk.bytes, chunk.next, chunk.end)),
        // Not started yet.
        Err(ReadError::UnknownWorkload { .. } | ReadError::NotFound { .. }) => {
            Ok((Vec::new(), from, false))
        }
        Err(error) => Err(ApiError::internal(&error)),
    }
}

async fn read_sealed(
    app: &App,
    project: &Name,
    worker: &WorkerStatus,
    stream: LogStream,
    from: u64,
    most: usize,
) -> Result<(Vec<u8>, u64, bool), ApiError> {
    let Some(file) = worker.logs.iter().find(|file| file.path == stream.as_str()) else {
        return Ok((Vec::new(), from, true));
    };
    let size = file.size_bytes;
    let range = from..from.saturating_add(most as u64);
    let bytes = app.blobs.read_range(project, file.digest, range).await?;
    let next = from + bytes.len() as u64;
    Ok((bytes, next, next >= size))
}

fn answer(piece: Piece, attempt: u32) -> Result<Response, ApiError> {
    Response::builder()
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header("lepton-next-cursor", piece.cursor.to_string())
        .header("lepton-log-end", piece.end.to_string())
        .header("lepton-attempt", attempt)
        .body(piece.bytes.into())
        .map_err(|error| ApiError::internal(&error))
}

fn streams(wanted: Option<&str>) -> Result<&'static [LogStream], ApiError> {
    match wanted {
        None | Some("both") => Ok(&[LogStream::Stdout, LogStream::Stderr]),
        Some("stdout") => Ok(&[LogStream::Stdout]),
        Some("stderr") => Ok(&[LogStream::Stderr]),
        Some(_) => Err(ApiError::invalid(
            "`stream` must be `stdout`, `stderr` or `both`",
        )),
    }
}

/// Until when a caller waits for more.
struct Deadline(Option<tokio::time::Instant>);

impl Deadline {
    fn of(wanted: &LogParams) -> Result<Self, ApiError> {
        let wait = wanted
            .wait
            .as_deref()
            .map(str::parse::<DurationMs>)
            .transpose();
        let wait = wait.map_err(ApiError::invalid)?;
        Ok(Self(wait.map(|wait| {
            tokio::time::Instant::now() + wait.min(WAIT_MAX).to_std()
        })))
    }

    /// Waits a little; tells whether it was long enough.
    async fn is_over(&self, app: &App) -> bool {
        let Some(until) = self.0 else { return true };
        if tokio::time::Instant::now() >= until {
            return true;
        }
        tokio::select! {
            () = app.stopping.cancelled() => true,
            () = tokio::time::sleep(POLL) => false,
        }
    }
}

impl Cursor {
    const START: Self = Self {
        stdout: 0,
        stderr: 0,
    };

    fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        let Some(text) = text else {
            return Ok(Self::START);
        };
        let parse = || {
            let (stdout, stderr) = text.split_once('-')?;
            Some(Self {
                stdout: stdout.parse().ok()?,
                stderr: stderr.parse().ok()?,
            })
        };
        parse().ok_or_else(|| ApiError::invalid("`cursor` is not one that an answer has given"))
    }

    fn of(self, stream: LogStream) -> u64 {
        match stream {
            LogStream::Stdout => self.stdout,
            LogStream::Stderr => self.stderr,
        }
    }

    fn set(&mut self, stream: LogStream, to: u64) {
        match stream {
            LogStream::Stdout => self.stdout = to,
            LogStream::Stderr => self.stderr = to,
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.stdout, self.stderr)
    }
}

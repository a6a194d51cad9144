//! Sealing: what the workers of an attempt printed becomes objects when it is over.

use lepton_executors::{LogStream, ReadError, WorkloadId};
use lepton_objects::BlobError;
use lepton_types::resources::{Attempt, AttemptStatus, FileEntry};

use super::PassError;
use crate::app::App;
use crate::error::Chain;

/// Read from a log at once.
const PIECE_BYTES: usize = 1 << 20;

/// Keeps the logs of every worker, and writes into `status` where they are. What cannot be kept
/// is said in the server's log; a lost log must not keep a job from ending.
pub(super) async fn seal_logs(
    app: &App,
    attempt: &Attempt,
    status: &mut AttemptStatus,
) -> Result<(), PassError> {
    for worker in &mut status.workers {
        if !worker.logs.is_empty() {
            continue;
        }
        let id = WorkloadId {
            attempt: attempt.metadata.id,
            rank: worker.rank,
        };
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let (app2, project) = (app.clone(), attempt.metadata.project.clone());
            let sealed =
                tokio::task::spawn_blocking(move || seal(&app2, &project, id, stream)).await?;
            match sealed {
                Ok(Some(file)) => worker.logs.push(file),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(worker = %id, error = %Chain(&error), "a log could not be kept");
                }
            }
        }
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Keep(#[from] BlobError),
}

fn seal(
    app: &App,
    project: &lepton_types::Name,
    id: WorkloadId,
    stream: LogStream,
) -> Result<Option<FileEntry>, SealError> {
    let mut writer = None;
    let mut cursor = 0;
    loop {
        let chunk = match app.executor.read_log(id, stream, cursor, PIECE_BYTES) {
            Ok(chunk) => chunk,
            Err(ReadError::UnknownWorkload { .. } | ReadError::NotFound { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        cursor = chunk.next;
        if !chunk.bytes.is_empty() {
            if writer.is_none() {
                writer = Some(app.blobs.begin(project, u64::MAX)?);
            }
            if let Some(writer) = &mut writer {
                writer.write(&chunk.bytes)?;
            }
        }
        if chunk.end || chunk.bytes.is_empty() {
            break;
        }
    }
    let Some(writer) = writer else {
        return Ok(None);
    };
    let blob = writer.finish()?;
    let path = stream.as_str().to_owned();
    Ok(Some(FileEntry {
        path,
        digest: blob.digest,
        size_bytes: blob.size_bytes,
    }))
}

//! Sealing: what the workers of an attempt printed becomes objects when it is over.

use lepton_executors::{Executor, LogStream, ReadError, WorkloadId};
use lepton_objects::BlobError;
use lepton_types::Name;
use lepton_types::resources::{Attempt, AttemptStatus, FileEntry};

use super::PassError;
use crate::app::App;
use crate::blobs::Upload;
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
            match seal(app, &attempt.metadata.project, id, stream).await? {
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

/// The log as one object; none if nothing was printed.
async fn seal(
    app: &App,
    project: &Name,
    id: WorkloadId,
    stream: LogStream,
) -> Result<Result<Option<FileEntry>, SealError>, PassError> {
    let mut upload = None;
    let mut cursor = 0;
    loop {
        let read =
            move |executor: &dyn Executor| executor.read_log(id, stream, cursor, PIECE_BYTES);
        let chunk = match app.with_executor(read).await? {
            Ok(chunk) => chunk,
            Err(ReadError::UnknownWorkload { .. } | ReadError::NotFound { .. }) => break,
            Err(error) => return Ok(Err(error.into())),
        };
        cursor = chunk.next;
        if !chunk.bytes.is_empty()
            && let Err(error) = keep(app, project, &mut upload, &chunk.bytes).await
        {
            return Ok(Err(error.into()));
        }
        if chunk.end || chunk.bytes.is_empty() {
            break;
        }
    }
    let Some(upload) = upload else {
        return Ok(Ok(None));
    };
    let sealed = upload.finish().await.map(|blob| {
        Some(FileEntry {
            path: stream.as_str().to_owned(),
            digest: blob.digest,
            size_bytes: blob.size_bytes,
        })
    });
    Ok(sealed.map_err(SealError::from))
}

async fn keep(
    app: &App,
    project: &Name,
    upload: &mut Option<Upload>,
    bytes: &[u8],
) -> Result<(), BlobError> {
    let upload = match upload {
        Some(upload) => upload,
        None => upload.insert(app.blobs.begin(project, u64::MAX).await?),
    };
    upload.write(bytes).await
}

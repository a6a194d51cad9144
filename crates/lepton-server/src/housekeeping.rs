//! Housekeeping, hour by hour: the bin is emptied of what was deleted long ago, and bytes that no
//! record cites any more are swept.

use std::collections::{BTreeMap, BTreeSet};

use lepton_store::{BinQuery, CommitError, Query, StoreError, Transaction};
use lepton_types::resources::{
    AttemptSpec, BlobDigest, DatasetVersionSpec, FileEntry, JobSpec, ModelVersionSpec, Program,
    ProjectSpec,
};
use lepton_types::{DurationMs, Name};

use crate::app::App;
use crate::blobs::BlobError;
use crate::datasets;
use crate::error::Chain;

const SWEEP_EVERY: DurationMs = DurationMs::from_secs(3_600);

/// Uploads come before the record that cites them; nobody takes a day for that.
const ORPHAN_AGE: DurationMs = DurationMs::from_secs(86_400);

/// Sweeps until the server stops.
pub(crate) async fn run(app: App) {
    loop {
        let done = datasets::mount_all(&app).await;
        datasets::warn_if_failed(
            done,
            "the objects of datasets may not be what their manifests say",
        );
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY.to_std()) => {}
        }
        match empty_bins(&app).await {
            Ok(0) => {}
            Ok(gone) => tracing::info!(gone, "runs and models in the bin were deleted for good"),
            Err(error) => tracing::warn!(error = %Chain(&error), "the bin could not be emptied"),
        }
        match sweep(&app).await {
            Ok(0) => {}
            Ok(gone) => tracing::info!(gone, "objects that nothing cites were deleted"),
            Err(error) => tracing::warn!(error = %Chain(&error), "objects could not be swept"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Blob(#[from] crate::blobs::BlobError),
}

/// Deletes for good what has been in the bin for as long as is configured; returns how much that was.
async fn empty_bins(app: &App) -> Result<u64, CommitError> {
    let mut gone = 0;
    for project in app.store.list_all::<ProjectSpec>(Query::default()).await? {
        let Ok(project) = project.metadata.name.parse() else {
            continue;
        };
        let until = app.now().minus(app.config.runs.keep_deleted);
        let counts = app.store.purge(&BinQuery { project, until }).await?;
        gone += counts.runs + counts.experiments + counts.logged_models;
    }
    Ok(gone)
}

/// Deletes what is old and uncited; returns how many went.
pub(crate) async fn sweep(app: &App) -> Result<u64, SweepError> {
    drop_abandoned(app).await?;
    let cited = cited(app).await?;
    let mut gone = 0;
    // Of the objects and not of the store: what a deleted project left goes too.
    for name in app
        .objects
        .contents
        .projects()
        .await
        .map_err(BlobError::from)?
    {
        let keep = cited.get(&name).cloned().unwrap_or_default();
        gone += app.blobs.sweep(&name, keep, ORPHAN_AGE).await?;
    }
    Ok(gone)
}

/// Forgets the parts of uploads that nobody completed in time.
async fn drop_abandoned(app: &App) -> Result<(), SweepError> {
    let mut transaction = Transaction::new();
    for file in app.store.all_kept_files().await? {
        if crate::mlflow::is_abandoned(&file.path, app.now()) {
            transaction.drop_files(&file.project, &file.path);
        }
    }
    app.store.commit(transaction).await?;
    Ok(())
}

type Cited = BTreeMap<Name, BTreeSet<BlobDigest>>;

async fn cited(app: &App) -> Result<Cited, StoreError> {
    let mut cited = Cited::new();
    let mut cite = |project: &Name, files: &[FileEntry]| {
        let digests = files.iter().map(|file| file.digest);
        cited.entry(project.clone()).or_default().extend(digests);
    };
    for version in app
        .store
        .list_all::<DatasetVersionSpec>(Query::default())
        .await?
    {
        cite(&version.metadata.project, &version.spec.files);
        if let Some(lineage) = &version.spec.lineage {
            cite(
                &version.metadata.project,
                std::slice::from_ref(&lineage.fitted),
            );
        }
    }
    for version in app
        .store
        .list_all::<ModelVersionSpec>(Query::default())
        .await?
    {
        cite(&version.metadata.project, &version.spec.files);
    }
    for file in app.store.all_kept_files().await? {
        let entry = FileEntry {
            path: file.path,
            digest: file.digest,
            size_bytes: file.size_bytes,
        };
        cite(&file.project, &[entry]);
    }
    for attempt in app.store.list_all::<AttemptSpec>(Query::default()).await? {
        for worker in &attempt.status.workers {
            cite(&attempt.metadata.project, &worker.logs);
        }
    }
    for (project, digest) in app.store.all_run_digests().await? {
        cited.entry(project).or_default().insert(digest);
    }
    for job in app.store.list_all::<JobSpec>(Query::default()).await? {
        if let Program::Command(command) = &job.spec.program {
            cited
                .entry(job.metadata.project.clone())
                .or_default()
                .extend(command.code);
        }
    }
    Ok(cited)
}

//! What workers begin with: blobs laid out as plain files for the executor to take.
//!
//! Owns: a folder of files in clear, which only the server's user can read, and that none stays
//! longer than its worker needs to start. Must not know: what starts, or why.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lepton_executors::WorkloadId;
use lepton_objects::BlobError;
use lepton_types::Name;
use lepton_types::resources::BlobDigest;

use crate::blobs::Blobs;

/// The files of workers that have not started yet.
#[derive(Debug)]
pub(crate) struct Inputs {
    folder: PathBuf,
    held: Mutex<BTreeSet<WorkloadId>>,
}

impl Inputs {
    /// Finds what an earlier server laid out: its workers may be about to take it.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let mut held = BTreeSet::new();
        for entry in fs::read_dir(&folder)? {
            held.extend(entry?.file_name().to_string_lossy().parse::<WorkloadId>());
        }
        Ok(Self {
            folder,
            held: Mutex::new(held),
        })
    }

    /// Lays out a blob for a worker, its `number`th; gives the file.
    pub(crate) async fn lay_out(
        &self,
        blobs: &Blobs,
        project: &Name,
        digest: BlobDigest,
        (worker, number): (WorkloadId, usize),
    ) -> Result<PathBuf, BlobError> {
        let folder = self.folder.join(worker.to_string());
        self.held().insert(worker);
        fs::create_dir_all(&folder)?;
        let file = folder.join(number.to_string());
        if file.exists() {
            return Ok(file);
        }
        // Whole under its name, or not there: a start that was cut off is tried again.
        let aside = folder.join(format!("{number}.new"));
        remove_if_there(&aside)?;
        blobs.copy_to(project, digest, &aside).await?;
        fs::rename(&aside, &file)?;
        Ok(file)
    }

    /// Deletes the files of workers that `needed` says no longer need them.
    pub(crate) fn release(&self, needed: impl Fn(WorkloadId) -> bool) {
        let done: Vec<WorkloadId> = self
            .held()
            .iter()
            .copied()
            .filter(|worker| !needed(*worker))
            .collect();
        for worker in done {
            let folder = self.folder.join(worker.to_string());
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%worker, %error, "files of a worker that has started are still there");
                }
                Ok(()) | Err(_) => {
                    self.held().remove(&worker);
                }
            }
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeSet<WorkloadId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_types::{Id, Timestamp};

    fn worker(rank: u32) -> WorkloadId {
        WorkloadId {
            attempt: Id::from_parts(Timestamp::from_millis(7), [3; 10]),
            rank,
        }
    }

    #[tokio::test]
    async fn files_stay_until_their_worker_has_started_also_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&folder.path().join("objects")).unwrap();
        let home = Name::default_project();
        let mut upload = blobs.begin(&home, 100).await.unwrap();
        upload.write(b"code").await.unwrap();
        let digest = upload.finish().await.unwrap().digest;

        let place = folder.path().join("inputs");
        let inputs = Inputs::open(place.clone()).unwrap();
        let mut files = Vec::new();
        for rank in [0, 1] {
            let laid = inputs
                .lay_out(&blobs, &home, digest, (worker(rank), 0))
                .await;
            files.push(laid.unwrap());
        }
        let again = inputs.lay_out(&blobs, &home, digest, (worker(0), 0)).await;
        assert_eq!(again.unwrap(), files[0]);
        assert_eq!(fs::read(&files[1]).unwrap(), b"code");

        let restarted = Inputs::open(place).unwrap();
        restarted.release(|id| id == worker(0));
        assert!(files[0].exists() && !files[1].exists());
        restarted.release(|_| false);
        assert!(!files[0].exists());
    }
}

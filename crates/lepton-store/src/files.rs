//! Files: those of runs, and those that clients keep under paths of their own. What is recorded is a path
//! and which bytes are there; the bytes themselves are elsewhere.
//!
//! A path that is a file is no folder: a file below another file is refused, whichever came first.

use lepton_types::resources::{BlobDigest, FileEntry};
use lepton_types::tracking::KeptFile;
use lepton_types::{Id, Name, RunId};

use crate::tracking::TrackingWrite;
use crate::{Backend, Store, StoreError, Transaction};

/// A write of files, on its way to disk.
#[derive(Debug)]
pub(crate) enum FileWrite {
    Keep(KeptFile),
    RequireFree(KeptFile),
    Drop {
        project: String,
        path: String,
    },
    KeepOfRun {
        run: Id,
        file: FileEntry,
        files_max: usize,
    },
    DropOfRun {
        run: Id,
        path: String,
    },
}

impl Transaction {
    fn file(&mut self, write: FileWrite) -> &mut Self {
        self.track(TrackingWrite::File(write))
    }

    /// A conflict if another file than this is kept under its path.
    pub fn require_free(&mut self, file: KeptFile) -> &mut Self {
        self.file(FileWrite::RequireFree(file))
    }

    /// Keeps a file under its path, over one that was there.
    pub fn keep_file(&mut self, file: KeptFile) -> &mut Self {
        self.file(FileWrite::Keep(file))
    }

    /// Drops the file of this path, and all below it.
    pub fn drop_files(&mut self, project: &Name, path: &str) -> &mut Self {
        self.file(FileWrite::Drop {
            project: project.to_string(),
            path: path.to_owned(),
        })
    }

    /// Keeps a file of a run, over one that was there; a conflict if it were one more than `files_max`.
    pub fn keep_run_file(&mut self, run: RunId, file: FileEntry, files_max: usize) -> &mut Self {
        self.file(FileWrite::KeepOfRun {
            run: run.id(),
            file,
            files_max,
        })
    }

    /// Drops the file of a run of this path, and all below it; an empty path means all of the run's.
    pub fn drop_run_files(&mut self, run: RunId, path: &str) -> &mut Self {
        self.file(FileWrite::DropOfRun {
            run: run.id(),
            path: path.to_owned(),
        })
    }
}

impl Store {
    /// The kept file of exactly this path.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn kept_file(
        &self,
        project: &Name,
        path: &str,
    ) -> Result<Option<KeptFile>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let (project, path) = (project.clone(), path.to_owned());
        sqlite
            .read(move |reader| reader.kept_file(&project, &path))
            .await
    }

    /// What lies directly in a folder (in the root, where it is empty), sorted, at most `limit`: names with
    /// the lengths of files; folders have none.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn kept_children(
        &self,
        project: &Name,
        folder: &str,
        limit: usize,
    ) -> Result<Vec<(String, Option<u64>)>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let (project, folder) = (project.to_string(), folder.to_owned());
        sqlite
            .read(move |reader| reader.kept_children(&project, &folder, limit))
            .await
    }

    /// The kept file of this path, and the files below it, sorted by path.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn kept_files(
        &self,
        project: &Name,
        path: &str,
    ) -> Result<Vec<KeptFile>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let (project, path) = (project.clone(), path.to_owned());
        sqlite
            .read(move |reader| reader.kept_files(&project, &path))
            .await
    }

    /// Every kept file of every project, for those who look after the bytes.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn all_kept_files(&self) -> Result<Vec<KeptFile>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method itself is not general enough over lifetimes"
        )]
        sqlite.read(|reader| reader.all_kept_files()).await
    }

    /// The file of a run of exactly this path.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn run_file(&self, run: RunId, path: &str) -> Result<Option<FileEntry>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let path = path.to_owned();
        sqlite
            .read(move |reader| reader.run_file(run.id(), &path))
            .await
    }

    /// The file of a run of this path and those below it, sorted by path; an empty path means all.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn run_files(&self, run: RunId, path: &str) -> Result<Vec<FileEntry>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let path = path.to_owned();
        sqlite
            .read(move |reader| reader.run_files(run.id(), &path))
            .await
    }

    /// What lies directly in a folder of a run, as [`Store::kept_children`] says it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn run_children(
        &self,
        run: RunId,
        folder: &str,
        limit: usize,
    ) -> Result<Vec<(String, Option<u64>)>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let folder = folder.to_owned();
        sqlite
            .read(move |reader| reader.run_children(run.id(), &folder, limit))
            .await
    }

    /// Which bytes the files of runs are, of every project, for those who look after the bytes.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn all_run_digests(&self) -> Result<Vec<(Name, BlobDigest)>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method itself is not general enough over lifetimes"
        )]
        sqlite.read(|reader| reader.all_run_digests()).await
    }
}

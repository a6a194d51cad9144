//! Which files there are: of runs, and under paths that clients chose.
//!
//! | table | key | holds |
//! |---|---|---|
//! | `kept_files` | `project, path` | files that clients keep under paths of their own |
//! | `run_files` | `run, path` | the artifacts of runs |

use lepton_types::resources::{BlobDigest, FileEntry};
use lepton_types::tracking::KeptFile;
use lepton_types::{Id, Name};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::reader::Reader;
use super::requirements::require_project;
use crate::files::FileWrite;
use crate::{CommitError, Conflict, StoreError};

/// From schema 6 to schema 7: files of runs leave the run's own text, which every upload wrote anew.
pub(super) const SCHEMA: &str = r"
CREATE TABLE run_files (
    run BLOB NOT NULL, path TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (run, path)
) WITHOUT ROWID;
INSERT OR IGNORE INTO run_files
SELECT resources.id, file.value ->> '$.path', file.value ->> '$.digest', file.value ->> '$.size_bytes'
FROM resources, json_each(resources.body, '$.status.artifacts') file WHERE resources.kind = 8;
UPDATE resources SET body = json_remove(body, '$.status.artifacts')
WHERE kind = 8 AND body -> '$.status.artifacts' IS NOT NULL;
CREATE TRIGGER run_files_gone AFTER DELETE ON resources WHEN OLD.kind = 8 BEGIN
    DELETE FROM run_files WHERE run = OLD.id;
END;
";

/// Files with one owner: a table, and whose rows of it.
struct Shelf {
    table: &'static str,
    column: &'static str,
    owner: Value,
}

impl Shelf {
    fn of_project(project: &str) -> Self {
        Self {
            table: "kept_files",
            column: "project",
            owner: project.to_owned().into(),
        }
    }

    fn of_run(run: Id) -> Self {
        Self {
            table: "run_files",
            column: "run",
            owner: run.to_bytes().to_vec().into(),
        }
    }

    fn get(
        &self,
        connection: &Connection,
        path: &str,
    ) -> Result<Option<FileEntry>, rusqlite::Error> {
        let Self { table, column, .. } = self;
        let found = connection
            .prepare_cached(&format!(
                "SELECT path, digest, size FROM {table} WHERE {column} = ?1 AND path = ?2"
            ))?
            .query_row(params![self.owner, path], file_of)
            .optional()?;
        Ok(found.flatten())
    }

    /// The file of this path, and all below it.
    fn within(
        &self,
        connection: &Connection,
        path: &str,
    ) -> Result<Vec<FileEntry>, rusqlite::Error> {
        let Self { table, column, .. } = self;
        let mut files = Vec::new();
        if !path.is_empty() {
            files.extend(self.get(connection, path)?);
        }
        // What begins with `a/` lies between `a/` and `a0`, as `0` follows `/`; all lies from "" on.
        let (from, until) = match path {
            "" => (String::new(), None),
            path => (format!("{path}/"), Some(format!("{path}0"))),
        };
        let mut statement = connection.prepare_cached(&format!(
            "SELECT path, digest, size FROM {table} WHERE {column} = ?1 AND path >= ?2
             AND (?3 IS NULL OR path < ?3) ORDER BY path"
        ))?;
        for file in statement.query_map(params![self.owner, from, until], file_of)? {
            files.extend(file?);
        }
        Ok(files)
    }

    /// Goes from one child to the next, past all that is below it.
    fn children(
        &self,
        connection: &Connection,
        folder: &str,
        limit: usize,
    ) -> Result<Vec<(String, Option<u64>)>, rusqlite::Error> {
        let Self { table, column, .. } = self;
        let inside = match folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let mut next = connection.prepare_cached(&format!(
            "SELECT path, size FROM {table} WHERE {column} = ?1 AND path >= ?2
             ORDER BY path LIMIT 1"
        ))?;
        let (mut children, mut from) = (Vec::new(), inside.clone());
        while children.len() < limit {
            let found: Option<(String, u64)> = next
                .query_row(params![self.owner, from], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            let Some((path, size)) = found else {
                break;
            };
            let Some(below) = path.strip_prefix(&inside) else {
                break;
            };
            match below.split_once('/') {
                // `0` follows `/`.
                Some((name, _)) => {
                    from = format!("{inside}{name}0");
                    children.push((name.to_owned(), None));
                }
                // The shortest text that is greater.
                None => {
                    from = format!("{path}\0");
                    children.push((below.to_owned(), Some(size)));
                }
            }
        }
        // A folder `a` comes after a file `a-b`.
        children.sort();
        Ok(children)
    }

    /// Puts a file down, over one that was there. Refused where a file lies in its way.
    fn keep(&self, connection: &Connection, file: &FileEntry) -> Result<(), CommitError> {
        if self.get(connection, &file.path)?.is_none() {
            self.require_way(connection, &file.path)?;
        }
        let Self { table, column, .. } = self;
        connection
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO {table} ({column}, path, digest, size)
                 VALUES (?1, ?2, ?3, ?4)"
            ))?
            .execute(params![
                self.owner,
                file.path,
                file.digest.to_string(),
                file.size_bytes
            ])?;
        Ok(())
    }

    /// A conflict where a folder of `path` is a file, or `path` is a folder.
    fn require_way(&self, connection: &Connection, path: &str) -> Result<(), CommitError> {
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        for folder in folders {
            if self.get(connection, folder)?.is_some() {
                return Err(in_the_way(folder));
            }
        }
        let Self { table, column, .. } = self;
        let is_folder = connection
            .prepare_cached(&format!(
                "SELECT 1 FROM {table} WHERE {column} = ?1 AND path > ?2 AND path < ?3"
            ))?
            .exists(params![self.owner, format!("{path}/"), format!("{path}0")])?;
        match is_folder {
            true => Err(in_the_way(path)),
            false => Ok(()),
        }
    }

    /// Drops the file of this path, and all below it; an empty path means all.
    fn drop(&self, connection: &Connection, path: &str) -> Result<(), rusqlite::Error> {
        let Self { table, column, .. } = self;
        // `0` follows `/`: between them lies all that is below the folder.
        connection
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE {column} = ?1 AND (?2 = '' OR path = ?2
                 OR (path > ?2 || '/' AND path < ?2 || '0'))"
            ))?
            .execute(params![self.owner, path])?;
        Ok(())
    }

    fn require_room(&self, connection: &Connection, files_max: usize) -> Result<(), CommitError> {
        let Self { table, column, .. } = self;
        let is_full = connection
            .prepare_cached(&format!(
                "SELECT 1 FROM {table} WHERE {column} = ?1 LIMIT 1 OFFSET ?2"
            ))?
            .exists(params![self.owner, files_max.saturating_sub(1)])?;
        match is_full {
            true => Err(Conflict::TooManyFiles { most: files_max }.into()),
            false => Ok(()),
        }
    }
}

fn in_the_way(path: &str) -> CommitError {
    let path = path.chars().take(128).collect();
    Conflict::FileInTheWay { path }.into()
}

pub(super) fn apply(connection: &Connection, write: &FileWrite) -> Result<(), CommitError> {
    match write {
        FileWrite::RequireFree(file) => {
            let known = Shelf::of_project(file.project.as_str()).get(connection, &file.path)?;
            match known.is_some_and(|known| known.digest != file.digest) {
                true => Err(Conflict::FileTaken.into()),
                false => Ok(()),
            }
        }
        FileWrite::Keep(file) => {
            require_project(connection, file.project.as_str())?;
            let entry = FileEntry {
                path: file.path.clone(),
                digest: file.digest,
                size_bytes: file.size_bytes,
            };
            Shelf::of_project(file.project.as_str()).keep(connection, &entry)
        }
        FileWrite::Drop { project, path } => Ok(drop_kept(connection, project, path)?),
        FileWrite::KeepOfRun {
            run,
            file,
            files_max,
        } => {
            let shelf = Shelf::of_run(*run);
            if shelf.get(connection, &file.path)?.is_none() {
                shelf.require_room(connection, *files_max)?;
            }
            shelf.keep(connection, file)
        }
        FileWrite::DropOfRun { run, path } => Ok(Shelf::of_run(*run).drop(connection, path)?),
    }
}

/// Drops the kept file of this path, and all below it.
pub(super) fn drop_kept(
    connection: &Connection,
    project: &str,
    path: &str,
) -> Result<(), rusqlite::Error> {
    match path {
        "" => Ok(()),
        path => Shelf::of_project(project).drop(connection, path),
    }
}

impl Reader<'_> {
    pub(crate) fn kept_files(
        &self,
        project: &Name,
        path: &str,
    ) -> Result<Vec<KeptFile>, StoreError> {
        let files = Shelf::of_project(project.as_str()).within(self.connection(), path)?;
        let kept = |file| kept(project.clone(), file);
        Ok(files.into_iter().map(kept).collect())
    }

    pub(crate) fn kept_file(
        &self,
        project: &Name,
        path: &str,
    ) -> Result<Option<KeptFile>, StoreError> {
        let file = Shelf::of_project(project.as_str()).get(self.connection(), path)?;
        Ok(file.map(|file| kept(project.clone(), file)))
    }

    pub(crate) fn kept_children(
        &self,
        project: &str,
        folder: &str,
        limit: usize,
    ) -> Result<Vec<(String, Option<u64>)>, StoreError> {
        Ok(Shelf::of_project(project).children(self.connection(), folder, limit)?)
    }

    pub(crate) fn all_kept_files(&self) -> Result<Vec<KeptFile>, StoreError> {
        let mut statement = self
            .connection()
            .prepare_cached("SELECT path, digest, size, project FROM kept_files")?;
        let rows = statement.query_map([], |row| {
            let project: String = row.get(3)?;
            let (file, project) = (file_of(row)?, project.parse().ok());
            Ok(project.zip(file).map(|(project, file)| kept(project, file)))
        })?;
        Ok(rows
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?)
    }

    pub(crate) fn run_file(&self, run: Id, path: &str) -> Result<Option<FileEntry>, StoreError> {
        Ok(Shelf::of_run(run).get(self.connection(), path)?)
    }

    pub(crate) fn run_files(&self, run: Id, path: &str) -> Result<Vec<FileEntry>, StoreError> {
        Ok(Shelf::of_run(run).within(self.connection(), path)?)
    }

    pub(crate) fn run_children(
        &self,
        run: Id,
        folder: &str,
        limit: usize,
    ) -> Result<Vec<(String, Option<u64>)>, StoreError> {
        Ok(Shelf::of_run(run).children(self.connection(), folder, limit)?)
    }

    pub(crate) fn all_run_digests(&self) -> Result<Vec<(Name, BlobDigest)>, StoreError> {
        let mut statement = self.connection().prepare_cached(
            "SELECT DISTINCT project, digest FROM run_files JOIN run_index USING (run)",
        )?;
        let rows = statement.query_map([], |row| {
            let (project, digest): (String, String) = (row.get(0)?, row.get(1)?);
            Ok(Option::zip(project.parse().ok(), digest.parse().ok()))
        })?;
        Ok(rows
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?)
    }
}

fn kept(project: Name, file: FileEntry) -> KeptFile {
    KeptFile {
        project,
        path: file.path,
        digest: file.digest,
        size_bytes: file.size_bytes,
    }
}

/// None for a row that does not read back.
fn file_of(row: &Row<'_>) -> rusqlite::Result<Option<FileEntry>> {
    let digest: String = row.get(1)?;
    let Ok(digest) = digest.parse::<BlobDigest>() else {
        return Ok(None);
    };
    Ok(Some(FileEntry {
        path: row.get(0)?,
        digest,
        size_bytes: row.get(2)?,
    }))
}

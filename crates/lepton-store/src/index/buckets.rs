//! Buckets and what is configured of them.

use lepton_types::{Name, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::uploads::forget_upload;
use super::{IndexError, ObjectIndex, Refusal, UploadId, known};

/// A bucket's number; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(pub(super) i64);

/// Whether a bucket keeps what is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    // stored: never renumber
    /// It never did.
    Off = 0,
    /// It does.
    Enabled = 1,
    /// It did once.
    Suspended = 2,
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its number.
    pub id: BucketId,
    /// Its project.
    pub project: Name,
    /// Its name within the project.
    pub name: String,
    /// Who made it.
    pub owner: String,
    /// When.
    pub created_at: Timestamp,
    /// Whether it keeps what is replaced.
    pub versioning: Versioning,
    /// Whether its versions can be locked.
    pub object_lock: bool,
}

/// A bucket to be made.
#[derive(Debug, Clone)]
pub struct NewBucket {
    /// Its project.
    pub project: Name,
    /// Its name.
    pub name: String,
    /// Who makes it.
    pub owner: String,
    /// When.
    pub at: Timestamp,
    /// Whether its versions can be locked; it keeps versions then.
    pub object_lock: bool,
}

const COLUMNS: &str = "id, project, name, owner, created_at, versioning, object_lock";

impl Bucket {
    fn read(row: &Row<'_>) -> Result<Self, IndexError> {
        let project: String = row.get(1)?;
        Ok(Self {
            id: BucketId(row.get(0)?),
            project: project.parse().map_err(|_| IndexError::Corrupt {
                what: "a bucket's project",
            })?,
            name: row.get(2)?,
            owner: row.get(3)?,
            created_at: Timestamp::from_millis(row.get(4)?),
            versioning: match row.get::<_, u8>(5)? {
                0 => Versioning::Off,
                1 => Versioning::Enabled,
                _ => Versioning::Suspended,
            },
            object_lock: row.get(6)?,
        })
    }
}

/// The bucket of this number, as it is now.
pub(super) fn bucket(connection: &Connection, id: BucketId) -> Result<Bucket, IndexError> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM buckets WHERE id = ?1"))?
        .query_row([id.0], |row| Ok(Bucket::read(row)))
        .optional()?
        .ok_or(Refusal::NoSuchBucket)?
}

/// Whether it holds a version of anything.
fn is_full(connection: &Connection, id: BucketId) -> Result<bool, IndexError> {
    Ok(connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM versions WHERE bucket = ?1)")?
        .query_row([id.0], |row| row.get(0))?)
}

/// Removes an empty bucket, its settings and what was being uploaded to it.
fn remove(connection: &Connection, id: BucketId) -> Result<(), IndexError> {
    let uploads: Vec<(Vec<u8>, [u8; 16])> = connection
        .prepare_cached("SELECT key, id FROM uploads WHERE bucket = ?1")?
        .query_map([id.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (key, upload) in uploads {
        forget_upload(connection, id, &key, UploadId::from_bytes(upload))?;
    }
    connection.execute("DELETE FROM bucket_settings WHERE bucket = ?1", [id.0])?;
    connection.execute("DELETE FROM buckets WHERE id = ?1", [id.0])?;
    Ok(())
}

impl ObjectIndex {
    /// Changes a bucket or a setting, after which what was known of them is forgotten: in a task of
    /// its own, as whoever asked may leave between the two.
    async fn change_bucket<T, F>(&self, work: F) -> Result<T, IndexError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, IndexError> + Send + 'static,
    {
        let index = self.clone();
        let changed = tokio::spawn(async move {
            let done = index.write(work).await;
            index.known.forget();
            done
        });
        changed.await.map_err(|_| IndexError::Closed)?
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// If the project has one of that name.
    pub async fn create_bucket(&self, new: NewBucket) -> Result<Bucket, IndexError> {
        self.change_bucket(move |connection| {
            let versioning = match new.object_lock {
                true => Versioning::Enabled,
                false => Versioning::Off,
            };
            let made = connection
                .prepare_cached(
                    "INSERT INTO buckets (project, name, owner, created_at, versioning, object_lock)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                )?
                .execute(params![
                    new.project.as_str(),
                    new.name,
                    new.owner,
                    new.at.as_millis(),
                    versioning as u8,
                    new.object_lock,
                ])?;
            if made == 0 {
                return Err(Refusal::BucketExists.into());
            }
            bucket(connection, BucketId(connection.last_insert_rowid()))
        })
        .await
    }

    /// A bucket of a project.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn bucket(&self, project: &Name, name: &str) -> Result<Option<Bucket>, IndexError> {
        let key = (project.to_string(), name.to_owned());
        let changes = match self.known.find(|known| &mut known.buckets, &key) {
            Ok(found) => return Ok(found),
            Err(changes) => changes,
        };
        let asked = [key.0.clone(), key.1.clone()];
        let found = self
            .read(move |connection| {
                connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM buckets WHERE project = ?1 AND name = ?2"
                    ))?
                    .query_row(asked, |row| Ok(Bucket::read(row)))
                    .optional()?
                    .transpose()
            })
            .await?;
        let keep = found.clone();
        self.known
            .keep(changes, |known| &mut known.buckets, key, keep);
        Ok(found)
    }

    /// The buckets of this name in any project, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn buckets_named(&self, name: &str, limit: usize) -> Result<Vec<Bucket>, IndexError> {
        let name = name.to_owned();
        self.read(move |connection| {
            let mut found = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM buckets WHERE name = ?1 ORDER BY id LIMIT ?2"
            ))?;
            let rows = found.query_and_then(params![name, limit], Bucket::read)?;
            rows.collect()
        })
        .await
    }

    /// Buckets of a project in order of name, those that begin with `prefix` and come after
    /// `after`, at most `limit`.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn buckets(
        &self,
        project: &Name,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Bucket>, IndexError> {
        let (project, prefix, after) = (project.to_string(), prefix.to_owned(), after.to_owned());
        self.read(move |connection| {
            let mut found = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM buckets WHERE project = ?1 AND name > ?2 AND name >= ?3
                 AND substr(name, 1, length(?3)) = ?3 ORDER BY name LIMIT ?4"
            ))?;
            let rows =
                found.query_and_then(params![project, after, prefix, limit], Bucket::read)?;
            rows.collect()
        })
        .await
    }

    /// Buckets of all projects for which a setting of this kind is there, with its text.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn buckets_with(
        &self,
        kind: &'static str,
    ) -> Result<Vec<(Bucket, String)>, IndexError> {
        self.read(move |connection| {
            let mut found = connection.prepare_cached(&format!(
                "SELECT {COLUMNS}, body FROM bucket_settings JOIN buckets ON id = bucket
                 WHERE kind = ?1 ORDER BY id"
            ))?;
            let rows = found.query_and_then([kind], |row| {
                Ok::<_, IndexError>((Bucket::read(row)?, row.get(7)?))
            })?;
            rows.collect()
        })
        .await
    }

    /// Deletes an empty bucket. Uploads under way in it are given up.
    ///
    /// # Errors
    /// If it is not there, or holds a version of anything.
    pub async fn delete_bucket(&self, id: BucketId) -> Result<(), IndexError> {
        self.change_bucket(move |connection| {
            bucket(connection, id)?;
            match is_full(connection, id)? {
                true => Err(Refusal::BucketNotEmpty.into()),
                false => remove(connection, id),
            }
        })
        .await
    }

    /// Deletes all buckets of a project, if none holds a version of anything; ends its key pairs, too,
    /// and returns the ids of those. Otherwise returns a bucket that is not empty, and nothing changed.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn delete_project(
        &self,
        project: &Name,
        at: Timestamp,
    ) -> Result<Result<Vec<String>, String>, IndexError> {
        let project = project.to_string();
        self.change_bucket(move |connection| {
            let buckets: Vec<(i64, String)> = connection
                .prepare_cached("SELECT id, name FROM buckets WHERE project = ?1 ORDER BY name")?
                .query_map([&project], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            for (id, name) in &buckets {
                if is_full(connection, BucketId(*id))? {
                    return Ok(Err(name.clone()));
                }
            }
            for (id, _) in buckets {
                remove(connection, BucketId(id))?;
            }
            let ended = connection
                .prepare_cached(
                    "UPDATE access_keys SET revoked_at = COALESCE(revoked_at, ?1)
                     WHERE project = ?2 RETURNING id",
                )?
                .query_map(params![at.as_millis(), project], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(Ok(ended))
        })
        .await
    }

    /// Sets whether a bucket keeps versions.
    ///
    /// # Errors
    /// If it is not there, or its object lock needs versions.
    pub async fn set_versioning(
        &self,
        id: BucketId,
        versioning: Versioning,
    ) -> Result<(), IndexError> {
        self.change_bucket(move |connection| {
            if bucket(connection, id)?.object_lock && versioning != Versioning::Enabled {
                return Err(Refusal::BucketHasLock.into());
            }
            connection.execute(
                "UPDATE buckets SET versioning = ?1 WHERE id = ?2",
                params![versioning as u8, id.0],
            )?;
            Ok(())
        })
        .await
    }

    /// Lets versions of a bucket be locked from now on, for good.
    ///
    /// # Errors
    /// If it is not there, or keeps no versions.
    pub async fn enable_object_lock(&self, id: BucketId) -> Result<(), IndexError> {
        self.change_bucket(move |connection| {
            if bucket(connection, id)?.versioning != Versioning::Enabled {
                return Err(Refusal::BucketKeepsNoVersions.into());
            }
            connection.execute("UPDATE buckets SET object_lock = 1 WHERE id = ?1", [id.0])?;
            Ok(())
        })
        .await
    }

    /// A setting of a bucket, as text.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn setting(
        &self,
        id: BucketId,
        kind: &'static str,
    ) -> Result<Option<String>, IndexError> {
        let key = (id, kind);
        let changes = match self.known.find(|known| &mut known.settings, &key) {
            Ok(found) => return Ok(found),
            Err(changes) => changes,
        };
        let found: Option<String> = self
            .read(move |connection| {
                Ok(connection
                    .prepare_cached(
                        "SELECT body FROM bucket_settings WHERE bucket = ?1 AND kind = ?2",
                    )?
                    .query_row(params![id.0, kind], |row| row.get(0))
                    .optional()?)
            })
            .await?;
        if found.as_ref().map_or(0, String::len) <= known::SETTING_BYTES_MAX {
            let keep = found.clone();
            self.known
                .keep(changes, |known| &mut known.settings, key, keep);
        }
        Ok(found)
    }

    /// Sets or, with none, removes a setting of a bucket.
    ///
    /// # Errors
    /// If the bucket is not there.
    pub async fn set(
        &self,
        id: BucketId,
        kind: &'static str,
        body: Option<String>,
    ) -> Result<(), IndexError> {
        self.change_bucket(move |connection| {
            bucket(connection, id)?;
            match body {
                Some(body) => connection.execute(
                    "INSERT INTO bucket_settings (bucket, kind, body) VALUES (?1, ?2, ?3)
                     ON CONFLICT (bucket, kind) DO UPDATE SET body = excluded.body",
                    params![id.0, kind, body],
                )?,
                None => connection.execute(
                    "DELETE FROM bucket_settings WHERE bucket = ?1 AND kind = ?2",
                    params![id.0, kind],
                )?,
            };
            Ok(())
        })
        .await
    }
}

//! Versions of objects: written, found, changed and deleted.

use lepton_types::Timestamp;
use lepton_types::resources::BlobDigest;
use rusqlite::{Connection, OptionalExtension as _, Params, params};

use super::buckets::bucket;
use super::records::VERSION_COLUMNS;
use super::usage::{charge, reclass, signed};
use super::{
    BodyId, Bucket, BucketId, Condition, IndexError, ObjectIndex, ObjectVersion, Piece, Refusal,
    Retention, VersionId, Versioning, bodies,
};

/// Which version is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest, be it a delete marker.
    Newest,
    /// The one of this id.
    Version(VersionId),
}

/// What bytes a new version has.
#[derive(Debug, Clone)]
pub enum NewBody {
    /// These, just written.
    Pieces(Vec<Piece>),
    /// Those that another version of the project has, too.
    Shared(BodyId),
    /// Those of a blob of the project, which stays as long as the version does.
    Blob(BlobDigest),
}

/// A version to be written.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Where.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// The length of its bytes.
    pub size_bytes: u64,
    /// Its digest as S3 tells it, without quotes.
    pub etag: String,
    /// Now.
    pub modified: Timestamp,
    /// Random.
    pub salt: u64,
    /// Its storage class.
    pub class: String,
    /// Whether a legal hold keeps it.
    pub hold: bool,
    /// What keeps it until when.
    pub retention: Option<Retention>,
    /// Its tags, as text that only the face reads.
    pub tags: String,
    /// All else that is known of it, as text that only the face reads.
    pub attributes: String,
    /// What is known of the parts that it came in, as such text; empty if it came as a whole.
    pub parts: String,
    /// What must hold of what is there.
    pub condition: Condition,
}

/// What a deletion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// Whether a delete marker was made or deleted.
    pub marker: bool,
    /// The version that was made or deleted; none where no version has an id.
    pub version: Option<VersionId>,
}

/// A change of what is kept about a version.
#[derive(Debug, Clone)]
pub enum VersionChange {
    /// Its tags.
    Tags(String),
    /// Its legal hold.
    Hold(bool),
    /// What keeps it until when.
    Retention {
        /// The new one.
        wanted: Option<Retention>,
        /// Whether the caller may weaken governance.
        bypass: bool,
    },
    /// Its storage class.
    Class(String),
}

fn one(
    connection: &Connection,
    filter: &str,
    values: impl Params,
) -> Result<Option<ObjectVersion>, IndexError> {
    connection
        .prepare_cached(&format!(
            "SELECT {VERSION_COLUMNS} FROM versions WHERE bucket = ?1 AND key = ?2 AND {filter} LIMIT 1"
        ))?
        .query_row(values, |row| Ok(ObjectVersion::read(row)))
        .optional()?
        .transpose()
}

pub(super) fn find(
    connection: &Connection,
    bucket: BucketId,
    key: &str,
    which: Which,
) -> Result<Option<ObjectVersion>, IndexError> {
    let key = key.as_bytes();
    match which {
        Which::Newest => one(
            connection,
            "true ORDER BY sequence DESC",
            params![bucket.0, key],
        ),
        Which::Version(VersionId::Id { sequence, salt }) => one(
            connection,
            "sequence = ?3 AND salt = ?4 AND is_null = 0",
            params![bucket.0, key, sequence, salt],
        ),
        Which::Version(VersionId::Null) => {
            let current = one(
                connection,
                "visible = 1 AND is_null = 1",
                params![bucket.0, key],
            )?;
            match current {
                Some(current) => Ok(Some(current)),
                None => one(
                    connection,
                    "is_null = 1 AND visible = 0",
                    params![bucket.0, key],
                ),
            }
        }
    }
}

/// Removes a version's row, and lets go of its body.
fn remove(
    connection: &Connection,
    bucket: &Bucket,
    version: &ObjectVersion,
) -> Result<(), IndexError> {
    connection
        .prepare_cached("DELETE FROM versions WHERE bucket = ?1 AND key = ?2 AND sequence = ?3")?
        .execute(params![
            bucket.id.0,
            version.key.as_bytes(),
            version.sequence
        ])?;
    if let Some(body) = version.body {
        let counted = bodies::counted_bytes(connection, body, version.size_bytes)?;
        bodies::release(connection, body)?;
        let project = bucket.project.as_str();
        charge(connection, project, &version.class, -signed(counted), -1)?;
    }
    Ok(())
}

/// Makes room for a new newest version: it hides the visible one, and takes the null version's
/// place where the bucket keeps no versions.
fn make_way(
    connection: &Connection,
    bucket: &Bucket,
    key: &str,
    newest: Option<&ObjectVersion>,
) -> Result<(), IndexError> {
    if bucket.versioning != Versioning::Enabled {
        let null = match newest {
            Some(newest) if newest.version == VersionId::Null => Some(newest.clone()),
            // Only a bucket that once kept versions has a null one beneath others.
            Some(_) => find(connection, bucket.id, key, Which::Version(VersionId::Null))?,
            None => None,
        };
        if let Some(null) = null {
            remove(connection, bucket, &null)?;
        }
    }
    if bucket.versioning != Versioning::Off {
        connection
            .prepare_cached(
                "UPDATE versions SET visible = 0 WHERE bucket = ?1 AND key = ?2 AND visible = 1",
            )?
            .execute(params![bucket.id.0, key.as_bytes()])?;
    }
    Ok(())
}

/// Writes a version with this body as the newest of its key.
pub(super) fn insert(
    connection: &Connection,
    bucket: &Bucket,
    new: &NewVersion,
    body: Option<BodyId>,
) -> Result<ObjectVersion, IndexError> {
    let newest = find(connection, bucket.id, &new.key, Which::Newest)?;
    new.condition.check(newest.as_ref())?;
    make_way(connection, bucket, &new.key, newest.as_ref())?;
    let clock = new.modified.as_millis().saturating_mul(1_000);
    // Whatever the clock does, a later write is the newer version.
    let sequence = newest.map_or(clock, |newest| clock.max(newest.sequence + 1));
    let is_null = bucket.versioning != Versioning::Enabled;
    let salt = new.salt.cast_signed();
    connection
        .prepare_cached(
            "INSERT INTO versions (bucket, key, sequence, salt, is_null, marker, visible, size, etag,
             modified, class, hold, retention, retain_until, body, tags, attributes, parts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )?
        .execute(params![
            bucket.id.0,
            new.key.as_bytes(),
            sequence,
            salt,
            is_null,
            body.is_none(),
            body.is_some(),
            new.size_bytes,
            new.etag,
            new.modified.as_millis(),
            new.class,
            new.hold,
            new.retention.map_or(0, |retention| retention.mode as u8),
            new.retention
                .map_or(0, |retention| retention.until.as_millis()),
            body.map(|body| body.0),
            new.tags,
            new.attributes,
            new.parts,
        ])?;
    if let Some(body) = body {
        let project = bucket.project.as_str();
        let counted = bodies::counted_bytes(connection, body, new.size_bytes)?;
        charge(connection, project, &new.class, signed(counted), 1)?;
    }
    Ok(ObjectVersion {
        key: new.key.clone(),
        sequence,
        version: match is_null {
            true => VersionId::Null,
            false => VersionId::Id { sequence, salt },
        },
        marker: body.is_none(),
        size_bytes: new.size_bytes,
        etag: new.etag.clone(),
        modified: new.modified,
        class: new.class.clone(),
        hold: new.hold,
        retention: new.retention,
        body,
        tags: new.tags.clone(),
        attributes: new.attributes.clone(),
    })
}

/// Makes the newest version that is left visible, if it is no marker.
fn uncover(connection: &Connection, bucket: BucketId, key: &str) -> Result<(), IndexError> {
    connection
        .prepare_cached(
            "UPDATE versions SET visible = 1 - marker WHERE bucket = ?1 AND key = ?2 AND sequence =
             (SELECT sequence FROM versions WHERE bucket = ?1 AND key = ?2
              ORDER BY sequence DESC LIMIT 1)",
        )?
        .execute(params![bucket.0, key.as_bytes()])?;
    Ok(())
}

/// An object to be deleted.
#[derive(Debug, Clone)]
pub struct ToDelete {
    /// Where.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// One version for good; or, with none, as the bucket's versioning has it.
    pub version: Option<VersionId>,
    /// Now.
    pub at: Timestamp,
    /// Random, for a marker.
    pub salt: u64,
    /// Whether the caller may bypass governance.
    pub bypass: bool,
    /// What must hold of what is there.
    pub condition: Condition,
}

fn delete(connection: &Connection, order: &ToDelete) -> Result<Deletion, IndexError> {
    let bucket = bucket(connection, order.bucket)?;
    if let Some(version) = order.version {
        return delete_version(connection, &bucket, order, version);
    }
    let newest = find(connection, bucket.id, &order.key, Which::Newest)?;
    order.condition.check_deletion(newest.as_ref())?;
    if newest.is_none() && order.condition != Condition::default() {
        return Ok(Deletion {
            marker: false,
            version: None,
        });
    }
    if bucket.versioning == Versioning::Off {
        if let Some(found) = newest {
            remove(connection, &bucket, &found)?;
        }
        return Ok(Deletion {
            marker: false,
            version: None,
        });
    }
    let marker = NewVersion {
        bucket: bucket.id,
        key: order.key.clone(),
        size_bytes: 0,
        etag: String::new(),
        modified: order.at,
        salt: order.salt,
        class: String::new(),
        hold: false,
        retention: None,
        tags: String::new(),
        attributes: String::new(),
        parts: String::new(),
        condition: Condition::default(),
    };
    let made = insert(connection, &bucket, &marker, None)?;
    Ok(Deletion {
        marker: true,
        version: Some(made.version),
    })
}

fn delete_version(
    connection: &Connection,
    bucket: &Bucket,
    order: &ToDelete,
    version: VersionId,
) -> Result<Deletion, IndexError> {
    let found = find(connection, bucket.id, &order.key, Which::Version(version))?;
    order.condition.check_deletion(found.as_ref())?;
    let Some(found) = found else {
        // Deleting what is gone is no error.
        return Ok(Deletion {
            marker: false,
            version: Some(version),
        });
    };
    found.deletable(order.at, order.bypass)?;
    remove(connection, bucket, &found)?;
    uncover(connection, bucket.id, &order.key)?;
    Ok(Deletion {
        marker: found.marker,
        version: Some(version),
    })
}

fn change(
    connection: &Connection,
    found: &ObjectVersion,
    bucket: BucketId,
    change: VersionChange,
    now: Timestamp,
) -> Result<(), IndexError> {
    let place = (bucket.0, found.key.as_bytes(), found.sequence);
    let update = |column: &str, value: &dyn rusqlite::ToSql| {
        connection
            .prepare_cached(&format!(
                "UPDATE versions SET {column} = ?1 WHERE bucket = ?2 AND key = ?3 AND sequence = ?4"
            ))?
            .execute(params![value, place.0, place.1, place.2])
    };
    match change {
        VersionChange::Tags(tags) => update("tags", &tags)?,
        VersionChange::Hold(hold) => update("hold", &hold)?,
        VersionChange::Class(class) => {
            if let Some(body) = found.body {
                let project = self::bucket(connection, bucket)?.project;
                let counted = bodies::counted_bytes(connection, body, found.size_bytes)?;
                let classes = (found.class.as_str(), class.as_str());
                reclass(connection, project.as_str(), classes, signed(counted))?;
            }
            update("class", &class)?
        }
        VersionChange::Retention { wanted, bypass } => {
            found.may_retain(wanted, now, bypass)?;
            update("retention", &wanted.map_or(0, |wanted| wanted.mode as u8))?;
            let until = wanted.map_or(0, |wanted| wanted.until.as_millis());
            update("retain_until", &until)?
        }
    };
    Ok(())
}

impl ObjectIndex {
    /// Writes a version: from now on it is the one that is visible.
    ///
    /// # Errors
    /// If the bucket is gone, the condition does not hold, or the quota does not allow it.
    pub async fn put(&self, new: NewVersion, body: NewBody) -> Result<ObjectVersion, IndexError> {
        self.write(move |connection| {
            let bucket = bucket(connection, new.bucket)?;
            let body = match &body {
                NewBody::Pieces(pieces) => {
                    bodies::record(connection, bucket.project.as_str(), pieces)?
                }
                NewBody::Shared(body) => {
                    bodies::share(connection, *body)?;
                    *body
                }
                NewBody::Blob(digest) => {
                    bodies::of_blob(connection, bucket.project.as_str(), *digest)?
                }
            };
            insert(connection, &bucket, &new, Some(body))
        })
        .await
    }

    /// A version of an object.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn find(
        &self,
        bucket: BucketId,
        key: &str,
        which: Which,
    ) -> Result<Option<ObjectVersion>, IndexError> {
        let key = key.to_owned();
        self.read(move |connection| find(connection, bucket, &key, which))
            .await
    }

    /// Deletes an object or one version of it.
    ///
    /// # Errors
    /// If the bucket is gone, the condition does not hold, or something keeps the version.
    pub async fn delete(&self, order: ToDelete) -> Result<Deletion, IndexError> {
        self.write(move |connection| delete(connection, &order))
            .await
    }

    /// Changes what is kept about a version; returns it as it was.
    ///
    /// # Errors
    /// If it is not there or a delete marker, or what keeps it would be weakened.
    pub async fn change_version(
        &self,
        bucket: BucketId,
        key: &str,
        which: Which,
        wanted: VersionChange,
        now: Timestamp,
    ) -> Result<ObjectVersion, IndexError> {
        let key = key.to_owned();
        self.write(move |connection| {
            let found = find(connection, bucket, &key, which)?;
            let missing = match which {
                Which::Newest => Refusal::NoSuchObject,
                Which::Version(_) => Refusal::NoSuchVersion,
            };
            let found = found.filter(|found| !found.marker).ok_or(missing)?;
            change(connection, &found, bucket, wanted, now)?;
            Ok(found)
        })
        .await
    }
}

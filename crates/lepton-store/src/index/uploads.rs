//! Uploads in parts: begun, filled, completed or given up.

use std::fmt;
use std::str::FromStr;

use lepton_types::{Id, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::buckets::bucket;
use super::objects::insert;
use super::records::key_of;
use super::usage::{charge, signed};
use super::{
    BodyId, BucketId, IndexError, NewVersion, ObjectIndex, ObjectVersion, Piece, Refusal, bodies,
};

/// An upload's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UploadId(Id);

impl UploadId {
    /// From a fresh id.
    #[must_use]
    pub const fn new(id: Id) -> Self {
        Self(id)
    }

    pub(super) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Id::from_bytes(bytes))
    }

    pub(super) const fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UploadId {
    type Err = lepton_types::ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// An upload to be begun.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// Where.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// Its id.
    pub id: UploadId,
    /// Now.
    pub at: Timestamp,
    /// Who begins it.
    pub owner: String,
    /// The storage class of the object to be.
    pub class: String,
    /// All else of the object to be, as text that only the face reads.
    pub attributes: String,
}

/// An upload under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its key.
    pub key: String,
    /// Its id.
    pub id: UploadId,
    /// When it was begun.
    pub initiated: Timestamp,
    /// Who began it.
    pub owner: String,
    /// The storage class of the object to be.
    pub class: String,
    /// All else of the object to be.
    pub attributes: String,
}

/// A part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1.
    pub number: u16,
    /// Its length.
    pub size_bytes: u64,
    /// The hexadecimal MD5 of its bytes.
    pub etag: String,
    /// When it was written.
    pub modified: Timestamp,
    /// All else that is known of it, as text that only the face reads.
    pub attributes: String,
}

pub(super) const UPLOAD_COLUMNS: &str = "key, id, initiated, owner, class, attributes";

pub(super) fn upload_of(row: &Row<'_>) -> Result<Upload, IndexError> {
    Ok(Upload {
        key: key_of(row, 0)?,
        id: UploadId::from_bytes(row.get(1)?),
        initiated: Timestamp::from_millis(row.get(2)?),
        owner: row.get(3)?,
        class: row.get(4)?,
        attributes: row.get(5)?,
    })
}

fn find(
    connection: &Connection,
    bucket: BucketId,
    key: &str,
    id: UploadId,
) -> Result<Option<Upload>, IndexError> {
    connection
        .prepare_cached(&format!(
            "SELECT {UPLOAD_COLUMNS} FROM uploads WHERE bucket = ?1 AND key = ?2 AND id = ?3"
        ))?
        .query_row(params![bucket.0, key.as_bytes(), id.to_bytes()], |row| {
            Ok(upload_of(row))
        })
        .optional()?
        .transpose()
}

/// Lets go of a part's bytes, and of what they count.
fn release_part(
    connection: &Connection,
    (project, class): (&str, &str),
    size: u64,
    body: BodyId,
) -> Result<(), IndexError> {
    bodies::release(connection, body)?;
    charge(connection, project, class, -signed(size), 0)
}

/// Removes an upload and all its parts.
pub(super) fn forget_upload(
    connection: &Connection,
    bucket_id: BucketId,
    key: &[u8],
    id: UploadId,
) -> Result<(), IndexError> {
    let project = bucket(connection, bucket_id)?.project;
    let class: Option<String> = connection
        .prepare_cached(
            "DELETE FROM uploads WHERE bucket = ?1 AND key = ?2 AND id = ?3 RETURNING class",
        )?
        .query_row(params![bucket_id.0, key, id.to_bytes()], |row| row.get(0))
        .optional()?;
    let class = class.unwrap_or_default();
    let parts: Vec<(u64, i64)> = connection
        .prepare_cached("DELETE FROM parts WHERE upload = ?1 RETURNING size, body")?
        .query_map([id.to_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (size, body) in parts {
        release_part(connection, (project.as_str(), &class), size, BodyId(body))?;
    }
    Ok(())
}

fn put_part(
    connection: &Connection,
    place: &(BucketId, String, UploadId),
    part: &Part,
    pieces: &[Piece],
) -> Result<(), IndexError> {
    let (bucket_id, key, upload) = place;
    let bucket = bucket(connection, *bucket_id)?;
    let project = bucket.project.as_str();
    let class = find(connection, *bucket_id, key, *upload)?
        .ok_or(Refusal::NoSuchUpload)?
        .class;
    let replaced: Option<(u64, i64)> = connection
        .prepare_cached("DELETE FROM parts WHERE upload = ?1 AND number = ?2 RETURNING size, body")?
        .query_row(params![upload.to_bytes(), part.number], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    if let Some((size, body)) = replaced {
        release_part(connection, (project, &class), size, BodyId(body))?;
    }
    let body = bodies::record(connection, project, pieces)?;
    connection
        .prepare_cached(
            "INSERT INTO parts (upload, number, size, etag, modified, body, attributes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            upload.to_bytes(),
            part.number,
            part.size_bytes,
            part.etag,
            part.modified.as_millis(),
            body.0,
            part.attributes,
        ])?;
    charge(connection, project, &class, signed(part.size_bytes), 0)
}

/// Makes the chosen parts one version, and lets go of the others.
fn complete(
    connection: &Connection,
    upload: UploadId,
    chosen: &[(u16, String)],
    new: &NewVersion,
) -> Result<ObjectVersion, IndexError> {
    let bucket = bucket(connection, new.bucket)?;
    let project = bucket.project.as_str();
    let class = find(connection, new.bucket, &new.key, upload)?
        .ok_or(Refusal::NoSuchUpload)?
        .class;
    let mut take = connection.prepare_cached(
        "DELETE FROM parts WHERE upload = ?1 AND number = ?2 AND etag = ?3 RETURNING size, body",
    )?;
    let mut taken = Vec::with_capacity(chosen.len());
    for (number, etag) in chosen {
        let part: Option<(u64, i64)> = take
            .query_row(params![upload.to_bytes(), number, etag], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let (size, body) = part.ok_or(Refusal::InvalidPart { number: *number })?;
        // They count as the version's from here on.
        charge(connection, project, &class, -signed(size), 0)?;
        taken.push(BodyId(body));
    }
    let body = bodies::join(connection, project, &taken)?;
    forget_upload(connection, new.bucket, new.key.as_bytes(), upload)?;
    insert(connection, &bucket, new, Some(body))
}

impl ObjectIndex {
    /// Begins an upload.
    ///
    /// # Errors
    /// If the bucket is gone.
    pub async fn begin_upload(&self, new: NewUpload) -> Result<(), IndexError> {
        self.write(move |connection| {
            bucket(connection, new.bucket)?;
            connection
                .prepare_cached(
                    "INSERT INTO uploads (bucket, key, id, initiated, owner, class, attributes)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    new.bucket.0,
                    new.key.as_bytes(),
                    new.id.to_bytes(),
                    new.at.as_millis(),
                    new.owner,
                    new.class,
                    new.attributes,
                ])?;
            Ok(())
        })
        .await
    }

    /// An upload under way.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn upload(
        &self,
        bucket: BucketId,
        key: &str,
        id: UploadId,
    ) -> Result<Option<Upload>, IndexError> {
        let key = key.to_owned();
        self.read(move |connection| find(connection, bucket, &key, id))
            .await
    }

    /// Records a part, in place of one of the same number.
    ///
    /// # Errors
    /// If the upload is not under way, or the quota does not allow it.
    pub async fn put_part(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        part: Part,
        pieces: Vec<Piece>,
    ) -> Result<(), IndexError> {
        let place = (bucket, key.to_owned(), upload);
        self.write(move |connection| put_part(connection, &place, &part, &pieces))
            .await
    }

    /// Parts of an upload with numbers above `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn parts(
        &self,
        upload: UploadId,
        after: u16,
        limit: usize,
    ) -> Result<Vec<Part>, IndexError> {
        self.read(move |connection| {
            let found = connection
                .prepare_cached(
                    "SELECT number, size, etag, modified, attributes FROM parts
                     WHERE upload = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
                )?
                .query_map(params![upload.to_bytes(), after, limit], |row| {
                    Ok(Part {
                        number: row.get(0)?,
                        size_bytes: row.get(1)?,
                        etag: row.get(2)?,
                        modified: Timestamp::from_millis(row.get(3)?),
                        attributes: row.get(4)?,
                    })
                })?
                .collect::<Result<_, _>>()?;
            Ok(found)
        })
        .await
    }

    /// Makes the chosen parts, by number and digest in order, one version. No bytes are copied.
    ///
    /// # Errors
    /// If the upload is not under way, a part is not there, the condition of `new` does not hold, or the quota
    /// does not allow it.
    pub async fn complete_upload(
        &self,
        upload: UploadId,
        chosen: Vec<(u16, String)>,
        new: NewVersion,
    ) -> Result<ObjectVersion, IndexError> {
        self.write(move |connection| complete(connection, upload, &chosen, &new))
            .await
    }

    /// Gives an upload up; its bytes become garbage.
    ///
    /// # Errors
    /// If it is not under way.
    pub async fn abort_upload(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
    ) -> Result<(), IndexError> {
        let key = key.to_owned();
        self.write(move |connection| {
            find(connection, bucket, &key, upload)?.ok_or(Refusal::NoSuchUpload)?;
            forget_upload(connection, bucket, key.as_bytes(), upload)
        })
        .await
    }
}

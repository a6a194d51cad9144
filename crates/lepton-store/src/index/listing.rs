//! Listings, a page at a time, in the order of the bytes of keys.
//!
//! What lies under a common prefix is never read: the next key is sought past it. So a page costs
//! what it shows, whatever the bucket holds.

use std::collections::VecDeque;

use rusqlite::{Connection, params};

use super::records::VERSION_COLUMNS;
use super::uploads::{UPLOAD_COLUMNS, upload_of};
use super::{BucketId, IndexError, ObjectIndex, ObjectVersion, Upload, UploadId};

/// Rows that are fetched at once between two seeks, at most: a listing without a delimiter takes them in one go, one
/// that meets a prefix leaves the rest.
const FETCH_MAX: usize = 256;

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// After this key. One that ends a common prefix skips all of it.
    After(String),
}

/// What is to be listed of the visible objects of a bucket.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// The bucket.
    pub bucket: BucketId,
    /// What keys begin with.
    pub prefix: String,
    /// What ends a common prefix; keys are not grouped where empty.
    pub delimiter: String,
    /// Where to go on.
    pub start: Option<Start>,
    /// The most entries.
    pub limit: usize,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// What is on it.
    pub entries: Vec<T>,
    /// Common prefixes, in order.
    pub prefixes: Vec<String>,
    /// Whether there is more.
    pub truncated: bool,
    /// The last key or prefix on it; empty if there is none.
    pub last: String,
}

/// What is to be listed of all versions in a bucket.
#[derive(Debug, Clone)]
pub struct VersionsQuery {
    /// The bucket.
    pub bucket: BucketId,
    /// What keys begin with.
    pub prefix: String,
    /// What ends a common prefix; keys are not grouped where empty.
    pub delimiter: String,
    /// Where to go on.
    pub start: Option<VersionsStart>,
    /// The most entries.
    pub limit: usize,
}

/// Where a listing of versions goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionsStart {
    /// After this key, or within it.
    pub key: String,
    /// After the version of this sequence of the key; after all of them where none.
    pub sequence: Option<i64>,
}

/// A version on a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVersion {
    /// The version.
    pub version: ObjectVersion,
    /// Whether it is the newest of its key.
    pub latest: bool,
}

/// What is to be listed of the uploads under way in a bucket.
#[derive(Debug, Clone)]
pub struct UploadsQuery {
    /// The bucket.
    pub bucket: BucketId,
    /// What keys begin with.
    pub prefix: String,
    /// What ends a common prefix; keys are not grouped where empty.
    pub delimiter: String,
    /// Where to go on.
    pub start: Option<UploadsStart>,
    /// The most entries.
    pub limit: usize,
}

/// Where a listing of uploads goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadsStart {
    /// After this key, or within it.
    pub key: String,
    /// After this upload of the key; after all of them where none.
    pub upload: Option<UploadId>,
}

/// An upload on a page.
pub type ListedUpload = Upload;

/// The first text after all those that begin with `prefix`; none if there is no such text.
fn past(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut past = prefix.to_vec();
    while let Some(last) = past.pop() {
        if last < u8::MAX {
            past.push(last + 1);
            return Some(past);
        }
    }
    None
}

/// The common prefix of a key, if the delimiter is in what follows the prefix.
fn common_prefix<'a>(key: &'a str, prefix: &str, delimiter: &str) -> Option<&'a str> {
    if delimiter.is_empty() {
        return None;
    }
    let at = key.get(prefix.len()..)?.find(delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// What is common to the three listings: which keys, and how they are grouped.
struct Frame {
    prefix: String,
    delimiter: String,
    limit: usize,
}

/// Where the next rows are sought: at this key or after, and within it after this rank.
#[derive(Clone)]
struct Cursor {
    key: Vec<u8>,
    /// Encoded rank of the row of `key` after which to go on; all of its rows are wanted where none.
    after: Option<Rank>,
}

#[derive(Clone)]
enum Rank {
    Sequence(i64),
    Upload([u8; 16]),
}

impl Frame {
    /// Where a listing begins.
    fn first(&self, start: Option<(&str, Option<Rank>)>) -> Option<Cursor> {
        let from_prefix = Cursor {
            key: self.prefix.as_bytes().to_vec(),
            after: None,
        };
        let Some((key, rank)) = start else {
            return Some(from_prefix);
        };
        let cursor = match rank {
            Some(rank) => Cursor {
                key: key.as_bytes().to_vec(),
                after: Some(rank),
            },
            None => self.skip(key)?,
        };
        match cursor.key < from_prefix.key {
            true => Some(from_prefix),
            false => Some(cursor),
        }
    }

    /// The place after a key and all of its rows, or after all that a common prefix stands for.
    fn skip(&self, key: &str) -> Option<Cursor> {
        let grouped = common_prefix(key, &self.prefix, &self.delimiter)
            .filter(|_| key.starts_with(&self.prefix));
        let key = match grouped {
            Some(prefix) => past(prefix.as_bytes())?,
            None => {
                let mut key = key.as_bytes().to_vec();
                // The least text after `key`.
                key.push(0);
                key
            }
        };
        Some(Cursor { key, after: None })
    }

    /// Collects a page from `fetch`, which gives at most the asked number of rows from a cursor on, in order.
    fn page<T>(
        &self,
        first: Option<Cursor>,
        fetch: impl Fn(&Cursor, Option<&[u8]>, usize) -> Result<Vec<T>, IndexError>,
        key_of: impl Fn(&T) -> &str,
        rank_of: impl Fn(&T) -> Rank,
    ) -> Result<Listed<T>, IndexError> {
        let mut page = Listed {
            entries: Vec::new(),
            prefixes: Vec::new(),
            truncated: false,
            last: String::new(),
        };
        let end = past(self.prefix.as_bytes());
        let mut cursor = first;
        let mut waiting = VecDeque::new();
        let mut asked = 0;
        loop {
            if waiting.is_empty() {
                let Some(place) = &cursor else {
                    return Ok(page);
                };
                let room = self.limit - page.entries.len() - page.prefixes.len();
                // With a delimiter the first row may be a prefix, and the others for nothing.
                asked = match self.delimiter.is_empty() {
                    true => room + 1,
                    false => (asked * 2).clamp(2, FETCH_MAX).min(room + 1),
                };
                waiting.extend(fetch(place, end.as_deref(), asked)?);
                let full = waiting.len() == asked;
                cursor = waiting.back().filter(|_| full).map(|last| Cursor {
                    key: key_of(last).as_bytes().to_vec(),
                    after: Some(rank_of(last)),
                });
            }
            let Some(row) = waiting.pop_front() else {
                return Ok(page);
            };
            if page.entries.len() + page.prefixes.len() == self.limit {
                page.truncated = self.limit > 0;
                return Ok(page);
            }
            if let Some(prefix) = common_prefix(key_of(&row), &self.prefix, &self.delimiter) {
                page.last = prefix.to_owned();
                page.prefixes.push(prefix.to_owned());
                waiting.clear();
                asked = 0;
                cursor = self.skip(&page.last);
            } else {
                key_of(&row).clone_into(&mut page.last);
                page.entries.push(row);
            }
        }
    }
}

/// Rows of `sql`, which takes the bucket, the key, the end and the limit, and a rank if there is one.
fn versions_from(
    connection: &Connection,
    bucket: BucketId,
    cursor: &Cursor,
    end: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<ListedVersion>, IndexError> {
    let read = |row: &rusqlite::Row<'_>| ObjectVersion::read(row);
    let mut found: Vec<ObjectVersion> = Vec::new();
    let mut key = cursor.key.clone();
    if let Some(Rank::Sequence(after)) = cursor.after {
        let mut rest = connection.prepare_cached(&format!(
            "SELECT {VERSION_COLUMNS} FROM versions WHERE bucket = ?1 AND key = ?2 AND sequence < ?3
             ORDER BY sequence DESC LIMIT ?4"
        ))?;
        for version in rest.query_and_then(params![bucket.0, key, after, limit], read)? {
            found.push(version?);
        }
        key.push(0);
    }
    let within_key = found.len();
    if within_key < limit {
        let mut rest = connection.prepare_cached(&format!(
            "SELECT {VERSION_COLUMNS} FROM versions
             WHERE bucket = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3)
             ORDER BY key, sequence DESC LIMIT ?4"
        ))?;
        let left = limit - within_key;
        for version in rest.query_and_then(params![bucket.0, key, end, left], read)? {
            found.push(version?);
        }
    }
    let mut listed: Vec<ListedVersion> = Vec::with_capacity(found.len());
    for (place, version) in found.into_iter().enumerate() {
        let first_of_key = listed
            .last()
            .is_none_or(|before| before.version.key != version.key);
        listed.push(ListedVersion {
            latest: first_of_key && place >= within_key,
            version,
        });
    }
    Ok(listed)
}

fn uploads_from(
    connection: &Connection,
    bucket: BucketId,
    cursor: &Cursor,
    end: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Upload>, IndexError> {
    let after = match cursor.after {
        Some(Rank::Upload(id)) => id.to_vec(),
        _ => Vec::new(),
    };
    let mut found = connection.prepare_cached(&format!(
        "SELECT {UPLOAD_COLUMNS} FROM uploads
         WHERE bucket = ?1 AND (key, id) > (?2, ?3) AND (?4 IS NULL OR key < ?4)
         ORDER BY key, id LIMIT ?5"
    ))?;
    let rows = found.query_and_then(params![bucket.0, cursor.key, after, end, limit], upload_of)?;
    rows.collect()
}

impl ObjectIndex {
    /// A page of the visible objects of a bucket.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn list(&self, query: ListQuery) -> Result<Listed<ObjectVersion>, IndexError> {
        self.read(move |connection| {
            let frame = Frame {
                prefix: query.prefix,
                delimiter: query.delimiter,
                limit: query.limit,
            };
            let start = query
                .start
                .as_ref()
                .map(|Start::After(key)| (key.as_str(), None));
            let fetch = |cursor: &Cursor, end: Option<&[u8]>, limit: usize| {
                let mut key = cursor.key.clone();
                if cursor.after.is_some() {
                    key.push(0);
                }
                let mut found = connection.prepare_cached(&format!(
                    "SELECT {VERSION_COLUMNS} FROM versions INDEXED BY versions_visible
                     WHERE bucket = ?1 AND visible = 1 AND key >= ?2 AND (?3 IS NULL OR key < ?3)
                     ORDER BY key LIMIT ?4"
                ))?;
                let rows = found
                    .query_and_then(params![query.bucket.0, key, end, limit], |row| {
                        ObjectVersion::read(row)
                    })?;
                rows.collect()
            };
            frame.page(
                frame.first(start),
                fetch,
                |version| &version.key,
                |version| Rank::Sequence(version.sequence),
            )
        })
        .await
    }

    /// A page of all versions in a bucket, those of one key from the newest on.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn list_versions(
        &self,
        query: VersionsQuery,
    ) -> Result<Listed<ListedVersion>, IndexError> {
        self.read(move |connection| {
            let frame = Frame {
                prefix: query.prefix,
                delimiter: query.delimiter,
                limit: query.limit,
            };
            let start = query
                .start
                .as_ref()
                .map(|start| (start.key.as_str(), start.sequence.map(Rank::Sequence)));
            frame.page(
                frame.first(start),
                |cursor, end, limit| versions_from(connection, query.bucket, cursor, end, limit),
                |listed| &listed.version.key,
                |listed| Rank::Sequence(listed.version.sequence),
            )
        })
        .await
    }

    /// A page of the uploads under way in a bucket.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn list_uploads(
        &self,
        query: UploadsQuery,
    ) -> Result<Listed<ListedUpload>, IndexError> {
        self.read(move |connection| {
            let frame = Frame {
                prefix: query.prefix,
                delimiter: query.delimiter,
                limit: query.limit,
            };
            let start = query.start.as_ref().map(|start| {
                let rank = start.upload.map(|upload| Rank::Upload(upload.to_bytes()));
                (start.key.as_str(), rank)
            });
            frame.page(
                frame.first(start),
                |cursor, end, limit| uploads_from(connection, query.bucket, cursor, end, limit),
                |upload| &upload.key,
                |upload| Rank::Upload(upload.id.to_bytes()),
            )
        })
        .await
    }
}

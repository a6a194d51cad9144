//! What is read back of an object.

use std::fmt;
use std::str::FromStr;

use lepton_types::{ContentId, Timestamp};
use rusqlite::Row;

use super::{BodyId, IndexError, Retention, RetentionMode};

/// The id of a version: when it was made, and a random tail; `null` for the one version that an
/// object has while its bucket keeps no versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionId {
    /// The one without an id.
    Null,
    /// One with an id.
    Id {
        /// Its place among the versions of its key, the newest highest.
        sequence: i64,
        /// Random, so that nobody guesses a version.
        salt: i64,
    },
}

/// A text that is no version's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the id of a version")]
pub struct ParseVersionError;

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Id { sequence, salt } => write!(f, "{sequence:016x}{salt:016x}"),
        }
    }
}

impl FromStr for VersionId {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        if text == "null" {
            return Ok(Self::Null);
        }
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseVersionError);
        }
        let half = |half| u64::from_str_radix(half, 16).map(u64::cast_signed);
        Ok(Self::Id {
            sequence: half(&text[..16]).map_err(|_| ParseVersionError)?,
            salt: half(&text[16..]).map_err(|_| ParseVersionError)?,
        })
    }
}

/// A piece of an object's bytes as it is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPiece {
    /// The content.
    pub content: ContentId,
    /// Its length.
    pub size_bytes: u64,
    /// Its sealed bytes, if the index keeps them.
    pub inline: Option<Vec<u8>>,
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The key.
    pub key: String,
    /// Its place among the versions of the key.
    pub sequence: i64,
    /// Its id.
    pub version: VersionId,
    /// Whether it only says that the object was deleted.
    pub marker: bool,
    /// The length of its bytes.
    pub size_bytes: u64,
    /// Its digest as S3 tells it, without quotes.
    pub etag: String,
    /// When it was written.
    pub modified: Timestamp,
    /// Its storage class.
    pub class: String,
    /// Whether a legal hold keeps it.
    pub hold: bool,
    /// What keeps it until when.
    pub retention: Option<Retention>,
    /// Its bytes; none for a marker.
    pub body: Option<BodyId>,
    /// Its tags, as text that only the face reads.
    pub tags: String,
    /// All else that is known of it, as text that only the face reads.
    pub attributes: String,
}

/// The columns that [`ObjectVersion::read`] takes, in its order.
pub(super) const VERSION_COLUMNS: &str = "key, sequence, salt, is_null, marker, size, etag, modified, \
     class, hold, retention, retain_until, body, tags, attributes";

impl ObjectVersion {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, IndexError> {
        let sequence = row.get(1)?;
        let version = match row.get::<_, bool>(3)? {
            true => VersionId::Null,
            false => VersionId::Id {
                sequence,
                salt: row.get(2)?,
            },
        };
        let retention = RetentionMode::of_code(row.get(10)?)?.map(|mode| {
            Ok::<_, IndexError>(Retention {
                mode,
                until: Timestamp::from_millis(row.get(11)?),
            })
        });
        Ok(Self {
            key: key_of(row, 0)?,
            sequence,
            version,
            marker: row.get(4)?,
            size_bytes: row.get(5)?,
            etag: row.get(6)?,
            modified: Timestamp::from_millis(row.get(7)?),
            class: row.get(8)?,
            hold: row.get(9)?,
            retention: retention.transpose()?,
            body: row.get::<_, Option<i64>>(12)?.map(BodyId),
            tags: row.get(13)?,
            attributes: row.get(14)?,
        })
    }
}

/// A key from its bytes, which were UTF-8 when they were written.
pub(super) fn key_of(row: &Row<'_>, column: usize) -> Result<String, IndexError> {
    let bytes: Vec<u8> = row.get(column)?;
    String::from_utf8(bytes).map_err(|_| IndexError::Corrupt { what: "a key" })
}

//! What projects pay for: what they store over time by class, and what goes over the wire, by month.
//!
//! Owns: that time in which the server was down is metered, too. Must not know: prices.
//!
//! Months are those of UTC. Stored bytes are sampled: what lies between two samples counts with the
//! amount of the second, and belongs to its month.

use std::collections::BTreeMap;

use lepton_types::{Id, Name, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::usage::{Quota, Traffic, Usage};
use super::{IndexError, ObjectIndex};

/// The storage class of blobs, and of what names none.
pub(super) const STANDARD: &str = "STANDARD";

/// `2026-11` of a moment in milliseconds.
const MONTH: &str = "strftime('%Y-%m', ?1 / 1000, 'unixepoch')";

/// What a project has of one storage class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The class: `STANDARD`, `STANDARD_IA`, ….
    pub class: String,
    /// Bytes; those of blobs count once.
    pub bytes: u64,
    /// Versions, delete markers not counted.
    pub objects: u64,
}

/// What a project had in a month.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metered {
    /// By storage class, the sum over time of the bytes stored: bytes times seconds.
    pub byte_seconds: BTreeMap<String, f64>,
    /// What went over the wire.
    pub traffic: Traffic,
}

pub(super) fn add_traffic(
    connection: &Connection,
    traffic: &[(Name, Traffic)],
    now: Timestamp,
) -> Result<(), IndexError> {
    let mut add = connection.prepare_cached(&format!(
        "INSERT INTO metered_traffic (month, project, requests, received, sent)
         VALUES ({MONTH}, ?2, ?3, ?4, ?5)
         ON CONFLICT (project, month) DO UPDATE
         SET requests = requests + excluded.requests,
             received = received + excluded.received, sent = sent + excluded.sent"
    ))?;
    for (project, traffic) in traffic {
        add.execute(params![
            now.as_millis(),
            project.as_str(),
            traffic.requests,
            traffic.received_bytes,
            traffic.sent_bytes,
        ])?;
    }
    Ok(())
}

fn meter(connection: &Connection, now: Timestamp) -> Result<(), IndexError> {
    let before: i64 = connection
        .prepare_cached("SELECT value FROM about WHERE name = 'metered_at'")?
        .query_row([], |row| row.get(0))?;
    // The first sample has nothing before it, and a clock that was set back gives none.
    let elapsed = match before {
        0 => 0,
        before => now.as_millis().saturating_sub(before).max(0),
    };
    if elapsed > 0 {
        connection
            .prepare_cached(&format!(
                "INSERT INTO metered (project, month, class, byte_seconds)
                 SELECT project, {MONTH}, class, bytes * (?2 / 1000.0) FROM stored WHERE bytes > 0
                 ON CONFLICT (project, month, class) DO UPDATE
                 SET byte_seconds = byte_seconds + excluded.byte_seconds"
            ))?
            .execute(params![now.as_millis(), elapsed])?;
    }
    connection
        .prepare_cached("UPDATE about SET value = ?1 WHERE name = 'metered_at'")?
        .execute([now.as_millis()])?;
    Ok(())
}

fn metered(connection: &Connection, project: &str, month: &str) -> Result<Metered, IndexError> {
    let byte_seconds = connection
        .prepare_cached(
            "SELECT class, byte_seconds FROM metered WHERE project = ?1 AND month = ?2",
        )?
        .query_map([project, month], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let traffic = connection
        .prepare_cached(
            "SELECT requests, received, sent FROM metered_traffic WHERE project = ?1 AND month = ?2",
        )?
        .query_row([project, month], |row| {
            Ok(Traffic {
                requests: row.get(0)?,
                received_bytes: row.get(1)?,
                sent_bytes: row.get(2)?,
            })
        })
        .optional()?;
    Ok(Metered {
        byte_seconds,
        traffic: traffic.unwrap_or_default(),
    })
}

impl ObjectIndex {
    /// The index's own id, made with it: whose the places are that it claims.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn id(&self) -> Result<Id, IndexError> {
        let id: String = self
            .read(|connection| {
                let mut find = connection.prepare("SELECT value FROM about WHERE name = 'id'")?;
                Ok(find.query_row([], |row| row.get(0))?)
            })
            .await?;
        id.parse().map_err(|_| IndexError::Corrupt {
            what: "the index's id",
        })
    }

    /// Whether it names any content that is kept elsewhere than in it.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn names_contents(&self) -> Result<bool, IndexError> {
        self.read(|connection| {
            let mut any =
                connection.prepare("SELECT EXISTS (SELECT 1 FROM contents WHERE bytes IS NULL)")?;
            Ok(any.query_row([], |row| row.get(0))?)
        })
        .await
    }

    /// Takes a sample of what every project stores.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn meter(&self, now: Timestamp) -> Result<(), IndexError> {
        self.write(move |connection| meter(connection, now)).await
    }

    /// What a project had in a month, `2026-11`.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn metered(&self, project: &Name, month: &str) -> Result<Metered, IndexError> {
        let (project, month) = (project.to_string(), month.to_owned());
        self.read(move |connection| metered(connection, &project, &month))
            .await
    }

    /// What every project has that ever stored anything, by name; with it by storage class.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn all_usage(&self) -> Result<BTreeMap<String, (Usage, Vec<Stored>)>, IndexError> {
        self.read(|connection| {
            let mut all = BTreeMap::new();
            let mut rows = connection.prepare_cached(
                "SELECT project, bytes, objects, requests, received, sent, bytes_max, objects_max
                 FROM usage",
            )?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let usage = Usage {
                    bytes: row.get(1)?,
                    objects: row.get(2)?,
                    traffic: Traffic {
                        requests: row.get(3)?,
                        received_bytes: row.get(4)?,
                        sent_bytes: row.get(5)?,
                    },
                    quota: Quota {
                        bytes_max: row.get(6)?,
                        objects_max: row.get(7)?,
                    },
                };
                all.insert(row.get(0)?, (usage, Vec::new()));
            }
            let mut rows = connection.prepare_cached(
                "SELECT project, class, bytes, objects FROM stored WHERE bytes > 0 OR objects > 0",
            )?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let project: String = row.get(0)?;
                let stored = Stored {
                    class: row.get(1)?,
                    bytes: row.get(2)?,
                    objects: row.get(3)?,
                };
                if let Some((_, classes)) = all.get_mut(&project) {
                    classes.push(stored);
                }
            }
            Ok(all)
        })
        .await
    }
}

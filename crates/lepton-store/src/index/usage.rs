//! What a project has and uses, and what it may have.

use lepton_types::{Name, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{IndexError, ObjectIndex, Refusal, metering};

/// What a project has and uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of all versions and parts.
    pub bytes: u64,
    /// Versions, delete markers not counted.
    pub objects: u64,
    /// What went over the wire.
    pub traffic: Traffic,
    /// What it may have.
    pub quota: Quota,
}

/// What went over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes of bodies that came in.
    pub received_bytes: u64,
    /// Bytes of bodies that went out.
    pub sent_bytes: u64,
}

/// What a project may have; nothing is bounded where none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Bytes.
    pub bytes_max: Option<u64>,
    /// Versions.
    pub objects_max: Option<u64>,
}

/// Adds to what a project has, in the transaction that adds or removes it.
pub(super) fn charge(
    connection: &Connection,
    project: &str,
    class: &str,
    bytes: i64,
    objects: i64,
) -> Result<(), IndexError> {
    tally(connection, project, class, bytes, objects)?;
    let within: bool = connection
        .prepare_cached(
            "INSERT INTO usage (project, bytes, objects) VALUES (?1, ?2, ?3)
             ON CONFLICT (project) DO UPDATE
             SET bytes = bytes + excluded.bytes, objects = objects + excluded.objects
             RETURNING bytes <= COALESCE(bytes_max, bytes)
                   AND objects <= COALESCE(objects_max, objects)",
        )?
        .query_row(params![project, bytes, objects], |row| row.get(0))?;
    // What makes it less is never refused.
    if !within && (bytes > 0 || objects > 0) {
        return Err(Refusal::QuotaExceeded.into());
    }
    Ok(())
}

/// Moves what a project has from one storage class to another; no quota stands against it.
pub(super) fn reclass(
    connection: &Connection,
    project: &str,
    classes: (&str, &str),
    bytes: i64,
) -> Result<(), IndexError> {
    tally(connection, project, classes.0, -bytes, -1)?;
    tally(connection, project, classes.1, bytes, 1)
}

fn tally(
    connection: &Connection,
    project: &str,
    class: &str,
    bytes: i64,
    objects: i64,
) -> Result<(), IndexError> {
    connection
        .prepare_cached(
            "INSERT INTO stored (project, class, bytes, objects) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (project, class) DO UPDATE
             SET bytes = bytes + excluded.bytes, objects = objects + excluded.objects",
        )?
        .execute(params![project, class, bytes, objects])?;
    Ok(())
}

/// A length as the signed number that SQLite keeps.
pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl ObjectIndex {
    /// What a project has and uses.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn usage(&self, project: &Name) -> Result<Usage, IndexError> {
        let project = project.to_string();
        self.read(move |connection| {
            let found = connection
                .prepare_cached(
                    "SELECT bytes, objects, requests, received, sent, bytes_max, objects_max
                     FROM usage WHERE project = ?1",
                )?
                .query_row([project], |row| {
                    Ok(Usage {
                        bytes: row.get(0)?,
                        objects: row.get(1)?,
                        traffic: Traffic {
                            requests: row.get(2)?,
                            received_bytes: row.get(3)?,
                            sent_bytes: row.get(4)?,
                        },
                        quota: Quota {
                            bytes_max: row.get(5)?,
                            objects_max: row.get(6)?,
                        },
                    })
                })
                .optional()?;
            Ok(found.unwrap_or_default())
        })
        .await
    }

    /// Sets what a project may have. What it has already stays.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn set_quota(&self, project: &Name, quota: Quota) -> Result<(), IndexError> {
        let project = project.to_string();
        self.write(move |connection| {
            connection.execute(
                "INSERT INTO usage (project, bytes_max, objects_max) VALUES (?1, ?2, ?3)
                 ON CONFLICT (project) DO UPDATE
                 SET bytes_max = excluded.bytes_max, objects_max = excluded.objects_max",
                params![project, quota.bytes_max, quota.objects_max],
            )?;
            Ok(())
        })
        .await
    }

    /// Adds what went over the wire for some projects since the last time, `now`.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn add_traffic(
        &self,
        traffic: Vec<(Name, Traffic)>,
        now: Timestamp,
    ) -> Result<(), IndexError> {
        self.write(move |connection| {
            metering::add_traffic(connection, &traffic, now)?;
            let mut add = connection.prepare_cached(
                "INSERT INTO usage (project, requests, received, sent) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (project) DO UPDATE
                 SET requests = requests + excluded.requests,
                     received = received + excluded.received, sent = sent + excluded.sent",
            )?;
            for (project, traffic) in traffic {
                add.execute(params![
                    project.as_str(),
                    traffic.requests,
                    traffic.received_bytes,
                    traffic.sent_bytes,
                ])?;
            }
            Ok(())
        })
        .await
    }
}

//! Tables and their migrations.
//!
//! | table | key | holds |
//! |---|---|---|
//! | `resources` | `id` | one row a resource; `body` is its JSON; `version` is the store's counter at its last change |
//! | `tombstones` | `version` | deleted resources, for the change feed |
//! | `events` | `sequence` | what happened, for people |
//! | `run_params`, `run_tags` | `run, key` | text of runs |
//! | `metric_latest` | `run, key` | what each series has come to: its newest point (`value` holds the bits of the float, `number` is it for comparisons, null for NaN), its lowest and highest value, and its number in the tables below |
//! | `metric_series` | `series` | series by number, never used again; those that were dropped with their run wait to be reclaimed |
//! | `metric_batches` | `run, batch` | appends as they came, until they are merged: `body` is of `series/batch.rs` |
//! | `metric_blocks` | `id` | sorted points, no two blocks of a series overlapping: `summary` and `body` are of `series/block.rs`, `rank` columns hold the order of the value |
//! | `lineage` | `source, relation, target` | what came from what, and how often it was used |
//! | `retired_numbers` | `project, key` | the newest version of datasets that were deleted; numbers are not used again |
//! | see `files.rs` | | which files runs have, and clients keep |
//! | see `traces.rs` | | what calls of models and agents did |
//! | see `tracking.rs` | | what else training code records, and the index by which runs are searched |

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{keep_private, old_points};
use crate::OpenError;

/// Brings a schema from its index in a list of migrations to the next.
pub(crate) struct Migration {
    script: &'static str,
    /// What SQL cannot do, after the script.
    then: fn(&Connection) -> Result<(), rusqlite::Error>,
}

impl Migration {
    pub(crate) const fn of_sql(script: &'static str) -> Self {
        Self {
            script,
            then: |_| Ok(()),
        }
    }
}

/// Never edit one that was released.
const MIGRATIONS: [Migration; 8] = [
    Migration::of_sql(FIRST),
    Migration::of_sql(super::lineage::SCHEMA),
    Migration::of_sql(super::tracking::SCHEMA),
    Migration {
        script: super::series_writer::SCHEMA,
        then: old_points::into_blocks,
    },
    Migration::of_sql(super::traces::SCHEMA),
    Migration::of_sql(super::search::SCHEMA),
    Migration::of_sql(super::files::SCHEMA),
    Migration::of_sql(super::tracking::INDEXES),
];

const FIRST: &str = r"
CREATE TABLE resources (
    id BLOB NOT NULL PRIMARY KEY,
    kind INTEGER NOT NULL,
    project TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    owner BLOB,
    grp BLOB,
    phase TEXT NOT NULL,
    version INTEGER NOT NULL,
    body TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX resources_key ON resources (kind, project, key);
CREATE INDEX resources_name ON resources (kind, project, name, id);
CREATE INDEX resources_phase ON resources (kind, project, phase, id);
CREATE INDEX resources_all ON resources (kind, project, id);
CREATE INDEX resources_owner ON resources (owner, kind, id) WHERE owner IS NOT NULL;
CREATE INDEX resources_group ON resources (grp, kind, id) WHERE grp IS NOT NULL;
CREATE UNIQUE INDEX resources_version ON resources (version);
CREATE TABLE tombstones (
    version INTEGER NOT NULL PRIMARY KEY,
    kind INTEGER NOT NULL,
    project TEXT NOT NULL,
    id BLOB NOT NULL
);
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    project TEXT NOT NULL,
    kind INTEGER NOT NULL,
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    severity TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX events_about ON events (id, sequence);
CREATE TABLE run_params (
    run BLOB NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE run_tags (
    run BLOB NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE metric_points (
    run BLOB NOT NULL, key TEXT NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL,
    value INTEGER NOT NULL, PRIMARY KEY (run, key, step, at, value)
) WITHOUT ROWID;
CREATE TABLE metric_latest (
    run BLOB NOT NULL, key TEXT NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL,
    value INTEGER NOT NULL, number REAL, PRIMARY KEY (run, key)
) WITHOUT ROWID;
";

/// Brings the schema up to date; an older store is copied beside itself first.
pub(super) fn migrate(connection: &mut Connection, file: &Path) -> Result<(), OpenError> {
    bring_up_to_date(connection, file, &MIGRATIONS)
}

/// Copies the database to `backup`, for its owner alone; it has that name once it is whole.
fn copy_aside(connection: &Connection, file: &Path, backup: &Path) -> Result<(), OpenError> {
    let mut partial = backup.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let not_kept = |source| OpenError::NotPrivate {
        file: partial.clone(),
        source,
    };
    // An empty file is one that SQLite fills, and keeps as private as it is; a longer one was cut off.
    keep_private(&partial).map_err(not_kept)?;
    let made = OpenOptions::new().write(true).open(&partial);
    made.and_then(|made| made.set_len(0)).map_err(not_kept)?;
    connection
        .execute("VACUUM INTO ?1", [partial.to_string_lossy()])
        .map_err(|source| OpenError::Unusable {
            file: file.to_owned(),
            source,
        })?;
    let made = File::open(&partial).and_then(|made| made.sync_all());
    made.and_then(|()| std::fs::rename(&partial, backup))
        .map_err(not_kept)
}

/// Brings a database to the last of `migrations`; an older one is copied beside itself first.
pub(crate) fn bring_up_to_date(
    connection: &mut Connection,
    file: &Path,
    migrations: &[Migration],
) -> Result<(), OpenError> {
    let unusable = |source| OpenError::Unusable {
        file: file.to_owned(),
        source,
    };
    let found: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(unusable)?;
    let known = u32::try_from(migrations.len()).expect("invariant: few migrations");
    if found > known {
        return Err(OpenError::Newer {
            file: file.to_owned(),
            found,
            known,
        });
    }
    if found > 0 && found < known {
        let backup = file.with_extension(format!("schema-{found}.backup"));
        if !backup.exists() {
            copy_aside(connection, file, &backup)?;
        }
    }
    for (version, migration) in (1..=known).zip(migrations).skip(found as usize) {
        let step = connection.transaction().map_err(unusable)?;
        step.execute_batch(migration.script).map_err(unusable)?;
        (migration.then)(&step).map_err(unusable)?;
        step.pragma_update(None, "user_version", version)
            .map_err(unusable)?;
        step.commit().map_err(unusable)?;
    }
    Ok(())
}

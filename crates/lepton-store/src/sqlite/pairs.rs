//! Writes of parameters and tags, of runs and of logged models.

use lepton_types::Id;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{CommitError, Conflict};

pub(super) fn set_params(
    connection: &Connection,
    run: Id,
    pairs: &[(String, String)],
) -> Result<(), CommitError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO run_params (run, key, value) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    let mut select =
        connection.prepare_cached("SELECT value FROM run_params WHERE run = ?1 AND key = ?2")?;
    for (key, value) in pairs {
        if insert.execute(params![run.to_bytes(), key, value])? == 1 {
            continue;
        }
        let stored: String = select.query_row(params![run.to_bytes(), key], |row| row.get(0))?;
        if stored != *value {
            let stored = stored.chars().take(64).collect();
            return Err(Conflict::ParamChanged {
                key: key.clone(),
                stored,
            }
            .into());
        }
    }
    Ok(())
}

pub(super) fn set_tags(
    connection: &Connection,
    run: Id,
    pairs: &[(String, String)],
) -> Result<(), CommitError> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO run_tags (run, key, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (run, key) DO UPDATE SET value = excluded.value",
    )?;
    for (key, value) in pairs {
        upsert.execute(params![run.to_bytes(), key, value])?;
    }
    Ok(())
}

/// Adds a value to a tag that holds a JSON list; the oldest leave beyond `chars_max` characters.
pub(super) fn add_to_tag(
    connection: &Connection,
    of: Id,
    (key, value): (&str, &str),
    chars_max: usize,
) -> Result<(), CommitError> {
    let known: Option<String> = connection
        .prepare_cached("SELECT value FROM run_tags WHERE run = ?1 AND key = ?2")?
        .query_row(params![of.to_bytes(), key], |row| row.get(0))
        .optional()?;
    let mut values: Vec<serde_json::Value> = known
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    values.push(serde_json::from_str(value).expect("invariant: it was written from a value"));
    let length = |value: &serde_json::Value| value.to_string().chars().count() + 1;
    let mut total = 1 + values.iter().map(length).sum::<usize>();
    let mut leaving = 0;
    while total > chars_max && leaving + 1 < values.len() {
        total -= length(&values[leaving]);
        leaving += 1;
    }
    values.drain(..leaving);
    let text = serde_json::Value::from(values).to_string();
    set_tags(connection, of, &[(key.to_owned(), text)])
}

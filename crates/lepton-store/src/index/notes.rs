//! What the server notes down beside the objects, so that it outlives a restart: text that only who wrote it reads.

use rusqlite::{OptionalExtension as _, params};

use super::{IndexError, ObjectIndex};

/// Keeps notes apart from what the index says about itself.
fn named(note: &str) -> String {
    format!("note {note}")
}

impl ObjectIndex {
    /// The note of this name, if there is one.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn note(&self, name: &str) -> Result<Option<String>, IndexError> {
        let name = named(name);
        self.read(move |connection| {
            let mut find = connection.prepare_cached("SELECT value FROM about WHERE name = ?1")?;
            Ok(find.query_row([name], |row| row.get(0)).optional()?)
        })
        .await
    }

    /// Replaces the note of this name, or takes it away.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn set_note(&self, name: &str, text: Option<String>) -> Result<(), IndexError> {
        let name = named(name);
        self.write(move |connection| {
            match text {
                Some(text) => connection.execute(
                    "INSERT INTO about (name, value) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    params![name, text],
                )?,
                None => connection.execute("DELETE FROM about WHERE name = ?1", [name])?,
            };
            Ok(())
        })
        .await
    }
}

//! Access keys: pairs of an id and a sealed secret.

use lepton_types::resources::Role;
use lepton_types::{Name, Timestamp};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{IndexError, ObjectIndex, Refusal};

/// A key pair as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its public half.
    pub id: String,
    /// Its name.
    pub name: Name,
    /// The project it is good for.
    pub project: Name,
    /// What its holder may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// The secret half, sealed.
    pub sealed: Vec<u8>,
}

const COLUMNS: &str =
    "id, name, project, role, created_at, created_by, expires_at, revoked_at, sealed";

fn read(row: &Row<'_>) -> Result<AccessKey, IndexError> {
    let corrupt = || IndexError::Corrupt {
        what: "an access key",
    };
    let (name, project, role): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let roles = [Role::Owner, Role::Admin, Role::Editor, Role::Viewer];
    Ok(AccessKey {
        id: row.get(0)?,
        name: name.parse().map_err(|_| corrupt())?,
        project: project.parse().map_err(|_| corrupt())?,
        role: roles
            .into_iter()
            .find(|known| known.as_str() == role)
            .ok_or_else(corrupt)?,
        created_at: Timestamp::from_millis(row.get(4)?),
        created_by: row.get(5)?,
        expires_at: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
        revoked_at: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_millis),
        sealed: row.get(8)?,
    })
}

impl ObjectIndex {
    /// Records a key pair.
    ///
    /// # Errors
    /// If its name is taken.
    pub async fn create_access_key(&self, key: AccessKey) -> Result<(), IndexError> {
        self.write(move |connection| {
            let made = connection.execute(
                &format!(
                    "INSERT INTO access_keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                     ON CONFLICT DO NOTHING"
                ),
                params![
                    key.id,
                    key.name.as_str(),
                    key.project.as_str(),
                    key.role.as_str(),
                    key.created_at.as_millis(),
                    key.created_by,
                    key.expires_at.map(Timestamp::as_millis),
                    key.revoked_at.map(Timestamp::as_millis),
                    key.sealed,
                ],
            )?;
            match made {
                1 => Ok(()),
                _ => Err(Refusal::KeyExists.into()),
            }
        })
        .await
    }

    /// The key pair of this id.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn access_key(&self, id: &str) -> Result<Option<AccessKey>, IndexError> {
        let id = id.to_owned();
        self.read(move |connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM access_keys WHERE id = ?1"))?
                .query_row([id], |row| Ok(read(row)))
                .optional()?
                .transpose()
        })
        .await
    }

    /// The key pair of this name.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn access_key_named(&self, name: &Name) -> Result<Option<AccessKey>, IndexError> {
        let name = name.to_string();
        self.read(move |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM access_keys WHERE name = ?1"
                ))?
                .query_row([name], |row| Ok(read(row)))
                .optional()?
                .transpose()
        })
        .await
    }

    /// Key pairs with names after `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub async fn access_keys(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<AccessKey>, IndexError> {
        let after = after.to_owned();
        self.read(move |connection| {
            let mut found = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM access_keys WHERE name > ?1 ORDER BY name LIMIT ?2"
            ))?;
            let rows = found.query_and_then(params![after, limit], read)?;
            rows.collect()
        })
        .await
    }

    /// Ends a key pair for good; one that is ended already stays so.
    ///
    /// # Errors
    /// If there is none of that name.
    pub async fn revoke_access_key(
        &self,
        name: &Name,
        at: Timestamp,
    ) -> Result<AccessKey, IndexError> {
        let name = name.to_string();
        self.write(move |connection| {
            connection
                .prepare_cached(&format!(
                    "UPDATE access_keys SET revoked_at = COALESCE(revoked_at, ?1) WHERE name = ?2
                     RETURNING {COLUMNS}"
                ))?
                .query_row(params![at.as_millis(), name], |row| Ok(read(row)))
                .optional()?
                .ok_or(Refusal::NoSuchKey)?
        })
        .await
    }
}

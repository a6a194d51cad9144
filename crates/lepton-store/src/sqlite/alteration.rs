//! Changes of resources as they are when they are written.

use lepton_types::Id;
use rusqlite::{Connection, OptionalExtension, params};

use super::writes::{next, update};
use crate::alteration::{Alteration, Whose};
use crate::{CommitError, Conflict};

pub(super) fn alter(
    connection: &Connection,
    alteration: &Alteration,
    version: &mut u64,
) -> Result<(), CommitError> {
    match alteration.whose {
        Whose::One(id) => alter_one(connection, alteration, id, version),
        Whose::Group(group) => {
            let ids: Vec<[u8; 16]> = connection
                .prepare_cached("SELECT id FROM resources WHERE grp = ?1 AND kind = ?2")?
                .query_map(params![group.to_bytes(), alteration.kind.code()], |row| {
                    row.get(0)
                })?
                .collect::<Result<_, _>>()?;
            for id in ids {
                alter_one(connection, alteration, Id::from_bytes(id), version)?;
            }
            Ok(())
        }
    }
}

fn alter_one(
    connection: &Connection,
    alteration: &Alteration,
    id: Id,
    version: &mut u64,
) -> Result<(), CommitError> {
    let kind = alteration.kind;
    let found: Option<(String, u64)> = connection
        .prepare_cached("SELECT body, version FROM resources WHERE id = ?1 AND kind = ?2")?
        .query_row(params![id.to_bytes(), kind.code()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let (body, stored) = found.ok_or(Conflict::Missing { kind, id })?;
    let row = (alteration.change)(&body, stored)?;
    update(connection, &row, next(version))
}

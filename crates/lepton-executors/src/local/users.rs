//! One user number per project, remembered for ever: a number is never given to another project.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lepton_types::Name;

use super::Isolation;
use crate::{StorageError, record};

const TABLE: &str = "users.json";

pub(super) struct Users {
    root: PathBuf,
    base: Option<u32>,
    numbers: Mutex<BTreeMap<Name, u32>>,
}

impl Users {
    pub(super) fn open(root: &Path, isolation: Isolation) -> io::Result<Self> {
        let base = match isolation {
            Isolation::ProjectUid { base } => Some(base),
            Isolation::OneProject | Isolation::Shared => None,
        };
        let numbers = record::read(root, TABLE)?.unwrap_or_default();
        Ok(Self {
            root: root.to_owned(),
            base,
            numbers: Mutex::new(numbers),
        })
    }

    /// The number of a project's user; none if it runs as the server's.
    pub(super) fn of(&self, project: &Name) -> Result<Option<u32>, StorageError> {
        let Some(base) = self.base else {
            return Ok(None);
        };
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = numbers.get(project) {
            return Ok(Some(*number));
        }
        let next = numbers
            .values()
            .max()
            .map_or(base, |last| (last + 1).max(base));
        let mut more = numbers.clone();
        more.insert(project.clone(), next);
        // Durable before it is used: files of this user must not pass to another project.
        self.write(&more).map_err(|source| StorageError {
            action: "write the table of project users",
            source,
        })?;
        *numbers = more;
        Ok(Some(next))
    }

    fn write(&self, numbers: &BTreeMap<Name, u32>) -> io::Result<()> {
        let staged = self.root.join("users.json.tmp");
        let mut file = File::create(&staged)?;
        file.write_all(&serde_json::to_vec(numbers)?)?;
        file.sync_all()?;
        std::fs::rename(staged, self.root.join(TABLE))?;
        record::sync_dir(&self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_with_its_project() {
        let root = tempfile::tempdir().unwrap();
        let isolation = Isolation::ProjectUid { base: 700_000 };
        let users = Users::open(root.path(), isolation).unwrap();
        let (a, b): (Name, Name) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(users.of(&b).unwrap(), Some(700_000));
        assert_eq!(users.of(&a).unwrap(), Some(700_001));
        let again = Users::open(root.path(), isolation).unwrap();
        assert_eq!(again.of(&a).unwrap(), Some(700_001));
        assert_eq!(again.of(&b).unwrap(), Some(700_000));
    }
}

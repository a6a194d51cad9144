//! Changes of resources that are made where they are written: whoever writes at the same time, none is
//! lost and none is refused.

use std::fmt;

use lepton_types::Id;
use lepton_types::resources::{Kind, Resource, Spec};

use crate::transaction::{Row, Write};
use crate::{CommitError, Conflict, Transaction};

/// Which resources are changed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose {
    /// The one of this id, which must be there.
    One(Id),
    /// All of this group.
    Group(Id),
}

/// From the stored text and its version to what takes its place.
type Change = Box<dyn Fn(&str, u64) -> Result<Row, CommitError> + Send + Sync>;

/// A change on its way to disk.
pub(crate) struct Alteration {
    pub(crate) kind: Kind,
    pub(crate) whose: Whose,
    pub(crate) change: Change,
}

impl fmt::Debug for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alteration({}, {:?})", self.kind, self.whose)
    }
}

impl Transaction {
    /// Changes a resource as it is when it is written; a conflict if it is not there, or if `change`
    /// says so. `change` runs in the writer's thread and must be quick.
    pub fn alter<S: Spec>(
        &mut self,
        id: Id,
        change: impl Fn(&mut Resource<S, S::Status>) -> Result<(), Conflict> + Send + Sync + 'static,
    ) -> &mut Self {
        self.push(Whose::One(id), change)
    }

    /// The same with all resources of a kind in a group: all runs of an experiment.
    pub fn alter_group<S: Spec>(
        &mut self,
        group: Id,
        change: impl Fn(&mut Resource<S, S::Status>) -> Result<(), Conflict> + Send + Sync + 'static,
    ) -> &mut Self {
        self.push(Whose::Group(group), change)
    }

    fn push<S: Spec>(
        &mut self,
        whose: Whose,
        change: impl Fn(&mut Resource<S, S::Status>) -> Result<(), Conflict> + Send + Sync + 'static,
    ) -> &mut Self {
        let change = move |json: &str, version: u64| {
            let mut resource = crate::sqlite::decode::<S>(json, version)?;
            change(&mut resource)?;
            Ok(Row::of(&resource))
        };
        self.writes.push(Write::Alter(Alteration {
            kind: S::KIND,
            whose,
            change: Box::new(change),
        }));
        self
    }
}

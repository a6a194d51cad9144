//! The decision: a pure function of who asks, what for, and where.

use lepton_types::resources::{Kind, Role};
use lepton_types::{Id, Name};

use crate::WorkloadKind;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// The holder of a token.
    Holder {
        /// The token's name.
        name: String,
        /// What it may do.
        role: Role,
        /// The project it is good for; every one for an owner.
        scope: Option<Name>,
    },
    /// Something Lepton started, while it is not over.
    Workload {
        /// Which sort.
        kind: WorkloadKind,
        /// The attempt's or replica's id.
        id: Id,
        /// Its project.
        project: Name,
        /// The run that it writes to, if it has one.
        run: Option<Id>,
    },
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To see.
    Read,
    /// To make or change.
    Write,
    /// To delete.
    Delete,
    /// To ask an endpoint for predictions.
    Predict,
    /// To make or revoke credentials, projects and pools.
    Administer,
}

/// Where it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The project; none for what lives in none.
    pub project: Option<&'a Name>,
    /// The kind of resource.
    pub kind: Kind,
    /// Which one, where that decides.
    pub id: Option<Id>,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The credential is good for another project.
    #[error("this token is not good for project `{project}`")]
    OtherProject {
        /// The project that was asked for.
        project: Name,
    },
    /// The role does not allow it.
    #[error("role `{role}` may not {what} {kind}s: it takes `{needed}`")]
    Role {
        /// The caller's role.
        role: Role,
        /// What was asked for.
        what: &'static str,
        /// Of what.
        kind: Kind,
        /// The least role that may.
        needed: Role,
    },
    /// Workloads do not need it.
    #[error("a workload's token may not {what} this {kind}")]
    Workload {
        /// What was asked for.
        what: &'static str,
        /// Of what.
        kind: Kind,
    },
}

impl Principal {
    /// The word by which records remember who it was.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Holder { name, .. } => name.clone(),
            Self::Workload {
                kind: WorkloadKind::Attempt,
                id,
                ..
            } => format!("attempt {id}"),
            Self::Workload {
                kind: WorkloadKind::Replica,
                id,
                ..
            } => format!("replica {id}"),
        }
    }

    /// The project that is meant where a request names none.
    #[must_use]
    pub fn home(&self) -> Name {
        match self {
            Self::Holder { scope, .. } => scope.clone().unwrap_or_else(Name::default_project),
            Self::Workload { project, .. } => project.clone(),
        }
    }
}

impl Access {
    const fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "change",
            Self::Delete => "delete",
            Self::Predict => "ask",
            Self::Administer => "administer",
        }
    }

    const fn least_role(self) -> Role {
        match self {
            Self::Read | Self::Predict => Role::Viewer,
            Self::Write | Self::Delete => Role::Editor,
            Self::Administer => Role::Admin,
        }
    }
}

/// Whether `principal` may do `access` at `target`.
///
/// # Errors
/// Why not.
pub fn decide(principal: &Principal, access: Access, target: Target<'_>) -> Result<(), Denied> {
    match principal {
        Principal::Holder { role, scope, .. } => {
            decide_holder(*role, scope.as_ref(), access, target)
        }
        Principal::Workload { project, run, .. } => decide_workload(project, *run, access, target),
    }
}

/// Whether `principal` may do `access` to the buckets and objects of `project`. What a job
/// writes it may delete: clients of objects write aside, move and clean up.
///
/// # Errors
/// Why not.
pub fn decide_objects(principal: &Principal, access: Access, project: &Name) -> Result<(), Denied> {
    let target = Target {
        project: Some(project),
        kind: Kind::Dataset,
        id: None,
    };
    let access = match (principal, access) {
        (Principal::Workload { .. }, Access::Delete) => Access::Write,
        (_, access) => access,
    };
    decide(principal, access, target)
}

fn decide_holder(
    role: Role,
    scope: Option<&Name>,
    access: Access,
    target: Target<'_>,
) -> Result<(), Denied> {
    if let (Some(scope), Some(project)) = (scope, target.project)
        && scope != project
    {
        return Err(Denied::OtherProject {
            project: project.clone(),
        });
    }
    let needed = match (target.project, access) {
        // Only an owner changes what lives in no project.
        (None, Access::Write | Access::Delete | Access::Administer) => Role::Owner,
        _ => access.least_role(),
    };
    // Roles are declared from the strongest to the weakest.
    if role <= needed {
        return Ok(());
    }
    Err(Denied::Role {
        role,
        what: access.verb(),
        kind: target.kind,
        needed,
    })
}

fn decide_workload(
    project: &Name,
    run: Option<Id>,
    access: Access,
    target: Target<'_>,
) -> Result<(), Denied> {
    if let Some(asked) = target.project
        && asked != project
    {
        return Err(Denied::OtherProject {
            project: asked.clone(),
        });
    }
    let allowed = match (access, target.kind) {
        (Access::Read, kind) => kind != Kind::Token,
        (Access::Predict, Kind::Endpoint) => true,
        // Its own run, and runs that it makes for itself; never another job's.
        (Access::Write, Kind::Run) => run.is_some() && (target.id.is_none() || target.id == run),
        // It adds to these, and changes none that are there: what others rely on is theirs to move.
        (Access::Write, Kind::Model | Kind::ModelVersion | Kind::Experiment) => {
            run.is_some() && target.id.is_none()
        }
        (Access::Write, Kind::Dataset | Kind::DatasetVersion) => run.is_some(),
        _ => false,
    };
    if allowed {
        return Ok(());
    }
    Err(Denied::Workload {
        what: access.verb(),
        kind: target.kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_types::Timestamp;

    fn holder(role: Role, scope: Option<&str>) -> Principal {
        let scope = scope.map(|name| name.parse().unwrap());
        Principal::Holder {
            name: "ann".to_owned(),
            role,
            scope,
        }
    }

    fn id(number: u8) -> Id {
        Id::from_parts(Timestamp::from_millis(1), [number; 10])
    }

    #[test]
    fn roles_are_a_ladder_within_their_project() {
        let project: Name = "lab".parse().unwrap();
        let at = Target {
            project: Some(&project),
            kind: Kind::Job,
            id: None,
        };
        let all = [
            Access::Read,
            Access::Write,
            Access::Delete,
            Access::Predict,
            Access::Administer,
        ];
        let allowed = |role| {
            let who = holder(role, Some("lab"));
            all.into_iter()
                .filter(|access| decide(&who, *access, at).is_ok())
                .count()
        };
        assert_eq!(
            [Role::Viewer, Role::Editor, Role::Admin].map(allowed),
            [2, 4, 5]
        );
        let stranger = holder(Role::Admin, Some("other"));
        assert!(
            all.iter()
                .all(|access| decide(&stranger, *access, at).is_err())
        );
        let owner = holder(Role::Owner, None);
        assert!(all.iter().all(|access| decide(&owner, *access, at).is_ok()));
    }

    #[test]
    fn only_an_owner_changes_what_lives_in_no_project() {
        let at = Target {
            project: None,
            kind: Kind::Project,
            id: None,
        };
        assert!(decide(&holder(Role::Admin, Some("lab")), Access::Administer, at).is_err());
        assert!(decide(&holder(Role::Owner, None), Access::Administer, at).is_ok());
        assert!(decide(&holder(Role::Viewer, Some("lab")), Access::Read, at).is_ok());
    }

    #[test]
    fn a_worker_writes_its_own_run_and_nothing_of_others() {
        let project: Name = "lab".parse().unwrap();
        let worker = Principal::Workload {
            kind: WorkloadKind::Attempt,
            id: id(1),
            project: project.clone(),
            run: Some(id(2)),
        };
        let at = |kind, id| Target {
            project: Some(&project),
            kind,
            id,
        };
        assert!(decide(&worker, Access::Write, at(Kind::Run, Some(id(2)))).is_ok());
        assert!(decide(&worker, Access::Write, at(Kind::Run, Some(id(3)))).is_err());
        for kind in [Kind::Model, Kind::ModelVersion, Kind::Experiment] {
            assert!(decide(&worker, Access::Write, at(kind, None)).is_ok());
            assert!(decide(&worker, Access::Write, at(kind, Some(id(9)))).is_err());
            assert!(decide(&worker, Access::Delete, at(kind, None)).is_err());
        }
        assert!(decide(&worker, Access::Write, at(Kind::Job, None)).is_err());
        assert!(decide(&worker, Access::Administer, at(Kind::Token, None)).is_err());
        assert!(decide(&worker, Access::Read, at(Kind::Token, None)).is_err());
        assert!(decide(&worker, Access::Read, at(Kind::Dataset, None)).is_ok());
    }
}

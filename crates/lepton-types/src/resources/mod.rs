//! The resources that people name: what is wanted (spec), what is (status), and
//! the facts every one of them carries (metadata).
//!
//! These are both what the store keeps and what the API shows, so a field is
//! added, never renamed: see "Change" in `ARCHITECTURE.md`.

mod dataset;
mod endpoint;
mod event;
mod experiment;
mod job;
mod lineage;
mod model;
mod pool;
mod project;
mod reservation;
mod run;
mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Id, Name, Timestamp};

pub use dataset::{
    BlobDigest, ColumnStatistics, ColumnSummary, Dataset, DatasetPart, DatasetSpec, DatasetStatus,
    DatasetVersion, DatasetVersionSpec, DatasetVersionStatus, FileEntry, Lineage, ParseDigestError,
};
pub use endpoint::{
    Endpoint, EndpointPhase, EndpointSpec, EndpointStatus, Replica, ReplicaPhase, ReplicaSpec,
    ReplicaStatus, Scaling, ScalingStatus,
};
pub use event::{Event, EventSeverity};
pub use experiment::{Experiment, ExperimentSpec, ExperimentStatus};
pub use job::{
    Attempt, AttemptPhase, AttemptSpec, AttemptStatus, CommandSpec, ExitReason, Job, JobPhase,
    JobSpec, JobStatus, NamedVersion, PrepareSpec, Program, TrainBudget, TrainSpec, Waiting,
    WorkerPhase, WorkerStatus,
};
pub use lineage::{LineageEdge, LineageNode, LineageRelation};
pub use model::{
    Model, ModelOrigin, ModelRef, ModelSelector, ModelSpec, ModelStage, ModelStatus, ModelVersion,
    ModelVersionSpec, ModelVersionStatus, ParseModelRefError,
};
pub use pool::{Node, Pool, PoolSpec, PoolStatus};
pub use project::{Project, ProjectQuota, ProjectSpec, ProjectStatus, ProjectStored};
pub use reservation::{Reservation, ReservationPhase, ReservationSpec, ReservationStatus};
pub use run::{MetricPoint, Run, RunPhase, RunSpec, RunStatus};
pub use token::{Role, Token, TokenSpec, TokenStatus};

/// What sort of thing a resource is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Kind {
    // stored: never renumber
    /// The tenant.
    Project = 1,
    /// Machines.
    Pool = 2,
    /// Data, across versions.
    Dataset = 3,
    /// One frozen version of a dataset.
    DatasetVersion = 4,
    /// A group of runs.
    Experiment = 5,
    /// An execution asked for.
    Job = 6,
    /// One try at a job.
    Attempt = 7,
    /// The record of an execution.
    Run = 8,
    /// A registered model, across versions.
    Model = 9,
    /// One version of a model.
    ModelVersion = 10,
    /// What serves.
    Endpoint = 11,
    /// One supervised copy behind an endpoint.
    Replica = 12,
    /// A credential.
    Token = 13,
    /// Room on machines, promised in advance.
    Reservation = 14,
}

/// A word that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a kind: use one of {}", Kind::words())]
pub struct UnknownKind {
    /// What was given.
    pub word: String,
}

impl Kind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 14] = [
        Self::Project,
        Self::Pool,
        Self::Dataset,
        Self::DatasetVersion,
        Self::Experiment,
        Self::Job,
        Self::Attempt,
        Self::Run,
        Self::Model,
        Self::ModelVersion,
        Self::Endpoint,
        Self::Replica,
        Self::Token,
        Self::Reservation,
    ];

    /// The stored code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind of a stored code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The singular word: `dataset-version`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Pool => "pool",
            Self::Dataset => "dataset",
            Self::DatasetVersion => "dataset-version",
            Self::Experiment => "experiment",
            Self::Job => "job",
            Self::Attempt => "attempt",
            Self::Run => "run",
            Self::Model => "model",
            Self::ModelVersion => "model-version",
            Self::Endpoint => "endpoint",
            Self::Replica => "replica",
            Self::Token => "token",
            Self::Reservation => "reservation",
        }
    }

    fn words() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Takes singular, plural and any case: `job`, `jobs`, `Job`.
    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        let lower = word.to_ascii_lowercase();
        let singular = lower.strip_suffix('s').unwrap_or(&lower);
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == singular || kind.as_str().replace('-', "") == singular)
            .ok_or_else(|| UnknownKind {
                word: word.chars().take(64).collect(),
            })
    }
}

/// A pointer to the resource that owns this one and takes it along when it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnerRef {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: Id,
}

/// The facts that every resource carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Meta {
    /// Identity, never reused.
    pub id: Id,
    /// The tenant it lives in; `default` for what lives in none.
    pub project: Name,
    /// What people call it.
    pub name: String,
    /// Counts changes of the spec.
    pub generation: u64,
    /// Counts changes of anything; an update must name the one it has seen.
    pub resource_version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// What it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerRef>,
    /// Set once deletion was asked for; it goes when nothing of it runs any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting_since: Option<Timestamp>,
    /// Free words of its users.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A resource: what it is called, what is wanted, what is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resource<S, T> {
    /// Its kind.
    pub kind: Kind,
    /// The facts.
    pub metadata: Meta,
    /// What is wanted.
    pub spec: S,
    /// What is.
    pub status: T,
}

/// What the store must know of a spec to keep its resource.
pub trait Spec: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The kind it describes.
    const KIND: Kind;
    /// Whether names are unique within a project (else the id is the key).
    const NAMED: bool;
    /// What goes with it.
    type Status: Serialize + DeserializeOwned + Clone + Default + Send + Sync + 'static;

    /// The word by which lists are filtered.
    fn phase(status: &Self::Status) -> &'static str;

    /// What lists are filtered by beside the owner: a run's experiment.
    fn group(&self) -> Option<Id> {
        None
    }
}

impl<S: Spec> Resource<S, S::Status> {
    /// A resource that is about to be stored for the first time.
    #[must_use]
    pub fn draft(id: Id, project: Name, name: impl Into<String>, at: Timestamp, spec: S) -> Self {
        Self {
            kind: S::KIND,
            metadata: Meta {
                id,
                project,
                name: name.into(),
                generation: 1,
                resource_version: 0,
                created_at: at,
                created_by: String::new(),
                owner: None,
                deleting_since: None,
                labels: BTreeMap::new(),
            },
            spec,
            status: S::Status::default(),
        }
    }

    /// The same, made by somebody.
    #[must_use]
    pub fn created_by(mut self, who: impl Into<String>) -> Self {
        self.metadata.created_by = who.into();
        self
    }

    /// The same, owned by `kind` `id`.
    #[must_use]
    pub fn owned_by(mut self, kind: Kind, id: Id) -> Self {
        self.metadata.owner = Some(OwnerRef { kind, id });
        self
    }

    /// Whether deletion was asked for.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.metadata.deleting_since.is_some()
    }
}

macro_rules! spec_of {
    ($spec:ty, $status:ty, $kind:ident, named: $named:literal, $phase:expr $(, group: $group:expr)?) => {
        impl crate::resources::Spec for $spec {
            const KIND: crate::resources::Kind = crate::resources::Kind::$kind;
            const NAMED: bool = $named;
            type Status = $status;

            fn phase(status: &$status) -> &'static str {
                let phase: fn(&$status) -> &'static str = $phase;
                phase(status)
            }

            $(fn group(&self) -> Option<crate::Id> {
                let group: fn(&$spec) -> Option<crate::Id> = $group;
                group(self)
            })?
        }
    };
}
pub(crate) use spec_of;

macro_rules! word_enum {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            // stored: never rename the words
            $($(#[$vdoc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// The word that is stored and shown.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        // By hand: what utoipa derives has the variants' names, as it does not see a macro's words.
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some(concat!($($doc, "\n"),*).trim()))
                    .enum_values(Some([$($word),+]))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use word_enum;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_code_and_by_any_word() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
            assert_eq!(format!("{kind}s").parse(), Ok(kind));
        }
        assert_eq!("Job".parse(), Ok(Kind::Job));
        assert_eq!("DatasetVersion".parse(), Ok(Kind::DatasetVersion));
        assert!("pod".parse::<Kind>().is_err());
    }
}

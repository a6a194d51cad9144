//! Project: the tenant.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Resource, spec_of};
use crate::MemoryBytes;

/// A tenant.
pub type Project = Resource<ProjectSpec, ProjectStatus>;

/// What is wanted of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectSpec {
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// What it may store.
    #[serde(default, skip_serializing_if = "ProjectQuota::is_open")]
    pub quota: ProjectQuota,
}

/// What a project may store; nothing is bounded where absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectQuota {
    /// Bytes of all that it stores: objects with their versions, datasets, models, runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<MemoryBytes>,
    /// Versions of objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
}

impl ProjectQuota {
    /// Whether nothing is bounded.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// What is of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ProjectStatus {
    /// What it stores; told to who asks for the project, and not kept with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<ProjectStored>,
}

/// What a project stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ProjectStored {
    /// Bytes; those that versions of datasets share count once.
    pub size_bytes: u64,
    /// Versions of objects.
    pub objects: u64,
}

spec_of!(ProjectSpec, ProjectStatus, Project, named: true, |_| "active");

//! Project: the tenant.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Resource, spec_of};

/// A tenant.
pub type Project = Resource<ProjectSpec, ProjectStatus>;

/// What is wanted of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectSpec {
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

/// What is of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ProjectStatus {}

spec_of!(ProjectSpec, ProjectStatus, Project, named: true, |_| "active");

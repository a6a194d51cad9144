//! Pool: machines that jobs and replicas are placed on.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Resource, spec_of};
use crate::Resources;

/// Machines.
pub type Pool = Resource<PoolSpec, PoolStatus>;

/// What is wanted of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// What workloads may use of each machine; all of it where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Resources>,
}

/// What is of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct PoolStatus {
    /// The machines that were found.
    pub nodes: Vec<Node>,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What workloads may use of it.
    pub capacity: Resources,
}

spec_of!(PoolSpec, PoolStatus, Pool, named: true, |_| "active");

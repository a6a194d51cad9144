//! What can be asked of the store.

use lepton_types::resources::{Kind, MetricPoint, Run};
use lepton_types::{Id, Name, RunId};

/// Which resources of a kind, and which page of them.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only this project's.
    pub project: Option<Name>,
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those of this owner.
    pub owner: Option<Id>,
    /// Only those of this group: an experiment's runs.
    pub group: Option<Id>,
    /// Only those in one of these phases; any where empty.
    pub phases: Vec<&'static str>,
    /// Newest first instead of oldest first.
    pub newest_first: bool,
    /// Go on after this one.
    pub after: Option<Id>,
    /// At most this many; [`Query::LIMIT_MAX`] where 0 or larger than that.
    pub limit: usize,
}

impl Query {
    /// The most that one page holds, which bounds the memory of a read.
    pub const LIMIT_MAX: usize = 1_000;

    /// All of one project.
    #[must_use]
    pub fn project(project: &Name) -> Self {
        Self {
            project: Some(project.clone()),
            ..Self::default()
        }
    }

    pub(crate) fn page_size(&self) -> usize {
        match self.limit {
            0 => Self::LIMIT_MAX,
            limit => limit.min(Self::LIMIT_MAX),
        }
    }
}

/// How a metric's newest value must compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `=`
    Equals,
    /// `!=`
    Differs,
}

impl Comparison {
    /// Whether `left` compares so with `right`.
    #[must_use]
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Above => left > right,
            Self::AtLeast => left >= right,
            Self::Below => left < right,
            Self::AtMost => left <= right,
            Self::Equals => left == right,
            Self::Differs => left != right,
        }
    }

    pub(crate) const fn sql(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Equals => "=",
            Self::Differs => "<>",
        }
    }
}

/// Only runs whose newest value of `key` compares so with `value`; NaN never does.
#[derive(Debug, Clone)]
pub struct MetricFilter {
    /// The metric.
    pub key: String,
    /// How it must compare.
    pub comparison: Comparison,
    /// With what.
    pub value: f64,
}

/// A run with what it logged.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// The run.
    pub run: Run,
    /// Its parameters, sorted by key.
    pub params: Vec<(String, String)>,
    /// Its tags, sorted by key.
    pub tags: Vec<(String, String)>,
    /// The newest point of each series, sorted by key.
    pub metrics: Vec<MetricPoint>,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins, if there is one.
    pub next: Option<Id>,
}

/// A resource that was made, changed or deleted.
#[derive(Debug, Clone)]
pub struct Change {
    /// The store's counter at the change.
    pub version: u64,
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: Id,
    /// Its project.
    pub project: Name,
    /// Its newest state as JSON; none if it was deleted.
    pub resource: Option<String>,
}

impl Change {
    /// The newest state, typed.
    ///
    /// # Errors
    /// If it does not read back, or is of another kind.
    pub fn decode<S: lepton_types::resources::Spec>(
        &self,
    ) -> Result<Option<lepton_types::resources::Resource<S, S::Status>>, crate::StoreError> {
        self.resource
            .as_deref()
            .map(|json| crate::sqlite::decode::<S>(json, self.version))
            .transpose()
    }
}

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only this project's.
    pub project: Option<Name>,
    /// Only those about this resource.
    pub about: Option<Id>,
    /// Only those after this sequence number.
    pub after: u64,
    /// The newest `limit` instead of the oldest.
    pub newest: bool,
    /// At most this many, and never more than [`Query::LIMIT_MAX`].
    pub limit: usize,
}

/// Which points of which series.
#[derive(Debug, Clone)]
pub struct SeriesQuery {
    /// The run.
    pub run: RunId,
    /// The metric.
    pub key: String,
    /// Points to skip, and to return.
    pub offset: u64,
    /// At most this many.
    pub limit: usize,
}

/// Whose past or future is asked for.
#[derive(Debug, Clone)]
pub struct LineageQuery {
    /// Whose project.
    pub project: Name,
    /// Of which thing.
    pub of: Id,
    /// What it came from, and what that came from.
    pub backward: bool,
    /// What came of it, and what came of that.
    pub forward: bool,
}

impl LineageQuery {
    /// The most edges that one answer holds; the nearest are told first.
    pub const EDGES_MAX: usize = 2_000;
}

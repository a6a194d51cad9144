//! A transaction: a list of writes that happen together or not at all.

use lepton_types::resources::{EventSeverity, Kind, LineageEdge, MetricPoint, Resource, Spec};
use lepton_types::{Id, Name, RunId, Timestamp};

use crate::alteration::Alteration;
use crate::purge::Binned;
use crate::requirements::Requirement;
use crate::traces::TraceWrite;
use crate::tracking::TrackingWrite;

/// Writes that happen together or not at all.
#[derive(Debug, Default)]
pub struct Transaction {
    pub(crate) writes: Vec<Write>,
}

#[derive(Debug)]
pub(crate) enum Write {
    Create(Row),
    Update(Row),
    Delete {
        kind: Kind,
        id: Id,
        name: String,
        expected: u64,
    },
    Alter(Alteration),
    Require(Requirement),
    Event(EventDraft),
    Params {
        run: Id,
        pairs: Vec<(String, String)>,
    },
    Tags {
        run: Id,
        pairs: Vec<(String, String)>,
    },
    DeleteTag {
        run: Id,
        key: String,
    },
    Metrics {
        run: Id,
        points: Vec<MetricPoint>,
    },
    Lineage {
        project: String,
        edge: LineageEdge,
    },
    /// Adds to a tag that holds a JSON list.
    AddToTag {
        of: Id,
        key: String,
        value: String,
        chars_max: usize,
    },
    Tracking(TrackingWrite),
    Trace(TraceWrite),
    /// Deletes for good those of these that are in the bin since then or longer.
    Purge {
        what: Binned,
        ids: Vec<Id>,
        until: Timestamp,
    },
}

/// A resource on its way to disk.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) id: Id,
    pub(crate) project: String,
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) owner: Option<Id>,
    pub(crate) group: Option<Id>,
    pub(crate) phase: &'static str,
    pub(crate) expected: u64,
    pub(crate) json: String,
}

/// An event that has no number yet.
#[derive(Debug, Clone)]
pub struct EventDraft {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub project: Name,
    /// To what kind of thing.
    pub kind: Kind,
    /// To which.
    pub id: Id,
    /// What it is called.
    pub name: String,
    /// Whether somebody should look.
    pub severity: EventSeverity,
    /// A word for scripts.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Transaction {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Whether it adds points to series.
    pub(crate) fn has_metrics(&self) -> bool {
        let mut writes = self.writes.iter();
        writes.any(|write| matches!(write, Write::Metrics { .. }))
    }

    /// Makes a resource; a conflict if its name is taken.
    pub fn create<S: Spec>(&mut self, resource: &Resource<S, S::Status>) -> &mut Self {
        self.writes.push(Write::Create(Row::of(resource)));
        self
    }

    /// Replaces a resource; a conflict unless it still has the version that `resource` carries.
    pub fn update<S: Spec>(&mut self, resource: &Resource<S, S::Status>) -> &mut Self {
        self.writes.push(Write::Update(Row::of(resource)));
        self
    }

    /// Deletes a resource and all that it owns, however deep; a conflict unless it still
    /// has the version that `resource` carries.
    pub fn delete<S: Spec>(&mut self, resource: &Resource<S, S::Status>) -> &mut Self {
        self.writes.push(Write::Delete {
            kind: S::KIND,
            id: resource.metadata.id,
            name: resource.metadata.name.clone(),
            expected: resource.metadata.resource_version,
        });
        self
    }

    /// Records that something happened.
    pub fn event(&mut self, event: EventDraft) -> &mut Self {
        self.writes.push(Write::Event(event));
        self
    }

    /// Sets parameters of a run; a conflict if one has another value already.
    pub fn set_params(&mut self, run: RunId, pairs: Vec<(String, String)>) -> &mut Self {
        self.writes.push(Write::Params {
            run: run.id(),
            pairs,
        });
        self
    }

    /// Sets tags of a run, over those that were there.
    pub fn set_tags(&mut self, run: RunId, pairs: Vec<(String, String)>) -> &mut Self {
        self.writes.push(Write::Tags {
            run: run.id(),
            pairs,
        });
        self
    }

    /// Adds a value to a tag that holds a JSON list; what else it held is lost. Beyond `chars_max`
    /// characters the oldest values leave.
    pub fn add_to_tag(
        &mut self,
        of: RunId,
        key: &str,
        value: &serde_json::Value,
        chars_max: usize,
    ) -> &mut Self {
        self.writes.push(Write::AddToTag {
            of: of.id(),
            key: key.to_owned(),
            value: value.to_string(),
            chars_max,
        });
        self
    }

    /// Removes a tag of a run, if it is there.
    pub fn delete_tag(&mut self, run: RunId, key: String) -> &mut Self {
        self.writes.push(Write::DeleteTag { run: run.id(), key });
        self
    }

    /// Adds points to series of a run; those that are there already change nothing.
    /// Every point must carry its time.
    pub fn append_metrics(&mut self, run: RunId, points: Vec<MetricPoint>) -> &mut Self {
        self.writes.push(Write::Metrics {
            run: run.id(),
            points,
        });
        self
    }

    /// Records where something came from; what is known already is seen again at `edge.last_at`,
    /// and `edge.requests` are added to its own.
    pub fn link(&mut self, project: &Name, edge: LineageEdge) -> &mut Self {
        self.writes.push(Write::Lineage {
            project: project.to_string(),
            edge,
        });
        self
    }
}

impl Row {
    pub(crate) fn of<S: Spec>(resource: &Resource<S, S::Status>) -> Self {
        let meta = &resource.metadata;
        Self {
            kind: S::KIND,
            id: meta.id,
            project: meta.project.to_string(),
            key: if S::NAMED {
                meta.name.clone()
            } else {
                meta.id.to_string()
            },
            name: meta.name.clone(),
            owner: meta.owner.map(|owner| owner.id),
            group: resource.spec.group(),
            // What is on its way out is found under that word, whatever it was before.
            phase: match resource.is_deleting() {
                true => "deleting",
                false => S::phase(&resource.status),
            },
            expected: meta.resource_version,
            json: serde_json::to_string(resource)
                .expect("invariant: a resource has text keys and serialises"),
        }
    }
}

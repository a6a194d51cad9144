//! Traces: the writes and reads of them. The tables are in `sqlite/traces.rs`.

use std::collections::BTreeMap;

use lepton_types::trace::{Assessment, Trace, TraceSpan, Verdict};
use lepton_types::{Id, Name, Timestamp};

use crate::transaction::Write;
use crate::{Backend, Store, StoreError, Transaction};

/// A write of this module, on its way to disk.
#[derive(Debug)]
pub(crate) enum TraceWrite {
    Put {
        project: String,
        experiment: Id,
        trace: Box<Trace>,
    },
    Spans {
        project: String,
        spans: Vec<TraceSpan>,
    },
    Change {
        project: String,
        id: String,
        change: Box<TraceChange>,
    },
    RequireMaker {
        project: String,
        id: String,
        maker: String,
    },
    Delete {
        project: String,
        id: String,
    },
}

/// A change of a trace; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct TraceChange {
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Where it stands.
    pub state: Option<String>,
    /// Set over what was there.
    pub metadata: BTreeMap<String, String>,
    /// Set over what was there.
    pub tags: BTreeMap<String, String>,
    /// A tag that goes, and must be there.
    pub dropped_tag: Option<String>,
    /// What becomes of what was said of it.
    pub assessed: Option<AssessmentChange>,
}

/// A change of what is said of a trace.
#[derive(Debug, Clone)]
pub enum AssessmentChange {
    /// Something more.
    Add {
        /// What.
        assessment: Box<Assessment>,
        /// Bytes that all of a trace may have together.
        bytes_max: usize,
    },
    /// Something else; what is absent stays.
    Alter {
        /// Which.
        id: String,
        /// When.
        at: Timestamp,
        /// What it is about.
        name: Option<String>,
        /// What it says; of the same kind.
        verdict: Option<Verdict>,
        /// Why.
        rationale: Option<String>,
        /// Set over what was there.
        metadata: BTreeMap<String, String>,
        /// Bytes that all of a trace may have together.
        bytes_max: usize,
    },
    /// Nothing any more.
    TakeBack {
        /// Which.
        id: String,
    },
}

impl Transaction {
    /// Records what is known of a trace, together with what was recorded of it.
    pub fn merge_trace(&mut self, project: &Name, experiment: Id, trace: Trace) -> &mut Self {
        self.writes.push(Write::Trace(TraceWrite::Put {
            project: project.to_string(),
            experiment,
            trace: Box::new(trace),
        }));
        self
    }

    /// Changes a trace as it is when it is written; a conflict if it is not there.
    pub fn change_trace(&mut self, project: &Name, id: &str, change: TraceChange) -> &mut Self {
        self.writes.push(Write::Trace(TraceWrite::Change {
            project: project.to_string(),
            id: id.to_owned(),
            change: Box::new(change),
        }));
        self
    }

    /// A conflict if there is such a trace and somebody else made it.
    pub fn require_trace_maker(&mut self, project: &Name, id: &str, maker: &str) -> &mut Self {
        self.writes.push(Write::Trace(TraceWrite::RequireMaker {
            project: project.to_string(),
            id: id.to_owned(),
            maker: maker.to_owned(),
        }));
        self
    }

    /// Records steps of traces, each over what was recorded of it.
    pub fn put_spans(&mut self, project: &Name, spans: Vec<TraceSpan>) -> &mut Self {
        self.writes.push(Write::Trace(TraceWrite::Spans {
            project: project.to_string(),
            spans,
        }));
        self
    }

    /// Deletes a trace with its steps.
    pub fn delete_trace(&mut self, project: &Name, id: &str) -> &mut Self {
        self.writes.push(Write::Trace(TraceWrite::Delete {
            project: project.to_string(),
            id: id.to_owned(),
        }));
        self
    }
}

impl Store {
    /// A trace, and its experiment.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn trace(&self, project: &Name, id: &str) -> Result<Option<(Id, Trace)>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let (project, id) = (project.to_string(), id.to_owned());
        sqlite.read(move |reader| reader.trace(&project, &id)).await
    }

    /// The steps of a trace, in the order of their beginning, each as JSON; none if they have more than
    /// `bytes_max` bytes together.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn spans(
        &self,
        project: &Name,
        trace: &str,
        bytes_max: u64,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let (project, trace) = (project.to_string(), trace.to_owned());
        sqlite
            .read(move |reader| reader.spans(&project, &trace, bytes_max))
            .await
    }

    /// Traces of these experiments that began before `before`, newest first, at most `limit`; fewer
    /// where they are long, and none only where there are no more.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn traces(
        &self,
        project: &Name,
        experiments: Vec<Id>,
        before: Option<(Timestamp, String)>,
        limit: usize,
    ) -> Result<Vec<(Id, Trace)>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let project = project.to_string();
        sqlite
            .read(move |reader| reader.traces(&project, &experiments, before.as_ref(), limit))
            .await
    }
}

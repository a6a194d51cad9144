//! Traces: what a call to a model or an agent did, step by step, as its client tells it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One trace, without its spans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Its client's id: `tr-` and 32 hex digits, mostly.
    pub id: String,
    /// The client's own name for the request, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<String>,
    /// When it began.
    pub began_at: Timestamp,
    /// How many milliseconds it took; none while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<i64>,
    /// `OK`, `ERROR`, `IN_PROGRESS` or `STATE_UNSPECIFIED`.
    pub state: String,
    /// The beginning of what was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_preview: Option<String>,
    /// The beginning of what was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_preview: Option<String>,
    /// What does not change.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// What may.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl Trace {
    /// A trace of which nothing is known.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            id: String::new(),
            client_request_id: None,
            began_at: Timestamp::from_millis(0),
            took_ms: None,
            state: "STATE_UNSPECIFIED".to_owned(),
            request_preview: None,
            response_preview: None,
            metadata: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }
}

/// One step of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSpan {
    /// Its trace.
    pub trace: String,
    /// Its id within the trace.
    pub span: String,
    /// When it began, in nanoseconds since 1970.
    pub began_nanos: i64,
    /// All of it, as protobuf's JSON has it.
    pub body: String,
}

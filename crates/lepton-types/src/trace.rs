//! Traces: what a call to a model or an agent did, step by step, as its client tells it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Who told of it first; nothing where that was not recorded yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Whether its client has told all of it; what is gathered from its steps then gives way.
    #[serde(default)]
    pub complete: bool,
    /// What does not change.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// What may.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// What was said of it, in the order of saying.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assessments: Vec<Assessment>,
}

/// What somebody, or a program, said of a trace or of one of its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// Its id: `a-` and 32 hex digits.
    pub id: String,
    /// What it is about: `correctness`.
    pub name: String,
    /// The step that it is about; the whole trace where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<String>,
    /// `HUMAN`, `LLM_JUDGE`, `CODE`.
    pub source_type: String,
    /// Who of them.
    #[serde(default)]
    pub source_id: String,
    /// When it was said.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
    /// What was said.
    pub verdict: Verdict,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rationale: Option<String>,
    /// Whatever else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The one that it stands in the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<String>,
    /// Whether none stands in its place.
    pub valid: bool,
}

/// What an assessment says, in its client's own form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
// stored: never rename
pub enum Verdict {
    /// How good it was.
    Feedback(Value),
    /// How it should have been.
    Expectation(Value),
    /// A known fault that it shows.
    Issue(Value),
}

impl Verdict {
    /// Whether two say the same kind of thing.
    #[must_use]
    pub const fn is_like(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Feedback(_), Self::Feedback(_))
                | (Self::Expectation(_), Self::Expectation(_))
                | (Self::Issue(_), Self::Issue(_))
        )
    }
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
            created_by: String::new(),
            complete: false,
            metadata: BTreeMap::new(),
            tags: BTreeMap::new(),
            assessments: Vec::new(),
        }
    }

    /// The assessment of this id.
    #[must_use]
    pub fn assessment(&self, id: &str) -> Option<&Assessment> {
        self.assessments.iter().find(|known| known.id == id)
    }

    fn assessment_mut(&mut self, id: &str) -> Option<&mut Assessment> {
        self.assessments.iter_mut().find(|known| known.id == id)
    }

    /// Adds an assessment, in the place of the one that it overrides; whether that one is there.
    #[must_use]
    pub fn assess(&mut self, assessment: Assessment) -> bool {
        if let Some(other) = &assessment.overrides {
            match self.assessment_mut(other) {
                Some(other) => other.valid = false,
                None => return false,
            }
        }
        self.assessments.push(assessment);
        true
    }

    /// Takes an assessment back; the one that it overrode stands again. One that is not there is no fault.
    pub fn take_back(&mut self, id: &str) {
        let Some(at) = self.assessments.iter().position(|known| known.id == id) else {
            return;
        };
        let gone = self.assessments.remove(at);
        if let Some(other) = gone.overrides
            && let Some(other) = self.assessment_mut(&other)
        {
            other.valid = true;
        }
    }

    /// Changes an assessment by `change`, and says what that said; none if it is not there.
    pub fn reassess<T>(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Assessment) -> T,
    ) -> Option<T> {
        self.assessment_mut(id).map(change)
    }
}

impl Trace {
    /// What two who tell of one trace know together. Who knows all of it goes over who does not;
    /// of two who do, the later one. What is gathered from steps is kept as it was first told, and
    /// stands where the step that ended it says.
    #[must_use]
    pub fn merged(earlier: Self, later: Self) -> Self {
        let (maker, known_settled) = (earlier.created_by.clone(), earlier.is_settled());
        let gathered = !earlier.complete && !later.complete;
        let (mut over, under) = match later.complete || (gathered && !known_settled) {
            true => (later, earlier),
            false => (earlier, later),
        };
        let is_under_first = gathered && !known_settled;
        for (to, from) in [
            (&mut over.tags, under.tags),
            (&mut over.metadata, under.metadata),
        ] {
            for (key, value) in from {
                if is_under_first {
                    to.insert(key, value);
                } else {
                    to.entry(key).or_insert(value);
                }
            }
        }
        if gathered {
            over.began_at = over.began_at.min(under.began_at);
        }
        over.took_ms = over.took_ms.or(under.took_ms);
        over.request_preview = over.request_preview.or(under.request_preview);
        over.response_preview = over.response_preview.or(under.response_preview);
        over.created_by = maker;
        // What was said of it stays, whoever tells of it again.
        for assessment in under.assessments {
            if over.assessment(&assessment.id).is_none() {
                over.assessments.push(assessment);
            }
        }
        over.assessments
            .sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        over
    }

    /// Whether it is known how it ended.
    fn is_settled(&self) -> bool {
        matches!(self.state.as_str(), "OK" | "ERROR")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_client_tells_of_a_trace_stays_whoever_comes_first() {
        let tag = |key: &str| BTreeMap::from([(key.to_owned(), "1".to_owned())]);
        let told = Trace {
            state: "OK".to_owned(),
            complete: true,
            tags: tag("told"),
            ..Trace::empty()
        };
        let gathered = Trace {
            took_ms: Some(5),
            tags: tag("gathered"),
            ..Trace::empty()
        };
        for merged in [
            Trace::merged(told.clone(), gathered.clone()),
            Trace::merged(gathered, told),
        ] {
            assert_eq!((merged.state.as_str(), merged.took_ms), ("OK", Some(5)));
            assert_eq!(merged.tags.len(), 2);
        }
    }

    fn said(id: &str, overrides: Option<&str>) -> Assessment {
        Assessment {
            id: id.to_owned(),
            name: "correct".to_owned(),
            span: None,
            source_type: "HUMAN".to_owned(),
            source_id: "me".to_owned(),
            created_at: Timestamp::from_millis(1),
            updated_at: Timestamp::from_millis(1),
            verdict: Verdict::Feedback(true.into()),
            rationale: None,
            metadata: BTreeMap::new(),
            overrides: overrides.map(str::to_owned),
            valid: true,
        }
    }

    #[test]
    fn what_is_overridden_stands_again_when_that_is_taken_back() {
        let mut trace = Trace::empty();
        assert!(trace.assess(said("a-1", None)));
        assert!(!trace.assess(said("a-2", Some("a-9"))));
        assert!(trace.assess(said("a-3", Some("a-1"))));
        let valid = |trace: &Trace| -> Vec<bool> {
            trace.assessments.iter().map(|said| said.valid).collect()
        };
        assert_eq!(valid(&trace), [false, true]);
        trace.take_back("a-3");
        trace.take_back("a-3");
        assert_eq!(valid(&trace), [true]);
    }

    #[test]
    fn what_was_said_stays_whoever_tells_of_the_trace_again() {
        let (mut earlier, mut later) = (Trace::empty(), Trace::empty());
        assert!(earlier.assess(said("a-1", None)));
        for complete in [false, true] {
            later.complete = complete;
            let merged = Trace::merged(earlier.clone(), later.clone());
            assert_eq!(merged.assessments, earlier.assessments);
        }
        let old: Trace = serde_json::from_str(&serde_json::to_string(&later).unwrap()).unwrap();
        assert_eq!(old.assessments, []);
    }
}

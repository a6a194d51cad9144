//! Assessments: what people, judges and programs say of traces — feedback, and what was expected.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::Path;
use lepton_access::Access;
use lepton_store::{AssessmentChange, Conflict, TraceChange};
use lepton_types::Timestamp;
use lepton_types::resources::Kind;
use lepton_types::trace::{Assessment, Trace, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ask::{Ask, Visitor, given};
use super::error::{Answer, MlflowError, shown};
use super::rules::{KEY_CHARS_MAX, cut, in_calendar};
use super::traces::{bounded, change, find, parse_time};
use super::wire::Done;
use crate::app::App;

/// Bytes of all that is said of one trace.
const ASSESSMENTS_BYTES_MAX: usize = 256 << 10;

/// Characters of a rationale.
const RATIONALE_CHARS_MAX: usize = 65_535;

/// An assessment in the words of MLflow 3.
#[derive(Debug, Serialize, Deserialize, Default)]
#[serde(default)]
pub(super) struct AssessmentWire {
    #[serde(skip_serializing_if = "Option::is_none")]
    assessment_id: Option<String>,
    assessment_name: String,
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    source: Source,
    create_time: String,
    last_update_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    feedback: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expectation: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issue: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rationale: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overrides: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<bool>,
}

#[derive(Debug, Serialize, Deserialize, Default)]
#[serde(default)]
struct Source {
    source_type: String,
    source_id: String,
}

impl AssessmentWire {
    /// What was said of a trace.
    pub(super) fn of(assessment: &Assessment, trace: &str) -> Self {
        let said = assessment.clone();
        let time = |at: Timestamp| in_calendar(at).to_string();
        let (mut feedback, mut expectation, mut issue) = (None, None, None);
        match said.verdict {
            Verdict::Feedback(value) => feedback = Some(value),
            Verdict::Expectation(value) => expectation = Some(value),
            Verdict::Issue(value) => issue = Some(value),
        }
        Self {
            assessment_id: Some(said.id),
            assessment_name: said.name,
            trace_id: trace.to_owned(),
            span_id: said.span,
            source: Source {
                source_type: said.source_type,
                source_id: said.source_id,
            },
            create_time: time(said.created_at),
            last_update_time: time(said.updated_at),
            feedback,
            expectation,
            issue,
            rationale: said.rationale,
            metadata: said.metadata,
            overrides: said.overrides,
            valid: Some(said.valid),
        }
    }

    /// What a client says, under an id of its own.
    pub(super) fn read(self, id: String, now: Timestamp) -> Result<Assessment, MlflowError> {
        let time = |text: &str| match text {
            "" => Ok(now),
            text => parse_time(text).ok_or_else(|| {
                MlflowError::invalid(format!("Invalid time of an assessment: '{}'", shown(text)))
            }),
        };
        if self.assessment_name.is_empty() {
            return Err(MlflowError::required("assessment_name"));
        }
        Ok(Assessment {
            id,
            created_at: time(&self.create_time)?,
            updated_at: time(&self.last_update_time)?,
            verdict: verdict(self.feedback, self.expectation, self.issue)?.ok_or_else(|| {
                MlflowError::invalid(
                    "Exactly one of `expectation`, `feedback`, or `issue` should be specified.",
                )
            })?,
            name: cut(self.assessment_name, KEY_CHARS_MAX),
            span: self.span_id.filter(|id| !id.is_empty()).map(short),
            source_type: short(self.source.source_type),
            source_id: short(self.source.source_id),
            rationale: self.rationale.filter(|text| !text.is_empty()).map(long),
            metadata: bounded(self.metadata)?,
            overrides: self.overrides.filter(|id| !id.is_empty()).map(short),
            valid: true,
        })
    }
}

/// What comes with a trace that is told of whole.
pub(super) fn read_all(
    app: &App,
    said: Vec<AssessmentWire>,
) -> Result<Vec<Assessment>, MlflowError> {
    let read = |said: AssessmentWire| {
        let given = said.assessment_id.clone().filter(|id| !id.is_empty());
        let id = given.unwrap_or_else(|| format!("a-{}", app.ids.next_id()));
        let valid = said.valid.unwrap_or(true);
        let said = said.read(short(id), app.now())?;
        Ok(Assessment { valid, ..said })
    };
    let mut said: Vec<Assessment> = said
        .into_iter()
        .map(read)
        .collect::<Result<_, MlflowError>>()?;
    said.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let text = serde_json::to_string(&said).expect("invariant: texts serialise");
    match text.len() <= ASSESSMENTS_BYTES_MAX {
        true => Ok(said),
        false => Err(MlflowError::invalid(
            Conflict::TooManyAssessments.to_string(),
        )),
    }
}

fn short(text: String) -> String {
    cut(text, KEY_CHARS_MAX)
}

fn long(text: String) -> String {
    cut(text, RATIONALE_CHARS_MAX)
}

fn verdict(
    feedback: Option<Value>,
    expectation: Option<Value>,
    issue: Option<Value>,
) -> Result<Option<Verdict>, MlflowError> {
    let said = [
        feedback.map(Verdict::Feedback),
        expectation.map(Verdict::Expectation),
        issue.map(Verdict::Issue),
    ];
    let mut said = said.into_iter().flatten();
    match (said.next(), said.next()) {
        (said, None) => Ok(said),
        (_, Some(_)) => Err(MlflowError::invalid(
            "Exactly one of `expectation` or `feedback` should be specified.",
        )),
    }
}

#[derive(Serialize)]
pub(super) struct One {
    assessment: AssessmentWire,
}

/// What is said of a trace now.
async fn one(visitor: &Visitor, trace: &str, id: &str) -> Answer<One> {
    let (_, found) = find(visitor, trace).await?;
    told(&found, id)
}

fn told(trace: &Trace, id: &str) -> Answer<One> {
    let assessment = trace.assessment(id).ok_or_else(|| {
        MlflowError::missing(format!(
            "Assessment with ID '{}' not found for trace '{}'",
            shown(id),
            shown(&trace.id)
        ))
    })?;
    Ok(Json(One {
        assessment: AssessmentWire::of(assessment, &trace.id),
    }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Said {
    assessment: Option<AssessmentWire>,
    update_mask: Option<String>,
}

pub(super) async fn create(
    visitor: Visitor,
    Path(trace): Path<String>,
    Ask(ask): Ask<Said>,
) -> Answer<One> {
    let said = ask
        .assessment
        .ok_or_else(|| MlflowError::required("assessment"))?;
    let id = format!("a-{}", visitor.app.ids.next_id());
    let assessment = said.read(id.clone(), visitor.app.now())?;
    let assessed = AssessmentChange::Add {
        assessment: Box::new(assessment),
        bytes_max: ASSESSMENTS_BYTES_MAX,
    };
    assess(&visitor, &trace, assessed).await?;
    one(&visitor, &trace, &id).await
}

async fn assess(
    visitor: &Visitor,
    trace: &str,
    assessed: AssessmentChange,
) -> Result<(), MlflowError> {
    let of_trace = TraceChange {
        assessed: Some(assessed),
        ..TraceChange::default()
    };
    change(visitor, trace, of_trace).await
}

pub(super) async fn get(
    visitor: Visitor,
    Path((trace, id)): Path<(String, String)>,
) -> Answer<One> {
    visitor.may(Access::Read, Kind::Experiment)?;
    one(&visitor, &trace, &id).await
}

/// Changes what the mask names.
pub(super) async fn update(
    visitor: Visitor,
    Path((trace, id)): Path<(String, String)>,
    Ask(ask): Ask<Said>,
) -> Answer<One> {
    let said = ask
        .assessment
        .ok_or_else(|| MlflowError::required("assessment"))?;
    let mask = ask.update_mask.unwrap_or_default();
    // protobuf's JSON names fields in its own way.
    let names = |field: &str, other: &str| mask.split(',').any(|it| it == field || it == other);
    let verdict = verdict(
        said.feedback.filter(|_| names("feedback", "feedback")),
        said.expectation
            .filter(|_| names("expectation", "expectation")),
        None,
    )?;
    let is_named = names("assessment_name", "assessmentName");
    let assessed = AssessmentChange::Alter {
        id: id.clone(),
        at: visitor.app.now(),
        name: given(Some(&said.assessment_name).filter(|_| is_named))
            .map(|name| short(name.to_owned())),
        verdict,
        rationale: said
            .rationale
            .filter(|_| names("rationale", "rationale"))
            .map(long),
        metadata: match names("metadata", "metadata") {
            true => bounded(said.metadata)?,
            false => BTreeMap::new(),
        },
        bytes_max: ASSESSMENTS_BYTES_MAX,
    };
    assess(&visitor, &trace, assessed).await?;
    one(&visitor, &trace, &id).await
}

pub(super) async fn delete(
    visitor: Visitor,
    Path((trace, id)): Path<(String, String)>,
) -> Answer<Done> {
    assess(&visitor, &trace, AssessmentChange::TakeBack { id }).await?;
    Ok(Json(Done {}))
}

//! What traces are searched by: what is known of them, and what was said of them.

use lepton_store::Test;
use lepton_types::trace::{Assessment, Trace, Verdict};
use serde_json::Value;

use super::error::{MlflowError, shown};
use super::filter::{Comparison, Literal, More, Operator};
use super::traces::NAME_TAG;

/// Whether a comparison holds, or why it cannot be asked.
pub(super) fn holds(comparison: &Comparison, trace: &Trace) -> Result<bool, MlflowError> {
    let text = |value: Option<&str>| -> Result<bool, MlflowError> {
        let test: Test = comparison.text_test(More::Absence)?;
        Ok(test.holds_for_text(value))
    };
    #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
    let number = |value: Option<i64>| -> Result<bool, MlflowError> {
        let test = comparison.number_test()?;
        Ok(test.holds_for_number(value.map(|value| value as f64)))
    };
    let key = comparison.key.as_str();
    let metadata = |key: &str| trace.metadata.get(key).map(String::as_str);
    match (comparison.entity.as_deref(), key) {
        (Some("tag" | "tags"), key) => text(trace.tags.get(key).map(String::as_str)),
        (Some("metadata" | "request_metadata" | "trace_metadata"), key) => text(metadata(key)),
        (None | Some("attribute" | "attributes" | "attr" | "trace"), key) => match key {
            "status" | "state" => text(Some(&trace.state)),
            "name" | "trace_name" => text(trace.tags.get(NAME_TAG).map(String::as_str)),
            "request_id" | "trace_id" => text(Some(&trace.id)),
            "run_id" => text(metadata("mlflow.sourceRun")),
            "client_request_id" => text(trace.client_request_id.as_deref()),
            "timestamp" | "timestamp_ms" | "request_time" => {
                number(Some(trace.began_at.as_millis()))
            }
            "execution_time" | "execution_time_ms" | "execution_duration" => number(trace.took_ms),
            key => Err(MlflowError::invalid(format!(
                "Invalid attribute key '{}' of traces",
                shown(key)
            ))),
        },
        (Some("feedback" | "expectation"), _) => said(comparison, trace),
        (Some("issue"), "id") => shows_issue(comparison, trace),
        (Some(entity), _) => Err(MlflowError::invalid(format!(
            "Invalid entity type '{}' of traces. Valid values are tag, metadata, \
             attribute, feedback, expectation and issue",
            shown(entity)
        ))),
    }
}

/// Whether a feedback or an expectation of that name, in the place of which none stands, says so. Texts are
/// compared with what was said as JSON has it: `'true'`, `'3'`, and a text with its quotes or without.
fn said(comparison: &Comparison, trace: &Trace) -> Result<bool, MlflowError> {
    let is_feedback = comparison.entity.as_deref() == Some("feedback");
    let of_kind = |said: &&Assessment| match &said.verdict {
        Verdict::Feedback(_) => is_feedback,
        Verdict::Expectation(_) => !is_feedback,
        Verdict::Issue(_) => false,
    };
    let of_name = |said: &&Assessment| said.valid && said.name == comparison.key;
    let mut values = trace
        .assessments
        .iter()
        .filter(of_kind)
        .filter(of_name)
        .map(|said| value_of(&said.verdict));
    Ok(match comparison.operator {
        Operator::IsNull => values.next().is_none(),
        Operator::IsNotNull => values.next().is_some(),
        Operator::Equals | Operator::Differs => {
            // What is refused of any text is refused here, too.
            comparison.text_test(More::Nothing)?;
            let Literal::Text(wanted) = &comparison.value else {
                return Ok(false);
            };
            let quoted = Value::from(wanted.as_str()).to_string();
            let is_equal = |value: Value| {
                let text = value.to_string();
                text == *wanted || text == quoted
            };
            let wants_equal = comparison.operator == Operator::Equals;
            values.any(|value| is_equal(value) == wants_equal)
        }
        Operator::Above | Operator::AtLeast | Operator::Below | Operator::AtMost => {
            let test = comparison.number_test()?;
            values.any(|value| value.is_number() && test.holds_for_number(value.as_f64()))
        }
        _ => {
            let test = comparison.text_test(More::Nothing)?;
            values.any(|value| test.holds_for_text(Some(&value.to_string())))
        }
    })
}

/// What was said, as it was meant: what no field holds is sent as a text of JSON.
fn value_of(verdict: &Verdict) -> Value {
    let (Verdict::Feedback(told) | Verdict::Expectation(told) | Verdict::Issue(told)) = verdict;
    match told["serialized_value"]["value"].as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        None => told["value"].clone(),
    }
}

/// Whether a trace shows this fault, by its id.
fn shows_issue(comparison: &Comparison, trace: &Trace) -> Result<bool, MlflowError> {
    let test = comparison.text_test(More::Nothing)?;
    let issues = trace.assessments.iter().filter(|said| said.valid);
    let mut issues = issues.filter(|said| matches!(said.verdict, Verdict::Issue(_)));
    Ok(issues.any(|said| test.holds_for_text(Some(&said.name))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lepton_types::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::mlflow::filter::parse;

    fn assessed(name: &str, verdict: Verdict, valid: bool) -> Assessment {
        let at = Timestamp::from_millis(1);
        Assessment {
            id: format!("a-{name}"),
            name: name.to_owned(),
            span: None,
            source_type: "HUMAN".to_owned(),
            source_id: "me".to_owned(),
            created_at: at,
            updated_at: at,
            verdict,
            rationale: None,
            metadata: BTreeMap::new(),
            overrides: None,
            valid,
        }
    }

    #[test]
    fn traces_are_found_by_what_was_said_of_them() {
        let feedback = |value: Value| Verdict::Feedback(json!({"value": value}));
        let list = json!({"serialized_value": {"value": "[1, 2]"}});
        let mut trace = Trace::empty();
        trace.assessments = vec![
            assessed("right", feedback(false.into()), false),
            assessed("right", feedback(true.into()), true),
            assessed("score", feedback(0.25.into()), true),
            assessed("tone", feedback("kind words".into()), true),
            assessed("facts", Verdict::Expectation(list), true),
            assessed("issue-7", Verdict::Issue(json!({})), true),
        ];
        let found = |filter: &str| {
            let comparison = parse(filter).unwrap().remove(0);
            holds(&comparison, &trace).map_err(|_| ())
        };
        for yes in [
            "feedback.right = 'true'",
            "feedback.right != 'false'",
            "feedback.score > 0.2",
            "feedback.tone = 'kind words'",
            "feedback.tone LIKE '%kind%'",
            "feedback.tone IS NOT NULL",
            "feedback.facts IS NULL",
            "expectation.facts = '[1,2]'",
            "issue.id = 'issue-7'",
        ] {
            assert_eq!(found(yes), Ok(true), "{yes}");
        }
        for no in [
            "feedback.right = 'false'",
            "feedback.right > 0",
            "feedback.score <= 0.2",
            "feedback.other != 'x'",
            "expectation.score IS NOT NULL",
            "issue.id = 'tone'",
        ] {
            assert_eq!(found(no), Ok(false), "{no}");
        }
        for refused in [
            "feedback.score = 0.25",
            "feedback.score > '0.2'",
            "feedback.score IN ('a')",
            "issue.name = 'x'",
            "issue.id > 1",
        ] {
            assert_eq!(found(refused), Err(()), "{refused}");
        }
    }
}

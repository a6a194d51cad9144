//! What registered models and their versions are searched by.

use std::collections::BTreeMap;

use lepton_store::Test;

use super::{Comparison, Literal, More, Operator, parse};
use crate::mlflow::error::{MlflowError, shown};

/// The tag that tells a prompt from a model. Prompts are only found by who asks for them.
pub(in crate::mlflow) const IS_PROMPT_TAG: &str = "mlflow.prompt.is_prompt";

/// What must hold of a model or a version.
pub(in crate::mlflow) struct Wanted {
    comparisons: Vec<(Subject, Test)>,
    prompts: bool,
}

enum Subject {
    Text(String),
    Number(String),
    Tag(String),
}

/// The one attribute that is a number.
const NUMBERS: [&str; 1] = ["version_number"];

impl Wanted {
    /// Reads a filter over `attributes` and tags.
    pub(in crate::mlflow) fn read(filter: &str, attributes: &[&str]) -> Result<Self, MlflowError> {
        let parsed = parse(filter)?;
        let prompts = parsed.iter().any(asks_for_prompts);
        let mut comparisons = Vec::with_capacity(parsed.len());
        for comparison in &parsed {
            let key = comparison.key.clone();
            match comparison.entity.as_deref() {
                // Asking for what is found anyway.
                Some("tag" | "tags") if key == IS_PROMPT_TAG => {
                    comparison.text_test(More::Nothing)?;
                }
                Some("tag" | "tags") => {
                    comparisons.push((Subject::Tag(key), comparison.text_test(More::Nothing)?));
                }
                None | Some("attribute") if attributes.contains(&key.as_str()) => {
                    comparisons.push(attribute(comparison, key)?);
                }
                None | Some("attribute") => {
                    return Err(MlflowError::invalid(format!(
                        "Invalid attribute key '{}' specified. Valid keys are {}",
                        shown(&key),
                        attributes.join(", ")
                    )));
                }
                Some(other) => {
                    return Err(MlflowError::invalid(format!(
                        "Invalid entity type '{}'. Valid entity types are ('attribute', 'tag', \
                         'tags')",
                        shown(other)
                    )));
                }
            }
        }
        Ok(Self {
            comparisons,
            prompts,
        })
    }

    /// Whether prompts are looked for, or what is none.
    pub(in crate::mlflow) const fn takes(&self, is_prompt: bool) -> bool {
        self.prompts == is_prompt
    }

    /// Whether all of it holds.
    pub(in crate::mlflow) fn holds(
        &self,
        text: impl Fn(&str) -> Option<String>,
        number: impl Fn(&str) -> Option<f64>,
        tags: &BTreeMap<String, String>,
    ) -> bool {
        self.comparisons
            .iter()
            .all(|(subject, test)| match subject {
                Subject::Text(key) => test.holds_for_text(text(key).as_deref()),
                Subject::Number(key) => test.holds_for_number(number(key)),
                Subject::Tag(key) => test.holds_for_text(tags.get(key).map(String::as_str)),
            })
    }
}

fn attribute(comparison: &Comparison, key: String) -> Result<(Subject, Test), MlflowError> {
    if NUMBERS.contains(&key.as_str()) {
        return Ok((Subject::Number(key), comparison.whole_test()?));
    }
    let more = match key.as_str() {
        "name" | "run_id" => More::Lists,
        _ => More::Nothing,
    };
    let test = comparison.text_test(more)?;
    Ok((Subject::Text(key), test))
}

fn asks_for_prompts(comparison: &Comparison) -> bool {
    let Literal::Text(text) = &comparison.value else {
        return false;
    };
    let on_tag = matches!(comparison.entity.as_deref(), Some("tag" | "tags"));
    let yes = match comparison.operator {
        Operator::Equals => text.eq_ignore_ascii_case("true"),
        Operator::Differs => text.eq_ignore_ascii_case("false"),
        _ => false,
    };
    on_tag && comparison.key == IS_PROMPT_TAG && yes
}

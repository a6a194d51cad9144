//! What MLflow allows in keys, values and names.

use std::collections::BTreeMap;

use lepton_types::Timestamp;

use super::error::{MlflowError, shown};

/// Characters of a key.
pub(super) const KEY_CHARS_MAX: usize = 250;
/// Characters of a parameter's value; what is longer is cut, as MLflow does.
pub(super) const PARAM_CHARS_MAX: usize = 6_000;
/// Characters of a run's tag; what is longer is cut, as MLflow does.
pub(super) const TAG_CHARS_MAX: usize = 8_000;
/// Characters of an experiment's tag.
const EXPERIMENT_TAG_CHARS_MAX: usize = 20_000;
/// Characters of a tag in the registry.
const REGISTRY_TAG_CHARS_MAX: usize = 100_000;
/// Characters of an experiment's name.
const EXPERIMENT_NAME_CHARS_MAX: usize = 500;

/// Refuses a key of a metric, a parameter or a tag that MLflow refuses: `path` says where it was.
pub(super) fn check_key(key: &str, path: &str) -> Result<(), MlflowError> {
    let refuse = |why: &str| {
        let key = shown(key);
        Err(MlflowError::invalid(format!(
            "Invalid value \"{key}\" for parameter '{path}' supplied: {why}"
        )))
    };
    let fits = |c: char| c.is_alphanumeric() || "_-. :/".contains(c);
    if !key.chars().all(fits) {
        return refuse(
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), \
             spaces ( ), colon(:) and slashes (/).",
        );
    }
    if !is_own_path(key) {
        return refuse(
            "Names may be treated as files in certain cases, and must not resolve to other names \
             when treated as such.",
        );
    }
    check_length(key, KEY_CHARS_MAX, path)
}

/// From the first millisecond of the year 1 to two days before the year 10000: what every client can
/// write down, in any zone.
const CALENDAR: (i64, i64) = (-62_135_596_800_000, 253_402_207_200_000);

/// A time that clients can read; what is beyond them is refused.
pub(super) fn check_time(millis: i64, what: &str) -> Result<Timestamp, MlflowError> {
    match (CALENDAR.0..=CALENDAR.1).contains(&millis) {
        true => Ok(Timestamp::from_millis(millis)),
        false => Err(MlflowError::invalid(format!(
            "Invalid value {millis} for parameter '{what}' supplied: a time is in milliseconds \
             since 1970, within the years 1 to 9999"
        ))),
    }
}

/// The nearest time that clients can read.
pub(super) fn in_calendar(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis().clamp(CALENDAR.0, CALENDAR.1))
}

/// Whether a name, taken for a path, means itself.
pub(super) fn is_own_path(name: &str) -> bool {
    !name.starts_with("..")
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Refuses a text that is longer than `most` characters.
pub(super) fn check_length(text: &str, most: usize, what: &str) -> Result<(), MlflowError> {
    // A character takes at least one byte, so short texts need no counting.
    if text.len() <= most || text.chars().count() <= most {
        return Ok(());
    }
    Err(MlflowError::invalid(format!(
        "'{what}' exceeds the maximum length of {most} characters"
    )))
}

/// The first `most` characters.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most
        && let Some((at, _)) = text.char_indices().nth(most)
    {
        text.truncate(at);
    }
    text
}

/// Refuses an experiment's tag that MLflow refuses.
pub(super) fn check_experiment_tag(key: &str, value: &str) -> Result<(), MlflowError> {
    check_key(key, "key")?;
    check_length(value, EXPERIMENT_TAG_CHARS_MAX, "value")
}

/// Refuses a tag of a model or a version that MLflow refuses.
pub(super) fn check_registry_tag(key: &str, value: &str) -> Result<(), MlflowError> {
    check_key(key, "key")?;
    check_length(value, REGISTRY_TAG_CHARS_MAX, "value")
}

/// Bytes of all tags of one experiment, model or version: they are read with it.
const TAGS_BYTES_MAX: usize = 1 << 20;

/// Characters of a description.
const DESCRIPTION_CHARS_MAX: usize = 100_000;

/// Refuses a tag beside which the others would be too much.
pub(super) fn check_all_tags(
    tags: &BTreeMap<String, String>,
    key: &str,
    value: &str,
) -> Result<(), MlflowError> {
    let others = tags.iter().filter(|(other, _)| *other != key);
    let others: usize = others.map(|(key, value)| key.len() + value.len()).sum();
    match others + key.len() + value.len() <= TAGS_BYTES_MAX {
        true => Ok(()),
        false => Err(MlflowError::invalid(format!(
            "The tags of one resource take at most {TAGS_BYTES_MAX} bytes"
        ))),
    }
}

/// Refuses a description that is a book.
pub(super) fn check_description(text: Option<&String>) -> Result<(), MlflowError> {
    let text = text.map_or("", String::as_str);
    check_length(text, DESCRIPTION_CHARS_MAX, "description")
}

/// Refuses a name that no experiment can have.
pub(super) fn check_experiment_name(name: &str) -> Result<(), MlflowError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(MlflowError::invalid(format!(
            "Invalid experiment name: '{}'",
            shown(name)
        )));
    }
    check_length(name, EXPERIMENT_NAME_CHARS_MAX, "name")
}

/// Refuses a name that no run can have.
pub(super) fn check_run_name(name: &str) -> Result<(), MlflowError> {
    if name.chars().any(char::is_control) {
        return Err(MlflowError::invalid(
            "The name of a run has no control characters",
        ));
    }
    check_length(name, KEY_CHARS_MAX, "run_name")
}

/// Refuses a name that no logged model can have.
pub(super) fn check_logged_model_name(name: &str) -> Result<(), MlflowError> {
    let bad = |c: char| "/:.%\"'".contains(c) || c.is_control();
    if name.is_empty() || name.chars().any(bad) {
        return Err(MlflowError::invalid(format!(
            "Invalid model name ({}) provided. Model name must be a non-empty string and cannot \
             contain the following characters: / : . % \" '",
            shown(name)
        )));
    }
    check_length(name, EXPERIMENT_NAME_CHARS_MAX, "name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked_as_mlflow_checks_them() {
        for good in ["loss", "val/acc", "a b", "α", "a:b", "mlflow.user", "..."] {
            let expected = !good.starts_with("..");
            assert_eq!(check_key(good, "key").is_ok(), expected, "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "/a",
            "a/",
            "a//b",
            "a/./b",
            "a$",
            "a\n",
            &"x".repeat(251),
        ] {
            assert!(check_key(bad, "key").is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_of_years_that_have_four_digits() {
        for (millis, expected) in [
            (0, true),
            (CALENDAR.0, true),
            (CALENDAR.0 - 1, false),
            (CALENDAR.1, true),
            (CALENDAR.1 + 1, false),
            (i64::MAX, false),
            (i64::MIN, false),
        ] {
            assert_eq!(check_time(millis, "t").is_ok(), expected, "{millis}");
            let shown = in_calendar(Timestamp::from_millis(millis)).to_string();
            assert!(shown.ends_with('Z'), "{shown}");
        }
    }

    #[test]
    fn tags_are_bounded_together() {
        let tags = BTreeMap::from([("a".to_owned(), "x".repeat(TAGS_BYTES_MAX - 3))]);
        assert!(check_all_tags(&tags, "b", "y").is_ok());
        assert!(check_all_tags(&tags, "b", "yy").is_err());
        assert!(check_all_tags(&tags, "a", "yy").is_ok());
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("äöü".to_owned(), 2), "äö");
        assert_eq!(cut("ab".to_owned(), 2), "ab");
    }
}

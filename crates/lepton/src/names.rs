//! Names that are not there, and those that were perhaps meant.

use lepton_types::resources::Kind;

/// Nothing has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Unknown {
    message: String,
}

/// Beyond this many a list of names helps nobody.
const NAMES_MAX: usize = 5;

impl Unknown {
    /// `known` are the names that exist.
    pub(crate) fn new(kind: &str, name: &str, known: &[String]) -> Self {
        let head = format!("no {kind} is called `{name}`");
        let near = near(name, known);
        let message = if known.is_empty() {
            format!("{head}, and there is no other")
        } else if !near.is_empty() {
            format!("{head}: did you mean {}?", quoted(&near, "or"))
        } else if known.len() <= NAMES_MAX || kind.parse::<Kind>().is_err() {
            // What is no kind of resource cannot be listed by `get`.
            let all: Vec<_> = known.iter().map(String::as_str).collect();
            format!("{head}: there is {}", quoted(&all, "and"))
        } else {
            format!("{head}: `lepton get {kind}` shows what there is")
        };
        Self { message }
    }
}

/// Known names within a third of the name's length in edits, nearest first.
fn near<'a>(name: &str, known: &'a [String]) -> Vec<&'a str> {
    let bound = (name.chars().count() / 3).max(1);
    let mut scored: Vec<_> = known
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(name, candidate),
                candidate.as_str(),
            )
        })
        .filter(|(distance, candidate)| *distance <= bound || candidate.starts_with(name))
        .collect();
    scored.sort_unstable();
    scored.dedup();
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

fn quoted(names: &[&str], last: &str) -> String {
    let ticked: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match ticked.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [init @ .., end] => format!("{} {last} {end}", init.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, known: &[&str]) -> String {
        let known: Vec<_> = known.iter().map(ToString::to_string).collect();
        Unknown::new("endpoint", name, &known).to_string()
    }

    #[test]
    fn near_names_are_offered() {
        insta::assert_snapshot!(message("wien", &["wine", "digits"]), @"no endpoint is called `wien`: did you mean `wine`?");
        insta::assert_snapshot!(message("wine", &["digits", "cancer"]), @"no endpoint is called `wine`: there is `digits` and `cancer`");
        insta::assert_snapshot!(message("wine", &[]), @"no endpoint is called `wine`, and there is no other");
        let codes = ["a1", "b1", "c1", "d1", "e1", "f1"].map(str::to_owned);
        let told = Unknown::new("error code", "wine", &codes).to_string();
        assert!(
            told.ends_with("there is `a1`, `b1`, `c1`, `d1`, `e1` and `f1`"),
            "{told}"
        );
        insta::assert_snapshot!(
            message("wine", &["a1", "b1", "c1", "d1", "e1", "f1"]),
            @"no endpoint is called `wine`: `lepton get endpoint` shows what there is"
        );
    }
}

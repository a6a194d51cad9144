//! Names that people choose.

use std::fmt;
use std::str::FromStr;

use crate::ids::serde_as_text;

/// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, not at either end (RFC 1123).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A name as MLflow allows it for experiments and models: 1 to 500 characters,
/// no control characters, no `/` or `:`, and neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FreeName(String);

/// A name that points at a version of a model, as MLflow allows it: 1 to 255 of letters, digits,
/// `_` and `-`; neither `latest` nor a `v` with a number, which mean versions themselves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AliasName(String);

/// A text that is no name of the wanted sort.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid name: {rule}")]
pub struct ParseNameError {
    /// The first 64 characters of what was given, control characters escaped.
    pub text: String,
    /// What a valid name looks like.
    pub rule: &'static str,
}

const NAME_RULE: &str =
    "use 1 to 63 of the characters a-z, 0-9 and -, not beginning or ending with -";
const FREE_NAME_RULE: &str =
    "use 1 to 500 characters without control characters, `/` or `:`, and not `.` or `..`";

const ALIAS_RULE: &str = "use 1 to 255 letters, digits, _ and -, and neither `latest` nor `v1`";

/// The bound that MLflow's clients were seen to respect.
const FREE_NAME_CHARS_MAX: usize = 500;

impl Name {
    /// The project that exists from the first start.
    #[must_use]
    pub fn default_project() -> Self {
        Self("default".to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FreeName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AliasName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AliasName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let number = text.strip_prefix(['v', 'V']);
        let is_version =
            number.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()));
        let inner = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let valid = !text.is_empty()
            && text.chars().count() <= 255
            && text.chars().all(inner)
            && !text.eq_ignore_ascii_case("latest")
            && !is_version;
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse(text, ALIAS_RULE))
        }
    }
}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let valid = (1..=63).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse(text, NAME_RULE))
        }
    }
}

impl FromStr for FreeName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let valid = !text.is_empty()
            && text.chars().count() <= FREE_NAME_CHARS_MAX
            && !text.chars().any(|c| c.is_control() || c == '/' || c == ':')
            && text != "."
            && text != ".."
            && text.trim() == text;
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse(text, FREE_NAME_RULE))
        }
    }
}

fn refuse(text: &str, rule: &'static str) -> ParseNameError {
    ParseNameError {
        text: text.chars().take(64).flat_map(char::escape_debug).collect(),
        rule,
    }
}

impl From<Name> for FreeName {
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

macro_rules! text_impls {
    ($($name:ident: $expected:literal),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        serde_as_text!($name, $expected);
    )+};
}

text_impls!(
    Name: "a DNS label",
    FreeName: "1 to 500 characters without `/` and `:`",
    AliasName: "1 to 255 letters, digits, `_` and `-`"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "default", "breast-cancer", "0", &"x".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "../etc",
            "a.b",
            "ü",
            &"x".repeat(64),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn aliases_never_look_like_versions() {
        for good in ["champion", "Best_1", "v1-final", "v"] {
            assert!(good.parse::<AliasName>().is_ok(), "{good}");
        }
        for bad in ["", "latest", "Latest", "v12", "V3", "a b", "a/b", "@"] {
            assert!(bad.parse::<AliasName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn free_names_allow_what_mlflow_allows_and_no_path() {
        for good in ["My Model", "a_b.c", "日本語"] {
            assert!(good.parse::<FreeName>().is_ok(), "{good}");
        }
        for bad in ["", "a/b", "../x", "..", "a:b", "a\nb", " a"] {
            assert!(bad.parse::<FreeName>().is_err(), "{bad}");
        }
    }
}

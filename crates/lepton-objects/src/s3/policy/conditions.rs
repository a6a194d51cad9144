//! Conditions of policies: operators, keys, and when they hold.

use s3s::S3Result;
use serde_json::Value;

use super::super::gate::Holder;
use super::super::patterns::{form_pairs, is_like};
use super::{Asked, OneOrMany, malformed};

/// One key of one operator, and the values that it is held against.
#[derive(Debug)]
pub(super) struct Condition {
    operator: Operator,
    /// Whether an absent value passes.
    if_exists: bool,
    key: Key,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equals,
    EqualsIgnoringCase,
    Like,
    NotEquals,
    NotEqualsIgnoringCase,
    NotLike,
    Null,
}

#[derive(Debug)]
enum Key {
    /// A parameter of the query: `s3:prefix`.
    Query(&'static str),
    /// A header of the request: `s3:x-amz-acl`.
    Header(String),
    /// A tag of the object that is there.
    ExistingTag(String),
    /// A tag that the request brings.
    RequestTag(String),
    /// The holder's name.
    UserName,
}

impl Condition {
    pub(super) fn of(operator: &str, keys: Value) -> S3Result<Vec<Self>> {
        let (word, if_exists) = match operator.strip_suffix("IfExists") {
            Some(word) => (word, true),
            None => (operator, false),
        };
        let operator = match word {
            "StringEquals" => Operator::Equals,
            "StringEqualsIgnoreCase" => Operator::EqualsIgnoringCase,
            "StringLike" => Operator::Like,
            "StringNotEquals" => Operator::NotEquals,
            "StringNotEqualsIgnoreCase" => Operator::NotEqualsIgnoringCase,
            "StringNotLike" => Operator::NotLike,
            "Null" => Operator::Null,
            _ => return Err(malformed("Policy has an unsupported condition")),
        };
        let Value::Object(keys) = keys else {
            return Err(malformed("Policy has an invalid condition"));
        };
        let mut conditions = Vec::new();
        for (key, values) in keys {
            let values: OneOrMany<Value> = serde_json::from_value(values)
                .map_err(|_| malformed("Policy has an invalid condition"))?;
            let text = |value: Value| match value {
                Value::String(text) => Ok(text),
                Value::Bool(truth) => Ok(truth.to_string()),
                Value::Number(number) => Ok(number.to_string()),
                _ => Err(malformed("Policy has an invalid condition")),
            };
            conditions.push(Self {
                operator,
                if_exists,
                key: Key::of(&key)?,
                values: values
                    .into_vec()
                    .into_iter()
                    .map(text)
                    .collect::<S3Result<_>>()?,
            });
        }
        Ok(conditions)
    }

    /// Whether it must be told the tags of the object that is there.
    pub(super) fn reads_tags(&self) -> bool {
        matches!(self.key, Key::ExistingTag(_))
    }

    /// Whether it holds for none but holders that it names.
    pub(super) fn names_holders(&self) -> bool {
        let names = |value: &String| !value.contains(['*', '?']);
        matches!(self.key, Key::UserName)
            && matches!(
                self.operator,
                Operator::Equals | Operator::EqualsIgnoringCase | Operator::Like
            )
            && !self.if_exists
            && self.values.iter().all(names)
    }

    pub(super) fn holds(
        &self,
        holder: Option<&Holder>,
        asked: &Asked<'_>,
        tags: &[(String, String)],
    ) -> bool {
        let found = self.key.find(holder, asked, tags);
        if self.operator == Operator::Null {
            let absent = found.is_none().to_string();
            return self.values.contains(&absent);
        }
        let Some(found) = found else {
            // A negated condition holds for what is not there.
            return self.if_exists || self.operator.is_negated();
        };
        let lower = found.to_ascii_lowercase();
        let any = self.values.iter().any(|value| match self.operator {
            Operator::Equals | Operator::NotEquals => *value == found,
            Operator::EqualsIgnoringCase | Operator::NotEqualsIgnoringCase => {
                value.to_ascii_lowercase() == lower
            }
            Operator::Like | Operator::NotLike => is_like(value, &found),
            Operator::Null => false,
        });
        any != self.operator.is_negated()
    }
}

impl Operator {
    const fn is_negated(self) -> bool {
        matches!(
            self,
            Self::NotEquals | Self::NotEqualsIgnoringCase | Self::NotLike
        )
    }
}

impl Key {
    fn of(word: &str) -> S3Result<Self> {
        let lower = word.to_ascii_lowercase();
        if let Some(tag) = word.strip_prefix("s3:ExistingObjectTag/") {
            return Ok(Self::ExistingTag(tag.to_owned()));
        }
        if let Some(tag) = word.strip_prefix("s3:RequestObjectTag/") {
            return Ok(Self::RequestTag(tag.to_owned()));
        }
        match lower.as_str() {
            "s3:prefix" => Ok(Self::Query("prefix")),
            "s3:delimiter" => Ok(Self::Query("delimiter")),
            "s3:max-keys" => Ok(Self::Query("max-keys")),
            "s3:versionid" => Ok(Self::Query("versionId")),
            "aws:username" => Ok(Self::UserName),
            "aws:referer" => Ok(Self::Header("referer".to_owned())),
            "aws:useragent" => Ok(Self::Header("user-agent".to_owned())),
            _ => match lower.strip_prefix("s3:") {
                Some(header) if header.starts_with("x-amz-") => Ok(Self::Header(header.to_owned())),
                _ => Err(malformed("Policy has an unsupported condition key")),
            },
        }
    }

    fn find(
        &self,
        holder: Option<&Holder>,
        asked: &Asked<'_>,
        tags: &[(String, String)],
    ) -> Option<String> {
        let named = |pairs: &[(String, String)], name: &str| {
            let found = pairs.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        match self {
            Self::Query(name) => named(asked.parameters, name),
            Self::Header(name) => {
                let value = asked.headers.get(name.as_str())?;
                value.to_str().ok().map(str::to_owned)
            }
            Self::ExistingTag(tag) => {
                let found = tags.iter().find(|(key, _)| key == tag);
                found.map(|(_, value)| value.clone())
            }
            Self::RequestTag(tag) => {
                let header = asked.headers.get("x-amz-tagging")?.to_str().ok()?;
                named(&form_pairs(header), tag)
            }
            Self::UserName => holder.map(|holder| holder.name.clone()),
        }
    }
}

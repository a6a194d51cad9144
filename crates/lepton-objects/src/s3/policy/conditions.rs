//! Conditions of policies: operators, keys, and when they hold.

use std::collections::BTreeMap;
use std::net::IpAddr;

use s3s::S3Result;
use serde_json::Value;

use super::super::patterns::{form_pairs, is_like};
use super::{Asked, Asker, OneOrMany, malformed};

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
    InRange,
    NotInRange,
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
    /// Where the connection comes from.
    SourceAddress,
}

impl Condition {
    pub(super) fn of(
        operator: &str,
        keys: BTreeMap<String, OneOrMany<Value>>,
    ) -> S3Result<Vec<Self>> {
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
            "IpAddress" => Operator::InRange,
            "NotIpAddress" => Operator::NotInRange,
            "Null" => Operator::Null,
            _ => return Err(malformed("Policy has an unsupported condition")),
        };
        let mut conditions = Vec::new();
        for (key, values) in keys {
            let text = |value: Value| match value {
                Value::String(text) => Ok(text),
                Value::Bool(truth) => Ok(truth.to_string()),
                Value::Number(number) => Ok(number.to_string()),
                _ => Err(malformed("Policy has an invalid condition")),
            };
            let values = values.into_vec().into_iter().map(text);
            let condition = Self {
                operator,
                if_exists,
                key: Key::of(&key)?,
                values: values.collect::<S3Result<_>>()?,
            };
            if !condition.makes_sense() {
                return Err(malformed("Policy has an invalid condition"));
            }
            conditions.push(condition);
        }
        Ok(conditions)
    }

    /// Whether it must be told the tags of the object that is there.
    pub(super) fn reads_tags(&self) -> bool {
        matches!(self.key, Key::ExistingTag(_))
    }

    /// Whether it holds for none but places that it names. A user's name does not tell people apart: every project
    /// names its own.
    pub(super) fn tells_apart(&self) -> bool {
        let is_narrow = |value: &String| Range::parse(value).is_some_and(Range::is_narrow);
        !self.if_exists
            && matches!(self.key, Key::SourceAddress)
            && self.operator == Operator::InRange
            && self.values.iter().all(is_narrow)
    }

    /// Whether there is something that it can be held against: addresses, and nothing else, against ranges.
    fn makes_sense(&self) -> bool {
        let is_address = matches!(self.key, Key::SourceAddress);
        let is_truth = |value: &String| value == "true" || value == "false";
        match self.operator {
            _ if self.values.is_empty() => false,
            Operator::Null => !self.if_exists && self.values.iter().all(is_truth),
            Operator::InRange | Operator::NotInRange => {
                let mut values = self.values.iter();
                is_address && values.all(|value| Range::parse(value).is_some())
            }
            _ => !is_address,
        }
    }

    pub(super) fn holds(
        &self,
        asker: Asker<'_>,
        asked: &Asked<'_>,
        tags: &[(String, String)],
    ) -> bool {
        let found = self.key.find(asker, asked, tags);
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
            Operator::InRange | Operator::NotInRange => {
                let range = Range::parse(value);
                range
                    .zip(asker.address)
                    .is_some_and(|(range, at)| range.has(at))
            }
            Operator::Null => false,
        });
        any != self.operator.is_negated()
    }
}

impl Operator {
    const fn is_negated(self) -> bool {
        matches!(
            self,
            Self::NotEquals | Self::NotEqualsIgnoringCase | Self::NotLike | Self::NotInRange
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
            "aws:sourceip" => Ok(Self::SourceAddress),
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
        asker: Asker<'_>,
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
                // An empty one is none to the library, either.
                let value = asked.headers.get(name.as_str());
                let value = value.filter(|value| !value.is_empty())?;
                Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
            }
            Self::ExistingTag(tag) => {
                let found = tags.iter().find(|(key, _)| key == tag);
                found.map(|(_, value)| value.clone())
            }
            Self::RequestTag(tag) => {
                let header = asked.headers.get("x-amz-tagging")?;
                named(
                    &form_pairs(&String::from_utf8_lossy(header.as_bytes())),
                    tag,
                )
            }
            Self::UserName => asker.holder.map(|holder| holder.name.clone()),
            Self::SourceAddress => asker.address.map(|address| address.to_string()),
        }
    }
}

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: IpAddr,
    /// So many bits of them are the same.
    bits: u32,
}

impl Range {
    /// `10.0.0.0/8`, or one address.
    fn parse(text: &str) -> Option<Self> {
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().ok()?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
        // Addresses of version 4 may be written as those of version 6 that stand for them.
        match (first, first.to_canonical()) {
            (IpAddr::V6(_), first @ IpAddr::V4(_)) if (96..=most).contains(&bits) => Some(Self {
                first,
                bits: bits - 96,
            }),
            _ => (bits <= most).then_some(Self { first, bits }),
        }
    }

    fn has(self, address: IpAddr) -> bool {
        let alike = match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(other)) => {
                (first.to_bits() ^ other.to_bits()).leading_zeros()
            }
            (IpAddr::V6(first), IpAddr::V6(other)) => {
                (first.to_bits() ^ other.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        alike >= self.bits
    }

    /// Whether it is not most of the world, as S3 counts it.
    fn is_narrow(self) -> bool {
        self.bits >= if self.first.is_ipv4() { 8 } else { 32 }
    }
}

//! Bucket policies: parsed strictly, decided purely.
//!
//! What is not understood is refused when a policy is set, so that no condition is ever silently
//! passed over.

use http::HeaderMap;
use s3s::{S3Error, S3Result, s3_error};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::gate::Holder;
use super::patterns::{form_pairs, is_like};

/// The longest policy, as in S3.
const POLICY_BYTES_MAX: usize = 20 << 10;

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// In the words of policies: `s3:GetObject`.
    pub(super) action: &'a str,
    pub(super) bucket: &'a str,
    /// Empty for the bucket itself.
    pub(super) key: &'a str,
    pub(super) headers: &'a HeaderMap,
    /// Of the query, decoded.
    pub(super) parameters: &'a [(String, String)],
}

/// What a policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Denied,
    Allowed,
    Silent,
}

/// A bucket's policy.
#[derive(Debug)]
pub(super) struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug)]
struct Statement {
    allows: bool,
    principals: Principals,
    actions: Chosen,
    resources: Chosen,
    conditions: Vec<Condition>,
}

#[derive(Debug)]
enum Principals {
    Everybody,
    These(Vec<String>),
    NotThese(Vec<String>),
}

#[derive(Debug)]
enum Chosen {
    These(Vec<String>),
    NotThese(Vec<String>),
}

#[derive(Debug)]
struct Condition {
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Document {
    #[serde(default, rename = "Version")]
    _version: Option<String>,
    #[serde(default, rename = "Id")]
    _id: Option<String>,
    statement: OneOrMany<RawStatement>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawStatement {
    #[serde(default, rename = "Sid")]
    _sid: Option<String>,
    effect: String,
    principal: Option<Value>,
    not_principal: Option<Value>,
    action: Option<OneOrMany<String>>,
    not_action: Option<OneOrMany<String>>,
    resource: Option<OneOrMany<String>>,
    not_resource: Option<OneOrMany<String>>,
    #[serde(default)]
    condition: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

fn malformed(message: &str) -> S3Error {
    s3_error!(MalformedPolicy, "{message}")
}

impl Policy {
    /// Reads a policy of a bucket.
    pub(super) fn parse(text: &str, bucket: &str) -> S3Result<Self> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(malformed(
                "Policy exceeds the maximum allowed document size.",
            ));
        }
        let document: Document = serde_json::from_str(text)
            .map_err(|error| malformed(&format!("This policy contains invalid Json: {error}")))?;
        let statements = document.statement.into_vec();
        if statements.is_empty() {
            return Err(malformed("Missing required field Statement"));
        }
        let statements = statements
            .into_iter()
            .map(|raw| Statement::of(raw, bucket))
            .collect::<S3Result<_>>()?;
        Ok(Self { statements })
    }

    pub(super) fn decide(
        &self,
        holder: Option<&Holder>,
        asked: &Asked<'_>,
        tags: &[(String, String)],
    ) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in &self.statements {
            if statement.speaks_of(holder, asked, tags) {
                match statement.allows {
                    false => return Verdict::Denied,
                    true => verdict = Verdict::Allowed,
                }
            }
        }
        verdict
    }

    /// Whether it allows anything to everybody without a condition that could tell them apart.
    pub(super) fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| {
            statement.allows
                && !matches!(statement.principals, Principals::These(_))
                && !statement.conditions.iter().any(Condition::names_holders)
        })
    }

    /// Whether it must be told the tags of the object that is there.
    pub(super) fn reads_tags(&self) -> bool {
        let mut conditions = self.statements.iter().flat_map(|one| &one.conditions);
        conditions.any(|condition| matches!(condition.key, Key::ExistingTag(_)))
    }
}

impl Statement {
    fn of(raw: RawStatement, bucket: &str) -> S3Result<Self> {
        let allows = match raw.effect.as_str() {
            "Allow" => true,
            "Deny" => false,
            _ => return Err(malformed("Invalid effect")),
        };
        let principals = match (raw.principal, raw.not_principal) {
            (Some(value), None) => match names(value)? {
                names if names.iter().any(|name| name == "*") => Principals::Everybody,
                names => Principals::These(names),
            },
            (None, Some(_)) if allows => {
                return Err(malformed("Allow with NotPrincipal is not allowed"));
            }
            (None, Some(value)) => Principals::NotThese(names(value)?),
            _ => return Err(malformed("Missing required field Principal")),
        };
        let choose = |these: Option<OneOrMany<String>>, not: Option<OneOrMany<String>>, what| match (
            these, not,
        ) {
            (Some(these), None) => Ok(Chosen::These(these.into_vec())),
            (None, Some(not)) => Ok(Chosen::NotThese(not.into_vec())),
            _ => Err(malformed(what)),
        };
        let actions = choose(raw.action, raw.not_action, "Missing required field Action")?;
        let resources = choose(
            raw.resource,
            raw.not_resource,
            "Missing required field Resource",
        )?;
        let (Chosen::These(list) | Chosen::NotThese(list)) = &actions;
        if list.iter().any(|action| action != "*" && !is_s3(action)) {
            return Err(malformed("Policy has invalid action"));
        }
        let (Chosen::These(list) | Chosen::NotThese(list)) = &resources;
        let ours = |resource: &String| {
            resource.strip_prefix(ARN).is_some_and(|place| {
                let named = place.split('/').next().unwrap_or_default();
                is_like(named, bucket)
            })
        };
        if !list.iter().all(ours) {
            return Err(malformed("Policy has invalid resource"));
        }
        let mut conditions = Vec::new();
        for (operator, keys) in raw.condition {
            conditions.extend(Condition::of(&operator, keys)?);
        }
        Ok(Self {
            allows,
            principals,
            actions,
            resources,
            conditions,
        })
    }

    fn speaks_of(
        &self,
        holder: Option<&Holder>,
        asked: &Asked<'_>,
        tags: &[(String, String)],
    ) -> bool {
        let mut resource = format!("{ARN}{}", asked.bucket);
        if !asked.key.is_empty() {
            resource = format!("{resource}/{}", asked.key);
        }
        let action = |pattern: &String| {
            is_like(
                &pattern.to_ascii_lowercase(),
                &asked.action.to_ascii_lowercase(),
            )
        };
        let is_principal = |name: &String| holder.is_some_and(|holder| means(name, holder));
        let spoken_to = match &self.principals {
            Principals::Everybody => true,
            Principals::These(names) => names.iter().any(is_principal),
            Principals::NotThese(names) => !names.iter().any(is_principal),
        };
        spoken_to
            && self.actions.hits(action)
            && self.resources.hits(|pattern| is_like(pattern, &resource))
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(holder, asked, tags))
    }
}

const ARN: &str = "arn:aws:s3:::";

fn is_s3(action: &str) -> bool {
    action
        .get(..3)
        .is_some_and(|service| service.eq_ignore_ascii_case("s3:"))
}

impl Chosen {
    fn hits(&self, is: impl Fn(&String) -> bool) -> bool {
        match self {
            Self::These(list) => list.iter().any(is),
            Self::NotThese(list) => !list.iter().any(is),
        }
    }
}

/// The names in `"*"` or `{"AWS": …}`.
fn names(value: Value) -> S3Result<Vec<String>> {
    let list = match value {
        Value::String(all) if all == "*" => return Ok(vec![all]),
        Value::Object(mut map) if map.len() == 1 => map.remove("AWS"),
        _ => None,
    };
    let list = list.ok_or_else(|| malformed("Invalid principal in policy"))?;
    let list: OneOrMany<String> =
        serde_json::from_value(list).map_err(|_| malformed("Invalid principal in policy"))?;
    Ok(list.into_vec())
}

/// Whether a principal of a policy means this holder: `arn:aws:iam::PROJECT:user/NAME`,
/// `arn:aws:iam::PROJECT:root` or `PROJECT`.
fn means(principal: &str, holder: &Holder) -> bool {
    let Some(rest) = principal.strip_prefix("arn:aws:iam::") else {
        return principal == holder.project.as_str();
    };
    let Some((project, who)) = rest.split_once(':') else {
        return false;
    };
    project == holder.project.as_str()
        && (who == "root" || who.strip_prefix("user/") == Some(holder.name.as_str()))
}

impl Condition {
    fn of(operator: &str, keys: Value) -> S3Result<Vec<Self>> {
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

    /// Whether it holds for none but holders that it names.
    fn names_holders(&self) -> bool {
        let names = |value: &String| !value.contains(['*', '?']);
        matches!(self.key, Key::UserName)
            && matches!(
                self.operator,
                Operator::Equals | Operator::EqualsIgnoringCase | Operator::Like
            )
            && !self.if_exists
            && self.values.iter().all(names)
    }

    fn holds(&self, holder: Option<&Holder>, asked: &Asked<'_>, tags: &[(String, String)]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::super::gate::Rights;
    use super::*;

    fn holder(project: &str, name: &str) -> Holder {
        Holder {
            name: name.to_owned(),
            project: project.parse().unwrap(),
            secret: String::new().into(),
            rights: Rights::default(),
        }
    }

    fn decide(policy: &str, holder: Option<&Holder>, action: &str, key: &str) -> Verdict {
        let headers = HeaderMap::new();
        let asked = Asked {
            action,
            bucket: "data",
            key,
            headers: &headers,
            parameters: &[("prefix".to_owned(), "a/b".to_owned())],
        };
        Policy::parse(policy, "data")
            .unwrap()
            .decide(holder, &asked, &[])
    }

    #[test]
    fn a_denial_outweighs_what_is_allowed() {
        let policy = r#"{"Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "s3:Get*", "Resource": "arn:aws:s3:::data/*"},
            {"Effect": "Deny", "Principal": {"AWS": "lab"}, "Action": "*",
             "Resource": ["arn:aws:s3:::data/secret/*"]}]}"#;
        assert_eq!(
            decide(policy, None, "s3:GetObject", "secret/x"),
            Verdict::Allowed
        );
        let lab = holder("lab", "ann");
        assert_eq!(
            decide(policy, Some(&lab), "s3:GetObject", "x"),
            Verdict::Allowed
        );
        assert_eq!(
            decide(policy, Some(&lab), "s3:GetObject", "secret/x"),
            Verdict::Denied
        );
        assert_eq!(decide(policy, None, "s3:PutObject", "x"), Verdict::Silent);
        assert_eq!(decide(policy, None, "s3:GetObject", ""), Verdict::Silent);
    }

    #[test]
    fn principals_are_projects_and_their_users() {
        let policy = |who: &str| {
            format!(
                r#"{{"Statement": {{"Effect": "Allow", "Principal": {{"AWS": "{who}"}},
                    "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::data",
                    "Condition": {{"StringLike": {{"s3:prefix": "a/*"}}}}}}}}"#
            )
        };
        let ann = holder("lab", "ann");
        for (who, verdict) in [
            ("lab", Verdict::Allowed),
            ("arn:aws:iam::lab:root", Verdict::Allowed),
            ("arn:aws:iam::lab:user/ann", Verdict::Allowed),
            ("arn:aws:iam::lab:user/bob", Verdict::Silent),
            ("arn:aws:iam::other:user/ann", Verdict::Silent),
        ] {
            assert_eq!(
                decide(&policy(who), Some(&ann), "s3:ListBucket", ""),
                verdict,
                "{who}"
            );
            assert_eq!(
                decide(&policy(who), None, "s3:ListBucket", ""),
                Verdict::Silent
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let whole = r#"{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*",
            "Resource": "arn:aws:s3:::data/*"}]}"#;
        assert!(Policy::parse(whole, "data").is_ok());
        for (from, to) in [
            ("Allow", "Perhaps"),
            ("s3:*", "ec2:*"),
            ("s3:::data/*", "s3:::other/*"),
            ("\"Principal\": \"*\",", ""),
            ("\"Principal\"", "\"Principle\""),
            (
                "\"Action\"",
                "\"Condition\": {\"NumericLessThan\": {\"s3:max-keys\": \"5\"}}, \"Action\"",
            ),
            (
                "\"Action\"",
                "\"Condition\": {\"StringLike\": {\"aws:odd\": \"5\"}}, \"Action\"",
            ),
        ] {
            let broken = whole.replacen(from, to, 1);
            assert_ne!(broken, whole);
            assert!(Policy::parse(&broken, "data").is_err(), "{broken}");
        }
    }
}

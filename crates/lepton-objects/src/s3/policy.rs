//! Bucket policies: parsed strictly, decided purely.
//!
//! What is not understood is refused when a policy is set, so that no condition is ever silently
//! passed over.

mod conditions;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use http::HeaderMap;
use s3s::{S3Error, S3Result, s3_error};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::gate::Holder;
use super::patterns::is_like;
use conditions::Condition;

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

/// Who asks, as far as policies tell people apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    /// Nobody in particular if the request is not signed.
    pub(super) holder: Option<&'a Holder>,
    /// Where the connection comes from.
    pub(super) address: Option<IpAddr>,
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
    principal: Option<Names>,
    not_principal: Option<Names>,
    action: Option<OneOrMany<String>>,
    not_action: Option<OneOrMany<String>>,
    resource: Option<OneOrMany<String>>,
    not_resource: Option<OneOrMany<String>>,
    #[serde(default)]
    condition: Unique<Unique<OneOrMany<Value>>>,
}

/// `"*"` or `{"AWS": …}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    Everybody(String),
    Of(Unique<OneOrMany<String>>),
}

/// A record of which no word says two things, one of which would be passed over.
struct Unique<T>(BTreeMap<String, T>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for UniqueVisitor<T> {
    type Value = Unique<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Unique<T>, A::Error> {
        let mut all = BTreeMap::new();
        while let Some((word, said)) = from.next_entry::<String, T>()? {
            let twice = A::Error::custom(format!("`{word}` is said twice"));
            if all.insert(word, said).is_some() {
                return Err(twice);
            }
        }
        Ok(Unique(all))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    /// Looked for first: a list is a value, too.
    Many(Vec<T>),
    One(T),
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
        asker: Asker<'_>,
        asked: &Asked<'_>,
        tags: &[(String, String)],
    ) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in &self.statements {
            if statement.speaks_of(asker, asked, tags) {
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
                && !statement.conditions.iter().any(Condition::tells_apart)
        })
    }

    /// Whether it must be told the tags of the object that is there.
    pub(super) fn reads_tags(&self) -> bool {
        let mut conditions = self.statements.iter().flat_map(|one| &one.conditions);
        conditions.any(Condition::reads_tags)
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
        for (operator, keys) in raw.condition.0 {
            conditions.extend(Condition::of(&operator, keys.0)?);
        }
        Ok(Self {
            allows,
            principals,
            actions,
            resources,
            conditions,
        })
    }

    fn speaks_of(&self, asker: Asker<'_>, asked: &Asked<'_>, tags: &[(String, String)]) -> bool {
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
        let is_principal = |name: &String| asker.holder.is_some_and(|holder| means(name, holder));
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
                .all(|condition| condition.holds(asker, asked, tags))
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
fn names(told: Names) -> S3Result<Vec<String>> {
    let list = match told {
        Names::Everybody(all) if all == "*" => return Ok(vec![all]),
        Names::Of(mut map) if map.0.len() == 1 => map.0.remove("AWS"),
        _ => None,
    };
    let list = list.ok_or_else(|| malformed("Invalid principal in policy"))?;
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
        let asker = Asker {
            holder,
            address: Some(IpAddr::from([10, 1, 2, 3])),
        };
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
            .decide(asker, &asked, &[])
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
    fn addresses_are_told_apart_by_ranges() {
        let policy = |operator: &str, range: &str| {
            format!(
                r#"{{"Statement": {{"Effect": "Allow", "Principal": "*",
                    "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/*",
                    "Condition": {{"{operator}": {{"aws:SourceIp": ["{range}"]}}}}}}}}"#
            )
        };
        for (operator, range, allows, public) in [
            ("IpAddress", "10.1.2.3", true, false),
            ("IpAddress", "10.1.0.0/16", true, false),
            ("IpAddress", "10.1.2.2/32", false, false),
            ("IpAddress", "0.0.0.0/0", true, true),
            ("IpAddress", "2001:db8::/32", false, false),
            ("IpAddressIfExists", "10.0.0.0/8", true, true),
            ("NotIpAddress", "10.0.0.0/8", false, true),
            ("NotIpAddress", "11.0.0.0/8", true, true),
            ("IpAddress", "::ffff:10.1.0.0/112", true, false),
            ("IpAddress", "::ffff:10.2.0.0/112", false, false),
            ("IpAddress", "::ffff:0:0/96", true, true),
            ("NotIpAddress", "::ffff:10.1.2.3", false, true),
            ("NotIpAddress", "::/0", true, true),
        ] {
            let policy = policy(operator, range);
            let verdict = decide(&policy, None, "s3:GetObject", "x");
            assert_eq!(verdict == Verdict::Allowed, allows, "{policy}");
            let is_public = Policy::parse(&policy, "data").unwrap().is_public();
            assert_eq!(is_public, public, "{policy}");
        }
        for (operator, range) in [
            ("IpAddress", "10.0.0.0/33"),
            ("IpAddress", "ten"),
            ("StringLike", "10.*"),
        ] {
            assert!(Policy::parse(&policy(operator, range), "data").is_err());
        }
        let wrong = policy("IpAddress", "10.0.0.0/8").replace("aws:SourceIp", "aws:username");
        assert!(Policy::parse(&wrong, "data").is_err());
    }

    #[test]
    fn names_of_users_are_every_projects_own() {
        let policy = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::data/*", "Condition": {"StringEquals": {"aws:username": "ann"}}}}"#;
        let ann = holder("theirs", "ann");
        let verdict = decide(policy, Some(&ann), "s3:GetObject", "x");
        assert_eq!(verdict, Verdict::Allowed);
        assert!(Policy::parse(policy, "data").unwrap().is_public());
    }

    #[test]
    fn an_empty_header_is_none_and_an_odd_one_is_one() {
        let policy = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::data/*", "Condition": {"Null": {"s3:x-amz-meta-a": "false"}}}}"#;
        for (value, verdict) in [
            (&b""[..], Verdict::Silent),
            (b"\xff", Verdict::Allowed),
            (b"a", Verdict::Allowed),
        ] {
            let mut headers = HeaderMap::new();
            let value = http::HeaderValue::from_bytes(value).unwrap();
            headers.insert("x-amz-meta-a", value);
            let asked = Asked {
                action: "s3:PutObject",
                bucket: "data",
                key: "x",
                headers: &headers,
                parameters: &[],
            };
            let asker = Asker {
                holder: None,
                address: None,
            };
            let policy = Policy::parse(policy, "data").unwrap();
            assert_eq!(policy.decide(asker, &asked, &[]), verdict);
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
            (
                "\"Action\"",
                "\"Condition\": {\"StringLike\": {\"s3:prefix\": []}}, \"Action\"",
            ),
            (
                "\"Action\"",
                "\"Condition\": {\"Null\": {\"s3:prefix\": \"yes\"}}, \"Action\"",
            ),
            (
                "\"Action\"",
                "\"Condition\": {\"NullIfExists\": {\"s3:prefix\": \"true\"}}, \"Action\"",
            ),
            (
                "\"Action\"",
                "\"Condition\": {\"StringLike\": {\"s3:prefix\": \"a\", \"s3:prefix\": \"b\"}}, \"Action\"",
            ),
            (
                "\"Action\"",
                "\"Condition\": {\"StringLike\": {\"s3:prefix\": \"a\"}, \"StringLike\": {}}, \"Action\"",
            ),
            ("\"*\"", "{\"AWS\": \"lab\", \"AWS\": \"other\"}"),
        ] {
            let broken = whole.replacen(from, to, 1);
            assert_ne!(broken, whole);
            assert!(Policy::parse(&broken, "data").is_err(), "{broken}");
        }
    }
}

//! What clients are told of the end of an object, as its bucket's lifecycle has it.

use lepton_store::index::{Bucket, ObjectVersion};
use lepton_types::{DurationMs, Timestamp};
use s3s::S3Result;
use s3s::dto;

use super::attributes::{http_date, stamp, unstamp};
use super::lifecycle::{Filter, after_days};
use super::{Face, settings};

impl Face {
    /// The value of `x-amz-expiration` of the newest version of a key: the first end that a rule has for it.
    pub(super) async fn expiration(
        &self,
        bucket: &Bucket,
        version: &ObjectVersion,
    ) -> S3Result<Option<String>> {
        let rules: Option<dto::BucketLifecycleConfiguration> =
            self.read_setting(bucket.id, settings::LIFECYCLE).await?;
        let rules = rules.map(|found| found.rules).unwrap_or_default();
        Ok(told(&rules, version, self.lifecycle_day))
    }
}

fn told(rules: &[dto::LifecycleRule], version: &ObjectVersion, day: DurationMs) -> Option<String> {
    let ends = rules.iter().filter_map(|rule| {
        let enabled = rule.status.as_str() == dto::ExpirationStatus::ENABLED;
        let filter = Filter::of(rule);
        let is_for = version.key.starts_with(filter.prefix) && filter.is_for(version);
        let end = (enabled && is_for)
            .then(|| end(rule, version, day))
            .flatten()?;
        Some((end, rule))
    });
    let (end, rule) = ends.min_by_key(|(end, _)| *end)?;
    let date = http_date(&stamp(end))?;
    let id = rule.id.as_deref().unwrap_or_default();
    let id: String = url_encoded(id);
    Some(format!("expiry-date=\"{date}\", rule-id=\"{id}\""))
}

fn end(rule: &dto::LifecycleRule, version: &ObjectVersion, day: DurationMs) -> Option<Timestamp> {
    let expiration = rule.expiration.as_ref()?;
    match (expiration.days, &expiration.date) {
        (Some(days), _) => Some(after_days(version.modified, days, day)),
        (None, Some(date)) => Some(unstamp(date.clone())),
        (None, None) => None,
    }
}

/// A rule's id may hold anything, a header may not.
fn url_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut told, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                told.push(char::from(byte));
            }
            byte => {
                let _infallible = write!(told, "%{byte:02X}");
            }
        }
        told
    })
}

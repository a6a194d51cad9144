//! Lifecycles: rules are checked when they are set, and carried out from time to time.

use lepton_store::index::{
    Bucket, Condition, IndexError, ListedVersion, ObjectVersion, Refusal, ToDelete, UploadsQuery,
    UploadsStart, VersionChange, VersionsQuery, VersionsStart, Which,
};
use lepton_types::{DurationMs, Timestamp};
use s3s::dto;
use s3s::{S3Result, s3_error};

use super::attributes::unstamp;
use super::errors::of_index;
use super::{Face, settings, tags};

/// Rules of one bucket, as in S3.
const RULES_MAX: usize = 1_000;

/// The longest id of a rule, as in S3.
const ID_BYTES_MAX: usize = 255;

/// Versions that are looked at at once.
const PAGE: usize = 1_000;

/// A day of the calendar, which dates in rules are of.
const DAY: DurationMs = DurationMs::from_secs(86_400);

/// The rules, each with an id, if they make sense.
pub(super) fn checked(
    wanted: dto::BucketLifecycleConfiguration,
    salt: u64,
) -> S3Result<dto::BucketLifecycleConfiguration> {
    let mut wanted = wanted;
    let malformed = || {
        s3_error!(
            MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema"
        )
    };
    if wanted.rules.is_empty() || wanted.rules.len() > RULES_MAX {
        return Err(malformed());
    }
    let mut ids = std::collections::BTreeSet::new();
    for (place, rule) in wanted.rules.iter_mut().enumerate() {
        let id = rule
            .id
            .get_or_insert_with(|| format!("rule-{salt:016x}-{place}"));
        if id.len() > ID_BYTES_MAX {
            return Err(s3_error!(
                InvalidArgument,
                "ID length should not exceed allowed limit of 255"
            ));
        }
        if !ids.insert(id.clone()) {
            return Err(s3_error!(
                InvalidArgument,
                "Rule ID must be unique. Found same ID for more than one rule"
            ));
        }
        let status = rule.status.as_str();
        let known = [
            dto::ExpirationStatus::ENABLED,
            dto::ExpirationStatus::DISABLED,
        ];
        if !known.contains(&status) {
            return Err(malformed());
        }
        check_rule(rule)?;
    }
    Ok(wanted)
}

fn check_rule(rule: &dto::LifecycleRule) -> S3Result<()> {
    let invalid = |what: &str| s3_error!(InvalidArgument, "{what}");
    if rule.prefix.is_some() && rule.filter.is_some() {
        return Err(s3_error!(
            MalformedXML,
            "A rule has either a Filter or a Prefix"
        ));
    }
    let acts = rule.expiration.is_some()
        || rule.transitions.is_some()
        || rule.noncurrent_version_expiration.is_some()
        || rule.noncurrent_version_transitions.is_some()
        || rule.abort_incomplete_multipart_upload.is_some();
    if !acts {
        return Err(s3_error!(
            InvalidRequest,
            "At least one action needs to be specified in a rule"
        ));
    }
    let expiration = rule.expiration.as_ref();
    if let Some(expiration) = expiration {
        if expiration.days.is_some_and(|days| days <= 0) {
            return Err(invalid(
                "'Days' for Expiration action must be a positive integer",
            ));
        }
        let said = [
            expiration.days.is_some(),
            expiration.date.is_some(),
            expiration.expired_object_delete_marker.is_some(),
        ];
        if said.into_iter().filter(|said| *said).count() != 1 {
            return Err(s3_error!(
                MalformedXML,
                "An Expiration has Days, a Date or ExpiredObjectDeleteMarker"
            ));
        }
        check_midnight(expiration.date.as_ref())?;
    }
    for transition in rule.transitions.iter().flatten() {
        if transition.days.is_some_and(|days| days < 0) {
            return Err(invalid("'Days' in Transition action must be nonnegative"));
        }
        if transition.days.is_some() == transition.date.is_some() {
            return Err(s3_error!(MalformedXML, "A Transition has Days or a Date"));
        }
        check_midnight(transition.date.as_ref())?;
        check_class(transition.storage_class.as_ref())?;
    }
    for transition in rule.noncurrent_version_transitions.iter().flatten() {
        check_class(transition.storage_class.as_ref())?;
    }
    let noncurrent = rule.noncurrent_version_expiration.as_ref();
    if noncurrent.is_some_and(|wanted| wanted.noncurrent_days.is_none_or(|days| days <= 0)) {
        return Err(invalid(
            "'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer",
        ));
    }
    let abort = rule.abort_incomplete_multipart_upload.as_ref();
    if abort.is_some_and(|wanted| wanted.days_after_initiation.is_none_or(|days| days <= 0)) {
        return Err(invalid(
            "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer",
        ));
    }
    Ok(())
}

fn check_midnight(date: Option<&dto::Timestamp>) -> S3Result<()> {
    let day = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
    match date.map(|date| unstamp(date.clone()).as_millis() % day) {
        None | Some(0) => Ok(()),
        Some(_) => Err(s3_error!(InvalidArgument, "'Date' must be at midnight GMT")),
    }
}

fn check_class(class: Option<&dto::TransitionStorageClass>) -> S3Result<()> {
    let class = class.map(|class| dto::StorageClass::from(class.as_str().to_owned()));
    let known = class.is_some() && super::attributes::class_of(class.as_ref()).is_ok();
    match known {
        true => Ok(()),
        false => Err(s3_error!(
            MalformedXML,
            "'StorageClass' must be one of the classes that are kept here"
        )),
    }
}

/// The moment so many days of length `day` after `at`: S3 rounds up to the next midnight.
pub(super) fn after_days(at: Timestamp, days: i32, day: DurationMs) -> Timestamp {
    let day = i64::try_from(day.as_millis()).unwrap_or(i64::MAX).max(1);
    let due = at
        .as_millis()
        .saturating_add(i64::from(days).saturating_mul(day));
    Timestamp::from_millis(due.saturating_add(day - 1).div_euclid(day) * day)
}

/// When rules are carried out, and how long their days are.
#[derive(Debug, Clone, Copy)]
struct Today {
    now: Timestamp,
    day: DurationMs,
}

impl Today {
    /// Whether days after `at`, or a date, have come.
    fn has_seen(self, days: Option<i32>, date: Option<&dto::Timestamp>, at: Timestamp) -> bool {
        match (days, date) {
            (Some(days), _) => after_days(at, days, self.day) <= self.now,
            (None, Some(date)) => unstamp(date.clone()) <= self.now,
            (None, None) => false,
        }
    }
}

/// Which objects a rule is for.
pub(super) struct Filter<'a> {
    pub(super) prefix: &'a str,
    tags: Vec<&'a dto::Tag>,
    larger_than: Option<i64>,
    smaller_than: Option<i64>,
}

impl<'a> Filter<'a> {
    pub(super) fn of(rule: &'a dto::LifecycleRule) -> Self {
        let filter = rule.filter.as_ref();
        let and = filter.and_then(|filter| filter.and.as_ref());
        let prefix = rule
            .prefix
            .as_deref()
            .or(filter.and_then(|filter| filter.prefix.as_deref()))
            .or(and.and_then(|and| and.prefix.as_deref()));
        let tags = filter.and_then(|filter| filter.tag.as_ref());
        let more = and.and_then(|and| and.tags.as_ref());
        Self {
            prefix: prefix.unwrap_or_default(),
            tags: tags.into_iter().chain(more.into_iter().flatten()).collect(),
            larger_than: filter
                .and_then(|filter| filter.object_size_greater_than)
                .or(and.and_then(|and| and.object_size_greater_than)),
            smaller_than: filter
                .and_then(|filter| filter.object_size_less_than)
                .or(and.and_then(|and| and.object_size_less_than)),
        }
    }

    /// Whether it is for a version whose key begins with the prefix.
    pub(super) fn is_for(&self, version: &ObjectVersion) -> bool {
        let size = super::attributes::length(version.size_bytes);
        if self.larger_than.is_some_and(|bound| size <= bound)
            || self.smaller_than.is_some_and(|bound| size >= bound)
        {
            return false;
        }
        if self.tags.is_empty() {
            return true;
        }
        let has = tags::read(&version.tags);
        self.tags.iter().all(|tag| {
            let wanted = (tag.key.as_deref(), tag.value.as_deref());
            has.iter()
                .any(|(key, value)| (Some(key.as_str()), Some(value.as_str())) == wanted)
        })
    }
}

/// What is to be done about a version.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    /// Delete the object, as its bucket's versioning has it.
    Expire,
    /// Delete this version.
    Remove,
    /// Move it to a class.
    Move(String),
}

/// Where a version stands among those of its key.
struct Place {
    /// When it was replaced; it is the newest where none.
    replaced: Option<Timestamp>,
    /// How many that are not the newest are newer than it.
    newer_noncurrent: i32,
    /// Whether there is no other version of the key.
    alone: bool,
}

fn act_of(
    rule: &dto::LifecycleRule,
    version: &ObjectVersion,
    place: &Place,
    today: Today,
) -> Option<Act> {
    match place.replaced {
        None => act_on_newest(rule, version, place, today),
        Some(replaced) => {
            let wanted = rule.noncurrent_version_expiration.as_ref();
            if let Some(wanted) = wanted
                && today.has_seen(wanted.noncurrent_days, None, replaced)
                && place.newer_noncurrent >= wanted.newer_noncurrent_versions.unwrap_or_default()
            {
                return Some(Act::Remove);
            }
            let moves = rule.noncurrent_version_transitions.iter().flatten();
            let due = moves.filter(|wanted| {
                today.has_seen(wanted.noncurrent_days, None, replaced)
                    && place.newer_noncurrent
                        >= wanted.newer_noncurrent_versions.unwrap_or_default()
            });
            let last = due.max_by_key(|wanted| wanted.noncurrent_days)?;
            move_to(version, last.storage_class.as_ref())
        }
    }
}

fn act_on_newest(
    rule: &dto::LifecycleRule,
    version: &ObjectVersion,
    place: &Place,
    today: Today,
) -> Option<Act> {
    let expiration = rule.expiration.as_ref();
    if version.marker {
        // A marker that hides nothing goes by itself.
        let asked = expiration.is_some_and(|wanted| {
            wanted.expired_object_delete_marker == Some(true)
                || today.has_seen(wanted.days, wanted.date.as_ref(), version.modified)
        });
        return (place.alone && asked).then_some(Act::Remove);
    }
    if let Some(wanted) = expiration
        && today.has_seen(wanted.days, wanted.date.as_ref(), version.modified)
    {
        return Some(Act::Expire);
    }
    let moves = rule.transitions.iter().flatten();
    let due =
        moves.filter(|wanted| today.has_seen(wanted.days, wanted.date.as_ref(), version.modified));
    let last = due.max_by_key(|wanted| wanted.days)?;
    move_to(version, last.storage_class.as_ref())
}

fn move_to(version: &ObjectVersion, class: Option<&dto::TransitionStorageClass>) -> Option<Act> {
    let class = class?.as_str();
    (!version.marker && version.class != class).then(|| Act::Move(class.to_owned()))
}

impl Face {
    pub(super) async fn carry_out(&self, now: Timestamp) -> S3Result<u64> {
        let today = Today {
            now,
            day: self.lifecycle_day,
        };
        let mut touched = 0;
        let buckets = self.index.buckets_with(settings::LIFECYCLE).await;
        for (bucket, text) in buckets.map_err(of_index)? {
            let Ok(rules) = serde_json::from_str::<dto::BucketLifecycleConfiguration>(&text) else {
                tracing::error!(bucket = bucket.name, "a lifecycle does not read back");
                continue;
            };
            for rule in &rules.rules {
                if rule.status.as_str() == dto::ExpirationStatus::ENABLED {
                    touched += self.carry_out_rule(&bucket, rule, today).await?;
                    touched += self.abort_old(&bucket, rule, today).await?;
                }
            }
        }
        Ok(touched)
    }

    /// Goes through all versions that a rule may be for, a page at a time.
    async fn carry_out_rule(
        &self,
        bucket: &Bucket,
        rule: &dto::LifecycleRule,
        today: Today,
    ) -> S3Result<u64> {
        let filter = Filter::of(rule);
        let mut touched = 0;
        let mut start = None;
        // The version before the one that is looked at, and how many not-newest of its key were seen.
        let mut before: Option<(String, Timestamp)> = None;
        let mut noncurrent = 0;
        loop {
            let query = VersionsQuery {
                bucket: bucket.id,
                prefix: filter.prefix.to_owned(),
                delimiter: String::new(),
                start: start.take(),
                limit: PAGE,
            };
            let page = self.index.list_versions(query).await.map_err(of_index)?;
            for (at, ListedVersion { version, .. }) in page.entries.iter().enumerate() {
                let same_key = before.as_ref().filter(|(key, _)| *key == version.key);
                let replaced = same_key.map(|(_, at)| *at);
                noncurrent = match replaced {
                    Some(_) => noncurrent + 1,
                    None => 0,
                };
                let next = page.entries.get(at + 1);
                let place = Place {
                    replaced,
                    newer_noncurrent: noncurrent - 1,
                    // At the end of a page it is left to the next time.
                    alone: match next {
                        Some(next) => next.version.key != version.key,
                        None => !page.truncated,
                    },
                };
                before = Some((version.key.clone(), version.modified));
                if filter.is_for(version)
                    && let Some(act) = act_of(rule, version, &place, today)
                {
                    touched += u64::from(self.act(bucket, version, act, today.now).await?);
                }
            }
            let last = page.entries.last().filter(|_| page.truncated);
            let Some(last) = last else {
                return Ok(touched);
            };
            start = Some(VersionsStart {
                key: last.version.key.clone(),
                sequence: Some(last.version.sequence),
            });
        }
    }

    /// Does it, unless the version changed or is locked; returns whether it was done.
    async fn act(
        &self,
        bucket: &Bucket,
        version: &ObjectVersion,
        act: Act,
        now: Timestamp,
    ) -> S3Result<bool> {
        let order = |only| ToDelete {
            bucket: bucket.id,
            key: version.key.clone(),
            version: only,
            at: now,
            salt: self.salt(),
            bypass: false,
            // What came in its place since is another's.
            condition: Condition {
                matches: Some(version.etag.clone()),
                modified: Some(version.modified),
                ..Condition::default()
            },
        };
        let done = match act {
            Act::Remove => self
                .index
                .delete(order(Some(version.version)))
                .await
                .map(|_| ()),
            Act::Expire => self.index.delete(order(None)).await.map(|_| ()),
            Act::Move(class) => {
                let which = Which::Version(version.version);
                let change = VersionChange::Class(class);
                self.index
                    .change_version(bucket.id, &version.key, which, change, now)
                    .await
                    .map(|_| ())
            }
        };
        match done {
            Ok(()) => Ok(true),
            Err(IndexError::Refused(
                Refusal::Precondition
                | Refusal::NoSuchObject
                | Refusal::NoSuchVersion
                | Refusal::NoSuchBucket
                | Refusal::Locked { .. },
            )) => Ok(false),
            Err(error) => Err(of_index(error)),
        }
    }

    async fn abort_old(
        &self,
        bucket: &Bucket,
        rule: &dto::LifecycleRule,
        today: Today,
    ) -> S3Result<u64> {
        let wanted = rule.abort_incomplete_multipart_upload.as_ref();
        let Some(days) = wanted.and_then(|wanted| wanted.days_after_initiation) else {
            return Ok(0);
        };
        let mut touched = 0;
        let mut start = None;
        loop {
            let query = UploadsQuery {
                bucket: bucket.id,
                prefix: Filter::of(rule).prefix.to_owned(),
                delimiter: String::new(),
                start: start.take(),
                limit: PAGE,
            };
            let page = self.index.list_uploads(query).await.map_err(of_index)?;
            for upload in &page.entries {
                if today.has_seen(Some(days), None, upload.initiated) {
                    let aborted = self.index.abort_upload(bucket.id, &upload.key, upload.id);
                    match aborted.await {
                        Ok(()) => touched += 1,
                        Err(IndexError::Refused(_)) => {}
                        Err(error) => return Err(of_index(error)),
                    }
                }
            }
            let Some(last) = page.entries.last().filter(|_| page.truncated) else {
                return Ok(touched);
            };
            start = Some(UploadsStart {
                key: last.key.clone(),
                upload: Some(last.id),
            });
        }
    }
}

#[cfg(test)]
mod tests;

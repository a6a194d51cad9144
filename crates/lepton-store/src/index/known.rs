//! Buckets and their settings in memory: every request asks for them, and few change them.
//!
//! Owns: that nothing older than the last change is told. A change counts once it is on disk, and
//! before whoever made it is answered.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::buckets::{Bucket, BucketId};

/// Answers that are kept, of each kind; beyond, all are forgotten and learned again.
const KEPT_MAX: usize = 1_024;

/// Settings that are longer are not kept, so that all of them together stay below 16 MiB.
pub(super) const SETTING_BYTES_MAX: usize = 16 << 10;

/// What was asked for since the last change.
#[derive(Default)]
pub(super) struct Known(Mutex<Answers>);

#[derive(Default)]
pub(super) struct Answers {
    /// How many changes there were.
    changes: u64,
    /// By project and name.
    pub(super) buckets: HashMap<(String, String), Option<Bucket>>,
    /// By bucket and kind.
    pub(super) settings: HashMap<(BucketId, &'static str), Option<String>>,
}

impl Known {
    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer that is still true; else how many changes there were before it is looked up.
    pub(super) fn find<K: Hash + Eq, V: Clone>(
        &self,
        of: impl FnOnce(&mut Answers) -> &mut HashMap<K, V>,
        key: &K,
    ) -> Result<V, u64> {
        let mut answers = self.answers();
        let changes = answers.changes;
        of(&mut answers).get(key).cloned().ok_or(changes)
    }

    /// Keeps an answer that was looked up after so many changes, unless there was another.
    pub(super) fn keep<K: Hash + Eq, V>(
        &self,
        changes: u64,
        of: impl FnOnce(&mut Answers) -> &mut HashMap<K, V>,
        key: K,
        value: V,
    ) {
        let mut answers = self.answers();
        if answers.changes == changes {
            let kept = of(&mut answers);
            if kept.len() >= KEPT_MAX {
                kept.clear();
            }
            kept.insert(key, value);
        }
    }

    /// Something changed.
    pub(super) fn forget(&self) {
        let mut answers = self.answers();
        let changes = answers.changes + 1;
        *answers = Answers {
            changes,
            ..Answers::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(answers: &mut Answers) -> &mut HashMap<(BucketId, &'static str), Option<String>> {
        &mut answers.settings
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_kept() {
        let known = Known::default();
        let key = (BucketId(1), "policy");
        let before = known.find(settings, &key).unwrap_err();
        known.keep(before, settings, key, None);
        assert_eq!(known.find(settings, &key), Ok(None));
        known.forget();
        known.keep(before, settings, key, Some("old".to_owned()));
        let after = known.find(settings, &key).unwrap_err();
        known.keep(after, settings, key, Some("new".to_owned()));
        assert_eq!(known.find(settings, &key), Ok(Some("new".to_owned())));
    }
}

//! What is done beside requests: garbage deleted, traffic written down, lifecycles carried out.

use std::sync::PoisonError;
use std::time::Duration;

use lepton_store::index::Traffic;
use lepton_types::{Name, Timestamp};
use s3s::S3Result;

use super::Face;
use super::errors::{of_content, of_index};

/// Contents that are deleted in one go.
const GARBAGE_AT_ONCE: usize = 256;

/// How often it is looked whether the lookups that began before garbage was gathered are over.
const LOOKUPS_POLL: Duration = Duration::from_millis(20);

/// How long lookups are waited for; an index that takes longer for one fails it.
const LOOKUP_MAX: Duration = Duration::from_secs(600);

impl Face {
    /// Deletes what nothing names any more from the backend, then forgets it; returns how many
    /// contents went. What somebody still reads is left to the next time.
    ///
    /// # Errors
    /// If the index or the backend fails; what is left is tried again the next time.
    pub async fn collect_garbage(&self) -> S3Result<usize> {
        let mut gone = 0;
        let mut after = None;
        while let Some(mut garbage) = self
            .index
            .garbage(after.take(), GARBAGE_AT_ONCE)
            .await
            .map_err(of_index)?
        {
            let last = garbage.contents.last().copied();
            after = last.map(|last| (garbage.project.clone(), last));
            // Who asked the index before it was garbage either reads it by then, or never will.
            let lookups = self.part_lookups();
            let deadline = tokio::time::Instant::now() + LOOKUP_MAX;
            while lookups.strong_count() > 0 && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(LOOKUPS_POLL).await;
            }
            garbage
                .contents
                .retain(|content| !self.0.read.holds(*content));
            self.contents
                .delete(&garbage.project, &garbage.contents)
                .await
                .map_err(of_content)?;
            gone += garbage.contents.len();
            self.index.forget(garbage).await.map_err(of_index)?;
        }
        Ok(gone)
    }

    /// Writes down what went over the wire since the last time.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub async fn write_traffic(&self) -> S3Result<()> {
        let since = {
            let traffic = self.0.traffic.lock();
            std::mem::take(&mut *traffic.unwrap_or_else(PoisonError::into_inner))
        };
        if since.is_empty() {
            return Ok(());
        }
        let since = since.into_iter().collect();
        self.index
            .add_traffic(since, self.now())
            .await
            .map_err(of_index)
    }

    /// Does what the lifecycles of all buckets say, as of `now`; returns how many objects,
    /// versions and uploads were touched.
    ///
    /// # Errors
    /// If the index fails; what is left is done the next time.
    pub async fn carry_out_lifecycles(&self, now: Timestamp) -> S3Result<u64> {
        self.carry_out(now).await
    }

    pub(super) fn count_request(&self, project: &Name) {
        self.count(project, |traffic| traffic.requests += 1);
    }

    pub(super) fn count_received(&self, project: &Name, bytes: u64) {
        self.count(project, |traffic| traffic.received_bytes += bytes);
    }

    pub(super) fn count_sent(&self, project: &Name, bytes: u64) {
        self.count(project, |traffic| traffic.sent_bytes += bytes);
    }

    fn count(&self, project: &Name, add: impl FnOnce(&mut Traffic)) {
        let traffic = self.0.traffic.lock();
        let mut traffic = traffic.unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = traffic.get_mut(project) {
            add(known);
        } else {
            add(traffic.entry(project.clone()).or_default());
        }
    }
}

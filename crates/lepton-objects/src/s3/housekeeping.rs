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

/// How often it is looked whether the reads that began before garbage was gathered are over.
const READS_POLL: Duration = Duration::from_millis(200);

/// How long reads are waited for: a client that takes longer for one answer is cut off.
const READS_MAX: Duration = Duration::from_secs(3_600);

impl Face {
    /// Deletes what nothing names any more from the backend, then forgets it; returns how many
    /// contents went. Reads that may still need them are waited for.
    ///
    /// # Errors
    /// If the index or the backend fails; what is left is tried again the next time.
    pub async fn collect_garbage(&self) -> S3Result<usize> {
        let mut gone = 0;
        while let Some(garbage) = self
            .index
            .garbage(GARBAGE_AT_ONCE)
            .await
            .map_err(of_index)?
        {
            let readers = self.part_reads();
            let deadline = tokio::time::Instant::now() + READS_MAX;
            while readers.strong_count() > 0 && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(READS_POLL).await;
            }
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

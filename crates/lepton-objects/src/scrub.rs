//! Upkeep: rot is found and repaired, orphans go, the replica follows.
//!
//! Owns: the passes over all contents of a project. Must not know: when they are run.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use lepton_types::{ContentId, Name};

use crate::backend::Backend;
use crate::buffers::{BUFFER_BYTES, Buffer};
use crate::contents::{Content, Contents};
use crate::error::ContentError;
use crate::index::ContentIndex;
use crate::keys::{ContentKey, CustomerKeyError, KeyError};
use crate::seal::HEADER_BYTES;

/// Rows asked of the index at a time.
const PAGE: usize = 500;
/// Plain bytes after which a page is over early, so that the place of a scrub is seldom more than some seconds old.
const PAGE_BYTES: u64 = 1 << 30;
/// What a report lists; the rest is only counted.
const FINDINGS_MAX: usize = 1_000;

/// A content that could not be read.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Whose it is.
    pub project: Name,
    /// Which.
    pub content: ContentId,
    /// What is wrong with it.
    pub error: ContentError,
    /// Whether it was restored from the replica.
    pub is_repaired: bool,
}

/// What a scrub does with a content that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Says so.
    Report,
    /// Puts the replica's copy in its place, if there is one that is whole.
    Repair,
}

/// How far a pass has come, for who watches it.
#[derive(Debug, Default)]
pub struct Progress {
    contents: AtomicU64,
    size_bytes: AtomicU64,
}

impl Progress {
    /// Of a pass that an earlier process began.
    #[must_use]
    pub fn going_on(contents: u64, size_bytes: u64) -> Self {
        Self {
            contents: contents.into(),
            size_bytes: size_bytes.into(),
        }
    }

    fn add(&self, size_bytes: u64) {
        self.contents.fetch_add(1, Ordering::Relaxed);
        self.size_bytes.fetch_add(size_bytes, Ordering::Relaxed);
    }

    /// Contents seen, and the plain bytes they have.
    #[must_use]
    pub fn so_far(&self) -> (u64, u64) {
        (
            self.contents.load(Ordering::Relaxed),
            self.size_bytes.load(Ordering::Relaxed),
        )
    }
}

/// What a scrub did.
#[derive(Debug, Clone, Default)]
pub struct ScrubReport {
    /// How many contents were read.
    pub contents: u64,
    /// How many plain bytes they have.
    pub size_bytes: u64,
    /// How many nobody can read, as their key was destroyed on purpose; these are not damaged.
    pub shredded: u64,
    /// How many could not be read.
    pub damaged: u64,
    /// How many of those were restored from the replica.
    pub repaired: u64,
    /// The first thousand that could not be read.
    pub findings: Vec<Finding>,
}

impl ScrubReport {
    fn add(&mut self, other: Self) {
        self.contents += other.contents;
        self.size_bytes += other.size_bytes;
        self.shredded += other.shredded;
        self.damaged += other.damaged;
        self.repaired += other.repaired;
        self.findings.extend(other.findings);
        self.findings.truncate(FINDINGS_MAX);
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// How many contents were seen.
    pub seen: u64,
    /// How many were deleted.
    pub deleted: u64,
}

/// What a pass over the replica did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplicationReport {
    /// How many contents were copied.
    pub copied: u64,
    /// How many were not, because they could not be read.
    pub unreadable: u64,
    /// How many were deleted from the replica.
    pub deleted: u64,
}

/// A pass over the contents was cut off; `E` is the index's error.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError<E: Error + 'static> {
    /// The backend failed.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The index failed.
    #[error("the object index failed")]
    Index(#[source] E),
}

impl Contents {
    /// Reads a content to its end and verifies it. One under a customer's key, which is not
    /// known, is only checked for presence, header and length.
    ///
    /// # Errors
    /// If it is not there or damaged.
    pub async fn verify(&self, project: &Name, content: &Content) -> Result<(), ContentError> {
        self.verify_in(self.backend(), project, content).await
    }

    async fn verify_in(
        &self,
        backend: &Backend,
        project: &Name,
        content: &Content,
    ) -> Result<(), ContentError> {
        let all = 0..content.size_bytes;
        match self
            .read_from(backend, project, content, &ContentKey::Project, all)
            .await
        {
            Ok(mut reader) => {
                while let Some(piece) = reader.next().await {
                    piece?;
                }
                Ok(())
            }
            Err(ContentError::CustomerKey(CustomerKeyError::Missing)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes contents of the backend that `index` does not name and that no writer of this
    /// process still holds.
    ///
    /// Exact without any guess about time: a content is listed, then found not to be pending,
    /// then asked for. Whoever records it keeps it pending until the index has answered, whether or
    /// not anybody still waits for that, so the index names it by then.
    ///
    /// # Errors
    /// If the backend or the index fails.
    pub async fn sweep<I: ContentIndex>(
        &self,
        project: &Name,
        index: &I,
    ) -> Result<SweepReport, UpkeepError<I::Error>> {
        let mut report = SweepReport::default();
        for shard in self.backend().shards(project).await? {
            let listed = self.backend().list(project, shard).await?;
            for page in listed.chunks(PAGE) {
                let pending = self.pending();
                let settled = page.iter().filter(|id| !pending.contains(**id));
                let orphans = unnamed(index, project, settled.copied().collect()).await?;
                report.seen += page.len() as u64;
                report.deleted += orphans.len() as u64;
                self.delete(project, &orphans).await?;
            }
        }
        Ok(report)
    }

    /// Verifies every content that `index` names, and does with damage as told.
    ///
    /// # Errors
    /// As [`Contents::scrub_page`].
    pub async fn scrub<I: ContentIndex>(
        &self,
        project: &Name,
        index: &I,
        damage: Damage,
        progress: &Progress,
    ) -> Result<ScrubReport, UpkeepError<I::Error>> {
        let mut report = ScrubReport::default();
        let mut after = None;
        loop {
            let page = self.scrub_page(project, index, after, damage, progress);
            let (of_page, next) = page.await?;
            report.add(of_page);
            match next {
                Some(next) => after = Some(next),
                None => return Ok(report),
            }
        }
    }

    /// Verifies some of the contents that `index` names, from the one after `after` on, and does with
    /// damage as told. Gives the last of them, unless there are no more.
    ///
    /// # Errors
    /// If the index fails, or a service elsewhere that does not answer: nothing can be said of
    /// contents then.
    pub async fn scrub_page<I: ContentIndex>(
        &self,
        project: &Name,
        index: &I,
        after: Option<ContentId>,
        damage: Damage,
        progress: &Progress,
    ) -> Result<(ScrubReport, Option<ContentId>), UpkeepError<I::Error>> {
        let mut report = ScrubReport::default();
        let page = index.contents_after(project, after, PAGE).await;
        let page = page.map_err(UpkeepError::Index)?;
        for content in &page {
            report.contents += 1;
            report.size_bytes += content.size_bytes;
            match self.verify(project, content).await {
                Ok(()) => {}
                Err(ContentError::Key(KeyError::Shredded { .. })) => report.shredded += 1,
                Err(error) if error.is_passing() => return Err(error.into()),
                Err(error) => {
                    let found = (content, error);
                    self.found(project, found, index, damage, &mut report)
                        .await?;
                }
            }
            progress.add(content.size_bytes);
            if report.size_bytes >= PAGE_BYTES {
                return Ok((report, Some(content.id)));
            }
        }
        let last = page.last().filter(|_| page.len() == PAGE);
        Ok((report, last.map(|last| last.id)))
    }

    async fn found<I: ContentIndex>(
        &self,
        project: &Name,
        (content, error): (&Content, ContentError),
        index: &I,
        damage: Damage,
        report: &mut ScrubReport,
    ) -> Result<(), UpkeepError<I::Error>> {
        // Deleted while it was read.
        if !unnamed(index, project, vec![content.id]).await?.is_empty() {
            return Ok(());
        }
        let repaired = match damage {
            Damage::Report => Ok(false),
            Damage::Repair => self.repair(project, content, &error).await,
        };
        let is_repaired = match repaired {
            Ok(is_repaired) => is_repaired,
            Err(why) => {
                tracing::warn!(%project, content = %content.id, error = %why, "the replica's copy does not serve");
                false
            }
        };
        tracing::error!(%project, content = %content.id, %error, is_repaired, "a content cannot be read");
        report.damaged += 1;
        report.repaired += u64::from(is_repaired);
        if report.findings.len() < FINDINGS_MAX {
            report.findings.push(Finding {
                project: project.clone(),
                content: content.id,
                error,
                is_repaired,
            });
        }
        Ok(())
    }

    /// Puts the replica's copy in the place of a damaged content, if it is whole itself.
    pub(crate) async fn repair(
        &self,
        project: &Name,
        content: &Content,
        error: &ContentError,
    ) -> Result<bool, ContentError> {
        let Some(replica) = self
            .replica()
            .filter(|_| error.is_rot() && content.inline.is_none())
        else {
            return Ok(false);
        };
        self.verify_in(replica, project, content).await?;
        self.copy(replica, self.backend(), project, content.id)
            .await?;
        self.verify(project, content).await?;
        Ok(true)
    }

    /// Brings the replica up to date: copies what it lacks, with the wrapped keys, and deletes
    /// what neither the backend has nor `index` names. Does nothing without a replica.
    ///
    /// # Errors
    /// If the index or a backend fails.
    pub async fn replicate<I: ContentIndex>(
        &self,
        project: &Name,
        index: &I,
    ) -> Result<ReplicationReport, UpkeepError<I::Error>> {
        let mut report = ReplicationReport::default();
        let Some(replica) = self.replica() else {
            return Ok(report);
        };
        self.key_rings().copy_to(project, replica).await?;
        let mut shards = self.backend().shards(project).await?;
        shards.extend(replica.shards(project).await?);
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            let ours: BTreeSet<_> = to_set(self.backend().list(project, shard).await?);
            let theirs: BTreeSet<_> = to_set(replica.list(project, shard).await?);
            for id in ours.difference(&theirs) {
                match self.copy(self.backend(), replica, project, *id).await {
                    Ok(()) => report.copied += 1,
                    // Deleted since it was listed.
                    Err(ContentError::NotFound { .. }) => {}
                    Err(error @ ContentError::Damaged { .. }) => {
                        tracing::error!(%project, content = %id, %error, "a content cannot be copied");
                        report.unreadable += 1;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let extra: Vec<_> = theirs.difference(&ours).copied().collect();
            for page in extra.chunks(PAGE) {
                let gone = unnamed(index, project, page.to_vec()).await?;
                report.deleted += gone.len() as u64;
                replica.remove(project, &gone).await?;
            }
        }
        Ok(report)
    }

    /// Copies sealed bytes as they are.
    async fn copy(
        &self,
        from: &Backend,
        to: &Backend,
        project: &Name,
        content: ContentId,
    ) -> Result<(), ContentError> {
        let source = from.open(project, content, HEADER_BYTES).await?;
        let mut upload = to.upload(project, content).await?;
        let mut offset = 0;
        while offset < source.sealed_bytes {
            let rest = source.sealed_bytes - offset;
            let length = usize::try_from(rest).map_or(BUFFER_BYTES, |rest| rest.min(BUFFER_BYTES));
            let bytes = source.read(self.buffers(), offset, length, Buffer::freeze);
            let bytes = bytes.await?;
            if bytes.len() != length {
                upload.abandon().await;
                return Err(ContentError::Damaged { content });
            }
            offset += length as u64;
            upload.write(bytes).await?;
        }
        upload.finish().await
    }
}

fn to_set(ids: Vec<ContentId>) -> BTreeSet<ContentId> {
    ids.into_iter().collect()
}

async fn unnamed<I: ContentIndex>(
    index: &I,
    project: &Name,
    mut ids: Vec<ContentId>,
) -> Result<Vec<ContentId>, UpkeepError<I::Error>> {
    if !ids.is_empty() {
        let named = index.named(project, &ids).await;
        let named = named.map_err(UpkeepError::Index)?;
        ids.retain(|id| !named.contains(id));
    }
    Ok(ids)
}

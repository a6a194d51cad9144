//! A content on its way to the local disk.
//!
//! Owns: that the disk is kept busy while bytes still come in.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use lepton_types::{ContentId, Name};
use tokio::task::JoinHandle;

use super::block;
use super::local::{Local, Staged};
use crate::error::ContentError;

/// Writing a long file, the disk is told to begin with so much at a time, so that the last sync has little left to do.
const WRITE_BACK_BYTES: u64 = 2 << 20;
/// After so much a sync makes whoever writes faster than the disk wait.
const SYNC_BYTES: u64 = 32 << 20;

/// A file under way. Dropped before its end, it is removed.
pub(crate) struct LocalUpload {
    local: Arc<Local>,
    project: Name,
    content: ContentId,
    staged: Staged,
    written_bytes: u64,
    /// What the disk was told to begin with.
    begun_bytes: u64,
    /// A sync of what was written so far, beside the writing.
    flushing: Option<JoinHandle<io::Result<()>>>,
    flushed_bytes: u64,
}

impl LocalUpload {
    pub(super) async fn begin(
        local: &Arc<Local>,
        project: &Name,
        content: ContentId,
    ) -> Result<Self, ContentError> {
        let staging = Arc::clone(local);
        let staged = block(move || staging.stage()).await?;
        Ok(Self {
            local: Arc::clone(local),
            project: project.clone(),
            content,
            staged,
            written_bytes: 0,
            begun_bytes: 0,
            flushing: None,
            flushed_bytes: 0,
        })
    }

    /// Adds sealed bytes. Blocks.
    pub(crate) fn write(&mut self, sealed: &[u8]) -> Result<(), ContentError> {
        self.staged.file.write_at(self.written_bytes, sealed)?;
        self.written_bytes += sealed.len() as u64;
        if self.written_bytes - self.begun_bytes >= WRITE_BACK_BYTES {
            let range = self.begun_bytes..self.written_bytes;
            self.begun_bytes = range.end;
            self.staged.file.write_back(range);
        }
        Ok(())
    }

    /// Adds sealed bytes, off the async threads.
    pub(super) async fn append(&mut self, sealed: Bytes) -> Result<(), ContentError> {
        let (file, offset) = (Arc::clone(&self.staged.file), self.written_bytes);
        self.written_bytes += sealed.len() as u64;
        block(move || file.write_at(offset, &sealed)).await?;
        self.sync_beside().await
    }

    /// Whether enough was written that [`LocalUpload::sync_beside`] should be called.
    pub(crate) fn wants_sync(&self) -> bool {
        self.written_bytes - self.flushed_bytes >= SYNC_BYTES
    }

    /// Begins to sync what was written, if it is enough. One at a time: whoever writes faster than the disk takes
    /// waits here.
    pub(crate) async fn sync_beside(&mut self) -> Result<(), ContentError> {
        if self.wants_sync() {
            self.flushed().await?;
            self.flushed_bytes = self.written_bytes;
            let file = Arc::clone(&self.staged.file);
            self.flushing = Some(tokio::task::spawn_blocking(move || file.sync()));
        }
        Ok(())
    }

    async fn flushed(&mut self) -> Result<(), ContentError> {
        if let Some(flushing) = self.flushing.take() {
            flushing.await.map_err(io::Error::other)??;
        }
        Ok(())
    }

    /// Ends the content; it is durable when this returns.
    pub(crate) async fn finish(mut self) -> Result<(), ContentError> {
        self.flushed().await?;
        let Self {
            local,
            project,
            content,
            staged,
            ..
        } = self;
        Ok(block(move || local.publish(staged, &project, content)).await?)
    }
}

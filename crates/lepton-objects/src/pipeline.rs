//! The lanes of a long upload: digests, and sealing with writing, side by side.
//!
//! Owns: the bounds on what is under way. Each lane takes batches in order, from a queue of two, and keeps its
//! thread for as long as there are any. Plain batches are shared by the lanes, so an upload holds about
//! five batches at most, whatever its length, and all uploads together sixteen more, which wait for their MD5.

use std::sync::Arc;

use bytes::Bytes;
use lepton_types::{ContentId, Name};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::backend::{Backend, LocalUpload, RemoteUpload, Upload, block};
use crate::buffers::BATCH_BYTES;
use crate::digests::{DigestKind, DigestSet, Digesting, Digests};
use crate::error::ContentError;
use crate::md5_streams::{Md5Stream, Md5Streams};
use crate::seal::{Header, SEGMENT_BYTES, Sealer};

/// Batches that wait before a lane: with two, a lane that is woken late finds more to do, and the
/// others do not wait for it.
const QUEUE_BATCHES: usize = 2;
/// Plain bytes that are sealed and written at a time: what is sealed is still in the core's own cache when it
/// is written.
const WRITE_BYTES: usize = 4 * SEGMENT_BYTES;

/// Plain bytes on their way; the last batch ends the content.
enum Batch {
    Middle(Bytes),
    End(Bytes),
}

/// What an upload is sealed and kept as.
pub(crate) struct Target {
    pub(crate) backend: Backend,
    pub(crate) project: Name,
    pub(crate) content: ContentId,
    pub(crate) header: Header,
    pub(crate) sealer: Arc<Sealer>,
}

/// The lanes of one upload. Dropped before its end, nothing of it remains.
pub(crate) struct Pipeline {
    storing: mpsc::Sender<Batch>,
    stored: JoinHandle<Result<(), ContentError>>,
    md5: Option<Md5Stream>,
    hashing: Option<(mpsc::Sender<Bytes>, JoinHandle<Digests>)>,
}

impl Pipeline {
    pub(crate) async fn start(
        target: Target,
        wanted: DigestSet,
        streams: &Md5Streams,
    ) -> Result<Self, ContentError> {
        let upload = target.backend.upload(&target.project, target.content);
        let upload = upload.await?;
        let (storing, to_store) = mpsc::channel(QUEUE_BATCHES);
        let sealing = Sealing {
            sealer: target.sealer,
            header: Some(target.header),
            number: 0,
        };
        let stored = match upload {
            Upload::Local(upload) => tokio::spawn(store_here(upload, sealing, to_store)),
            Upload::Remote(upload) => tokio::spawn(store_there(upload, sealing, to_store)),
        };
        let others = wanted.without(DigestKind::Md5);
        let hashing = (others != DigestSet::NONE).then(|| {
            let (sender, to_hash) = mpsc::channel(QUEUE_BATCHES);
            (sender, tokio::spawn(hash(Digesting::new(others), to_hash)))
        });
        Ok(Self {
            storing,
            stored,
            md5: wanted.wants(DigestKind::Md5).then(|| streams.begin()),
            hashing,
        })
    }

    /// Adds a batch of whole segments.
    pub(crate) async fn write(&mut self, plain: Bytes) -> Result<(), ContentError> {
        debug_assert!(plain.len().is_multiple_of(SEGMENT_BYTES));
        self.store(Batch::Middle(plain.clone())).await?;
        if let Some((hashing, _)) = &self.hashing {
            // Hashing does not fail.
            let _ = hashing.send(plain.clone()).await;
        }
        if let Some(md5) = &self.md5 {
            md5.update(plain).await;
        }
        Ok(())
    }

    async fn store(&mut self, batch: Batch) -> Result<(), ContentError> {
        if self.storing.send(batch).await.is_ok() {
            return Ok(());
        }
        // A lane that is gone before the end has failed; why is known at its end.
        Err(join((&mut self.stored).await).err().unwrap_or_else(cut_off))
    }

    /// Adds the rest. The content is durable when this returns.
    pub(crate) async fn finish(mut self, rest: Bytes) -> Result<Digests, ContentError> {
        self.store(Batch::End(rest.clone())).await?;
        let mut digests = Digests::default();
        if let Some((hashing, hashed)) = self.hashing {
            let _ = hashing.send(rest.clone()).await;
            drop(hashing);
            digests = join(hashed.await);
        }
        if let Some(md5) = self.md5 {
            digests.md5 = Some(md5.finish(rest).await);
        }
        join(self.stored.await)?;
        Ok(digests)
    }
}

fn cut_off() -> ContentError {
    std::io::Error::other("the upload was cut off").into()
}

fn join<T>(ended: Result<T, tokio::task::JoinError>) -> T {
    ended.unwrap_or_else(|failed| match failed.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => unreachable!("invariant: lanes are never cancelled"),
    })
}

async fn hash(mut digesting: Digesting, mut batches: mpsc::Receiver<Bytes>) -> Digests {
    while let Some(first) = batches.recv().await {
        (digesting, batches) = block(move || {
            let mut next = Some(first);
            while let Some(batch) = next {
                digesting.update(&batch);
                next = batches.try_recv().ok();
            }
            (digesting, batches)
        })
        .await;
    }
    digesting.finish()
}

/// Seals what comes, in order.
struct Sealing {
    sealer: Arc<Sealer>,
    /// Until it was written.
    header: Option<Header>,
    number: u64,
}

impl Sealing {
    /// Appends `plain` as segments; all but the last must be whole.
    fn seal(&mut self, plain: &[u8], is_end: bool, sealed: &mut Vec<u8>) {
        if let Some(header) = self.header.take() {
            sealed.extend_from_slice(&header.to_bytes());
        }
        self.sealer.seal(self.number, is_end, plain, sealed);
        self.number += (plain.len() / SEGMENT_BYTES) as u64;
    }
}

/// A content on its way to the local disk: sealed and written on one thread, so that what is sealed need not
/// move, nor wait to be written.
struct Storing {
    upload: LocalUpload,
    sealing: Sealing,
    batches: mpsc::Receiver<Batch>,
    /// Used over and over.
    sealed: Vec<u8>,
}

impl Storing {
    /// Writes `batch`, and what comes meanwhile; whether that was the end. What cannot be written is removed.
    fn work(mut self, batch: Batch) -> Result<(Self, bool), ContentError> {
        let mut batch = batch;
        loop {
            let (plain, is_end) = match &batch {
                Batch::Middle(plain) => (plain, false),
                Batch::End(plain) => (plain, true),
            };
            self.write(plain, is_end)?;
            if is_end || self.upload.wants_sync() {
                return Ok((self, is_end));
            }
            match self.batches.try_recv() {
                Ok(next) => batch = next,
                Err(_) => return Ok((self, false)),
            }
        }
    }

    fn write(&mut self, plain: &[u8], is_end: bool) -> Result<(), ContentError> {
        let mut rest = plain;
        loop {
            let (taken, after) = rest.split_at(rest.len().min(WRITE_BYTES));
            let is_end = is_end && after.is_empty();
            self.sealed.clear();
            self.sealing.seal(taken, is_end, &mut self.sealed);
            self.upload.write(&self.sealed)?;
            if after.is_empty() {
                return Ok(());
            }
            rest = after;
        }
    }
}

async fn store_here(
    upload: LocalUpload,
    sealing: Sealing,
    batches: mpsc::Receiver<Batch>,
) -> Result<(), ContentError> {
    let mut storing = Storing {
        upload,
        sealing,
        batches,
        sealed: Vec::new(),
    };
    while let Some(batch) = storing.batches.recv().await {
        let is_end;
        (storing, is_end) = block(move || storing.work(batch)).await?;
        if is_end {
            return storing.upload.finish().await;
        }
        storing.upload.sync_beside().await?;
    }
    // Removing what was written may take a while.
    block(move || drop(storing)).await;
    Err(cut_off())
}

async fn store_there(
    mut upload: RemoteUpload,
    mut sealing: Sealing,
    mut batches: mpsc::Receiver<Batch>,
) -> Result<(), ContentError> {
    let written = loop {
        let (plain, is_end) = match batches.recv().await {
            Some(Batch::Middle(plain)) => (plain, false),
            Some(Batch::End(plain)) => (plain, true),
            None => break Err(cut_off()),
        };
        let sealed;
        (sealing, sealed) = block(move || {
            let mut sealed = Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 1_024);
            sealing.seal(&plain, is_end, &mut sealed);
            (sealing, sealed)
        })
        .await;
        match upload.write(&sealed).await {
            Ok(()) if is_end => return upload.finish().await,
            Ok(()) => {}
            Err(error) => break Err(error),
        }
    };
    upload.abandon().await;
    written
}

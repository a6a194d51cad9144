//! The lanes of a long upload: digests, sealing and writing, side by side.
//!
//! Owns: the bounds on what is under way. Each lane takes batches in order, from a queue of two.
//! Plain batches are shared by the lanes, so an upload holds about nine batches at most, sealed
//! ones included, whatever its length.

use std::sync::Arc;

use bytes::Bytes;
use lepton_types::{ContentId, Name};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::backend::{Backend, Upload, block};
use crate::digests::{DigestSet, Digesting, Digests};
use crate::error::ContentError;
use crate::seal::{Header, SEGMENT_BYTES, Sealer};

/// Plain bytes in a batch, in whole segments: long enough that handing it from thread to thread
/// costs less than a hundredth of working on it.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
/// Batches that wait before a lane: with two, a lane that is woken late finds more to do, and the
/// others do not wait for it.
const QUEUE_BATCHES: usize = 2;

/// Plain bytes on their way; the last batch ends the content.
#[derive(Clone)]
enum Batch<T> {
    Middle(T),
    End(T),
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
    sealing: mpsc::Sender<Batch<Bytes>>,
    hashing: Vec<mpsc::Sender<Bytes>>,
    hashed: Vec<JoinHandle<Digests>>,
    stored: JoinHandle<Result<(), ContentError>>,
}

impl Pipeline {
    pub(crate) async fn start(target: Target, wanted: DigestSet) -> Result<Self, ContentError> {
        let upload = target.backend.upload(&target.project, target.content);
        let upload = upload.await?;
        let (sealing, to_seal) = mpsc::channel(QUEUE_BATCHES);
        let (writing, to_write) = mpsc::channel(QUEUE_BATCHES);
        tokio::spawn(seal(
            Arc::clone(&target.sealer),
            target.header,
            to_seal,
            writing,
        ));
        let stored = tokio::spawn(store(upload, to_write));
        let (mut hashing, mut hashed) = (Vec::new(), Vec::new());
        for lane in wanted.lanes() {
            let (sender, to_hash) = mpsc::channel(QUEUE_BATCHES);
            hashing.push(sender);
            hashed.push(tokio::spawn(hash(Digesting::new(lane), to_hash)));
        }
        Ok(Self {
            sealing,
            hashing,
            hashed,
            stored,
        })
    }

    /// Adds a batch of whole segments.
    pub(crate) async fn write(&mut self, plain: Bytes) -> Result<(), ContentError> {
        debug_assert!(plain.len().is_multiple_of(SEGMENT_BYTES));
        self.send(plain, Batch::Middle).await
    }

    async fn send(
        &mut self,
        plain: Bytes,
        as_batch: fn(Bytes) -> Batch<Bytes>,
    ) -> Result<(), ContentError> {
        if self.sealing.send(as_batch(plain.clone())).await.is_err() {
            // A lane that is gone before the end has failed; why is known at its end.
            return Err(join((&mut self.stored).await).err().unwrap_or_else(cut_off));
        }
        for lane in &self.hashing {
            // Hashing does not fail.
            let _ = lane.send(plain.clone()).await;
        }
        Ok(())
    }

    /// Adds the rest. The content is durable when this returns.
    pub(crate) async fn finish(mut self, rest: Bytes) -> Result<Digests, ContentError> {
        self.send(rest, Batch::End).await?;
        self.hashing.clear();
        let mut digests = Digests::default();
        for lane in self.hashed {
            digests = digests.or(join(lane.await));
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
    loop {
        let mut taken = Vec::with_capacity(QUEUE_BATCHES);
        if batches.recv_many(&mut taken, QUEUE_BATCHES).await == 0 {
            return digesting.finish();
        }
        digesting = block(move || {
            for batch in taken {
                digesting.update(&batch);
            }
            digesting
        })
        .await;
    }
}

async fn seal(
    sealer: Arc<Sealer>,
    header: Header,
    mut batches: mpsc::Receiver<Batch<Bytes>>,
    writing: mpsc::Sender<Batch<Vec<u8>>>,
) {
    let mut number = 0;
    while let Some(batch) = batches.recv().await {
        let sealer = Arc::clone(&sealer);
        let first = number;
        let (plain, is_end) = match batch {
            Batch::Middle(plain) => (plain, false),
            Batch::End(plain) => (plain, true),
        };
        number += (plain.len() / SEGMENT_BYTES) as u64;
        let sealed = block(move || {
            let mut sealed = Vec::with_capacity(plain.len() + plain.len() / 1_024 + 128);
            if first == 0 {
                sealed.extend_from_slice(&header.to_bytes());
            }
            sealer.seal(first, is_end, &plain, &mut sealed);
            sealed
        })
        .await;
        let batch = if is_end {
            Batch::End(sealed)
        } else {
            Batch::Middle(sealed)
        };
        if writing.send(batch).await.is_err() {
            return;
        }
    }
}

async fn store(
    mut upload: Upload,
    mut batches: mpsc::Receiver<Batch<Vec<u8>>>,
) -> Result<(), ContentError> {
    let written = loop {
        match batches.recv().await {
            Some(Batch::Middle(sealed)) => {
                if let Err(error) = upload.write(sealed).await {
                    break Err(error);
                }
            }
            Some(Batch::End(sealed)) => break upload.write(sealed).await,
            None => break Err(cut_off()),
        }
    };
    match written {
        Ok(()) => upload.finish().await,
        Err(error) => {
            upload.abandon().await;
            Err(error)
        }
    }
}

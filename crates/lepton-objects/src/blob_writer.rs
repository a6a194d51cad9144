//! Writing blobs: cutting, naming and keeping pieces, several at a time.
//!
//! Owns: where a blob is cut, and the bound on what is under way. The cuts follow FastCDC (Xia et
//! al., IEEE TPDS 2020, with normalised chunking level 1): they depend on the bytes around them
//! only, so a change moves few of them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use fastcdc::v2020::FastCDC;
use lepton_types::resources::BlobDigest;
use lepton_types::{Name, Timestamp};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use crate::backend::block;
use crate::blob_store::{BlobStore, BlobStoreError, BlobSummary};
use crate::contents::Contents;
use crate::error::ContentError;
use crate::index::{BlobIndex, NewBlob, NewPiece, Piece};
use crate::key_ring::PieceNamer;
use crate::pending::to_the_end;
use crate::pins::{Pin, PinnedPieces};
use crate::writer::{NewContent, StagedContent};

// stored: other numbers cut elsewhere, and nothing kept before would be found again.
/// No piece but the last is shorter.
const PIECE_BYTES_MIN: usize = 512 << 10;
/// What most pieces are about: a row of the index and a file for each; a change of one byte costs
/// about one piece.
const PIECE_BYTES_USUAL: usize = 1 << 20;
/// No piece is longer.
const PIECE_BYTES_MAX: usize = 4 << 20;

/// Pieces that are named, sealed and synced at the same time.
const PIECES_AT_ONCE: usize = 4;

/// A blob under way. What was kept of one that fails goes before the failure is told; dropping it
/// lets that go in the background.
pub struct BlobStoreWriter<I: BlobIndex> {
    store: BlobStore<I>,
    project: Name,
    namer: PieceNamer,
    limit_bytes: u64,
    size_bytes: u64,
    /// What is not cut yet: at most the longest piece and what was given last.
    buffer: BytesMut,
    hashing: Hashing,
    under_way: VecDeque<Keeping<I::Error>>,
    kept: Vec<KeptPiece>,
}

/// A piece that is being kept.
type Keeping<E> = JoinHandle<Result<KeptPiece, BlobStoreError<E>>>;

impl<I: BlobIndex> Drop for BlobStoreWriter<I> {
    fn drop(&mut self) {
        let (under_way, kept) = (
            std::mem::take(&mut self.under_way),
            std::mem::take(&mut self.kept),
        );
        if under_way.is_empty() && kept.is_empty() {
            return;
        }
        // Without a runtime the process is about to end: a sweep finds them.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(discard_all(under_way, kept));
        }
    }
}

/// Deletes what no record names and none will.
async fn discard_all<E: std::error::Error + 'static>(
    under_way: VecDeque<Keeping<E>>,
    kept: Vec<KeptPiece>,
) {
    let mut staged: Vec<_> = kept.into_iter().filter_map(|kept| kept.staged).collect();
    for keeping in under_way {
        if let Ok(Ok(kept)) = keeping.await {
            staged.extend(kept.staged);
        }
    }
    for staged in staged {
        staged.discard().await;
    }
}

impl<I: BlobIndex> std::fmt::Debug for BlobStoreWriter<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobStoreWriter")
            .field("project", &self.project)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// The digest of the whole, one piece behind the cuts.
enum Hashing {
    Waiting(Sha256),
    Busy(JoinHandle<Sha256>),
}

impl Hashing {
    /// What was hashed so far, to be gone on with.
    async fn settled(self) -> Result<Sha256, ContentError> {
        match self {
            Self::Waiting(hasher) => Ok(hasher),
            Self::Busy(hashing) => Ok(hashing.await.map_err(std::io::Error::other)?),
        }
    }
}

/// A piece that is in the index already, or in the backend and pending.
struct KeptPiece {
    piece: NewPiece,
    staged: Option<StagedContent>,
    _pin: Pin,
}

impl<I: BlobIndex + Clone + 'static> BlobStoreWriter<I> {
    pub(crate) fn new(
        store: BlobStore<I>,
        project: Name,
        namer: PieceNamer,
        limit_bytes: u64,
    ) -> Self {
        Self {
            store,
            project,
            namer,
            limit_bytes,
            size_bytes: 0,
            buffer: BytesMut::new(),
            hashing: Hashing::Waiting(Sha256::new()),
            under_way: VecDeque::new(),
            kept: Vec::new(),
        }
    }

    /// Adds bytes; waits while too much is under way.
    ///
    /// # Errors
    /// If the blob becomes too long or cannot be kept; the writer is then of no more use.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), BlobStoreError<I::Error>> {
        self.size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
        if self.size_bytes > self.limit_bytes {
            self.abandon().await;
            let limit_bytes = self.limit_bytes;
            return Err(ContentError::TooLarge { limit_bytes }.into());
        }
        self.buffer.extend_from_slice(&bytes);
        while self.buffer.len() >= PIECE_BYTES_MAX {
            if let Err(error) = self.cut().await {
                self.abandon().await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn abandon(&mut self) {
        let under_way = std::mem::take(&mut self.under_way);
        discard_all(under_way, std::mem::take(&mut self.kept)).await;
    }

    /// The SHA-256 of all that was written.
    async fn digest(&mut self) -> Result<BlobDigest, BlobStoreError<I::Error>> {
        let mut hasher = self.take_hasher().await?;
        self.hashing = Hashing::Waiting(hasher.clone());
        hasher.update(&self.buffer);
        Ok(BlobDigest::from_bytes(hasher.finalize().into()))
    }

    async fn take_hasher(&mut self) -> Result<Sha256, ContentError> {
        let idle = Hashing::Waiting(Sha256::new());
        std::mem::replace(&mut self.hashing, idle).settled().await
    }

    /// Ends the blob; it is kept and named when this returns, and counts as used at `now`.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub async fn finish(mut self, now: Timestamp) -> Result<BlobSummary, BlobStoreError<I::Error>> {
        let summary = match self.settle_all().await {
            Ok(summary) => summary,
            Err(error) => {
                self.abandon().await;
                return Err(error);
            }
        };
        // From here on the index may name them, whatever is heard of it.
        let kept_pieces = std::mem::take(&mut self.kept);
        let blob = NewBlob {
            digest: summary.digest,
            size_bytes: summary.size_bytes,
            pieces: kept_pieces.iter().map(|kept| kept.piece.clone()).collect(),
        };
        let (index, project) = (self.store.index.clone(), self.project.clone());
        to_the_end(async move {
            let recorded = index.record_blob(&project, blob, now).await;
            let unused = recorded.map_err(BlobStoreError::Index)?;
            for staged in kept_pieces.into_iter().filter_map(|kept| kept.staged) {
                match unused.contains(&staged.content().id) {
                    true => staged.discard().await,
                    false => drop(staged.adopt()),
                }
            }
            Ok(summary)
        })
        .await
    }

    async fn settle_all(&mut self) -> Result<BlobSummary, BlobStoreError<I::Error>> {
        // An empty blob has one empty piece.
        while !self.buffer.is_empty() || self.kept.is_empty() && self.under_way.is_empty() {
            self.cut().await?;
        }
        while !self.under_way.is_empty() {
            self.settle_one().await?;
        }
        Ok(BlobSummary {
            digest: self.digest().await?,
            size_bytes: self.size_bytes,
        })
    }

    /// Cuts one piece off the buffer, which holds all that the cut depends on.
    async fn cut(&mut self) -> Result<(), BlobStoreError<I::Error>> {
        if self.under_way.len() == PIECES_AT_ONCE {
            self.settle_one().await?;
        }
        let window = self.buffer.len().min(PIECE_BYTES_MAX);
        let mut window = self.buffer.split_to(window);
        let (piece, rest) = block(move || {
            let rest = window.split_off(cut_of(&window));
            (window.freeze(), rest)
        })
        .await;
        let (mut hasher, hashed) = (self.take_hasher().await?, piece.clone());
        self.hashing = Hashing::Busy(tokio::task::spawn_blocking(move || {
            hasher.update(&hashed);
            hasher
        }));
        // The two were one, so this moves no bytes.
        let after = std::mem::replace(&mut self.buffer, rest);
        self.buffer.unsplit(after);
        let keeping = keep_piece(
            self.store.contents.clone(),
            self.store.index.clone(),
            self.store.pins.clone(),
            self.project.clone(),
            self.namer.clone(),
            piece,
        );
        self.under_way.push_back(tokio::spawn(keeping));
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), BlobStoreError<I::Error>> {
        if let Some(keeping) = self.under_way.pop_front() {
            let kept = keeping.await;
            let kept = kept.map_err(|failed| ContentError::from(std::io::Error::other(failed)))?;
            self.kept.push(kept?);
        }
        Ok(())
    }
}

/// Where the first piece of `bytes` ends.
fn cut_of(bytes: &[u8]) -> usize {
    if bytes.len() <= PIECE_BYTES_MIN {
        return bytes.len();
    }
    let cutter = FastCDC::new(bytes, PIECE_BYTES_MIN, PIECE_BYTES_USUAL, PIECE_BYTES_MAX);
    cutter.cut(0, bytes.len()).1
}

async fn keep_piece<I: BlobIndex>(
    contents: Contents,
    index: I,
    pins: PinnedPieces,
    project: Name,
    namer: PieceNamer,
    bytes: Bytes,
) -> Result<KeptPiece, BlobStoreError<I::Error>> {
    let named = bytes.clone();
    let key = block(move || namer.name(&named)).await;
    let pin = pins.pin(&project, key).await;
    let known = index.pieces(&project, &[key]).await;
    if let Some(content) = known.map_err(BlobStoreError::Index)?.get(&key) {
        let content = *content;
        return Ok(KeptPiece {
            piece: NewPiece::Known { key, content },
            staged: None,
            _pin: pin,
        });
    }
    let mut writer = contents.begin(&project, NewContent::default()).await?;
    writer.write(bytes).await?;
    let staged = writer.finish().await?;
    let content = staged.content().clone();
    Ok(KeptPiece {
        piece: NewPiece::Written(Piece { key, content }),
        staged: Some(staged),
        _pin: pin,
    })
}

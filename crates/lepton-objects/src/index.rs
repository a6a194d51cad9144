//! What this layer asks of the index that names contents. The index's rows and these bytes are
//! two halves; the index is the half that decides what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::future::Future;

use lepton_types::resources::BlobDigest;
use lepton_types::{ContentId, Name, Timestamp};

use crate::contents::Content;

/// Which contents are named.
pub trait ContentIndex: Send + Sync {
    /// Why a question could not be answered.
    type Error: Error + Send + Sync + 'static;

    /// Those of `ids` that something of `project` names, or that are garbage which another still
    /// deletes. The answer must know every transaction that was submitted before the call, also
    /// one that had not ended yet, because whoever waited for it may be gone: ask behind the
    /// writer's queue.
    fn named(
        &self,
        project: &Name,
        ids: &[ContentId],
    ) -> impl Future<Output = Result<BTreeSet<ContentId>, Self::Error>> + Send;

    /// At most `limit` contents of `project` with ids greater than `after`, in order of id.
    fn contents_after(
        &self,
        project: &Name,
        after: Option<ContentId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Content>, Self::Error>> + Send;
}

/// A keyed digest (HMAC-SHA-256) of a piece's plain bytes: equal pieces of a project have equal
/// keys, and nobody without the project's key can tell what a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceKey(pub [u8; 32]);

/// A piece that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its key within the project.
    pub key: PieceKey,
    /// Its bytes.
    pub content: Content,
}

/// A piece to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewPiece {
    /// One that the index already has.
    Known {
        /// Its key.
        key: PieceKey,
        /// The content that the index gave for it.
        content: ContentId,
    },
    /// One that was just written.
    Written(Piece),
}

/// A blob to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBlob {
    /// The SHA-256 of all its bytes.
    pub digest: BlobDigest,
    /// Its length.
    pub size_bytes: u64,
    /// Its pieces in order. The same piece may occur twice.
    pub pieces: Vec<NewPiece>,
}

/// A blob that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRecord {
    /// Its length.
    pub size_bytes: u64,
    /// Its pieces in order.
    pub pieces: Vec<Content>,
}

/// The rows of blobs and their pieces. Each call is one transaction, durable when it returns.
pub trait BlobIndex: Send + Sync {
    /// Why a call failed.
    type Error: Error + Send + Sync + 'static;

    /// A blob of the project.
    fn blob(
        &self,
        project: &Name,
        digest: BlobDigest,
    ) -> impl Future<Output = Result<Option<BlobRecord>, Self::Error>> + Send;

    /// Which of `keys` the project has, with their contents' ids.
    fn pieces(
        &self,
        project: &Name,
        keys: &[PieceKey],
    ) -> impl Future<Output = Result<BTreeMap<PieceKey, ContentId>, Self::Error>> + Send;

    /// Records a blob used at `now`, its new pieces, and that it needs all of its pieces.
    /// If the blob is there already, these pieces take the place of the ones it had: those may be
    /// under a key that was destroyed. If a written piece's key is there already, the one that is there serves.
    /// Fails, recording nothing, if a known piece is not there under the content named.
    ///
    /// Returns the contents among the written ones that are *not* recorded.
    fn record_blob(
        &self,
        project: &Name,
        blob: NewBlob,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<ContentId>, Self::Error>> + Send;

    /// Notes that blobs are used at `now`, and tells the lengths of those that are there.
    fn touch_blobs(
        &self,
        project: &Name,
        digests: &[BlobDigest],
        now: Timestamp,
    ) -> impl Future<Output = Result<BTreeMap<BlobDigest, u64>, Self::Error>> + Send;

    /// Removes at most `limit` blobs that were last used before `before` and are not in `keep`,
    /// in one transaction. Returns how many went.
    fn remove_blobs(
        &self,
        project: &Name,
        keep: &BTreeSet<BlobDigest>,
        before: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<usize, Self::Error>> + Send;

    /// At most `limit` pieces that no blob needs, with keys greater than `after`, in order.
    fn unneeded_pieces(
        &self,
        project: &Name,
        after: Option<PieceKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<PieceKey>, Self::Error>> + Send;

    /// Removes those of `keys` that no blob needs, and makes their contents garbage in the same
    /// transaction, to be deleted as all garbage is. Returns how many went.
    fn remove_pieces(
        &self,
        project: &Name,
        keys: &[PieceKey],
    ) -> impl Future<Output = Result<usize, Self::Error>> + Send;
}

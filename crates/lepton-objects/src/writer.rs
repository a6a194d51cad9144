//! Writing: bytes stream in, and become a content.
//!
//! Owns: whether a content becomes inline bytes, one file written at once, or a pipeline. Must not
//! know: where the bytes come from.

use std::sync::Arc;

use bytes::Bytes;
use lepton_types::{ContentId, DataKeyId, Name};
use zeroize::Zeroizing;

use crate::backend::block;
use crate::buffers::Buffer;
use crate::contents::{Content, Contents};
use crate::digests::{DigestKind, DigestSet, Digesting, Digests};
use crate::error::ContentError;
use crate::keys::{ContentKey, keyed};
use crate::pending::Pending;
use crate::pipeline::{Pipeline, Target};
use crate::seal::{Header, Sealer, sealed_bytes_of};

/// Up to this size work is done where the caller is: handing it to another thread takes longer.
const AT_ONCE_BYTES: usize = 32 << 10;

/// How a content is to be written.
#[derive(Debug, Clone)]
pub struct NewContent {
    /// Whose key seals it.
    pub key: ContentKey,
    /// What to compute of the plain bytes.
    pub digests: DigestSet,
    /// The most bytes it may have.
    pub size_bytes_max: u64,
}

impl Default for NewContent {
    /// Under the project's key, without digests, of any length.
    fn default() -> Self {
        Self {
            key: ContentKey::Project,
            digests: DigestSet::NONE,
            size_bytes_max: u64::MAX,
        }
    }
}

/// A content under way. Dropping it leaves nothing.
pub struct ContentWriter {
    contents: Contents,
    project: Name,
    id: ContentId,
    pending: Pending,
    header: Header,
    sealer: Arc<Sealer>,
    data_key: Option<DataKeyId>,
    tag_key: Zeroizing<[u8; 32]>,
    wanted: DigestSet,
    size_bytes: u64,
    size_bytes_max: u64,
    /// At most one batch; none before the first byte.
    buffer: Option<Buffer>,
    pipeline: Option<Pipeline>,
}

impl std::fmt::Debug for ContentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentWriter")
            .field("id", &self.id)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// What a writer begins with.
pub(crate) struct Beginning {
    pub(crate) contents: Contents,
    pub(crate) project: Name,
    pub(crate) pending: Pending,
    pub(crate) header: Header,
    pub(crate) sealer: Sealer,
    pub(crate) data_key: Option<DataKeyId>,
    pub(crate) tag_key: Zeroizing<[u8; 32]>,
}

impl ContentWriter {
    pub(crate) fn new(beginning: Beginning, new: &NewContent) -> Self {
        Self {
            id: beginning.header.content,
            contents: beginning.contents,
            project: beginning.project,
            pending: beginning.pending,
            header: beginning.header,
            sealer: Arc::new(beginning.sealer),
            data_key: beginning.data_key,
            tag_key: beginning.tag_key,
            wanted: new.digests,
            size_bytes: 0,
            size_bytes_max: new.size_bytes_max,
            buffer: None,
            pipeline: None,
        }
    }

    /// The id that the content will have.
    #[must_use]
    pub fn id(&self) -> ContentId {
        self.id
    }

    /// Adds bytes; waits while too much is under way.
    ///
    /// # Errors
    /// If the content becomes too long or cannot be written; the writer is then of no more use.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ContentError> {
        self.size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
        if self.size_bytes > self.size_bytes_max {
            return Err(ContentError::TooLarge {
                limit_bytes: self.size_bytes_max,
            });
        }
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            let buffers = self.contents.buffers();
            let buffer = self.buffer.get_or_insert_with(|| buffers.take());
            bytes = &bytes[buffer.fill(bytes)..];
            // A full batch goes only when more follows it: the last one is marked as the last.
            if !bytes.is_empty() {
                self.send_batch().await?;
            }
        }
        Ok(())
    }

    async fn send_batch(&mut self) -> Result<(), ContentError> {
        let batch = self.take_batch();
        let pipeline = match &mut self.pipeline {
            Some(pipeline) => pipeline,
            none => {
                let target = Target {
                    backend: self.contents.backend().clone(),
                    project: self.project.clone(),
                    content: self.id,
                    header: self.header,
                    sealer: Arc::clone(&self.sealer),
                };
                let streams = self.contents.md5_streams();
                none.insert(Pipeline::start(target, self.wanted, streams).await?)
            }
        };
        pipeline.write(batch).await
    }

    fn take_batch(&mut self) -> Bytes {
        self.buffer.take().map(Buffer::freeze).unwrap_or_default()
    }

    /// Ends the content. When this returns it is durable, or is given back as sealed inline bytes.
    ///
    /// # Errors
    /// If it cannot be written; nothing is left then.
    pub async fn finish(mut self) -> Result<StagedContent, ContentError> {
        let rest = self.take_batch();
        if let Some(pipeline) = self.pipeline.take() {
            let digests = pipeline.finish(rest).await?;
            return Ok(self.staged(None, digests));
        }
        let inline_bytes_max = self.contents.inline_bytes_max();
        if inline_bytes_max > 0 && rest.len() <= inline_bytes_max {
            let (sealer, header, wanted) = (Arc::clone(&self.sealer), self.header, self.wanted);
            let both = move || {
                let digests = Digesting::of(wanted, &rest);
                (whole(&sealer, header, &rest), digests)
            };
            let (sealed, digests) = if self.size_bytes <= AT_ONCE_BYTES as u64 {
                both()
            } else {
                block(both).await
            };
            return Ok(self.staged(Some(sealed.into()), digests));
        }
        let digests = self.put_whole(rest).await?;
        Ok(self.staged(None, digests))
    }

    /// Digests are computed while the disk is busy.
    async fn put_whole(&self, plain: Bytes) -> Result<Digests, ContentError> {
        let (sealer, header) = (Arc::clone(&self.sealer), self.header);
        let (bytes, wanted) = (plain.clone(), self.wanted);
        let make = move || whole(&sealer, header, &plain);
        let put = self.contents.backend().put(&self.project, self.id, make);
        if wanted == DigestSet::NONE {
            put.await?;
            return Ok(Digests::default());
        }
        let md5 = async {
            match wanted.wants(DigestKind::Md5) {
                true => {
                    let stream = self.contents.md5_streams().begin();
                    Some(stream.finish(bytes.clone()).await)
                }
                false => None,
            }
        };
        let others = async {
            let (wanted, bytes) = (wanted.without(DigestKind::Md5), bytes.clone());
            match wanted {
                DigestSet::NONE => Digests::default(),
                _ => block(move || Digesting::of(wanted, &bytes)).await,
            }
        };
        let (put, md5, others) = futures_util::future::join3(put, md5, others).await;
        put?;
        Ok(Digests { md5, ..others })
    }

    fn staged(self, inline: Option<Bytes>, digests: Digests) -> StagedContent {
        StagedContent {
            content: Content {
                id: self.id,
                size_bytes: self.size_bytes,
                inline,
            },
            digests,
            data_key: self.data_key,
            tag_key: self.tag_key,
            project: self.project,
            contents: self.contents,
            pending: self.pending,
        }
    }
}

fn whole(sealer: &Sealer, header: Header, plain: &[u8]) -> Vec<u8> {
    let length = usize::try_from(sealed_bytes_of(plain.len() as u64));
    let mut sealed = Vec::with_capacity(length.unwrap_or_default());
    sealed.extend_from_slice(&header.to_bytes());
    sealer.seal(0, true, plain, &mut sealed);
    sealed
}

/// A content that is whole but which the index does not name yet. No sweep takes it.
///
/// Record [`StagedContent::content`] in the index, then call [`StagedContent::adopt`]. If the record
/// was refused, call [`StagedContent::discard`]. Dropped, as when a request is cut off in between,
/// it is left to the next sweep, which asks the index.
#[must_use]
pub struct StagedContent {
    content: Content,
    digests: Digests,
    data_key: Option<DataKeyId>,
    tag_key: Zeroizing<[u8; 32]>,
    project: Name,
    contents: Contents,
    pending: Pending,
}

impl std::fmt::Debug for StagedContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StagedContent")
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

impl StagedContent {
    /// A tag of `digest` that only the holder of the content's key can make: the same for the same
    /// bytes under the same key, and to everybody else as good as random.
    #[must_use]
    pub fn tag(&self, digest: &[u8]) -> [u8; 16] {
        let tag = keyed(self.tag_key.as_slice(), &[digest]);
        *tag.first_chunk()
            .expect("invariant: 32 bytes are more than 16")
    }

    /// What the index has to record.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The digests asked for.
    #[must_use]
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The data key that sealed it; none under a customer's key.
    #[must_use]
    pub fn data_key(&self) -> Option<DataKeyId> {
        self.data_key
    }

    /// The index names it now.
    pub fn adopt(self) -> Content {
        drop(self.pending);
        self.content
    }

    /// Nobody will ever name it: deletes it. What cannot be deleted now, a sweep finds.
    pub async fn discard(self) {
        if self.content.inline.is_none() {
            let removed = self
                .contents
                .delete(&self.project, &[self.content.id])
                .await;
            if let Err(error) = removed {
                tracing::warn!(content = %self.content.id, %error, "a discarded content stays until a sweep");
            }
        }
        drop(self.pending);
    }
}

//! Contents: immutable sealed bytes by random id.
//!
//! Owns: beginning, reading and deleting contents. Must not know: who
//! names a content and why.

use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use lepton_types::{ContentId, IdSource, Name};
use zeroize::Zeroizing;

use crate::backend::{Backend, Claim, block};
use crate::buffers::{BATCH_BYTES, Buffers};
use crate::config::ContentsConfig;
use crate::error::{ContentError, OpenError};
use crate::key_ring::{DataKey, KeyRings, PieceNamer};
use crate::keys::{ContentKey, CustomerKeyError, keyed, random};
use crate::md5_streams::Md5Streams;
use crate::pending::PendingContents;
use crate::reader::{
    ContentReader, FIRST_BATCH_SEGMENTS, Fetcher, Opener, offset_of, pieces, segments_in,
};
use crate::rescue::{Rescue, Rescues};
use crate::seal::{HEADER_BYTES, Header, KeyName, Sealer, sealed_bytes_of};
use crate::writer::{Beginning, ContentWriter, NewContent, StagedContent};

/// What the key of tags is derived by.
const TAG_LABEL: &[u8] = b"lepton content tag v1";

/// A content as the index records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its id.
    pub id: ContentId,
    /// The length of the plain bytes.
    pub size_bytes: u64,
    /// The sealed bytes themselves when they are small: the index keeps them in the transaction
    /// that makes them visible. None: they are in the backend.
    pub inline: Option<Bytes>,
}

/// All contents of one Lepton. Cheap to clone.
#[derive(Clone)]
pub struct Contents(Arc<Inner>);

struct Inner {
    backend: Backend,
    replica: Option<Backend>,
    keys: KeyRings,
    ids: Arc<dyn IdSource>,
    pending: PendingContents,
    buffers: Buffers,
    md5_streams: Md5Streams,
    rescues: Rescues,
    inline_bytes_max: usize,
    claim: Claim,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Contents").field(&self.0.backend).finish()
    }
}

impl Contents {
    /// Opens or makes the store, and clears what was never finished.
    ///
    /// # Errors
    /// If the backend cannot be used or another process has it open.
    pub async fn open(config: ContentsConfig) -> Result<Self, OpenError> {
        let backend = Backend::connect(config.backend).await?;
        let replica = match config.replica {
            Some(replica) => Some(Backend::connect(replica).await?),
            None => None,
        };
        let mut claim = Claim::Known;
        if let Some(owner) = config.owner {
            claim = backend.claim(owner).await?;
            if let Some(replica) = &replica {
                replica.claim(owner).await?;
            }
        }
        let keys = KeyRings::new(
            backend.clone(),
            Arc::clone(&config.ids),
            config.wrapper,
            config.retired_wrappers,
        );
        Ok(Self(Arc::new(Inner {
            backend,
            replica,
            keys,
            ids: config.ids,
            pending: PendingContents::default(),
            buffers: Buffers::default(),
            md5_streams: Md5Streams::new(),
            rescues: Rescues::default(),
            // Longer contents go through a pipeline, which has nothing to give back.
            inline_bytes_max: config.inline_bytes_max.min(BATCH_BYTES),
            claim,
        })))
    }

    /// Whether the place was claimed just now and holds nothing: contents that an index names are
    /// elsewhere then.
    ///
    /// # Errors
    /// If the backend fails.
    pub async fn is_new_and_empty(&self) -> Result<bool, ContentError> {
        Ok(self.0.claim == Claim::Fresh && self.projects().await?.is_empty())
    }

    /// Where contents are kept, and where they are copied to, for people.
    #[must_use]
    pub fn places(&self) -> (String, Option<String>) {
        let replica = self.0.replica.as_ref().map(Backend::place);
        (self.0.backend.place(), replica)
    }

    /// Begins a content of `project`. Dropping the writer leaves nothing.
    ///
    /// # Errors
    /// If the project's keys cannot be used.
    pub async fn begin(
        &self,
        project: &Name,
        new: NewContent,
    ) -> Result<ContentWriter, ContentError> {
        let id = self.0.ids.next_id().into();
        let pending = self.0.pending.register(id);
        let salt = random();
        let of_project = |key: DataKey| (key.secret, KeyName::Project(key.id), Some(key.id));
        let (secret, key, data_key) = match &new.key {
            ContentKey::Project => of_project(self.0.keys.current(project).await?),
            ContentKey::Named(name) => of_project(self.0.keys.named(project, name).await?),
            ContentKey::Customer(key) => {
                let name = KeyName::Customer(key.fingerprint(id, &salt));
                (key.secret(), name, None)
            }
        };
        let header = Header {
            key,
            content: id,
            salt,
        };
        let beginning = Beginning {
            contents: self.clone(),
            project: project.clone(),
            pending,
            header,
            sealer: Sealer::new(&secret, project, &header),
            data_key,
            tag_key: Zeroizing::new(keyed(secret.as_slice(), &[TAG_LABEL])),
        };
        Ok(ContentWriter::new(beginning, &new))
    }

    /// Keeps all that `body` gives.
    ///
    /// # Errors
    /// If the bytes cannot be kept, or the first error of `body`.
    pub async fn put<S, E>(
        &self,
        project: &Name,
        new: NewContent,
        body: S,
    ) -> Result<StagedContent, E>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: From<ContentError> + Send,
    {
        let mut writer = self.begin(project, new).await?;
        let mut body = std::pin::pin!(body);
        while let Some(bytes) = body.next().await {
            writer.write(bytes?).await?;
        }
        Ok(writer.finish().await?)
    }

    /// Reads a whole content of at most `limit_bytes` into memory.
    ///
    /// # Errors
    /// As [`Contents::read`], or if it is longer.
    pub async fn read_all(
        &self,
        project: &Name,
        content: &Content,
        key: &ContentKey,
        limit_bytes: u64,
    ) -> Result<Bytes, ContentError> {
        if content.size_bytes > limit_bytes {
            return Err(ContentError::TooLarge { limit_bytes });
        }
        let all = 0..content.size_bytes;
        self.read(project, content, key, all).await?.collect().await
    }

    /// Writes the plain bytes of a content to file `to`, which must not exist, verified, for a
    /// workload to read. Nothing is left behind on failure. Not synced.
    ///
    /// # Errors
    /// As [`Contents::read`], or if the file cannot be written.
    pub async fn copy_to(
        &self,
        project: &Name,
        content: &Content,
        key: &ContentKey,
        to: &Path,
    ) -> Result<(), ContentError> {
        let all = 0..content.size_bytes;
        let mut reader = self.read(project, content, key, all).await?;
        let mut file = NewFile::create(to).await?;
        while let Some(bytes) = reader.next().await {
            file = file.append(bytes?).await?;
        }
        file.keep();
        Ok(())
    }

    /// Whether `key` fits a content, without reading its bytes (S3's HEAD).
    ///
    /// # Errors
    /// If it does not fit, or the content is not there.
    pub async fn check_key(
        &self,
        project: &Name,
        content: &Content,
        key: &ContentKey,
    ) -> Result<(), ContentError> {
        match &content.inline {
            Some(sealed) => self.opener(project, content, sealed, key).await?,
            None => {
                let backend = &self.0.backend;
                let source = backend.open(project, content.id, HEADER_BYTES).await?;
                self.opener(project, content, &source.head, key).await?
            }
        };
        Ok(())
    }

    /// Deletes contents that the index names no more. Deleting what is gone is no error;
    /// readers that have begun may end.
    ///
    /// # Errors
    /// If the backend fails; some may be gone then.
    pub async fn delete(&self, project: &Name, ids: &[ContentId]) -> Result<(), ContentError> {
        self.0.backend.remove(project, ids).await
    }

    /// The projects that have contents or keys here, those included that are gone by now.
    ///
    /// # Errors
    /// If the backend fails.
    pub async fn projects(&self) -> Result<Vec<Name>, ContentError> {
        self.0.backend.projects().await
    }
}

impl Contents {
    pub(crate) fn backend(&self) -> &Backend {
        &self.0.backend
    }

    pub(crate) fn replica(&self) -> Option<&Backend> {
        self.0.replica.as_ref()
    }

    pub(crate) fn pending(&self) -> &PendingContents {
        &self.0.pending
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.0.buffers
    }

    pub(crate) fn rescues(&self) -> &Rescues {
        &self.0.rescues
    }

    pub(crate) fn md5_streams(&self) -> &Md5Streams {
        &self.0.md5_streams
    }

    pub(crate) fn inline_bytes_max(&self) -> usize {
        self.0.inline_bytes_max
    }

    pub(crate) fn key_rings(&self) -> &KeyRings {
        &self.0.keys
    }

    /// What names the pieces of `project`.
    pub(crate) async fn piece_namer(&self, project: &Name) -> Result<PieceNamer, ContentError> {
        self.0.keys.piece_namer(project).await
    }

    /// As [`Contents::read`], from this backend alone.
    pub(crate) async fn read_from(
        &self,
        backend: &Backend,
        project: &Name,
        content: &Content,
        key: &ContentKey,
        range: Range<u64>,
    ) -> Result<ContentReader, ContentError> {
        let here = (backend, None);
        self.read_with(here, project, content, key, range).await
    }

    pub(crate) async fn read_with(
        &self,
        (backend, rescue): (&Backend, Option<Rescue>),
        project: &Name,
        content: &Content,
        key: &ContentKey,
        range: Range<u64>,
    ) -> Result<ContentReader, ContentError> {
        if range.start > range.end || range.end > content.size_bytes {
            return Err(ContentError::OutOfRange {
                size_bytes: content.size_bytes,
            });
        }
        let segments = segments_in(&range);
        if let Some(sealed) = &content.inline {
            let opener = self.opener(project, content, sealed, key).await?;
            return inline_reader(&opener, sealed, &range);
        }
        let head_bytes = if segments.start == 0 {
            offset_of(segments.end.min(FIRST_BATCH_SEGMENTS))
        } else {
            HEADER_BYTES as u64
        };
        let source = backend
            .open(project, content.id, as_usize(head_bytes))
            .await?;
        if source.sealed_bytes != sealed_bytes_of(content.size_bytes) {
            return Err(ContentError::Damaged {
                content: content.id,
            });
        }
        let opener = self.opener(project, content, &source.head, key).await?;
        let fetcher = Fetcher::new(source, opener, segments, self.buffers(), rescue);
        ContentReader::fetch(fetcher, &range).await
    }

    /// Reads the header in `head` and gets the key that it names.
    pub(crate) async fn opener(
        &self,
        project: &Name,
        content: &Content,
        head: &[u8],
        key: &ContentKey,
    ) -> Result<Opener, ContentError> {
        let header = Header::read(head, content.id).map_err(|_| ContentError::Damaged {
            content: content.id,
        })?;
        let secret = match (header.key, key) {
            (KeyName::Project(id), ContentKey::Project | ContentKey::Named(_)) => {
                self.0.keys.find(project, id).await?.secret
            }
            (KeyName::Project(_), ContentKey::Customer(_)) => {
                return Err(CustomerKeyError::NotUsed.into());
            }
            (KeyName::Customer(_), ContentKey::Project | ContentKey::Named(_)) => {
                return Err(CustomerKeyError::Missing.into());
            }
            (KeyName::Customer(fingerprint), ContentKey::Customer(key)) => {
                if key.fingerprint(content.id, &header.salt) != fingerprint {
                    return Err(CustomerKeyError::Wrong.into());
                }
                key.secret()
            }
        };
        Ok(Opener {
            sealer: Arc::new(Sealer::new(&secret, project, &header)),
            content: content.id,
            size_bytes: content.size_bytes,
        })
    }
}

fn inline_reader(
    opener: &Opener,
    sealed: &[u8],
    range: &Range<u64>,
) -> Result<ContentReader, ContentError> {
    if sealed.len() as u64 != sealed_bytes_of(opener.size_bytes) {
        return Err(ContentError::Damaged {
            content: opener.content,
        });
    }
    let segments = segments_in(range);
    let body =
        as_usize(offset_of(segments.start))..as_usize(offset_of(segments.end)).min(sealed.len());
    let mut opened = sealed[body].to_vec();
    let lengths = opener.open(segments, &mut opened)?;
    let ready = pieces(&opened.into(), lengths);
    Ok(ContentReader::of_segments(ready, range))
}

/// For lengths that are known to be small.
fn as_usize(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// A file that is removed unless it is kept.
pub(crate) struct NewFile {
    file: std::fs::File,
    path: Option<std::path::PathBuf>,
}

impl NewFile {
    pub(crate) async fn create(path: &Path) -> Result<Self, ContentError> {
        let path = path.to_owned();
        let created = block(move || {
            let mut options = std::fs::OpenOptions::new();
            let file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            Ok::<_, std::io::Error>(Self {
                file,
                path: Some(path),
            })
        });
        Ok(created.await?)
    }

    pub(crate) async fn append(mut self, bytes: Bytes) -> Result<Self, ContentError> {
        let appended = block(move || {
            self.file.write_all(&bytes)?;
            Ok::<_, std::io::Error>(self)
        });
        Ok(appended.await?)
    }

    pub(crate) fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

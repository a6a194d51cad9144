//! Where sealed bytes are kept: the local disk or a remote object service.
//!
//! Owns: keeping and giving back bytes under a project and an id, whole or not at all. Must not
//! know: what they mean, or which key opens them.

mod claim;
mod connector;
mod local;
mod local_upload;
mod remote;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use lepton_types::{ContentId, Name};
use local::Local;
use object_store::UpdateVersion;
use object_store::path::Path;
use remote::Remote;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use claim::Claim;
pub(crate) use connector::http_client;
pub(crate) use local_upload::LocalUpload;
pub(crate) use remote::{RemoteUpload, check_remote};

use crate::buffers::{Buffer, Buffers};
use crate::config::BackendConfig;
use crate::disk::{Disk, DiskFile, LocalDisk};
use crate::error::{BackendError, ContentError, OpenError};

/// One place that keeps contents.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    Local(Arc<Local>),
    Remote(Arc<Remote>),
}

/// A content under way. Dropped before its end, it leaves nothing.
pub(crate) enum Upload {
    Local(LocalUpload),
    Remote(RemoteUpload),
}

/// A content that can be read.
#[derive(Clone)]
pub(crate) struct Source {
    place: SourcePlace,
    pub(crate) sealed_bytes: u64,
    /// The first bytes, read when it was opened.
    pub(crate) head: bytes::Bytes,
}

#[derive(Clone)]
enum SourcePlace {
    Local(Arc<dyn DiskFile>),
    Remote { remote: Arc<Remote>, path: Path },
}

/// A project's wrapped keys as they are kept.
pub(crate) struct KeyFile {
    pub(crate) bytes: Vec<u8>,
    /// What a replacement must name, where several servers may change them.
    pub(crate) version: Option<UpdateVersion>,
}

/// What may be there before wrapped keys are written.
pub(crate) enum KeyWrite {
    /// Nothing.
    Create,
    /// What was loaded.
    Replace(Option<UpdateVersion>),
    /// Anything.
    Overwrite,
}

/// The shard that a content lies in: random, as the end of its id is.
pub(crate) fn shard_of(content: ContentId) -> u8 {
    content.id().to_bytes()[15]
}

/// Does blocking work off the async threads.
pub(crate) async fn block<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("invariant: blocking work is never cancelled"),
        },
    }
}

impl Backend {
    pub(crate) async fn connect(config: BackendConfig) -> Result<Self, OpenError> {
        let (disk, root): (Arc<dyn Disk>, _) = match config {
            BackendConfig::Local { root } => (Arc::new(LocalDisk), root),
            BackendConfig::Disk { disk, root } => (disk, root),
            BackendConfig::Remote(config) => {
                let remote = Remote::from_config(&config)?;
                remote
                    .check()
                    .await
                    .map_err(|source| OpenError::Unreachable {
                        place: config.url.clone(),
                        source,
                    })?;
                return Ok(Self::Remote(Arc::new(remote)));
            }
            BackendConfig::Store { store, prefix } => {
                return Ok(Self::Remote(Arc::new(Remote::new(store, &prefix))));
            }
        };
        let local = block(move || Local::open(disk, &root)).await?;
        Ok(Self::Local(Arc::new(local)))
    }

    pub(crate) async fn upload(
        &self,
        project: &Name,
        content: ContentId,
    ) -> Result<Upload, ContentError> {
        Ok(match self {
            Self::Local(local) => Upload::Local(LocalUpload::begin(local, project, content).await?),
            Self::Remote(remote) => Upload::Remote(remote.upload(project, content).await?),
        })
    }

    /// Keeps a whole sealed content at once.
    pub(crate) async fn put(
        &self,
        project: &Name,
        content: ContentId,
        make: impl FnOnce() -> Vec<u8> + Send + 'static,
    ) -> Result<(), ContentError> {
        match self {
            Self::Local(local) => {
                let (local, project) = (Arc::clone(local), project.clone());
                let put = move || {
                    let staged = local.stage()?;
                    staged.file.write_at(0, &make())?;
                    local.publish(staged, &project, content)
                };
                Ok(block(put).await?)
            }
            Self::Remote(remote) => remote.put(project, content, block(make).await).await,
        }
    }

    /// Opens a content, and reads at most its first `head_bytes`.
    pub(crate) async fn open(
        &self,
        project: &Name,
        content: ContentId,
        head_bytes: usize,
    ) -> Result<Source, ContentError> {
        match self {
            Self::Local(local) => {
                let (local, project) = (Arc::clone(local), project.clone());
                let opened = block(move || {
                    let file = local.open_content(&project, content)?;
                    let sealed_bytes = file.size_bytes()?;
                    let mut head =
                        vec![
                            0;
                            head_bytes.min(usize::try_from(sealed_bytes).unwrap_or(usize::MAX))
                        ];
                    let read = file.read_at(0, &mut head)?;
                    head.truncate(read);
                    Ok(Source {
                        place: SourcePlace::Local(file),
                        sealed_bytes,
                        head: head.into(),
                    })
                })
                .await;
                opened.map_err(|error: io::Error| match error.kind() {
                    io::ErrorKind::NotFound => ContentError::NotFound { content },
                    _ => error.into(),
                })
            }
            Self::Remote(remote) => {
                let (path, head, sealed_bytes) = remote.open(project, content, head_bytes).await?;
                let remote = Arc::clone(remote);
                Ok(Source {
                    place: SourcePlace::Remote { remote, path },
                    sealed_bytes,
                    head,
                })
            }
        }
    }

    pub(crate) async fn remove(
        &self,
        project: &Name,
        ids: &[ContentId],
    ) -> Result<(), ContentError> {
        match self {
            Self::Local(local) => {
                let (local, project, ids) = (Arc::clone(local), project.clone(), ids.to_vec());
                let removing = move || ids.iter().try_for_each(|id| local.remove(&project, *id));
                Ok(block(removing).await?)
            }
            Self::Remote(remote) => remote.remove(project, ids).await,
        }
    }

    /// The shards of a project that have contents, or had.
    pub(crate) async fn shards(&self, project: &Name) -> Result<Vec<u8>, ContentError> {
        match self {
            Self::Local(local) => {
                let (local, project) = (Arc::clone(local), project.clone());
                Ok(block(move || local.shards(&project)).await?)
            }
            Self::Remote(remote) => remote.shards(project).await,
        }
    }

    /// The contents of one of 256 shards, in order.
    pub(crate) async fn list(
        &self,
        project: &Name,
        shard: u8,
    ) -> Result<Vec<ContentId>, ContentError> {
        match self {
            Self::Local(local) => {
                let (local, project) = (Arc::clone(local), project.clone());
                Ok(block(move || local.list(&project, shard)).await?)
            }
            Self::Remote(remote) => remote.list(project, shard).await,
        }
    }

    pub(crate) async fn projects(&self) -> Result<Vec<Name>, ContentError> {
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                Ok(block(move || local.projects()).await?)
            }
            Self::Remote(remote) => remote.projects().await,
        }
    }

    pub(crate) async fn load_keys(&self, project: &Name) -> Result<Option<KeyFile>, ContentError> {
        match self {
            Self::Local(local) => {
                let (local, project) = (Arc::clone(local), project.clone());
                let bytes = block(move || local.load_keys(&project)).await?;
                Ok(bytes.map(|bytes| KeyFile {
                    bytes,
                    version: None,
                }))
            }
            Self::Remote(remote) => remote.load_keys(project).await,
        }
    }

    /// Whether they were kept: not, if another server changed them meanwhile.
    pub(crate) async fn store_keys(
        &self,
        project: &Name,
        bytes: Vec<u8>,
        write: KeyWrite,
    ) -> Result<bool, ContentError> {
        match self {
            // This process alone has the folder.
            Self::Local(local) => {
                let (local, project) = (Arc::clone(local), project.clone());
                block(move || local.store_keys(&project, &bytes)).await?;
                Ok(true)
            }
            Self::Remote(remote) => remote.store_keys(project, bytes, write).await,
        }
    }
}

impl Upload {
    /// Adds sealed bytes.
    pub(crate) async fn write(&mut self, sealed: Bytes) -> Result<(), ContentError> {
        match self {
            Self::Local(upload) => upload.append(sealed).await,
            Self::Remote(upload) => upload.write(&sealed).await,
        }
    }

    /// Removes what was written.
    pub(crate) async fn abandon(self) {
        match self {
            Self::Local(upload) => block(move || drop(upload)).await,
            Self::Remote(upload) => upload.abandon().await,
        }
    }

    /// Ends the content; it is durable when this returns.
    pub(crate) async fn finish(self) -> Result<(), ContentError> {
        match self {
            Self::Local(upload) => upload.finish().await,
            Self::Remote(upload) => upload.finish().await,
        }
    }
}

impl Source {
    /// Begins at once, on other threads, to read the `length` bytes from `offset`, at most a batch as it is sealed, and to
    /// do `work` with them, which may take long; what is returned only waits for that, and ends it when dropped. `work` gets
    /// fewer bytes only if the content is shorter than it was.
    pub(crate) fn read<T: Send + 'static, W: FnOnce(Buffer) -> T + Send + 'static>(
        &self,
        buffers: &Buffers,
        offset: u64,
        length: usize,
        work: W,
    ) -> impl Future<Output = Result<T, ContentError>> + Send + use<T, W> {
        let mut buffer = buffers.take();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let begun = match (
            self.head.get(start..start.saturating_add(length)),
            &self.place,
        ) {
            (Some(known), _) => {
                buffer.copy(known);
                tokio::task::spawn_blocking(move || Ok(work(buffer)))
            }
            (None, SourcePlace::Local(file)) => {
                let file = Arc::clone(file);
                tokio::task::spawn_blocking(move || {
                    buffer.read(length, |bytes| file.read_at(offset, bytes))?;
                    Ok(work(buffer))
                })
            }
            (None, SourcePlace::Remote { remote, path }) => {
                let (remote, path) = (Arc::clone(remote), path.clone());
                tokio::spawn(async move {
                    let bytes = remote.read(&path, offset, length).await?;
                    let work = move || {
                        buffer.copy(&bytes);
                        work(buffer)
                    };
                    Ok(block(work).await)
                })
            }
        };
        let begun = AbortOnDropHandle::new(begun);
        async move {
            let ended: Result<Result<T, ContentError>, _> = begun.await;
            ended.unwrap_or_else(|failed| Err(io::Error::other(failed).into()))
        }
    }
}

impl From<io::Error> for BackendError {
    fn from(error: io::Error) -> Self {
        Self::Disk(Arc::new(error))
    }
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::StorageFull,
            _ => Self::Backend(error.into()),
        }
    }
}

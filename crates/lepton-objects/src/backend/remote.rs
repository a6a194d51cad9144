//! Contents as objects of a remote service: S3, GCS, Azure, or whatever speaks S3.
//!
//! Owns: how contents and keys become remote objects, and the bounds on parts and waiting. The
//! names are those of the local layout. Several servers may share one place: contents never
//! collide, and changes of keys are compare-and-swap.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use lepton_types::{ContentId, Name};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{
    BackoffConfig, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode,
    PutPayload, RetryConfig, UpdateVersion,
};
use tokio::task::JoinHandle;

use super::connector::Connector;
use super::{KeyFile, KeyWrite, shard_of};
use crate::config::RemoteConfig;
use crate::error::{BackendError, ContentError, OpenError};

const KEYS: &str = ".keys";
/// Whose place it is.
const CLAIM: &str = ".owner";
/// The first parts of a long upload; S3 takes none below 5 MiB.
const PART_BYTES: usize = 8 << 20;
/// After so many parts they become twice as long, three times: S3 takes 10,000, so a content may
/// have 293 GiB, while two parts in memory are never more than 128 MiB.
const PARTS_OF_A_SIZE: usize = 2_500;
/// Parts sent at the same time: one travels while the next is sealed.
const PARTS_AT_ONCE: usize = 2;
/// Deletions sent at the same time.
const REMOVALS_AT_ONCE: usize = 16;
/// Including the client's own retries; a range read is at most 4 MiB, a part 64 MiB.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a request is tried again: a service that restarts is back by then, and clients of
/// ours, who wait a minute, are told before they give up.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
const RETRIES_MAX: usize = 6;

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(4),
            base: 2.,
        },
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
    }
}

/// A place at a remote service.
#[derive(Debug)]
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    name: String,
}

/// A content on its way.
pub(crate) struct RemoteUpload {
    upload: Box<dyn MultipartUpload>,
    buffer: Vec<u8>,
    parts: usize,
    sending: std::collections::VecDeque<JoinHandle<object_store::Result<()>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the operation took longer than {} s", OPERATION_TIMEOUT.as_secs())]
struct OperationTimeout;

/// A remote place cannot be understood.
#[derive(Debug, thiserror::Error)]
enum RemoteConfigError {
    #[error("`{url}` is no object service: begin with `s3://`, `gs://` or `az://`")]
    Scheme { url: String },
    #[error("`{url}` names no bucket: write `{scheme}://BUCKET/PREFIX`")]
    Bucket { url: String, scheme: String },
}

type Connected = Result<(Arc<dyn ObjectStore>, String), Box<dyn Error + Send + Sync>>;

fn connect(config: &RemoteConfig) -> Connected {
    let url = config.url.as_str();
    let (scheme, place) = url.split_once("://").unwrap_or_default();
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let build = match scheme {
        "s3" | "s3a" => s3,
        "gs" => gcs,
        "az" | "azure" | "abfs" => azure,
        _ => {
            let url = url.to_owned();
            return Err(RemoteConfigError::Scheme { url }.into());
        }
    };
    if bucket.is_empty() {
        let (url, scheme) = (url.to_owned(), scheme.to_owned());
        return Err(RemoteConfigError::Bucket { url, scheme }.into());
    }
    Ok((build(bucket, &config.options)?, prefix.to_owned()))
}

/// Whether the URL and the options can be understood; asks nobody.
pub(crate) fn check_remote(config: &RemoteConfig) -> Result<(), OpenError> {
    connect(config).map(drop).map_err(OpenError::Configuration)
}

async fn bounded<T>(
    operation: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    let ended = tokio::time::timeout(OPERATION_TIMEOUT, operation).await;
    ended.unwrap_or_else(|_| {
        Err(object_store::Error::Generic {
            store: "remote",
            source: Box::new(OperationTimeout),
        })
    })
}

impl From<object_store::Error> for ContentError {
    fn from(error: object_store::Error) -> Self {
        Self::Backend(BackendError::Remote(Arc::new(error)))
    }
}

impl Remote {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            name: format!("{store} {prefix}"),
            store,
            prefix: Path::from(prefix),
        }
    }

    /// The place, for people.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn from_config(config: &RemoteConfig) -> Result<Self, OpenError> {
        let (store, prefix) = connect(config).map_err(OpenError::Configuration)?;
        Ok(Self {
            name: config.url.clone(),
            ..Self::new(store, &prefix)
        })
    }

    /// Fails unless the service can be reached and lets us read.
    pub(crate) async fn check(&self) -> Result<(), BackendError> {
        match bounded(self.store.head(&self.claim_place())).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BackendError::Remote(Arc::new(error))),
        }
    }

    /// Who has claimed the place: the owner given, unless another was there first.
    pub(crate) async fn claim(&self, owner: &str) -> object_store::Result<(String, bool)> {
        let place = self.claim_place();
        let payload = PutPayload::from(owner.as_bytes().to_vec());
        let put = self.store.put_opts(&place, payload, PutMode::Create.into());
        match bounded(put).await {
            Ok(_) => return Ok((owner.to_owned(), true)),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => {}
            Err(error) => return Err(error),
        }
        let found = bounded(async { self.store.get(&place).await?.bytes().await }).await?;
        Ok((String::from_utf8_lossy(&found).trim().to_owned(), false))
    }

    fn claim_place(&self) -> Path {
        self.prefix.clone().join(CLAIM)
    }

    pub(crate) async fn put(
        &self,
        project: &Name,
        content: ContentId,
        sealed: Vec<u8>,
    ) -> Result<(), ContentError> {
        let place = self.place(project, content);
        bounded(self.store.put(&place, sealed.into())).await?;
        Ok(())
    }

    pub(crate) async fn upload(
        &self,
        project: &Name,
        content: ContentId,
    ) -> Result<RemoteUpload, ContentError> {
        let place = self.place(project, content);
        Ok(RemoteUpload {
            upload: bounded(self.store.put_multipart(&place)).await?,
            buffer: Vec::new(),
            parts: 0,
            sending: std::collections::VecDeque::new(),
        })
    }

    /// The first bytes of a content, and how long it is.
    pub(crate) async fn open(
        &self,
        project: &Name,
        content: ContentId,
        head_bytes: usize,
    ) -> Result<(Path, Bytes, u64), ContentError> {
        let place = self.place(project, content);
        let range = GetRange::Bounded(0..head_bytes.max(1) as u64);
        let options = GetOptions::new().with_range(Some(range));
        let got = bounded(async {
            let got = self.store.get_opts(&place, options).await?;
            let size = got.meta.size;
            Ok((got.bytes().await?, size))
        });
        match got.await {
            Ok((head, size)) => Ok((place, head, size)),
            Err(object_store::Error::NotFound { .. }) => Err(ContentError::NotFound { content }),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn read(
        &self,
        place: &Path,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, ContentError> {
        let range = offset..offset + length as u64;
        Ok(bounded(self.store.get_range(place, range)).await?)
    }

    pub(crate) async fn remove(
        &self,
        project: &Name,
        ids: &[ContentId],
    ) -> Result<(), ContentError> {
        let places: Vec<Path> = ids.iter().map(|id| self.place(project, *id)).collect();
        let removed = stream::iter(places).map(|place| async move {
            match bounded(self.store.delete(&place)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(ContentError::from(error)),
            }
        });
        removed
            .buffer_unordered(REMOVALS_AT_ONCE)
            .try_collect()
            .await
    }

    pub(crate) async fn shards(&self, project: &Name) -> Result<Vec<u8>, ContentError> {
        let folders = self
            .folders(&self.prefix.clone().join(project.as_str()))
            .await?;
        let numbers = folders.iter().map(|name| u8::from_str_radix(name, 16));
        Ok(numbers.filter_map(Result::ok).collect())
    }

    async fn folders(&self, under: &Path) -> Result<Vec<String>, ContentError> {
        let prefix = (!under.as_ref().is_empty()).then_some(under);
        let listed = bounded(self.store.list_with_delimiter(prefix)).await?;
        let folders = listed.common_prefixes.iter();
        let names = folders.filter_map(|folder| Some(folder.filename()?.to_owned()));
        Ok(names.collect())
    }

    async fn names(&self, under: &Path) -> Result<Vec<String>, ContentError> {
        let listed = self.store.list(Some(under));
        let names = listed
            .try_filter_map(async |object| Ok(object.location.filename().map(ToOwned::to_owned)));
        let mut names: Vec<String> = bounded(names.try_collect()).await?;
        names.sort();
        Ok(names)
    }

    pub(crate) async fn list(
        &self,
        project: &Name,
        shard: u8,
    ) -> Result<Vec<ContentId>, ContentError> {
        let folder = self.prefix.clone().join(project.as_str());
        let names = self.names(&folder.join(format!("{shard:02x}"))).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(crate) async fn projects(&self) -> Result<Vec<Name>, ContentError> {
        let mut names = self.folders(&self.prefix).await?;
        names.extend(self.names(&self.prefix.clone().join(KEYS)).await?);
        let projects: BTreeSet<Name> = names.iter().filter_map(|name| name.parse().ok()).collect();
        Ok(projects.into_iter().collect())
    }

    pub(crate) async fn load_keys(&self, project: &Name) -> Result<Option<KeyFile>, ContentError> {
        let place = self.key_place(project);
        let got = bounded(async {
            let got = self.store.get(&place).await?;
            let version = UpdateVersion {
                e_tag: got.meta.e_tag.clone(),
                version: got.meta.version.clone(),
            };
            Ok((got.bytes().await?, version))
        });
        match got.await {
            Ok((bytes, version)) => Ok(Some(KeyFile {
                bytes: bytes.to_vec(),
                version: Some(version),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether they were kept: not, if another server changed them meanwhile.
    pub(crate) async fn store_keys(
        &self,
        project: &Name,
        bytes: Vec<u8>,
        write: KeyWrite,
    ) -> Result<bool, ContentError> {
        let mode = match write {
            KeyWrite::Create => PutMode::Create,
            KeyWrite::Replace(Some(version)) => PutMode::Update(version),
            KeyWrite::Replace(None) | KeyWrite::Overwrite => PutMode::Overwrite,
        };
        let place = self.key_place(project);
        let put = self.store.put_opts(&place, bytes.into(), mode.into());
        match bounded(put).await {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn key_place(&self, project: &Name) -> Path {
        self.prefix.clone().join(KEYS).join(project.as_str())
    }

    fn place(&self, project: &Name, content: ContentId) -> Path {
        let shard = format!("{:02x}", shard_of(content));
        let folder = self.prefix.clone().join(project.as_str());
        folder.join(shard).join(content.to_string())
    }
}

impl RemoteUpload {
    pub(crate) async fn write(&mut self, sealed: &[u8]) -> Result<(), ContentError> {
        self.buffer.extend_from_slice(sealed);
        if self.buffer.len() >= PART_BYTES << (self.parts / PARTS_OF_A_SIZE).min(3) {
            self.send_part().await?;
        }
        Ok(())
    }

    async fn send_part(&mut self) -> Result<(), ContentError> {
        if self.sending.len() == PARTS_AT_ONCE {
            self.settle_one().await?;
        }
        let payload = PutPayload::from(std::mem::take(&mut self.buffer));
        self.parts += 1;
        let part = bounded(self.upload.put_part(payload));
        self.sending.push_back(tokio::spawn(part));
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), ContentError> {
        if let Some(part) = self.sending.pop_front() {
            part.await.map_err(std::io::Error::other)??;
        }
        Ok(())
    }

    pub(crate) async fn finish(mut self) -> Result<(), ContentError> {
        let ended = self.complete().await;
        if ended.is_err() {
            self.abandon().await;
        }
        ended
    }

    async fn complete(&mut self) -> Result<(), ContentError> {
        if !self.buffer.is_empty() {
            self.send_part().await?;
        }
        while !self.sending.is_empty() {
            self.settle_one().await?;
        }
        bounded(self.upload.complete()).await?;
        Ok(())
    }

    /// What cannot be removed now is left to the service's own rule for unfinished uploads.
    pub(crate) async fn abandon(mut self) {
        for part in self.sending.drain(..) {
            part.abort();
        }
        if let Err(error) = bounded(self.upload.abort()).await {
            tracing::warn!(%error, "an unfinished upload stays at the object service");
        }
    }
}

type Options = BTreeMap<String, String>;
type Built = Result<Arc<dyn ObjectStore>, Box<dyn Error + Send + Sync>>;

fn s3(bucket: &str, options: &Options) -> Built {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_http_connector(Connector);
    for (key, value) in options {
        builder = builder.with_config(AmazonS3ConfigKey::from_str(key)?, value);
    }
    Ok(Arc::new(builder.build()?))
}

fn gcs(bucket: &str, options: &Options) -> Built {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_http_connector(Connector);
    for (key, value) in options {
        builder = builder.with_config(GoogleConfigKey::from_str(key)?, value);
    }
    Ok(Arc::new(builder.build()?))
}

fn azure(container: &str, options: &Options) -> Built {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(container)
        .with_retry(retries())
        .with_http_connector(Connector);
    for (key, value) in options {
        builder = builder.with_config(AzureConfigKey::from_str(key)?, value);
    }
    Ok(Arc::new(builder.build()?))
}

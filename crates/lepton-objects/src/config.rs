//! Where contents are kept and under which master key.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use lepton_types::{Id, IdSource, SystemIds};
use object_store::ObjectStore;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::keys::KeyWrapper;

/// Contents up to this size live in the index, sealed, beside the row that names them: they cost
/// no file and no sync of their own.
pub const INLINE_BYTES_MAX: usize = 16 << 10;

/// Where bytes are kept.
#[derive(Debug, Clone)]
pub enum BackendConfig {
    /// A folder of the local disk, for this process alone.
    Local {
        /// The folder; made if it is not there.
        root: PathBuf,
    },
    /// A place at an object service.
    Remote(RemoteConfig),
    /// A place at an object service that was connected elsewhere.
    Store {
        /// The service.
        store: Arc<dyn ObjectStore>,
        /// What stands before the name of every object; may be empty.
        prefix: String,
    },
    /// A folder of another disk: a simulated one, in tests.
    Disk {
        /// The disk.
        disk: Arc<dyn Disk>,
        /// The folder; made if it is not there.
        root: PathBuf,
    },
}

/// A place at an object service. Several servers may share it.
#[derive(Clone, Default)]
pub struct RemoteConfig {
    /// `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`.
    pub url: String,
    /// Credentials and the rest, by the names that the `object_store` crate documents for its
    /// `AmazonS3ConfigKey`, `GoogleConfigKey` and `AzureConfigKey`: `aws_endpoint`,
    /// `aws_region`, `aws_access_key_id`, `aws_secret_access_key`, `allow_http`, ….
    pub options: BTreeMap<String, String>,
}

impl RemoteConfig {
    /// Whether the URL and the options can be understood; asks nobody.
    ///
    /// # Errors
    /// What cannot.
    pub fn check(&self) -> Result<(), OpenError> {
        crate::backend::check_remote(self)
    }
}

impl fmt::Debug for RemoteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold secrets.
        f.debug_struct("RemoteConfig")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// How an object layer is opened.
#[derive(Clone)]
pub struct ContentsConfig {
    /// Where bytes are kept.
    pub backend: BackendConfig,
    /// Where damaged contents are repaired from, and what is written is copied to.
    pub replica: Option<BackendConfig>,
    /// Wraps new data keys.
    pub wrapper: Arc<dyn KeyWrapper>,
    /// Open data keys that were wrapped earlier.
    pub retired_wrappers: Vec<Arc<dyn KeyWrapper>>,
    /// Who names the contents: the id of the index. Each place is claimed by the first index that
    /// uses it, as what an index does not name is deleted there. None: nothing is claimed.
    pub owner: Option<Id>,
    /// Where the ids of contents and keys come from.
    pub ids: Arc<dyn IdSource>,
    /// Contents up to this size become inline; none if 0. [`INLINE_BYTES_MAX`] unless told.
    pub inline_bytes_max: usize,
}

impl fmt::Debug for ContentsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentsConfig")
            .field("backend", &self.backend)
            .field("replica", &self.replica)
            .field("wrapper", &self.wrapper)
            .field("inline_bytes_max", &self.inline_bytes_max)
            .finish_non_exhaustive()
    }
}

impl ContentsConfig {
    /// In a folder of the local disk, without a replica.
    #[must_use]
    pub fn local(root: PathBuf, wrapper: Arc<dyn KeyWrapper>) -> Self {
        Self {
            backend: BackendConfig::Local { root },
            replica: None,
            wrapper,
            retired_wrappers: Vec::new(),
            owner: None,
            ids: Arc::new(SystemIds),
            inline_bytes_max: INLINE_BYTES_MAX,
        }
    }
}

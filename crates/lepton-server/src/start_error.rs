//! What keeps a server from starting.

use std::io;
use std::path::PathBuf;

use lepton_access::MasterKeyError;
use lepton_store::{CommitError, OpenError, StoreError};

use crate::config::ConfigError;

/// Lepton could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another server has the data directory.
    #[error(
        "another Lepton (process {pid}) uses `{data_dir}`: stop it first, or choose another \
         --data-dir"
    )]
    DataDirInUse {
        /// The directory.
        data_dir: PathBuf,
        /// Its process.
        pid: String,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory `{data_dir}`")]
    DataDir {
        /// The directory.
        data_dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing can listen at the address.
    #[error("cannot listen on {listen}: is another program there? choose another with --listen")]
    Listen {
        /// The address.
        listen: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nothing can listen at the address of the S3 face.
    #[error(
        "cannot listen on {listen} for S3: is another program there? choose another with --s3-listen"
    )]
    ListenS3 {
        /// The address.
        listen: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The sealed contents cannot be opened.
    #[error(transparent)]
    Contents(#[from] lepton_objects::OpenError),
    /// The place for objects is empty, and objects are elsewhere.
    #[error(
        "`{place}` is empty, but this data directory has objects in another place: configure the new \
         place as `objects.replica` first, run `lepton objects replicate`, and then make it \
         `objects.backend`"
    )]
    ObjectsElsewhere {
        /// The place.
        place: String,
    },
    /// The master key cannot be used.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The metadata cannot be opened.
    #[error(transparent)]
    OpenStore(#[from] OpenError),
    /// The metadata cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metadata cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The objects cannot be opened.
    #[error("the objects cannot be opened")]
    Objects(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Workers cannot be run.
    #[error(transparent)]
    Executor(#[from] lepton_executors::OpenError),
    /// The machine refuses threads or signals.
    #[error("the machine refuses {what}")]
    Machine {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

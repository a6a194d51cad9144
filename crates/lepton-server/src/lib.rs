//! The server: HTTP resources, protocol faces, the reconciler, and how they are wired.
//!
//! Owns: what a request means. Must not know: SQL, tensors, how a decision is reached.

mod app;
mod auth;
mod awaited;
mod blobs;
mod cache;
mod config;
mod data_dir;
mod datasets;
mod error;
mod extract;
mod housekeeping;
mod http;
mod inputs;
mod lineage;
mod linger;
mod listener;
mod loads;
mod metering;
mod metrics;
mod mlflow;
mod object_keys;
mod plain_blobs;
mod reconcile;
mod s3;
pub mod simulation;

mod start_error;
mod startup;
mod tables;
mod upkeep;

pub use config::{
    Config, ConfigError, DEFAULT_LISTEN, ExecutorConfig, IsolationConfig, KmsConfig, LimitsConfig,
    ObjectsConfig, PlaceConfig, PoolConfig, PricesConfig, ServingConfig,
};
pub use start_error::StartError;
pub use startup::{OwnerCredential, Server, run};

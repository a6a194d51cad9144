//! The server: HTTP resources, protocol faces, the reconciler, and how they are wired.
//!
//! Owns: what a request means. Must not know: SQL, tensors, how a decision is reached.

mod app;
mod auth;
mod blobs;
mod cache;
mod config;
mod data_dir;
mod error;
mod extract;
mod housekeeping;
mod http;
mod inputs;
mod lineage;
mod listener;
mod metrics;
mod mlflow;
mod reconcile;
pub mod simulation;
mod startup;
mod tables;

pub use config::{
    Config, ConfigError, DEFAULT_LISTEN, ExecutorConfig, IsolationConfig, LimitsConfig, PoolConfig,
    ServingConfig,
};
pub use startup::{OwnerCredential, Server, StartError, run};

//! A blocking, typed client of `/api/v1`, used by the command line, by the
//! built-in workers and by tests.
//!
//! Owns: where the server is found, how a request is sent, what of it is tried
//! again, and what every failure is called. Files stream; none is ever whole in
//! memory. Must not know: how results are shown, and what the server does inside.

mod access;
mod blobs;
mod datasets;
mod discovery;
mod endpoints;
mod error;
mod jobs;
mod logs;
mod mlflow;
mod models;
mod objects;
mod pages;
mod retry;
mod runs;
mod state;
mod target;
mod transport;
mod watch;

pub use blobs::{Download, FileMismatch};
pub use discovery::{
    CredentialFile, CredentialsTooOpen, DEFAULT_URL, DiscoverError, Discovery, Found,
};
pub use endpoints::Predictions;
pub use error::{ApiError, ClientError, UnexpectedAnswer, Unreachable};
pub use jobs::JobFilter;
pub use logs::{LogChunk, LogFollower, LogQuery, LogStream};
pub use pages::{Page, Pages};
pub use retry::RetryPolicy;
pub use runs::{Over, RunFilter, SeriesRange};
pub use state::EventFilter;
pub use transport::{Client, ClientOptions};
pub use watch::Watch;

pub use ureq::http::Method;

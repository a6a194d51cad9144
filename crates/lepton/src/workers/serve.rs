//! `lepton worker serve`: one replica of an endpoint.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use lepton_serving::token::ReplicaToken;
use lepton_serving::worker::{self, ServeError, ServeOptions};
use lepton_types::signature::Signature;

use crate::commands::worker::Serve;

/// The most rows that are computed at once where rows do not depend on each other.
const STACKED_ROWS_MAX: usize = 64;

/// The replica cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeWorkerError {
    #[error("the environment lacks `{name}`: the server starts this")]
    Environment { name: &'static str },
    #[error("cannot read `{}`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`signature.json` of the model does not fit")]
    Signature(#[source] serde_json::Error),
    #[error("the machine refuses threads")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Serves until told to stop.
pub(crate) fn run(options: &Serve) -> Result<(), ServeWorkerError> {
    let port = environment("PORT")?;
    let port: u16 = port
        .parse()
        .map_err(|_| ServeWorkerError::Environment { name: "PORT" })?;
    let secrets = PathBuf::from(environment("LEPTON_SECRETS")?);
    let token = read(&secrets.join(&options.admission))?;
    let signature = signature_beside(&options.model)?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let token = ReplicaToken::new(token.trim().to_owned());
    let mut serve = ServeOptions::new(
        options.model.clone(),
        options.library.clone(),
        listen,
        token,
    );
    serve.name.clone_from(&options.name);
    serve.version.clone_from(&options.version);
    serve.threads = options.threads;
    serve.body_bytes_max = options.body_bytes_max;
    if signature
        .as_ref()
        .is_some_and(|signature| signature.task.is_some())
    {
        serve.batching.rows_max = STACKED_ROWS_MAX;
    }
    serve.signature = signature;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeWorkerError::Runtime)?;
    runtime.block_on(worker::serve(serve))?;
    Ok(())
}

fn environment(name: &'static str) -> Result<String, ServeWorkerError> {
    std::env::var(name).map_err(|_| ServeWorkerError::Environment { name })
}

fn read(path: &Path) -> Result<String, ServeWorkerError> {
    std::fs::read_to_string(path).map_err(|source| ServeWorkerError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// What is known of the model beyond its file; a model from elsewhere may bring nothing.
fn signature_beside(model: &Path) -> Result<Option<Signature>, ServeWorkerError> {
    let path = model.with_file_name("signature.json");
    if !path.exists() {
        return Ok(None);
    }
    serde_json::from_str(&read(&path)?)
        .map(Some)
        .map_err(ServeWorkerError::Signature)
}

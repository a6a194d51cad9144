//! The model server: the process that is one replica.
//!
//! Owns: the life of that process: it listens at once (and says it is not ready), loads
//! the model, answers, and on SIGTERM stops taking connections, finishes what it has,
//! and ends. Must not know: other replicas, who is calling beyond the gateway's token.

mod answers;
mod failure;
mod http;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::serve::ListenerExt;
use lepton_types::signature::Signature;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::batcher::{BatchOptions, Batcher, Model};
use crate::body::{BODY_BYTES_MAX, BodyBudget};
use crate::engine::{Engine, LoadError, ModelSource};
use crate::token::ReplicaToken;

/// Body bytes that all requests of a replica may hold together: four of the largest.
const BODY_BUDGET_BYTES: usize = 4 * BODY_BYTES_MAX;

/// What a replica serves, and how.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The model file.
    pub model: PathBuf,
    /// What is known of the meaning of its inputs and outputs beyond what the file says.
    pub signature: Option<Signature>,
    /// ONNX Runtime's shared library.
    pub library: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The model's name in the protocols: the endpoint's.
    pub name: String,
    /// The model's version.
    pub version: String,
    /// What a caller must show, except for health.
    pub token: ReplicaToken,
    /// Threads of one run.
    pub threads: usize,
    /// How requests wait, and whether they are stacked.
    pub batching: BatchOptions,
    /// The largest request body.
    pub body_bytes_max: usize,
    /// How long requests in flight may go on after SIGTERM.
    pub drain_max: Duration,
}

impl ServeOptions {
    /// The usual options: one thread, no stacking, 256 waiting requests, 64 MiB bodies,
    /// 30 s to drain.
    #[must_use]
    pub fn new(model: PathBuf, library: PathBuf, listen: SocketAddr, token: ReplicaToken) -> Self {
        Self {
            model,
            signature: None,
            library,
            listen,
            name: "model".to_owned(),
            version: "1".to_owned(),
            token,
            threads: 1,
            batching: BatchOptions {
                queue_max: 256,
                rows_max: 1,
            },
            body_bytes_max: BODY_BYTES_MAX,
            drain_max: Duration::from_secs(30),
        }
    }
}

/// Why a replica ends otherwise than asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The model does not load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The process is refused a thread, a signal handler, or its sockets.
    #[error("the system refused {what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The loading thread died.
    #[error("loading the model panicked")]
    LoadPanicked,
}

/// A replica that listens, and has not loaded its model yet.
#[derive(Debug)]
pub struct Worker {
    options: ServeOptions,
    listener: TcpListener,
    address: SocketAddr,
}

/// What every handler sees.
#[derive(Debug)]
struct Replica {
    options: ServeOptions,
    loaded: OnceLock<Loaded>,
    draining: watch::Sender<bool>,
    budget: BodyBudget,
    metrics: answers::Metrics,
}

#[derive(Debug)]
struct Loaded {
    signature: Signature,
    batcher: Batcher,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// The address cannot be had, or the model does not load.
pub async fn serve(options: ServeOptions) -> Result<(), ServeError> {
    use tokio::signal::unix::{SignalKind, signal};
    let handler = |kind| {
        signal(kind).map_err(|source| ServeError::System {
            what: "a signal handler",
            source,
        })
    };
    // Before anything else: a signal during loading must end the process in order too.
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    let worker = Worker::bind(options).await?;
    worker
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
}

impl Worker {
    /// Takes the address.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn bind(options: ServeOptions) -> Result<Self, ServeError> {
        let refused = |source| ServeError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self {
            options,
            listener,
            address,
        })
    }

    /// Where it listens; tells the port where port 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loads the model and serves it until `shutdown` completes, then drains.
    ///
    /// # Errors
    /// The model does not load.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        let Self { options, .. } = &self;
        let (library, model) = (options.library.clone(), options.model.clone());
        let threads = options.threads;
        let told = options.signature.clone();
        let load = move || {
            let mut engine = Engine::load(&library, ModelSource::File(&model), threads)?;
            if let Some(told) = &told {
                engine.adopt(told);
            }
            Ok(engine)
        };
        self.run_model(load, shutdown).await
    }

    /// As [`Worker::run`], with any model; for tests of what surrounds it.
    ///
    /// # Errors
    /// The model does not load.
    pub async fn run_model<M: Model>(
        self,
        load: impl FnOnce() -> Result<M, LoadError> + Send + 'static,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let Self {
            options,
            listener,
            address,
        } = self;
        tracing::info!(%address, model = %options.model.display(), "listening");
        let drain_max = options.drain_max;
        let replica = Arc::new(Replica {
            options,
            loaded: OnceLock::new(),
            draining: watch::Sender::new(false),
            budget: BodyBudget::new(BODY_BUDGET_BYTES),
            metrics: answers::Metrics::default(),
        });
        let mut draining = replica.draining.subscribe();
        let app = http::router(Arc::clone(&replica));
        // Small answers must not wait for the client's acknowledgement (Nagle).
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let server = tokio::spawn(async move {
            axum::serve(listener, app)
                .with_graceful_shutdown(async move {
                    let _ = draining.wait_for(|draining| *draining).await;
                })
                .await
        });

        // A thread that nobody waits for: a process asked to stop while it loads stops.
        let (loaded, outcome) = oneshot::channel();
        let loading = Arc::clone(&replica);
        let started = std::thread::Builder::new()
            .name("loading".to_owned())
            .spawn(move || loaded.send(loading.load(load)));
        let outcome = match started {
            Ok(_) => finish_loading_or_stop(outcome, shutdown).await,
            Err(source) => Err(ServeError::System {
                what: "a thread to load the model",
                source,
            }),
        };
        replica.draining.send_replace(true);
        match tokio::time::timeout(drain_max, server).await {
            Ok(_) => tracing::info!("drained"),
            Err(_) => tracing::warn!("requests were still in flight when the time to drain ended"),
        }
        outcome
    }
}

/// Waits for the shutdown, and on the way for the model, whose failure ends it early.
async fn finish_loading_or_stop(
    loaded: oneshot::Receiver<Result<(), ServeError>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    tokio::pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => return Ok(()),
        loaded = loaded => loaded.unwrap_or(Err(ServeError::LoadPanicked))?,
    }
    shutdown.await;
    Ok(())
}

impl Replica {
    fn load<M: Model>(
        &self,
        load: impl FnOnce() -> Result<M, LoadError>,
    ) -> Result<(), ServeError> {
        let started = std::time::Instant::now();
        let model = load()?;
        let signature = model.signature().clone();
        let (batcher, _) =
            Batcher::start(model, self.options.batching).map_err(|source| ServeError::System {
                what: "a thread for the model",
                source,
            })?;
        let _ = self.loaded.set(Loaded { signature, batcher });
        let millis = started.elapsed().as_millis();
        tracing::info!(name = %self.options.name, version = %self.options.version, millis, "ready");
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let runs = |loaded: &Loaded| loaded.batcher.is_running();
        self.loaded.get().is_some_and(runs) && !*self.draining.borrow()
    }
}

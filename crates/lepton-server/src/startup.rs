//! Starting and stopping: the data directory, the first credential, the local pool, the tasks.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use lepton_access::{MasterKey, SecretToken};
use lepton_executors::{Executor, Isolation, LocalConfig, LocalExecutor, StopReason};
use lepton_objects::{BlobStore, IndexedContents};
use lepton_serving::gateway::Gateway;
use lepton_store::{Query, Store, StoreError, Transaction};
use lepton_types::resources::{Node, PoolSpec, ProjectSpec, Resource, Role, TokenSpec};
use lepton_types::{
    Clock, CpuMillis, IdSource, MemoryBytes, Name, Resources, SystemClock, SystemIds, TokenId,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Parts};
use crate::blobs::Blobs;
use crate::cache::Cache;
use crate::config::{Config, IsolationConfig};
use crate::inputs::Inputs;
use crate::loads::{self, Loads};
use crate::reconcile::{Reconciler, probe_replicas};
use crate::start_error::StartError;
use crate::{data_dir, housekeeping, http, lineage, listener, metering, plain_blobs, s3, upkeep};

/// What the owner's credential file holds, mode 0600.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OwnerCredential {
    /// Where the server answers.
    pub url: String,
    /// The token.
    pub token: String,
    /// The server's process.
    pub pid: u32,
    /// Where it keeps everything.
    pub data_dir: PathBuf,
}

/// A Lepton that runs.
pub struct Server {
    app: App,
    /// Held while the server lives; the operating system lets go of it whatever happens.
    _lock: File,
}

impl Server {
    /// Opens the data directory, and begins to listen and to reconcile.
    ///
    /// # Errors
    /// The first thing that keeps it from running.
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        config.validate()?;
        data_dir::prepare(&config.data_dir).map_err(|source| StartError::DataDir {
            data_dir: config.data_dir.clone(),
            source,
        })?;
        config.data_dir =
            fs::canonicalize(&config.data_dir).map_err(|source| StartError::DataDir {
                data_dir: config.data_dir.clone(),
                source,
            })?;
        let lock = data_dir::lock(&config.data_dir)?;
        let listen = config.listen;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| StartError::Listen { listen, source })?;
        if let Ok(address) = listener.local_addr() {
            config.listen = address;
        }
        let s3_listener = s3::bind(&config).await?;
        config.s3.listen = s3_listener.local_addr().ok();
        let executor = open_executor(&config)?;
        let sources = Sources {
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            content_ids: Arc::new(SystemIds),
        };
        let app = open(config, executor, sources).await?;
        bootstrap(&app, vec![this_machine(&app.config)]).await?;
        metering::carry_quotas(&app)
            .await
            .map_err(|error| StartError::Objects(error.into()))?;
        let credential = owner_credential(&app).await?;
        app.cache.refresh(&app.store).await?;
        // Before it answers: whoever sees it answer also finds it.
        publish(&credential);
        start_tasks(&app, listener, s3_listener);
        Ok(Self { app, _lock: lock })
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> String {
        self.app.url()
    }

    /// What it was told.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.app.config
    }

    /// Takes no new requests, finishes those it has, and writes down what is left.
    pub async fn stop(self) {
        let app = &self.app;
        app.stopping.cancel();
        app.tasks.close();
        if tokio::time::timeout(DRAIN_MAX, app.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some requests did not end in time and were cut off");
        }
        if app.config.executor.stop_workers_on_exit {
            stop_workers(app).await;
        }
        app.gateway.close().await;
        lineage::write_counts(app).await;
        app.objects.index.close().await;
        app.store.close().await;
    }
}

/// Files that are read whole at once, of the 64 threads that may block.
const LONG_READS_MAX: usize = 8;

/// How long requests have to end when the server stops.
const DRAIN_MAX: std::time::Duration = std::time::Duration::from_secs(25);

/// Runs a server until SIGTERM or SIGINT; `started` is called once it answers.
///
/// # Errors
/// Whatever keeps it from starting.
pub fn run(config: Config, started: impl FnOnce(&Server)) -> Result<(), StartError> {
    listener::raise_open_files();
    let machine = |what| move |source| StartError::Machine { what, source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(64)
        .thread_name("lepton")
        .build()
        .map_err(machine("threads"))?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(machine("signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(machine("signals"))?;
        let server = Server::start(config).await?;
        started(&server);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        server.stop().await;
        Ok(())
    })
}

fn open_executor(config: &Config) -> Result<Arc<dyn Executor>, StartError> {
    let binary = std::env::current_exe().map_err(|source| StartError::Machine {
        what: "the path of its program",
        source,
    })?;
    let mut local = LocalConfig::at(config.data_dir.join("workers"), binary);
    local.isolation = match config.executor.isolation {
        IsolationConfig::ProjectUser => Isolation::ProjectUid {
            base: config.executor.first_uid,
        },
        IsolationConfig::None => Isolation::Shared,
        IsolationConfig::Auto => match Isolation::best() {
            Isolation::ProjectUid { .. } => Isolation::ProjectUid {
                base: config.executor.first_uid,
            },
            other => other,
        },
    };
    local.readable.extend(config.onnxruntime());
    Ok(Arc::new(LocalExecutor::open(local)?))
}

/// Where time and ids come from.
pub(crate) struct Sources {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    /// Of sealed bytes. How many are drawn depends on which of equal uploads is first.
    pub(crate) content_ids: Arc<dyn IdSource>,
}

/// The parts, on what the data directory holds.
pub(crate) async fn open(
    config: Config,
    executor: Arc<dyn Executor>,
    sources: Sources,
) -> Result<App, StartError> {
    let key = MasterKey::open_or_create(&config.data_dir.join("master.key"))?;
    let store = Store::open(&config.data_dir.join("lepton.db"))?;
    let with = s3::OpenWith {
        key: &key,
        ids: &sources.content_ids,
    };
    let objects = s3::Objects::open(&config, &with).await?;
    let rows = IndexedContents::new(objects.index.clone());
    let store_of_blobs = BlobStore::new(objects.contents.clone(), rows);
    let blobs = Blobs::new(store_of_blobs, Arc::clone(&sources.clock));
    let taken = plain_blobs::take_over(&config.data_dir.join("objects"), &blobs).await;
    taken.map_err(|error| StartError::Objects(error.into()))?;
    let inputs = config.data_dir.join("inputs");
    let inputs = Inputs::open(inputs).map_err(|source| StartError::DataDir {
        data_dir: config.data_dir.clone(),
        source,
    })?;
    let cache = Cache::load(&store).await?;
    let body_bytes_max = usize::try_from(config.serving.body_bytes_max.as_bytes());
    Ok(App::new(Parts {
        store,
        blobs,
        inputs,
        objects,
        key,
        cache,
        clock: sources.clock,
        ids: sources.ids,
        executor,
        gateway: Gateway::new(body_bytes_max.unwrap_or(usize::MAX)),
        health: Mutex::default(),
        waiting: ArcSwap::from_pointee(BTreeMap::new()),
        loads: Loads::default(),
        scaled: ArcSwapOption::empty(),
        decision: ArcSwapOption::empty(),
        long_reads: Semaphore::new(LONG_READS_MAX),
        lineage: lineage::Ledger::default(),
        meter: metering::Meter::default(),
        passes: upkeep::Passes::default(),
        nudge: Notify::new(),
        stopping: CancellationToken::new(),
        tasks: TaskTracker::new(),
        config,
    }))
}

/// What is there from the first start: the default project, and the local pool of `nodes`.
pub(crate) async fn bootstrap(app: &App, nodes: Vec<Node>) -> Result<(), StartError> {
    let home = Name::default_project();
    let mut transaction = Transaction::new();
    if app
        .store
        .get::<ProjectSpec>(&home, home.as_str())
        .await?
        .is_none()
    {
        let spec = ProjectSpec {
            description: "what names no project".to_owned(),
            ..ProjectSpec::default()
        };
        let id = app.ids.next_id();
        let draft = Resource::draft(id, home.clone(), home.as_str(), app.now(), spec);
        transaction.create(&draft.created_by("lepton"));
    }
    match app.store.get::<PoolSpec>(&home, "local").await? {
        None => {
            let id = app.ids.next_id();
            let draft = Resource::draft(id, home.clone(), "local", app.now(), PoolSpec::default());
            let mut pool = draft.created_by("lepton");
            pool.status.nodes = nodes;
            transaction.create(&pool);
        }
        Some(mut pool) if pool.status.nodes != nodes => {
            pool.status.nodes = nodes;
            transaction.update(&pool);
        }
        Some(_) => {}
    }
    app.store.commit(transaction).await?;
    Ok(())
}

/// What this machine has, less what the configuration keeps back.
fn this_machine(config: &Config) -> Node {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu = config
        .pool
        .cpu
        .unwrap_or(CpuMillis::from_millis(processors as u64 * 1_000));
    let memory = config.pool.memory.unwrap_or_else(memory_of_machine);
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy().into_owned();
    let usable = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
    let name = if usable { name } else { "local".to_owned() };
    Node {
        name,
        capacity: Resources {
            cpu,
            memory,
            gpus: 0,
        },
    }
}

fn memory_of_machine() -> MemoryBytes {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    // Whole MiB, which people can read.
    MemoryBytes::from_mib(total.unwrap_or(1 << 20) / 1_024)
}

/// The owner's credential: the one in the file while it works, else a new one.
pub(crate) async fn owner_credential(app: &App) -> Result<OwnerCredential, StartError> {
    let data_dir = &app.config.data_dir;
    let file = data_dir.join("credentials/owner.json");
    let failed = |source| StartError::DataDir {
        data_dir: data_dir.clone(),
        source,
    };
    let known: Option<OwnerCredential> = fs::read(&file)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let token = match known {
        Some(known) if is_valid(app, &known.token).await? => known.token,
        _ => new_owner_token(app).await?,
    };
    let credential = OwnerCredential {
        url: app.url(),
        token,
        pid: std::process::id(),
        data_dir: data_dir.clone(),
    };
    write_private(&file, &credential).map_err(failed)?;
    Ok(credential)
}

async fn is_valid(app: &App, token: &str) -> Result<bool, StoreError> {
    let Ok(lepton_access::Credential::Token { id, secret_digest }) = token.parse() else {
        return Ok(false);
    };
    let stored = app.store.get_by_id::<TokenSpec>(id.id()).await?;
    Ok(stored.is_some_and(|stored| {
        stored.spec.secret_digest == secret_digest && stored.status.revoked_at.is_none()
    }))
}

async fn new_owner_token(app: &App) -> Result<String, StartError> {
    let home = Name::default_project();
    let earlier = app
        .store
        .list_all::<TokenSpec>(Query::project(&home))
        .await?;
    let owners = earlier
        .iter()
        .filter(|token| token.spec.role == Role::Owner)
        .count();
    let name = if owners == 0 {
        "owner".to_owned()
    } else {
        format!("owner-{}", owners + 1)
    };
    let id = app.ids.next_id();
    let (secret, secret_digest) = SecretToken::generate(TokenId::from(id));
    let spec = TokenSpec {
        role: Role::Owner,
        scope: None,
        secret_digest,
        expires_at: None,
    };
    let draft = Resource::draft(id, home, name, app.now(), spec).created_by("lepton");
    let mut transaction = Transaction::new();
    transaction.create(&draft);
    app.store.commit(transaction).await?;
    Ok(secret.reveal().to_owned())
}

fn write_private(file: &Path, credential: &OwnerCredential) -> io::Result<()> {
    let aside = file.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut opened = options.open(&aside)?;
    opened.write_all(&serde_json::to_vec_pretty(credential)?)?;
    opened.sync_all()?;
    fs::rename(&aside, file)
}

/// Tells this user's clients where the newest server is. Where that cannot be, they are told by
/// LEPTON_URL and LEPTON_TOKEN.
fn publish(credential: &OwnerCredential) {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let Some(config) = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or(home)
    else {
        return;
    };
    let folder = config.join("lepton");
    let written = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .and_then(|()| write_private(&folder.join("current.json"), credential));
    if let Err(error) = written {
        tracing::warn!(%error, "clients of this user will not find the server by themselves");
    }
}

fn start_tasks(app: &App, listener: TcpListener, s3_listener: TcpListener) {
    let face = s3::face(app);
    let router = s3::router(&face);
    app.tasks
        .spawn(listener::serve(app.clone(), s3_listener, router));
    app.tasks.spawn(s3::keep_house(app.clone(), face));
    let woken = app.clone();
    app.executor
        .subscribe(Arc::new(move || woken.nudge.notify_one()));
    app.tasks.spawn(Reconciler::new(app.clone()).run());
    app.tasks.spawn(probe_replicas(app.clone()));
    app.tasks.spawn(housekeeping::run(app.clone()));
    app.tasks.spawn(lineage::run(app.clone()));
    app.tasks.spawn(metering::run(app.clone()));
    app.tasks.spawn(upkeep::follow(app.clone()));
    app.tasks.spawn(upkeep::resume(app.clone()));
    app.tasks.spawn(s3::finish_rotation(app.clone()));
    app.tasks.spawn(loads::read(app.clone()));
    app.tasks.spawn(listener::serve(
        app.clone(),
        listener,
        http::router(app.clone()),
    ));
}

/// Ends every worker, and waits until they are gone.
async fn stop_workers(app: &App) {
    let deadline = tokio::time::Instant::now() + app.config.executor.grace.to_std() * 2;
    loop {
        let left = app
            .with_executor(|executor| {
                let observed = executor.observe().unwrap_or_default();
                let alive = observed.iter().filter(|(_, seen)| !seen.is_final());
                let stops = alive.map(|(id, _)| executor.stop(*id, StopReason::Unneeded).is_ok());
                stops.count()
            })
            .await
            .unwrap_or(0);
        if left == 0 || tokio::time::Instant::now() >= deadline {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

//! The S3 face, wired in: its parts on the data directory, who may come in, its port and its
//! chores. What S3 means is in `lepton-objects`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use lepton_access::{Access, KeyPurpose, Principal, S3KeyId, S3Secret, decide_objects};
use lepton_objects::s3::{Face, Front, Gate, GateError, Holder, Parts, Rights};
use lepton_objects::{
    Contents, ContentsConfig, INLINE_BYTES_MAX, KeyWrapper as _, MasterWrapper, WrapPurpose,
};
use lepton_store::index::{AccessKey, ObjectIndex};
use lepton_types::{DataKeyId, DurationMs, Id, Name};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::app::App;
use crate::auth::{holder_of, live_workload, working_token};
use crate::config::Config;
use crate::datasets;
use crate::error::{ApiError, Chain};
use crate::object_keys::MasterKeys;
use crate::start_error::StartError;

/// Between two looks for garbage: what was deleted is gone from the disk soon after.
const COLLECT_EVERY: DurationMs = DurationMs::from_secs(2);

/// Between two writes of what went over the wire; a crash loses that much of the count.
const TRAFFIC_EVERY: DurationMs = DurationMs::from_secs(10);

/// Passes over all lifecycles in one of their days: one an hour, as rules are of whole days.
const LIFECYCLE_PASSES_A_DAY: u32 = 24;

/// Between two sweeps for contents that a crash left without an index row.
const SWEEP_EVERY: DurationMs = DurationMs::from_secs(3_600);

/// Objects and key pairs, as the rest of the server needs them.
#[derive(Clone)]
pub(crate) struct Objects {
    pub(crate) index: ObjectIndex,
    pub(crate) contents: Contents,
    /// What wraps the keys of contents.
    pub(crate) keys: Arc<MasterKeys>,
    pairs: Arc<Pairs>,
}

/// Key pairs that were used since the start, with their secrets open. There are never more than
/// key pairs.
#[derive(Default)]
struct Pairs {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    pairs: BTreeMap<String, (AccessKey, Zeroizing<String>)>,
    /// How often one was forgotten: what was read before may not be kept after.
    forgotten: u64,
}

impl Objects {
    /// Opens or makes the index and the contents in the data directory.
    pub(crate) async fn open(config: &Config, app: &OpenWith<'_>) -> Result<Self, StartError> {
        let index = ObjectIndex::open(&config.data_dir.join("objects.db"))?;
        let owner = index.id().await.map_err(unreadable)?;
        let kms = config.objects.kms.as_ref();
        let (keys, mut wrappers) = MasterKeys::open(&config.data_dir, app.key, kms)?;
        let contents = Contents::open(ContentsConfig {
            backend: config.objects.backend(&config.data_dir.join("contents"))?,
            replica: config.objects.replica()?,
            wrapper: wrappers.remove(0),
            retired_wrappers: wrappers,
            owner: Some(owner),
            ids: Arc::clone(app.ids),
            inline_bytes_max: INLINE_BYTES_MAX,
        })
        .await?;
        let is_new = contents.is_new_and_empty().await;
        let is_new = is_new.map_err(|error| StartError::Objects(error.into()))?;
        if is_new && index.names_contents().await.map_err(unreadable)? {
            let (place, _) = contents.places();
            return Err(StartError::ObjectsElsewhere { place });
        }
        Ok(Self {
            index,
            contents,
            keys: Arc::new(keys),
            pairs: Arc::default(),
        })
    }

    /// Forgets a key pair that is no longer what it was.
    pub(crate) fn forget_pair(&self, id: &str) {
        if let Ok(mut known) = self.pairs.known.write() {
            known.pairs.remove(id);
            known.forgotten += 1;
        }
    }
}

fn unreadable(error: lepton_store::index::IndexError) -> StartError {
    StartError::Objects(error.into())
}

/// What opening needs of the server.
pub(crate) struct OpenWith<'a> {
    pub(crate) key: &'a lepton_access::MasterKey,
    pub(crate) ids: &'a Arc<dyn lepton_types::IdSource>,
}

/// For keys of which there is but one.
fn no_id() -> Id {
    Id::from_bytes([0; 16])
}

fn purpose<'a>(project: &'a Name, pair: Id) -> WrapPurpose<'a> {
    WrapPurpose {
        project,
        key: DataKeyId::from(pair),
        name: None,
    }
}

fn seal(app: &App) -> MasterWrapper {
    MasterWrapper::new(app.key.derive(KeyPurpose::S3SecretSeal, no_id()))
}

/// A fresh key pair: its id, its secret, and the secret as it is kept.
pub(crate) fn fresh_pair(
    app: &App,
    project: &Name,
) -> Result<(String, S3Secret, Vec<u8>), ApiError> {
    let id = app.ids.next_id();
    let secret = S3Secret::generate();
    let sealed = seal(app)
        .wrap(&purpose(project, id), &secret)
        .map_err(|error| ApiError::internal(&error))?;
    let text = S3KeyId::Pair(id).to_string();
    Ok((text, S3Secret::from_bytes(&secret), sealed))
}

/// Tells the face who holds a key, from tokens, workloads and key pairs.
struct Doorkeeper {
    app: App,
}

#[async_trait::async_trait]
impl Gate for Doorkeeper {
    async fn holder(&self, access_key: &str) -> Result<Option<Holder>, GateError> {
        let Ok(id) = access_key.parse::<S3KeyId>() else {
            return Ok(None);
        };
        let failed = |error: ApiError| GateError(error.message().to_owned().into());
        let app = &self.app;
        let principal = match id {
            S3KeyId::Pair(pair) => return self.pair(access_key, pair).await,
            S3KeyId::Token(id) => {
                let token = working_token(app, id.id()).await.map_err(failed)?;
                token.map(|token| holder_of(&token))
            }
            S3KeyId::Workload(kind, id) => live_workload(app, kind, id).await.map_err(failed)?,
        };
        let secret = S3Secret::derive(&app.key, id);
        Ok(principal.zip(secret).map(|(principal, secret)| {
            holder(&principal, Zeroizing::new(secret.reveal().to_owned()))
        }))
    }

    fn keeps(&self, bucket: &str, key: &str) -> bool {
        bucket == datasets::BUCKET && !datasets::is_draft(key)
    }
}

fn holder(principal: &Principal, secret: Zeroizing<String>) -> Holder {
    let project = principal.home();
    let may = |access| decide_objects(principal, access, &project).is_ok();
    Holder {
        name: principal.label(),
        secret,
        rights: Rights {
            read: may(Access::Read),
            write: may(Access::Write),
            delete: may(Access::Delete),
            administer: may(Access::Administer),
        },
        project,
    }
}

impl Doorkeeper {
    async fn pair(&self, text: &str, id: Id) -> Result<Option<Holder>, GateError> {
        let Some((key, secret)) = self.open_pair(text, id).await? else {
            return Ok(None);
        };
        let now = self.app.now();
        if key.revoked_at.is_some() || key.expires_at.is_some_and(|at| at <= now) {
            return Ok(None);
        }
        let principal = Principal::Holder {
            name: key.name.to_string(),
            role: key.role,
            scope: Some(key.project),
        };
        Ok(Some(holder(&principal, secret)))
    }

    async fn open_pair(
        &self,
        text: &str,
        id: Id,
    ) -> Result<Option<(AccessKey, Zeroizing<String>)>, GateError> {
        let known = &self.app.objects.pairs.known;
        let (cached, forgotten) = match known.read() {
            Ok(known) => (known.pairs.get(text).cloned(), known.forgotten),
            Err(_) => (None, 0),
        };
        if cached.is_some() {
            return Ok(cached);
        }
        let found = self.app.objects.index.access_key(text).await;
        let Some(key) = found.map_err(|error| GateError(error.into()))? else {
            return Ok(None);
        };
        let bytes = seal(&self.app)
            .unwrap(&purpose(&key.project, id), &key.sealed)
            .map_err(|error| GateError(error.into()))?;
        let secret = Zeroizing::new(S3Secret::from_bytes(&bytes).reveal().to_owned());
        let opened = (key, secret);
        if let Ok(mut known) = known.write()
            && known.forgotten == forgotten
        {
            known.pairs.insert(text.to_owned(), opened.clone());
        }
        Ok(Some(opened))
    }
}

/// The face of a running server.
pub(crate) fn face(app: &App) -> Face {
    Face::new(Parts {
        index: app.objects.index.clone(),
        contents: app.objects.contents.clone(),
        gate: Arc::new(Doorkeeper { app: app.clone() }),
        clock: Arc::clone(&app.clock),
        ids: Arc::clone(&app.ids),
        lifecycle_day: app.config.objects.lifecycle_day,
    })
}

/// Takes the port: the one that was asked for, or else the one after the main port; a free one if
/// that is taken, as nobody asked for it.
pub(crate) async fn bind(config: &Config) -> Result<TcpListener, StartError> {
    let listen = config.s3_listen();
    match TcpListener::bind(listen).await {
        Err(source) if config.s3.listen.is_none() => {
            tracing::warn!(error = %source, %listen, "S3 takes another port");
            let any = SocketAddr::new(listen.ip(), 0);
            let bound = TcpListener::bind(any).await;
            bound.map_err(|source| StartError::Listen { listen, source })
        }
        bound => bound.map_err(|source| StartError::ListenS3 { listen, source }),
    }
}

/// What answers on the port.
pub(crate) fn router(face: &Face) -> Router {
    Router::new()
        .fallback(answer)
        .layer(axum::middleware::from_fn(crate::awaited::end_stalled))
        .with_state(face.front())
}

async fn answer(State(front): State<Front>, request: Request) -> Response {
    let request = request.map(s3s::Body::http_body_unsync);
    match front.call(request).await {
        Ok(response) => response.map(axum::body::Body::new),
        Err(never) => match never {},
    }
}

/// Does the chores of the face until the server stops, none in the way of another. Each may be cut off
/// anywhere.
pub(crate) async fn keep_house(app: App, face: Face) {
    let collect = async {
        let mut ticks = pauses(COLLECT_EVERY.to_std());
        loop {
            ticks.tick().await;
            report(face.collect_garbage().await.map(drop), "garbage");
        }
    };
    let traffic = async {
        let mut ticks = pauses(TRAFFIC_EVERY.to_std());
        loop {
            ticks.tick().await;
            report(face.write_traffic().await, "traffic");
        }
    };
    let lifecycle = async {
        let day = app.config.objects.lifecycle_day;
        let mut ticks = pauses(day.to_std() / LIFECYCLE_PASSES_A_DAY);
        loop {
            ticks.tick().await;
            let done = face.carry_out_lifecycles(app.now()).await;
            report(done.map(drop), "lifecycles");
        }
    };
    let sweep = async {
        let mut ticks = pauses(SWEEP_EVERY.to_std());
        loop {
            ticks.tick().await;
            sweep_contents(&app.objects).await;
        }
    };
    tokio::select! {
        () = app.stopping.cancelled() => {}
        () = collect => {}
        () = traffic => {}
        () = lifecycle => {}
        () = sweep => {}
    }
    report(face.write_traffic().await, "traffic");
}

/// Ticks of which the next comes a whole pause after one that was late, so that a chore that takes long leaves room to others.
fn pauses(pause: std::time::Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

fn report(done: s3s::S3Result<()>, what: &'static str) {
    if let Err(error) = done {
        tracing::warn!(%error, what, "a chore of the S3 face failed and will be tried again");
    }
}

/// Goes on with a change of the master key that an earlier process began, until it is done.
pub(crate) async fn finish_rotation(app: App) {
    loop {
        match app.objects.keys.finish(&app.objects.contents).await {
            Ok(0) => return,
            Ok(projects) => {
                tracing::info!(projects, "data keys are under another master key now");
                return;
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "data keys could not all be wrapped anew; it will be tried again");
            }
        }
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY.to_std()) => {}
        }
    }
}

async fn sweep_contents(objects: &Objects) {
    let named = lepton_objects::IndexedContents::new(objects.index.clone());
    let projects = match objects.contents.projects().await {
        Ok(projects) => projects,
        Err(error) => {
            tracing::warn!(%error, "contents could not be swept");
            return;
        }
    };
    for project in projects {
        if let Err(error) = objects.contents.sweep(&project, &named).await {
            tracing::warn!(%error, %project, "contents could not be swept");
        }
    }
}

//! Watching: changes as they happen, one JSON line each.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use futures_util::stream;
use lepton_access::Access;
use lepton_api::{WatchEvent, WatchKind};
use lepton_store::Change;
use lepton_types::Name;
use lepton_types::resources::Kind;
use serde::Deserialize;

use super::enter;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Params, Segments};

/// What to watch.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub(super) struct WatchParams {
    /// Kinds, separated by commas; all where absent.
    kinds: Option<String>,
    /// Changes after this `version`; from now on where absent.
    since: Option<u64>,
}

/// Changes read from the store at once; bounds the memory of a slow reader.
const CHANGES_PER_READ: usize = 500;

/// A line that says nothing, so that a dead connection is noticed.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(15);

struct Watch {
    app: App,
    /// With the caller's token, which must stay good.
    headers: HeaderMap,
    project: Name,
    kinds: Vec<Kind>,
    /// Kinds that this caller does not see, asked for or not.
    hidden: &'static [Kind],
    since: u64,
}

/// Streams changes of a project's resources as JSON lines, without end. An empty line every 15
/// seconds tells that the connection lives. Fast changes of one resource may be seen as one.
#[utoipa::path(get, path = "/api/v1/projects/{project}/watch", tag = "watch",
    params(("project" = String, Path), WatchParams),
    responses((status = 200, body = WatchEvent, content_type = "application/x-ndjson")))]
pub(super) async fn watch(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Segments(project): Segments<String>,
    Params(wanted): Params<WatchParams>,
) -> Result<Response, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Job, &project).await?;
    let mut kinds = Vec::new();
    for word in wanted.kinds.iter().flat_map(|words| words.split(',')) {
        let kind: Kind = word.trim().parse().map_err(ApiError::invalid)?;
        if kind == Kind::Token {
            return Err(ApiError::invalid("tokens are listed, never streamed"));
        }
        kinds.push(kind);
    }
    // Tokens carry digests of secrets. Projects and reservations all live in one, where not everybody may see them.
    let hidden: &[Kind] = match caller.may_globally(Access::Administer, Kind::Project) {
        Ok(()) => &[Kind::Token],
        Err(_) => &[Kind::Token, Kind::Project, Kind::Reservation],
    };
    let since = wanted
        .since
        .unwrap_or_else(|| *app.store.subscribe().borrow());
    let lines = stream::unfold(
        Watch {
            app,
            headers,
            project,
            kinds,
            hidden,
            since,
        },
        |mut watch| async move {
            let line = watch.next().await?;
            Some((Ok::<Bytes, std::convert::Infallible>(line), watch))
        },
    );
    Response::builder()
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .header(header::CACHE_CONTROL, "no-store")
        .body(Body::from_stream(lines))
        .map_err(|error| ApiError::internal(&error))
}

impl Watch {
    /// The next lines; none when the server stops, its store fails, or the caller may no more.
    async fn next(&mut self) -> Option<Bytes> {
        let mut versions = self.app.store.subscribe();
        loop {
            let changes = self
                .app
                .store
                .changes(self.since, CHANGES_PER_READ)
                .await
                .ok()?;
            let mut lines = Vec::new();
            for change in &changes {
                self.since = self.since.max(change.version);
                if self.wants(change) {
                    serde_json::to_writer(&mut lines, &event_of(change)?).ok()?;
                    lines.push(b'\n');
                }
            }
            if !lines.is_empty() {
                self.check_caller().await?;
                return Some(lines.into());
            }
            if !changes.is_empty() {
                continue;
            }
            let since = self.since;
            let quiet = tokio::select! {
                () = self.app.stopping.cancelled() => return None,
                moved = versions.wait_for(|version| *version > since) => {
                    moved.map(drop).ok()?;
                    false
                }
                () = tokio::time::sleep(KEEP_ALIVE) => true,
            };
            if quiet {
                self.check_caller().await?;
                return Some(Bytes::from_static(b"\n"));
            }
        }
    }

    /// None once the token was revoked, or has expired.
    async fn check_caller(&self) -> Option<()> {
        let caller = Caller::identify(&self.app, &self.headers).await.ok()?;
        caller.may(Access::Read, Kind::Job, &self.project).ok()
    }

    fn wants(&self, change: &Change) -> bool {
        change.project == self.project
            && !self.hidden.contains(&change.kind)
            && (self.kinds.is_empty() || self.kinds.contains(&change.kind))
    }
}

fn event_of(change: &Change) -> Option<WatchEvent> {
    let resource = match &change.resource {
        None => None,
        Some(json) => {
            let mut value: serde_json::Value = serde_json::from_str(json).ok()?;
            value["metadata"]["resource_version"] = change.version.into();
            Some(value)
        }
    };
    Some(WatchEvent {
        version: change.version,
        change: if resource.is_some() {
            WatchKind::Put
        } else {
            WatchKind::Deleted
        },
        kind: change.kind,
        id: change.id,
        resource,
    })
}

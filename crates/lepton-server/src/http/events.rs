//! Events: what happened, for people to read.

use axum::extract::State;
use lepton_access::Access;
use lepton_api::List;
use lepton_store::{EventQuery, Query};
use lepton_types::Id;
use lepton_types::resources::{Event, Kind};
use serde::Deserialize;

use super::enter;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Params, Segments};

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub(super) struct EventFilter {
    /// Only those after this sequence number.
    #[serde(default)]
    after: u64,
    /// Only those about the resource of this id.
    about: Option<String>,
    /// The newest `limit` of them instead of the oldest.
    #[serde(default)]
    newest: bool,
    /// At most this many; 100 where absent.
    limit: Option<usize>,
}

/// Lists events, oldest first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/events", tag = "events",
    params(("project" = String, Path), EventFilter), responses((status = 200, body = List<Event>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Params(filter): Params<EventFilter>,
) -> Result<axum::Json<List<Event>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Job, &project).await?;
    let about: Option<Id> = filter
        .about
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(ApiError::invalid)?;
    let limit = filter.limit.unwrap_or(100).min(Query::LIMIT_MAX);
    let query = EventQuery {
        project: Some(project),
        about,
        after: filter.after,
        newest: filter.newest,
        limit,
    };
    let items = app.store.events(query).await?;
    let more = items.len() == limit && !filter.newest;
    let next = items
        .last()
        .filter(|_| more)
        .map(|event| event.sequence.to_string());
    Ok(axum::Json(List {
        items,
        next_page_token: next,
    }))
}

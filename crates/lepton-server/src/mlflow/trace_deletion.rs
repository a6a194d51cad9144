//! Deleting traces: by their ids, or those older than a time.

use axum::Json;
use lepton_access::Access;
use lepton_store::Transaction;
use lepton_types::Timestamp;
use lepton_types::resources::Kind;
use serde::{Deserialize, Serialize};

use super::ask::{Ask, Visitor, int, list, need};
use super::error::{Answer, MlflowError};
use super::traces::PIECE;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Delete {
    experiment_id: Option<String>,
    #[serde(deserialize_with = "int")]
    max_timestamp_millis: Option<i64>,
    #[serde(deserialize_with = "int")]
    max_traces: Option<i64>,
    #[serde(deserialize_with = "list")]
    request_ids: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Deleted {
    traces_deleted: usize,
}

/// Deletes traces by their ids, or those that are older than a time.
pub(super) async fn delete(visitor: Visitor, Ask(ask): Ask<Delete>) -> Answer<Deleted> {
    visitor.may(Access::Delete, Kind::Experiment)?;
    let named = need(&ask.experiment_id, "experiment_id")?;
    let experiment = super::experiments::find(&visitor, named).await?.metadata.id;
    let mut ids = Vec::new();
    match (ask.max_timestamp_millis, ask.request_ids.is_empty()) {
        (Some(_), false) | (None, true) => {
            return Err(MlflowError::invalid(
                "Either `max_timestamp_millis` or `request_ids` must be specified, and not both.",
            ));
        }
        (None, false) => {
            for id in &ask.request_ids {
                let found = visitor.app.store.trace(&visitor.project, id).await?;
                ids.extend(
                    found
                        .filter(|(home, _)| *home == experiment)
                        .map(|(_, trace)| trace.id),
                );
            }
        }
        (Some(until), true) => {
            let most = ask
                .max_traces
                .map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(0));
            let mut before = Some((
                Timestamp::from_millis(until.saturating_add(1)),
                String::new(),
            ));
            while before.is_some() {
                let (store, project) = (&visitor.app.store, &visitor.project);
                let piece = store
                    .traces(project, vec![experiment], before, PIECE)
                    .await?;
                before = piece
                    .last()
                    .map(|(_, trace)| (trace.began_at, trace.id.clone()));
                ids.extend(piece.into_iter().map(|(_, trace)| trace.id));
            }
            // The oldest go first.
            ids.reverse();
            ids.truncate(most);
        }
    }
    for some in ids.chunks(PIECE) {
        let mut transaction = Transaction::new();
        for id in some {
            transaction.delete_trace(&visitor.project, id);
        }
        visitor.app.store.commit(transaction).await?;
    }
    let traces_deleted = ids.len();
    Ok(Json(Deleted { traces_deleted }))
}

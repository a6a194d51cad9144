//! The bin of a project: runs, experiments and logged models that MLflow's clients deleted, which can
//! be restored until they are deleted for good.

use axum::extract::State;
use lepton_access::Access;
use lepton_api::Bin;
use lepton_store::{BinCounts, BinQuery};
use lepton_types::DurationMs;
use lepton_types::resources::Kind;
use serde::Deserialize;

use super::enter;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Params, Segments};

/// Which part of the bin.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
pub(super) struct Since {
    /// Only what has been there for so long: `30d`, `12h`, `0s` for all; what the server's configuration
    /// says where absent.
    #[param(value_type = Option<String>)]
    older_than: Option<DurationMs>,
}

impl Since {
    fn query(&self, app: &App, project: lepton_types::Name) -> BinQuery {
        let age = self.older_than.unwrap_or(app.config.runs.keep_deleted);
        BinQuery {
            project,
            until: app.now().minus(age),
        }
    }
}

/// How much a purge would take.
#[utoipa::path(get, path = "/api/v1/projects/{project}/bin", tag = "runs",
    params(("project" = String, Path), Since), responses((status = 200, body = Bin)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Params(since): Params<Since>,
) -> Result<axum::Json<Bin>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Run, &project).await?;
    let counts = app.store.bin(&since.query(&app, project)).await?;
    Ok(axum::Json(bin_of(counts)))
}

/// Deletes for good what is in the bin, with series, artifacts and traces.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/bin", tag = "runs",
    params(("project" = String, Path), Since), responses((status = 200, body = Bin)))]
pub(super) async fn purge(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Params(since): Params<Since>,
) -> Result<axum::Json<Bin>, ApiError> {
    let project = enter(&app, &caller, Access::Delete, Kind::Run, &project).await?;
    caller.may(Access::Delete, Kind::Experiment, &project)?;
    let counts = app.store.purge(&since.query(&app, project)).await?;
    Ok(axum::Json(bin_of(counts)))
}

const fn bin_of(counts: BinCounts) -> Bin {
    Bin {
        runs: counts.runs,
        experiments: counts.experiments,
        logged_models: counts.logged_models,
    }
}

//! Decisions: the newest one about room, as a record that can be taken again elsewhere.

use axum::extract::State;
use lepton_access::Access;
use lepton_api::ErrorCode;
use lepton_planner::{PlanRng, cluster, workloads};
use lepton_types::resources::Kind;

use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;

/// The newest decision about who runs where: the facts, the time, the seed and the plan.
/// `lepton plan explain` takes it again.
#[utoipa::path(get, path = "/api/v1/decisions/latest", tag = "pools",
    responses((status = 200, body = Object), (status = 404, body = lepton_api::ErrorBody)))]
pub(super) async fn latest(
    State(app): State<App>,
    caller: Caller,
) -> Result<axum::Json<cluster::Record>, ApiError> {
    // It tells of every project.
    caller.may_globally(Access::Administer, Kind::Pool)?;
    let Some(taken) = app.decision.load_full() else {
        return Err(ApiError::new(
            ErrorCode::NotFound,
            "no decision was taken since the start",
        ));
    };
    let rng = PlanRng::from_seed(taken.seed);
    Ok(axum::Json(workloads::placement_record(
        &taken.view,
        taken.now,
        &rng,
    )))
}

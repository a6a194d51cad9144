//! Pools of machines.

use axum::extract::State;
use lepton_access::Access;
use lepton_api::List;
use lepton_types::Name;
use lepton_types::resources::{Kind, Pool, PoolSpec};

use super::find;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Paging, Params, Segments, list_of};

/// Lists pools.
#[utoipa::path(get, path = "/api/v1/pools", tag = "pools", params(Paging),
    responses((status = 200, body = List<Pool>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<Pool>>, ApiError> {
    caller.may_globally(Access::Read, Kind::Pool)?;
    let query = paging.query(&Name::default_project(), &["active"])?;
    Ok(axum::Json(list_of(
        app.store.list::<PoolSpec>(query).await?,
    )))
}

/// One pool.
#[utoipa::path(get, path = "/api/v1/pools/{name}", tag = "pools", params(("name" = String, Path)),
    responses((status = 200, body = Pool)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<axum::Json<Pool>, ApiError> {
    caller.may_globally(Access::Read, Kind::Pool)?;
    Ok(axum::Json(
        find::<PoolSpec>(&app, &Name::default_project(), &name).await?,
    ))
}

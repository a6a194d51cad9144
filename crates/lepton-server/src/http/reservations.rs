//! Reservations: room on machines that a project is promised for a window of time.

use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::Access;
use lepton_api::{CreateReservation, ErrorCode, List};
use lepton_types::Name;
use lepton_types::resources::{Kind, Reservation, ReservationPhase, ReservationSpec, Resource};

use super::jobs::{WORKERS_MAX, check_resources};
use super::{find, insert, remove, require_project};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments, list_of};

/// Every pass looks at all of them.
const RESERVATIONS_MAX: usize = 1_000;

/// Lists the reservations of the projects that the caller may read.
#[utoipa::path(get, path = "/api/v1/reservations", tag = "pools", params(Paging),
    responses((status = 200, body = List<Reservation>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<Reservation>>, ApiError> {
    caller.may_globally(Access::Read, Kind::Reservation)?;
    let phases = [
        ReservationPhase::Pending,
        ReservationPhase::Booked,
        ReservationPhase::Refused,
        ReservationPhase::Over,
    ];
    let query = paging.query(
        &Name::default_project(),
        &phases.map(ReservationPhase::as_str),
    )?;
    let mut page = app.store.list::<ReservationSpec>(query).await?;
    page.items.retain(|found| is_seen_by(&caller, found));
    Ok(axum::Json(list_of(page)))
}

fn is_seen_by(caller: &Caller, reservation: &Reservation) -> bool {
    let project = &reservation.spec.project;
    caller.may(Access::Read, Kind::Reservation, project).is_ok()
}

/// Asks for room: `status.phase` becomes `booked` or `refused` within moments. Only an owner may, as it
/// takes from everybody else.
#[utoipa::path(post, path = "/api/v1/reservations", tag = "pools", request_body = CreateReservation,
    responses((status = 201, body = Reservation), (status = 409, body = lepton_api::ErrorBody)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<CreateReservation>,
) -> Result<(StatusCode, axum::Json<Reservation>), ApiError> {
    caller.may_globally(Access::Administer, Kind::Reservation)?;
    require_project(&app, &request.project).await?;
    let now = app.now();
    let spec = ReservationSpec {
        project: request.project,
        from: request.from.unwrap_or(now),
        until: request.until,
        workers: request.workers,
        resources: request.resources,
    };
    if spec.until <= now || spec.until <= spec.from {
        let message = format!(
            "the window from {} until {} is over, or ends before it begins",
            spec.from, spec.until
        );
        return Err(ApiError::invalid(message));
    }
    if spec.workers == 0 || spec.workers > WORKERS_MAX {
        return Err(ApiError::invalid(format!(
            "`workers` must be 1 to {WORKERS_MAX}"
        )));
    }
    check_resources(spec.resources)?;
    if app.cache.read(|live| live.reservations.len()) >= RESERVATIONS_MAX {
        let message = format!(
            "there are {RESERVATIONS_MAX} reservations already: delete those that are over"
        );
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    let draft = Resource::draft(
        app.ids.next_id(),
        Name::default_project(),
        request.name.as_str(),
        now,
        spec,
    );
    let made = insert(&app, draft.created_by(caller.0.label())).await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// One reservation.
#[utoipa::path(get, path = "/api/v1/reservations/{name}", tag = "pools",
    params(("name" = String, Path)), responses((status = 200, body = Reservation)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<axum::Json<Reservation>, ApiError> {
    caller.may_globally(Access::Read, Kind::Reservation)?;
    let found = find::<ReservationSpec>(&app, &Name::default_project(), &name).await?;
    if !is_seen_by(&caller, &found) {
        return Err(ApiError::not_found(Kind::Reservation, name));
    }
    Ok(axum::Json(found))
}

/// Gives the room back.
#[utoipa::path(delete, path = "/api/v1/reservations/{name}", tag = "pools",
    params(("name" = String, Path)), responses((status = 204)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    caller.may_globally(Access::Administer, Kind::Reservation)?;
    let found = find::<ReservationSpec>(&app, &Name::default_project(), &name).await?;
    remove(&app, &found).await?;
    Ok(StatusCode::NO_CONTENT)
}

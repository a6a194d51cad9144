//! Keys of a project that have a name: they seal only what asks for them, as S3 clients do by the id
//! of a KMS key.

use axum::extract::State;
use lepton_access::Access;
use lepton_api::{ErrorCode, NewNamedKey, RenewedKey, ShredKeys, ShreddedKeys};
use lepton_objects::{ContentError, KeyError};
use lepton_types::Name;
use lepton_types::resources::Kind;

use super::enter;
use super::objects::announce_shredding;
use crate::app::App;
use crate::auth::Caller;
use crate::blobs::BlobError;
use crate::error::ApiError;
use crate::extract::{Json, Segments, parse_name};

/// What went wrong with a name, rather than with a key.
fn refused(error: ContentError) -> ApiError {
    let code = match &error {
        ContentError::Key(KeyError::NameTaken { .. }) => ErrorCode::AlreadyExists,
        ContentError::Key(KeyError::NoSuchName { .. } | KeyError::NameShredded { .. }) => {
            ErrorCode::NotFound
        }
        _ => return BlobError::from(error).into(),
    };
    ApiError::new(code, error.to_string())
}

/// Makes a data key that seals only what asks for it by its name.
#[utoipa::path(post, path = "/api/v1/projects/{project}/object-keys", tag = "objects",
    params(("project" = String, Path)), request_body = NewNamedKey,
    responses((status = 200, body = RenewedKey), (status = 409, body = lepton_api::ErrorBody)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Json(request): Json<NewNamedKey>,
) -> Result<axum::Json<RenewedKey>, ApiError> {
    let project = enter(&app, &caller, Access::Administer, Kind::Project, &project).await?;
    let made = app.objects.contents.create_key(&project, &request.name);
    let key = made.await.map_err(refused)?;
    let (by, name) = (caller.0.label(), request.name);
    tracing::info!(by, %project, %name, %key, "a data key with a name was made");
    Ok(axum::Json(RenewedKey {
        project,
        name: Some(name),
        key,
    }))
}

/// Makes a new data key, which seals what asks for the name from now on.
#[utoipa::path(post, path = "/api/v1/projects/{project}/object-keys/{key}/renew", tag = "objects",
    params(("project" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = RenewedKey), (status = 404, body = lepton_api::ErrorBody)))]
pub(super) async fn renew(
    State(app): State<App>,
    caller: Caller,
    Segments((project, name)): Segments<(String, String)>,
) -> Result<axum::Json<RenewedKey>, ApiError> {
    let project = enter(&app, &caller, Access::Administer, Kind::Project, &project).await?;
    let name: Name = parse_name(&name)?;
    let made = app.objects.contents.renew_named(&project, &name).await;
    let key = made.map_err(refused)?;
    tracing::info!(by = caller.0.label(), %project, %name, %key, "a data key with a name was made anew");
    Ok(axum::Json(RenewedKey {
        project,
        name: Some(name),
        key,
    }))
}

/// Destroys the data keys of a name, here and at the replica: nobody can read what they sealed, ever.
/// The name has no key then. Only an owner may.
#[utoipa::path(post, path = "/api/v1/projects/{project}/object-keys/{key}/shred", tag = "objects",
    params(("project" = String, Path), ("key" = String, Path)), request_body = ShredKeys,
    responses((status = 200, body = ShreddedKeys), (status = 400, body = lepton_api::ErrorBody),
        (status = 404, body = lepton_api::ErrorBody)))]
pub(super) async fn shred(
    State(app): State<App>,
    caller: Caller,
    Segments((project, name)): Segments<(String, String)>,
    Json(request): Json<ShredKeys>,
) -> Result<axum::Json<ShreddedKeys>, ApiError> {
    caller.may_globally(Access::Administer, Kind::Project)?;
    let project: Name = parse_name(&project)?;
    let name: Name = parse_name(&name)?;
    if request.confirm != name.as_str() {
        return Err(ApiError::invalid(format!(
            "`confirm` must be `{name}`: shredding this key destroys all that it sealed"
        )));
    }
    let contents = &app.objects.contents;
    // A name that is not there is no news.
    contents
        .check_named(&project, &name)
        .await
        .map_err(refused)?;
    let by = caller.0.label();
    let keys = format!("the data keys named `{name}`");
    announce_shredding(&app, &project, &by, &keys).await?;
    let keys = contents.shred_named(&project, &name).await;
    let keys = keys.map_err(refused)?;
    tracing::warn!(by, %project, %name, keys, "the data keys of a name were shredded");
    Ok(axum::Json(ShreddedKeys {
        project,
        name: Some(name),
        keys,
    }))
}

//! Key pairs for S3: made, listed and revoked. A secret is shown once, when it is made.

use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::{Access, Principal, S3KeyId, S3Secret};
use lepton_api::{
    AccessKeyView, CreateAccessKey, CreatedAccessKey, ErrorCode, List, S3Credentials,
};
use lepton_objects::s3::REGION;
use lepton_store::index::{AccessKey, IndexError, Refusal};
use lepton_types::resources::{Kind, Role};
use lepton_types::{Name, Timestamp};

use super::require_project;
use super::tokens::expiry;
use crate::app::App;
use crate::auth::{Caller, presented};
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments};
use crate::s3::fresh_pair;

/// Lists key pairs, revoked ones included, never their secrets.
#[utoipa::path(get, path = "/api/v1/access-keys", tag = "access-keys", params(Paging),
    responses((status = 200, body = List<AccessKeyView>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<AccessKeyView>>, ApiError> {
    let (after, limit) = paging.by_name();
    let found = app.objects.index.access_keys(&after, limit + 1).await;
    let mut found = found.map_err(|error| of_index(error, &after))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_page_token = found
        .last()
        .filter(|_| more)
        .map(|last| last.name.to_string());
    let seen = found
        .iter()
        .filter(|key| may_administer(&caller, &key.project).is_ok());
    Ok(axum::Json(List {
        items: seen.map(|key| view(key, app.now())).collect(),
        next_page_token,
    }))
}

/// Makes a key pair.
#[utoipa::path(post, path = "/api/v1/access-keys", tag = "access-keys",
    request_body = CreateAccessKey,
    responses((status = 201, body = CreatedAccessKey), (status = 409, body = lepton_api::ErrorBody)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<CreateAccessKey>,
) -> Result<(StatusCode, axum::Json<CreatedAccessKey>), ApiError> {
    let project = request.project.unwrap_or_else(|| caller.0.home());
    may_administer(&caller, &project)?;
    if request.role == Role::Owner {
        let message = "a key pair is good for one project: its role is admin, editor or viewer";
        return Err(ApiError::invalid(message));
    }
    require_project(&app, &project).await?;
    let (id, secret, sealed) = fresh_pair(&app, &project)?;
    let key = AccessKey {
        id,
        name: request.name.clone(),
        project,
        role: request.role,
        created_at: app.now(),
        created_by: caller.0.label(),
        expires_at: expiry(app.now(), request.expires_in)?,
        revoked_at: None,
        sealed,
    };
    let made = app.objects.index.create_access_key(key.clone()).await;
    made.map_err(|error| of_index(error, request.name.as_str()))?;
    let created = CreatedAccessKey {
        view: view(&key, app.now()),
        secret_access_key: secret.reveal().to_owned(),
    };
    Ok((StatusCode::CREATED, axum::Json(created)))
}

/// Revokes a key pair; it stops working at once.
#[utoipa::path(delete, path = "/api/v1/access-keys/{name}", tag = "access-keys",
    params(("name" = String, Path)), responses((status = 200, body = AccessKeyView)))]
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<axum::Json<AccessKeyView>, ApiError> {
    let missing = || {
        ApiError::new(
            ErrorCode::NotFound,
            format!("access key `{name}` not found"),
        )
    };
    let key: Name = name.parse().map_err(|_| missing())?;
    let objects = &app.objects;
    let found = objects.index.access_key_named(&key).await;
    let found = found.map_err(|error| of_index(error, &name))?;
    let found = found.ok_or_else(missing)?;
    may_administer(&caller, &found.project)?;
    let revoked = objects.index.revoke_access_key(&key, app.now()).await;
    let revoked = revoked.map_err(|error| of_index(error, &name))?;
    objects.forget_pair(&revoked.id);
    Ok(axum::Json(view(&revoked, app.now())))
}

/// With what the caller's own token reaches S3; derived, so nothing of it is kept.
#[utoipa::path(get, path = "/api/v1/s3-credentials", tag = "access-keys",
    responses((status = 200, body = S3Credentials)))]
pub(super) async fn own(
    State(app): State<App>,
    caller: Caller,
    headers: axum::http::HeaderMap,
) -> Result<axum::Json<S3Credentials>, ApiError> {
    let id = match (&caller.0, presented(&headers)?) {
        (Principal::Holder { .. }, lepton_access::Credential::Token { id, .. }) => {
            S3KeyId::Token(id)
        }
        (Principal::Workload { kind, id, .. }, _) => S3KeyId::Workload(*kind, *id),
        (Principal::Holder { .. }, _) => return Err(ApiError::invalid("this is not a token")),
    };
    let secret = S3Secret::derive(&app.key, id)
        .ok_or_else(|| ApiError::invalid("this credential has no S3 secret"))?;
    Ok(axum::Json(S3Credentials {
        endpoint_url: app.config.s3_url(),
        region: REGION.to_owned(),
        access_key_id: id.to_string(),
        secret_access_key: secret.reveal().to_owned(),
    }))
}

fn may_administer(caller: &Caller, project: &Name) -> Result<(), ApiError> {
    caller.may(Access::Administer, Kind::Token, project)
}

fn of_index(error: IndexError, name: &str) -> ApiError {
    match error {
        IndexError::Refused(Refusal::KeyExists) => ApiError::new(
            ErrorCode::AlreadyExists,
            format!("access key `{name}` already exists"),
        ),
        IndexError::Refused(Refusal::NoSuchKey) => ApiError::new(
            ErrorCode::NotFound,
            format!("access key `{name}` not found"),
        ),
        IndexError::DiskFull => ApiError::new(ErrorCode::DiskFull, error.to_string()),
        IndexError::Closed => ApiError::unavailable("the server is stopping", 1),
        error => ApiError::internal(&error),
    }
}

fn view(key: &AccessKey, now: Timestamp) -> AccessKeyView {
    let expired = key.expires_at.is_some_and(|at| at <= now);
    let phase = match (key.revoked_at, expired) {
        (Some(_), _) => "revoked",
        (None, true) => "expired",
        (None, false) => "active",
    };
    AccessKeyView {
        access_key_id: key.id.clone(),
        name: key.name.clone(),
        role: key.role,
        project: key.project.clone(),
        created_at: key.created_at,
        expires_at: key.expires_at,
        phase: phase.to_owned(),
    }
}

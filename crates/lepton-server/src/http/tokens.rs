//! Tokens: made, listed and revoked. A secret is shown once, when it is made.

use axum::extract::State;
use axum::http::StatusCode;
use lepton_access::{Access, Principal, SecretToken};
use lepton_api::{CreateToken, CreatedToken, ErrorCode, List, TokenView};
use lepton_types::resources::{Kind, Resource, Role, Token, TokenSpec};
use lepton_types::{DurationMs, Name, Timestamp, TokenId};

use super::{change, find, insert, require_project};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments, list_of};

/// Lists tokens, revoked ones included, never their secrets.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", params(Paging),
    responses((status = 200, body = List<TokenView>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<TokenView>>, ApiError> {
    let query = paging.query(&Name::default_project(), &["active", "revoked"])?;
    let mut page = app.store.list::<TokenSpec>(query).await?;
    page.items
        .retain(|token| may_administer(&caller, token.spec.scope.as_ref()).is_ok());
    let list = list_of(page);
    let items = list
        .items
        .iter()
        .map(|token| view(token, app.now()))
        .collect();
    Ok(axum::Json(List {
        items,
        next_page_token: list.next_page_token,
    }))
}

/// Makes a token.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = CreateToken,
    responses((status = 201, body = CreatedToken), (status = 409, body = lepton_api::ErrorBody)))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<CreateToken>,
) -> Result<(StatusCode, axum::Json<CreatedToken>), ApiError> {
    let scope = match request.role {
        Role::Owner => None,
        Role::Admin | Role::Editor | Role::Viewer => {
            Some(request.project.unwrap_or_else(|| caller.0.home()))
        }
    };
    may_administer(&caller, scope.as_ref())?;
    if let Some(project) = &scope {
        require_project(&app, project).await?;
    }
    let id = app.ids.next_id();
    let (secret, secret_digest) = SecretToken::generate(TokenId::from(id));
    let expires_at = expiry(app.now(), request.expires_in)?;
    let spec = TokenSpec {
        role: request.role,
        scope,
        secret_digest,
        expires_at,
    };
    let home = Name::default_project();
    let draft = Resource::draft(id, home, request.name.as_str(), app.now(), spec);
    let token = insert(&app, draft.created_by(caller.0.label())).await?;
    let created = CreatedToken {
        view: view(&token, app.now()),
        token: secret.reveal().to_owned(),
    };
    Ok((StatusCode::CREATED, axum::Json(created)))
}

/// Revokes a token; it stops working at once.
#[utoipa::path(delete, path = "/api/v1/tokens/{name}", tag = "tokens", params(("name" = String, Path)),
    responses((status = 200, body = TokenView)))]
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<axum::Json<TokenView>, ApiError> {
    let home = Name::default_project();
    let token = find::<TokenSpec>(&app, &home, &name).await?;
    may_administer(&caller, token.spec.scope.as_ref())?;
    if let Principal::Holder { name: own, .. } = &caller.0
        && *own == name
    {
        let message = "a token cannot revoke itself: use another one";
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    let now = app.now();
    let revoked = change::<TokenSpec>(&app, &home, &name, |token| {
        token.status.revoked_at.get_or_insert(now);
        Ok(())
    })
    .await?;
    // The next request must find it revoked, not the next change.
    app.cache.refresh(&app.store).await?;
    Ok(axum::Json(view(&revoked, now)))
}

/// What lasts longer than this should last until it is revoked.
const LASTING_MAX: DurationMs = DurationMs::from_secs(100 * 366 * 24 * 3_600);

/// When something that is made now stops working.
pub(super) fn expiry(
    now: Timestamp,
    lasting: Option<DurationMs>,
) -> Result<Option<Timestamp>, ApiError> {
    let Some(lasting) = lasting else {
        return Ok(None);
    };
    if lasting == DurationMs::ZERO || lasting > LASTING_MAX {
        return Err(ApiError::invalid(
            "`expires_in` must be more than 0s and at most 100 years; leave it out for what lasts until it is revoked",
        ));
    }
    Ok(Some(now + lasting))
}

fn may_administer(caller: &Caller, scope: Option<&Name>) -> Result<(), ApiError> {
    match scope {
        Some(project) => caller.may(Access::Administer, Kind::Token, project),
        None => caller.may_globally(Access::Administer, Kind::Token),
    }
}

fn view(token: &Token, now: Timestamp) -> TokenView {
    let expired = token
        .spec
        .expires_at
        .is_some_and(|expires_at| expires_at <= now);
    let phase = match (token.status.revoked_at, expired) {
        (Some(_), _) => "revoked",
        (None, true) => "expired",
        (None, false) => "active",
    };
    TokenView {
        id: token.metadata.id.into(),
        name: token.metadata.name.clone(),
        role: token.spec.role,
        project: token.spec.scope.clone(),
        created_at: token.metadata.created_at,
        expires_at: token.spec.expires_at,
        phase: phase.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_expires_does_so_within_a_century() {
        let now = Timestamp::from_millis(1_000);
        assert_eq!(expiry(now, None).unwrap(), None);
        let hour = DurationMs::from_secs(3_600);
        assert_eq!(expiry(now, Some(hour)).unwrap(), Some(now + hour));
        for bad in [DurationMs::ZERO, DurationMs::from_millis(u64::MAX)] {
            assert!(expiry(now, Some(bad)).is_err(), "{bad}");
        }
    }
}

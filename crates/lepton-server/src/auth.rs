//! Who calls: from the headers of a request to a principal.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lepton_access::{Access, Credential, Principal, Target, WorkloadKind, decide};
use lepton_api::ErrorCode;
use lepton_types::resources::{AttemptSpec, JobSpec, Kind, Meta, ReplicaSpec, Token, TokenSpec};
use lepton_types::{Id, Name};

use crate::app::App;
use crate::error::ApiError;

/// Somebody whose credential is genuine.
pub(crate) struct Caller(pub(crate) Principal);

impl Caller {
    /// Who calls with these headers. What lasts asks again: a token may be revoked meanwhile.
    pub(crate) async fn identify(app: &App, headers: &HeaderMap) -> Result<Self, ApiError> {
        let refused = |message: &str| ApiError::new(ErrorCode::Unauthenticated, message);
        let credential = presented(headers)?;
        let principal = believe(app, &credential).await?;
        principal.map(Self).ok_or_else(|| {
            refused(
                "the token is not valid: it is unknown, expired, revoked, or its workload is over",
            )
        })
    }

    /// Refuses unless the caller may do `access` to `kind`s of `project`.
    pub(crate) fn may(&self, access: Access, kind: Kind, project: &Name) -> Result<(), ApiError> {
        Ok(decide(
            &self.0,
            access,
            Target {
                project: Some(project),
                kind,
                id: None,
            },
        )?)
    }

    /// Refuses unless the caller may do `access` to this one.
    pub(crate) fn may_touch(
        &self,
        access: Access,
        kind: Kind,
        project: &Name,
        id: Id,
    ) -> Result<(), ApiError> {
        Ok(decide(
            &self.0,
            access,
            Target {
                project: Some(project),
                kind,
                id: Some(id),
            },
        )?)
    }

    /// Refuses unless the caller may change what is there already. A workload changes what it made.
    pub(crate) fn may_change(
        &self,
        kind: Kind,
        project: &Name,
        resource: &Meta,
    ) -> Result<(), ApiError> {
        match &self.0 {
            Principal::Workload { .. } if resource.created_by == self.0.label() => {
                self.may(Access::Write, kind, project)
            }
            Principal::Workload { .. } | Principal::Holder { .. } => {
                self.may_touch(Access::Write, kind, project, resource.id)
            }
        }
    }

    /// Whether the caller is a workload, which writes what is its own.
    pub(crate) const fn is_workload(&self) -> bool {
        matches!(self.0, Principal::Workload { .. })
    }

    /// Refuses unless the caller may do `access` to what lives in no project.
    pub(crate) fn may_globally(&self, access: Access, kind: Kind) -> Result<(), ApiError> {
        Ok(decide(
            &self.0,
            access,
            Target {
                project: None,
                kind,
                id: None,
            },
        )?)
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Self::identify(app, &parts.headers).await
    }
}

/// What is presented in the headers, not yet believed.
pub(crate) fn presented(headers: &HeaderMap) -> Result<Credential, ApiError> {
    let refused = |message: &str| ApiError::new(ErrorCode::Unauthenticated, message);
    refuse_other_sites(headers)?;
    let header = headers
        .get(AUTHORIZATION)
        .ok_or_else(|| refused("this call needs a token: send `Authorization: Bearer TOKEN`"))?;
    let token =
        header.to_str().ok().and_then(token_in).ok_or_else(|| {
            refused("the `Authorization` header is not of the form `Bearer TOKEN`")
        })?;
    token.parse().map_err(|error| refused(&format!("{error}")))
}

/// Refuses what a page of another site sends with a credential that the browser adds by itself, as it
/// does after it has been asked for a name and a password.
fn refuse_other_sites(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let by_itself = text(AUTHORIZATION)
        .and_then(|header| header.split_once(' '))
        .is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    let Some(origin) = text(ORIGIN).filter(|_| by_itself) else {
        return Ok(());
    };
    let site = origin.split_once("://").map(|(_, site)| site);
    match site.is_some() && site == text(HOST) {
        true => Ok(()),
        false => Err(ApiError::new(
            ErrorCode::PermissionDenied,
            "a page of another site may not use the password that the browser keeps for this one",
        )),
    }
}

/// The token in `Bearer TOKEN`, or the password in `Basic …`, for clients that know no other way.
fn token_in(header: &str) -> Option<String> {
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
        return decoded
            .split_once(':')
            .map(|(_, password)| password.to_owned());
    }
    None
}

async fn believe(app: &App, credential: &Credential) -> Result<Option<Principal>, ApiError> {
    match credential {
        Credential::Token { id, secret_digest } => {
            let token = working_token(app, id.id()).await?;
            Ok(token
                .filter(|token| token.spec.secret_digest == *secret_digest)
                .map(|token| holder_of(&token)))
        }
        Credential::Workload { kind, id, .. } => {
            if !credential.is_genuine_workload(&app.key) {
                return Ok(None);
            }
            live_workload(app, *kind, *id).await
        }
    }
}

/// A token that is neither revoked nor expired.
pub(crate) async fn working_token(app: &App, id: Id) -> Result<Option<Arc<Token>>, ApiError> {
    let cached = app.cache.read(|live| live.tokens.get(&id).cloned());
    let token = match cached {
        Some(token) => token,
        None => match app.store.get_by_id::<TokenSpec>(id).await? {
            Some(token) => token.into(),
            None => return Ok(None),
        },
    };
    let now = app.now();
    let expires_at = token.spec.expires_at;
    let works = token.status.revoked_at.is_none() && expires_at.is_none_or(|at| now < at);
    Ok(works.then_some(token))
}

/// Who holds a token.
pub(crate) fn holder_of(token: &Token) -> Principal {
    Principal::Holder {
        name: token.metadata.name.clone(),
        role: token.spec.role,
        scope: token.spec.scope.clone(),
    }
}

/// A workload, while it is not over.
pub(crate) async fn live_workload(
    app: &App,
    kind: WorkloadKind,
    id: Id,
) -> Result<Option<Principal>, ApiError> {
    let found = match kind {
        WorkloadKind::Attempt => attempt(app, id).await?,
        WorkloadKind::Replica => replica(app, id).await?,
    };
    Ok(found.map(|(project, run)| Principal::Workload {
        kind,
        id,
        project,
        run,
    }))
}

async fn attempt(app: &App, id: Id) -> Result<Option<(Name, Option<Id>)>, ApiError> {
    let cached = app.cache.read(|live| live.attempts.get(&id).cloned());
    let attempt = match cached {
        Some(attempt) => attempt,
        None => match app.store.get_by_id::<AttemptSpec>(id).await? {
            Some(attempt) => attempt.into(),
            None => return Ok(None),
        },
    };
    if attempt.status.phase.is_final() {
        return Ok(None);
    }
    let Some(owner) = attempt.metadata.owner else {
        return Ok(None);
    };
    let cached = app
        .cache
        .read(|live| live.jobs.get(&owner.id).map(|job| job.spec.run));
    let run = match cached {
        Some(run) => Some(run),
        None => app
            .store
            .get_by_id::<JobSpec>(owner.id)
            .await?
            .map(|job| job.spec.run),
    };
    Ok(run.map(|run| (attempt.metadata.project.clone(), Some(run.id()))))
}

async fn replica(app: &App, id: Id) -> Result<Option<(Name, Option<Id>)>, ApiError> {
    let replica = app.store.get_by_id::<ReplicaSpec>(id).await?;
    Ok(replica
        .filter(|replica| !replica.status.phase.is_final())
        .map(|replica| (replica.metadata.project, None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_site_cannot_use_a_password_that_the_browser_keeps() {
        let refused = |scheme: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "127.0.0.1:5110".parse().unwrap());
            headers.insert(AUTHORIZATION, format!("{scheme} x").parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            refuse_other_sites(&headers).is_err()
        };
        assert!(refused("Basic", Some("http://evil.example")));
        assert!(refused("basic", Some("null")));
        assert!(!refused("Basic", Some("http://127.0.0.1:5110")));
        assert!(!refused("Basic", None));
        // A page that has a token was given it.
        assert!(!refused("Bearer", Some("http://notebook.example")));
    }
}

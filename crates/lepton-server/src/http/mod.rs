//! The routes of `/api/v1`: one file a resource. A handler authorises, calls, converts.

mod access_keys;
mod apply;
pub(crate) mod artifacts;
mod bin;
pub(crate) mod blobs;
pub(crate) mod datasets;
mod decisions;
mod endpoints;
mod events;
mod experiments;
mod inference;
mod job_logs;
mod jobs;
mod lineage;
mod logged_models;
pub(crate) mod models;
mod named_keys;
mod objects;
mod pools;
mod preparations;
pub(crate) mod projects;
mod reservations;
mod runs;
mod series;
mod system;
mod tokens;
mod training;
mod watch;

use axum::Router;
use lepton_access::Access;
use lepton_api::ErrorCode;
use lepton_store::{CommitError, Conflict, Transaction};
use lepton_types::Name;
use lepton_types::resources::{Kind, ProjectSpec, ReplicaSpec, ReplicaStatus, Resource, Spec};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::parse_name;

pub(crate) use runs::set_phase;

/// The description that `/api/v1/openapi.json` serves.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Lepton",
        description = "Bring data and code; train, serve and track models. Every call needs \
                       `Authorization: Bearer TOKEN`. Errors are an `ErrorBody` with the status of its code.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(lepton_api::ErrorBody, ReplicaSpec, ReplicaStatus)),
    modifiers(&BearerToken),
    security(("token" = []))
)]
struct Description;

struct BearerToken;

impl utoipa::Modify for BearerToken {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// The routes and their description.
pub(crate) fn api() -> (Router<App>, utoipa::openapi::OpenApi) {
    let (routes, mut description) = described_routes();
    tell_of_errors(&mut description);
    (routes, description)
}

/// Whatever an operation does not name is answered with an error's body.
fn tell_of_errors(description: &mut utoipa::openapi::OpenApi) {
    use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
    let body = Ref::from_schema_name("ErrorBody");
    let error = ResponseBuilder::new()
        .description("The error, with the status of its code")
        .content(
            "application/json",
            ContentBuilder::new().schema(Some(body)).build(),
        )
        .build();
    for path in description.paths.paths.values_mut() {
        let operations = [
            &mut path.get,
            &mut path.put,
            &mut path.post,
            &mut path.patch,
            &mut path.delete,
        ];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses
                .entry("default".to_owned())
                .or_insert_with(|| error.clone().into());
        }
    }
}

fn described_routes() -> (Router<App>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(system::version))
        .routes(routes!(system::metrics))
        .routes(routes!(system::whoami))
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::get, projects::update, projects::delete))
        .routes(routes!(objects::usage))
        .routes(routes!(objects::all_usage))
        .routes(routes!(
            objects::get_upkeep,
            objects::start_upkeep,
            objects::stop_upkeep
        ))
        .routes(routes!(objects::keys))
        .routes(routes!(objects::rotate))
        .routes(routes!(objects::renew))
        .routes(routes!(objects::shred))
        .routes(routes!(named_keys::create))
        .routes(routes!(named_keys::renew))
        .routes(routes!(named_keys::shred))
        .routes(routes!(pools::list))
        .routes(routes!(pools::get))
        .routes(routes!(reservations::list, reservations::create))
        .routes(routes!(reservations::get, reservations::delete))
        .routes(routes!(decisions::latest))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(access_keys::list, access_keys::create))
        .routes(routes!(access_keys::revoke))
        .routes(routes!(access_keys::own))
        .routes(routes!(blobs::upload))
        .routes(routes!(blobs::download))
        .routes(routes!(datasets::list))
        .routes(routes!(datasets::get, datasets::delete))
        .routes(routes!(datasets::list_versions, datasets::put_version))
        .routes(routes!(datasets::commit))
        .routes(routes!(datasets::get_version))
        .routes(routes!(datasets::get_file))
        .routes(routes!(experiments::list, experiments::create))
        .routes(routes!(experiments::get, experiments::delete))
        .routes(routes!(jobs::list, jobs::create))
        .routes(routes!(jobs::get, jobs::delete))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::list_attempts))
        .routes(routes!(job_logs::job_logs))
        .routes(routes!(logged_models::get, logged_models::put))
        .routes(routes!(runs::list, runs::create))
        .routes(routes!(runs::get, runs::update, runs::delete))
        .routes(routes!(bin::get, bin::purge))
        .routes(routes!(series::log))
        .routes(routes!(series::read))
        .routes(routes!(artifacts::list))
        .routes(routes!(artifacts::put, artifacts::get))
        .routes(routes!(models::list))
        .routes(routes!(models::get, models::update, models::delete))
        .routes(routes!(models::list_versions, models::put_version))
        .routes(routes!(models::get_version, models::delete_version))
        .routes(routes!(models::get_file))
        .routes(routes!(models::set_alias, models::delete_alias))
        .routes(routes!(endpoints::list))
        .routes(routes!(endpoints::get, endpoints::put, endpoints::delete))
        .routes(routes!(endpoints::list_replicas))
        .routes(routes!(endpoints::scaling))
        .routes(routes!(job_logs::endpoint_logs))
        .routes(routes!(inference::predict))
        .routes(routes!(lineage::get))
        .routes(routes!(events::list))
        .routes(routes!(watch::watch))
        .routes(routes!(apply::apply))
        .split_for_parts()
}

/// Every route, the protocol faces included.
pub(crate) fn router(app: App) -> Router {
    let (routes, description) = api();
    let description = axum::body::Bytes::from(
        description
            .to_json()
            .expect("invariant: an OpenAPI document serialises"),
    );
    let serve_description = move || {
        let description = description.clone();
        async move {
            (
                [(axum::http::header::CONTENT_TYPE, "application/json")],
                description,
            )
        }
    };
    routes
        .route(
            "/api/v1/openapi.json",
            axum::routing::get(serve_description),
        )
        .merge(inference::open_inference_protocol())
        .merge(crate::mlflow::router())
        .route("/", axum::routing::get(welcome))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(axum::middleware::from_fn_with_state(
            app.tasks.clone(),
            crate::linger::linger,
        ))
        .layer(axum::middleware::from_fn(crate::awaited::end_stalled))
        .with_state(app)
}

/// Where a browser comes to that follows what clients print. Needs no token.
async fn welcome() -> &'static str {
    "This is Lepton. It has no pages here yet: `lepton get runs` and `lepton runs compare` show what was \
     logged, /api/v1/openapi.json describes the API.\n"
}

async fn no_such_path(uri: axum::http::Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        ErrorCode::NotFound,
        format!("no resource is at `{path}`: see /api/v1/openapi.json"),
    )
}

async fn no_such_method(method: axum::http::Method, uri: axum::http::Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        ErrorCode::MethodNotAllowed,
        format!("`{path}` does not take {method}"),
    )
}

/// Parses the project of a path, and authorises `access` to `kind`s in it. The project must
/// be there.
async fn enter(
    app: &App,
    caller: &Caller,
    access: Access,
    kind: Kind,
    project: &str,
) -> Result<Name, ApiError> {
    let project: Name = parse_name(project)?;
    caller.may(access, kind, &project)?;
    require_project(app, &project).await?;
    Ok(project)
}

pub(crate) async fn require_project(app: &App, project: &Name) -> Result<(), ApiError> {
    let home = Name::default_project();
    match app
        .store
        .get::<ProjectSpec>(&home, project.as_str())
        .await?
    {
        Some(found) if !found.is_deleting() => Ok(()),
        _ => Err(ApiError::not_found(Kind::Project, project)),
    }
}

/// The resource of this name, or a refusal.
async fn find<S: Spec>(
    app: &App,
    project: &Name,
    key: &str,
) -> Result<Resource<S, S::Status>, ApiError> {
    let found = app.store.get::<S>(project, key).await?;
    found.ok_or_else(|| {
        let shown: String = key.chars().take(128).flat_map(char::escape_debug).collect();
        ApiError::not_found(S::KIND, shown)
    })
}

/// How often a change is tried again when others change the same resource.
pub(crate) const CHANGE_TRIES: u32 = 16;

/// Reads a resource, changes it and writes it back, again if somebody else was faster.
async fn change<S: Spec>(
    app: &App,
    project: &Name,
    key: &str,
    mut alter: impl FnMut(&mut Resource<S, S::Status>) -> Result<(), ApiError>,
) -> Result<Resource<S, S::Status>, ApiError> {
    let mut tries = 0;
    loop {
        let mut resource = find::<S>(app, project, key).await?;
        alter(&mut resource)?;
        let mut transaction = Transaction::new();
        transaction.update(&resource);
        match app.store.commit(transaction).await {
            Ok(version) => {
                resource.metadata.resource_version = version;
                return Ok(resource);
            }
            Err(CommitError::Conflict(Conflict::Changed { .. })) if tries < CHANGE_TRIES => {
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes one new resource.
async fn insert<S: Spec>(
    app: &App,
    mut resource: Resource<S, S::Status>,
) -> Result<Resource<S, S::Status>, ApiError> {
    let mut transaction = Transaction::new();
    transaction.create(&resource);
    resource.metadata.resource_version = app.store.commit(transaction).await?;
    Ok(resource)
}

/// Deletes one resource with all that it owns.
async fn remove<S: Spec>(app: &App, resource: &Resource<S, S::Status>) -> Result<(), ApiError> {
    let mut transaction = Transaction::new();
    transaction.delete(resource);
    app.store.commit(transaction).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_schema_that_is_named_is_there_and_words_are_those_that_are_sent() {
        let (_, description) = super::api();
        let document = serde_json::to_value(&description).unwrap();
        let text = document.to_string();
        let named = text.split("#/components/schemas/").skip(1);
        for name in named.map(|rest| rest.split('"').next().unwrap()) {
            assert!(
                document["components"]["schemas"].get(name).is_some(),
                "no schema `{name}` is there"
            );
        }
        let role = &document["components"]["schemas"]["Role"];
        assert_eq!(
            role["enum"],
            serde_json::json!(["owner", "admin", "editor", "viewer"])
        );
        let whoami = &document["paths"]["/api/v1/whoami"]["get"]["responses"];
        assert!(whoami.get("default").is_some(), "{whoami}");
    }

    /// The document in `docs/` is the one that is served. `UPDATE_OPENAPI=1` writes it anew.
    #[test]
    fn the_checked_in_openapi_document_is_current() {
        let (_, description) = super::api();
        let current = description.to_pretty_json().unwrap() + "\n";
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(file, &current).unwrap();
        }
        let stored = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            stored == current,
            "docs/openapi.json is stale: run `make openapi`"
        );
    }
}

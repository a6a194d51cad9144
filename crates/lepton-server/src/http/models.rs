//! Models: numbered versions, and aliases that point at them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use lepton_access::{Access, Principal};
use lepton_api::{ErrorCode, List, PutModelVersion, SetAlias, UpdateModel};
use lepton_ml::onnx::SignatureError;
use lepton_store::{CommitError, Conflict, Query, Transaction};
use lepton_types::resources::{
    Endpoint, EndpointSpec, FileEntry, Kind, Model, ModelSelector, ModelSpec, ModelVersion,
    ModelVersionSpec, Resource,
};
use lepton_types::{AliasName, FreeName, Name, RunId};

use super::blobs::{check_files, send_blob};
use super::endpoints::SERVABLE;
use super::{change, enter, find, remove};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Paging, Params, Segments, list_of, parse_name};
use crate::lineage;

/// Lists models.
#[utoipa::path(get, path = "/api/v1/projects/{project}/models", tag = "models",
    params(("project" = String, Path), Paging), responses((status = 200, body = List<Model>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<Model>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Model, &project).await?;
    let query = paging.query(&project, &["active"])?;
    Ok(axum::Json(list_of(
        app.store.list::<ModelSpec>(query).await?,
    )))
}

/// One model.
#[utoipa::path(get, path = "/api/v1/projects/{project}/models/{model}", tag = "models",
    params(("project" = String, Path), ("model" = String, Path)), responses((status = 200, body = Model)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model)): Segments<(String, String)>,
) -> Result<axum::Json<Model>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::Model, &project).await?;
    Ok(axum::Json(find::<ModelSpec>(&app, &project, &model).await?))
}

/// Changes what a model says of itself.
#[utoipa::path(patch, path = "/api/v1/projects/{project}/models/{model}", tag = "models",
    params(("project" = String, Path), ("model" = String, Path)), request_body = UpdateModel,
    responses((status = 200, body = Model)))]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model)): Segments<(String, String)>,
    Json(request): Json<UpdateModel>,
) -> Result<axum::Json<Model>, ApiError> {
    let project = enter(&app, &caller, Access::Write, Kind::Model, &project).await?;
    let found = find::<ModelSpec>(&app, &project, &model).await?;
    caller.may_change(Kind::Model, &project, &found.metadata)?;
    let model = change::<ModelSpec>(&app, &project, &model, |model| {
        model.spec.description.clone_from(&request.description);
        model.metadata.generation += 1;
        Ok(())
    })
    .await?;
    Ok(axum::Json(model))
}

/// Deletes a model with all its versions, unless an endpoint serves it.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/models/{model}", tag = "models",
    params(("project" = String, Path), ("model" = String, Path)), responses((status = 204)))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let project = enter(&app, &caller, Access::Delete, Kind::Model, &project).await?;
    let model = find::<ModelSpec>(&app, &project, &model).await?;
    refuse_if_served(&app, &model, None).await?;
    remove(&app, &model).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the versions of a model, oldest first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/models/{model}/versions", tag = "models",
    params(("project" = String, Path), ("model" = String, Path), Paging),
    responses((status = 200, body = List<ModelVersion>)))]
pub(super) async fn list_versions(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model)): Segments<(String, String)>,
    Params(paging): Params<Paging>,
) -> Result<axum::Json<List<ModelVersion>>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::ModelVersion, &project).await?;
    let model = find::<ModelSpec>(&app, &project, &model).await?;
    let query = Query {
        owner: Some(model.metadata.id),
        ..paging.query(&project, &["ready"])?
    };
    Ok(axum::Json(list_of(
        app.store.list::<ModelVersionSpec>(query).await?,
    )))
}

/// Registers uploaded files as the next version; makes the model if it is new. The same files of
/// the same run as the newest version give that version again.
#[utoipa::path(post, path = "/api/v1/projects/{project}/models/{model}/versions", tag = "models",
    params(("project" = String, Path), ("model" = String, Path)), request_body = PutModelVersion,
    responses((status = 201, body = ModelVersion), (status = 400, body = lepton_api::ErrorBody)))]
pub(super) async fn put_version(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model)): Segments<(String, String)>,
    Json(request): Json<PutModelVersion>,
) -> Result<(StatusCode, axum::Json<ModelVersion>), ApiError> {
    let project = enter(&app, &caller, Access::Write, Kind::ModelVersion, &project).await?;
    let name: FreeName = parse_name(&model)?;
    check_files(&app, &project, &request.files).await?;
    check_servable(&app, &project, &request.files).await?;
    let mut tries = 0;
    loop {
        let found = app.store.get::<ModelSpec>(&project, name.as_str()).await?;
        let is_new = found.is_none();
        let mut model = found.unwrap_or_else(|| {
            let spec = ModelSpec::default();
            Resource::draft(
                app.ids.next_id(),
                project.clone(),
                name.as_str(),
                app.now(),
                spec,
            )
            .created_by(caller.0.label())
        });
        if !is_new {
            let newest = version_key(&name, model.status.latest_version);
            if let Some(newest) = app.store.get::<ModelVersionSpec>(&project, &newest).await?
                && newest.spec.files == request.files
                && newest.spec.run == request.run
            {
                return Ok((StatusCode::OK, axum::Json(newest)));
            }
        }
        model.status.latest_version += 1;
        let number = model.status.latest_version;
        let spec = ModelVersionSpec {
            model: name.clone(),
            version: number,
            files: request.files.clone(),
            run: request.run,
            description: request.description.clone(),
            tags: std::collections::BTreeMap::new(),
            origin: None,
        };
        let key = version_key(&name, number);
        let mut version = Resource::draft(app.ids.next_id(), project.clone(), key, app.now(), spec)
            .created_by(caller.0.label())
            .owned_by(Kind::Model, model.metadata.id);
        let mut transaction = Transaction::new();
        if is_new {
            transaction.create(&model);
        } else {
            transaction.update(&model);
        }
        transaction.create(&version);
        let made = lineage::model_node(&version);
        lineage::made_by(&app, &mut transaction, &project, request.run, made).await?;
        match app.store.commit(transaction).await {
            Ok(stored) => {
                version.metadata.resource_version = stored;
                return Ok((StatusCode::CREATED, axum::Json(version)));
            }
            Err(CommitError::Conflict(
                Conflict::Changed { .. } | Conflict::AlreadyExists { .. },
            )) if tries < super::CHANGE_TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// One version: a number, `latest`, or `@ALIAS`.
#[utoipa::path(get, path = "/api/v1/projects/{project}/models/{model}/versions/{version}", tag = "models",
    params(("project" = String, Path), ("model" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = ModelVersion)))]
pub(super) async fn get_version(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model, version)): Segments<(String, String, String)>,
) -> Result<axum::Json<ModelVersion>, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::ModelVersion, &project).await?;
    Ok(axum::Json(
        find_version(&app, &project, &model, &version).await?,
    ))
}

/// Deletes one version, and the aliases that point at it, unless an endpoint serves it.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/models/{model}/versions/{version}", tag = "models",
    params(("project" = String, Path), ("model" = String, Path), ("version" = String, Path)),
    responses((status = 204)))]
pub(super) async fn delete_version(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model, version)): Segments<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let project = enter(&app, &caller, Access::Delete, Kind::ModelVersion, &project).await?;
    let version = find_version(&app, &project, &model, &version).await?;
    let owner = model_of(&app, &version).await?;
    let number = version.spec.version;
    refuse_if_served(&app, &owner, Some(number)).await?;
    let mut transaction = Transaction::new();
    transaction
        .alter::<ModelSpec>(owner.metadata.id, move |model| {
            model.spec.aliases.retain(|_, pointed| *pointed != number);
            Ok(())
        })
        .delete(&version);
    app.store.commit(transaction).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The bytes of one file of a version.
#[utoipa::path(get, path = "/api/v1/projects/{project}/models/{model}/versions/{version}/files/{*path}",
    tag = "models",
    params(("project" = String, Path), ("model" = String, Path), ("version" = String, Path), ("path" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn get_file(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model, version, path)): Segments<(String, String, String, String)>,
) -> Result<Response, ApiError> {
    let project = enter(&app, &caller, Access::Read, Kind::ModelVersion, &project).await?;
    let version = find_version(&app, &project, &model, &version).await?;
    let file = version
        .spec
        .files
        .iter()
        .find(|file| file.path == path)
        .ok_or_else(|| {
            let message = format!(
                "model version `{}` has no file of that path",
                version.metadata.name
            );
            ApiError::new(ErrorCode::NotFound, message)
        })?;
    send_blob(&app, &project, file.digest, Some(&file.path)).await
}

/// Points an alias at a version; endpoints that follow it move.
#[utoipa::path(put, path = "/api/v1/projects/{project}/models/{model}/aliases/{alias}", tag = "models",
    params(("project" = String, Path), ("model" = String, Path), ("alias" = String, Path)),
    request_body = SetAlias, responses((status = 200, body = Model)))]
pub(super) async fn set_alias(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model, alias)): Segments<(String, String, String)>,
    Json(request): Json<SetAlias>,
) -> Result<axum::Json<Model>, ApiError> {
    let project = enter(&app, &caller, Access::Write, Kind::Model, &project).await?;
    let alias: AliasName = parse_name(&alias)?;
    let number = ModelSelector::Version(request.version);
    let version = select_version(&app, &project, &model, &number).await?;
    let found = model_of(&app, &version).await?;
    let mut transaction = Transaction::new();
    transaction
        // It points at something, whatever is deleted meanwhile.
        .require_resource(Kind::ModelVersion, version.metadata.id)
        .alter::<ModelSpec>(
            found.metadata.id,
            pointing(&caller, &project, &version, alias)?,
        );
    app.store.commit(transaction).await?;
    let model = model_of(&app, &version).await?;
    Ok(axum::Json(model))
}

/// The model that a version is of, whatever it is called by now: another one may bear the name.
pub(crate) async fn model_of(app: &App, version: &ModelVersion) -> Result<Model, ApiError> {
    let found = match version.metadata.owner {
        Some(owner) => app.store.get_by_id::<ModelSpec>(owner.id).await?,
        None => None,
    };
    found.ok_or_else(|| {
        let message = format!("model `{}` not found", version.spec.model);
        ApiError::new(ErrorCode::NotFound, message)
    })
}

/// What points an alias of a model at a version. A workload points a new one at what it made; people
/// move those that are there.
pub(crate) fn pointing(
    caller: &Caller,
    project: &Name,
    version: &ModelVersion,
    alias: AliasName,
) -> Result<impl Fn(&mut Model) -> Result<(), Conflict> + Send + Sync + 'static, ApiError> {
    may_change_version(caller, project, version)?;
    let (number, moves) = (version.spec.version, !caller.is_workload());
    Ok(move |model: &mut Model| {
        let known = model.spec.aliases.insert(alias.clone(), number);
        match known.filter(|known| *known != number && !moves) {
            Some(version) => Err(Conflict::AliasTaken {
                alias: alias.to_string(),
                version,
            }),
            None => {
                model.metadata.generation += 1;
                Ok(())
            }
        }
    })
}

/// Refuses unless the caller may change a version: a workload those that it, or its run, made.
pub(crate) fn may_change_version(
    caller: &Caller,
    project: &Name,
    version: &ModelVersion,
) -> Result<(), ApiError> {
    match &caller.0 {
        Principal::Workload { run: Some(own), .. }
            if version.spec.run.map(RunId::id) == Some(*own) =>
        {
            caller.may(Access::Write, Kind::ModelVersion, project)
        }
        _ => caller.may_change(Kind::ModelVersion, project, &version.metadata),
    }
}

/// Removes an alias.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/models/{model}/aliases/{alias}", tag = "models",
    params(("project" = String, Path), ("model" = String, Path), ("alias" = String, Path)),
    responses((status = 200, body = Model)))]
pub(super) async fn delete_alias(
    State(app): State<App>,
    caller: Caller,
    Segments((project, model, alias)): Segments<(String, String, String)>,
) -> Result<axum::Json<Model>, ApiError> {
    let project = enter(&app, &caller, Access::Delete, Kind::Model, &project).await?;
    let alias: AliasName = parse_name(&alias)?;
    let model = change::<ModelSpec>(&app, &project, &model, |model| {
        if model.spec.aliases.remove(&alias).is_none() {
            let message = format!("model `{}` has no alias `{alias}`", model.metadata.name);
            return Err(ApiError::new(ErrorCode::NotFound, message));
        }
        model.metadata.generation += 1;
        Ok(())
    })
    .await?;
    Ok(axum::Json(model))
}

/// Refuses an alias that would point at nothing.
pub(super) async fn check_alias(
    app: &App,
    project: &Name,
    model: &str,
    version: u32,
) -> Result<(), ApiError> {
    select_version(app, project, model, &ModelSelector::Version(version)).await?;
    Ok(())
}

/// The version that a number, `latest` or `@ALIAS` means.
pub(super) async fn find_version(
    app: &App,
    project: &Name,
    model: &str,
    version: &str,
) -> Result<ModelVersion, ApiError> {
    let selector = match (version, version.strip_prefix('@')) {
        ("latest", _) => ModelSelector::Latest,
        (_, Some(alias)) => ModelSelector::Alias(parse_name(alias)?),
        (number, None) => ModelSelector::Version(
            number
                .parse()
                .map_err(|_| ApiError::invalid("a version is a number, `latest`, or `@ALIAS`"))?,
        ),
    };
    select_version(app, project, model, &selector).await
}

/// The version that `selector` means now.
pub(super) async fn select_version(
    app: &App,
    project: &Name,
    model: &str,
    selector: &ModelSelector,
) -> Result<ModelVersion, ApiError> {
    let found = find::<ModelSpec>(app, project, model).await?;
    let number = match selector {
        ModelSelector::Latest => return newest_version(app, &found).await,
        ModelSelector::Version(number) => *number,
        ModelSelector::Alias(alias) => *found.spec.aliases.get(alias).ok_or_else(|| {
            let message = format!("model `{model}` has no alias `{alias}`");
            ApiError::new(ErrorCode::NotFound, message)
        })?,
    };
    find::<ModelVersionSpec>(app, project, &format!("{model}/{number}")).await
}

/// The newest version that was not deleted; the model's own counter also counts those.
async fn newest_version(app: &App, model: &Model) -> Result<ModelVersion, ApiError> {
    let newest = Query {
        owner: Some(model.metadata.id),
        newest_first: true,
        limit: 1,
        ..Query::project(&model.metadata.project)
    };
    let found = app
        .store
        .list::<ModelVersionSpec>(newest)
        .await?
        .items
        .pop();
    found.ok_or_else(|| {
        let message = format!("model `{}` has no version left", model.metadata.name);
        ApiError::new(ErrorCode::NotFound, message)
    })
}

/// Refuses while an endpoint serves the model, or this version of it.
pub(crate) async fn refuse_if_served(
    app: &App,
    model: &Model,
    version: Option<u32>,
) -> Result<(), ApiError> {
    let endpoints = app
        .store
        .list_all::<EndpointSpec>(Query::project(&model.metadata.project))
        .await?;
    let serving = endpoints.iter().find(|endpoint| {
        endpoint.spec.model.model.as_str() == model.metadata.name
            && version.is_none_or(|version| needs(endpoint, model, version))
    });
    match serving {
        None => Ok(()),
        Some(endpoint) => Err(ApiError::new(
            ErrorCode::Conflict,
            format!(
                "endpoint `{}` serves it: delete or change that first",
                endpoint.metadata.name
            ),
        )),
    }
}

/// Whether an endpoint serves a version of its model, or is on the way to it.
fn needs(endpoint: &Endpoint, model: &Model, version: u32) -> bool {
    let wanted = match &endpoint.spec.model.selector {
        ModelSelector::Version(number) => Some(*number),
        ModelSelector::Alias(alias) => model.spec.aliases.get(alias).copied(),
        ModelSelector::Latest => None,
    };
    wanted == Some(version) || endpoint.status.version == Some(version)
}

/// Larger models are taken at their word: reading one must not use up the server's memory. Their
/// replicas refuse what is no model.
const CHECKED_BYTES_MAX: u64 = 64 << 20;

/// Refuses a `model.onnx` that is none, before replicas fail on it again and again.
async fn check_servable(app: &App, project: &Name, files: &[FileEntry]) -> Result<(), ApiError> {
    let servable = files.iter().find(|file| file.path == SERVABLE);
    let Some(file) = servable.filter(|file| file.size_bytes <= CHECKED_BYTES_MAX) else {
        return Ok(());
    };
    let bytes = app
        .blobs
        .read_all(project, file.digest, CHECKED_BYTES_MAX)
        .await?;
    // Outputs that are no tensors are for the engine to take or refuse.
    match lepton_ml::onnx::signature_of(&bytes) {
        Err(SignatureError::NotOnnx) => Err(ApiError::new(
            ErrorCode::InvalidData,
            format!("`{SERVABLE}` is not an ONNX model: export the model to ONNX first"),
        )),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn version_key(model: &FreeName, number: u32) -> String {
    format!("{model}/{number}")
}

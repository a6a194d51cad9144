//! MLflow's workspaces, which are Lepton's projects: seen, made and deleted as those are.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use lepton_api::CreateProject;
use lepton_store::Query;
use lepton_types::Name;
use lepton_types::resources::{Project, ProjectQuota, ProjectSpec};
use serde::{Deserialize, Serialize};

use super::ask::{Ask, need};
use super::error::{Answer, MlflowError};
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Json as Given, Segments};
use crate::http::projects;

#[derive(Serialize)]
pub(super) struct WorkspaceWire {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

impl WorkspaceWire {
    fn of(project: Project) -> Self {
        Self {
            name: project.metadata.name,
            description: project.spec.description,
        }
    }
}

#[derive(Serialize)]
pub(super) struct One {
    workspace: WorkspaceWire,
}

#[derive(Serialize)]
pub(super) struct Many {
    workspaces: Vec<WorkspaceWire>,
}

/// Those that the caller may read.
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Answer<Many> {
    let query = Query::project(&Name::default_project());
    let mut found = app.store.list_all::<ProjectSpec>(query).await?;
    found.retain(|project| projects::is_seen_by(&caller, project));
    let workspaces = found.into_iter().map(WorkspaceWire::of).collect();
    Ok(Json(Many { workspaces }))
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<One> {
    let found = projects::get(State(app), caller, Segments(name)).await?;
    let workspace = WorkspaceWire::of(found.0);
    Ok(Json(One { workspace }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Create {
    name: Option<String>,
    description: Option<String>,
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Ask(ask): Ask<Create>,
) -> Result<(StatusCode, Json<One>), MlflowError> {
    let name = need(&ask.name, "name")?.parse();
    let name = name.map_err(|error: lepton_types::ParseNameError| {
        MlflowError::invalid(format!("Invalid workspace name: {error}"))
    })?;
    let request = CreateProject {
        name,
        description: ask.description.unwrap_or_default(),
        quota: ProjectQuota::default(),
    };
    let (status, made) = projects::create(State(app), caller, Given(request)).await?;
    let workspace = WorkspaceWire::of(made.0);
    Ok((status, Json(One { workspace })))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Delete {
    mode: Option<String>,
}

/// Deletes one that is empty; no mode empties it.
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    axum::extract::Query(ask): axum::extract::Query<Delete>,
) -> Result<StatusCode, MlflowError> {
    match ask.mode.as_deref() {
        None | Some("" | "RESTRICT") => {
            Ok(projects::delete(State(app), caller, Segments(name)).await?)
        }
        Some(_) => Err(MlflowError::invalid(
            "A workspace is deleted once it is empty: `mode` is RESTRICT or absent",
        )),
    }
}

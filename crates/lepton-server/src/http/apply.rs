//! Apply: brings resources to the state that manifests describe, and says what changes.

use axum::extract::State;
use lepton_access::Access;
use lepton_api::{AppliedItem, Apply, ApplyAction, ApplyReport, ErrorCode, FieldChange, Manifest};
use lepton_types::resources::{
    EndpointSpec, ExperimentSpec, Kind, ModelSpec, ProjectSpec, Resource, Spec,
};
use lepton_types::{FreeName, Name};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{change, endpoints, insert, models, require_project};
use crate::app::App;
use crate::auth::Caller;
use crate::datasets::DatasetError;
use crate::error::ApiError;
use crate::extract::{Json, Segments, parse_name};
use crate::metering::carry_quota;

/// The version of manifests that is understood.
const API_VERSION: &str = "lepton/v1";

/// More manifests than this belong into several calls.
const MANIFESTS_MAX: usize = 1_000;

/// Brings resources to the state that manifests describe. Applying the same twice changes nothing
/// the second time. Everything is checked before anything is changed.
#[utoipa::path(post, path = "/api/v1/projects/{project}/apply", tag = "apply",
    params(("project" = String, Path)), request_body = Apply, responses((status = 200, body = ApplyReport)))]
pub(super) async fn apply(
    State(app): State<App>,
    caller: Caller,
    Segments(project): Segments<String>,
    Json(request): Json<Apply>,
) -> Result<axum::Json<ApplyReport>, ApiError> {
    let project: Name = parse_name(&project)?;
    if request.manifests.len() > MANIFESTS_MAX {
        return Err(ApiError::new(
            ErrorCode::TooLarge,
            format!("one call takes {MANIFESTS_MAX} manifests"),
        ));
    }
    let mut wanted = Vec::new();
    for (index, manifest) in request.manifests.iter().enumerate() {
        let named = |error: ApiError| {
            let what = format!("manifest {} (`{}`)", index + 1, manifest.metadata.name);
            ApiError::new(error.code(), format!("{what}: {}", error.message()))
        };
        wanted.push(Wanted::parse(&caller, &project, manifest).map_err(named)?);
    }
    let made: Vec<String> = wanted
        .iter()
        .filter(|w| w.kind() == Kind::Project)
        .map(|w| w.name.clone())
        .collect();
    let mut items = Vec::new();
    for want in &wanted {
        items.push(want.reconcile(&app, &caller, &made, Mode::Show).await?);
    }
    if !request.dry_run {
        for (want, item) in wanted.iter().zip(&items) {
            if item.action == ApplyAction::Unchanged {
                continue;
            }
            match want.reconcile(&app, &caller, &made, Mode::Do).await {
                // Somebody else made it in between: now it is there to be changed.
                Err(error) if error.code() == ErrorCode::AlreadyExists => {
                    want.reconcile(&app, &caller, &made, Mode::Do).await?
                }
                outcome => outcome?,
            };
        }
    }
    Ok(axum::Json(ApplyReport {
        dry_run: request.dry_run,
        items,
    }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Show,
    Do,
}

struct Wanted {
    project: Name,
    name: String,
    labels: std::collections::BTreeMap<String, String>,
    spec: WantedSpec,
}

enum WantedSpec {
    Project(ProjectSpec),
    Experiment(ExperimentSpec),
    Model(ModelSpec),
    Endpoint(EndpointSpec),
}

impl Wanted {
    fn parse(caller: &Caller, project: &Name, manifest: &Manifest) -> Result<Self, ApiError> {
        if manifest.api_version != API_VERSION {
            let message = format!(
                "`apiVersion` must be `{API_VERSION}`, not `{}`",
                manifest.api_version
            );
            return Err(ApiError::invalid(message));
        }
        let kind: Kind = manifest.kind.parse().map_err(ApiError::invalid)?;
        let name = &manifest.metadata.name;
        let spec = match kind {
            Kind::Project => WantedSpec::Project(parse_spec(manifest)?),
            Kind::Experiment => WantedSpec::Experiment(parse_spec(manifest)?),
            Kind::Model => WantedSpec::Model(parse_spec(manifest)?),
            Kind::Endpoint => WantedSpec::Endpoint(parse_spec(manifest)?),
            other => {
                let message = format!(
                    "a {other} is not desired state: Project, Experiment, Model and Endpoint can be applied"
                );
                return Err(ApiError::invalid(message));
            }
        };
        match kind {
            Kind::Project | Kind::Endpoint => drop(parse_name::<Name>(name)?),
            _ => drop(parse_name::<FreeName>(name)?),
        }
        let home = Name::default_project();
        let project = match kind {
            Kind::Project => home,
            _ => manifest
                .metadata
                .project
                .clone()
                .unwrap_or_else(|| project.clone()),
        };
        match kind {
            Kind::Project => caller.may_globally(Access::Administer, kind)?,
            _ => caller.may(Access::Write, kind, &project)?,
        }
        Ok(Self {
            project,
            name: name.clone(),
            labels: manifest.metadata.labels.clone(),
            spec,
        })
    }

    fn kind(&self) -> Kind {
        match self.spec {
            WantedSpec::Project(_) => Kind::Project,
            WantedSpec::Experiment(_) => Kind::Experiment,
            WantedSpec::Model(_) => Kind::Model,
            WantedSpec::Endpoint(_) => Kind::Endpoint,
        }
    }

    async fn reconcile(
        &self,
        app: &App,
        caller: &Caller,
        made: &[String],
        mode: Mode,
    ) -> Result<AppliedItem, ApiError> {
        if !made.iter().any(|project| project == self.project.as_str()) {
            require_project(app, &self.project).await?;
        }
        match &self.spec {
            WantedSpec::Project(spec) => {
                let brought = self.bring(app, caller, spec.clone(), mode, replace).await?;
                if mode == Mode::Do {
                    let name: Name = parse_name(&self.name)?;
                    let carried = carry_quota(app, &name, &spec.quota).await;
                    carried.map_err(DatasetError::from)?;
                }
                Ok(brought)
            }
            WantedSpec::Experiment(spec) => {
                self.bring(app, caller, spec.clone(), mode, replace).await
            }
            WantedSpec::Model(spec) => {
                for version in spec.aliases.values() {
                    models::check_alias(app, &self.project, &self.name, *version).await?;
                }
                self.bring(app, caller, spec.clone(), mode, replace).await
            }
            WantedSpec::Endpoint(spec) => {
                let found = app
                    .store
                    .get::<EndpointSpec>(&self.project, &self.name)
                    .await?;
                let spec = self.settle(app, found.as_ref(), spec).await?;
                self.bring(app, caller, spec, mode, endpoints::update).await
            }
        }
    }

    /// An endpoint that was deployed from the newest version stays at it: applying the same
    /// manifest again must not move it.
    async fn settle(
        &self,
        app: &App,
        found: Option<&lepton_types::resources::Endpoint>,
        spec: &EndpointSpec,
    ) -> Result<EndpointSpec, ApiError> {
        use lepton_types::resources::ModelSelector;
        let mut spec = spec.clone();
        if let Some(found) = found
            && spec.model.selector == ModelSelector::Latest
            && found.spec.model.model == spec.model.model
            && matches!(found.spec.model.selector, ModelSelector::Version(_))
        {
            spec.model.selector = found.spec.model.selector.clone();
        }
        endpoints::accept(app, &self.project, spec).await
    }

    async fn bring<S: Spec>(
        &self,
        app: &App,
        caller: &Caller,
        spec: S,
        mode: Mode,
        alter: fn(&mut Resource<S, S::Status>, &S),
    ) -> Result<AppliedItem, ApiError> {
        let found = app.store.get::<S>(&self.project, &self.name).await?;
        let after = to_value(&spec)?;
        let mut changes = Vec::new();
        let action = match &found {
            None => {
                compare("spec", None, Some(&after), &mut changes);
                ApplyAction::Create
            }
            Some(found) if found.is_deleting() => return Err(self.on_its_way_out(S::KIND)),
            Some(found) => {
                compare(
                    "spec",
                    Some(&to_value(&found.spec)?),
                    Some(&after),
                    &mut changes,
                );
                if !self.labels.is_empty() || !found.metadata.labels.is_empty() {
                    let labels = (to_value(&found.metadata.labels)?, to_value(&self.labels)?);
                    compare(
                        "metadata.labels",
                        Some(&labels.0),
                        Some(&labels.1),
                        &mut changes,
                    );
                }
                if changes.is_empty() {
                    ApplyAction::Unchanged
                } else {
                    ApplyAction::Update
                }
            }
        };
        if mode == Mode::Do {
            match found {
                Some(found) => {
                    caller.may_change(S::KIND, &self.project, &found.metadata)?;
                    self.change(app, &spec, alter).await?;
                }
                None => self.make(app, caller, spec).await?,
            }
        }
        Ok(AppliedItem {
            kind: S::KIND,
            name: self.name.clone(),
            action,
            changes,
        })
    }

    async fn change<S: Spec>(
        &self,
        app: &App,
        spec: &S,
        alter: fn(&mut Resource<S, S::Status>, &S),
    ) -> Result<(), ApiError> {
        change::<S>(app, &self.project, &self.name, |resource| {
            if resource.is_deleting() {
                return Err(self.on_its_way_out(S::KIND));
            }
            alter(resource, spec);
            resource.metadata.labels.clone_from(&self.labels);
            Ok(())
        })
        .await?;
        Ok(())
    }

    async fn make<S: Spec>(&self, app: &App, caller: &Caller, spec: S) -> Result<(), ApiError> {
        let (id, name) = (app.ids.next_id(), self.name.as_str());
        let mut draft = Resource::draft(id, self.project.clone(), name, app.now(), spec)
            .created_by(caller.0.label());
        draft.metadata.labels.clone_from(&self.labels);
        insert(app, draft).await?;
        Ok(())
    }

    fn on_its_way_out(&self, kind: Kind) -> ApiError {
        let message = format!(
            "{kind} `{}` is being deleted: wait until it is gone",
            self.name
        );
        ApiError::new(ErrorCode::Conflict, message)
    }
}

/// How most kinds change: what is wanted takes the place of what was.
fn replace<S: Spec>(resource: &mut Resource<S, S::Status>, spec: &S) {
    resource.spec = spec.clone();
    resource.metadata.generation += 1;
}

fn parse_spec<S: DeserializeOwned>(manifest: &Manifest) -> Result<S, ApiError> {
    let spec = match &manifest.spec {
        Value::Null => Value::Object(serde_json::Map::new()),
        spec => spec.clone(),
    };
    serde_json::from_value(spec).map_err(|error| ApiError::invalid(format!("`spec`: {error}")))
}

fn to_value(value: &impl serde::Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(|error| ApiError::internal(&error))
}

/// Lists the leaves in which `from` and `to` differ.
fn compare(path: &str, from: Option<&Value>, to: Option<&Value>, changes: &mut Vec<FieldChange>) {
    if from == to {
        return;
    }
    let none = serde_json::Map::new();
    let fields = |value: Option<&Value>| match value {
        Some(Value::Object(fields)) => Some(fields.clone()),
        None => Some(none.clone()),
        Some(_) => None,
    };
    if let (Some(before), Some(after)) = (fields(from), fields(to))
        && !(before.is_empty() && after.is_empty())
    {
        let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            compare(
                &format!("{path}.{key}"),
                before.get(key),
                after.get(key),
                changes,
            );
        }
        return;
    }
    changes.push(FieldChange {
        path: path.to_owned(),
        from: from.cloned(),
        to: to.cloned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_name_the_leaves() {
        let mut changes = Vec::new();
        let before = json!({"replicas": 1, "model": "a", "same": {"x": 1}});
        let after = json!({"replicas": 2, "same": {"x": 1}, "new": {"deep": true}});
        compare("spec", Some(&before), Some(&after), &mut changes);
        let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["spec.model", "spec.new.deep", "spec.replicas"]);
        changes.clear();
        compare("spec", Some(&after), Some(&after), &mut changes);
        assert!(changes.is_empty());
    }
}

//! Bringing logged models, under their own ids where those are free.
//!
//! The last step notes on the model what its source looked like; where that has not changed, the model is
//! passed over the next time.

use lepton_api::{ErrorCode, LoggedModelView, ModelMeasurement, PutLoggedModel, RunOfModel};
use lepton_types::tracking::{LoggedModelPhase, ModelUse};
use lepton_types::{FreeName, Id, RunId};
use sha2::{Digest as _, Sha256};

use super::experiments::Standing;
use super::registry::Place;
use super::source::{Bin, Source, SourceLoggedModel};
use super::{DONE_TAG, ID_TAG, Importing, PARAM_BYTES_MAX, TAG_BYTES_MAX, is_refused};
use crate::failure::Failure;
use crate::progress::Progress;

/// Measurements in one request.
const METRICS_SENT: usize = 1_000;

/// The tag of a logged model that lists what it was registered as; registering writes it here.
const VERSIONS_TAG: &str = "mlflow.modelVersions";

/// A run here that made or used a logged model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) run: RunId,
    pub(super) r#use: ModelUse,
    pub(super) step: i64,
}

impl Importing<'_> {
    pub(super) fn bring_logged_models(
        &mut self,
        source: &Source,
        (experiment, bin): (&Standing, Bin),
        progress: &Progress,
    ) -> Result<(), Failure> {
        source.each_logged_model(&experiment.source, bin, &mut |found| {
            match found {
                Ok(model) => {
                    self.one_more(progress);
                    progress.say(model.name.clone());
                    self.bring_logged_model(source, experiment, &model)?;
                    progress.advance(1);
                }
                Err(why) => self.left_out(why),
            }
            Ok(())
        })
    }

    fn bring_logged_model(
        &mut self,
        source: &Source,
        experiment: &Standing,
        model: &SourceLoggedModel,
    ) -> Result<(), Failure> {
        let shown = format!("logged model `{}` ({})", model.name, model.id);
        let fingerprint = self.fingerprint_of(model);
        let mut request = self.about(&experiment.name, model);
        let Some(here) = self.find_or_make(&request, model, &shown)? else {
            return Ok(());
        };
        self.logged.insert(model.id.clone(), here.clone());
        // What was put in the bin here alone stays there.
        let is_put_away = here.deleted_at.is_some() && !model.is_deleted;
        if is_put_away || here.tags.get(DONE_TAG) == Some(&fingerprint) {
            self.brought.unchanged += 1;
            return Ok(());
        }
        let metrics = self.measurements(model, &shown);
        for some in metrics.chunks(METRICS_SENT) {
            request.metrics = some.to_vec();
            self.client.put_logged_model(&here.id, &request)?;
        }
        self.brought.points += metrics.len() as u64;
        request.metrics.clear();
        if self.artifacts {
            self.bring_files_of(source, experiment, model, &here)?;
        }
        request.tags.insert(DONE_TAG.to_owned(), fingerprint);
        request.phase = Some(model.phase);
        request.deleted_at = model.is_deleted.then_some(self.now);
        self.client.put_logged_model(&here.id, &request)?;
        self.brought.logged_models += 1;
        Ok(())
    }

    /// Of the model, and of the runs that it is linked with.
    fn fingerprint_of(&self, model: &SourceLoggedModel) -> String {
        let links = self.links.get(&model.id).map(Vec::as_slice);
        let links = links.unwrap_or_default().iter();
        let links: Vec<String> = links.map(|link| format!("{link:?}")).collect();
        let all = format!("{}\0{}", model.fingerprint, links.join("\0"));
        format!("{:x}", Sha256::digest(all))
    }

    /// The model here, made if it is new; none if it cannot be made.
    fn find_or_make(
        &mut self,
        request: &PutLoggedModel,
        model: &SourceLoggedModel,
        shown: &str,
    ) -> Result<Option<LoggedModelView>, Failure> {
        let own = model.id.strip_prefix("m-").and_then(|id| id.parse().ok());
        for id in own.into_iter().chain([derived_id(&model.id)]) {
            let id = format!("m-{id}");
            match self.client.logged_model(&id) {
                Ok(here) => return Ok(Some(here)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
            let mut request = request.clone();
            request.phase = Some(LoggedModelPhase::Pending);
            if id != model.id {
                request.tags.insert(ID_TAG.to_owned(), model.id.clone());
            }
            match self.client.put_logged_model(&id, &request) {
                Ok(here) => return Ok(Some(here)),
                // It is another project's; the next id is ours.
                Err(error) if error.code() == Some(ErrorCode::AlreadyExists) => {}
                Err(error) if is_refused(&error) => {
                    self.left_out(format!("{shown}: {error}"));
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.left_out(format!("{shown}: the ids that it could have are taken"));
        Ok(None)
    }

    /// All but its measurements and where it stands.
    fn about(&mut self, experiment: &FreeName, model: &SourceLoggedModel) -> PutLoggedModel {
        let mut tags = self.fitting("tag", &model.tags, TAG_BYTES_MAX);
        tags.remove(VERSIONS_TAG);
        let links = self.links.get(&model.id).cloned().unwrap_or_default();
        let link = |link: Link| RunOfModel {
            run: link.run,
            r#use: link.r#use,
            step: link.step,
        };
        PutLoggedModel {
            experiment: experiment.clone(),
            name: model.name.clone(),
            model_type: model.model_type.clone(),
            source_run: self.runs.get(&model.source_run).copied(),
            created_at: model.created_at,
            phase: None,
            deleted_at: None,
            params: self.fitting("parameter", &model.params, PARAM_BYTES_MAX),
            tags,
            metrics: Vec::new(),
            runs: links.into_iter().map(link).collect(),
        }
    }

    /// Those whose runs are here.
    fn measurements(&mut self, model: &SourceLoggedModel, shown: &str) -> Vec<ModelMeasurement> {
        let metrics = model.metrics.iter().filter_map(|metric| {
            Some(ModelMeasurement {
                run: *self.runs.get(&metric.run)?,
                point: metric.point.clone(),
                dataset_name: metric.dataset_name.clone(),
                dataset_digest: metric.dataset_digest.clone(),
            })
        });
        let metrics: Vec<ModelMeasurement> = metrics.collect();
        let missing = model.metrics.len() - metrics.len();
        if missing > 0 {
            self.left_out(format!(
                "{shown}: {missing} measurements of runs that are not here"
            ));
        }
        metrics
    }

    fn bring_files_of(
        &mut self,
        source: &Source,
        experiment: &Standing,
        model: &SourceLoggedModel,
        here: &LoggedModelView,
    ) -> Result<(), Failure> {
        let place = Place::InLoggedModel {
            experiment: experiment.source.id.clone(),
            model: model.id.clone(),
            path: String::new(),
        };
        let Some(folder) = here.artifact_uri.strip_prefix("mlflow-artifacts:/") else {
            self.left_out(format!(
                "the files of logged model `{}`: its experiment keeps files elsewhere",
                model.name
            ));
            return Ok(());
        };
        source.each_model_file(&place, &mut |path, file| {
            match self
                .client
                .put_mlflow_file(&format!("{folder}/{path}"), file)
            {
                Ok(()) => self.brought.artifacts += 1,
                Err(error) if is_refused(&error) => {
                    let name = &model.name;
                    self.left_out(format!("logged model `{name}`: file `{path}`: {error}"));
                }
                Err(error) => return Err(error.into()),
            }
            Ok(())
        })
    }
}

/// An id for a model whose own cannot be used: always the same one.
fn derived_id(id: &str) -> Id {
    let digest = Sha256::digest(format!("lepton runs import logged model {id}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Id::from_bytes(bytes)
}

//! What MLflow's clients read: the records of Lepton in MLflow's words.
//!
//! As protobuf's JSON has it, what is not set and what is empty is left out.

use lepton_store::{LoggedModelRecord, RunHead};
use lepton_types::resources::{Experiment, Run};
use lepton_types::{ExperimentId, Id};
use serde::{Serialize, Serializer};

/// The name of the experiment that is there without being made; MLflow knows it by the id `0`.
pub(super) const DEFAULT_EXPERIMENT: &str = "Default";

/// An answer without fields.
#[derive(Serialize)]
pub(super) struct Done {}

/// A key with a value.
#[derive(Serialize)]
pub(super) struct Tag {
    pub(super) key: String,
    pub(super) value: String,
}

/// Tags, parameters and the like, as the wire has them.
pub(super) fn tags<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Vec<Tag> {
    let tag = |(key, value)| Tag { key, value };
    pairs.into_iter().map(tag).collect()
}

#[derive(Serialize)]
pub(super) struct ExperimentWire {
    pub(super) experiment_id: String,
    pub(super) name: String,
    pub(super) artifact_location: String,
    pub(super) lifecycle_stage: &'static str,
    pub(super) last_update_time: i64,
    pub(super) creation_time: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<Tag>,
}

/// The id of an experiment on this face.
pub(super) fn experiment_id(experiment: &Experiment) -> String {
    match experiment.metadata.name.as_str() {
        DEFAULT_EXPERIMENT => "0".to_owned(),
        _ => experiment.metadata.id.to_string(),
    }
}

/// Where the runs of an experiment keep their artifacts.
pub(super) fn artifact_location(experiment: &Experiment) -> String {
    match &experiment.spec.artifact_location {
        Some(location) => location.clone(),
        None => format!("mlflow-artifacts:/{}", experiment_id(experiment)),
    }
}

pub(super) const fn stage(deleted: bool) -> &'static str {
    match deleted {
        true => "deleted",
        false => "active",
    }
}

impl ExperimentWire {
    pub(super) fn of(experiment: Experiment) -> Self {
        let created = experiment.metadata.created_at.as_millis();
        let updated = experiment.status.updated_at;
        Self {
            experiment_id: experiment_id(&experiment),
            artifact_location: artifact_location(&experiment),
            name: experiment.metadata.name,
            lifecycle_stage: stage(experiment.status.deleted_at.is_some()),
            last_update_time: updated.map_or(created, lepton_types::Timestamp::as_millis),
            creation_time: created,
            tags: tags(experiment.spec.tags),
        }
    }
}

#[derive(Serialize)]
pub(super) struct RunInfo {
    pub(super) run_uuid: String,
    pub(super) run_id: String,
    pub(super) run_name: String,
    pub(super) experiment_id: String,
    pub(super) user_id: String,
    pub(super) status: String,
    pub(super) start_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end_time: Option<i64>,
    pub(super) artifact_uri: String,
    pub(super) lifecycle_stage: &'static str,
}

/// Which experiment is the one that MLflow knows as `0`.
#[derive(Debug, Clone, Copy)]
pub(super) struct DefaultExperiment(pub(super) Option<Id>);

impl DefaultExperiment {
    /// The id of an experiment on this face.
    pub(super) fn id_of(self, experiment: ExperimentId) -> String {
        match self.0 == Some(experiment.id()) {
            true => "0".to_owned(),
            false => experiment.to_string(),
        }
    }
}

impl RunInfo {
    pub(super) fn of(run: &Run, default: DefaultExperiment) -> Self {
        Self::of_head(RunHead::of(run), default)
    }

    pub(super) fn of_head(run: RunHead, default: DefaultExperiment) -> Self {
        let experiment_id = default.id_of(run.experiment);
        let run_id = run.id.to_string();
        let own = || format!("mlflow-artifacts:/{experiment_id}/{run_id}/artifacts");
        Self {
            artifact_uri: run.artifact_uri.unwrap_or_else(own),
            run_uuid: run_id.clone(),
            run_name: run.name,
            user_id: run.user,
            status: run.phase,
            start_time: run.started_at.as_millis(),
            end_time: run.finished_at.map(lepton_types::Timestamp::as_millis),
            lifecycle_stage: stage(run.is_deleted),
            run_id,
            experiment_id,
        }
    }
}

#[derive(Serialize)]
pub(super) struct MetricWire {
    pub(super) key: String,
    #[serde(serialize_with = "float")]
    pub(super) value: f64,
    pub(super) timestamp: i64,
    pub(super) step: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) dataset_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) dataset_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) model_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) run_id: String,
}

/// Floats as protobuf's JSON has them.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
pub(super) fn float<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        value if value.is_nan() => serializer.serialize_str("NaN"),
        f64::INFINITY => serializer.serialize_str("Infinity"),
        f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
        value => serializer.serialize_f64(value),
    }
}

/// The id of a logged model on this face.
pub(super) fn model_id(id: Id) -> String {
    format!("m-{id}")
}

#[derive(Serialize)]
pub(super) struct LoggedModelWire {
    pub(super) info: LoggedModelInfo,
    pub(super) data: LoggedModelData,
}

#[derive(Serialize)]
pub(super) struct LoggedModelInfo {
    pub(super) model_id: String,
    pub(super) experiment_id: String,
    pub(super) name: String,
    pub(super) creation_timestamp_ms: i64,
    pub(super) last_updated_timestamp_ms: i64,
    pub(super) artifact_uri: String,
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) model_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) source_run_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<Tag>,
}

#[derive(Serialize)]
pub(super) struct LoggedModelData {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) params: Vec<Tag>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) metrics: Vec<MetricWire>,
}

impl LoggedModelWire {
    pub(super) fn of(record: LoggedModelRecord, default: DefaultExperiment) -> Self {
        let model = record.model;
        let metric = |metric: lepton_types::tracking::ModelMetric| MetricWire {
            key: metric.key,
            value: metric.value,
            timestamp: metric.at.as_millis(),
            step: metric.step,
            dataset_name: metric.dataset_name,
            dataset_digest: metric.dataset_digest,
            model_id: model_id(metric.model),
            run_id: metric.run.to_string(),
        };
        Self {
            info: LoggedModelInfo {
                model_id: model_id(model.id),
                experiment_id: default.id_of(model.experiment),
                name: model.name,
                creation_timestamp_ms: model.created_at.as_millis(),
                last_updated_timestamp_ms: model.updated_at.as_millis(),
                artifact_uri: model.artifact_uri,
                status: model.phase.as_str(),
                model_type: model.model_type,
                source_run_id: model.source_run,
                tags: tags(record.tags),
            },
            data: LoggedModelData {
                params: tags(record.params),
                metrics: record.metrics.into_iter().map(metric).collect(),
            },
        }
    }
}

//! Logged models of a running MLflow server.

use std::collections::BTreeMap;

use lepton_types::Timestamp;
use lepton_types::resources::MetricPoint;
use lepton_types::tracking::LoggedModelPhase;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::registry::pairs_of;
use super::source::{Each, SourceExperiment, SourceLoggedModel, SourceMeasurement};
use super::tracking_server::{float, integer};
use super::transport::TrackingServer;
use crate::failure::Failure;

const MODELS_A_PAGE: u32 = 50;

impl TrackingServer {
    /// The logged models of an experiment that are not in the bin; in words those that cannot be read. A
    /// server before MLflow 3 has none.
    pub(super) fn each_logged_model(
        &self,
        experiment: &SourceExperiment,
        each: Each<'_, SourceLoggedModel>,
    ) -> Result<(), Failure> {
        let mut token = Value::Null;
        loop {
            let fields = json!({
                "experiment_ids": [experiment.id],
                "max_results": MODELS_A_PAGE,
                // New ones come last: none moves to a page that was read.
                "order_by": [{"field_name": "creation_timestamp", "ascending": true}],
                "page_token": token,
            });
            let Some(mut page) =
                self.post_if_spoken("api/2.0/mlflow/logged-models/search", &fields)?
            else {
                return Ok(());
            };
            if let Value::Array(models) = page["models"].take() {
                for model in models {
                    each(model_of(&model))?;
                }
            }
            token = page["next_page_token"].take();
            if token.as_str().is_none_or(str::is_empty) {
                return Ok(());
            }
        }
    }
}

fn model_of(model: &Value) -> Result<SourceLoggedModel, String> {
    let (info, data) = (&model["info"], &model["data"]);
    let text = |field: &str| info[field].as_str().unwrap_or_default().to_owned();
    let unreadable = || "a logged model: it has no id".to_owned();
    let metrics = data["metrics"].as_array().map(Vec::as_slice);
    let metrics = metrics.unwrap_or_default().iter().map(measurement_of);
    let phase = LoggedModelPhase::from_word(&text("status"));
    Ok(SourceLoggedModel {
        id: info["model_id"].as_str().ok_or_else(unreadable)?.to_owned(),
        name: text("name"),
        model_type: text("model_type"),
        source_run: text("source_run_id"),
        phase: phase.unwrap_or(LoggedModelPhase::Pending),
        created_at: integer(&info["creation_timestamp_ms"]).map(Timestamp::from_millis),
        is_deleted: false,
        params: pairs_of(&data["params"]),
        tags: pairs_of(&info["tags"]),
        metrics: metrics
            .collect::<Option<_>>()
            .ok_or_else(|| format!("logged model `{}`: a measurement is none", text("name")))?,
        fingerprint: fingerprint(model),
    })
}

/// Keys of objects are sorted: the same model is the same text, in whatever order its lists come.
fn fingerprint(model: &Value) -> String {
    let mut parts = BTreeMap::from([(String::new(), model["info"].to_string())]);
    for (part, pairs) in [
        ("params", &model["data"]["params"]),
        ("metrics", &model["data"]["metrics"]),
    ] {
        let mut lines: Vec<String> = pairs
            .as_array()
            .map(|list| list.iter().map(Value::to_string).collect())
            .unwrap_or_default();
        lines.sort_unstable();
        parts.insert(part.to_owned(), lines.join("\n"));
    }
    format!("{:x}", Sha256::digest(json!(parts).to_string()))
}

fn measurement_of(metric: &Value) -> Option<SourceMeasurement> {
    let text = |field: &str| metric[field].as_str().unwrap_or_default().to_owned();
    Some(SourceMeasurement {
        run: text("run_id"),
        point: MetricPoint {
            key: metric["key"].as_str()?.to_owned(),
            step: integer(&metric["step"]).unwrap_or(0),
            timestamp: Some(Timestamp::from_millis(integer(&metric["timestamp"])?)),
            value: float(&metric["value"])?,
        },
        dataset_name: text("dataset_name"),
        dataset_digest: text("dataset_digest"),
    })
}
